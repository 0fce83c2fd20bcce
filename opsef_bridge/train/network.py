"""The U-Net, StarDist's network and FPN2's as torch modules.

References
----------
.. [1] T.-Y. Lin et al., "Feature pyramid networks for object detection", CVPR 2017:936-944.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from opsef_bridge.engines.stardist_config import steps_to
from opsef_bridge.errors import WorkerError
from opsef_bridge.train.encoders import load_encoder

__all__ = [
    "CONVOLUTIONS",
    "GRID",
    "NORMS",
    "StarDistModule",
    "UNetModule",
    "chains",
    "check_device",
    "folded",
    "parameter_count",
]

PRIOR = -3.0
"""Logits of an untrained network: nearly nothing anywhere, as in most pixels. From 0, half
of the steps would go into learning that."""

SMALL = "small"
"""The encoder that is written here."""

GRID = 2
"""Step in px between two pixels of StarDist's maps, of planes."""

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers of networks for planes and for volumes."""

_POOLS = (nn.MaxPool2d, nn.MaxPool3d)


class UNetModule(nn.Module):
    """A compact U-Net: one grey channel in, three class scores (logits) out.

    Parameters
    ----------
    width : int
        Channels of the first level; they double at each of the `depth` poolings.
    depth : int
        Number of poolings; sides of the input are multiples of ``2**depth``.
    """

    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _block(before, after) for before, after in zip([1, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            _block(deep + skip, skip)
            for deep, skip in zip(sizes[:0:-1], sizes[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(width, 3, 1)
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, Y, X) to logits (N, 3, Y, X): background, interior, border."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([self.enlarge(x), skip], dim=1))
        return self.head(x)


class StarDistModule(nn.Module):
    """StarDist's network: grey or colour in, probability and distances out.

    Parameters
    ----------
    rays : int
    width : int
        Channels of the first level of the U-Net; they double at each pooling.
    depth : int
        Poolings of the U-Net, which begins at the grid; each halves all axes.
    features : int
        Channels of the convolution after the U-Net.
    channels : int
        Channels of the image.
    grid : tuple of int
        Step in px between two pixels of what comes out, along (Y, X) or (Z, Y, X): the network
        is one for planes or for volumes. Powers of 2.
    """

    def __init__(
        self,
        rays: int = 32,
        width: int = 16,
        depth: int = 3,
        features: int = 64,
        channels: int = 1,
        grid: tuple[int, ...] = (GRID, GRID),
    ) -> None:
        super().__init__()
        dims, sizes = len(grid), [width * 2**level for level in range(depth)]
        flat, pool = CONVOLUTIONS[dims - 2], _POOLS[dims - 2]
        stem: list[nn.Module] = []
        for step in steps_to(grid):
            stem += [*_block(width if stem else channels, width, dims=dims), pool(tuple(step))]
        self.stem = nn.Sequential(*stem)
        first = width if stem else channels
        self.down = nn.ModuleList(
            _block(before, size, dims=dims)
            for before, size in zip([first, *sizes], sizes, strict=False)
        )
        self.middle = _block(sizes[-1], 2 * sizes[-1], sizes[-1], dims=dims)
        self.up = nn.ModuleList(
            _block(2 * size, size, max(size // 2, width), dims=dims) for size in reversed(sizes)
        )
        self.features = nn.Sequential(*_convolution(width, features, dims))
        self.prob = flat(features, 1, 1)
        self.dist = flat(features, rays, 1)
        self.pool = pool(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, [Z,] Y, X) to logits (N, 1, ...) and distances (N, rays, ...) on the grid."""
        x = self.stem(x)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.middle(x)
        for block, skip in zip(self.up, reversed(skips), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), skip], dim=1))
        x = self.features(x)
        return self.prob(x), self.dist(x)


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
        widths: Sequence[int] = (16, 32, 64, 128, 192),
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


def folded(network: StarDistModule) -> StarDistModule:
    """Return a copy without batch normalisation, ready to predict: the same function."""
    network = copy.deepcopy(network).eval()
    for chain in chains(network):
        for place, layer in enumerate(chain):
            if isinstance(layer, NORMS):
                chain[place - 1] = fuse_conv_bn_eval(chain[place - 1], layer)
                chain[place] = nn.Identity()
    return network


def chains(network: StarDistModule) -> Iterator[nn.Sequential]:
    """Give the convolution blocks in the order of the data."""
    yield network.stem
    yield from network.down
    yield network.middle
    yield from network.up
    yield network.features


def check_device(device: str) -> None:
    """Refuse a device that torch cannot train on.

    Raises
    ------
    WorkerError
        It is neither ``"cpu"`` nor a ``"cuda"`` that torch can use here.
    """
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise WorkerError(
            f"torch cannot train on the device {device!r} here",
            hint="Use cpu; or on a machine with an NVIDIA GPU cuda, with a torch built for it",
        )


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable numbers of `network`."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _block(before: int, inside: int, after: int | None = None, dims: int = 2) -> nn.Sequential:
    """Two convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(
        *_convolution(before, inside, dims), *_convolution(inside, after or inside, dims)
    )


def _convolution(before: int, after: int, dims: int = 2) -> list[nn.Module]:
    """A convolution of 3 px along each of `dims` axes, with batch normalisation and ReLU."""
    return [
        CONVOLUTIONS[dims - 2](before, after, 3, padding=1, bias=False),
        NORMS[dims - 2](after),
        nn.ReLU(inplace=True),
    ]
