"""Training from corrections, and the use of what came of it: kinds ``train`` and ``promote``.

A training is cut off at a checkpoint; the same request, sent again, goes on from there.
"""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from opsef_bridge.engines import list_weights
from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import InputError
from opsef_bridge.execute import Event
from opsef_bridge.project import Project
from opsef_bridge.service.parameters import Name, Words
from opsef_bridge.service.states import log_of
from opsef_bridge.train.choices import RANDOM, SHIPPED, check_candidate, weights_folders
from opsef_bridge.train.corrections import CorrectionWish, train_from_corrections
from opsef_bridge.train.dataset_sources import find_in_project
from opsef_bridge.train.promote import candidates, promote
from opsef_bridge.workers import Progress, Worker

if TYPE_CHECKING:
    from opsef_bridge.service.kinds import Task

__all__ = [
    "LEAST",
    "TRAINABLE",
    "PromoteParameters",
    "TrainParameters",
    "check_training",
    "promoted",
    "told_of_promotion",
    "told_of_training",
    "training_facts",
]

TRAINABLE = ("unet", "stardist", "cellpose", "fpn2ws", "maskrcnn")
"""Engines whose networks can be trained: known here without torch."""

LEAST = 3
"""Images that must be vouched for: to learn from, to choose thresholds, to judge by."""

FIRST = "nuclei-unet"
"""Weights to start from where none are adopted: the quickest to train."""

WeightsName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class LearnerNumbers(BaseModel):
    """Settings of a training that a request may name: numbers, no file to read.

    What an engine does not have is refused when its training is planned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    crop: Annotated[int, Field(ge=16, le=4096)] | None = None
    width: Annotated[int, Field(ge=1, le=1024)] | None = None
    depth: Annotated[int, Field(ge=1, le=8)] | None = None
    rate: Finite | None = None
    warm_up: Annotated[int, Field(ge=0, le=1_000_000)] | Finite | None = None
    weight_decay: Finite | None = None


class TrainParameters(BaseModel):
    """As `opsef_bridge.train.corrections.CorrectionWish` has them; weights by name, no paths.

    One of `minutes` (10 by default), `steps` and `passes` says for how long. `rehearse` names the
    bundled images that are learned from besides; without it those of fluorescence where the
    training starts from weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: WeightsName = SHIPPED
    engine: Literal["unet", "stardist", "cellpose", "fpn2ws", "maskrcnn"] | None = None
    minutes: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] | None = None
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    passes: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    latest: bool = False
    images: Annotated[list[Name], Field(max_length=10_000)] = []
    val: Share = 0.2
    test: Share = 0.2
    augmentation: Words = "opsef"
    settings: LearnerNumbers = LearnerNumbers()
    name: WeightsName | None = None
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    every: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    device: Literal["auto", "cpu", "cuda"] = "auto"
    rehearse: Literal["none", "fluorescence", "all"] | None = None
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> TrainParameters:
        if sum(one is not None for one in (self.minutes, self.steps, self.passes)) > 1:
            raise ValueError("give one of minutes, steps, passes")
        if self.val + self.test >= 1:
            raise ValueError("val and test leave nothing to learn from")
        if self.start in (RANDOM, SHIPPED) and self.engine is None:
            raise ValueError("name an engine, or weights to start from")
        return self

    def cycles(self) -> dict[str, float]:
        """Return for how long."""
        given = {"minutes": self.minutes, "steps": self.steps, "passes": self.passes}
        chosen = {name: float(value) for name, value in given.items() if value is not None}
        return chosen or {"minutes": 10.0}


class PromoteParameters(BaseModel):
    """A candidate of a training (the newest that has it); `to`: its name in ``models/``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: WeightsName
    training: Name | None = None
    to: WeightsName | None = None
    force: bool = False


def check_training(project: Project, given: TrainParameters) -> None:
    """Refuse at once what could not begin, before it waits for its turn.

    Raises
    ------
    InputError
        torch is not installed here, there are no such weights, they are of another engine or
        of one that cannot be trained, or the name is taken.
    """
    if not _has_torch():
        raise InputError(
            "the service cannot train: torch is not installed where it runs",
            hint="Ask who runs it for: pip install 'opsef_bridge[train]'",
        )
    if given.start not in (RANDOM, SHIPPED):
        known = {one.name: one.engine for one in _trainable(project)}
        if given.start not in known:
            raise InputError(
                f"there are no weights {given.start!r} that could be trained on",
                hint=f"Choose of {', '.join(known)}",
            )
        if given.engine not in (None, known[given.start]):
            raise InputError(
                f"{given.start} is of {known[given.start]}, not of {given.engine}",
                hint="Leave the engine out",
            )
    if given.name:
        check_candidate(project, given.name)


def training_facts(project: Project) -> dict[str, Any]:
    """Return what a person chooses of before a training.

    Returns
    -------
    dict
        ``able``; ``weights`` to start from, each its ``name`` and ``engine``; ``start``: the
        first choice, those of the adopted variant if they can be trained; ``vouched`` and
        ``newest``: images that are vouched for, or would be with all newest revisions;
        ``least``: how many are needed; ``candidates``, each ``name``, ``training``, ``engine``.
    """
    weights = _trainable(project)
    names = [one.name for one in weights]
    adopted = [str(one.get("weights") or "") for one in project.adopted().values()]
    first = next((name for name in (*adopted, FIRST, *names) if name in names), "")
    return {
        "able": _has_torch(),
        "weights": [{"name": one.name, "engine": one.engine} for one in weights],
        "start": first,
        "vouched": len(find_in_project(project)),
        "newest": len(find_in_project(project, revisions=True)),
        "least": LEAST,
        "candidates": [
            {"name": one.candidate, "training": run.id, "engine": one.engine}
            for run, one in candidates(project)
        ],
    }


def told_of_training(task: Task, given: TrainParameters) -> dict[str, Any]:
    """Train and judge; return the summary of it.

    It is planned in a process of its own, too: that takes torch, and this process may be one
    that does all requests of an inbox, also such as bring TensorFlow.

    Returns
    -------
    dict
        As `opsef_bridge.train.corrections.train_from_corrections`; ``report`` is relative to
        the project; ``said``: all that a person reads.

    Raises
    ------
    OpsefError
        As `check_training` and `train_from_corrections`.
    """
    check_training(task.project, given)
    wish = CorrectionWish(
        start=given.start, engine=given.engine or "", cycles=given.cycles(),
        latest=given.latest, images=tuple(given.images), shares=(given.val, given.test),
        augmentation=given.augmentation, settings=given.settings.model_dump(exclude_none=True),
        name=given.name or "", seed=given.seed, every=given.every, device=given.device,
        workers=given.workers, author=task.author, rehearse=given.rehearse or "",
    )  # fmt: skip
    told: dict[str, Any] = _apart(task, "corrected", {"wish": asdict(wish)})
    return told | {"said": [*told["words"], *told["remarks"]]}


def corrected(project: str, wish: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Train from corrections in a worker; see `told_of_training`."""
    opened = Project(Path(project))
    told = train_from_corrections(
        opened,
        CorrectionWish(**wish),
        lambda event: progress(event.message, event.done, event.total),
    )
    return told | {"report": Path(told["report"]).relative_to(opened.root).as_posix()}


def told_of_promotion(task: Task, given: PromoteParameters) -> dict[str, Any]:
    """Compare a candidate with its parent, and make it a model of the project.

    It happens in a process of its own: an engine may bring what does not go with torch.

    Returns
    -------
    dict
        ``name``, ``engine``, ``training``, ``dataset``, ``images``, ``parent``, ``rows`` (as
        `opsef_bridge.train.promote.Promoted` has them), ``new``; ``said``: the comparison and
        what to do next.

    Raises
    ------
    OpsefError
        As `opsef_bridge.train.promote.promote`.
    """
    told: dict[str, Any] = _apart(task, "promoted", {"given": given.model_dump()})
    return told


def promoted(project: str, given: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Promote in a worker; see `told_of_promotion`."""
    done = promote(
        Project(Path(project)), given["name"], training=given["training"], to=given["to"],
        force=given["force"],
        report=lambda event: progress(event.message, event.done, event.total),
    )  # fmt: skip
    told = asdict(done)
    del told["file"]
    engine = next(one.engine for one in list_weights([done.file.parent]) if one.name == done.name)
    news = f"{done.name} is a model of the project" + ("" if done.new else ", as it was before")
    line = f"{done.name}: {{engine: {engine}, weights: {done.name}}}"
    return told | {
        "engine": engine,
        "said": [
            news,
            done.words,
            f"Below models in opsef.yaml, for the next sweep: {line}",
            *done.remarks,
        ],
    }


def _apart(task: Task, function: str, arguments: dict[str, Any]) -> Any:
    """Call a function of this module in a process of its own; what it prints is in the log."""

    def tell(message: str, done: int, of: int) -> None:
        task.tell(Event(done, of, message))

    with Worker() as worker:
        return worker.call(
            f"{__name__}:{function}", {"project": str(task.project.root), **arguments},
            on_progress=tell, log=log_of(task.project, task.id),
        )  # fmt: skip


def _trainable(project: Project) -> list[Weights]:
    """Return the weights that are here and of an engine that can be trained."""
    return [
        one
        for one in list_weights(weights_folders(project))
        if one.engine in TRAINABLE and one.path is not None and one.path.is_file()
    ]


def _has_torch() -> bool:
    """Tell whether torch is installed, without importing it into the service."""
    return importlib.util.find_spec("torch") is not None
