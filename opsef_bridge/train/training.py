"""The one training loop: steps, checkpoints, curves, an early end.

A training is by steps, not by time, so that a seed gives the same weights. With a folder it
can be killed at any time: the same call goes on from the last checkpoint, and on one thread of
a CPU the weights are bit for bit those of a training that was never killed. Crops of step n
are drawn from a generator of their own, seeded by (seed, n), so it does not matter who draws
them, nor when.
"""

from __future__ import annotations

import csv
import io
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path, key_of, write_text
from opsef_bridge.train.data import Sample, checksum
from opsef_bridge.train.learner import Learner
from opsef_bridge.train.network import check_device

__all__ = ["COLUMNS", "Trained", "Training", "fit", "read_curves", "train"]

COLUMNS = ("step", "loss", "val_loss", "rate", "seconds")
"""Of ``curves.csv``: the mean loss since the row before; that on the validation crops, where
it was taken; the learning rate; seconds of training so far."""

VALIDATION = 2**31
"""Seeds of the validation crops start here, where no step has its own."""

VAL_BATCHES = 8
"""Batches of the validation loss: always the same crops."""

ROWS = 10
"""Rows of the curves for every checkpoint."""

Report = Callable[[int, float], None]


class Training:
    """A network that learns, between two steps.

    Parameters
    ----------
    learner : Learner
    network : nn.Module
        Is changed.
    settings
        Of the learner.

    Attributes
    ----------
    step : int
        Steps that are done.
    """

    def __init__(self, learner: Learner, network: nn.Module, settings: Any) -> None:
        self.learner, self.settings = learner, settings
        self.network = network.to(settings.device, memory_format=torch.channels_last).train()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), weight_decay=settings.weight_decay
        )
        self.step = 0

    def advance(self, batch: tuple[Any, ...]) -> float:
        """Learn from one batch; return its loss."""
        rate = self.learner.rate(self.step, self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        value = self.learner.loss(self.network, batch, self.settings)
        self.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        clip = getattr(self.settings, "clip", None)
        if clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), clip)
        self.optimiser.step()
        self.step += 1
        return value.item()

    def state(self) -> dict[str, Any]:
        """Return all that decides the next steps."""
        cuda = torch.cuda.get_rng_state_all() if self.settings.device == "cuda" else None
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": cuda,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back, or forth, to a `state`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state_all(state["cuda"])


@dataclass(frozen=True)
class Trained:
    """What `train` ends with.

    Parameters
    ----------
    network : nn.Module
        On the CPU, ready to predict: that of the best validation loss, or of the last step
        where there is nothing to validate on.
    settings
        Of the learner, with the sizes of the network.
    steps : int
        That were done.
    best_step : int
        After which these weights were taken.
    val_loss : float or None
        There.
    seconds : float
    early : bool
        Whether it ended because the validation loss no longer fell.
    """

    network: nn.Module
    settings: Any
    steps: int
    best_step: int
    val_loss: float | None
    seconds: float
    early: bool


def fit(
    learner: Learner,
    samples: Sequence[Sample],
    settings: Any,
    report: Report = lambda step, loss: None,
    *,
    start: nn.Module | None = None,
) -> nn.Module:
    """Train a network in one go, without a folder, and return it, ready to predict.

    Parameters
    ----------
    learner : Learner
    samples : sequence of Sample
    settings
        Of the learner.
    report : callable, optional
        Called after every step with its number (from 1) and its loss.
    start : nn.Module, optional
        A network to go on from (it is changed); a fresh one by default.

    Raises
    ------
    InputError
        These samples cannot be learned from by these settings.
    WorkerError
        torch cannot use the device.
    """
    learner.check(samples, settings)
    check_device(settings.device)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    examples = learner.examples(samples)
    network = learner.network(settings, examples) if start is None else start
    training = Training(learner, network, settings)
    for step in range(settings.steps):
        report(step + 1, training.advance(learner.batch(rng, examples, settings)))
    return training.network.cpu().eval()


def train(
    learner: Learner,
    samples: Sequence[Sample],
    settings: Any,
    folder: Path,
    *,
    val: Sequence[Sample] = (),
    start: Callable[[], nn.Module] | None = None,
    origin: str = "",
    every: int = 100,
    patience: int | None = None,
    loaders: int = 0,
    report: Report = lambda step, loss: None,
) -> Trained:
    """Train a network with checkpoints in `folder`, or go on with what lies there.

    Parameters
    ----------
    learner : Learner
    samples : sequence of Sample
    settings
        Of the learner.
    folder : Path
        For ``checkpoint.pt``, ``curves.csv`` and ``curves.png``.
    val : sequence of Sample, optional
        What the weights are chosen on: those of the checkpoint with the least loss are
        returned.
    start : callable, optional
        Returns the network to go on from; a fresh one by default.
    origin : str
        sha256 of the weights that `start` reads: part of what makes it the same training.
    every : int
        Steps between checkpoints: as many may be lost when it is killed.
    patience : int, optional
        End after so many checkpoints in a row without a smaller validation loss.
    loaders : int
        Threads that draw crops ahead, for a network on a GPU. The crops are the same.
    report : callable, optional
        Called after every step with its number (from 1) and its loss; what it raises ends
        the training, and the next call goes on from the last checkpoint.

    Raises
    ------
    InputError
        These samples cannot be learned from by these settings, or `folder` holds another
        training.
    WorkerError
        torch cannot use the device.
    """
    learner.check(samples, settings)
    _check_ways(val, every, patience)
    check_device(settings.device)
    key = key_of(learner.engine, asdict(settings), checksum(samples), checksum(val), origin)
    torch.manual_seed(settings.seed)
    examples = learner.examples(samples)
    network = learner.network(settings, examples) if start is None else start()
    training = Training(learner, network, settings)
    course = _Course(folder / "checkpoint.pt", key, training)
    validation = _validation(learner, val, settings)
    losses: list[float] = []
    row = max(1, every // ROWS)
    try:
        with closing(_batches(learner, examples, settings, training.step, loaders)) as batches:
            while training.step < settings.steps and not course.ended(patience):
                rate = learner.rate(training.step, settings)
                loss = training.advance(next(batches))
                losses.append(loss)
                at_checkpoint = training.step % every == 0 or training.step == settings.steps
                if training.step % row == 0 or at_checkpoint:
                    course.add(float(np.mean(losses)), rate)
                    losses.clear()
                if at_checkpoint:
                    course.judge(validation(training.network))
                    course.write()
                report(training.step, loss)
    finally:
        course.draw()
    best = course.best
    network.load_state_dict(best["network"])
    return Trained(
        network.cpu().eval(), settings, training.step, best["step"], best["val_loss"],
        course.seconds, training.step < settings.steps,
    )  # fmt: skip


def read_curves(file: Path) -> list[dict[str, float | None]]:
    """Return the rows of a ``curves.csv``: by column a number, or None where there is none."""
    with file.open(newline="", encoding="utf-8") as lines:
        return [
            {name: float(cell) if cell else None for name, cell in row.items()}
            for row in csv.DictReader(lines)
        ]


def _check_ways(val: Sequence[Sample], every: int, patience: int | None) -> None:
    if every < 1:
        raise InputError(f"a checkpoint every {every} steps", hint="Give 1 or more")
    if patience is not None and (patience < 1 or not val):
        raise InputError(
            f"patience {patience} with {len(val)} validation samples",
            hint="To end early takes a patience of 1 or more, and samples to validate on",
        )


class _Course:
    """How a training went so far, as its checkpoint has it.

    The rows of the curves lie in the checkpoint: so those of steps that were lost, and done
    again, stand there once.
    """

    def __init__(self, file: Path, key: str, training: Training) -> None:
        self._file, self._key, self._training = file, key, training
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"step": 0, "val_loss": None, "network": None}
        self._since = 0  # checkpoints since the best
        self._before = 0.0
        if file.is_file():
            self._read()
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def add(self, loss: float, rate: float) -> None:
        """Add a row to the curves."""
        values = (self._training.step, loss, None, rate, round(self.seconds, 3))
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))

    def judge(self, val_loss: float | None) -> None:
        """Keep the weights if they are the best so far."""
        self.rows[-1]["val_loss"] = val_loss
        least = self.best["val_loss"]
        self._since += 1
        if val_loss is None or least is None or val_loss < least:
            self._since = 0
            weights = {
                name: value.detach().cpu().clone()
                for name, value in self._training.network.state_dict().items()
            }
            step = self._training.step
            self.best = {"step": step, "val_loss": val_loss, "network": weights}

    def ended(self, patience: int | None) -> bool:
        """Whether to wait for a smaller loss no longer."""
        return patience is not None and self._since >= patience

    def write(self) -> None:
        """Write checkpoint and curves, each at once or not at all."""
        content = {
            "key": self._key,
            "training": self._training.state(),
            "best": self.best,
            "since": self._since,
            "rows": self.rows,
            "seconds": self.seconds,
        }
        with atomic_path(self._file) as partial:
            torch.save(content, partial)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._file.with_name("curves.csv"), text.getvalue())

    def draw(self) -> None:
        """Draw the curves so far. It takes as long as some steps: not at every checkpoint."""
        from opsef_bridge.train.curves import draw_curves

        if self.rows:
            draw_curves(self.rows, self._file.with_name("curves.png"))

    def _read(self) -> None:
        try:
            content = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:  # of pickle, zip or torch: it is one of a program that broke
            raise InputError(
                f"{self._file} cannot be read ({error})", hint="Delete it to begin anew"
            ) from error
        if content["key"] != self._key:
            raise InputError(
                f"{self._file} is of a training of other images, settings or first weights",
                hint="Take another folder, or delete it to begin anew",
            )
        self._training.restore(content["training"])
        self.best, self._since = content["best"], content["since"]
        self.rows, self._before = content["rows"], content["seconds"]


def _batches(
    learner: Learner, examples: Sequence[Any], settings: Any, start: int, loaders: int
) -> Iterator[tuple[Any, ...]]:
    """Give the batches of the steps from `start` on; threads draw them ahead, if there are some."""

    def draw(step: int) -> tuple[Any, ...]:
        return learner.batch(np.random.default_rng([settings.seed, step]), examples, settings)

    steps = range(start, settings.steps)
    if not loaders:
        yield from map(draw, steps)
        return
    with ThreadPoolExecutor(loaders) as pool:
        ahead: deque[Future[tuple[Any, ...]]] = deque()
        try:
            for step in steps:
                ahead.append(pool.submit(draw, step))
                if len(ahead) > 2 * loaders:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for batch in ahead:
                batch.cancel()


def _validation(
    learner: Learner, val: Sequence[Sample], settings: Any
) -> Callable[[nn.Module], float | None]:
    """Return what takes the mean loss of a network on crops of `val`: always the same ones."""
    if not val:
        return lambda network: None
    learner.check(val, settings)
    examples = learner.examples(val)
    seeds = ([settings.seed, VALIDATION + n] for n in range(VAL_BATCHES))
    batches = [learner.batch(np.random.default_rng(seed), examples, settings) for seed in seeds]

    def take(network: nn.Module) -> float:
        # Some losses draw places themselves; what they draw here must not change the training.
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(settings.seed)
            network.eval()
            losses = [learner.loss(network, batch, settings).item() for batch in batches]
            network.train()
        return float(np.mean(losses))

    return take
