"""``fpn2ws``: a feature pyramid network of two maps and a watershed, run by ONNX Runtime.

One map is the distance to the edge of the object over its largest value in the object, the
other the border, 1 px wide and blurred by a Gaussian of sigma 1. Distances part touching
nuclei where a class border is too thin to do so. Any ONNX file serves that maps
``(N, 1, Y, X)`` float32 to ``(N, 2, Y, X)`` distance and border, both 0..1, for any Y and X
that are multiples of 16, and that sees less than 128 px far. `opsef_bridge.train.fpn2ws`
makes such files.

Zaki et al. [1]_ trained one network per map. Their flow closed the seeds, let them grow over
the border map alone, without a foreground mask, and told nuclei from background by its size
(over 100,000 px), which goes wrong in a small image. `grow` differs in all three;
``published: true`` decodes as they did, except for the last (see `flood`). Their tiles of
256 px with 50 px overlap, whose labels had to be joined, are not needed: tiles have a rim as
wide as the network sees, so that maps, and labels, are those of the whole image.

References
----------
.. [1] G. Zaki et al., "A deep learning pipeline for nucleus segmentation", Cytometry A
   97:1248-1264, 2020.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy import ndimage
from skimage import measure
from skimage.morphology import disk
from skimage.segmentation import watershed

from opsef_bridge.engines.base import Parameters, Raw, Scaled, Weights
from opsef_bridge.engines.runtime import open_session
from opsef_bridge.engines.scaling import decode_on_finer_grid, drop_small, finite_plane, resize
from opsef_bridge.engines.unet import MULTIPLE, PERCENTILES, prepare, run_tiled
from opsef_bridge.errors import WeightsError, WorkerError

__all__ = ["FPN2WS", "flood", "grow", "keep_largest"]

EIGHT = np.ones((3, 3))
"""Neighbourhood in a seed: diagonal pixels are connected."""

CLOSING = 6
"""Radius in px of the disc that closes seeds as published."""

QUIET = 0.05
"""Both maps lie below this where there is nothing: the seed of the background."""


class Predict(Scaled):
    """Parameters that need a new pass."""

    tile: int = Field(1024, ge=MULTIPLE)
    """Side in px, on the resized image, of the tiles of a large one; memory, not labels."""


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
        self._session: Any = None
        self._percentiles = PERCENTILES

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Open the ONNX file on `device`, ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        WeightsError
            The file is missing, cannot be read, or holds another kind of network.
        WorkerError
            ONNX Runtime cannot use `device`.
        """
        session = open_session(weights, device)
        _check_shape(session, weights)
        self._session = session
        low, high = weights.card.get("input", {}).get("percentiles", PERCENTILES)
        self._percentiles = (float(low), float(high))

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the maps ``distance`` and ``border``."""
        if self._session is None:
            raise WorkerError("fpn2ws was asked to predict before its weights were loaded")
        image = finite_plane(image, self.axes)
        reference = image if reference is None else finite_plane(reference, self.axes)
        prepared = prepare(image, self._percentiles, reference=reference)
        maps = run_tiled(self._run, resize(prepared, parameters.scale), parameters.tile)
        return Raw({"distance": maps[0], "border": maps[1]}, image.shape)

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: seeds, watershed, largest pieces, small objects dropped."""
        maps = np.stack([raw.maps["distance"], raw.maps["border"]]).astype(np.float32)

        def split(maps: np.ndarray) -> np.ndarray:
            if parameters.published:
                return flood(*maps, seed=parameters.seed)
            return grow(*maps, seed=parameters.seed, foreground=parameters.foreground)

        labels = decode_on_finer_grid(maps, raw.shape, split, min_size=0)
        return drop_small(keep_largest(labels), parameters.min_size)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        name = self._session.get_inputs()[0].name
        found: np.ndarray = self._session.run(None, {name: batch})[0]
        return found


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


def _check_shape(session: Any, weights: Weights) -> None:
    """Refuse a network that is not one of a grey image and two maps."""
    takes, gives = session.get_inputs()[0].shape, session.get_outputs()[0].shape
    if [len(takes), len(gives), takes[1:2], gives[1:2]] != [4, 4, [1], [2]]:
        raise WeightsError(
            f"the weights {weights.name!r} map {takes} to {gives}",
            hint="fpn2ws needs a network from (N, 1, Y, X) to (N, 2, Y, X)",
        )
