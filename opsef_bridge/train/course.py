"""How a training went so far: its checkpoint, from which it goes on, and its curves.

::

    checkpoint.pt    key           of the training, see `opsef_bridge.train.training.train`
                     training      `Resumable.state`: network, optimiser, generators, step
                     best          step, val_loss and network of the weights to keep
                     since         checkpoints since those
                     rows          of the curves
                     seconds       of training, without the time in which it stood still
    curves.csv       the rows, for people
    curves.png       their picture
    events.out.*     the same for TensorBoard, where it is asked for

The checkpoint is the truth, the curves are written from it. Each file is written at once or
not at all, so a training may be killed at any time: the next `Course` of the folder goes on
from the last checkpoint. The rows of steps that were lost, and are done again, stand there
once, because they come from the checkpoint, too.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from opsef_bridge.engines.untrusted import first_line
from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path
from opsef_bridge.train.curves import COLUMNS, draw_curves, write_curves
from opsef_bridge.train.events import EventFile

__all__ = ["CHECKPOINT", "Course", "Resumable"]

CHECKPOINT = "checkpoint.pt"


class Resumable(Protocol):
    """What a course keeps of a training: `opsef_bridge.train.training.Training` is one."""

    network: nn.Module
    step: int

    def state(self) -> dict[str, Any]:
        """Return all that decides the next steps: tensors, numbers, text, and dicts of them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go back, or forth, to a `state`."""


class Course:
    """The way of one training, in one folder.

    Made before the first step: what lies in the folder is taken up, and `training` is as it
    was at the last checkpoint. From then on, after some steps `add`; at a checkpoint, after
    `add`, `judge` and `write`; at the end, also after an error, `draw`. One process at a time
    may have the course of a folder.

    Parameters
    ----------
    folder : Path
        Of `CHECKPOINT` and the curves.
    key : str
        Of the training: a checkpoint of another key is refused.
    training : Resumable
        Is changed where there is a checkpoint.
    tensorboard : bool
        Whether to write an event file, too.

    Attributes
    ----------
    rows : list of dict
        Of the curves, by `opsef_bridge.train.curves.COLUMNS`.
    best : dict
        ``step``, ``val_loss`` and ``network``, a state on the CPU: the weights to keep. Before
        the first checkpoint ``network`` is None.

    Raises
    ------
    InputError
        The checkpoint cannot be read, or is of another training.
    WorkerError
        The package ``tensorboard`` is asked for and not installed.
    """

    def __init__(
        self, folder: Path, key: str, training: Resumable, *, tensorboard: bool = False
    ) -> None:
        self._folder, self._key, self._training = folder, key, training
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"step": 0, "val_loss": None, "network": None}
        self._since = 0  # checkpoints since the best
        self._before = 0.0
        if (folder / CHECKPOINT).is_file():
            self._read(folder / CHECKPOINT)
            write_curves(self.rows, folder / "curves.csv")  # it may have been killed before
        self._told = len(self.rows)
        self._events = EventFile(self.rows, folder) if tensorboard else None
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before it was stopped among them."""
        return self._before + time.perf_counter() - self._started

    def add(self, loss: float, rate: float) -> None:
        """Add a row to the curves."""
        values = (self._training.step, loss, None, rate, round(self.seconds, 3))
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))

    def judge(self, val_loss: float | None) -> None:
        """Keep the weights if they are the best so far; with nothing to judge by, they are."""
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
        """Write checkpoint and curves, each at once or not at all; add to the event file."""
        content = {
            "key": self._key,
            "training": self._training.state(),
            "best": self.best,
            "since": self._since,
            "rows": self.rows,
            "seconds": self.seconds,
        }
        with atomic_path(self._folder / CHECKPOINT) as partial:
            torch.save(content, partial)
        write_curves(self.rows, self._folder / "curves.csv")
        if self._events is not None:
            self._events.add(self.rows[self._told :])
            self._told = len(self.rows)

    def draw(self) -> None:
        """Draw the curves so far. It takes as long as some steps: not at every checkpoint."""
        if self.rows:
            draw_curves(self.rows, self._folder / "curves.png")

    def _read(self, file: Path) -> None:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            if content["key"] != self._key:
                raise InputError(
                    f"{file} is of a training of other images, settings or first weights",
                    hint="Take another folder, or delete it to begin anew",
                )
            self._training.restore(content["training"])
            self.best, self._since = content["best"], content["since"]
            self.rows, self._before = content["rows"], content["seconds"]
        except InputError:
            raise
        except Exception as error:  # of pickle, zip or torch; or of another version
            raise InputError(
                f"{file} cannot be read ({type(error).__name__}: {first_line(error)})",
                hint="Delete it to begin anew",
            ) from error
