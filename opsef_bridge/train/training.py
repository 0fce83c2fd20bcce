"""The one training loop: steps, checkpoints, curves, an early end.

A training is by steps, not by time, so that a seed gives the same weights. With a folder it
can be killed at any time: the same call goes on from the last checkpoint, and on one thread of
a CPU the weights are bit for bit those of a training that was never killed. Crops of step n
are drawn from a generator of their own, seeded by (seed, n), so it does not matter who draws
them, nor when.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from opsef_bridge.errors import InputError
from opsef_bridge.files import key_of
from opsef_bridge.train.course import Course
from opsef_bridge.train.data import Sample, checksum
from opsef_bridge.train.learner import Learner
from opsef_bridge.train.network import check_device

__all__ = ["Trained", "Training", "fit", "train"]

VALIDATION = 2**31
"""Seeds of the validation crops start here, where no step has its own."""

VAL_BATCHES = 8
"""Batches of the validation loss: always the same crops."""

ROWS = 10
"""Rows of the curves for every checkpoint."""

Report = Callable[[int, float], None]

Loss = TypeVar("Loss", float, "float | None")


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
        # Of volumes it is slower on a CPU (1.36 s a step, 1.12 s without).
        planes = all(part.ndim <= 4 for part in network.parameters())
        order = torch.channels_last if planes else torch.preserve_format
        self.network = network.to(settings.device, memory_format=order).train()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), weight_decay=settings.weight_decay
        )
        self.step = 0

    def advance(self, batch: tuple[Any, ...]) -> float:
        """Learn from one batch; return its loss.

        Raises
        ------
        InputError
            The loss is no finite number any more.
        """
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
        return _finite(value.item(), "loss", self.step)

    def state(self) -> dict[str, Any]:
        """Return all that decides the next steps."""
        cuda = torch.cuda.get_rng_state() if self._on_gpu else None
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch": torch.get_rng_state(),
            "cuda": cuda,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back, or forth, to a `state`, which may be of a training on another device."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        torch.set_rng_state(state["torch"])
        if self._on_gpu and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"])

    @property
    def _on_gpu(self) -> bool:
        return bool(self.settings.device == "cuda")


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
    tensorboard: bool = False,
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
    tensorboard : bool
        Whether to write an event file beside the curves, too.
    report : callable, optional
        Called after every step with its number (from 1) and its loss; what it raises ends
        the training, and the next call goes on from the last checkpoint.

    Raises
    ------
    InputError
        These samples cannot be learned from by these settings, or `folder` holds another
        training; or a loss is no finite number any more.
    WorkerError
        torch cannot use the device, or the package ``tensorboard`` is not installed.
    """
    learner.check(samples, settings)
    _check_ways(val, every, patience)
    check_device(settings.device)
    # On which device it learns may change on the way; its weights are others then, bit for bit.
    told = asdict(replace(settings, device="cpu"))
    key = key_of(learner.engine, told, checksum(samples), checksum(val), origin)
    torch.manual_seed(settings.seed)
    examples = learner.examples(samples)
    network = learner.network(settings, examples) if start is None else start()
    training = Training(learner, network, settings)
    course = Course(folder, key, training, tensorboard=tensorboard)
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
                    judged = validation(training.network)
                    course.judge(_finite(judged, "validation loss", training.step))
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


def _finite(loss: Loss, name: str, step: int) -> Loss:
    """Return a loss. One that is NaN or infinite never comes back: no weights are left."""
    if loss is not None and not math.isfinite(loss):
        raise InputError(
            f"the {name} of step {step} is {loss:g}: the weights are lost",
            hint="Train with a smaller rate, such as a tenth: rate=0.0002",
        )
    return loss


def _check_ways(val: Sequence[Sample], every: int, patience: int | None) -> None:
    if every < 1:
        raise InputError(f"a checkpoint every {every} steps", hint="Give 1 or more")
    if patience is not None and (patience < 1 or not val):
        raise InputError(
            f"patience {patience} with {len(val)} validation samples",
            hint="To end early takes a patience of 1 or more, and samples to validate on",
        )


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
