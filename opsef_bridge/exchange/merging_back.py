"""What was done in a bundle comes back into the project that it was made of.

Revisions come back as edits of what both sides had: as if somebody had edited an export. What is
edited on one side only is joined; where both changed the same object that revision and those that
follow it are refused with the report of all three sides; those before it were taken.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from opsef_bridge.errors import InputError, OpsefError, StaleError
from opsef_bridge.exchange.bringing_back import Back, bring_back, settings
from opsef_bridge.exchange.bundling import unbundle
from opsef_bridge.exchange.environments import differences
from opsef_bridge.files import atomic_path, lock, read_json
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.answers import Answer, add_answer, read_answers
from opsef_bridge.rois.archive import Archive
from opsef_bridge.rois.claims import Box, Scope, Touched, parse_scope
from opsef_bridge.rois.places import same_place, says_the_same
from opsef_bridge.rois.records import Base, Revision
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.truth import add_truth

__all__ = ["Back", "merge_back"]


def merge_back(
    project: Project, file: Path, *, resolve: Literal["ours", "theirs"] | None = None
) -> tuple[list[Back], list[str]]:
    """Take what was done in a bundle into a project; see `bring_back` for what is no edit.

    Parameters
    ----------
    project : Project
        One that has images of the same ids and files.
    file : Path
        As `opsef_bridge.exchange.bundling.bundle` wrote it.
    resolve : {"ours", "theirs"}, optional
        Whose object is taken where both changed it: that of the bundle, or of the project. As
        everywhere ``ours`` is the edit that comes in.

    Returns
    -------
    list of Back
        What is the same on both sides is not in it.
    list of str
        What is to be said of the whole: where environments and settings differ.

    Raises
    ------
    ConfigError
        There is no project.
    NotFoundError, InputError, ProjectError
        As `unbundle`.
    """
    project.must_exist()
    with tempfile.TemporaryDirectory(dir=project.root, prefix=".bundle-") as place:
        inside = Path(place) / "project"
        told = unbundle(file, inside, pictures=False)
        other = Project(inside)
        found = [_image(project, other, entry, resolve) for entry in other.images()]
        found += bring_back(project, other)
        said = differences(told.environment) + settings(project, other)
    return [one for one in found if one.taken or one.claims or one.said or one.error], said


def _image(project: Project, other: Project, theirs: ImageEntry, resolve: Any) -> Back:
    """Take the revisions and the truth of one image."""
    back = Back("image", theirs.id)
    try:
        incoming = Archive(other, theirs.id).revisions()
        entry = _same_picture(project, theirs, back)
        if entry is not None:
            ids = _revisions(project, other, entry, incoming, resolve, back)
            _truth(project, other, entry.id, ids, back)
            _answers(project, other, entry.id, resolve, back)
    except OpsefError as error:
        back.error = error
    except (ValueError, KeyError, TypeError) as error:  # a record that is valid JSON, but no record
        back.error = InputError(
            f"what the bundle says of {theirs.id} cannot be understood ({error!r})",
            hint="Bundle it again from where it is whole",
        )
    return back


def _same_picture(project: Project, theirs: ImageEntry, back: Back) -> ImageEntry | None:
    """Return the image of the project; None where it has none, which `back` then says."""
    known = {one.id: one for one in project.images()}
    entry = known.get(theirs.id)
    if entry is None and not theirs.gone:
        same = [one.id for one in known.values() if theirs.sha256 and one.sha256 == theirs.sha256]
        back.said.append(
            f"Not taken: the picture is {', '.join(same)} here. Give that row of images/index.csv "
            f"the id {theirs.id} for its edits to come back"
            if same
            else f"Not taken: it is only in the bundle. Bring its file {theirs.source} into the "
            "project, and its row into images/index.csv, for its edits to come back"
        )
    elif entry and entry.sha256 and theirs.sha256 and entry.sha256 != theirs.sha256:
        raise InputError(
            f"{theirs.id} is another picture here than in the bundle",
            hint="The bundle is of another project, or the file was replaced",
        )
    return entry


def _revisions(
    project: Project,
    other: Project,
    entry: ImageEntry,
    incoming: list[Revision],
    resolve: Any,
    back: Back,
) -> dict[str, Base]:
    """Take what is new; return what every revision of the bundle is here."""
    here, archive = Archive(project, entry.id).revisions(), Archive(other, entry.id)
    same = 0
    while same < min(len(here), len(incoming)) and here[same] == incoming[same]:
        same += 1
    ids = {one.id: Base(revision=one.id) for one in incoming[:same]}
    if same == len(here):
        _copy(project, archive, incoming[same:])
        back.taken += [one.id for one in incoming[same:]]
        return {one.id: Base(revision=one.id) for one in incoming}
    for one in incoming[same:]:
        # A run may be another one here: what was edited came along with the revision.
        first = replace(one.base, revision=None, sha256=one.base_sha256)
        saved = History(project, entry.id).save(
            archive.objects(one.id),
            base=ids.get(one.base.revision or "", first),
            base_objects=archive.kept_base(first),
            author=one.author,
            source=replace(one.source, sha256=one.sha256 or one.source.sha256),
            notes=[*one.notes, f"{one.id} of a bundle"],
            blind=one.blind,
            resolve=resolve,
            class_names={**one.class_names, **project.config.classes},
            image_sha256=entry.sha256 or None,
        )
        back.said += saved.said
        if saved.new:
            back.taken.append(saved.revision.id)
        if saved.now is None:
            raise StaleError(
                f"{entry.id}: edits of others hide what {one.id} of the bundle is here",
                hint="Bundle again from the project as it is now, and edit that",
            )
        ids[one.id] = saved.now
    return ids


def _copy(project: Project, archive: Archive, new: list[Revision]) -> None:
    """Copy revisions that are whole as they are; the record last, by which a revision exists."""
    source, target = archive.folder, project.revisions_folder(archive.image)
    if not new:
        return
    for one in new:
        archive.objects(one.id), archive.own(one.id)  # raise where a file is not the one saved
    with lock(target / ".lock"):
        known = {one.id for one in Archive(project, archive.image).revisions()}
        for one in new:
            if one.id in known:
                raise StaleError(
                    f"{archive.image}: somebody saved {one.id} in this moment",
                    hint="Bring the bundle back again",
                )
            record = source / f"{one.id}.json"
            beside = [file for file in source.glob(f"{one.id}[.-]*") if file != record]
            for file in [*beside, record]:
                with atomic_path(target / file.name) as partial:
                    shutil.copyfile(file, partial)


def _truth(
    project: Project, other: Project, image: str, ids: Mapping[str, Base], back: Back
) -> None:
    """Vouch for what its authors vouched for in the bundle, in their order."""
    theirs, ours = _claims(other, image), _claims(project, image)
    newest = max((_number(one) for one in ours if one not in theirs), default=0)
    for claim in theirs:
        base = ids.get(claim["revision"])
        if base is None or base.revision is None:
            continue
        if any(_same(claim, one, base.revision) for one in ours):
            continue
        scope = _scope(claim)
        if base.own and not isinstance(scope, Touched):
            back.said.append(
                f"Not vouched for: {base.revision} has edits of others that "
                f"{claim['author']} has not seen"
            )
            continue
        if _number({"revision": base.revision}) < newest:
            # The later word counts: what is older must not take its place.
            back.said.append(
                f"Not vouched for: {base.revision}, as r{newest:04d}, which is newer, is here"
            )
            continue
        done = add_truth(project, image, base.revision, scope, author=claim["author"])
        back.claims += bool(done["new"])


def _claims(project: Project, image: str) -> list[dict[str, Any]]:
    file = project.truth_file(image)
    return list(read_json(file)["claims"]) if file.is_file() else []


def _number(claim: Mapping[str, Any]) -> int:
    return int(claim["revision"][1:])


def _same(claim: Mapping[str, Any], other: Mapping[str, Any], revision: str) -> bool:
    same = all(claim[key] == other[key] for key in ("scope", "box", "author"))
    return same and other["revision"] == revision


def _scope(claim: Mapping[str, Any]) -> Scope:
    return Box(*claim["box"]) if claim["box"] else parse_scope(claim["scope"])


def _answers(project: Project, other: Project, image: str, resolve: Any, back: Back) -> None:
    """Take answers to questions that are new; of two on one place that of `resolve`."""
    shape, theirs = read_answers(other, image)
    _, ours = read_answers(project, image)
    known, seen = [_said_by(one) for one in ours], [_said_by(one) for one in theirs]
    open_ = [one for one in ours if not one.replaced and _said_by(one) not in seen]
    taken, left = 0, 0
    for one in theirs:
        if one.replaced or _said_by(one) in known:
            continue
        if resolve != "ours" and any(
            same_place(one, old) and not says_the_same(one, old) for old in open_
        ):
            left += 1
            continue
        add_answer(project, image, one, shape)
        taken += 1
    back.said += [f"{taken} answers to questions"] if taken else []
    if left:
        back.said.append(
            f"{left} answers to questions differ: those of the project stay (or --resolve ours)"
        )


def _said_by(one: Answer) -> str:
    """What tells answers apart, whether they still stand or not."""
    return json.dumps(replace(one, replaced=False).to_json())
