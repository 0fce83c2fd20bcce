"""What a family of networks brings to training: its half of the contract.

The other half, the loop with its checkpoints, is the same for all: `opsef_bridge.train.training`.
A learner has no state; what a training is made of lies in its settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.train.data import UNKNOWN, Sample

__all__ = ["Learner", "TrainSettings", "learner", "learner_names"]

_LEARNERS = {
    "unet": "opsef_bridge.train.loop:UNetLearner",
    "stardist": "opsef_bridge.train.stardist:StarDistLearner",
    "cellpose": "opsef_bridge.train.cellpose:CellposeLearner",
    "fpn2ws": "opsef_bridge.train.fpn2ws:FPN2Learner",
    "maskrcnn": "opsef_bridge.train.maskrcnn:MaskRCNNLearner",
}
_OF_VOLUMES = {"stardist": "opsef_bridge.train.stardist_volumes:VolumeLearner"}


class TrainSettings(Protocol):
    """What the loop reads of any learner's settings; each learner has more of its own.

    All are frozen dataclasses: with the data, they decide the weights. Settings may have a
    ``clip``, too: the largest norm of the gradient.
    """

    @property
    def steps(self) -> int:
        """Batches until the learning rate is 0."""

    @property
    def batch(self) -> int:
        """Crops of a step."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""

    @property
    def bfloat16(self) -> bool:
        """Whether the network computes in half the precision where that is safe."""

    @property
    def seed(self) -> int:
        """Of the first weights and of all crops."""

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda"``."""


class Learner(ABC):
    """A family of networks as the loop sees it.

    Attributes
    ----------
    engine : str
        The engine that runs what comes out.
    Settings : type
        A frozen dataclass, see `TrainSettings`.
    masks_loss : bool
        Whether pixels that are `UNKNOWN` can be left out of the loss.
    volumes : bool
        Whether samples are volumes (Z, Y, X); else planes.
    """

    engine: ClassVar[str]
    Settings: ClassVar[type[Any]]
    masks_loss: ClassVar[bool] = True
    volumes: ClassVar[bool] = False

    def check(self, samples: Sequence[Sample], settings: Any) -> None:
        """Refuse what cannot be learned from.

        Raises
        ------
        InputError
            There are no samples; or labels are partly unknown, and the loss cannot be masked.
        """
        if not samples:
            raise InputError("there is nothing to learn from: no samples")
        sparse = [s.name for s in samples if (s.labels == UNKNOWN).any()]
        if sparse and not self.masks_loss:
            raise InputError(
                f"{self.engine} learns from whole images, and of {len(sparse)} only a part is "
                f"vouched for: {', '.join(sparse[:5])}",
                hint="Vouch for the whole of them, leave them out, or train another engine",
            )

    def suited(self, settings: Any, samples: Sequence[Sample]) -> Any:
        """Return the settings with what the samples decide, before anything is checked."""
        return settings

    def examples(self, samples: Sequence[Sample]) -> Sequence[Any]:
        """Return what `batch` draws from: once made, before the first step."""
        return samples

    @abstractmethod
    def network(self, settings: Any, examples: Sequence[Any]) -> nn.Module:
        """Return a network with fresh weights, drawn from torch's generator."""

    @abstractmethod
    def load(self, weights: Weights, settings: Any) -> tuple[nn.Module, Any]:
        """Return the network of registered weights, and the settings with its sizes.

        Raises
        ------
        WeightsError
            It is of another architecture than this learner can train.
        """

    @abstractmethod
    def rate(self, step: int, settings: Any) -> float:
        """Return the learning rate of a step, from 0."""

    @abstractmethod
    def batch(
        self, rng: np.random.Generator, examples: Sequence[Any], settings: Any
    ) -> tuple[Any, ...]:
        """Draw a batch, on the device of the settings."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: tuple[Any, ...], settings: Any) -> Tensor:
        """Return the loss of a batch: one number.

        The network is in the mode to train; in that to evaluate where the loss is only
        measured. Whether to compute in half the precision is up to this function.
        """

    @abstractmethod
    def save(self, network: nn.Module, settings: Any, folder: Path, name: str) -> Path:
        """Write the weights as the engine reads them; return their file."""

    @abstractmethod
    def card(self, name: str, settings: Any, data: dict[str, Any], sha256: str) -> dict[str, Any]:
        """Return the model card of such a file."""


def learner(engine: str, *, volumes: bool = False) -> Learner:
    """Return the learner of an engine.

    Parameters
    ----------
    engine : str
    volumes : bool
        That of its network for volumes; else for planes.

    Raises
    ------
    NotFoundError
        The networks of this engine cannot be trained here.
    """
    if volumes and engine in _LEARNERS and engine not in _OF_VOLUMES:
        raise NotFoundError(
            f"networks of the engine {engine!r} learn from planes, not from volumes",
            hint=f"Choose {', '.join(_OF_VOLUMES)}, or leave volumes out: planes are learned",
        )
    try:
        module, _, name = (_OF_VOLUMES if volumes else _LEARNERS)[engine].partition(":")
    except KeyError:
        raise NotFoundError(
            f"networks of the engine {engine!r} cannot be trained here",
            hint=f"Choose one of {', '.join(_LEARNERS)}",
        ) from None
    made: Learner = getattr(import_module(module), name)()
    return made


def learner_names(*, volumes: bool = False) -> list[str]:
    """Return the engines whose networks, or whose networks for volumes, can be trained."""
    return list(_OF_VOLUMES if volumes else _LEARNERS)
