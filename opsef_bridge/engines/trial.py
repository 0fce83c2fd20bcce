"""Whether an engine can run a set of weights: it is tried, in a process of its own.

A network that was made for something else may bring down the process that runs it, and
TensorFlow and torch cannot share one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import engine_class, verify
from opsef_bridge.errors import OpsefError, WeightsError
from opsef_bridge.workers import Worker, WorkerDied

__all__ = ["Trial", "as_json", "segment_square", "try_engine", "try_out"]

TARGET = "opsef_bridge.engines.trial:segment_square"

SECONDS = 300
"""How long a trial may take; starting TensorFlow can take 30."""

SHAPES = {"YX": (64, 64), "YXS": (64, 64, 3), "ZYX": (16, 64, 64)}
"""Shapes of the image that is segmented, by its axes."""

CPU = {"CUDA_VISIBLE_DEVICES": "-1"}
"""A trial is no reason to take hold of a GPU."""


@dataclass(frozen=True)
class Trial:
    """What came of a trial.

    ``ok``: the engine ran and found `objects`; ``absent``: a package that it needs is not
    installed; ``broken``: it failed, or its process died.
    """

    state: Literal["ok", "absent", "broken"]
    objects: int = 0
    message: str = ""
    hint: str = ""


def try_engine(weights: Weights) -> Trial:
    """Let the engine of `weights` load them and segment a small square; never raises.

    This happens in a process that is started for it and ended after it. Engines in other
    interpreters have such a process already.
    """
    given = as_json(weights)
    if hasattr(engine_class(weights.engine), "far"):  # an `ExternalEngine`
        return Trial(**segment_square(given))
    with Worker(environment=CPU) as worker, _time_limit(worker) as late:
        try:
            return Trial(**worker.call(TARGET, {"weights": given}))
        except WorkerDied as error:
            why = f"it took more than {SECONDS} s" if late.is_set() else error.message
            return Trial(
                "broken",
                message=f"its process died: {why}",
                hint="The file is broken or made for something else, or memory is too small",
            )
        except OpsefError as error:
            return Trial("broken", message=error.message, hint=error.hint)


@contextlib.contextmanager
def _time_limit(worker: Worker) -> Iterator[threading.Event]:
    """End `worker` when its time is over; yield what tells whether it was."""
    late = threading.Event()

    def end() -> None:
        late.set()
        worker.kill()

    timer = threading.Timer(SECONDS, end)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def as_json(weights: Weights) -> dict[str, Any]:
    """Return the fields of `weights` as they go to another process."""
    return {
        "name": weights.name,
        "engine": weights.engine,
        "path": str(weights.path.resolve()) if weights.path else None,
        "sha256": weights.sha256,
        "card": weights.card,
    }


def segment_square(weights: dict[str, Any], progress: Any = None) -> dict[str, Any]:
    """Load weights and segment a square (a cube): what a trial does in its process.

    Parameters
    ----------
    weights : dict
        Of `as_json`.
    progress : callable, optional
        Of the worker; not used.

    Returns
    -------
    dict
        The fields of a `Trial`.
    """
    path = weights["path"]
    given = Weights(**{**weights, "path": Path(path) if path else None})
    try:
        verify(given)
        engine = engine_class(given.engine)()
        engine.load(given)
        axes = next(axes for axes in SHAPES if axes in engine.axes)
        image = np.zeros(SHAPES[axes], np.float32)
        image[tuple(slice(side // 4, -(side // 4) or None) for side in image.shape)] = 1
        labels = engine.decode(engine.predict(image, engine.Predict()), engine.Decode())
        trial = Trial("ok", int(labels.max()))
    except OpsefError as error:
        # What an extra would bring is no fault of the file.
        state = "absent" if isinstance(error.__cause__, ImportError) else "broken"
        trial = Trial(state, message=error.message, hint=error.hint)
    except Exception as error:  # of a network that was made for something else: any
        trial = Trial("broken", message=f"{type(error).__name__}: {error}")
    return asdict(trial)


def try_out(weights: Weights) -> str:
    """Try `weights` with their engine before they are taken.

    Returns
    -------
    str
        Empty; or why they could not be tried here: a package is not installed.

    Raises
    ------
    NotFoundError
        The engine is not installed.
    WeightsError
        It takes no weights, or cannot run these.
    """
    if not engine_class(weights.engine).needs_weights:
        raise WeightsError(
            f"the engine {weights.engine!r} takes no weights", hint="Name another engine"
        )
    trial = try_engine(weights)
    if trial.state == "absent":
        return f"Not tried: {trial.message}. {trial.hint}"
    if trial.state == "broken":
        raise WeightsError(
            f"the engine {weights.engine!r} cannot run {weights.path.name} "
            f"({' '.join(trial.message.split())})",
            hint=trial.hint or "Name another engine, or bring a network that it is made for",
        )
    return ""
