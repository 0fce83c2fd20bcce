"""ROIs that people and other programs made -> objects, with notes of what was not as it should.

Beside `opsef_bridge.measure.fill.fill_rois`, which refuses names that are no labels: here
any names will do, and what a person should know is said instead of refused.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from roifile import ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure.changes import LARGEST_ID
from opsef_bridge.measure.fill import (
    ENTIRE_NAME,
    IN_PLANE,
    TIE,
    Stretches,
    loop_stretches,
    paint_stretches,
)
from opsef_bridge.measure.loops import roi_loops
from opsef_bridge.rois.objects import LARGEST_CLASS, Objects

__all__ = ["Notes", "paint"]

LABEL = re.compile(r"^\s*label\s*:\s*([0-9]{1,10})\s*$", re.MULTILINE)
"""The property that keeps the label of a ROI whose name had to be another."""

NAMED_BY_IMAGEJ = re.compile(r"([0-9]{4,6})-[0-9]{4,6}-[0-9]{4,6}")
"""ImageJ's own name of a ROI in a stack: plane, row, column."""

SHOWN = 5
"""How many names a note lists."""


@dataclass(frozen=True)
class Notes:
    """What a reader noticed in ROIs.

    Attributes
    ----------
    renumbered : mapping of str to list of int
        Ids that were given anew, by the name in the file: to ROIs whose name is no label or
        none that is known, or that another ROI has already.
    hidden, outside, clipped, empty : tuple of str
        Names of ROIs of which no pixel is left because later ones cover them; that lie
        outside the image, or partly; that enclose no pixel.
    overlapped : int
        Pixels that more than one ROI claims. The later one has them.
    disagreed : mapping of int to int
        The class that was taken, by id, of objects whose planes have different ones.

    Examples
    --------
    >>> Notes(outside=("0007",), overlapped=12).lines()
    ["1 ROI lies outside the image: '0007'", '12 pixels are claimed twice; the later ROI has them']
    """

    renumbered: Mapping[str, list[int]] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    clipped: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    overlapped: int = 0
    disagreed: Mapping[int, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return a sentence for each kind of thing noticed; none where nothing was."""
        given = [f"{name!r} -> {id_}" for name, ids in self.renumbered.items() for id_ in ids]
        classes = [f"object {id_}: {number}" for id_, number in self.disagreed.items()]
        quoted = {name: [repr(one) for one in getattr(self, name)] for name in GROUPS}
        pixels = f"{self.overlapped} pixel" + ("s are" if self.overlapped > 1 else " is")
        return [
            *_line(given, "ROI got a new id", "ROIs got new ids"),
            *_line(quoted["outside"], "ROI lies outside the image", "ROIs lie outside the image"),
            *_line(quoted["clipped"], "ROI is cut at the border", "ROIs are cut at the border"),
            *_line(quoted["empty"], "ROI encloses no pixel", "ROIs enclose no pixel"),
            *_line(quoted["hidden"], "ROI is covered by later ones", "ROIs are covered by others"),
            *([f"{pixels} claimed twice; the later ROI has them"] if self.overlapped else []),
            *_line(classes, "object has several classes", "objects have several classes"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the notes as JSON values, without those that say nothing."""
        return {name: value for name, value in asdict(self).items() if value}


GROUPS = ("hidden", "outside", "clipped", "empty")


def _line(found: Sequence[str], one: str, more: str) -> list[str]:
    """Return a sentence about what was found, with the first few of it."""
    if not found:
        return []
    rest = ", ..." if len(found) > SHOWN else ""
    return [f"{len(found)} {one if len(found) == 1 else more}: {', '.join(found[:SHOWN])}{rest}"]


def paint(
    rois: Iterable[ImagejRoi],
    shape: tuple[int, ...],
    *,
    offset: tuple[int, int] = (0, 0),
    ids: Mapping[str, int] | None = None,
) -> tuple[Objects, Notes]:
    """Paint ROIs of any names into objects, with their groups as classes.

    Kinds of ROIs, and which pixels they get, are as with
    `opsef_bridge.measure.fill.fill_rois`. Where ROIs overlap the later one wins; what lies
    outside `shape` is cut off.

    A ROI's id is the first of these that no earlier ROI of its plane has: its property
    ``label``; what `ids` says of its name or, without `ids`, its name as an integer; a new
    one, above all of these. So ImageJ's own names, such as ``0123-0456``, make new objects.
    All properties come before all names.

    In a plane, positions are ignored. In a volume a ROI lies in the plane that its position
    says, else its name (``0007-0003`` is object 7 in plane 3); ROIs of several planes with
    one id are one object, whose class is the commonest of those that they have.

    Parameters
    ----------
    rois : iterable of roifile.ImagejRoi
        Areas, in the order in which ImageJ paints them.
    shape : ([int,] int, int)
        (Planes,) rows and columns of the label image.
    offset : (int, int)
        Row and column of its first pixel in the picture that the ROIs are for.
    ids : mapping of str to int
        Labels by name, as a sidecar has them. Other names mean new objects then.

    Returns
    -------
    Objects
        ([Z,] Y, X) int32 labels, and classes.
    Notes
        What to tell the person whose ROIs these are.

    Raises
    ------
    RoiError
        A ROI is not a plain area, has a group above 255, or in a volume no plane; ids would
        be above 2147483647.
    InputError
        `shape` is not two or three numbers of at least 0.

    Examples
    --------
    >>> square = ImagejRoi.frompoints([[1, 0], [3, 0], [3, 2], [1, 2]], name="cell")
    >>> square.group = 2
    >>> objects, notes = paint([square], (2, 4))
    >>> objects.labels.tolist(), objects.classes, notes.lines()
    ([[0, 1, 1, 0], [0, 1, 1, 0]], {1: 2}, ["1 ROI got a new id: 'cell' -> 1"])
    """
    rois = list(rois)
    if len(shape) not in (2, 3) or min(shape) < 0:
        raise InputError(
            f"shape {tuple(shape)} is not that of an image", hint="Give ([planes,] rows, columns)"
        )
    planes = [_plane(roi, shape[0]) for roi in rois] if len(shape) == 3 else [0] * len(rois)
    _check_groups(rois)
    numbers, renumbered = _number(rois, planes, ids, len(shape) == 3)
    labels = np.zeros((1, *shape)[-3:], np.int32)
    names: dict[str, list[int]] = {name: [] for name in (*GROUPS, "seen")}
    overlapped = 0
    for plane, members in _by_plane(planes).items():
        if not 0 <= plane < len(labels):
            names["outside"] += members
            continue
        values = np.array([numbers[k] for k in members], np.int64)
        labels[plane], seen = _paint_plane([rois[k] for k in members], values, shape[-2:], offset)
        overlapped += seen.overlapped
        for name in names:
            names[name] += [members[k] for k in np.flatnonzero(getattr(seen, name)).tolist()]
    classes, disagreed = _classes(rois, numbers)
    seen_ids = {numbers[k] for k in names.pop("seen")}
    classes = {id_: number for id_, number in classes.items() if id_ in seen_ids}
    said = {name: tuple(rois[k].name for k in sorted(found)) for name, found in names.items()}
    notes = Notes(renumbered=renumbered, overlapped=overlapped, disagreed=disagreed, **said)
    return Objects(labels.reshape(shape), classes), notes


def _plane(roi: ImagejRoi, planes: int) -> int:
    """Return which plane of a volume a ROI lies in, counted from 0."""
    number = roi.z_position or roi.position
    name = IN_PLANE.fullmatch(roi.name)
    if not number and name and 1 <= int(name[2]) <= planes:
        number = int(name[2])
    if not number and (name := NAMED_BY_IMAGEJ.fullmatch(roi.name)):
        number = int(name[1])
    if not number and planes != 1:
        raise RoiError(
            f"ROI {roi.name!r} does not say in which of {planes} planes it lies",
            hint="Set its position in ImageJ's ROI Manager (Properties...), or name it like "
            "0007-0003: object 7 in plane 3",
        )
    return number - 1 if number else 0


def _by_plane(planes: Sequence[int]) -> dict[int, list[int]]:
    """Return which ROIs lie in each plane."""
    members = defaultdict(list)
    for k, plane in enumerate(planes):
        members[plane].append(k)
    return members


def _check_groups(rois: Sequence[ImagejRoi]) -> None:
    for roi in rois:
        if roi.group > LARGEST_CLASS:
            raise RoiError(
                f"ROI {roi.name!r} has group {roi.group}; classes are 1 to {LARGEST_CLASS}",
                hint="Give it another group in ImageJ's ROI Manager (Properties...)",
            )


def _number(
    rois: Sequence[ImagejRoi],
    planes: Sequence[int],
    ids: Mapping[str, int] | None,
    in_volume: bool,
) -> tuple[list[int], dict[str, list[int]]]:
    """Return the id of each ROI, and those that were given anew by name."""
    kept = [_property(roi) for roi in rois]
    if ids is not None:
        named = [ids.get(roi.name, 0) for roi in rois]
    else:
        named = [
            _meant(roi.name, plane if in_volume else None)
            for roi, plane in zip(rois, planes, strict=True)
        ]
    numbers = [0] * len(rois)
    taken = set()
    for wanted in (kept, named):
        for k, number in enumerate(wanted):
            if number and not numbers[k] and (planes[k], number) not in taken:
                numbers[k] = number
                taken.add((planes[k], number))
    last = max([0, *kept, *named, *(ids or {}).values()])
    renumbered = defaultdict(list)
    for k, number in enumerate(numbers):
        if not number:
            last += 1
            numbers[k] = last
            renumbered[rois[k].name].append(last)
    if last > LARGEST_ID:
        raise RoiError(
            f"{sum(map(len, renumbered.values()))} ROIs need new ids, and these would be above "
            f"{LARGEST_ID}",
            hint="Give them integers of their own as names in ImageJ's ROI Manager",
        )
    return numbers, dict(renumbered)


def _property(roi: ImagejRoi) -> int:
    """Return the label that a ROI's properties keep, or 0."""
    found = LABEL.search(roi.props) if roi.props else None
    return _label(found[1]) if found else 0


def _meant(name: str, plane: int | None) -> int:
    """Return the label that a ROI's name means, or 0; `plane` is that of a volume."""
    parts = IN_PLANE.fullmatch(name)
    # In a plain image 0123-0456 is ImageJ's own name, of row and column.
    if parts and plane is not None and int(parts[2]) == plane + 1:
        return _label(parts[1])
    return _label(name) if ENTIRE_NAME.fullmatch(name) else 0


def _label(text: str) -> int:
    return int(text) if int(text) <= LARGEST_ID else 0


@dataclass(frozen=True)
class _Seen:
    """Of the ROIs of one plane, which are what; booleans, one per ROI."""

    hidden: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    clipped: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    overlapped: int


def _paint_plane(
    rois: Sequence[ImagejRoi],
    values: NDArray[np.int64],
    shape: tuple[int, int],
    offset: tuple[int, int],
) -> tuple[NDArray[np.int32], _Seen]:
    """Paint the ROIs of one plane, each with a value of its own."""
    vertices, starts, owners = roi_loops(rois, offset=offset)
    stretches = loop_stretches(vertices, starts, owners, shape)
    labels = paint_stretches(stretches, values, shape)
    lengths = stretches.ends - stretches.begins
    areas = np.bincount(stretches.owners, lengths, len(rois)).astype(np.int64)
    left, overlapped = areas, 0
    if areas.sum() > np.count_nonzero(labels):
        left, overlapped = _overlaps(stretches, len(rois), shape)
    beyond = _beyond(vertices, starts, owners, len(rois), shape)
    seen = _Seen(
        hidden=(areas > 0) & (left == 0),
        outside=beyond & (areas == 0),
        clipped=beyond & (areas > 0),
        empty=~beyond & (areas == 0),
        seen=left > 0,
        overlapped=overlapped,
    )
    return labels, seen


def _overlaps(
    stretches: Stretches, count: int, shape: tuple[int, int]
) -> tuple[NDArray[np.int64], int]:
    """Return the pixels that each ROI has in the end, and how many more than one claims."""
    ranks = paint_stretches(stretches, np.arange(1, count + 1), shape)
    left = np.bincount(ranks.ravel(), minlength=count + 1)[1:]
    claims = np.zeros((shape[0], shape[1] + 1), np.int32)
    np.add.at(claims, (stretches.rows, stretches.begins), 1)
    np.subtract.at(claims, (stretches.rows, stretches.ends), 1)
    np.cumsum(claims, axis=1, out=claims)
    return left, int(np.count_nonzero(claims > 1))


def _beyond(
    vertices: NDArray[np.float64],
    starts: NDArray[np.int64],
    owners: Sequence[int],
    count: int,
    shape: tuple[int, int],
) -> NDArray[np.bool_]:
    """Return which ROIs reach over the border, by the pixels that their outlines round to."""
    corners = np.bincount(np.asarray(owners, np.int64), np.diff(starts), count).astype(np.int64)
    filled = np.flatnonzero(corners)
    beyond = np.zeros(count, bool)
    if len(filled):
        first = (np.cumsum(corners) - corners)[filled]
        edges = np.floor(vertices + np.array((TIE + 0.5, 0.5)))
        low, high = (cut.reduceat(edges, first, axis=0) for cut in (np.minimum, np.maximum))
        beyond[filled] = ((low < 0) | (high > shape[::-1])).any(axis=1)
    return beyond


def _classes(
    rois: Sequence[ImagejRoi], numbers: Sequence[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """Return the class of each object, and of those whose planes disagree."""
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for roi, number in zip(rois, numbers, strict=True):
        if roi.group:
            votes[number][roi.group] += 1
    classes = {
        number: min(counts, key=lambda group: (-counts[group], group))
        for number, counts in sorted(votes.items())
    }
    disagreed = {number: classes[number] for number in classes if len(votes[number]) > 1}
    return classes, disagreed
