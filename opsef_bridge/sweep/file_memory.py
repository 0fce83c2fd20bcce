"""What the readers said of files that did not change since: they need not be opened again."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from opsef_bridge.errors import ImageError
from opsef_bridge.files import key_of, read_json, write_json
from opsef_bridge.images import ImageInfo, image_infos, series_names

__all__ = ["FileMemory", "Told"]

READERS = 1
"""Goes up when the readers come to say something else of the same file."""

LIBRARIES = ("opsef_bridge", "tifffile", "readlif", "zarr", "bioio")
"""Other versions of these may say something else, too."""


@dataclass(frozen=True)
class Told:
    """The names of the series of a file, and what its reader says of each.

    One series without a name, and the error, where the file cannot be read at all.
    """

    names: list[str]
    infos: list[ImageInfo | ImageError]


class FileMemory:
    """What the readers said of files, by source, in a file of the cache.

    A file is remembered where each of its series could be described; what could not be read
    may have failed for another reason than its bytes (a package that is not installed).

    Parameters
    ----------
    path : Path
        May be missing, damaged or of another program: then all files are opened.
    axes : str or None
        The axes of files that do not say, on which depends what is said.
    """

    def __init__(self, path: Path, axes: str | None) -> None:
        self._path = path
        self._axes = axes
        self._seen: dict[str, Any] = {}
        self._files: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            kept = read_json(path)
            if kept["key"] == self._key(kept["files"]):
                self._files = kept["files"]

    def told(self, file: Path, source: str, now: tuple[int, float]) -> Told:
        """Return what is said of a file of that size and time, reading it if need be."""
        old = self._files.get(source)
        if old is not None and (old["size"], old["mtime"]) == now:
            self._seen[source] = old
            return Told(old["names"], [_info_of(one) for one in old["infos"]])
        names, infos = _names_of(file), image_infos(file, axes=self._axes)
        if len(names) != len(infos):  # it has changed just now, or its names cannot be read
            names = [""] * len(infos)
        known = [asdict(info) for info in infos if isinstance(info, ImageInfo)]
        if len(known) == len(infos):
            size, mtime = now
            self._seen[source] = {"size": size, "mtime": mtime, "names": names, "infos": known}
        return Told(names, infos)

    def keep(self) -> None:
        """Write what was seen; a folder that cannot be written costs time, not the import."""
        if self._seen != self._files:
            with contextlib.suppress(OSError, ValueError, TypeError):
                write_json(self._path, {"key": self._key(self._seen), "files": self._seen})

    def _key(self, files: dict[str, Any]) -> str:
        return key_of(READERS, [_version(name) for name in LIBRARIES], self._axes, files)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _info_of(told: dict[str, Any]) -> ImageInfo:
    shape, channels = tuple(told["shape"]), tuple(told["channels"])
    return ImageInfo(**{**told, "shape": shape, "channels": channels})


def _names_of(file: Path) -> list[str]:
    """Return the name of each series of a file; one without a name where it is unreadable."""
    try:
        return series_names(file) or [""]
    except ImageError:
        return [""]
