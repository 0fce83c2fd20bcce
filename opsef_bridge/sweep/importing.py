"""From ``images.source`` to ``images/index.csv``: which images there are, by stable ids."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from opsef_bridge.config import Config
from opsef_bridge.errors import ConfigError, ImageError
from opsef_bridge.files import file_sha256
from opsef_bridge.images import image_info, suffixes
from opsef_bridge.project import ImageEntry, Project

__all__ = ["find_files", "image_slug", "import_images"]


def import_images(project: Project, config: Config) -> list[ImageEntry]:
    """Bring ``images/index.csv`` up to date with the sources and return their images.

    Images keep their ids for ever; new files get the next numbers; the user's own columns
    and ``include`` are kept, and so is the calibration, until axes or file change. A file
    whose size and time did not change is not hashed again. One that cannot be read is
    listed too, without axes: its outcomes will say why. One that is gone, or that no source
    names any more, keeps its row but is not returned.

    Raises
    ------
    ConfigError
        No file at all matches a source, or ``groups`` names a column that is not there.
    """
    known = {(entry.source, entry.series): entry for entry in project.images()}
    entries = dict(known)
    number = max((_number(entry) for entry in known.values()), default=0)
    found: set[tuple[str, int]] = set()
    for file in find_files(project.root, config.images.source):
        source = _source_name(project.root, file)
        old = known.get((source, 0))
        if old is None:
            number += 1
            old = ImageEntry(id=f"i{number:05d}-{image_slug(file)}", source=source)
        entries[source, 0] = _refresh(old, file, config)
        found.add((source, 0))
    _check_column(project, entries.values(), config)
    _check_globs([entries[key] for key in found], config)
    grouped = {key: replace(e, group=_group_of(e, config)) for key, e in entries.items()}
    project.write_images(grouped.values())
    return [entry for key, entry in grouped.items() if key in found]


def _number(entry: ImageEntry) -> int:
    """The number in an id, which a person may have changed."""
    match = re.match(r"i(\d+)", entry.id)
    return int(match[1]) if match else 0


def image_slug(file: Path) -> str:
    """Return a short ASCII name for ids, at most 40 characters.

    Examples
    --------
    >>> image_slug(Path("Zählung 3 (Ost).tif"))
    'Zahlung-3-Ost'
    """
    text = unicodedata.normalize("NFKD", file.stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40].strip("-") or "image"


def find_files(root: Path, sources: Iterable[str]) -> list[Path]:
    """Return the files of all sources, each in natural order of the names.

    Raises
    ------
    ConfigError
        A source finds none.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(os.path.normpath(root / source))
        if path.is_dir():
            files = [p for p in path.iterdir() if p.suffix.lower() in suffixes()]
            what = f"the folder {source!r} holds no image"
        elif any(c in source for c in "*?[") and not path.exists():
            # The folder of the project may have brackets in its name; they match themselves.
            names = glob.iglob(source, root_dir=root, recursive=True)
            files = [Path(os.path.normpath(root / name)) for name in names]
            files = [file for file in files if file.is_file()]
            what = f"no file matches {source!r}"
        else:
            files = [path] if path.is_file() else []
            what = f"there is no file or folder {source!r}"
        files = [p for p in files if not p.name.startswith(".")]
        if not files:
            raise ConfigError(
                f"images.source: {what}",
                hint=f"Looked in {root}. Images are files with {', '.join(suffixes())}",
            )
        found |= dict.fromkeys(sorted(files, key=_natural))
    return list(found)


def _natural(path: Path) -> list[int | str]:
    """Sort key by which ``tile_2`` comes before ``tile_10``."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", str(path)))]


def _source_name(root: Path, file: Path) -> str:
    """Relative POSIX path where the file lies in the project, else absolute."""
    file = file.absolute()
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def _refresh(entry: ImageEntry, file: Path, config: Config) -> ImageEntry:
    """Bring what the index says of a file up to date with it and with ``images.axes``."""
    status = file.stat()
    changed = (entry.size, entry.mtime) != (status.st_size, status.st_mtime)
    if changed:
        digest = file_sha256(file)
        entry = replace(entry, sha256=digest, size=status.st_size, mtime=status.st_mtime)
    try:
        info = image_info(file, axes=config.images.axes)
    except ImageError:
        return replace(entry, axes="", shape=())
    if not changed and (entry.axes, entry.shape) == (info.axes, tuple(info.shape)):
        return entry
    return replace(
        entry,
        axes=info.axes,
        shape=tuple(info.shape),
        pixel_size_x=info.spacing.get("X", 0.0),
        pixel_size_y=info.spacing.get("Y", 0.0),
        pixel_size_z=info.spacing.get("Z", 0.0),
        unit=info.unit,
    )


def _check_column(project: Project, entries: Collection[ImageEntry], config: Config) -> None:
    """Refuse a column that the index lacks, but write the index, so that it can be added."""
    columns = dict.fromkeys(["group", *(name for entry in entries for name in entry.more)])
    if isinstance(config.groups, str) and config.groups not in columns:
        project.write_images(entries)
        raise ConfigError(
            f"groups: images/index.csv has no column {config.groups!r}",
            hint=f"Add it to {project.index_file}, or choose of {', '.join(columns)}",
        )


def _group_of(entry: ImageEntry, config: Config) -> str:
    groups = config.groups
    if groups is None:
        return entry.group or "default"
    if isinstance(groups, str):
        value = entry.group if groups == "group" else entry.more.get(groups)
        return value or "default"
    return next((g for g, pattern in groups.items() if _fits(entry, pattern)), "default")


def _fits(entry: ImageEntry, pattern: str) -> bool:
    """Whether a glob matches the name of the file, with or without suffix, or its source."""
    source = Path(entry.source)
    names = (source.name, source.stem, entry.source)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _check_globs(entries: Collection[ImageEntry], config: Config) -> None:
    """Refuse a group that no image is in: a misspelt glob is a wrong result."""
    if isinstance(config.groups, dict):
        for group, pattern in config.groups.items():
            if not any(_fits(entry, pattern) for entry in entries):
                names = ", ".join(Path(entry.source).name for entry in list(entries)[:3])
                raise ConfigError(
                    f"groups.{group}: no image matches {pattern!r}",
                    hint=f"Images are called {names} ...",
                )
