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

from collections.abc import Iterator
from pathlib import Path

from opsef_bridge.engines import find_weights, verify
from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import read_json
from opsef_bridge.project import Project, Run
from opsef_bridge.train.choices import weights_named
from opsef_bridge.train.networks import Network, TrainPlan

__all__ = [
    "MADE",
    "judged_weights",
    "network_folder",
    "networks_made",
    "plan_of",
    "regions_folder",
    "score_file",
    "weights_of",
]

MADE = "made.json"
"""Says that the weights of a network are written."""


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
    if one.trained:
        return weights_of(run, one)
    found = weights_named(project, one.engine, one.weights)
    if found is None or found.key != one.weights_key:
        raise WeightsError(
            f"the weights {one.weights} are not those that were planned with",
            hint="Bring them back, or run the command again: it plans anew",
        )
    return found


def networks_made(project: Project, key: str) -> Iterator[tuple[Run, Network, bool]]:
    """Yield every network of that key in the project, those that are made first.

    With the training that it is of, and whether its weights are made.
    """
    begun = []
    for name in reversed(project.trainings()):
        run = project.training(name)
        for one in plan_of(run).networks:
            folder = network_folder(run, one.id)
            if not one.trained or one.key != key or not folder.is_dir():
                continue
            if (folder / MADE).is_file() and read_json(folder / MADE)["key"] == key:
                yield run, one, True
            else:
                begun.append((run, one, False))
    yield from begun
