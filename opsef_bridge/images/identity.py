"""What tells an image apart on disk: checksum, size and time, of files and of folders."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from opsef_bridge.files import file_sha256

__all__ = ["identity", "stamp"]


def stamp(path: str | os.PathLike[str]) -> tuple[int, float]:
    """Return size in bytes and time of change of an image; pixels are not read.

    Of a folder (OME-Zarr) these are the sum of the sizes and the newest time of all that
    is in it: where both are as before, the image is taken for unchanged.

    Raises
    ------
    OSError
        There is nothing of that name.
    """
    path = Path(path)
    if not path.is_dir():
        status = path.stat()
        return status.st_size, status.st_mtime
    statuses = [one.stat() for one in (path, *path.rglob("*"))]
    size = sum(status.st_size for status in statuses if stat.S_ISREG(status.st_mode))
    return size, max(status.st_mtime for status in statuses)


def identity(path: str | os.PathLike[str]) -> tuple[str, int, float]:
    """Return sha256, size in bytes and time of change of an image.

    Of a folder (OME-Zarr) the checksum is that of the sorted names of its files, each
    followed by the checksum of what is in it: equal folders have equal checksums,
    wherever they lie.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "a.zarr"
    >>> folder.mkdir()
    >>> (folder / "0").write_bytes(b"pixels")
    6
    >>> digest, size, _ = identity(folder)
    >>> digest[:8], size
    ('e8828a90', 6)
    """
    path = Path(path)
    before = stamp(path)  # what changes while it is read differs from it, and is read again
    if not path.is_dir():
        return (file_sha256(path), *before)
    digest = hashlib.sha256()
    for file in _members(path):
        name = file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file_sha256(file)}\n".encode())
    return (digest.hexdigest(), *before)


def _members(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
