"""Save what came back from a person, whatever the way it came by."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from opsef_bridge.errors import InputError, OpsefError
from opsef_bridge.exchange.blind import reveal
from opsef_bridge.exchange.sources import base_subject, variant_of
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.claims import Box, Scope, Touched, parse_scope
from opsef_bridge.rois.merging import identify
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Saved, Source
from opsef_bridge.rois.truth import add_truth

__all__ = [
    "How",
    "Imported",
    "after_import",
    "base_of_record",
    "base_of_text",
    "check_picture",
    "newest",
    "save_objects",
    "text_of_base",
]


@dataclass(frozen=True)
class How:
    """How edits are saved, the same for every image of a command.

    Attributes
    ----------
    author : str
    resolve : {"ours", "theirs"} or None
        Whose object is taken where both sides changed it; None refuses.
    truth : str or None
        What the author vouches for: ``whole``, ``touched`` or ``y,x,height,width``.
    """

    author: str = field(default_factory=getpass.getuser)
    resolve: Literal["ours", "theirs"] | None = None
    truth: str | None = None

    def __post_init__(self) -> None:
        if self.truth is not None:
            parse_scope(self.truth)


@dataclass(frozen=True)
class Imported:
    """What became of one image: a revision, or the reason why there is none."""

    image: str
    file: str
    saved: Saved | None = None
    error: OpsefError | None = None
    said: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        revision = self.saved.revision if self.saved else None
        return {
            "image": self.image,
            "file": self.file,
            "revision": revision.id if revision else None,
            "new": bool(self.saved and self.saved.new),
            "objects": revision.objects if revision else None,
            "changes": revision.changes.to_json() if revision else None,
            "said": [*self.said, *(self.saved.said if self.saved else ())],
            "error": str(self.error) if self.error else None,
            "code": self.error.code if self.error else None,
            "report": getattr(self.error, "report", None) or None,
        }


def base_of_record(project: Project, record: Mapping[str, Any]) -> tuple[Base | None, bool]:
    """Return what a sidecar or manifest says the objects were made from, and whether blindly.

    None where it does not say.
    """
    if record.get("blind"):
        return reveal(project, record["blind"]), True
    if record.get("revision"):
        return Base(revision=record["revision"], own=bool(record.get("own"))), False
    if record.get("run") and record.get("variant"):
        known = record.get("labels_sha256")
        return Base(run=record["run"], variant=record["variant"], sha256=known), False
    return None, False


def base_of_text(project: Project, text: str) -> Base:
    """Read ``r0002``, ``v0007``, ``run-0001/v0007`` or ``none``, as `text_of_base` writes it.

    ``r0002:own`` is what the author of a revision sent before it was joined with others' edits.

    Raises
    ------
    InputError
        It is none of these.
    NotFoundError
        There is no such run or variant.
    """
    revision, _, own = text.partition(":")
    if re.fullmatch(r"r\d+", revision) and own in ("", "own"):
        return Base(revision=revision, own=bool(own))
    if text == "none":
        return Base(empty=True)
    run, _, variant = text.rpartition("/")
    if not variant:
        raise InputError(f"{text!r} is no base", hint="Give r0002, v0007, run-0001/v0007 or none")
    folder, name = variant_of(project, variant, run or None)
    return Base(run=folder.id, variant=name)


def after_import(record: Mapping[str, Any], saved: Saved) -> dict[str, Any]:
    """Return what a sidecar or manifest says from now on: what further edits are edits of."""
    if saved.now is None:
        return dict(record)
    gone = ("revision", "own", "run", "variant", "labels_sha256", "file", "box", "blind")
    kept = {key: value for key, value in record.items() if key not in gone}
    return kept | {"revision": saved.now.revision} | ({"own": True} if saved.now.own else {})


def newest(record: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return which of two records of one file was written after the later import."""
    numbers = [int((one.get("revision") or "r0")[1:]) for one in (record, other)]
    return other if numbers[1] > numbers[0] else record


def text_of_base(base: Base) -> str:
    """Write a base as `base_of_text` reads it.

    Examples
    --------
    >>> text_of_base(Base(revision="r0002", own=True)), text_of_base(Base())
    ('r0002:own', 'none')
    """
    if base.revision:
        return base.revision + (":own" if base.own else "")
    return f"{base.run}/{base.variant}" if base.variant else "none"


def check_picture(entry: ImageEntry, record: Mapping[str, Any]) -> None:
    """Refuse objects that were made for another picture.

    Raises
    ------
    InputError
        The file of the image is another than when the objects went out.
    """
    told = record.get("image_sha256")
    if told and entry.sha256 and told != entry.sha256:
        raise InputError(
            f"these objects were made for another picture than {entry.source} is now",
            hint="They may be of another project, or the file was replaced. If they do belong "
            f"to it, say so: --image {entry.id} --base none (or rNNNN)",
        )


def save_objects(
    project: Project,
    entry: ImageEntry,
    objects: Objects,
    how: How,
    *,
    base: Base | None,
    source: Source,
    received: Path | None = None,
    notes: Iterable[str] = (),
    blind: bool = False,
    keep_classes: bool = False,
) -> Saved:
    """Save the objects of an image as a revision, and as truth if the author vouches for them.

    Parameters
    ----------
    base : Base or None
        What they were made from. None: not known, which only the first revision may be.
    received : Path
        The file as it came; kept beside the revision.
    keep_classes : bool
        Whether the way it came by cannot carry classes, so that objects keep those they had.

    Raises
    ------
    StaleError
        Somebody changed the same objects since; the report says which.
    InputError
        Shapes differ, or the box of what is vouched for is not in the image.
    """
    scope = parse_scope(how.truth) if how.truth is not None else None
    if isinstance(scope, Box):
        scope.clipped(objects.labels.shape)
    history = History(project, entry.id)
    remarks: list[str] = []
    subject = base_subject(project, entry, base, remarks.append) if base else None
    before = subject.objects if subject else None
    base = subject.base if subject else base or Base()
    if keep_classes:
        objects = _with_classes(history, base, before, objects)
    saved = history.save(
        objects,
        base=base,
        base_objects=before,
        author=how.author,
        source=source,
        received=received,
        notes=[*notes, *remarks],
        blind=blind,
        resolve=how.resolve,
        class_names=project.config.classes,
        image_sha256=entry.sha256 or None,
    )
    saved = replace(saved, said=[*saved.said, *remarks])
    if scope is None:
        return saved
    why = _not_vouched(saved, scope)
    if why:
        return replace(saved, said=[*saved.said, f"Not vouched for: {why}"])
    add_truth(project, entry.id, saved.revision.id, scope, author=how.author)
    return saved


def _with_classes(
    history: History, base: Base, before: Objects | None, objects: Objects
) -> Objects:
    """Give objects the classes that they had before."""
    known = history.objects(base.revision) if base.revision and not base.own else before
    if base.own and base.revision:
        known = history.own(base.revision)
    if known is None or not known.classes:
        return objects
    objects = identify(known, Objects(objects.labels))
    alive = set(objects.ids)
    return Objects(objects.labels, {k: c for k, c in known.classes.items() if k in alive})


def _not_vouched(saved: Saved, scope: Scope) -> str:
    """Say why an author's word does not cover a revision; nothing where it does.

    Nobody vouches for what somebody else did and the author has not seen.
    """
    one = saved.revision
    if isinstance(scope, Touched):
        return "" if saved.new and one.changes.touched else "nothing was touched"
    if saved.now is None or saved.now.own:
        return (
            f"{one.id} has edits of others that this file does not show. Look at it, then "
            f"`opsef truth add {one.image} {scope}`"
        )
    return ""
