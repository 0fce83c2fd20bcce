"""Train FPN2-WS: one feature pyramid, two heads, each a map that a watershed can read.

Zaki et al. [1]_ trained two networks on a pretrained Inception-ResNet-v2, one per map. Here
one small encoder serves both, and each head reads the finest level of the pyramid.

References
----------
.. [1] G. Zaki et al., "A deep learning pipeline for nucleus segmentation", Cytometry A
   97:1248-1264, 2020.
.. [2] T.-Y. Lin et al., "Feature pyramid networks for object detection", CVPR 2017:936-944.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from opsef_bridge.engines.scaling import CLIP
from opsef_bridge.engines.unet import MULTIPLE, PERCENTILES
from opsef_bridge.errors import InputError
from opsef_bridge.train import loop
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.data import BORDER, Sample, class_map

__all__ = [
    "FPN2Module",
    "Settings",
    "batch_of",
    "distance_map",
    "fit",
    "fpn2ws_card",
    "loss",
    "predict",
    "targets",
]

SIGMA = 1.0
"""Of the Gaussian that blurs the border, in px."""

PRIOR = -3.0
"""Logits of an untrained network: nearly nothing anywhere, as in most pixels. From 0, half
of the steps would go into learning that."""


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the weights."""

    steps: int = 1000
    batch: int = 8
    crop: int = 192
    widths: tuple[int, ...] = (16, 32, 64, 128, 192)
    """Channels of the levels of the encoder; each level is half as large as the last."""
    pyramid: int = 32
    """Channels of every level of the pyramid; the heads have half as many."""
    rate: float = 5e-3
    warm_up: int = 50
    """Steps in which the learning rate rises; then it falls to 0 along a cosine."""
    weight_decay: float = 1e-4
    square_weight: float = 4.0
    """Weight of the squared error beside the cross-entropy."""
    bfloat16: bool = True
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


class FPN2Module(nn.Module):
    """A feature pyramid with two heads: one grey channel in, two logits out.

    Parameters
    ----------
    widths : sequence of int
        Channels of the encoder's levels; sides of the input are multiples of
        ``2 ** (len(widths) - 1)``.
    pyramid : int
        Channels of every level of the pyramid.
    """

    def __init__(self, widths: Sequence[int] = Settings.widths, pyramid: int = 32) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(*_convolution(before, size), *_convolution(size, size))
            for before, size in zip([1, *widths], widths, strict=False)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(size, pyramid, 1) for size in widths)
        self.smooth = nn.ModuleList(nn.Sequential(*_convolution(pyramid, pyramid)) for _ in widths)
        self.heads = nn.ModuleList(
            nn.Sequential(*_convolution(pyramid, pyramid // 2), nn.Conv2d(pyramid // 2, 1, 1))
            for _ in range(2)
        )
        for head in self.heads:
            nn.init.constant_(head[-1].bias, PRIOR)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, Y, X) to logits (N, 2, Y, X) of distance and border."""
        levels = []
        for number, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if number else x)
            levels.append(x)
        steps = list(zip(levels, self.lateral, self.smooth, strict=True))[::-1]
        level, lateral, smooth = steps[0]
        x = smooth(lateral(level))
        for level, lateral, smooth in steps[1:]:
            x = smooth(lateral(level) + functional.interpolate(x, scale_factor=2.0))
        return torch.cat([head(x) for head in self.heads], dim=1)


def fit(
    samples: Sequence[Sample],
    settings: Settings,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> FPN2Module:
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
        There are no samples, or the crop does not fit the levels of the encoder.
    """
    multiple = 2 ** (len(settings.widths) - 1)
    if not samples:
        raise InputError("there is nothing to learn from: no samples")
    if settings.crop % multiple:
        raise InputError(
            f"crop {settings.crop} is no multiple of {multiple}",
            hint=f"{len(settings.widths) - 1} poolings halve it so often",
        )
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = FPN2Module(settings.widths, settings.pyramid)
    network = network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay)
    schedule = loop.Settings(settings.steps, rate=settings.rate, warm_up=settings.warm_up)
    for step in range(settings.steps):
        images, truth = batch_of(rng, samples, settings)
        for group in optimiser.param_groups:
            group["lr"] = loop.learning_rate(step, schedule)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            logits = network(images)
        value = loss(logits.float(), truth, settings.square_weight)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        report(step + 1, value.item())
    return network.eval()


def batch_of(
    rng: np.random.Generator, samples: Sequence[Sample], settings: Settings
) -> tuple[Tensor, Tensor]:
    """Draw crops, of images by their area: (N, 1, S, S) float32 and their `targets`."""
    area = np.array([sample.image.size for sample in samples])
    chosen = rng.choice(len(samples), size=settings.batch, p=area / area.sum())
    crops = [augment(rng, samples[i], settings.crop, settings.augmentation) for i in chosen]
    images = torch.from_numpy(np.stack([image for image, _ in crops])[:, None])
    truth = torch.from_numpy(np.stack([targets(labels) for _, labels in crops]))
    return images.contiguous(memory_format=torch.channels_last), truth


def targets(labels: np.ndarray) -> np.ndarray:
    """Return what the network has to say of `labels`.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)

    Returns
    -------
    ndarray of float32, shape (2, Y, X)
        `distance_map`, and the border (1 px wide, inside the object) blurred by a Gaussian
        of sigma 1. Values lie in 0..1; one border peaks near 0.4, two that touch near 0.6.
    """
    border = (class_map(labels) == BORDER).astype(np.float32)
    return np.stack([distance_map(labels), ndimage.gaussian_filter(border, SIGMA)])


def distance_map(labels: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the edge of its object, over the object's largest.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)

    Returns
    -------
    ndarray of float32, shape (Y, X)
        1 in the middle of every object, 0 in the background. The image's edge cuts objects
        but is no edge of theirs.

    Examples
    --------
    >>> distance_map(np.array([[0, 1, 1, 1, 0, 2, 3, 3]]))
    array([[0. , 0.5, 1. , 0.5, 0. , 1. , 0.5, 1. ]], dtype=float32)
    """
    distance = np.zeros(labels.shape, np.float32)
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        # One pixel more on each side, except where the image ends.
        wide = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        inside = labels[wide] == label
        if inside.all():
            distance[wide] = 1
            continue
        depth = ndimage.distance_transform_edt(inside)
        distance[wide][inside] = (depth / depth.max())[inside]
    return distance


def loss(logits: Tensor, truth: Tensor, square_weight: float) -> Tensor:
    """Cross-entropy of both maps plus their weighted squared error.

    Parameters
    ----------
    logits, truth : Tensor of float32, shape (N, 2, Y, X)
        Found and true; the truth lies in 0..1.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, truth)
    return entropy + square_weight * functional.mse_loss(logits.sigmoid(), truth)


@torch.inference_mode()
def predict(network: nn.Module, batch: np.ndarray) -> np.ndarray:
    """Return both maps (N, 2, Y, X) float32 of a float32 batch (N, 1, Y, X)."""
    return network(torch.from_numpy(np.ascontiguousarray(batch))).sigmoid().numpy()


def fpn2ws_card(name: str, settings: Settings, data: dict[str, Any], sha256: str) -> dict[str, Any]:
    """Return the card of a network: what the engine needs to know, and how it came about."""
    packages = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "scikit-image")
    return {
        "name": name,
        "engine": "fpn2ws",
        "family": f"fpn2ws/{name}",
        "file": f"{name}.onnx",
        "sha256": sha256,
        "created": datetime.now(UTC).date().isoformat(),
        "input": {
            "axes": "YX",
            "channels": 1,
            "percentiles": list(PERCENTILES),
            "clip": list(CLIP),
            "multiple": MULTIPLE,
        },
        "output": ["distance", "border"],
        "data": data,
        "recipe": {
            "target": "distance to the edge over its largest value in the object; border 1 px "
            f"wide, inside the object, blurred by a Gaussian of sigma {SIGMA}",
            "images": "drawn by area",
            "loss": "binary cross-entropy + squared error",
            "optimiser": "AdamW, warm-up, cosine to 0",
            **asdict(settings),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def _convolution(before: int, after: int) -> list[nn.Module]:
    """A 3x3 convolution with batch normalisation and ReLU."""
    return [
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]
