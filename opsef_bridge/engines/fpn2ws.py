"""``fpn2ws``: a feature pyramid network of two maps and a watershed, run by ONNX Runtime.

One map is the distance to the edge of the object over its largest value in the object, the
other the border, 1 px wide and blurred by a Gaussian of sigma 1. Distances part touching
nuclei where a class border is too thin to do so. Any ONNX file serves that maps
``(N, 1, Y, X)`` float32 to ``(N, 2, Y, X)`` distance and border, both 0..1, for any Y and X
that are multiples of 16, and that sees less than 128 px far (the card may name other
numbers, see `opsef_bridge.engines.map_network.Card`). `opsef_bridge.train.fpn2ws` makes such
files; `opsef_bridge.engines.fpn2ws_files` makes one of two networks of one map each.

Zaki et al. [1]_ trained one network per map. Their flow closed the seeds, let them grow over
the border map alone, without a foreground mask, and told nuclei from background by its size
(over 100,000 px), which goes wrong in a small image. `grow` differs in all three;
``published: true`` decodes as they did, except for the last (see `flood`). They cut images
into tiles of 256 px with 50 px overlap, segmented each and joined what shares 10 px or more:
``tile: 256`` and ``overlap: 50`` do so. Without ``overlap`` tiles have a rim as wide as the
network sees, so that maps, and labels, are those of the whole image.

References
----------
.. [1] G. Zaki et al., "A deep learning pipeline for nucleus segmentation", Cytometry A
   97:1248-1264, 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator
from scipy import ndimage
from skimage import measure
from skimage.morphology import disk
from skimage.segmentation import watershed

from opsef_bridge.engines.base import Parameters, Raw, Weights
from opsef_bridge.engines.devices import onnx_devices
from opsef_bridge.engines.map_network import MapNetwork, Tiled
from opsef_bridge.engines.scaling import (
    decode_on_finer_grid,
    drop_small,
    resize_labels,
    resize_to,
)
from opsef_bridge.measure.stitch import stitch

__all__ = ["FPN2WS", "flood", "grow", "keep_largest", "tile_boxes"]

EIGHT = np.ones((3, 3))
"""Neighbourhood in a seed: diagonal pixels are connected."""

CLOSING = 6
"""Radius in px of the disc that closes seeds as published."""

QUIET = 0.05
"""Both maps lie below this where there is nothing: the seed of the background."""


SHARED = 10
"""Pixels that two objects of different tiles must share to be one, as published."""


class Predict(Tiled):
    """Parameters that need a new pass."""

    overlap: int | None = Field(None, ge=1)
    """Tiles of ``tile`` px that overlap by so many px are segmented apart and their objects
    joined, as published (tile 256, overlap 50); by default tiles have rims, and labels are
    those of the whole image."""

    @model_validator(mode="after")
    def _tiles_advance(self) -> Predict:
        if self.overlap is not None and self.overlap > self.tile // 2:
            raise ValueError(f"overlap {self.overlap} is more than half of tile {self.tile}")
        return self


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    seed: float = Field(0.6, gt=0, lt=1)
    """Distance above which a pixel belongs to the middle of an object."""
    foreground: float = Field(0.05, gt=0, lt=1)
    """Distance above which a pixel may belong to an object; unused as published."""
    min_size: int = Field(20, ge=0)
    """Smaller objects are dropped; pixels of the original image."""
    published: bool = False
    """Decode as Zaki et al. did: no foreground mask, closed seeds (their seed: 0.6)."""


class FPN2WS:
    """Feature pyramid of two maps; seeds of high distance, grown by a watershed.

    The image is normalised to its 1st and 99.8th percentile (the card may name others),
    clipped to -0.2..4 and resized by ``scale``; best where the nuclei come out as large as
    those that the network has learned from.
    """

    name: ClassVar[str] = "fpn2ws"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX"})
    needs_weights: ClassVar[bool] = True
    Predict = Predict
    Decode = Decode

    def __init__(self) -> None:
        self._network = MapNetwork(self.name, maps=2)

    @classmethod
    def devices(cls, weights: Weights | None = None) -> tuple[str, ...]:
        """Return the devices that it can use here, best first."""
        return onnx_devices()

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Open the ONNX file on `device`, ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        WeightsError
            The file is missing, cannot be read, or holds another kind of network.
        WorkerError
            ONNX Runtime cannot use `device`.
        """
        self._network.open(weights, device)

    def lighten(self) -> str | None:
        """Make later passes need less memory by smaller tiles; None when nothing is left.

        Nothing is left for tiles that overlap: their size decides the labels.
        """
        return self._network.lighten()

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the maps ``distance`` and ``border``: (Y, X), or (tiles, Y, X) with `overlap`."""
        network = self._network
        plane = network.prepare(image, reference, parameters.scale)
        if parameters.overlap is None:
            maps, values = network.draw(plane, parameters.tile), {}
        else:
            values = {
                "tile": parameters.tile,
                "overlap": parameters.overlap,
                "height": plane.shape[0],
                "width": plane.shape[1],
            }
            boxes = tile_boxes(plane.shape, parameters.tile, parameters.overlap)
            maps = np.stack([network.draw(plane[box]) for box in boxes], axis=1)
        return Raw(
            {"distance": maps[0], "border": maps[1]},
            np.shape(image),
            {name: float(value) for name, value in values.items()},
        )

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: seeds, watershed, largest pieces, small objects dropped."""
        maps = np.stack([raw.maps["distance"], raw.maps["border"]]).astype(np.float32)

        def split(maps: np.ndarray) -> np.ndarray:
            if parameters.published:
                return flood(*maps, seed=parameters.seed)
            return grow(*maps, seed=parameters.seed, foreground=parameters.foreground)

        if "overlap" in raw.values:
            labels = _joined_tiles(maps, raw, split)
        else:
            labels = decode_on_finer_grid(maps, raw.shape, split, min_size=0)
        return drop_small(keep_largest(labels), parameters.min_size)


def tile_boxes(shape: tuple[int, ...], tile: int, overlap: int) -> list[tuple[slice, slice]]:
    """Return the tiles that cover a plane, row by row, all of one size.

    Parameters
    ----------
    shape : tuple of int
        Of the plane.
    tile, overlap : int
        Side of a tile, and how far the next one reaches back into it, in px. The last one of
        a row or column ends with the plane and reaches back further.

    Examples
    --------
    >>> [(y.start, x.start) for y, x in tile_boxes((256, 500), 256, 50)]
    [(0, 0), (0, 206), (0, 244)]
    """
    places = []
    for side in shape:
        last = max(0, side - tile)
        places.append([*range(0, last, tile - overlap), last])
    return [(slice(y, y + tile), slice(x, x + tile)) for y, x in product(*places)]


def _joined_tiles(
    maps: np.ndarray, raw: Raw, split: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Segment every tile apart, and join what the tiles share; labels of the image's size.

    Works on the finer of the grids of network and image, as `decode_on_finer_grid` does.
    """
    values = {name: int(value) for name, value in raw.values.items()}
    grid = (values["height"], values["width"])
    finer = raw.shape if any(g < s for g, s in zip(grid, raw.shape, strict=True)) else grid
    tiles, positions = [], []
    for number, box in enumerate(tile_boxes(grid, values["tile"], values["overlap"])):
        ends = [
            (round(cut.start * new / old), round(min(cut.stop, old) * new / old))
            for cut, new, old in zip(box, finer, grid, strict=True)
        ]
        size = tuple(stop - start for start, stop in ends)
        tiles.append(split(resize_to(maps[:, number], (2, *size))))
        positions.append([start for start, _ in ends])
    return resize_labels(stitch(tiles, positions, finer, least=SHARED), raw.shape)


def grow(distance: np.ndarray, border: np.ndarray, *, seed: float, foreground: float) -> np.ndarray:
    """Let every piece of high distance grow up to its border, within the foreground.

    What is not foreground is a seed, too, that of the background: it takes back what lies
    beyond the border of an object. Without it outlines would hang on `foreground`, which
    means a pixel's width of a small object and three of a large one. The landscape is
    ``border - distance / 4``.

    Parameters
    ----------
    distance, border : (M, N) ndarray of float
        0..1.
    seed, foreground : float
        Distances above which a pixel is part of a seed, and may belong to an object.

    Returns
    -------
    labels : (M, N) ndarray of int32

    Examples
    --------
    >>> distance = np.array([[0, 0.1, 0.3, 0.9, 0.3, 0.3, 0.9, 0.1, 0]])
    >>> border = np.array([[0, 0.2, 0.4, 0.2, 0.4, 0.5, 0.2, 0.4, 0]])
    >>> grow(distance, border, seed=0.6, foreground=0.05)
    array([[0, 0, 1, 1, 1, 2, 2, 2, 0]], dtype=int32)
    """
    seeds, count = ndimage.label(distance > seed, structure=EIGHT)
    inside = (distance > foreground) | (seeds > 0)
    around = ndimage.binary_dilation(inside, EIGHT)  # of the background its rim is enough
    seeds[~inside] = count + 1
    labels = watershed(border - distance / 4, seeds, mask=around)
    return np.where(labels > count, 0, labels)


def flood(distance: np.ndarray, border: np.ndarray, *, seed: float) -> np.ndarray:
    """Let every piece of high distance grow up to its border, without a mask: as published.

    Seeds are closed by a disc of 6 px, as Zaki et al. did, which may join those of nuclei
    that lie side by side; the watershed climbs the border alone. What is on the other side of the
    border is the background. It has a seed of its own, the pixels where both maps are below
    0.05, and its region is dropped, of whatever size.

    Parameters
    ----------
    distance, border : (M, N) ndarray of float
        0..1.
    seed : float
        Distance above which a pixel is part of a seed; 0.6 in the paper.

    Returns
    -------
    labels : (M, N) ndarray of int32
    """
    # The image goes on beyond its edge, which must not eat what is closed there.
    middle = np.pad(distance > seed, CLOSING, mode="edge")
    closed = ndimage.binary_closing(middle, disk(CLOSING))[CLOSING:-CLOSING, CLOSING:-CLOSING]
    seeds, count = ndimage.label(closed, structure=EIGHT)
    quiet = (distance < QUIET) & (border < QUIET) & ~closed
    labels = watershed(border, np.where(quiet, count + 1, seeds))
    return np.where(labels > count, 0, labels)


def keep_largest(labels: np.ndarray) -> np.ndarray:
    """Keep the largest 8-connected piece of every label.

    Examples
    --------
    >>> keep_largest(np.array([[1, 1, 0, 1, 2]]))
    array([[1, 1, 0, 0, 2]])
    """
    pieces, count = measure.label(labels, connectivity=2, return_num=True)
    area = np.bincount(pieces.ravel(), minlength=count + 1)
    owner = np.zeros(count + 1, np.intp)
    owner[pieces.ravel()] = labels.ravel()
    # Of one label's pieces in the order of their area the last is the largest.
    order = np.argsort(area, kind="stable")
    largest = np.zeros(owner.max(initial=0) + 1, np.intp)
    largest[owner[order]] = order
    return np.where(largest[labels] == pieces, labels, 0)
