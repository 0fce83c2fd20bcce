"""The U-Net to train: its settings, crops and loss, and how it meets the shared loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import InputError
from opsef_bridge.train import training
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.card import unet_card
from opsef_bridge.train.data import BORDER, IGNORED, Sample, class_map
from opsef_bridge.train.export import export_onnx
from opsef_bridge.train.learner import Learner
from opsef_bridge.train.network import UNetModule
from opsef_bridge.train.transfer import (
    check_same,
    fill,
    kernels_and_biases,
    not_ours,
    read_constants,
)

__all__ = [
    "Settings",
    "UNetLearner",
    "batch_of",
    "fit",
    "learning_rate",
    "load",
    "loss",
    "one_cycle",
    "predict",
]


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the weights."""

    steps: int = 450
    batch: int = 8
    crop: int = 192
    width: int = 16
    depth: int = 4
    rate: float = 2e-3
    warm_up: int = 50
    weight_decay: float = 1e-4
    border_weight: float = 1.5
    by_area: bool = False
    """Draw images in proportion to their area, not all alike."""
    bfloat16: bool = True
    seed: int = 0
    device: str = "cpu"
    """``"cpu"`` or ``"cuda"``. A GPU rounds otherwise: that a seed gives the same weights
    is tested on the CPU only."""
    augmentation: Augmentation = field(default_factory=Augmentation)


def fit(
    samples: Sequence[Sample],
    settings: Settings,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> UNetModule:
    """Train a network on `samples` and return it, ready to predict.

    Parameters
    ----------
    samples : sequence of Sample
    settings : Settings
    report : callable, optional
        Called after every step with its number (from 1) and its loss.

    Raises
    ------
    InputError
        There are no samples, or the crop does not fit the poolings.
    WorkerError
        torch cannot use the device.
    """
    network = training.fit(UNetLearner(), samples, settings, report)
    assert isinstance(network, UNetModule)
    return network


class UNetLearner(Learner):
    """The U-Net to the loop that all families share."""

    engine = "unet"
    Settings = Settings

    def check(self, samples: Sequence[Sample], settings: Settings) -> None:
        super().check(samples, settings)
        if settings.crop % 2**settings.depth:
            raise InputError(
                f"crop {settings.crop} is no multiple of {2**settings.depth}",
                hint=f"{settings.depth} poolings halve it so often",
            )

    def network(self, settings: Settings, examples: Sequence[Sample]) -> UNetModule:
        return UNetModule(settings.width, settings.depth)

    def load(self, weights: Weights, settings: Settings) -> tuple[UNetModule, Settings]:
        return load(weights, settings)

    def rate(self, step: int, settings: Settings) -> float:
        return learning_rate(step, settings)

    def batch(
        self, rng: np.random.Generator, examples: Sequence[Sample], settings: Settings
    ) -> tuple[Tensor, Tensor]:
        return batch_of(rng, examples, settings)

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor], settings: Settings) -> Tensor:
        images, classes = batch
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            scores = network(images)
        return loss(scores.float(), classes, settings.border_weight)

    def save(self, network: nn.Module, settings: Settings, folder: Path, name: str) -> Path:
        path = folder / f"{name}.onnx"
        export_onnx(network, path)
        return path

    def card(
        self, name: str, settings: Settings, data: dict[str, Any], sha256: str
    ) -> dict[str, Any]:
        return unet_card(name, settings, data, sha256)


def load(weights: Weights, settings: Settings) -> tuple[UNetModule, Settings]:
    """Return the network of an ONNX file, and the settings with its sizes.

    Raises
    ------
    WeightsError
        It is of another architecture than `UNetModule`.
    """
    values = kernels_and_biases(read_constants(weights))
    levels = sum(name.startswith("down.") for name in values) // 2
    if levels < 2 or "down.0.0" not in values:
        raise not_ours(weights, "it is not the U-Net that is trained here")
    sized = replace(settings, width=len(values["down.0.0"][0]), depth=levels - 1)
    network = UNetModule(sized.width, sized.depth).eval()
    fill(network, values, weights)
    check_same(
        weights,
        lambda batch: [predict(network, batch)],
        ("probabilities",),
        multiple=2**sized.depth,
    )
    return network, sized


def batch_of(
    rng: np.random.Generator, samples: Sequence[Sample], settings: Settings
) -> tuple[Tensor, Tensor]:
    """Draw crops: images (N, 1, S, S) float32 and their classes (N, S, S) int64."""
    area = np.array([sample.image.size if settings.by_area else 1 for sample in samples])
    chosen = rng.choice(len(samples), size=settings.batch, p=area / area.sum())
    crops = [augment(rng, samples[i], settings.crop, settings.augmentation) for i in chosen]
    images = torch.from_numpy(np.stack([image for image, _ in crops])[:, None])
    classes = torch.from_numpy(np.stack([class_map(labels) for _, labels in crops]))
    images = images.contiguous(memory_format=torch.channels_last)
    return images.to(settings.device), classes.long().to(settings.device)


def learning_rate(step: int, settings: Settings) -> float:
    """Rise linearly over the warm-up, then fall to 0 along a cosine."""
    if step < settings.warm_up:
        return settings.rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return settings.rate * (1 + math.cos(math.pi * done)) / 2


def one_cycle(step: int, steps: int, rate: float, warm_up: float) -> float:
    """Rise to `rate` along a cosine over a part of the steps, then fall along one.

    As torch's ``OneCycleLR(total_steps=steps, pct_start=warm_up)``: it begins at 1/25 of the
    rate and ends at 1/250000.

    Examples
    --------
    >>> [round(one_cycle(step, 12, 0.5, 0.25), 3) for step in (0, 2, 11)]
    [0.02, 0.5, 0.0]
    """
    least, top, last = rate / 25, warm_up * steps - 1, steps - 1
    begin, end, start, stop = (
        (0.0, top, least, rate) if step <= top else (top, last, rate, least / 1e4)
    )
    part = (step - begin) / (end - begin) if end > begin else 1.0
    return stop + (start - stop) / 2 * (1 + math.cos(math.pi * part))


def loss(scores: Tensor, classes: Tensor, border_weight: float) -> Tensor:
    """Weighted cross-entropy plus the mean Dice loss of interior and border.

    Parameters
    ----------
    scores : Tensor of float32, shape (N, 3, Y, X)
        Logits.
    classes : Tensor of int64, shape (N, Y, X)
        `IGNORED` where nothing counts.
    border_weight : float
        Weight of border pixels; the others count 1.
    """
    weights = scores.new_ones(3)
    weights[BORDER] = border_weight
    known = (classes != IGNORED)[:, None]
    if not known.any():
        return scores.sum() * 0
    entropy = functional.cross_entropy(scores, classes, weights, ignore_index=IGNORED)
    found = scores.softmax(1)[:, 1:] * known
    truth = functional.one_hot(classes * known[:, 0], 3).permute(0, 3, 1, 2)[:, 1:].to(found.dtype)
    shared = (found * truth).sum((0, 2, 3))
    total = (found + truth).sum((0, 2, 3))
    return entropy + (1 - (2 * shared + 1) / (total + 1)).mean()


@torch.inference_mode()
def predict(network: UNetModule, batch: np.ndarray) -> np.ndarray:
    """Return class probabilities (N, 3, Y, X) float32 of a float32 batch (N, 1, Y, X)."""
    return network(torch.from_numpy(np.ascontiguousarray(batch))).softmax(1).numpy()
