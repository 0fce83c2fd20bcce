"""What lies in an OpSeF run folder, told from its manifest, its lists and its file names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from opsef_bridge.errors import NotFoundError, RoiError
from opsef_bridge.files import read_json
from opsef_bridge.rois.file_pairs import (
    CLASSES,
    FROM_FIJI,
    LISTS,
    RETURNED,
    ROIS,
    Pair,
    class_of,
    inside,
    read_pairs,
    without_class,
)

__all__ = ["MANIFEST", "VERSION", "Contents", "Entry", "read_contents"]

MANIFEST = "opsef.json"
"""Says what went out; only folders that were written here have one."""

VERSION = 1
"""Of the manifest."""


@dataclass(frozen=True)
class Entry:
    """One image that went out; all from `record` on is known from a manifest only.

    Attributes
    ----------
    key, picture : str
    masks : tuple of str
        Files, relative to the folder; more than one in a list of classes.
    list_name : str
        Images of one list are exported at the same time.
    record : mapping
    ids : tuple of int or None
        Ids of the numbers 1 to N of the mask.
    classes : mapping of int to int or None
        By id.
    shape : (int, int) or None
    mask_sha256, zip_sha256 : str
    imported : frozenset of str
        sha256 of the files in 11_, 12_ and 13_ that an import has taken, or passed over.
    """

    key: str
    picture: str
    masks: tuple[str, ...]
    list_name: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    ids: tuple[int, ...] | None = None
    classes: Mapping[int, int] | None = None
    shape: tuple[int, int] | None = None
    mask_sha256: str = ""
    zip_sha256: str = ""
    imported: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """File name of the mask, without its class."""
        return without_class(PurePosixPath(self.masks[0]).name)


@dataclass(frozen=True)
class Contents:
    """The images of a run folder, and what AnnotatorJ left there.

    Attributes
    ----------
    root : Path
    entries : list of Entry
    said : list of str
        Sentences about lists and files that fit nothing.
    masks, zips, classes : dict of str to list of Path
        Files in 11_, 12_ and 13_ by the name of the mask without its class.
    exported : list of Pair
        Pictures and masks of the list that the last export wrote.
    listed : dict of str to tuple of str
        Names of the class masks by picture, from the other list of that export.
    """

    root: Path
    entries: list[Entry]
    said: list[str]
    masks: dict[str, list[Path]]
    zips: dict[str, list[Path]]
    classes: dict[str, list[Path]]
    exported: list[Pair]
    listed: dict[str, tuple[str, ...]]

    def mask_of(self, entry: Entry) -> Path | None:
        """Return the exported mask of an image, if there is one."""
        return _pick(self.masks, entry.name, PurePosixPath(entry.masks[0]).name)

    def left_out(self, entry: Entry) -> bool:
        """Tell whether the last export was of this image's list, but not of this image."""
        pictures = {pair.picture for pair in self.exported}
        if entry.picture in pictures:
            return False
        return any(
            one.list_name == entry.list_name and one.picture in pictures for one in self.entries
        )

    def zip_of(self, entry: Entry) -> Path | None:
        """Return the ROIs of an image, whether they were saved or placed there."""
        stem = PurePosixPath(entry.masks[0]).stem
        return _pick(self.zips, entry.name, f"{stem}_ROIs.zip")

    def classes_of(self, entry: Entry) -> tuple[list[Path] | None, list[str]]:
        """Return the class masks of an image, and sentences about those that do not count.

        None: nothing says which classes there are. An empty list: the export says that there
        are none.
        """
        paths = [path for path in self.classes.get(entry.name, []) if class_of(path.name)]
        if entry.picture not in self.listed:
            return paths or None, []
        # An export does not remove the class masks of the one before.
        names = {PurePosixPath(name).name for name in self.listed[entry.picture]}
        return [path for path in paths if path.name in names], [
            f"{CLASSES}/{path.name} is left from an earlier export and was passed over"
            for path in paths
            if path.name not in names
        ]


def read_contents(root: Path) -> Contents:
    """Find out what lies in a run folder.

    Raises
    ------
    NotFoundError
        It has neither a manifest nor a list.
    RoiError
        The manifest is damaged, or a path leads out of the folder.
    """
    from_fiji = {kind: _exported_list(root, kind) for kind in ("Masks", "Classes")}
    if (root / MANIFEST).is_file():
        entries = _manifest_entries(root)
    else:
        entries = _listed_entries(root, from_fiji["Masks"])
    masks, zips, classes = (_files(root, sub) for sub in (RETURNED, ROIS, CLASSES))
    said = _odd_lines(root, entries, from_fiji) + _odd_files(entries, masks, zips, classes)
    listed = {pair.picture: pair.files for pair in from_fiji["Classes"]}
    return Contents(root, entries, said, masks, zips, classes, from_fiji["Masks"], listed)


def _exported_list(root: Path, kind: str) -> list[Pair]:
    path = root / LISTS / f"{FROM_FIJI}{kind}.txt"
    return read_pairs(path) if path.is_file() else []


def _manifest_entries(root: Path) -> list[Entry]:
    """Read the images of a folder that was written here."""
    path = root / MANIFEST
    try:
        told = read_json(path)
        if told.get("layout", "opsef") != "opsef" or told["version"] > VERSION:
            raise RoiError(
                f"{path} is of layout {told.get('layout')!r}, version {told['version']!r}",
                hint="Read it with `opsef annotatorj import` of the version that wrote it",
            )
        return [_entry(root, key, one) for key, one in told["items"].items()]
    except (json.JSONDecodeError, UnicodeDecodeError, *_ODD) as error:
        raise RoiError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            hint="It says which objects went out: take it from a backup, or delete it to read "
            "the folder like one of another program",
        ) from error


_ODD = (KeyError, TypeError, ValueError, AttributeError)


def _entry(root: Path, key: str, told: Mapping[str, Any]) -> Entry:
    for name in (told["picture"], told["mask"]):
        inside(root, name)
    ids = tuple(int(label) for label in told["ids"])
    height, width = (int(size) for size in told["shape"])
    if len(set(ids)) < len(ids) or min(*ids, height, width) < 1:
        raise ValueError(f"ids or shape of {key}")
    return Entry(
        key,
        told["picture"],
        (told["mask"],),
        f"{height}x{width}",
        dict(told["record"]),
        ids,
        {int(label): int(number) for label, number in told["classes"].items()},
        (height, width),
        str(told["mask_sha256"]),
        str(told["zip_sha256"]),
        frozenset(map(str, told.get("imported", ()))),
    )


def _listed_entries(root: Path, exported: list[Pair]) -> list[Entry]:
    """Tell the images of another program's folder from its lists."""
    folder = root / LISTS
    paths = sorted(folder.glob("FilePairList_*.txt")) if folder.is_dir() else []
    if not paths:
        raise NotFoundError(
            f"{root} has neither {MANIFEST} nor a list in {LISTS}",
            hint=f"Name the folder that holds {LISTS}, with the lists that OpSeF or AnnotatorJ "
            "wrote (FilePairList_....txt)",
        )
    entries: dict[tuple[str, str], Entry] = {}
    known: set[str] = set()
    ours = [path for path in paths if not path.name.startswith(FROM_FIJI)]
    lists = [(path.name, read_pairs(path)) for path in ours]
    for title, pairs in (*lists, ("", exported)):
        for pair in pairs:
            if not pair.files:
                continue
            for name in (pair.picture, *pair.files):
                inside(root, name)
            key = PurePosixPath(pair.picture).stem.removeprefix("8bitSum_")
            entry = Entry(key, pair.picture, pair.files, title)
            if title or entry.name not in known:
                entries.setdefault((pair.picture, entry.name), entry)
                known.add(entry.name)
    return list(entries.values())


def _files(root: Path, sub: str) -> dict[str, list[Path]]:
    """Return the files of a folder by the name of the mask that they belong to."""
    found: dict[str, list[Path]] = {}
    folder = root / sub
    suffixes = (".zip",) if sub == ROIS else (".tif", ".tiff")
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            inside(root, f"{sub}/{path.name}")
            name = path.name.replace("_ROIs.zip", ".tif") if sub == ROIS else path.name
            found.setdefault(without_class(name), []).append(path)
    return found


def _pick(files: Mapping[str, list[Path]], name: str, exact: str) -> Path | None:
    """Return the file of that exact name, else the newest that differs in the class only."""
    those = files.get(name, [])
    same = [path for path in those if path.name == exact]
    return max(same or those, key=lambda path: path.stat().st_mtime_ns, default=None)


def _odd_lines(root: Path, entries: list[Entry], lists: Mapping[str, list[Pair]]) -> list[str]:
    """Say where the lists that AnnotatorJ wrote do not fit the images and the files."""
    names: dict[str, set[str]] = {}
    for entry in entries:
        names.setdefault(entry.picture, set()).add(entry.name)
    said = []
    for kind, pairs in lists.items():
        title = f"{FROM_FIJI}{kind}.txt"
        for pair in pairs:
            if pair.picture not in names:
                said.append(f"{title} names {pair.picture}, which is no picture of this folder")
                continue
            if kind == "Masks" and not pair.files:
                said.append(f"{title} has no mask for {pair.picture}")
            for name in pair.files:
                if not inside(root, name).is_file():
                    said.append(f"{title} names {name}, which is not there")
                elif without_class(PurePosixPath(name).name) not in names[pair.picture]:
                    said.append(
                        f"{title} pairs {pair.picture} with {name}, which is the mask of another "
                        "image; file names were believed"
                    )
                elif kind == "Classes" and not class_of(PurePosixPath(name).name):
                    said.append(f"{title} names {name}, whose name tells no class")
    return said


def _odd_files(entries: list[Entry], *folders: Mapping[str, list[Path]]) -> list[str]:
    """Say which files belong to no image."""
    known = {entry.name for entry in entries}
    return [
        f"{path.parent.name}/{path.name} belongs to no image of this folder; it was passed over"
        for files in folders
        for name, paths in files.items()
        if name not in known
        for path in paths
    ]
