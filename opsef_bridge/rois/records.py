"""What is written down of each revision: the record, its JSON, and the zip of the objects."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import RoiError
from opsef_bridge.files import file_sha256
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois.merging import ObjectChanges
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.palette import stroke_of
from opsef_bridge.rois.zips import read_rois, write_rois

__all__ = ["Base", "Revision", "Saved", "Source", "content_of", "read_objects", "write_objects"]


@dataclass(frozen=True)
class Base:
    """What objects were made from: a revision, a variant of a run, a file, or nothing known.

    `box` is the part of the image (Y, X, height, width) that a variant saw, if not the whole.
    `empty` is an image without objects, which is not the same as nothing known.
    With `own`, not the objects of the revision but what its author sent, before it was joined
    with the edits of others.

    Examples
    --------
    >>> str(Base(revision="r0002")), str(Base(run="run-0001", variant="v0007")), str(Base())
    ('r0002', 'v0007 of run-0001', 'nothing')
    """

    revision: str | None = None
    run: str | None = None
    variant: str | None = None
    file: str | None = None
    sha256: str | None = None
    box: tuple[int, ...] | None = None
    own: bool = False
    empty: bool = False

    def __bool__(self) -> bool:
        return bool(self.revision or self.variant or self.file or self.empty)

    def __str__(self) -> str:
        if self.variant and not self.revision:
            return f"{self.variant} of {self.run}" if self.run else self.variant
        return (self.revision or self.file or "nothing") + (" before joining" if self.own else "")

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; `from_json` reads it."""
        return {**vars(self), "box": list(self.box) if self.box else None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Base:
        """Read what `to_json` gives; raises ValueError, KeyError or TypeError where it is not."""
        box = tuple(int(side) for side in value["box"]) if value.get("box") else None
        names = ("revision", "run", "variant", "file", "sha256")
        texts = {name: _text(value.get(name), or_none=True) for name in names}
        return cls(**texts, box=box, own=bool(value.get("own")), empty=bool(value.get("empty")))


@dataclass(frozen=True)
class Source:
    """Where objects came from: the file's name without its folder, its sha256, and its kind.

    Kinds are ``imagej-zip``, ``labels``, ``annotatorj``, ``opsef-run-folder``, ``legacy``,
    ``classes``, ``learned``, ``restore`` and ``empty``. Without a file `file` is empty, and so is
    `sha256`, but for classes and learned: what they are, and of which objects.
    """

    file: str
    sha256: str
    kind: str


@dataclass(frozen=True)
class Revision:
    """The record of one saved state of the objects of an image.

    Attributes
    ----------
    id, image : str
    base : Base
        What `changes` compares with: the revision before, or what the first was made from.
    made_from : Base
        What the author had in hand; differs from `base` after a merge.
    author, at : str
        Who, and when (ISO 8601, UTC).
    source : Source
    shape : tuple of int
        [Z,] Y, X.
    objects : int
    classes : dict of int to int
        Objects by class, without those that have none.
    class_names : dict of int to str
    changes : ObjectChanges
    notes : list of str
        What the reader of the file, and the merge, noticed.
    blind : bool
        Whether the author did not know which variant the objects came from.
    last_id : int
        The largest id given in the chain so far.
    sha256 : str or None
        Of ``<id>.zip``; None where there is no object and so no zip.
    merged : bool
        Whether edits of others, which the author had not seen, were joined.
    base_sha256 : str or None
        Of the labels of a base that is no revision, to know them again.
    own_sha256 : str or None
        Of ``<id>-own.zip``: what the author of a merged revision sent, if that has objects.
    image_sha256 : str or None
        Of the file of the image when this was saved.
    """

    id: str
    image: str
    base: Base
    made_from: Base
    author: str
    at: str
    source: Source
    shape: tuple[int, ...]
    objects: int
    classes: Mapping[int, int]
    class_names: Mapping[int, str]
    changes: ObjectChanges
    notes: list[str] = field(default_factory=list)
    blind: bool = False
    last_id: int = 0
    sha256: str | None = None
    merged: bool = False
    base_sha256: str | None = None
    own_sha256: str | None = None
    image_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; `from_json` reads it."""
        return {
            **vars(self),
            "base": self.base.to_json(),
            "made_from": self.made_from.to_json(),
            "source": asdict(self.source),
            "shape": list(self.shape),
            "classes": {str(number): count for number, count in self.classes.items()},
            "class_names": {str(number): name for number, name in self.class_names.items()},
            "changes": self.changes.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Revision:
        """Read what `to_json` gives; raises ValueError, KeyError or TypeError where it is not."""
        names = ("file", "sha256", "kind")
        hashes = ("sha256", "base_sha256", "own_sha256", "image_sha256")
        return cls(
            **{name: _text(value[name]) for name in ("id", "image", "author", "at")},
            **{name: int(value[name]) for name in ("objects", "last_id")},
            **{name: bool(value[name]) for name in ("blind", "merged")},
            **{name: _text(value.get(name), or_none=True) for name in hashes},
            base=Base.from_json(value["base"]),
            made_from=Base.from_json(value["made_from"]),
            source=Source(*(_text(value["source"][name]) for name in names)),
            shape=tuple(int(side) for side in value["shape"]),
            classes={int(number): int(count) for number, count in value["classes"].items()},
            class_names={int(k): _text(name) for k, name in value["class_names"].items()},
            changes=ObjectChanges.from_json(value["changes"]),
            notes=[_text(note) for note in value["notes"]],
        )


@dataclass(frozen=True)
class Saved:
    """What became of an edit.

    Attributes
    ----------
    revision : Revision
        The one that holds it, or the newest where there was nothing to save.
    new : bool
    said : list of str
    now : Base or None
        What the file that came is a form of from now on: the base of further edits of it.
        None: still of what it was.
    """

    revision: Revision
    new: bool
    said: list[str] = field(default_factory=list)
    now: Base | None = None


def write_objects(file: Path, objects: Objects) -> str | None:
    """Write objects as a zip and read them back; return its sha256, or None without objects."""
    rois = trace_rois(objects.labels)
    if not rois:
        return None
    for roi in rois:
        number = objects.classes.get(int(roi.name.partition("-")[0]), 0)
        roi.group, roi.stroke_color = number, stroke_of(number)
    write_rois(file, rois)
    digest = file_sha256(file)
    if not read_objects(file, objects.labels.shape).same_as(objects):
        raise RoiError(f"{file} does not give back the objects", hint="Please report this")
    return digest


def read_objects(file: Path, shape: tuple[int, ...]) -> Objects:
    """Read a zip that `write_objects` wrote."""
    rois = read_rois(file)
    labels = fill_rois(rois, shape)
    return Objects(labels, {int(roi.name.partition("-")[0]): roi.group for roi in rois})


def content_of(objects: Objects) -> str:
    """Return the sha256 of shape and pixels of the labels."""
    labels = np.ascontiguousarray(objects.labels)
    return hashlib.sha256(repr(labels.shape).encode() + labels.tobytes()).hexdigest()


def _text(value: Any, *, or_none: bool = False) -> Any:
    """Return a text of a record; raise TypeError where it is none."""
    if isinstance(value, str) or (or_none and value is None):
        return value
    raise TypeError(f"{value!r} is no text")
