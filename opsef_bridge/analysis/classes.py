"""Classes, both ways: from tables back to the objects, as revisions.

A class is the group of a ROI in ImageJ. What gives classes here (a gate, clusters, a learned
classifier, a file) is a table of image, label and class; `save_classes` makes revisions of it,
so that ROI zips, Fiji and AnnotatorJ show them, and nothing of an edit is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsef_bridge.analysis.conditions import read_cells
from opsef_bridge.errors import InputError, NotFoundError, OpsefError
from opsef_bridge.exchange.saving import How, Imported, save_objects
from opsef_bridge.exchange.sources import Subject, subject_of, variant_of
from opsef_bridge.files import key_of
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.objects import LARGEST_CLASS, Objects
from opsef_bridge.rois.records import Source
from opsef_bridge.rois.revisions import History

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GIVEN", "LEARNED", "class_number", "learned_labels", "read_classes", "save_classes"]

GIVEN, LEARNED = "classes", "learned"
"""What the record of a revision calls classes that a person decided on, and learned ones."""

NOTES_OF_LEARNED = ("Classes by a random forest",)
"""Of learned classes in records that do not tell them from others yet."""

WANTED = ("image", "label", "class")
ORIGIN = ("run", "variant", "revision")
LARGEST = {"label": 2**31 - 1, "class": LARGEST_CLASS}


def class_number(names: Mapping[int, str], text: str) -> int:
    """Return the number of a class that is named or numbered.

    Parameters
    ----------
    names : mapping of int to str
        ``classes`` of ``opsef.yaml``.
    text : str

    Raises
    ------
    InputError
        It is neither a name nor a number from 0 (no class) to 255.

    Examples
    --------
    >>> class_number({1: "resting", 2: "dividing"}, "dividing"), class_number({}, "7")
    (2, 7)
    """
    by_name = {name: number for number, name in names.items()}
    if text in by_name:
        return by_name[text]
    if text.isdecimal() and int(text) <= LARGEST_CLASS:
        return int(text)
    names_too = f", or a name: {', '.join(by_name)}" if by_name else ""
    raise InputError(
        f"{text!r} is no class", hint=f"Give a number from 0 to {LARGEST_CLASS}{names_too}"
    )


def read_classes(file: Path) -> pd.DataFrame:
    """Read a CSV file with a class for each object.

    Parameters
    ----------
    file : Path
        As `opsef_bridge.project.read_csv` reads it, with ``image``, ``label`` and ``class``.
        ``revision``, or ``run`` and ``variant``, say which objects the labels are of; without
        them the newest.

    Returns
    -------
    DataFrame
        ``image``, ``label``, ``class``, ``run``, ``variant``, ``revision``.

    Raises
    ------
    InputError
        It cannot be read, lacks a column, or a cell is no number; with the line.
    """
    import pandas as pd

    names, lines = read_cells(file, hint="Name a CSV file")
    lacking = [name for name in WANTED if name not in names]
    if lacking:
        raise InputError(
            f"{file.name} has no column {', '.join(lacking)}",
            hint=f"It needs {', '.join(WANTED)}; it has {', '.join(names) or 'none'}",
        )
    rows = [_row(file, number, cells) for number, cells in lines]
    said: dict[tuple[str, ...], int] = {}
    for (number, _), row in zip(lines, rows, strict=True):
        key = (row["image"], str(row["label"]), *(row[name] for name in ORIGIN))
        if said.setdefault(key, row["class"]) != row["class"]:
            raise InputError(
                f"{file.name} line {number} gives object {row['label']} of {row['image']} the "
                f"class {row['class']}, a line before {said[key]}",
                hint="Keep one of them",
            )
    return pd.DataFrame(rows, columns=[*WANTED, *ORIGIN])


def save_classes(
    project: Project, table: pd.DataFrame, *, author: str, why: str, kind: str = GIVEN
) -> Iterator[Imported]:
    """Give objects classes: one revision per image in which a class changes.

    Parameters
    ----------
    project : Project
    table : DataFrame
        ``image``, ``label``, ``class`` (0 takes it away) and, as `read_classes` gives them,
        ``run``, ``variant`` and ``revision``. Objects that are not in it keep their class.
    author : str
    why : str
        What gave the classes, for the record.
    kind : {"classes", "learned"}
        Kind of source in the record: whether a person decided, or a classifier did.

    Yields
    ------
    Imported
        Of each image: its new revision; none where no class changes, or where `error` says why.
        Where somebody edited the objects since, both are joined, as with any edit.
    """
    for image, some in table.groupby("image", sort=True):
        name = str(image)
        try:
            yield _save(project, project.image(name), some, author, why, kind)
        except OpsefError as error:
            yield Imported(name, "", error=error)


def learned_labels(project: Project, image: str, revision: str) -> frozenset[int]:
    """Return the objects of a revision whose class was learned, and nobody changed it since.

    Parameters
    ----------
    project : Project
    image, revision : str
        Ids.

    Raises
    ------
    NotFoundError
        There is no such revision.

    Notes
    -----
    Of gates, clusters and files a person decided; those are not learned. A revision that was
    restored has what it had.
    """
    history = History(project, image)
    history.get(revision)
    by_revision: dict[str, frozenset[int]] = {}
    learned: frozenset[int] = frozenset()
    for one in history.revisions():
        gone = {*one.changes.deleted, *one.changes.reclassified}
        if one.source.kind == "restore":
            learned = by_revision.get(Path(one.source.file).stem, frozenset())
        elif one.source.kind == LEARNED or set(NOTES_OF_LEARNED) & set(one.notes):
            given = {label for label, (_, new) in one.changes.reclassified.items() if new}
            learned = (learned - gone) | given
        else:
            learned = learned - gone
        by_revision[one.id] = learned
    return by_revision[revision]


def _save(
    project: Project, entry: ImageEntry, table: pd.DataFrame, author: str, why: str, kind: str
) -> Imported:
    subject = _subject(project, entry, table)
    objects = subject.objects
    wanted = dict(
        zip(table["label"].astype(int).tolist(), table["class"].astype(int).tolist(), strict=True)
    )
    unknown = sorted(set(wanted) - set(objects.ids))
    if unknown:
        raise InputError(
            f"{entry.id} has no object {unknown[0]}"
            + (f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""),
            hint=f"The labels must be those of {subject.base}",
        )
    classes = {**objects.classes, **wanted}
    new = Objects(objects.labels, {label: number for label, number in classes.items() if number})
    if new.classes == objects.classes:
        return Imported(entry.id, "", said=(f"no class changes of {subject.base}",))
    digest = key_of(kind, entry.id, str(subject.base), sorted(new.classes.items()), why)
    source = Source("", hashlib.sha256(digest.encode()).hexdigest(), kind)
    how = How(author=author)
    saved = save_objects(
        project, entry, new, how, base=subject.base, source=source, notes=[f"Classes by {why}"]
    )
    return Imported(entry.id, "", saved=saved)


def _subject(project: Project, entry: ImageEntry, table: pd.DataFrame) -> Subject:
    """The objects that the labels of a table are of."""
    names = [name for name in ORIGIN if name in table]
    origins = table[names].fillna("").astype(str).drop_duplicates().to_dict("records")
    if len(origins) > 1:
        raise InputError(
            f"labels of {entry.id} are of different objects: "
            f"{'; '.join(' '.join(filter(None, one.values())) or 'the newest' for one in origins)}",
            hint="Give the classes of one run, variant or revision at a time",
        )
    origin = origins[0] if origins else {}
    revision = origin.get("revision") or None
    chosen = None
    if origin.get("variant") and not revision:
        chosen = variant_of(project, origin["variant"], origin.get("run") or None)
    subject = subject_of(project, entry, variant=chosen, revision=revision)
    if subject is None:
        raise NotFoundError(
            f"{entry.id} has no objects" + (f" by {origin['variant']}" if chosen else ""),
            hint="Name a variant of a sweep, or run `opsef batch`",
        )
    return subject


def _row(file: Path, number: int, given: Mapping[str, str]) -> dict[str, Any]:
    cells = {name: given.get(name, "") for name in (*WANTED, *ORIGIN)}
    for name in ("label", "class"):
        text = cells[name].removesuffix(".0")
        if not text.isdecimal() or int(text) > LARGEST[name]:
            raise InputError(
                f"{file.name} line {number}: {name} is {cells[name]!r}",
                hint=f"Labels and classes are whole numbers, at most {LARGEST[name]} here",
            )
        cells[name] = text
    return {**cells, "label": int(cells["label"]), "class": int(cells["class"])}
