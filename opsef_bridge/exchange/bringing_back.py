"""What of a bundle comes back into its project besides edits: each only where nothing is lost.

What has the name of something else here stays in the bundle, and that is said.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from opsef_bridge.config import parse_config
from opsef_bridge.engines.registry import list_weights
from opsef_bridge.engines.staging import weights_in
from opsef_bridge.engines.store import add_from
from opsef_bridge.errors import ConfigError, OpsefError, ProjectError
from opsef_bridge.files import atomic_folder, atomic_path, lock, read_json, write_json
from opsef_bridge.project import Project, read_csv, write_csv
from opsef_bridge.sweep.verdicts import COLUMNS, import_verdicts, verdicts_file

__all__ = ["Back", "bring_back", "settings"]

What = Literal["image", "weights", "dataset", "run", "training", "verdicts", "notebook"]


@dataclass
class Back:
    """What became of one thing in a bundle.

    Parameters
    ----------
    what : str
        ``image``, ``weights``, ``dataset``, ``run``, ``training``, ``verdicts`` or ``notebook``.
    name : str
    taken : list of str
        Revisions that are new here; for others the name.
    claims : int
        Words of authors that came along.
    said : list of str
    error : OpsefError or None
        Why nothing, or not all, was taken.
    """

    what: What
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


def bring_back(project: Project, other: Project) -> list[Back]:
    """Take weights, datasets, runs, trainings, verdicts and notebooks of an unpacked bundle."""
    found: list[Back] = []
    for take in (_weights, _datasets, _runs, _trainings, _verdicts, _notebooks):
        found += take(project, other)
    return found


def settings(project: Project, other: Project) -> list[str]:
    """Say which settings of a bundle differ from those of the project; none are taken."""
    said = []
    if _config(project) != _config(other):
        said.append("opsef.yaml")
    for name in ("adopted.json", "engines.json"):
        texts = [
            file.read_bytes() if (file := one.root / name).is_file() else b""
            for one in (project, other)
        ]
        if texts[1] and texts[0] != texts[1]:
            said.append(name)
    if _choices(project, other):
        said.append("images/index.csv")
    return [f"{name} differs: that of the project stays" for name in said]


def _config(project: Project) -> Any:
    """Return the settings but for where the images are; a text that is wrong as it is."""
    text = project.config_file.read_text("utf-8") if project.config_file.is_file() else ""
    try:
        return parse_config(text).model_dump(exclude={"images": {"source"}})
    except ConfigError:
        return text


def _choices(project: Project, other: Project) -> bool:
    """Whether a person said something else of an image: group, columns, crop, include."""

    def told(one: Project) -> dict[str, Any]:
        kept = {"source": "", "series": 0, "size": 0, "mtime": 0.0, "parent": "", "gone": ""}
        return {entry.id: replace(entry, **kept) for entry in one.images()}

    ours, theirs = told(project), told(other)
    return any(ours[image] != theirs[image] for image in ours.keys() & theirs.keys())


def _weights(project: Project, other: Project) -> Iterator[Back]:
    """Take weights that are not here; the same ones get the scores that their cards lack."""
    if not other.models_folder.is_dir():
        return
    broken: list[OpsefError] = []
    here = {one.name for one in list_weights([project.models_folder])}
    for weights in weights_in(other.models_folder, warn=broken.append):
        back = Back("weights", weights.name)
        try:
            (added,) = add_from(other.models_folder, project.models_folder, [weights.name])
            back.taken += [weights.name] if added.new and weights.name not in here else []
            back.said += ["its card has more scores now"] if added.updated else []
            back.said += [added.note] if added.note else []
        except OpsefError as error:
            back.error = error
        yield back
    yield from (Back("weights", "of a card", error=error) for error in broken)


def _datasets(project: Project, other: Project) -> Iterator[Back]:
    """Take datasets that are not here, under the next number where theirs is taken."""
    for name in other.datasets():
        back = Back("dataset", name)
        try:
            known = {one: _key(project.datasets_folder / one) for one in project.datasets()}
            key = _key(other.datasets_folder / name)
            if key not in known.values():
                back.taken.append(_take_dataset(project, other.datasets_folder / name))
                if back.taken != [name]:
                    back.said.append(f"{name} is another dataset here: it is {back.taken[0]} now")
        except OpsefError as error:
            back.error = error
        yield back


def _take_dataset(project: Project, source: Path) -> str:
    """Copy a dataset and return its id here."""
    with lock(project.datasets_folder / ".lock"):
        target = project.datasets_folder / source.name
        if target.exists():
            target = project.new_dataset_folder()
        with atomic_folder(target) as partial:
            shutil.copytree(source, partial, dirs_exist_ok=True)
            card = partial / "dataset.json"
            write_json(card, read_json(card) | {"id": target.name})
    return target.name


def _runs(project: Project, other: Project) -> Iterator[Back]:
    for name in other.runs():
        yield _run(Back("run", name), project.runs_folder / name, other.runs_folder / name)


def _trainings(project: Project, other: Project) -> Iterator[Back]:
    for name in other.trainings():
        back = Back("training", name)
        yield _run(back, project.trainings_folder / name, other.trainings_folder / name)


def _run(back: Back, target: Path, source: Path) -> Back:
    """Take a run or training of which the id is free here: edits and answers name it by that."""
    try:
        with lock(target.parent / ".lock"):
            if not target.exists():
                with atomic_folder(target) as partial:
                    shutil.copytree(source, partial, dirs_exist_ok=True)
                back.taken.append(back.name)
            elif not _same_plan(target, source):
                back.said.append(f"{back.name} is another {back.what} here, which stays")
    except OpsefError as error:
        back.error = error
    return back


def _same_plan(target: Path, source: Path) -> bool:
    return _key(target, "plan.json") == _key(source, "plan.json")


def _verdicts(project: Project, other: Project) -> Iterator[Back]:
    """Take verdicts on the variants of runs that are the same here."""
    back, theirs, ours = Back("verdicts", "all"), verdicts_file(other), verdicts_file(project)
    if not theirs.is_file():
        return
    try:
        known = {row.get("request") for row in (read_csv(ours) if ours.is_file() else ())}
        new = [row for row in read_csv(theirs) if row.get("request") not in known]
        same = {
            run
            for run in set(project.runs()) & set(other.runs())
            if _same_plan(project.runs_folder / run, other.runs_folder / run)
        }
        fit = [row for row in new if row.get("run") in same]
        if fit:
            with tempfile.TemporaryDirectory() as place:
                file = Path(place) / "verdicts.csv"
                write_csv(file, fit, COLUMNS)
                back.claims = len(import_verdicts(project, file))
        if len(fit) < len(new):
            back.said.append(
                f"{len(new) - len(fit)} are on runs that are not both here and in the bundle: "
                "they stay there (--with-runs brings the runs)"
            )
    except OpsefError as error:
        back.error = error
    yield back


def _notebooks(project: Project, other: Project) -> Iterator[Back]:
    """Take notebooks, conclusions and older settings that are not here."""
    folder = other.root / "notebooks"
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        back, target = Back("notebook", name), project.root / "notebooks" / name
        if file.is_file() and not target.exists():
            with atomic_path(target) as partial:
                shutil.copyfile(file, partial)
            back.taken.append(name)
        elif file.is_file() and file.read_bytes() != target.read_bytes():
            back.said.append("differs: that of the project stays")
        yield back


def _key(folder: Path, name: str = "dataset.json") -> str:
    """Return the content key of a dataset or a plan."""
    file = folder / name
    try:
        value: Mapping[str, Any] = read_json(file)
        return str(value["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProjectError(
            f"{folder.name}/{name} cannot be understood ({error})",
            hint="Copy it again from where it is whole",
        ) from None
