"""Make a dataset of what is vouched for: collect, split, write, or say that it is there."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.analysis.conditions import well_name
from opsef_bridge.errors import InputError, NotFoundError, ProjectError
from opsef_bridge.files import atomic_folder, patiently, write_json
from opsef_bridge.project import Project
from opsef_bridge.train.dataset import (
    CARD,
    content_key,
    describe,
    read_card,
    read_entry,
    verify_dataset,
    write_sample,
)
from opsef_bridge.train.dataset_bundled import is_bundled, split_apart, without_doubles
from opsef_bridge.train.dataset_sources import Found
from opsef_bridge.train.dataset_split import SPLITS, Shares
from opsef_bridge.train.overlap import landmarks, overlap_remarks, turned_key

__all__ = ["Made", "Wish", "counts", "left_over", "make_dataset"]

PATIENCE = 600.0
"""Seconds to wait for another process that makes a dataset here."""


@dataclass(frozen=True)
class Wish:
    """How a dataset is split, and what its card says.

    Parameters
    ----------
    by : str
        Images of one value never stand on two sides: ``image``, ``group``, ``parent`` or other
        columns, parted by commas.
    kind_by : str
        Column that names the kind (cell type, condition).
    shares : Shares
    seed : int
    test_from : Path, optional
        Folder of an earlier dataset whose test set is kept as it is.
    licence, author, command : str
    """

    by: str = "image"
    kind_by: str = "group"
    shares: Shares = field(default_factory=Shares)
    seed: int = 0
    test_from: Path | None = None
    licence: str = ""
    author: str = ""
    command: str = ""


@dataclass(frozen=True)
class Made:
    """A dataset; `new` is False where the same content was there already."""

    folder: Path
    card: Mapping[str, Any]
    new: bool
    remarks: tuple[str, ...] = ()


def left_over(found: Sequence[Found], without: Iterable[str]) -> list[Found]:
    """Return what is left where some images are not to be learned from.

    Parameters
    ----------
    found : sequence of Found
    without : iterable of str
        Images to leave out: ids, or files.

    Raises
    ------
    NotFoundError
        There is no such image.
    """
    left = list(found)
    for name in without:
        named = [one for one in found if name in (one.image, one.name, Path(one.image).name)]
        if not named:
            raise NotFoundError(
                f"{name} cannot be left out: it is not among the {len(found)} images",
                hint="Name the id of an image, or its file",
            )
        left = [one for one in left if one not in named]
    return left


def make_dataset(project: Project, found: Iterable[Found], wish: Wish | None = None) -> Made:
    """Write images and labels as a new dataset of a project, unless it is there already.

    Parameters
    ----------
    project : Project
    found : iterable of Found
        Where images and labels come from.
    wish : Wish, optional

    Raises
    ------
    InputError
        There is nothing, a column is not known, there are too few groups for the splits,
        labels have another shape than their image, or the test set that is to be kept
        shares something with what would be learned from.
    ProjectError
        The dataset of `test_from` is damaged.
    LockedError
        Another process makes a dataset for more than ten minutes.
    """
    wish = wish or Wish()
    found = _named(found)
    kept = _kept_tests(wish)
    entries = [_entry(one, wish) for one in found]
    marks = {entry["name"]: entry.pop("marks") for entry in entries}
    for one in kept:
        marks[one["name"]] = landmarks(read_entry(Path(wish.test_from or ""), one)[0])
    silent = [one["image"] for one in entries if not one["known_pixels"]]
    loads = {entry["name"]: one.load for entry, one in zip(entries, found, strict=True)}
    entries = [one for one in entries if one["known_pixels"]]
    entries, doubles = without_doubles(entries, kept)
    entries, shares = _without_tests(entries, kept, wish)
    if all(is_bundled(one) for one in entries):
        raise InputError(
            "nobody has vouched for anything that could be learned from",
            hint="Vouch for objects (opsef truth add IMAGE whole), take the newest revisions as "
            "right (--revisions latest), or name a folder with labels (--folder)",
        )
    split, group = split_apart(entries, shares, wish.seed, wish.by)
    for entry in entries:
        entry |= {"split": split[entry["name"]], "group": group[entry["name"]]}
    with patiently(project.datasets_folder / ".lock", PATIENCE):
        made = _write(project, entries, kept, loads, wish)
    left = [f"{image} is left out: no pixel of it is vouched for any more" for image in silent]
    left += overlap_remarks([*entries, *kept], marks)
    return replace(made, remarks=(*left, *doubles, *made.remarks))


def _write(
    project: Project,
    entries: list[dict[str, Any]],
    kept: list[dict[str, Any]],
    loads: Mapping[str, Any],
    wish: Wish,
) -> Made:
    """Write the files, the card last; the folder appears when all is in it."""
    folder = project.new_dataset_folder()
    known = {}
    for name in project.datasets():
        with contextlib.suppress(ProjectError):  # a damaged one is the same as none
            known[name] = read_card(project.dataset_folder(name))
    same = _same_as(known, [*entries, *kept])
    said = tuple(_remarks(entries, kept))
    if same:
        return Made(project.dataset_folder(same), known[same], False, said)
    with atomic_folder(folder) as partial:
        for entry in entries:
            pixels, labels = loads[entry["name"]]()
            told = describe(_writable(pixels), labels)
            if any(entry[name] != value for name, value in told.items()):
                raise InputError(
                    f"{entry['image']} was changed while it was read", hint="Start again"
                )
            entry["files"] = write_sample(partial, entry["name"], _writable(pixels), labels)
        for entry in kept:
            _copy(wish.test_from, partial, entry)
        samples = sorted([*entries, *kept], key=lambda one: str(one["name"]))
        card = {
            "id": folder.name,
            "key": content_key(samples),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": wish.author,
            "command": wish.command,
            "licence": wish.licence,
            "split": {
                "by": wish.by,
                "kind_by": wish.kind_by,
                "seed": wish.seed,
                "fractions": wish.shares.parts,
                "test_from": wish.test_from.name if wish.test_from else None,
            },
            "counts": counts(samples),
            "samples": samples,
        }
        write_json(partial / CARD, card)
    return Made(folder, card, True, said)


def counts(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return images, objects, groups and known pixels of each split and kind.

    Examples
    --------
    >>> one = {"split": "val", "kind": "a", "group": "g", "objects": 3, "known_pixels": 9}
    >>> counts([one, one])
    [{'split': 'val', 'kind': 'a', 'images': 2, 'groups': 1, 'objects': 6, 'known_pixels': 18}]
    """
    rows = []
    for split in SPLITS:
        for kind in sorted({one["kind"] for one in samples}):
            here = [one for one in samples if (one["split"], one["kind"]) == (split, kind)]
            if here:
                rows.append(
                    {
                        "split": split,
                        "kind": kind,
                        "images": len(here),
                        "groups": len({one["group"] for one in here}),
                        "objects": sum(one["objects"] for one in here),
                        "known_pixels": sum(one["known_pixels"] for one in here),
                    }
                )
    return rows


def _named(found: Iterable[Found]) -> list[Found]:
    """Give each a name that can be that of a file, and that no other has."""
    taken: set[str] = set()
    named = []
    for one in found:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", one.name).strip("-") or "image"
        name, number = stem, 1
        while name.lower() in taken:  # some file systems take A and a for one
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        named.append(replace(one, name=name))
    return named


def _entry(one: Found, wish: Wish) -> dict[str, Any]:
    """Read an image once and return what the card says of it; the arrays are let go."""
    pixels, labels = one.load()
    told = describe(_writable(pixels), labels)
    parent = one.columns.get("parent", "").strip()
    tokens = [_token(one, wish.by), *([f"parent:{parent}"] if parent else [])]
    if pixels.min() < pixels.max():  # even pictures are equal, and show nothing
        tokens.append(f"pixels:{told['pixels_sha256'][:16]}")
        tokens.append(f"picture:{turned_key(pixels, told['colour'])[:16]}")
    return {
        "name": one.name,
        "image": one.image,
        "kind": one.kind or _cell(one, wish.kind_by, "the kind"),
        "tokens": list(dict.fromkeys(tokens)),
        "source": one.source,
        "revision": ", ".join(one.revisions) or None,
        "author": ", ".join(one.authors) or None,
        "box": [list(box) for box in one.boxes],
        "marks": landmarks(pixels),
        **one.told,
        **told,
    }


def _token(one: Found, by: str) -> str:
    """Return what the image is split by; one without a parent is its own."""
    names = [name.strip() for name in by.split(",")]
    alone = bool(one.kind) or (names == ["parent"] and not one.columns.get("parent", "").strip())
    if names == ["image"] or alone:
        return f"image:{one.name}"  # of a file: wherever its folder lies
    cells = {name: _cell(one, name, "what to split by") for name in names}
    values = [well_name(cell) if name == "well" else cell for name, cell in cells.items()]
    return ",".join(names) + ":" + ",".join(values)


def _cell(one: Found, column: str, what: str) -> str:
    if column not in one.columns:
        raise InputError(
            f"{one.image} has no column {column!r} that could tell {what}",
            hint=f"It has {', '.join(sorted(one.columns))}; add a column to images/index.csv, or "
            "name a CSV file: --conditions",
        )
    value = str(one.columns[column]).strip()
    if not value:
        raise InputError(
            f"the column {column!r} of {one.image} is empty, which should tell {what}",
            hint="Fill it in images/index.csv or in the file of conditions, or leave the image "
            "out: --without",
        )
    return value


def _writable(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of a dtype that every TIFF reader knows."""
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8)
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32, copy=False)
    return pixels


def _kept_tests(wish: Wish) -> list[dict[str, Any]]:
    """Return the samples of the test set that is to be kept, checked."""
    if wish.test_from is None:
        return []
    card = read_card(wish.test_from)
    if card["split"]["by"] != wish.by:
        raise InputError(
            f"{card['id']} was split by {card['split']['by']}, this is to be split by {wish.by}",
            hint=f"Split by the same: --split-by {card['split']['by']}",
        )
    kept = [dict(one) for one in card["samples"] if one["split"] == "test"]
    if not kept:
        raise InputError(f"{card['id']} has no test set", hint="Name another, or leave it out")
    damaged = verify_dataset(wish.test_from)
    if damaged:
        raise InputError(
            f"{card['id']} is damaged: {damaged[0]}", hint="Copy it again from where it is whole"
        )
    return kept


def _without_tests(
    entries: list[dict[str, Any]], kept: list[dict[str, Any]], wish: Wish
) -> tuple[list[dict[str, Any]], Shares]:
    """Take out the images of the kept test set; refuse others that share something with them."""
    if not kept:
        return entries, wish.shares
    own = {(Path(one["image"]).name, one["pixels_sha256"]) for one in kept}
    held = {token: one["name"] for one in kept for token in one["tokens"]}
    left = [one for one in entries if (Path(one["image"]).name, one["pixels_sha256"]) not in own]
    for one in left:
        shared = [token for token in one["tokens"] if token in held]
        if shared:
            raise InputError(
                f"{one['image']} would be learned from, but shares {shared[0].partition(':')[0]} "
                f"with {held[shared[0]]} of the test set that is kept",
                hint=f"Leave it out: --without {one['image']}",
            )
    names = {one["name"].lower() for one in kept}
    for one in left:
        if one["name"].lower() in names:
            raise InputError(
                f"{one['image']} has the name of another image of the test set that is kept",
                hint="Rename its file, or leave it out: --without",
            )
    rest = 1 - wish.shares.test
    return left, Shares(wish.shares.val / rest, 0)


def _copy(origin: Path | None, folder: Path, entry: Mapping[str, Any]) -> None:
    """Copy the files of a sample that is kept."""
    assert origin is not None
    for name in entry["files"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin / name, folder / name)


def _same_as(
    known: Mapping[str, Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]
) -> str | None:
    """Return the id of the dataset that holds the same on the same sides."""

    def content(samples: Sequence[Mapping[str, Any]]) -> set[tuple[str, ...]]:
        names = ("name", "kind", "group", "split", "pixels_sha256", "labels_sha256")
        return {tuple(str(one[name]) for name in names) for one in samples}

    wanted = content(entries)
    return next((id_ for id_, card in known.items() if content(card["samples"]) == wanted), None)


def _remarks(entries: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what a person should know of what she is about to train on."""
    said = []
    learned = [one for one in entries if one["split"] == "train"]
    if learned and not any(one["background_pixels"] for one in learned):
        said.append(
            "Nowhere is background vouched for: a network learns from this what objects are, not "
            "what they are not. Vouch for whole images or boxes: opsef truth add IMAGE y,x,h,w"
        )
    if learned and not any(one["objects"] for one in learned):
        said.append("There is no object to learn from, only background")
    kinds = {one["kind"] for one in entries}
    for kind in sorted(kinds - {one["kind"] for one in learned}):
        said.append(f"There is nothing of {kind} to learn from: all of it is in val or test")
    for split, use in (("val", "thresholds are chosen on"), ("test", "the score is of")):
        there = [one for one in (*entries, *kept) if one["split"] == split]
        if there and not any(one["objects"] for one in there):
            said.append(f"There is no object in {split}: no network can be trained on this dataset")
        if there and all(is_bundled(one) for one in there):
            said.append(f"No image of yours is in {split}: {use} bundled ones. Vouch for more")
    return said
