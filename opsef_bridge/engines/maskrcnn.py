"""``maskrcnn``: boxes around objects, and in each box a mask; the network run by torchvision.

A first part of the network proposes boxes, a second judges each, moves its sides and draws
the object in it on 28 x 28 cells [1]_. `predict` keeps all candidates above a low score, so
that the thresholds of score, mask and overlap decode from one pass. Masks overlap: they are
painted in the order of rising scores, so that of two the better lies on top.

A large image is cut into tiles of 256 px with 50 px overlap, as by Zaki et al. [2]_. Labels
of two tiles that are one object are joined, transitively, and of every object the largest
piece is kept. They joined what shares 10 px (``join: 10``), which makes one of touching
nuclei whose border two tiles draw differently.

Weights are a ``state_dict`` that torch saved: of the small network that
`opsef_bridge.train.maskrcnn` trains, or of torchvision's ``maskrcnn_resnet50_fpn_v2`` or
``maskrcnn_resnet50_fpn``, of any number of classes, all of which but the background are
objects here. Tiles go into every network at their own size, so that ``scale`` alone decides
how large it sees an object; torchvision's own would resize them to 800 px.

References
----------
.. [1] K. He, G. Gkioxari, P. Dollar, R. Girshick, "Mask R-CNN", ICCV 2017:2961-2969.
.. [2] G. Zaki et al., "A deep learning pipeline for nucleus segmentation", Cytometry A
   97:1248-1264, 2020.
"""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from opsef_bridge.engines.base import Parameters, Raw, Scaled, Weights
from opsef_bridge.engines.devices import torch_devices
from opsef_bridge.engines.fpn2ws import keep_largest
from opsef_bridge.engines.map_network import Card, prepare, read_card
from opsef_bridge.engines.runtime import read_state, use_torch
from opsef_bridge.engines.scaling import drop_small, finite_plane, resize, resize_labels
from opsef_bridge.engines.untrusted import first_line
from opsef_bridge.errors import OpsefError, WeightsError, WorkerError
from opsef_bridge.measure.stitch import stitch

__all__ = ["MaskRCNN", "paint", "suppress"]

LEAST = 0.05
"""Score below which a candidate is not kept."""

LOOSE = 0.7
"""Overlap of boxes (IoU) above which the worse of two candidates is not kept."""

BATCH = 8
"""Tiles that go through the network together, as long as memory lasts."""


class Predict(Scaled):
    """Parameters that need a new pass."""

    tile: int = Field(256, ge=64, le=4096, multiple_of=16)
    """Side in px of the overlapping tiles, on the resized image."""
    overlap: int = Field(50, ge=0)
    """Least overlap of tiles in px, on the resized image; larger than most objects, at most
    half a tile."""
    candidates: int = Field(300, ge=1, le=1000)
    """The best so many of a tile are kept, each of 1.6 kB: the bound of memory."""

    @model_validator(mode="after")
    def _tiles_go_on(self) -> Self:
        if self.overlap * 2 > self.tile:
            raise ValueError(f"overlap {self.overlap} is more than half of tile {self.tile}")
        return self


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    score: float = Field(0.5, ge=LEAST, le=1)
    """Probability from which on a candidate is an object."""
    mask: float = Field(0.5, gt=0, lt=1)
    """Probability above which a pixel of a box belongs to its object."""
    nms: float = Field(0.2, gt=0, le=LOOSE)
    """Overlap of boxes (shared over united area) above which the worse of two candidates
    goes."""
    min_size: int = Field(20, ge=0)
    """Smaller objects are dropped; pixels of the original image."""
    join: int | None = Field(None, ge=1)
    """Pixels that the parts of an object in two tiles share at least, on the finer of the
    grids of network and image; 10 as published. By default they share half of the smaller
    part, within what both tiles see: neighbours that touch share a few pixels too."""


class MaskRCNN:
    """Boxes with masks, painted the best on top.

    The image is normalised to its 1st and 99.8th percentile (the card may name others),
    clipped to -0.2..4 and resized by ``scale``; best where the nuclei come out as large as
    those that the network has learned from. Networks for colour get it clipped to 0..1 in
    all three channels, which torchvision then normalises as those of ImageNet.

    Attributes
    ----------
    batch : int
        Tiles that go through the network together; `lighten` halves it.
    """

    name: ClassVar[str] = "maskrcnn"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX"})
    needs_weights: ClassVar[bool] = True
    Predict = Predict
    Decode = Decode

    def __init__(self) -> None:
        self.batch = BATCH
        self._network: Any = None
        self._device = "cpu"
        self.card = Card()

    @classmethod
    def devices(cls, weights: Weights | None = None) -> tuple[str, ...]:
        """Return the devices that torch offers here, best first."""
        return torch_devices()

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Build the network that the file is of, on `device`, ``"cpu"`` or ``"cuda"``.

        torch computes with one thread from now on: workers, not threads, fill the cores.

        Raises
        ------
        WeightsError
            The file is missing, cannot be read, or holds another kind of network; or its card
            cannot be right.
        WorkerError
            torch cannot use `device`.
        OpsefError
            The packages of the extra ``maskrcnn`` are not installed.
        """
        package = _package()
        use_torch(package.torch, device)
        card = read_card(weights)
        state = read_state(package.torch, weights)
        if not isinstance(state, dict):
            raise _not_maskrcnn(weights, f"it holds a {type(state).__name__}")
        try:
            network = package.networks.build(state)
        except (KeyError, IndexError, AttributeError, TypeError, RuntimeError) as error:
            raise _not_maskrcnn(weights, f"{type(error).__name__}: {first_line(error)}") from error
        self._network, self._device, self.card = network.to(device), device, card

    def lighten(self) -> str | None:
        """Let later passes need less memory; return what was done, None if nothing is left."""
        if self.batch == 1:
            return None
        self.batch //= 2
        return f"batch {self.batch}"

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the candidates of every tile, tile by tile, best first.

        ``boxes`` (N, 4) are x and y of two corners in px of their tile, whole numbers the
        middles of pixels. They are kept in two halves, ``boxes + boxes_rest``: half precision
        is a quarter of a pixel far from the tile's corner. ``scores`` (N,), soft ``masks``
        (N, 28, 28), and ``counts`` (tiles,), how many of them are each tile's.
        """
        if self._network is None:
            raise WorkerError("maskrcnn was asked to predict before its weights were loaded")
        image = finite_plane(image, self.axes)
        reference = image if reference is None else finite_plane(reference, self.axes)
        normalised = prepare(image, self.card.percentiles, reference=reference, clip=self.card.clip)
        resized = resize(normalised, parameters.scale)
        values = {
            "height": float(resized.shape[0]),
            "width": float(resized.shape[1]),
            "tile": float(parameters.tile),
            "overlap": float(parameters.overlap),
        }
        networks = _package().networks
        networks.limit_candidates(self._network, LEAST, LOOSE, parameters.candidates)
        tiles = _tiles(resized.shape, parameters.tile, parameters.overlap)
        found: list[dict[str, np.ndarray]] = []
        for first in range(0, len(tiles), self.batch):
            batch = np.stack([resized[tile] for tile in tiles[first : first + self.batch]])
            found += networks.detect(self._network, batch)
        maps = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
        coarse = maps["boxes"].astype(np.float16)
        counts = np.array([len(one["scores"]) for one in found])
        maps |= {"boxes": coarse, "boxes_rest": maps["boxes"] - coarse, "counts": counts}
        return Raw(maps, image.shape, values)

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: candidates chosen and painted, tiles joined, small ones dropped.

        They are painted on the finer of two grids, the network's and the original.
        """
        seen = (int(raw.values["height"]), int(raw.values["width"]))
        # Middles of the pixels of the labels, in px of the network from the image's edge.
        grid = [
            (np.arange(max(sides)) + 0.5) * sides[0] / max(sides)
            for sides in zip(seen, raw.shape, strict=True)
        ]
        boxes = raw.maps["boxes"].astype(np.float32) + raw.maps["boxes_rest"]
        tiles = _tiles(seen, int(raw.values["tile"]), int(raw.values["overlap"]))
        stops = np.cumsum(raw.maps["counts"].astype(int))
        painted, places = [], []
        for tile, start, stop in zip(tiles, [0, *stops], stops, strict=False):
            own = start + np.flatnonzero(raw.maps["scores"][start:stop] >= parameters.score)
            own = own[suppress(boxes[own], parameters.nms)]
            ends = [np.searchsorted(m, (t.start, t.stop)) for m, t in zip(grid, tile, strict=True)]
            rows, columns = (
                m[slice(*end)] - 0.5 - t.start for m, end, t in zip(grid, ends, tile, strict=True)
            )
            painted.append(
                paint(boxes[own], raw.maps["masks"][own], rows, columns, parameters.mask)
            )
            places.append([int(first) for first, _ in ends])
        labels = stitch(painted, places, [len(m) for m in grid], least=parameters.join)
        return drop_small(keep_largest(resize_labels(labels, raw.shape)), parameters.min_size)


def suppress(boxes: np.ndarray, overlap: float) -> np.ndarray:
    """Return which boxes are left when each, best first, removes those that it overlaps.

    Parameters
    ----------
    boxes : (N, 4) ndarray of float
        x and y of two corners, best first.
    overlap : float
        Shared over united area (IoU) above which the worse of two boxes goes.

    Returns
    -------
    ndarray of int
        Indices, rising.

    Examples
    --------
    >>> suppress(np.array([[0, 0, 10, 10], [0, 1, 10, 11], [0, 8, 10, 18]]), 0.5)
    array([0, 2])
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = shared.clip(0).prod(axis=2)
    area = (high - low).prod(axis=1)
    worse = shared > overlap * (area[:, None] + area - shared)
    left = np.ones(len(boxes), bool)
    for number, loses in enumerate(worse):
        if left[number]:
            left[number + 1 :] &= ~loses[number + 1 :]
    return np.flatnonzero(left)


def paint(
    boxes: np.ndarray,
    masks: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Paint masks into labels, the first, which is the best, on top.

    torchvision rounds boxes to whole pixels before it paints; here cells lie where they were
    sampled in training, and pixels between them are interpolated.

    Parameters
    ----------
    boxes : (N, 4) ndarray of float
        x and y of two corners; whole numbers are the middles of the network's pixels.
    masks : (N, S, S) ndarray of float
        Probability that a cell of the box, parted into S x S, belongs to the object.
    rows, columns : (Y,), (X,) ndarray of float
        Where the pixels to paint lie, in px of the network.
    threshold : float
        Probability above which a pixel is painted.

    Returns
    -------
    labels : (Y, X) ndarray of int32
        0 background, n + 1 the nth mask; those that are wholly covered are missing.
    """
    labels = np.zeros((len(rows), len(columns)), np.int32)
    for number in range(len(boxes), 0, -1):
        left, top, right, bottom = boxes[number - 1].tolist()
        y, down = _cells(rows, top, bottom, masks.shape[1])
        x, across = _cells(columns, left, right, masks.shape[2])
        soft = down @ masks[number - 1].astype(np.float32) @ across.T
        labels[y, x][soft > threshold] = number
    return labels


def _cells(places: np.ndarray, low: float, high: float, count: int) -> tuple[slice, np.ndarray]:
    """Return which of `places` a side of a box covers, and how much of which cell each has.

    Boxes end at the middle of the first pixel of a tile, 0: they cover all of it.
    """
    first = np.searchsorted(places, low) if low >= 0.5 else 0
    stop = max(first, np.searchsorted(places, high, side="right"))
    inside = (places[first:stop] - low) / max(high - low, 1e-3) * count - 0.5
    apart = np.abs(inside.clip(0, count - 1)[:, None] - np.arange(count))
    return slice(int(first), int(stop)), (1 - apart).clip(0).astype(np.float32)


def _tiles(shape: tuple[int, ...], side: int, overlap: int) -> list[tuple[slice, slice]]:
    """Return where the tiles of an image lie: of one size, evenly spread, row by row."""
    axes = []
    for length in shape:
        size = min(side, length)
        count = max(1, -(-(length - overlap) // (side - overlap))) if length > side else 1
        starts = np.linspace(0, length - size, count).round().astype(int).tolist()
        axes.append([slice(start, start + size) for start in starts])
    return list(product(*axes))


def _package() -> SimpleNamespace:
    """Return torch and the builder of networks; importing them takes seconds."""
    try:
        import torch

        from opsef_bridge.engines import maskrcnn_network as networks
    except ImportError as error:
        raise OpsefError(
            f"the engine 'maskrcnn' needs the packages torch and torchvision ({error})",
            hint='Install them by `pip install "opsef_bridge[maskrcnn]"`',
        ) from error
    return SimpleNamespace(torch=torch, networks=networks)


def _not_maskrcnn(weights: Weights, found: str) -> WeightsError:
    return WeightsError(
        f"the weights {weights.name!r} in {weights.path} are no Mask R-CNN that is known here: "
        f"{found}",
        hint="maskrcnn needs the state_dict() of torchvision's maskrcnn_resnet50_fpn_v2 or "
        "maskrcnn_resnet50_fpn, or of a network that `opsef_bridge.train.maskrcnn` trained",
    )
