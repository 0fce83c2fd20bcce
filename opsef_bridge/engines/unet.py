"""``unet``: a U-Net of three classes (background, interior, border), run by ONNX Runtime.

Any ONNX file serves that maps ``(N, 1, Y, X)`` float32 to ``(N, 3, Y, X)`` probabilities of
background, interior and border, for any Y and X that are multiples of 16.
`opsef_bridge.train` makes such files.

OpSeF [2]_ ran a network of the same classes. Its post-processing (``UNet_Watershed``) read
the background in place of the border class, took its seeds above half the one global
maximum of the distance transform, so that small nuclei vanished beside a large one, and
labelled the background 1. Here every local maximum that stands out from its surroundings
is a seed, and the background is 0. Its ``UNetShape``, the size to which images were
brought, is ``scale`` here.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical
   image segmentation", MICCAI 2015:234-241.
.. [2] T. M. Rasse, R. Hollandi, P. Horvath, "OpSeF: open source Python framework for
   collaborative instance segmentation of bioimages", Front. Bioeng. Biotechnol. 8:558880,
   2020.
.. [3] J. C. Caicedo et al., "Evaluation of deep learning strategies for nucleus
   segmentation in fluorescence images", Cytometry A 95:952-965, 2019. (The three classes.)
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from opsef_bridge.engines.base import Parameters, Raw, Scaled, Weights
from opsef_bridge.engines.parting import part
from opsef_bridge.engines.runtime import open_session
from opsef_bridge.engines.scaling import (
    CLIP,
    decode_on_finer_grid,
    finite_plane,
    normalise,
    percentiles,
    resize,
)
from opsef_bridge.errors import WeightsError, WorkerError

__all__ = ["UNet", "prepare", "run_tiled"]

PERCENTILES = (1.0, 99.8)
"""Mapped to 0 and 1, unless the card of the weights names others."""

MULTIPLE = 16
"""Sides of a network's input: four poolings of 2."""

MARGIN = 128
"""Width in px of a tile's rim that is thrown away. The network sees 122 px far: 3x3
convolutions, two per level, 62 px down and 30 px up again, poolings and their undoing 30."""


class Predict(Scaled):
    """Parameters that need a new pass."""

    tile: int = Field(1024, ge=MULTIPLE)
    """Side in px, on the resized image, of the tiles of a large one; memory, not labels."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    threshold: float = Field(0.7, gt=0, lt=1)
    """Probability of interior above which a pixel belongs to the core of an object; bound of
    the foreground too, unless that is set."""
    foreground: float | None = Field(None, gt=0, lt=1)
    """Probability of interior or border above which a pixel belongs to an object."""
    prominence: float = Field(1.0, gt=0, le=100)
    """How much deeper than the neck between them, in px of the network, two parts of a core
    must be to become two objects; smaller values part more."""
    min_size: int = Field(20, ge=0)
    """Smaller objects are dropped; pixels of the original image."""


class UNet:
    """Three-class U-Net; interiors parted at their necks, then grown over their borders.

    The image is normalised to its 1st and 99.8th percentile (the card may name others),
    clipped to -0.2..4 and resized by ``scale``; best where the nuclei come out as large as
    those that the network has learned from.
    """

    name: ClassVar[str] = "unet"
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
        """Return the maps ``interior`` and ``foreground`` (interior or border)."""
        if self._session is None:
            raise WorkerError("unet was asked to predict before its weights were loaded")
        image = finite_plane(image, self.axes)
        reference = image if reference is None else finite_plane(reference, self.axes)
        prepared = prepare(image, self._percentiles, reference=reference)
        maps = run_tiled(self._run, resize(prepared, parameters.scale), parameters.tile)
        return Raw(
            {"interior": maps[1], "foreground": maps[1] + maps[2]},
            image.shape,
            {"scale": parameters.scale},
        )

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: seeds, watershed, small objects dropped."""
        maps = np.stack([raw.maps["interior"], raw.maps["foreground"]]).astype(np.float32)
        inside, prominence = parameters.threshold, parameters.prominence
        outline = inside if parameters.foreground is None else parameters.foreground
        # Maps of a shrunk image are enlarged before they are decoded, and so is their jitter.
        pixel = max(1.0, 1 / raw.values["scale"])

        def split(maps: np.ndarray) -> np.ndarray:
            cores, foreground = maps[0] > inside, maps[1] > outline
            return part(cores, foreground, prominence * pixel, blur=pixel)

        return decode_on_finer_grid(maps, raw.shape, split, min_size=parameters.min_size)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        name = self._session.get_inputs()[0].name
        return self._session.run(None, {name: batch})[0]


def prepare(
    image: np.ndarray,
    limits: tuple[float, float] = PERCENTILES,
    *,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Map two percentiles of `reference` to 0 and 1 and clip to -0.2..4.

    Where both are one value (a few objects on a dead even ground) minimum and maximum take
    their place; a constant image becomes zeros.

    Parameters
    ----------
    image : (M, N) ndarray
        Any real dtype, finite.
    limits : tuple of float
        The percentiles, in percent.
    reference : ndarray, optional
        Where the percentiles are taken; `image` itself by default.

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> prepare(np.array([[0, 5, 10]]), (0, 100))
    array([[0. , 0.5, 1. ]], dtype=float32)
    """
    reference = image if reference is None else reference
    return normalise(image, percentiles(reference, *limits), clip=CLIP)


def run_tiled(
    network: Callable[[np.ndarray], np.ndarray], image: np.ndarray, tile: int
) -> np.ndarray:
    """Run a network on an image of any size, in equal tiles where it is large.

    The image is continued by reflection to multiples of 16. Each tile is cut with a rim of
    128 px, wider than the network sees, and the rim of its output is thrown away: the
    result is that of the whole image.

    Parameters
    ----------
    network : callable
        From float32 (1, 1, Y, X), sides multiples of 16, to float32 (1, C, Y, X).
    image : (M, N) ndarray of float32
    tile : int
        Side in px that tiles should have, without their rims; up to half as much again.

    Returns
    -------
    (C, M, N) ndarray of float32
    """
    height, width = image.shape
    padded = np.pad(image, [(0, -side % MULTIPLE) for side in image.shape], mode="reflect")
    rows = []
    for top, bottom in _cuts(padded.shape[0], tile):
        row = []
        for left, right in _cuts(padded.shape[1], tile):
            above, before = min(top, MARGIN), min(left, MARGIN)
            cut = padded[top - above : bottom + MARGIN, left - before : right + MARGIN]
            found = network(cut[None, None])[0]
            row.append(found[:, above : above + bottom - top, before : before + right - left])
        rows.append(np.concatenate(row, axis=2))
    return np.concatenate(rows, axis=1)[:, :height, :width]


def _cuts(side: int, tile: int) -> list[tuple[int, int]]:
    """Cut `side` into about equal parts near `tile`, all multiples of 16: starts and ends."""
    count = max(1, round(side / tile))
    edges = [side * part // count // MULTIPLE * MULTIPLE for part in range(count + 1)]
    return list(pairwise(edges))


def _check_shape(session: Any, weights: Weights) -> None:
    """Refuse a network that is not one of a grey image and three classes."""
    takes, gives = session.get_inputs()[0].shape, session.get_outputs()[0].shape
    if [len(takes), len(gives), takes[1:2], gives[1:2]] != [4, 4, [1], [3]]:
        raise WeightsError(
            f"the weights {weights.name!r} map {takes} to {gives}",
            hint="unet needs a network from (N, 1, Y, X) to (N, 3, Y, X)",
        )
