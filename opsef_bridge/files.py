"""Safe files: atomic writes, checksums, locks. Knows nothing of what the files mean.

Everything this package writes goes through `atomic_path`: the bytes go to a unique
``.partial`` name beside the target, which is then renamed over it. A reader sees the
old file or the new one, never half of one, and a crash leaves nothing under the real
name. (The pattern is zarr-python's ``storage/_local.py``.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import os
import shutil
import socket
import struct
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opsef_bridge.errors import LockedError

__all__ = [
    "BROKEN_ZIP",
    "atomic_folder",
    "atomic_path",
    "file_sha256",
    "holder_of",
    "key_of",
    "lock",
    "patiently",
    "read_json",
    "write_json",
    "write_text",
]

BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
              UnicodeDecodeError, NotImplementedError, RuntimeError)  # fmt: skip
"""What `zipfile` raises of a zip that is damaged, encrypted, or packed in an unknown way, also
while it opens it: a later version of the format, a name that is not the UTF-8 it is said to be."""

NOBODY_KNOWN = "an unknown process"
"""Who holds a lock that does not say who."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success.

    Missing parent folders are made. On any exception the temporary file is removed
    and `path` is as it was.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "new" / "note.txt"
    >>> with atomic_path(target) as partial:
    ...     _ = partial.write_text("done")
    >>> target.read_text()
    'done'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as tifffile and numpy look at it.
    partial = path.with_name(f".{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new folder beside `folder`; on success it becomes `folder`.

    `folder` must not exist, or be empty. On any exception all that was written is removed.
    """
    folder = Path(folder)
    partial = folder.with_name(f".{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 `text` to `path` atomically, with ``\\n`` line ends everywhere."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: it is not JSON."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=_plain)
    write_text(path, text + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(*parts: Any) -> str:
    """Return a content key: sha256 (first 32 hexadecimal digits) of `parts` as JSON.

    Dictionaries are hashed by sorted key, so the order in which a configuration was
    written does not matter; lists keep their order.

    Examples
    --------
    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    True
    >>> key_of(1) == key_of("1")
    False
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """Turn numpy scalars and paths into what JSON knows; refuse the rest."""
    if isinstance(value, os.PathLike):
        return Path(value).as_posix()
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


@contextlib.contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold an exclusive lock on `path` for the length of the block.

    The operating system holds the lock (``flock``), so it ends with the process, also
    when that is killed: there are no stale locks to clear. The file itself only says
    who holds it and may stay behind.

    Raises
    ------
    LockedError
        Another process holds it. The message names process and host.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or NOBODY_KNOWN
            raise LockedError(
                f"{path} is held by {holder}",
                hint="Wait for it to end, or end it; then run the command again",
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def holder_of(path: str | os.PathLike[str]) -> str | None:
    """Return who holds a lock, ``process 12 on host``; None where nobody does.

    Nobody else gets the lock in the moment of the look, so `lock` may be refused for it: where
    people look, wait a little with `patiently`.
    """
    import fcntl

    if not Path(path).is_file():
        return None
    with open(path, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or NOBODY_KNOWN
    return None


@contextlib.contextmanager
def patiently(path: str | os.PathLike[str], seconds: float) -> Iterator[None]:
    """Hold a lock as `lock` does, but wait so many seconds for it; then LockedError."""
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(lock(path))
                break
            except LockedError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        yield
