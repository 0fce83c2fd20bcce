"""What was done in a bundle comes back into the project that it was made of.

Revisions come back as edits of what both sides had: as if somebody had edited an export. What is
edited on one side only is joined; where both changed the same object that revision and those that
follow it are refused with the report of all three sides; those before it were taken.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from opsef_bridge.engines.registry import list_weights
from opsef_bridge.engines.staging import weights_in
from opsef_bridge.engines.store import add_from
from opsef_bridge.errors import InputError, OpsefError, StaleError
from opsef_bridge.exchange.bundling import differences, unbundle
from opsef_bridge.exchange.saving import How, save_objects
from opsef_bridge.files import atomic_folder, atomic_path, lock, read_json
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.archive import Archive
from opsef_bridge.rois.claims import Box, Scope, Touched, parse_scope
from opsef_bridge.rois.records import Base, Revision
from opsef_bridge.rois.truth import add_truth

__all__ = ["Back", "merge_back"]


@dataclass
class Back:
    """What became of one thing in a bundle.

    Parameters
    ----------
    what : {"image", "weights", "dataset"}
    name : str
    taken : list of str
        Revisions that are new here; for others the name.
    claims : int
        Words of authors that came along.
    said : list of str
    error : OpsefError or None
        Why nothing, or not all, was taken.
    """

    what: Literal["image", "weights", "dataset"]
    name: str
    taken: list[str] = field(default_factory=list)
    claims: int = 0
    said: list[str] = field(default_factory=list)
    error: OpsefError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            **{key: value for key, value in vars(self).items() if key != "error"},
            "error": str(self.error) if self.error else None,
            "code": self.error.code if self.error else None,
            "report": getattr(self.error, "report", None) or None,
        }


def merge_back(
    project: Project, file: Path, *, resolve: Literal["ours", "theirs"] | None = None
) -> tuple[list[Back], list[str]]:
    """Take revisions, truth, weights and datasets of a bundle into a project.

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
        told = unbundle(file, inside)
        other = Project(inside)
        found = [_image(project, other, entry, resolve) for entry in other.images()]
        found += [*_weights(project, other), *_datasets(project, other)]
        said = differences(told.environment) + _settings(project, other)
    return [one for one in found if one.taken or one.claims or one.said or one.error], said


def _image(project: Project, other: Project, theirs: ImageEntry, resolve: Any) -> Back:
    """Take the revisions and the truth of one image."""
    back = Back("image", theirs.id)
    incoming = Archive(other, theirs.id).revisions()
    if not incoming and not other.answers_file(theirs.id).is_file():
        return back
    try:
        entry = project.image(theirs.id)
        if entry.sha256 and theirs.sha256 and entry.sha256 != theirs.sha256:
            raise InputError(
                f"{theirs.id} is another picture here than in the bundle",
                hint="The bundle is of another project, or the file was replaced",
            )
        ids = _revisions(project, other, entry, incoming, resolve, back)
        _truth(project, other, entry.id, ids, back)
        _answers(project, other, entry.id, back)
    except OpsefError as error:
        back.error = error
    return back


def _revisions(
    project: Project,
    other: Project,
    entry: ImageEntry,
    incoming: list[Revision],
    resolve: Any,
    back: Back,
) -> dict[str, Base]:
    """Take what is new; return what every revision of the bundle is here."""
    here = Archive(project, entry.id).revisions()
    same = 0
    while same < min(len(here), len(incoming)) and here[same] == incoming[same]:
        same += 1
    ids = {one.id: Base(revision=one.id) for one in incoming[:same]}
    if same == len(here):
        _copy(project, other, entry.id, incoming[same:])
        back.taken += [one.id for one in incoming[same:]]
        return {one.id: Base(revision=one.id) for one in incoming}
    archive = Archive(other, entry.id)
    for one in incoming[same:]:
        base = ids.get(one.base.revision or "", replace(one.base, revision=None))
        saved = save_objects(
            project,
            entry,
            archive.objects(one.id),
            How(author=one.author, resolve=resolve),
            base=base,
            source=replace(one.source, sha256=one.sha256 or one.source.sha256),
            notes=[*one.notes, f"{one.id} of a bundle"],
            blind=one.blind,
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


def _copy(project: Project, other: Project, image: str, new: list[Revision]) -> None:
    """Copy revisions as they are; the record last, by which a revision exists."""
    source, target = other.revisions_folder(image), project.revisions_folder(image)
    if not new:
        return
    with lock(target / ".lock"):
        known = {one.id for one in Archive(project, image).revisions()}
        for one in new:
            if one.id in known:
                raise StaleError(
                    f"{image}: somebody saved {one.id} in this moment",
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
    for claim in _claims(other, image):
        base = ids.get(claim["revision"])
        if base is None or base.revision is None:
            continue
        scope = _scope(claim)
        if base.own and not isinstance(scope, Touched):
            back.said.append(
                f"Not vouched for: {base.revision} has edits of others that "
                f"{claim['author']} has not seen"
            )
            continue
        if any(_same(claim, one, base.revision) for one in _claims(project, image)):
            continue
        done = add_truth(project, image, base.revision, scope, author=claim["author"])
        back.claims += bool(done["new"])


def _claims(project: Project, image: str) -> list[dict[str, Any]]:
    file = project.truth_file(image)
    return list(read_json(file)["claims"]) if file.is_file() else []


def _same(claim: Mapping[str, Any], other: Mapping[str, Any], revision: str) -> bool:
    same = all(claim[key] == other[key] for key in ("scope", "box", "author"))
    return same and other["revision"] == revision


def _scope(claim: Mapping[str, Any]) -> Scope:
    return Box(*claim["box"]) if claim["box"] else parse_scope(claim["scope"])


def _answers(project: Project, other: Project, image: str, back: Back) -> None:
    """Take answers to questions where there are none here."""
    theirs, ours = other.answers_file(image), project.answers_file(image)
    if not theirs.is_file():
        return
    if not ours.is_file():
        with atomic_path(ours) as partial:
            shutil.copyfile(theirs, partial)
        back.said.append("Its answers to questions came along")
    elif theirs.read_bytes() != ours.read_bytes():
        back.said.append("Answers to questions differ: those of the project stay")


def _weights(project: Project, other: Project) -> Iterator[Back]:
    """Take weights that are not here; the same ones get the scores that their cards lack."""
    if not other.models_folder.is_dir():
        return
    here = {one.name: one.sha256 for one in list_weights([project.models_folder])}
    for weights in weights_in(other.models_folder, warn=_quiet):
        back = Back("weights", weights.name)
        try:
            if here.get(weights.name) != weights.sha256:
                add_from(other.models_folder, project.models_folder, [weights.name])
                back.taken.append(weights.name)
        except OpsefError as error:
            back.error = error
        yield back


def _datasets(project: Project, other: Project) -> Iterator[Back]:
    """Take datasets of which the id is free here."""
    for name in other.datasets():
        back = Back("dataset", name)
        source, target = other.datasets_folder / name, project.datasets_folder / name
        if not target.exists():
            with atomic_folder(target) as partial:
                shutil.copytree(source, partial, dirs_exist_ok=True)
            back.taken.append(name)
        elif _key(source) != _key(target):
            back.said.append(f"{name} is another dataset here, which stays")
        yield back


def _key(folder: Path) -> Any:
    file = folder / "dataset.json"
    return read_json(file).get("key") if file.is_file() else None


def _settings(project: Project, other: Project) -> list[str]:
    pairs = [(project.config_file, other.config_file), (project.adopted_file, other.adopted_file)]
    return [
        f"{theirs.name} differs: that of the project stays"
        for ours, theirs in pairs
        if theirs.is_file() and (not ours.is_file() or ours.read_bytes() != theirs.read_bytes())
    ]


def _quiet(error: OpsefError) -> None:
    """Weights that are broken are left where they are."""
