"""Train FPN2-WS: one feature pyramid, two heads, each a map that a watershed can read.

Zaki et al. [1]_ trained two networks on a pretrained Inception-ResNet-v2, one per map. Here
one encoder serves both, and each head reads the finest level of the pyramid. The encoder is
``small``, or any of torchvision's and timm's that `opsef_bridge.train.encoders` can take,
theirs among them.

References
----------
.. [1] G. Zaki et al., "A deep learning pipeline for nucleus segmentation", Cytometry A
   97:1248-1264, 2020.
.. [2] T.-Y. Lin et al., "Feature pyramid networks for object detection", CVPR 2017:936-944.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.map_network import MARGIN, MULTIPLE
from opsef_bridge.errors import InputError
from opsef_bridge.files import file_sha256
from opsef_bridge.train import loop, training
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.card import GREY, model_card
from opsef_bridge.train.data import BORDER, Sample, class_map
from opsef_bridge.train.encoders import STRIDES
from opsef_bridge.train.export import export_onnx
from opsef_bridge.train.learner import Learner
from opsef_bridge.train.network import SMALL, FPN2Module
from opsef_bridge.train.transfer import (
    check_same,
    fill,
    kernels_and_biases,
    not_ours,
    read_constants,
)

__all__ = [
    "FPN2Learner",
    "FPN2Module",
    "Settings",
    "batch_of",
    "distance_map",
    "fit",
    "fpn2ws_card",
    "load",
    "loss",
    "predict",
    "targets",
]

SIGMA = 1.0
"""Of the Gaussian that blurs the border, in px."""

BACKBONE_MARGIN = 256
"""Rim in px of the tiles of other encoders. Most of them see further."""

APPROXIMATE = (
    "the encoder sees further than the margin (one with squeeze-and-excitation, its whole tile): "
    "maps near the seams of tiles only come close to those of the whole image; choose a tile "
    "as large as the image, or a larger margin under `input`"
)


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the weights."""

    steps: int = 1000
    batch: int = 8
    crop: int = 192
    widths: tuple[int, ...] = (16, 32, 64, 128, 192)
    """Channels of the levels of the small encoder; each is half as large as the last."""
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
    device: str = "cpu"
    """``"cpu"`` or ``"cuda"``. A GPU rounds otherwise: that a seed gives the same weights
    is tested on the CPU only."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    encoder: str = "small"
    """``small``, or the name of a network of torchvision or timm."""
    encoder_weights: str | Path | None = None
    """State dict of that network, from which training starts; random by `seed` without."""

    @property
    def multiple(self) -> int:
        """What the sides of the network's input are multiples of."""
        return STRIDES[-1] if self.encoder != SMALL else 2 ** (len(self.widths) - 1)


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
        There are no samples, the crop does not fit the levels of the encoder, or there is no
        such encoder.
    WeightsError
        The weights of the encoder are those of something else.
    WorkerError
        torch cannot use the device.
    """
    return training.fit(FPN2Learner(), samples, settings, report)


class FPN2Learner(Learner):
    """FPN2-WS to the loop that all families share."""

    engine = "fpn2ws"
    Settings = Settings

    def check(self, samples: Sequence[Sample], settings: Settings) -> None:
        super().check(samples, settings)
        if settings.crop % settings.multiple:
            raise InputError(
                f"crop {settings.crop} is no multiple of {settings.multiple}",
                hint="The levels of the encoder halve it again and again",
            )

    def network(self, settings: Settings, examples: Sequence[Sample]) -> FPN2Module:
        how = settings.encoder, settings.encoder_weights
        return FPN2Module(settings.widths, settings.pyramid, *how)

    def load(self, weights: Weights, settings: Settings) -> tuple[FPN2Module, Settings]:
        return load(weights, settings)

    def rate(self, step: int, settings: Settings) -> float:
        schedule = loop.Settings(settings.steps, rate=settings.rate, warm_up=settings.warm_up)
        return loop.learning_rate(step, schedule)

    def batch(
        self, rng: np.random.Generator, examples: Sequence[Sample], settings: Settings
    ) -> tuple[Tensor, Tensor]:
        return batch_of(rng, examples, settings)

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor], settings: Settings) -> Tensor:
        images, truth = batch
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            logits = network(images)
        return loss(logits.float(), truth, settings.square_weight)

    def save(self, network: nn.Module, settings: Settings, folder: Path, name: str) -> Path:
        path = folder / f"{name}.onnx"
        export_onnx(network, path, activation=torch.sigmoid)
        return path

    def card(
        self, name: str, settings: Settings, data: dict[str, Any], sha256: str
    ) -> dict[str, Any]:
        return fpn2ws_card(name, settings, data, sha256)


def load(weights: Weights, settings: Settings) -> tuple[FPN2Module, Settings]:
    """Return the network of an ONNX file, and the settings with its sizes.

    Raises
    ------
    WeightsError
        It is not one with the encoder ``small``.
    """
    values = kernels_and_biases(read_constants(weights))
    levels = sum(name.startswith("lateral.") for name in values)
    if levels < 2 or any(f"down.{level}.0" not in values for level in range(levels)):
        raise not_ours(weights, "it has no encoder 'small', the only one that can be read back")
    sized = replace(
        settings,
        widths=tuple(len(values[f"down.{level}.0"][0]) for level in range(levels)),
        pyramid=len(values["lateral.0"][0]),
        encoder=SMALL,
        encoder_weights=None,
    )
    network = FPN2Module(sized.widths, sized.pyramid).eval()
    fill(network, values, weights)
    says = ("probabilities",)
    check_same(weights, lambda batch: [predict(network, batch)], says, multiple=sized.multiple)
    return network, sized


def batch_of(
    rng: np.random.Generator, samples: Sequence[Sample], settings: Settings
) -> tuple[Tensor, Tensor]:
    """Draw crops, of images by their area: (N, 1, S, S) float32 and their `targets`."""
    area = np.array([sample.image.size for sample in samples])
    chosen = rng.choice(len(samples), size=settings.batch, p=area / area.sum())
    crops = [augment(rng, samples[i], settings.crop, settings.augmentation) for i in chosen]
    images = torch.from_numpy(np.stack([image for image, _ in crops])[:, None])
    truth = torch.from_numpy(np.stack([targets(labels) for _, labels in crops]))
    images = images.contiguous(memory_format=torch.channels_last)
    return images.to(settings.device), truth.to(settings.device)


def targets(labels: np.ndarray) -> np.ndarray:
    """Return what the network has to say of `labels`.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        Negative where nobody vouched.

    Returns
    -------
    ndarray of float32, shape (2, Y, X)
        -1 where nobody vouched; else `distance_map`, and the border (1 px wide, inside the
        object) blurred by a Gaussian of sigma 1. Values lie in 0..1; one border peaks near
        0.4, two that touch near 0.6.
    """
    border = (class_map(labels) == BORDER).astype(np.float32)
    maps = np.stack([distance_map(labels.clip(0)), ndimage.gaussian_filter(border, SIGMA)])
    maps[:, labels < 0] = -1
    return maps


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
        Found and true; the truth lies in 0..1, or is negative where nobody vouched, which
        counts nothing.
    """
    known = truth >= 0
    if not known.any():
        return logits.sum() * 0
    if not known.all():  # else in one piece: another order of adding rounds otherwise
        logits, truth = logits[known], truth[known]
    entropy = functional.binary_cross_entropy_with_logits(logits, truth)
    return entropy + square_weight * functional.mse_loss(logits.sigmoid(), truth)


@torch.inference_mode()
def predict(network: nn.Module, batch: np.ndarray) -> np.ndarray:
    """Return both maps (N, 2, Y, X) float32 of a float32 batch (N, 1, Y, X)."""
    return network(torch.from_numpy(np.ascontiguousarray(batch))).sigmoid().numpy()


def fpn2ws_card(name: str, settings: Settings, data: dict[str, Any], sha256: str) -> dict[str, Any]:
    """Return the card of a network: what the engine needs to know, and how it came about."""
    packages = ["torch", "onnx", "onnxruntime", "numpy", "scipy", "scikit-image"]
    if settings.encoder != SMALL:
        packages += ["torchvision", "timm"]
    return model_card(
        name,
        "fpn2ws",
        f"{name}.onnx",
        sha256,
        packages,
        input={
            **GREY,
            "multiple": max(MULTIPLE, settings.multiple),
            "margin": _margin(settings),
        },
        seams="exact" if settings.encoder == SMALL else APPROXIMATE,
        output=["distance", "border"],
        data=data,
        recipe={
            "target": "distance to the edge over its largest value in the object; border 1 px "
            f"wide, inside the object, blurred by a Gaussian of sigma {SIGMA}",
            "images": "drawn by area",
            "loss": "binary cross-entropy + squared error",
            "optimiser": "AdamW, warm-up, cosine to 0",
            **asdict(settings),
            "encoder_weights": _described(settings.encoder_weights),
        },
    )


def _margin(settings: Settings) -> int:
    """Return the width in px of a tile's rim: as wide as a small network sees."""
    if settings.encoder != SMALL:
        return BACKBONE_MARGIN
    multiple = settings.multiple
    # Two convolutions per level down, one up, one in the head, and what is pooled together.
    reach = 2 * (2 * multiple - 1) + (2 * multiple - 1) + 1 + (multiple - 1)
    return max(MARGIN, -(-reach // MULTIPLE) * MULTIPLE)


def _described(file: str | Path | None) -> dict[str, str] | None:
    """Return what a card says of a file: not where it lay."""
    return None if file is None else {"file": Path(file).name, "sha256": file_sha256(file)}
