"""From ``images.source`` to ``images/index.csv``: which images there are, by stable ids."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from opsef_bridge.config import Config
from opsef_bridge.errors import ConfigError, ImageError
from opsef_bridge.images import ImageInfo, is_image, suffixes
from opsef_bridge.images.identity import identity, stamp
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep.file_memory import FileMemory
from opsef_bridge.sweep.pieces import pieces_of, remarks, series_remarks

__all__ = ["find_files", "image_slug", "import_images"]


Place = tuple[str, int, str]
"""What tells images apart: source, series, part."""


@dataclass(frozen=True)
class _Found:
    """An image of a file: the end of its id if it is new; why it cannot be read, or ""."""

    entry: ImageEntry
    tail: str
    trouble: str = ""


@dataclass
class _Import:
    """What is under way: the configuration, remarks with the files that they are on."""

    config: Config
    memory: FileMemory
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def remark(self, name: str, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self.remarks.setdefault(sentence, []).append(name)


def import_images(
    project: Project, config: Config, say: Callable[[str], object] | None = None
) -> list[ImageEntry]:
    """Bring ``images/index.csv`` up to date with the sources and return their images.

    A file is as many images as it has series, time points, substacks and separate tiles, by
    ``images``. Images keep their ids for ever; new ones get the next numbers; the user's own
    columns and choices are kept, and so is the calibration, until axes or file change. A file
    whose size and time did not change is neither hashed nor opened again: what its reader said
    is kept in the project's cache. One that cannot be read is listed too, without axes: its
    outcomes will say why. One that is gone, or that is not asked for any more, keeps its row
    (`gone`), but is not returned.

    Parameters
    ----------
    project : Project
    config : Config
    say : callable, optional
        Takes sentences for a person: what of ``images`` leaves something over or is not there,
        and which images cannot be read, or not with their `crop`, and why.

    Raises
    ------
    ConfigError
        No file at all matches a source, or ``groups`` names a column that is not there.
    LockedError
        Another process changes the index for more than ten minutes.
    """
    now = _Import(
        config, FileMemory(project.cache_folder / "images.json", config.images.assumed_axes)
    )
    with project.changing_images():
        entries, found = _imported(project, now)
    if say is not None:
        for sentence in _sentences(now, {entries[key].id: why for key, why in found.items()}):
            say(sentence)
    return [entry for key, entry in entries.items() if key in found]


def _imported(project: Project, now: _Import) -> tuple[dict[Place, ImageEntry], dict[Place, str]]:
    """Write the index anew; return its images, and why those asked for cannot be read, or ""."""
    config = now.config
    known = {(entry.source, entry.series, entry.part): entry for entry in project.images()}
    entries, found = dict(known), dict[Place, str]()
    for entry, trouble in _images_in(project, now, known):
        place = entry.source, entry.series, entry.part
        entries[place], found[place] = entry, trouble
    now.memory.keep()
    _check_column(project, entries.values(), config)
    _check_globs([entries[key] for key in found], config)
    grouped = {
        key: replace(e, group=_group_of(e, config), gone="" if key in found else "yes")
        for key, e in entries.items()
    }
    project.write_images(grouped.values())
    return grouped, found


def _images_in(
    project: Project, now: _Import, known: Mapping[Place, ImageEntry]
) -> Iterator[tuple[ImageEntry, str]]:
    """Yield the images of all sources, and why one cannot be read, or ""."""
    number = max((_number(entry) for entry in known.values()), default=0)
    of_source: dict[str, dict[Place, ImageEntry]] = {}
    for place, entry in known.items():
        of_source.setdefault(place[0], {})[place] = entry
    for file in find_files(project.root, now.config.images.source):
        source = _source_name(project.root, file)
        for one in _images_of(file, source, now, of_source.get(source, {})):
            entry = one.entry
            if not entry.id:
                number += 1
                entry = replace(entry, id=f"i{number:05d}-{image_slug(file)}{one.tail}")
            yield entry, one.trouble


def _sentences(now: _Import, troubles: Mapping[str, str]) -> Iterator[str]:
    for remark, names in now.remarks.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{names[0]}{more}: {remark}"
    yield from (f"{image}: {why}" for image, why in troubles.items() if why)


def _images_of(
    file: Path, source: str, now: _Import, known: Mapping[Place, ImageEntry]
) -> Iterator[_Found]:
    """Yield the images of a file."""
    how = now.config.images
    sha256, size, mtime = _identity(file, known.values())
    kept = {"source": source, "sha256": sha256, "size": size, "mtime": mtime}
    told = now.memory.told(file, source, (size, mtime))
    names = told.names
    if len(names) == 1 and isinstance(told.infos[0], ImageError):  # how many it has is not known
        asked = {e.series for e in known.values() if not e.gone} or {0}
        for series in sorted(asked if how.series == "all" else set(how.series)):
            yield from _unread(known, kept, series, "", _text_of(told.infos[0], file, source))
        return
    now.remark(file.name, series_remarks(len(names), how))
    wanted = range(len(names)) if how.series == "all" else how.series
    for series in sorted({number for number in wanted if number < len(names)}):
        parent, tail, name = source, "", file.name
        if len(names) > 1:
            parent, tail = f"{source}:{series}", f"-{_slug(names[series]) or f's{series:02d}'}"
            name = f"{file.name}, series {series}"
        info = told.infos[series]
        if isinstance(info, ImageError):
            yield from _unread(known, kept, series, tail, _text_of(info, file, source))
            continue
        now.remark(name, remarks(info, how))
        pieces = pieces_of(info, how)
        for piece in pieces:
            text = piece.region.text
            new = ImageEntry(
                "", series=series, part=text, parent=parent if len(pieces) > 1 else "", **kept
            )
            old = known.get((source, series, text), new)
            entry, trouble = _described(replace(old, **kept), info, old, now.config)
            yield _Found(entry, tail + piece.suffix, trouble)


def _unread(
    known: Mapping[Place, ImageEntry],
    kept: Mapping[str, Any],
    series: int,
    tail: str,
    why: str,
) -> Iterator[_Found]:
    """Yield the images that a series was when it could be read; or one, if it never could."""
    all_known = [entry for entry in known.values() if entry.series == series]
    asked = [entry for entry in all_known if not entry.gone]
    for entry in asked or all_known or [ImageEntry("", "", series=series)]:
        # The sha256 stays that of the bytes that could be read: where they come back, so does
        # what a person corrected of them.
        told = dict(kept)
        if entry.sha256 not in ("", kept["sha256"]):
            told |= {"sha256": entry.sha256, "size": 0, "mtime": 0.0}  # not of these bytes
        yield _Found(replace(entry, **told, axes="", shape=()), tail, why)


def _text_of(error: ImageError, file: Path, source: str) -> str:
    """Return an error with the file named as the index names it."""
    return str(error).replace(str(file), source)


def _identity(file: Path, known: Iterable[ImageEntry]) -> tuple[str, int, float]:
    """Return sha256, size and time of a file; what has not changed is not hashed again."""
    now = stamp(file)
    for entry in known:
        if (entry.size, entry.mtime) == now and entry.sha256:
            return entry.sha256, *now
    return identity(file)


def _described(
    entry: ImageEntry, info: ImageInfo, old: ImageEntry, config: Config
) -> tuple[ImageEntry, str]:
    """Return an image with what its file says, and what is wrong with its `crop`, or "".

    A person's calibration and names of channels stay till file or axes change.
    """
    try:
        axes, shape = entry.region.shape(info.axes, info.shape)
    except ImageError as error:  # its outcomes will say so too
        crop = f"crop {entry.crop!r}: " if entry.crop else ""
        return replace(entry, axes="", shape=()), f"{crop}{error}"
    told = {"axes": axes, "shape": tuple(shape), "channels": "|".join(info.channels)}
    entry = replace(_named(entry, config), **told)
    if old.sha256 == entry.sha256 and _calibrated_for(old, axes):
        return replace(entry, channels=old.channels or entry.channels), ""
    entry = replace(
        entry,
        pixel_size_x=info.spacing.get("X", 0.0),
        pixel_size_y=info.spacing.get("Y", 0.0),
        pixel_size_z=info.spacing.get("Z", 0.0),
        unit=info.unit,
        time_step=info.time_step,
    )
    return entry, ""


def _calibrated_for(old: ImageEntry, axes: str) -> bool:
    """Whether the calibration of an image still goes with its axes; a crop may drop or add one."""
    if not old.axes:  # it could not be read, or its crop did not fit
        return bool(old.spacing)
    return set(axes) <= set(old.axes) or set(old.axes) <= set(axes)


def _named(entry: ImageEntry, config: Config) -> ImageEntry:
    """Return an image with the columns that its file name tells; what is there stays."""
    pattern = config.images.name_pattern()
    match = pattern.search(Path(entry.source).name) if pattern else None
    told = {key: value for key, value in (match.groupdict() if match else {}).items() if value}
    return replace(entry, more={**told, **{k: v for k, v in entry.more.items() if v}})


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
    return _slug(file.stem) or "image"


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:40].strip("-")


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
        if path.is_dir() and not is_image(path):
            files = [p for p in path.iterdir() if is_image(p)]
            what = f"the folder {source!r} holds no image"
        elif any(c in source for c in "*?[") and not path.exists():
            # The folder of the project may have brackets in its name; they match themselves.
            names = glob.iglob(source, root_dir=root, recursive=True)
            files = [Path(os.path.normpath(root / name)) for name in names]
            files = [file for file in files if file.is_file() or is_image(file)]
            what = f"no file matches {source!r}"
        else:
            files = [path] if path.is_file() or is_image(path) else []
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
    names = (source.name, source.stem, entry.source, entry.id, entry.id.partition("-")[2])
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
