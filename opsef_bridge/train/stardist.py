"""Train StarDist's 2D network in torch; that for volumes: `opsef_bridge.train.stardist_volumes`.

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

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.scaling import CLIP
from opsef_bridge.engines.stardist_graph import describe_network, with_defaults
from opsef_bridge.errors import InputError
from opsef_bridge.train import training
from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.card import model_card
from opsef_bridge.train.colour import StainAugmentation, augment_colour
from opsef_bridge.train.data import Sample
from opsef_bridge.train.learner import Learner
from opsef_bridge.train.loop import one_cycle
from opsef_bridge.train.network import GRID, StarDistModule, folded
from opsef_bridge.train.stardist_layers import (
    convolutions,
    export_graph,
    filled,
    predict,
    read_layers,
)
from opsef_bridge.train.transfer import not_ours

__all__ = [
    "Settings",
    "StarDistLearner",
    "StarDistModule",
    "batch_of",
    "configuration",
    "convolutions",
    "export_onnx",
    "fit",
    "folded",
    "load",
    "loss",
    "predict",
    "stardist_card",
    "targets",
]


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
    network = training.fit(StarDistLearner(), samples, settings, report, start=start)
    assert isinstance(network, StarDistModule)
    return network


class StarDistLearner(Learner):
    """StarDist's 2D network to the loop that all families share."""

    engine = "stardist"
    Settings = Settings

    def check(self, samples: Sequence[Sample], settings: Settings) -> None:
        super().check(samples, settings)
        volume = next((sample for sample in samples if sample.labels.ndim != 2), None)
        if volume is not None:
            raise InputError(
                f"{volume.name} is {volume.labels.shape}: this network learns planes",
                hint="Volumes are for the network for volumes: the setting volumes=true",
            )
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

    def network(self, settings: Settings, examples: Sequence[Sample]) -> StarDistModule:
        how = settings.features, settings.channels
        return StarDistModule(settings.rays, settings.width, settings.depth, *how)

    def load(self, weights: Weights, settings: Settings) -> tuple[StarDistModule, Settings]:
        return load(weights, settings)

    def rate(self, step: int, settings: Settings) -> float:
        return one_cycle(step, settings.steps, settings.rate, settings.warm_up)

    def batch(
        self, rng: np.random.Generator, examples: Sequence[Sample], settings: Settings
    ) -> tuple[Tensor, ...]:
        return batch_of(rng, examples, settings)

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...], settings: Settings) -> Tensor:
        images, prob, dist = batch
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            logits, found = network(images)
        return loss(logits.float(), found.float(), prob, dist, settings)

    def save(self, network: nn.Module, settings: Settings, folder: Path, name: str) -> Path:
        assert isinstance(network, StarDistModule)
        path = folder / f"{name}.onnx"
        export_onnx(network, settings, path)
        return path

    def card(
        self, name: str, settings: Settings, data: dict[str, Any], sha256: str
    ) -> dict[str, Any]:
        return stardist_card(name, [settings], data, sha256)


def load(weights: Weights, settings: Settings) -> tuple[StarDistModule, Settings]:
    """Return the network of an ONNX file of StarDist's, and the settings with its sizes.

    Raises
    ------
    WeightsError
        It is of another architecture: of volumes, of another grid, a ResNet.
    """
    layers = read_layers(weights)
    if layers.dims != 2:
        raise not_ours(weights, "its network is one for volumes")
    first = layers.kernel(0)
    # Two convolutions before the first pooling, two in the middle, four for every level.
    sized = replace(
        settings,
        rays=len(layers.kernel(-1)),
        width=len(first),
        depth=(len(layers.names) - 3 - 4) // 4,
        features=len(layers.kernel(-3)),
        augmentation=_augmentation(settings, first.shape[1]),
    )
    network = StarDistLearner().network(sized, ())
    how = {"channels": sized.channels, "multiple": GRID * 2**sized.depth}
    return filled(network, layers, weights, configuration(sized), **how), sized


def _augmentation(settings: Settings, channels: int) -> Augmentation:
    """Return the augmentation of the settings, as one for grey or for colour images."""
    how = settings.augmentation
    if channels == settings.channels:
        return how
    kind = Augmentation if channels == 1 else StainAugmentation
    return kind(**{part.name: getattr(how, part.name) for part in fields(Augmentation)})


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
        if (labels > 0).any():
            break
    return image, labels


def targets(labels: np.ndarray, rays: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the network has to say of `labels`.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        Negative where nobody vouched.
    rays : int

    Returns
    -------
    prob : ndarray of float32, shape (1, Y/2, X/2)
        Distance to the object's edge over its largest value in the object; -1 where nobody
        vouched.
    dist : ndarray of float32, shape (Y/2, X/2, rays)
        Distance in px along each ray to the object's edge.
    """
    from stardist.geometry import star_dist
    from stardist.utils import edt_prob

    known = labels.clip(0)
    prob = edt_prob(known)[::GRID, ::GRID].astype(np.float32)
    prob[labels[::GRID, ::GRID] < 0] = -1
    dist = star_dist(known, rays, mode="cpp", grid=(GRID, GRID))
    return prob[None], dist.astype(np.float32)


def loss(
    logits: Tensor,
    found: Tensor,
    prob: Tensor,
    dist: Tensor,
    settings: Any,
    solid: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the probabilities plus the weighted loss of the distances.

    Distances count in objects only, by the probability that they should have: the pixels
    that non-maximum suppression is to choose count most.

    Parameters
    ----------
    logits, prob : Tensor of float32, shape (N, 1, [Z,] Y, X)
        Found and true; negative where nobody vouched, which counts nothing.
    found : Tensor of float32, shape (N, rays, [Z,] Y, X)
        Distances in px.
    dist : Tensor of float32, shape (N, [Z,] Y, X, rays)
        True distances in px.
    settings
        With ``distance_loss`` and ``distance_weight``.
    solid : Tensor of float32, shape (rays,), optional
        Share of each ray in the volume of a polyhedron whose rays are all 1 px; by default
        all are alike.
    """
    known = prob >= 0
    if not known.any():
        return (logits.sum() + found.sum()) * 0
    # All of them in one piece where it can be: another order of adding rounds otherwise.
    chosen = (logits, prob) if known.all() else (logits[known], prob[known])
    entropy = functional.binary_cross_entropy_with_logits(*chosen)
    inside = prob[:, 0] > 0
    found, dist, weights = found.movedim(1, -1)[inside], dist[inside], prob[:, 0][inside]
    error = (found - dist).abs().mean(1)
    if settings.distance_loss == "overlap":
        # Areas go with the squares of the rays, volumes with their cubes. A little of the error
        # itself leads rays back that have become negative.
        found, power = found.clamp(min=0), logits.ndim - 2
        one = 1 if solid is None else solid
        shared = (torch.minimum(found, dist).pow(power) * one).sum(1)
        united = (torch.maximum(found, dist).pow(power) * one).sum(1)
        error = 1 - (shared + 1) / (united + 1) + 0.02 * error
    distances = (error * weights).sum() / weights.sum().clamp(min=1)
    return entropy + settings.distance_weight * distances


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


def export_onnx(network: StarDistModule, settings: Settings, path: str | Path) -> None:
    """Write `network` as ONNX: probabilities and distances, of any batch and size."""
    export_graph(network, configuration(settings), path)


def stardist_card(
    name: str,
    stages: Sequence[Any],
    data: dict[str, Any],
    sha256: str,
    config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the card of a network: what the engine needs to know, and how it came about.

    `stages` are the settings of its trainings, each from where the one before ended; `config` is
    its configuration, by default that of the first stage.
    """
    packages = ("torch", "onnx", "onnxruntime", "stardist", "numpy", "scipy", "scikit-image")
    config = config or configuration(stages[0])
    return model_card(
        name,
        "stardist",
        f"{name}.onnx",
        sha256,
        packages,
        input={**describe_network(config), "clip": list(CLIP)},
        output=["prob", "dist"],
        network=config,
        data=data,
        recipe={
            "loss": "cross-entropy of the probability + weighted loss of the distances",
            "optimiser": "AdamW, learning rate up and down along cosines (OneCycleLR)",
            "stages": [asdict(settings) for settings in stages],
        },
    )
