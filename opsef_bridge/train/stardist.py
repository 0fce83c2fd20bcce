"""Train StarDist's 2D network in torch.

The network is layer by layer the one that the `stardist` package builds from a
configuration with a grid of (2, 2), so its weights go both ways. Batch normalisation after
each convolution makes it learn faster; `folded` takes it out again. It learns grey images
or, with three channels, colour ones.

References
----------
.. [1] U. Schmidt, M. Weigert, C. Broaddus, G. Myers, "Cell detection with star-convex
   polygons", MICCAI 2018:265-273.
.. [2] E. Xie et al., "PolarMask: single shot instance segmentation with polar
   representation", CVPR 2020:12193-12202. (The loss of the distances.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from opsef_bridge.engines.scaling import CLIP
from opsef_bridge.engines.stardist_graph import (
    Convolution,
    build_network,
    describe_network,
    with_defaults,
)
from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.card import model_card
from opsef_bridge.train.colour import StainAugmentation, augment_colour
from opsef_bridge.train.data import Sample
from opsef_bridge.train.network import check_device

__all__ = [
    "Settings",
    "StarDistModule",
    "batch_of",
    "configuration",
    "convolutions",
    "export_onnx",
    "fit",
    "folded",
    "loss",
    "predict",
    "stardist_card",
    "targets",
]

GRID = 2
"""Step in px between two pixels of the maps."""


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the weights."""

    steps: int = 3000
    batch: int = 4
    crop: int = 192
    rays: int = 32
    width: int = 16
    depth: int = 3
    features: int = 64
    rate: float = 8e-3
    warm_up: float = 0.1
    """Part of the steps in which the learning rate rises; then it falls along a cosine."""
    weight_decay: float = 1e-4
    distance_loss: str = "overlap"
    """``"overlap"`` (of the polygons) or ``"absolute"`` (mean error in px, as in [1]_)."""
    distance_weight: float = 1.0
    with_objects: float = 0.9
    """Part of the crops that must show an object."""
    bfloat16: bool = True
    seed: int = 0
    device: str = "cpu"
    """``"cpu"`` or ``"cuda"``. A GPU rounds otherwise: that a seed gives the same weights
    is tested on the CPU only."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """With a `StainAugmentation` the network is one for colour images."""

    @property
    def channels(self) -> int:
        """Samples of a pixel: 3 for colour images, 1 for grey ones."""
        return 3 if isinstance(self.augmentation, StainAugmentation) else 1


class StarDistModule(nn.Module):
    """StarDist's network: grey or colour in, probability and distances out.

    Parameters
    ----------
    rays : int
    width : int
        Channels of the first level of the U-Net; they double at each pooling.
    depth : int
        Poolings of the U-Net, which begins at half the size of the image.
    features : int
        Channels of the convolution after the U-Net.
    channels : int
        Channels of the image.
    """

    def __init__(
        self, rays: int = 32, width: int = 16, depth: int = 3, features: int = 64, channels: int = 1
    ) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(depth)]
        self.stem = _block(channels, width, width)
        self.down = nn.ModuleList(
            _block(before, size, size) for before, size in zip([width, *sizes], sizes, strict=False)
        )
        self.middle = _block(sizes[-1], 2 * sizes[-1], sizes[-1])
        self.up = nn.ModuleList(
            _block(2 * size, size, max(size // 2, width)) for size in reversed(sizes)
        )
        self.features = nn.Sequential(*_convolution(width, features))
        self.prob = nn.Conv2d(features, 1, 1)
        self.dist = nn.Conv2d(features, rays, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, Y, X) to logits (N, 1, Y/2, X/2) and distances (N, rays, Y/2, X/2)."""
        x = functional.max_pool2d(self.stem(x), GRID)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.middle(x)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), skip], dim=1))
        x = self.features(x)
        return self.prob(x), self.dist(x)


def fit(
    samples: Sequence[Sample],
    settings: Settings,
    report: Callable[[int, float], None] = lambda step, loss: None,
    *,
    start: StarDistModule | None = None,
) -> StarDistModule:
    """Train a network on `samples` and return it, ready to predict.

    Parameters
    ----------
    samples : sequence of Sample
    settings : Settings
    report : callable, optional
        Called after every step with its number (from 1) and its loss.
    start : StarDistModule, optional
        A network of the same layers to go on from (it is changed); a fresh one by default.

    Raises
    ------
    InputError
        There are no samples, they are not of the settings' channels, or the crop does not
        fit the poolings.
    WorkerError
        torch cannot use the device.
    """
    _check(samples, settings)
    check_device(settings.device)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    network = start or StarDistModule(
        settings.rays, settings.width, settings.depth, settings.features, settings.channels
    )
    network = network.to(settings.device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        settings.rate,
        total_steps=settings.steps,
        pct_start=settings.warm_up,
        cycle_momentum=False,
    )
    for step in range(settings.steps):
        images, prob, dist = batch_of(rng, samples, settings)
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            logits, found = network(images)
        value = loss(logits.float(), found.float(), prob, dist, settings)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        rates.step()
        report(step + 1, value.item())
    return network.cpu().eval()


def _check(samples: Sequence[Sample], settings: Settings) -> None:
    """Refuse what `fit` cannot learn from."""
    if not samples:
        raise InputError("there is nothing to learn from: no samples")
    multiple = GRID * 2**settings.depth
    if settings.crop % multiple:
        raise InputError(
            f"crop {settings.crop} is no multiple of {multiple}",
            hint=f"{settings.depth + 1} poolings halve it so often",
        )
    samples_of = (3,) if settings.channels == 3 else ()
    for sample in samples:
        if sample.image.shape != (*sample.labels.shape, *samples_of):
            raise InputError(
                f"{sample.name} is {sample.image.shape}, its labels are {sample.labels.shape}",
                hint="Colour images need a StainAugmentation, grey ones an Augmentation",
            )


def batch_of(
    rng: np.random.Generator, samples: Sequence[Sample], settings: Settings
) -> tuple[Tensor, ...]:
    """Draw crops: images (N, C, S, S), then what `targets` makes of their labels."""
    crops = [_draw(rng, samples, settings) for _ in range(settings.batch)]
    stack = np.moveaxis(np.stack([np.atleast_3d(image) for image, _ in crops]), -1, 1)
    images = torch.from_numpy(stack).contiguous(memory_format=torch.channels_last)
    aims = [targets(labels, settings.rays) for _, labels in crops]
    prob, dist = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*aims, strict=True))
    return tuple(one.to(settings.device) for one in (images, prob, dist))


def _draw(
    rng: np.random.Generator, samples: Sequence[Sample], settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a crop; of one that must show an object, up to ten."""
    crop = augment if settings.channels == 1 else augment_colour
    tries = 10 if rng.random() < settings.with_objects else 1
    for _ in range(tries):
        sample = samples[rng.integers(len(samples))]
        image, labels = crop(rng, sample, settings.crop, settings.augmentation)
        if labels.any():
            break
    return image, labels


def targets(labels: np.ndarray, rays: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the network has to say of `labels`.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
    rays : int

    Returns
    -------
    prob : ndarray of float32, shape (1, Y/2, X/2)
        Distance to the object's edge over its largest value in the object.
    dist : ndarray of float32, shape (Y/2, X/2, rays)
        Distance in px along each ray to the object's edge.
    """
    from stardist.geometry import star_dist
    from stardist.utils import edt_prob

    prob = edt_prob(labels)[::GRID, ::GRID].astype(np.float32)
    dist = star_dist(labels, rays, mode="cpp", grid=(GRID, GRID))
    return prob[None], dist.astype(np.float32)


def loss(logits: Tensor, found: Tensor, prob: Tensor, dist: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy of the probabilities plus the weighted loss of the distances.

    Distances count in objects only, by the probability that they should have: the pixels
    that non-maximum suppression is to choose count most.

    Parameters
    ----------
    logits, prob : Tensor of float32, shape (N, 1, Y, X)
        Found and true.
    found : Tensor of float32, shape (N, rays, Y, X)
        Distances in px.
    dist : Tensor of float32, shape (N, Y, X, rays)
        True distances in px.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, prob)
    inside = prob[:, 0] > 0
    found, dist, weights = found.permute(0, 2, 3, 1)[inside], dist[inside], prob[:, 0][inside]
    error = (found - dist).abs().mean(1)
    if settings.distance_loss == "overlap":
        # Areas go with the squares of the rays. A little of the error itself leads rays
        # back that have become negative.
        found = found.clamp(min=0)
        shared = torch.minimum(found, dist).square().sum(1)
        united = torch.maximum(found, dist).square().sum(1)
        error = 1 - (shared + 1) / (united + 1) + 0.02 * error
    distances = (error * weights).sum() / weights.sum().clamp(min=1)
    return entropy + settings.distance_weight * distances


@torch.inference_mode()
def predict(network: StarDistModule, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (N, 1, Y/2, X/2) and distances (N, rays, Y/2, X/2), float32."""
    logits, dist = network(torch.from_numpy(np.ascontiguousarray(batch)))
    return logits.sigmoid().numpy(), dist.numpy()


def folded(network: StarDistModule) -> StarDistModule:
    """Return a copy without batch normalisation, ready to predict: the same function."""
    network = copy.deepcopy(network).eval()
    for chain in _chains(network):
        for place, layer in enumerate(chain):
            if isinstance(layer, nn.BatchNorm2d):
                chain[place - 1] = fuse_conv_bn_eval(chain[place - 1], layer)
                chain[place] = nn.Identity()
    return network


def configuration(settings: Settings) -> dict[str, Any]:
    """Return the configuration with which the package builds the same network."""
    return with_defaults(
        {
            "axes": "YXC",
            "n_channel_in": settings.channels,
            "n_rays": settings.rays,
            "grid": [GRID, GRID],
            "unet_n_depth": settings.depth,
            "unet_n_filter_base": settings.width,
            "net_conv_after_unet": settings.features,
        }
    )


def convolutions(network: StarDistModule) -> list[Convolution]:
    """Return the convolutions of `network`, normalisation folded in, in the data's order."""
    network = folded(network)
    body = [layer for chain in _chains(network) for layer in chain if isinstance(layer, nn.Conv2d)]
    names = [*(f"convolution_{number}" for number in range(len(body) - 1)), "features"]
    return [
        Convolution(name, layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for name, layer in zip(
            [*names, "prob", "dist"], [*body, network.prob, network.dist], strict=True
        )
    ]


def export_onnx(network: StarDistModule, settings: Settings, path: str | Path) -> None:
    """Write `network` as ONNX: probabilities and distances, of any batch and size."""
    import onnx

    model = build_network(configuration(settings), convolutions(network))
    with atomic_path(path) as partial:
        onnx.save(model, partial)


def stardist_card(
    name: str, stages: Sequence[Settings], data: dict[str, Any], sha256: str
) -> dict[str, Any]:
    """Return the card of a network: what the engine needs to know, and how it came about.

    `stages` are the settings of its trainings, each from where the one before ended.
    """
    packages = ("torch", "onnx", "onnxruntime", "stardist", "numpy", "scipy", "scikit-image")
    return model_card(
        name,
        "stardist",
        f"{name}.onnx",
        sha256,
        packages,
        input={**describe_network(configuration(stages[0])), "clip": list(CLIP)},
        output=["prob", "dist"],
        network=configuration(stages[0]),
        data=data,
        recipe={
            "loss": "cross-entropy of the probability + weighted loss of the distances",
            "optimiser": "AdamW, learning rate up and down along cosines (OneCycleLR)",
            "stages": [asdict(settings) for settings in stages],
        },
    )


def _chains(network: StarDistModule) -> Iterator[nn.Sequential]:
    """Give the convolution blocks in the order of the data."""
    yield network.stem
    yield from network.down
    yield network.middle
    yield from network.up
    yield network.features


def _block(before: int, inside: int, after: int) -> nn.Sequential:
    """Two 3x3 convolutions."""
    return nn.Sequential(*_convolution(before, inside), *_convolution(inside, after))


def _convolution(before: int, after: int) -> list[nn.Module]:
    """A 3x3 convolution with batch normalisation and ReLU."""
    return [
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]
