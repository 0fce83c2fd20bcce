"""Save what came back from a person, whatever the way it came by."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from opsef_bridge.errors import InputError, OpsefError
from opsef_bridge.exchange.blind import reveal
from opsef_bridge.exchange.sources import base_subject, variant_of
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.merging import identify
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Saved, Source
from opsef_bridge.rois.truth import add_truth, parse_scope

__all__ = ["How", "Imported", "after_import", "base_of_record", "base_of_text", "save_objects"]


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
        return Base(revision=record["revision"]), False
    if record.get("run") and record.get("variant"):
        return Base(run=record["run"], variant=record["variant"]), False
    return None, False


def base_of_text(project: Project, text: str) -> Base:
    """Read ``r0002``, ``v0007``, ``run-0001/v0007`` or ``none`` as a base.

    Raises
    ------
    InputError
        It is none of these.
    NotFoundError
        There is no such run or variant.
    """
    if text == "none":
        return Base()
    if text.startswith("r") and text[1:].isdigit():
        return Base(revision=text)
    run, _, variant = text.rpartition("/")
    if not variant:
        raise InputError(f"{text!r} is no base", hint="Give r0002, v0007, run-0001/v0007 or none")
    folder, name = variant_of(project, variant, run or None)
    return Base(run=folder.id, variant=name)


def after_import(record: Mapping[str, Any], saved: Saved) -> dict[str, Any]:
    """Return what a sidecar or manifest says from now on: further edits are of this revision.

    Not so after a merge: then the file lacks what others did, and is no form of the revision.
    """
    if not saved.new or saved.revision.merged:
        return dict(record)
    gone = ("run", "variant", "file", "box", "blind")
    kept = {key: value for key, value in record.items() if key not in gone}
    return kept | {"revision": saved.revision.id}


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
        Shapes differ.
    """
    history = History(project, entry.id)
    base = base or Base()
    subject = base_subject(project, entry, base)
    before = subject.objects if subject else None
    base = subject.base if subject else base
    if keep_classes:
        known = history.objects(base.revision) if base.revision else before
        if known is not None and known.classes:
            objects = identify(known, Objects(objects.labels))
            alive = set(objects.ids)
            kept = {label: c for label, c in known.classes.items() if label in alive}
            objects = Objects(objects.labels, kept)
    saved = history.save(
        objects,
        base=base,
        base_objects=before,
        author=how.author,
        source=source,
        received=received,
        notes=list(notes),
        blind=blind,
        resolve=how.resolve,
        class_names=project.config.classes,
    )
    if how.truth is not None:
        add_truth(project, entry.id, saved.revision.id, parse_scope(how.truth), author=how.author)
    return saved
