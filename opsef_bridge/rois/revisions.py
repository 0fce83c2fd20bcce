"""Every saved state of a person's edits of an image, in one chain that only grows.

See `opsef_bridge.rois.archive` for the files. None is ever written over, and no number of a
saved revision is given twice. Ids mean the same object in the whole chain; that of a deleted
object is never given to another.
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

from opsef_bridge.errors import InputError, StaleError
from opsef_bridge.files import atomic_path, lock, write_json
from opsef_bridge.measure.changes import align
from opsef_bridge.rois.archive import Archive
from opsef_bridge.rois.merging import Merged, identify, merge, object_changes
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.records import (
    Base,
    Revision,
    Saved,
    Source,
    content_of,
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
    image_sha256: str | None = None


class History(Archive):
    """All revisions of one image, to add to them.

    Parameters
    ----------
    project : Project
    image : str
        Id of the image.
    """

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
        image_sha256: str | None = None,
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
        image_sha256 : str
            Of the file of the image.

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
        names = dict(class_names or {})
        edit = _Edit(author, source, received, list(notes), blind, names, image_sha256)
        with lock(self.folder / ".lock"):
            known = self.revisions()
            seen = [one for one in known if _holds(one, source) and not _before(one, base)]
            if seen:
                now = Base(revision=seen[-1].id, own=seen[-1].merged)
                return Saved(seen[-1], False, [self._seen(seen[-1], known[-1])], now)
            before = self._before(base, base_objects, objects)
            if known and (base.revision != known[-1].id or base.own):
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
            given = self.own(base.revision) if base.own else self.objects(base.revision)
        elif base and given is None and not base.empty:
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
        saved = self._add(head, theirs, merged.objects, edit, base=on, made_from=base, own=ours)
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
        own: Objects | None = None,
    ) -> Saved:
        """Write a revision on top of `head`, unless it would say the same."""
        names = {**(head.class_names if head else {}), **edit.class_names}
        made = object_changes(before, objects)
        if head and not made and names == head.class_names:
            said = [f"The objects are those of {head.id}: nothing to save"]
            same = own is None or identify(objects, own).same_as(objects)
            return Saved(head, False, said, Base(revision=head.id) if same else None)
        ids = objects.ids
        last = max([head.last_id if head else 0, *before.ids[-1:], *ids[-1:]])
        if own is not None:
            # By the ids of the result, so that both sides speak of the same objects.
            own = identify(objects, own, after=last)
            last = max([last, *own.ids[-1:]])
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
            last_id=last,
            merged=made_from is not None,
            base_sha256=None if base.revision or not base else content_of(before),
            image_sha256=edit.image_sha256,
        )
        record = self._write(record, objects, before if record.base_sha256 else None, own, edit)
        said = [f"{record.id}: {len(ids)} objects, {made.summary()}"]
        return Saved(record, True, said, Base(revision=record.id, own=record.merged))

    def _write(
        self,
        record: Revision,
        objects: Objects,
        before: Objects | None,
        own: Objects | None,
        edit: _Edit,
    ) -> Revision:
        """Write the files of a revision, the record last; a failure leaves none of them."""
        stem = self.folder / record.id
        files = [stem.with_name(f"{record.id}{end}.zip") for end in ("", "-own", "-base")]
        try:
            if edit.received is not None:
                files.append(stem.with_name(f"{record.id}-received{edit.received.suffix}"))
                with atomic_path(files[-1]) as partial:
                    shutil.copyfile(edit.received, partial)
            record = replace(
                record,
                sha256=write_objects(files[0], objects),
                own_sha256=write_objects(files[1], own) if own is not None else None,
            )
            if before is not None:
                write_objects(files[2], before)
            write_json(stem.with_name(f"{record.id}.json"), record.to_json())
        except BaseException:
            for file in files:
                file.unlink(missing_ok=True)
            raise
        return record

    def _next(self) -> str:
        """Return the next id, above all that any file has: a crash may leave some behind."""
        used = [re.match(r"r(\d{4,})[.-]", path.name) for path in self.folder.iterdir()]
        return f"r{max((int(found[1]) for found in used if found), default=0) + 1:04d}"


def _before(one: Revision, base: Base) -> bool:
    """Tell whether a revision is older than the one that was edited.

    The same bytes then are no second import: an edit was taken back on purpose.
    """
    return base.revision is not None and int(one.id[1:]) < int(base.revision[1:])


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
