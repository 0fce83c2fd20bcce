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
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from opsef_bridge.engines.map_network import MARGIN, MULTIPLE
from opsef_bridge.errors import InputError
from opsef_bridge.files import file_sha256
from opsef_bridge.train import loop
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.card import GREY, model_card
from opsef_bridge.train.data import BORDER, Sample, class_map
from opsef_bridge.train.encoders import STRIDES, load_encoder
from opsef_bridge.train.network import check_device

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


SMALL = "small"
"""The encoder that is written here."""

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


class FPN2Module(nn.Module):
    """A feature pyramid with two heads: one grey channel in, two logits out.

    The small encoder has a level at every scale, the finest that of the image. Other encoders
    start at half or a quarter of its size; two convolutions of the image itself stand for what
    they lack, so that a border of 1 px can be drawn.

    Parameters
    ----------
    widths : sequence of int
        Channels of the small encoder's levels; sides of the input are multiples of
        ``2 ** (len(widths) - 1)``.
    pyramid : int
        Channels of every level of the pyramid.
    encoder : str
        ``small``, or a network of torchvision or timm; sides are multiples of 32 then.
    encoder_weights : path, optional
        State dict of that network.

    Raises
    ------
    InputError
        There is no such encoder, or it cannot serve.
    WeightsError
        The file is not a state dict of it.
    """

    def __init__(
        self,
        widths: Sequence[int] = Settings.widths,
        pyramid: int = 32,
        encoder: str = SMALL,
        encoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        if encoder == SMALL:
            self.down = nn.ModuleList(
                nn.Sequential(*_convolution(before, size), *_convolution(size, size))
                for before, size in zip([1, *widths], widths, strict=False)
            )
            channels = tuple(widths)
            strides = tuple(2**level for level in range(len(channels)))
        else:
            self.encoder = load_encoder(encoder, encoder_weights)
            self.fine = nn.Sequential(*_convolution(1, pyramid), *_convolution(pyramid, pyramid))
            channels, strides = (pyramid, *self.encoder.channels), (1, *self.encoder.strides)
        self.enlarge = [coarse / fine for fine, coarse in pairwise(strides)]
        self.lateral = nn.ModuleList(nn.Conv2d(size, pyramid, 1) for size in channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(*_convolution(pyramid, pyramid)) for _ in channels
        )
        self.heads = nn.ModuleList(
            nn.Sequential(*_convolution(pyramid, pyramid // 2), nn.Conv2d(pyramid // 2, 1, 1))
            for _ in range(2)
        )
        for head in self.heads:
            nn.init.constant_(head[-1].bias, PRIOR)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, Y, X) to logits (N, 2, Y, X) of distance and border."""
        levels = list(zip(self._levels(x), self.lateral, self.smooth, strict=True))
        level, lateral, smooth = levels.pop()
        x = smooth(lateral(level))
        for factor in reversed(self.enlarge):
            level, lateral, smooth = levels.pop()
            x = smooth(lateral(level) + functional.interpolate(x, scale_factor=factor))
        return torch.cat([head(x) for head in self.heads], dim=1)

    def _levels(self, x: Tensor) -> list[Tensor]:
        """Return what the encoder sees at every scale, finest first."""
        if hasattr(self, "encoder"):
            return [self.fine(x), *self.encoder(x)]
        levels = []
        for number, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if number else x)
            levels.append(x)
        return levels


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
    if not samples:
        raise InputError("there is nothing to learn from: no samples")
    if settings.crop % settings.multiple:
        raise InputError(
            f"crop {settings.crop} is no multiple of {settings.multiple}",
            hint="The levels of the encoder halve it again and again",
        )
    check_device(settings.device)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = FPN2Module(
        settings.widths, settings.pyramid, settings.encoder, settings.encoder_weights
    )
    network = network.to(settings.device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay)
    schedule = loop.Settings(settings.steps, rate=settings.rate, warm_up=settings.warm_up)
    for step in range(settings.steps):
        images, truth = batch_of(rng, samples, settings)
        for group in optimiser.param_groups:
            group["lr"] = loop.learning_rate(step, schedule)
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            logits = network(images)
        value = loss(logits.float(), truth, settings.square_weight)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        report(step + 1, value.item())
    return network.cpu().eval()


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


def _convolution(before: int, after: int) -> list[nn.Module]:
    """A 3x3 convolution with batch normalisation and ReLU."""
    return [
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]
