"""How long a training will take: by what earlier ones took, else by what was measured once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from opsef_bridge.execute import free_cores
from opsef_bridge.execute.jobs import MEMORY
from opsef_bridge.project import Project
from opsef_bridge.train.choices import learner_of
from opsef_bridge.train.curves import read_curves
from opsef_bridge.train.dataset import read_card
from opsef_bridge.train.judging import judged_items
from opsef_bridge.train.networks import Network, TrainPlan
from opsef_bridge.train.places import network_folder, networks_made, plan_of
from opsef_bridge.train.planning import units_of

__all__ = ["Pace", "foresee", "unit_memory", "unit_seconds"]

PER_PIXEL = {
    "unet": 2.3e-6,
    "stardist": 1.0e-6,
    "cellpose": 3.0e-6,
    "fpn2ws": 2.0e-6,
    "maskrcnn": 4.2e-6,
}
"""Seconds of a step by pixel of its crops, on one core of 2025, with the standard sizes."""

PER_VOXEL = 1.8e-6
"""The same of StarDist's network for volumes, by voxel."""

PER_IMAGE, PER_SCORE, PER_REGION = 2.5, 0.5, 0.05
"""Seconds to segment an image of a few hundred px, to score it, to draw a region."""

MEGABYTES, PER_CROP_PIXEL = 1000, 0.005
"""Megabytes of a process that trains, and more for each pixel of the crops of a step: measured
were 0.0018 (FPN2-WS) to 0.0031 (Cellpose) with the standard sizes on a CPU."""

TUNING, REPORT = 20.0, 5.0
"""Seconds to choose thresholds of a network, and to write the report."""


AT_CHECKPOINT = 5.0
"""How many times as long as others a step takes after which the weights are validated and written:
8 batches are seen, without learning from them. Counts until one was measured."""


class Pace:
    """The time that is left of a training, by its steps since it was begun or resumed.

    Steps with a checkpoint take longer. They are counted apart: else the time that is left would
    grow at the first of them.

    Parameters
    ----------
    every : int
        Steps between checkpoints; the last step has one, too.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._count = {False: 0, True: 0}  # by whether there is a checkpoint
        self._seconds = {False: 0.0, True: 0.0}
        self._last: float | None = None

    def add(self, step: int, of: int, now: float) -> None:
        """Note that a step of `of` was done at the time `now` (s). The first only starts it."""
        if self._last is not None:
            marked = step % self._every == 0 or step == of
            self._count[marked] += 1
            self._seconds[marked] += now - self._last
        self._last = now

    def left(self, step: int, of: int) -> float | None:
        """Return the seconds that are left after a step; None before any was measured.

        Examples
        --------
        >>> pace = Pace(every=10)
        >>> for step in (1, 2, 3):
        ...     pace.add(step, 20, 0.5 * step)
        >>> pace.left(3, 20)
        12.5
        """
        marks = of // self._every - step // self._every + (of % self._every > 0 and step < of)
        each, long = (
            self._seconds[marked] / self._count[marked] if self._count[marked] else None
            for marked in (False, True)
        )
        if each is None:
            each = long
        if each is None:
            return None
        return each * (of - step - marks) + (AT_CHECKPOINT * each if long is None else long) * marks


def foresee(project: Project, plan: TrainPlan, workers: int | None = None) -> dict[str, Any]:
    """Say what a plan costs before it starts.

    Returns
    -------
    dict
        ``units``, ``networks``, ``new`` (that are not made yet), ``steps`` (of those),
        ``seconds``, ``workers``, ``measured`` (whether all rates come from earlier trainings).
    """
    measured = _rates(project)
    known, steps, longest, train = True, 0.0, 0.0, 0.0
    new = [one for one in plan.networks if one.trained and not _is_made(project, one)]
    for one in new:
        rate = measured.get(_size(one))
        known = known and (rate is not None or "minutes" in one.cycles)
        count, seconds = _cost(one, rate)
        steps, train, longest = steps + count, train + seconds, max(longest, seconds)
    cards = _cards(project, plan)
    images = sum(
        len(items)
        for one in plan.networks
        if not one.trained or one in new
        for items in judged_items(cards[one.dataset], one).values()
    )
    count = min(workers or free_cores(), max(len(plan.networks), 1))
    train, longest = train + TUNING * len(new), longest + TUNING * bool(new)
    judging = images * (PER_IMAGE + PER_SCORE) / count
    drawn = {one.regions_key(): one.regions for one in new if one.regions}
    drawing = sum(drawn.values()) * PER_REGION / count
    seconds = drawing + max(train / count, longest) + judging + REPORT
    return {
        "units": len(units_of(plan)),
        "networks": len(plan.networks),
        "new": len(new),
        "steps": round(steps),
        "seconds": round(seconds, 1),
        "workers": count,
        "measured": known,
    }


def unit_seconds(project: Project, plan: TrainPlan) -> dict[str, float]:
    """Return what each unit will take, by id: a cluster is asked for so much time."""
    measured = _rates(project)
    cards = _cards(project, plan)
    found = {}
    for unit in units_of(plan):
        if "network" not in unit.inputs:
            continue
        one = plan.network(unit.inputs["network"])
        images = sum(map(len, judged_items(cards[one.dataset], one).values()))
        seconds = {
            "train": lambda one=one: _cost(one, measured.get(_size(one)))[1] + TUNING,
            "train-augment": lambda one=one: one.regions * PER_REGION,
            "train-infer": lambda images=images: images * PER_IMAGE,
            "train-score": lambda images=images: images * PER_SCORE,
        }[unit.kind]()
        found[unit.id] = round(seconds, 1)
    return found


def unit_memory(plan: TrainPlan) -> dict[str, int]:
    """Return the megabytes that each unit which trains asks a cluster for at first, by id.

    None of less than `opsef_bridge.execute.jobs.MEMORY`; images are not counted.
    """
    found = {}
    for unit in units_of(plan):
        if unit.kind == "train":
            settings = _standard(plan.network(unit.inputs["network"]))
            found[unit.id] = max(MEMORY, math.ceil(MEGABYTES + PER_CROP_PIXEL * _pixels(settings)))
    return found


def _cards(project: Project, plan: TrainPlan) -> dict[str, dict[str, Any]]:
    """Return the cards of the datasets of a plan, by id: each is read once."""
    names = dict.fromkeys(one.dataset for one in plan.networks)
    return {name: read_card(project.dataset_folder(name)) for name in names}


def _is_made(project: Project, one: Network) -> bool:
    return any(done for _, _, done in networks_made(project, one.key))


def _cost(one: Network, rate: float | None) -> tuple[float, float]:
    """Return steps and seconds of a network."""
    settings = _standard(one)
    usual = PER_VOXEL if one.volumes else PER_PIXEL.get(one.engine, 3e-6)
    each = rate or usual * _pixels(settings)
    ((measure, amount),) = one.cycles.items()
    if measure == "minutes":
        return 60 * amount / each, 60 * amount
    steps = amount
    if measure == "passes":
        steps = amount * (one.regions or len(one.images)) / settings["batch"]
    return steps, steps * each


def _standard(one: Network) -> Mapping[str, Any]:
    """Return the settings of a network, those of its engine where it has none of its own."""
    standard = learner_of(one.engine, one.volumes).Settings()
    return {
        "batch": standard.batch,
        "crop": getattr(standard, "crop", 192),
        **one.settings,
    }


def _pixels(settings: Mapping[str, Any]) -> float:
    """Return the pixels, or voxels, of the crops of a step."""
    crop = settings["crop"]
    return float(
        settings["batch"] * (math.prod(crop) if isinstance(crop, tuple | list) else crop**2)
    )


def _size(one: Network) -> tuple[str, ...]:
    """What the time of a step depends on."""
    told = sorted((key, value) for key, value in one.settings.items() if key != "steps")
    return (one.engine, *(f"{key}={value}" for key, value in told))


def _rates(project: Project) -> dict[tuple[str, ...], float]:
    """Return seconds per step that earlier trainings took, the newest first."""
    found: dict[tuple[str, ...], float] = {}
    for name in project.trainings():
        run = project.training(name)
        for one in plan_of(run).networks:
            file = network_folder(run, one.id) / "curves.csv"
            rows = read_curves(file) if one.trained and file.is_file() else []
            if rows and rows[-1]["step"] and rows[-1]["seconds"]:
                found[_size(one)] = rows[-1]["seconds"] / rows[-1]["step"]
    return found
