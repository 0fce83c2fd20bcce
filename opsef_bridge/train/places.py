"""Where the files of a training lie, and what of them was made by which key.

::

    trainings/<training>/networks/<network>/   checkpoint.pt, curves.csv, curves.png, steps.json,
                                               progress.json; made.json when its weights are there
    trainings/<training>/models/               candidates: weights and cards
    trainings/<training>/regions/<key>/        regions that several networks share
    trainings/<training>/labels/<network>/     what each found
    trainings/<training>/scores/<network>.json
    trainings/<training>/tables/, figures/, report.html
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from opsef_bridge.engines import find_weights, verify
from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import InputError, OpsefError, WeightsError
from opsef_bridge.files import read_json
from opsef_bridge.project import Project, Run
from opsef_bridge.train.choices import weights_named
from opsef_bridge.train.dataset import read_card
from opsef_bridge.train.networks import Network, TrainPlan

__all__ = [
    "MADE",
    "dataset_planned",
    "file_outside",
    "judged_weights",
    "network_folder",
    "networks_made",
    "outcomes_made",
    "plan_of",
    "regions_folder",
    "score_file",
    "weights_of",
    "weights_planned",
]

MADE = "made.json"
"""Says that the weights of a network are written."""

REMEMBERED = 1024
"""Trainings of which a process keeps in mind what they have made."""


def plan_of(run: Run) -> TrainPlan:
    """Return the plan of a training."""
    return TrainPlan.from_json(run.plan())


def network_folder(run: Run, network: str) -> Path:
    """Return the folder of checkpoints and curves of a network."""
    return run.root / "networks" / network


def regions_folder(run: Run, key: str) -> Path:
    """Return the folder of regions of that key."""
    return run.root / "regions" / key[:16]


def score_file(run: Run, network: str) -> Path:
    """Return the file of the scores of a network."""
    return run.root / "scores" / f"{network}.json"


def dataset_planned(project: Project, one: Network) -> tuple[Path, dict[str, Any]]:
    """Return folder and card of the dataset of a network.

    Raises
    ------
    NotFoundError, ProjectError
        It is gone, or its card cannot be understood.
    InputError
        It is another one than was planned with.
    """
    folder = project.dataset_folder(one.dataset)
    card = read_card(folder)
    if card["key"] != one.content:
        raise InputError(
            f"{one.dataset} is another dataset than the one that was planned with",
            hint="Bring that back, or run the command again: it plans anew",
        )
    return folder, card


def weights_of(run: Run, one: Network) -> Weights:
    """Return the candidate that a training has made.

    Raises
    ------
    WeightsError
        It is not there, or was changed.
    """
    models = run.root / "models"
    if not models.is_dir():
        raise WeightsError(f"{run.id} has no candidate {one.candidate!r} yet", hint=f"See {run.id}")
    found = find_weights(one.engine, one.candidate, [models])
    verify(found)
    return found


def judged_weights(project: Project, run: Run, one: Network) -> Weights:
    """Return the weights that are judged: a candidate, or those of a baseline.

    Raises
    ------
    WeightsError
        They are gone, or others than those that were planned with.
    """
    return weights_of(run, one) if one.trained else weights_planned(project, one)


def file_outside(project: Project, weights: Weights) -> str:
    """Return the file of weights that their name does not lead to; else the empty string."""
    if weights.path is None:
        return ""
    try:
        found = weights_named(project, weights.engine, weights.name)
    except OpsefError:
        found = None
    return "" if found and found.key == weights.key else str(weights.path.resolve())


def weights_planned(project: Project, one: Network) -> Weights:
    """Return the weights that a network starts from, or that a baseline is.

    Raises
    ------
    WeightsError
        They are gone, or others than those that were planned with.
    """
    found = weights_named(project, one.engine, one.file or one.weights)
    if found is None or found.key != one.weights_key:
        raise WeightsError(
            f"the weights {one.weights} are not those that were planned with",
            hint="Bring them back, or run the command again: it plans anew",
        )
    return found


def networks_made(project: Project, key: str) -> Iterator[tuple[Run, Network, bool]]:
    """Yield every network of that key in the project, those that are made first.

    With the training that it is of, and whether its weights are made. It is asked for every
    unit: what a plan or a unit says is read once in a process, and again when its file changes.
    """
    begun = []
    for run in _newest_first(project):
        for id_ in _networks_by_key(run).get(key, ()):
            folder = network_folder(run, id_)
            if not folder.is_dir():
                continue
            one = plan_of(run).network(id_)
            if (folder / MADE).is_file() and read_json(folder / MADE)["key"] == key:
                yield run, one, True
            else:
                begun.append((run, one, False))
    yield from begun


def outcomes_made(
    project: Project, keys: Collection[str], without: str
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return label file and outcome of what trainings have made by these keys, the newest first.

    Parameters
    ----------
    project : Project
    keys : collection of str
        Of what ``train-infer`` segments.
    without : str
        Id of a training that does not count.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for run in _newest_first(project):
        if run.id == without:
            continue
        units = _units_by_key(run)
        left = [key for key in keys if key in units and key not in found]
        for unit in sorted({unit for key in left for unit in units[key]}):
            for outcome in _finished(run.unit_file(unit)):
                file = run.label_file(outcome["variant"], outcome["image"])
                if outcome["key"] in keys and file.is_file():
                    found.setdefault(outcome["key"], (file, outcome))
    return found


def _newest_first(project: Project) -> list[Run]:
    return [Run(project.trainings_folder / name) for name in reversed(project.trainings())]


Stamp = tuple[tuple[str, int, int], ...]
"""Names, times of change and sizes of files: others when what they hold is another."""


def _networks_by_key(run: Run) -> dict[str, list[str]]:
    """Return the ids of the networks of a training that are trained, by key."""
    state = run.plan_file.stat()
    return _keys_of_plan(run.root, ((run.plan_file.name, state.st_mtime_ns, state.st_size),))


@lru_cache(maxsize=REMEMBERED)
def _keys_of_plan(root: Path, stamp: Stamp) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in plan_of(Run(root)).networks:
        if one.trained:
            found.setdefault(one.key, []).append(one.id)
    return found


def _units_by_key(run: Run) -> dict[str, list[str]]:
    """Return the units that have a finished outcome, by its key."""
    folder = run.unit_file("u").parent
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        # Files that are being written begin with a dot, and may be gone by now.
        records = [one for one in entries if one.name[0] == "u" and one.name.endswith(".json")]
        files = [(one.name, one.stat()) for one in records]
    stamp = sorted((name, state.st_mtime_ns, state.st_size) for name, state in files)
    return _keys_of_units(folder, tuple(stamp))


@lru_cache(maxsize=REMEMBERED)
def _keys_of_units(folder: Path, stamp: Stamp) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, _, _ in stamp:
        for outcome in _finished(folder / name):
            found.setdefault(outcome["key"], []).append(Path(name).stem)
    return found


def _finished(file: Path) -> list[dict[str, Any]]:
    """Return the outcomes in the file of a unit that did not fail."""
    return [one for one in read_json(file)["outcomes"] if one["status"] != "failed"]
