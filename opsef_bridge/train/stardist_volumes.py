"""Train StarDist's 3D network in torch: volumes, as they are.

The network is layer by layer the U-Net that the ``stardist`` package builds from a
configuration (``Config3D``) of this grid, so its weights go both ways. Batch normalisation
after each convolution makes it learn faster; on the way to the file it is folded in.

References
----------
.. [1] M. Weigert, U. Schmidt, R. Haase, K. Sugawara, G. Myers, "Star-convex polyhedra for 3D
   object detection and segmentation in microscopy", WACV 2020:3666-3673.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.stardist_card import read_card
from opsef_bridge.engines.stardist_config import steps_to
from opsef_bridge.engines.stardist_graph import with_defaults
from opsef_bridge.errors import InputError
from opsef_bridge.train.augment import Augmentation
from opsef_bridge.train.data import Sample
from opsef_bridge.train.learner import Learner
from opsef_bridge.train.loop import one_cycle
from opsef_bridge.train.network import StarDistModule
from opsef_bridge.train.stardist import loss, stardist_card
from opsef_bridge.train.stardist_crops import draw_crop, known_objects, renumbered
from opsef_bridge.train.stardist_layers import export_graph, filled, read_layers
from opsef_bridge.train.transfer import not_ours

if TYPE_CHECKING:
    from stardist.rays3d import Rays_Base

__all__ = ["Settings", "VolumeLearner", "anisotropy_of", "configuration", "targets"]

LARGEST = 2**16 - 1
"""The package's compiled code takes labels up to this one."""


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the weights. Axes are (Z, Y, X)."""

    steps: int = 2000
    batch: int = 2
    crop: tuple[int, ...] = (24, 64, 64)
    """Voxels. Smaller along an axis where no volume is as large."""
    rays: int = 64
    grid: tuple[int, ...] = (1, 2, 2)
    """Step in voxels between two places at which the network looks for an object's middle:
    powers of 2, 1 where objects have few voxels."""
    anisotropy: tuple[float, ...] = ()
    """Size of a voxel along each axis, in any unit. Empty: measured, see `anisotropy_of`."""
    width: int = 16
    depth: int = 2
    features: int = 64
    rate: float = 4e-3
    warm_up: float = 0.1
    """Part of the steps in which the learning rate rises; then it falls along a cosine."""
    weight_decay: float = 1e-4
    distance_loss: str = "overlap"
    """``"overlap"`` (of the polyhedra) or ``"absolute"`` (mean error in voxels, as in [1]_)."""
    distance_weight: float = 1.0
    with_objects: float = 0.9
    """Part of the crops that must show an object."""
    bfloat16: bool = True
    seed: int = 0
    device: str = "cpu"
    augmentation: Augmentation = field(default_factory=Augmentation)
    volumes: bool = True
    """By this word a user asks for this network."""

    @property
    def multiple(self) -> tuple[int, ...]:
        """Of which the sides of what the network takes are multiples, in voxels."""
        return tuple(step * 2**self.depth for step in self.grid)


class VolumeLearner(Learner):
    """StarDist's 3D network to the loop that all families share."""

    engine = "stardist"
    Settings = Settings
    volumes = True

    def suited(self, settings: Settings, samples: Sequence[Sample]) -> Settings:
        """Return the settings with what the samples decide: anisotropy, and the largest crop.

        A crop is no larger than the largest volume, rounded up to what the network can take.
        Smaller volumes are continued by reflection, and nothing is learned there.
        """
        _check_axes(settings)
        planes = [sample.name for sample in samples if sample.labels.ndim != 3]
        if not samples or planes:
            return settings  # `check` says so
        largest = np.max([sample.labels.shape for sample in samples], axis=0)
        multiples = zip(settings.multiple, largest, strict=True)
        most = [math.ceil(side / multiple) * multiple for multiple, side in multiples]
        crop = tuple(min(side, int(end)) for side, end in zip(settings.crop, most, strict=True))
        anisotropy = settings.anisotropy or anisotropy_of([sample.labels for sample in samples])
        return replace(settings, crop=crop, anisotropy=tuple(map(float, anisotropy)))

    def check(self, samples: Sequence[Sample], settings: Settings) -> None:
        super().check(samples, settings)
        _check_axes(settings)
        if not settings.anisotropy:
            raise InputError(
                "the anisotropy of the rays is not known yet",
                hint="VolumeLearner.suited measures it, or give it: anisotropy=[2,1,1]",
            )
        for sample in samples:
            if sample.labels.ndim != 3:
                raise InputError(
                    f"{sample.name} is a plane of shape {sample.labels.shape}: this network "
                    "learns volumes",
                    hint="Make a dataset of volumes only, or train the network for planes: "
                    "volumes=false",
                )
            if sample.image.shape != sample.labels.shape:
                raise InputError(
                    f"{sample.name} is {sample.image.shape}, its labels are {sample.labels.shape}",
                    hint="Only grey volumes can be learned from",
                )

    def network(self, settings: Settings, examples: Sequence[Sample]) -> StarDistModule:
        how = settings.rays, settings.width, settings.depth, settings.features
        return StarDistModule(*how, channels=1, grid=tuple(settings.grid))

    def load(self, weights: Weights, settings: Settings) -> tuple[StarDistModule, Settings]:
        """Return the network of an ONNX file, and the settings with its sizes and rays.

        The crop is rounded up to what the network takes.

        Raises
        ------
        WeightsError
            It is of another architecture: of planes, a ResNet, without ``features``.
        """
        card, layers = read_card(weights), read_layers(weights)
        if layers.dims != 3 or card.axes != "ZYX":
            raise not_ours(weights, "its network is one for planes")
        # Two convolutions before each pooling to the grid, two in the middle, four a level.
        places = len(layers.names) - 3 - 2 - 2 * len(steps_to(card.grid))
        sized = replace(
            settings,
            rays=len(layers.kernel(-1)),
            width=len(layers.kernel(0)),
            depth=places // 4,
            features=len(layers.kernel(-3)),
            grid=tuple(card.grid),
            anisotropy=tuple(card.anisotropy),
        )
        if places < 4 or places % 4 or tuple(card.multiple) != sized.multiple:
            raise not_ours(weights, f"{len(layers.names)} convolutions do not fit its card")
        sides = zip(sized.crop, sized.multiple, strict=False)
        sized = replace(sized, crop=tuple(math.ceil(side / m) * m for side, m in sides))
        network = self.network(sized, ())
        config = configuration(sized)
        return filled(network, layers, weights, config, multiple=sized.multiple), sized

    def rate(self, step: int, settings: Settings) -> float:
        return one_cycle(step, settings.steps, settings.rate, settings.warm_up)

    def batch(
        self, rng: np.random.Generator, examples: Sequence[Sample], settings: Settings
    ) -> tuple[Tensor, ...]:
        """Draw crops: images (N, 1, Z, Y, X), then what `targets` makes of their labels."""
        crops = [draw_crop(rng, examples, settings) for _ in range(settings.batch)]
        images = torch.from_numpy(np.stack([image for image, _ in crops])[:, None])
        aims = [targets(labels, settings) for _, labels in crops]
        prob, dist = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*aims, strict=True))
        return tuple(one.to(settings.device) for one in (images, prob, dist))

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...], settings: Settings) -> Tensor:
        images, prob, dist = batch
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            logits, found = network(images)
        solid = torch.from_numpy(_solid(settings.rays, settings.anisotropy)).to(dist.device)
        return loss(logits.float(), found.float(), prob, dist, settings, solid)

    def save(self, network: nn.Module, settings: Settings, folder: Path, name: str) -> Path:
        assert isinstance(network, StarDistModule)
        path = folder / f"{name}.onnx"
        export_graph(network, configuration(settings), path)
        return path

    def card(
        self, name: str, settings: Settings, data: dict[str, Any], sha256: str
    ) -> dict[str, Any]:
        return stardist_card(name, [settings], data, sha256, configuration(settings))


def _check_axes(settings: Settings) -> None:
    """Refuse sizes that are not three positive ones, or that the network cannot have."""
    three = {"crop": settings.crop, "grid": settings.grid}
    three |= {"anisotropy": settings.anisotropy} if settings.anisotropy else {}
    for name, value in three.items():
        kinds = (int,) if name != "anisotropy" else (int, float)
        if len(value) != 3 or not all(type(side) in kinds and side > 0 for side in value):
            raise InputError(
                f"{name} of the network for volumes is {list(value)}",
                hint="Give three positive numbers, along Z, Y and X: for example [1,2,2]",
            )
    if any(step & (step - 1) for step in settings.grid):
        raise InputError(f"grid is {list(settings.grid)}", hint="Give powers of 2: [1,2,2]")
    if any(side % m for side, m in zip(settings.crop, settings.multiple, strict=True)):
        raise InputError(
            f"crop {list(settings.crop)} is not made of multiples of {list(settings.multiple)}",
            hint=f"The grid {list(settings.grid)} and {settings.depth} poolings divide it so",
        )


def targets(labels: np.ndarray, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return what the network has to say of `labels`, as the package's training has it.

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        Negative where nobody vouched.
    settings : Settings
        For rays, grid and anisotropy.

    Returns
    -------
    prob : ndarray of float32, shape (1, ...) on the grid
        Distance to the object's edge over its largest value in the object; -1 where nobody
        vouched.
    dist : ndarray of float32, shape (..., rays) on the grid
        Distance in voxels along each ray to the object's edge.
    """
    from stardist.geometry import star_dist3D
    from stardist.utils import edt_prob

    known = np.ascontiguousarray(renumbered(labels, LARGEST).clip(0))
    places = tuple(slice(None, None, step) for step in settings.grid)
    prob = edt_prob(known, anisotropy=settings.anisotropy)[places].astype(np.float32)
    prob[labels[places] < 0] = -1
    rays = _rays(settings.rays, settings.anisotropy)
    dist = star_dist3D(known, rays, grid=settings.grid, mode="cpp")
    return prob[None], dist.astype(np.float32)


def anisotropy_of(labels: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return how large a voxel seems to be along each axis, if objects are as long as wide.

    The median of the largest extent over that along the axis, as the package's examples have
    it. Objects at an edge of what is vouched for are left out where five others are.

    Parameters
    ----------
    labels : sequence of ndarray of int, shape (Z, Y, X)
        Negative where nobody vouched.

    Examples
    --------
    >>> labels = np.zeros((9, 20, 20), int)
    >>> labels[3:6, 4:10, 4:10] = 1
    >>> anisotropy_of([labels])
    (2.0, 1.0, 1.0)
    """
    boxes = [box for one in labels for box in known_objects(one)]
    inner = [box for box in boxes if box.whole]
    chosen = inner if len(inner) >= 5 else boxes
    if not chosen:
        return (1.0, 1.0, 1.0)
    extents = np.median([box.extent for box in chosen], axis=0)
    z, y, x = (round(float(extents.max() / extent), 2) for extent in extents)
    return z, y, x


def configuration(settings: Settings) -> dict[str, Any]:
    """Return the configuration with which the package builds the same network."""
    anisotropy = list(map(float, settings.anisotropy))
    return with_defaults(
        {
            "axes": "ZYXC",
            "n_channel_in": 1,
            "n_rays": settings.rays,
            "grid": list(settings.grid),
            "anisotropy": anisotropy,
            "rays_json": {
                "name": "Rays_GoldenSpiral",
                "kwargs": {"n": settings.rays, "anisotropy": anisotropy},
            },
            "unet_n_depth": settings.depth,
            "unet_n_filter_base": settings.width,
            "net_conv_after_unet": settings.features,
        }
    )


@lru_cache(maxsize=8)
def _rays(count: int, anisotropy: tuple[float, ...]) -> Rays_Base:
    from stardist.rays3d import Rays_GoldenSpiral

    return Rays_GoldenSpiral(count, anisotropy=tuple(anisotropy))


@lru_cache(maxsize=8)
def _solid(count: int, anisotropy: tuple[float, ...]) -> np.ndarray:
    """Share of each ray in the volume: rays are even where voxels are made cubes."""
    long = _rays(count, anisotropy).vertices * np.array(anisotropy)
    return (np.linalg.norm(long, axis=1) ** 3).astype(np.float32)
