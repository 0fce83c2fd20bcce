"""Every saved state of a person's edits of an image, in one chain that only grows.

::

    annotations/<image>/r0001.zip             the objects, exactly
    annotations/<image>/r0001-received.zip    the file as it came, byte for byte
    annotations/<image>/r0001.json            the record; the revision exists once this does

No file is ever written over and no number given twice, also after a crash. Ids mean the same
object in the whole chain; that of a deleted object is never given to another.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from opsef_bridge.errors import InputError, NotFoundError, ProjectError, RoiError, StaleError
from opsef_bridge.files import atomic_path, file_sha256, lock, read_json, write_json
from opsef_bridge.measure.changes import align
from opsef_bridge.project import Project
from opsef_bridge.rois.merging import Merged, identify, merge, object_changes
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.records import (
    Base,
    Revision,
    Saved,
    Source,
    content_of,
    read_objects,
    write_objects,
)

__all__ = ["Base", "History", "Revision", "Saved", "Source"]


@dataclass(frozen=True)
class _Edit:
    """What a record says of an edit besides the objects."""

    author: str
    source: Source
    received: Path | None = None
    notes: Sequence[str] = ()
    blind: bool = False
    class_names: Mapping[int, str] = field(default_factory=dict)


class History:
    """All revisions of one image. It keeps nothing in memory: the folder is the state.

    Parameters
    ----------
    project : Project
    image : str
        Id of the image.
    """

    def __init__(self, project: Project, image: str) -> None:
        self.image = image
        try:
            self.folder = project.revisions_folder(image)
        except ValueError as error:
            raise InputError(str(error), hint="`opsef images list` shows the images") from None

    def revisions(self) -> list[Revision]:
        """Return the records, oldest first.

        Raises
        ------
        ProjectError
            A record cannot be understood.
        """
        return [self._read(name) for name in self._names()]

    def head(self) -> Revision | None:
        """Return the newest revision; None where nothing was saved yet."""
        names = self._names()
        return self._read(names[-1]) if names else None

    def get(self, revision: str) -> Revision:
        """Return the record of a revision; NotFoundError, with those that are there."""
        names = self._names()
        if revision not in names:
            raise NotFoundError(
                f"{self.image} has no revision {revision!r}",
                hint=f"There are: {', '.join(names)}" if names else "Nothing was saved yet",
            )
        return self._read(revision)

    def objects(self, revision: str) -> Objects:
        """Return the objects of a revision.

        Raises
        ------
        NotFoundError
            There is no such revision.
        RoiError
            Its zip is missing, or is not the one that was saved.
        """
        record = self.get(revision)
        if record.sha256 is None:
            return Objects(np.zeros(record.shape, np.int32))
        file = self.folder / f"{revision}.zip"
        if not file.is_file() or file_sha256(file) != record.sha256:
            raise RoiError(
                f"{file} is missing" if not file.is_file() else f"{file} was changed since saved",
                hint="Get the file back from a backup. An edit of it is saved from a copy in "
                "another folder: opsef rois import COPY",
            )
        objects = read_objects(file, record.shape)
        if len(objects.ids) != record.objects:
            raise ProjectError(
                f"{file} holds {len(objects.ids)} objects of shape {record.shape}; "
                f"{revision}.json says {record.objects}",
                hint=f"{revision}.json was changed by hand: get it back from a backup",
            )
        return objects

    def save(
        self,
        objects: Objects,
        *,
        base: Base,
        base_objects: Objects | None = None,
        author: str,
        source: Source,
        received: Path | None = None,
        notes: Iterable[str] = (),
        blind: bool = False,
        resolve: Literal["ours", "theirs"] | None = None,
        class_names: Mapping[int, str] | None = None,
    ) -> Saved:
        """Save edited objects as a new revision, unless they are there already.

        An edit of the newest revision is saved as it is. An edit of anything older is joined
        with what others saved since (see `opsef_bridge.rois.merging.merge`).

        Parameters
        ----------
        objects : Objects
            By any numbers: which object is which follows from `base`.
        base : Base
            What the author edited.
        base_objects : Objects
            The objects of a base that is no revision; not used for one that is.
        author : str
        source : Source
            A file whose sha256 is in the chain already is not saved again.
        received : Path
            The file as it came; a copy is kept.
        notes : iterable of str
            What was noticed on reading.
        blind : bool
            Whether the author did not know the base.
        resolve : {"ours", "theirs"}, optional
            Who wins where both changed an object: this edit, or what was saved since.
        class_names : dict of int to str
            Added to those of the revision before.

        Raises
        ------
        StaleError
            Others changed the same objects since, or a base is not named although there are
            revisions. The report says base, theirs and ours of each object.
        InputError
            The shape is another, or the objects of the base are not given.
        NotFoundError
            The base is a revision that is not there.
        LockedError
            Another process is saving objects of this image.
        """
        edit = _Edit(author, source, received, list(notes), blind, dict(class_names or {}))
        with lock(self.folder / ".lock"):
            known = self.revisions()
            seen = [one for one in known if _holds(one, source)]
            if seen:
                return Saved(seen[-1], False, [self._seen(seen[-1], known[-1])])
            before = self._before(base, base_objects, objects)
            if known and base.revision != known[-1].id:
                return self._join(known, base, before, objects, edit, resolve)
            last = known[-1].last_id if known else 0
            return self._add(
                known[-1] if known else None,
                before,
                identify(before, objects, after=last),
                edit,
                base=base,
            )

    def restore(self, revision: str, *, author: str) -> Saved:
        """Make the objects of a revision the newest again, as a new revision.

        Raises
        ------
        NotFoundError, RoiError
            As `objects`.
        """
        old = self.get(revision)
        file = f"{revision}.zip" if old.sha256 else f"{revision}.json"
        source = Source(file, old.sha256 or "", "restore")
        edit = _Edit(author, source, blind=old.blind, class_names=old.class_names)
        with lock(self.folder / ".lock"):
            head = self.revisions()[-1]
            back, now = self.objects(revision), self.objects(head.id)
            return self._add(head, now, back, edit, base=Base(revision=head.id))

    def _names(self) -> list[str]:
        names = [path.stem for path in self.folder.glob("r*.json")]
        return sorted((n for n in names if re.fullmatch(r"r\d{4,}", n)), key=lambda n: int(n[1:]))

    def _read(self, name: str) -> Revision:
        file = self.folder / f"{name}.json"
        try:
            record = Revision.from_json(read_json(file))
            if (record.id, record.image) != (name, self.image):
                raise ValueError(f"it is the record of {record.id} of {record.image}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProjectError(
                f"{file} cannot be understood ({error})",
                hint=f"Get it back from a backup; {name}.zip beside it still has the objects",
            ) from None
        return record

    def _seen(self, one: Revision, head: Revision) -> str:
        if one.id == head.id:
            return f"This file is saved already: it is {one.id}, the newest revision"
        return (
            f"This file is saved already, as {one.id}; the newest revision is {head.id}. "
            f"To go back to {one.id}: opsef rois restore {self.image} {one.id}"
        )

    def _before(self, base: Base, given: Objects | None, objects: Objects) -> Objects:
        """Return the objects of the base, in the shape of those that came."""
        shape = objects.labels.shape
        if base.revision:
            given = self.objects(base.revision)
        elif base and given is None:
            raise InputError(f"the objects of {base} are missing", hint="Give base_objects")
        elif given is None:
            head = self.head()
            given = Objects(np.zeros(head.shape if head else shape, np.int32))
        if given.labels.shape != shape:
            raise InputError(
                f"the objects are of shape {shape}; what they were made from, {base}, is of shape "
                f"{given.labels.shape}",
                hint="Check that the file belongs to this image",
            )
        return given

    def _join(
        self,
        known: list[Revision],
        base: Base,
        before: Objects,
        objects: Objects,
        edit: _Edit,
        resolve: Literal["ours", "theirs"] | None,
    ) -> Saved:
        """Put an edit of something older on top of the newest revision."""
        head, on = known[-1], Base(revision=known[-1].id)
        theirs = self.objects(head.id)
        if theirs.labels.shape != objects.labels.shape:
            raise InputError(
                f"the objects are of shape {objects.labels.shape}, those of {head.id} of shape "
                f"{theirs.labels.shape}",
                hint="Check that the file belongs to this image",
            )
        if not base:
            ours = identify(theirs, objects, after=head.last_id)
            if ours.same_as(theirs):
                return self._add(head, theirs, ours, edit, base=on)
            raise self._stale(head, base, edit, None, "")
        ours = identify(before, objects, after=head.last_id)
        edited = object_changes(before, ours).summary()
        if not base.revision and known[0].base_sha256 != content_of(before):
            before, ours = _in_ids_of(theirs, before, ours, head.last_id)
        merged = merge(before, theirs, ours, after=head.last_id, resolve=resolve)
        if merged.objects is None:
            raise self._stale(head, base, edit, merged, edited)
        said = f"{head.id} by {head.author} was saved since; both were joined ({merged.taken})"
        edit = replace(edit, notes=[*edit.notes, said, *map(str, merged.conflicts)])
        saved = self._add(head, theirs, merged.objects, edit, base=on, made_from=base)
        return replace(saved, said=[said, *saved.said])

    def _stale(
        self, head: Revision, base: Base, edit: _Edit, merged: Merged | None, edited: str
    ) -> StaleError:
        """Return the error, with the three-way report, of an edit that cannot be saved."""
        name = "an unknown variant" if edit.blind else str(base)
        conflicts = merged.conflicts if merged else ()
        report = {
            "image": self.image,
            "base": {"name": name, "revision": base.revision},
            "theirs": {
                "revision": head.id,
                "author": head.author,
                "at": head.at,
                "summary": head.changes.summary(),
            },
            "ours": {"file": edit.source.file, "author": edit.author, "summary": edited},
            "conflicts": [conflict.to_json() for conflict in conflicts],
        }
        if merged is None:
            return StaleError(
                f"{self.image} has revisions up to {head.id}, and it is not known which one was "
                "edited",
                hint=f"Name it: --base {head.id}, or an older one; `opsef rois log {self.image}` "
                "lists them",
                report=report,
            )
        some = "; ".join(map(str, conflicts[:5])) + ("; ..." if len(conflicts) > 5 else "")
        return StaleError(
            f"{self.image} was changed since {name}: {head.id} by {head.author} at {head.at}. "
            f"Objects that both changed: {len(conflicts)} ({some})",
            hint="Say whose are kept: --resolve ours (this file) or --resolve theirs "
            f"({head.id}); or take out {head.id} (opsef rois export --revision {head.id} "
            f"--image {self.image}), edit that, and import it",
            report=report,
        )

    def _add(
        self,
        head: Revision | None,
        before: Objects,
        objects: Objects,
        edit: _Edit,
        *,
        base: Base,
        made_from: Base | None = None,
    ) -> Saved:
        """Write a revision on top of `head`, unless it would say the same."""
        names = {**(head.class_names if head else {}), **edit.class_names}
        made = object_changes(before, objects)
        if head and not made and names == head.class_names:
            return Saved(head, False, [f"The objects are those of {head.id}: nothing to save"])
        ids = objects.ids
        record = Revision(
            id=self._next(),
            image=self.image,
            base=base,
            made_from=made_from or base,
            author=edit.author,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            source=edit.source,
            shape=objects.labels.shape,
            objects=len(ids),
            classes=dict(sorted(Counter(objects.classes.values()).items())),
            class_names=names,
            changes=made,
            notes=list(edit.notes),
            blind=edit.blind,
            last_id=max([head.last_id if head else 0, *before.ids[-1:], *ids[-1:]]),
            merged=made_from is not None,
            base_sha256=None if base.revision or not base else content_of(before),
        )
        self._keep(record.id, edit.received)
        record = replace(record, sha256=write_objects(self.folder / f"{record.id}.zip", objects))
        write_json(self.folder / f"{record.id}.json", record.to_json())
        return Saved(record, True, [f"{record.id}: {len(ids)} objects, {made.summary()}"])

    def _next(self) -> str:
        """Return the next id, above all that any file has: a crash may leave some behind."""
        used = [re.match(r"r(\d{4,})[.-]", path.name) for path in self.folder.iterdir()]
        return f"r{max((int(found[1]) for found in used if found), default=0) + 1:04d}"

    def _keep(self, revision: str, received: Path | None) -> None:
        """Copy the file that came beside the revision."""
        if received is not None:
            target = self.folder / f"{revision}-received{received.suffix}"
            with atomic_path(target) as partial:
                shutil.copyfile(received, partial)


def _holds(one: Revision, source: Source) -> bool:
    """Tell whether a revision was made from this file, or is this file."""
    return bool(source.sha256) and source.sha256 in (one.source.sha256, one.sha256)


def _in_ids_of(
    theirs: Objects, base: Objects, ours: Objects, after: int
) -> tuple[Objects, Objects]:
    """Return base and ours by the ids of the same objects in `theirs`."""
    ids = align(theirs.labels, base.labels, after=after)
    last = max([after, *theirs.ids[-1:], *ids.values()])
    new = [id_ for id_ in ours.ids if id_ not in ids]
    more = {id_: last + 1 + k for k, id_ in enumerate(new)}
    return base.renumbered(ids), ours.renumbered(ids | more)
