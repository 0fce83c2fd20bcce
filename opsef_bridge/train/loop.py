"""Loss and training loop. By steps, not by time, so that a seed gives the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from opsef_bridge.errors import InputError
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.data import BORDER, Sample, class_map
from opsef_bridge.train.network import UNetModule, check_device

__all__ = ["Settings", "batch_of", "fit", "learning_rate", "loss", "predict"]


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
    if not samples:
        raise InputError("there is nothing to learn from: no samples")
    if settings.crop % 2**settings.depth:
        raise InputError(
            f"crop {settings.crop} is no multiple of {2**settings.depth}",
            hint=f"{settings.depth} poolings halve it so often",
        )
    check_device(settings.device)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = UNetModule(settings.width, settings.depth).to(
        settings.device, memory_format=torch.channels_last
    )
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
    )
    network.train()
    for step in range(settings.steps):
        images, classes = batch_of(rng, samples, settings)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            scores = network(images)
        value = loss(scores.float(), classes, settings.border_weight)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        report(step + 1, value.item())
    return network.cpu().eval()


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


def loss(scores: Tensor, classes: Tensor, border_weight: float) -> Tensor:
    """Weighted cross-entropy plus the mean Dice loss of interior and border.

    Parameters
    ----------
    scores : Tensor of float32, shape (N, 3, Y, X)
        Logits.
    classes : Tensor of int64, shape (N, Y, X)
    border_weight : float
        Weight of border pixels; the others count 1.
    """
    weights = scores.new_ones(3)
    weights[BORDER] = border_weight
    entropy = functional.cross_entropy(scores, classes, weights)
    found = scores.softmax(1)[:, 1:]
    truth = functional.one_hot(classes, 3).permute(0, 3, 1, 2)[:, 1:].to(found.dtype)
    shared = (found * truth).sum((0, 2, 3))
    total = (found + truth).sum((0, 2, 3))
    return entropy + (1 - (2 * shared + 1) / (total + 1)).mean()


@torch.inference_mode()
def predict(network: UNetModule, batch: np.ndarray) -> np.ndarray:
    """Return class probabilities (N, 3, Y, X) float32 of a float32 batch (N, 1, Y, X)."""
    return network(torch.from_numpy(np.ascontiguousarray(batch))).softmax(1).numpy()
