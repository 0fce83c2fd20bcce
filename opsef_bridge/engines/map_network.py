"""A network that draws maps of a grey image, run by ONNX Runtime in tiles of any size.

What `opsef_bridge.engines.unet` and `opsef_bridge.engines.fpn2ws` share: an ONNX file from
``(N, 1, Y, X)`` float32 to ``(N, maps, Y, X)`` float32, and a card that says how its input
is made (see `Card`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError, field_validator

from opsef_bridge.engines.base import Scaled, Weights
from opsef_bridge.engines.runtime import open_session
from opsef_bridge.engines.scaling import CLIP, finite_plane, normalise, percentiles, resize
from opsef_bridge.errors import WeightsError, WorkerError

__all__ = [
    "CLIP",
    "MARGIN",
    "MULTIPLE",
    "PERCENTILES",
    "Card",
    "MapNetwork",
    "Tiled",
    "prepare",
    "read_card",
    "run_tiled",
]

PERCENTILES = (1.0, 99.8)
"""Mapped to 0 and 1, unless the card of the weights names others."""

MULTIPLE = 16
"""Sides of a network's input: four poolings of 2, unless the card says otherwise."""

MARGIN = 128
"""Width in px of a tile's rim that is thrown away, unless the card names another. The shipped
U-Net sees 122 px far: 3x3 convolutions, two per level, 62 px down and 30 px up again,
poolings and their undoing 30."""

TILE = 1024
LEAST_TILE = 256
"""In smaller tiles most of the work would be rims."""

AXES = frozenset({"YX"})


class Card(BaseModel):
    """What the card of the weights says of the network, under ``input``; all of it may lack."""

    percentiles: tuple[float, float] = PERCENTILES
    """Percentiles of the image, in percent, that are mapped to 0 and 1."""
    clip: tuple[float, float] = CLIP
    """Bounds of normalised values."""
    multiple: int = Field(MULTIPLE, ge=1)
    """Sides of the input are multiples of this; the image is continued by reflection."""
    margin: int = Field(MARGIN, ge=0)
    """Width in px of a tile's rim that is thrown away. Where the network sees further, what it
    says near the seams of tiles only comes close to what it says of the whole image."""

    @field_validator("percentiles", "clip")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError(f"{value} does not rise")
        return value

    @field_validator("percentiles")
    @classmethod
    def _is_percent(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] < 0 or value[1] > 100:
            raise ValueError(f"{value} are no percentages")
        return value


class Tiled(Scaled):
    """Parameters of a pass over a resized image, in tiles where it is large."""

    tile: int = Field(TILE, ge=MULTIPLE)
    """Side in px, on the resized image, of the tiles of a large one; memory, not labels."""


class MapNetwork:
    """A network of maps: opened once there are weights, and lighter when memory is short.

    Parameters
    ----------
    engine : str
        Who runs it.
    maps : int
        How many maps the network has to draw.
    """

    def __init__(self, engine: str, maps: int) -> None:
        self.card = Card()
        self._engine, self._maps = engine, maps
        self._session: Any = None
        self._asked, self._largest = TILE, sys.maxsize

    def open(self, weights: Weights, device: str = "cpu") -> None:
        """Open the file of `weights` on `device`, ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        WeightsError
            The file is missing, cannot be read, or holds another kind of network; or its card
            cannot be right.
        WorkerError
            ONNX Runtime cannot use `device`.
        """
        session = open_session(weights, device)
        _check_shape(session, weights, self._engine, self._maps)
        self.card = read_card(weights)
        self._session = session

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the maps (N, maps, Y, X) of a float32 batch (N, 1, Y, X), as it is.

        Raises
        ------
        WorkerError
            There are no weights yet.
        """
        if self._session is None:
            raise WorkerError(f"{self._engine} was asked to predict before its weights were loaded")
        name = self._session.get_inputs()[0].name
        found: np.ndarray = self._session.run(None, {name: batch})[0]
        return found

    def prepare(self, image: np.ndarray, reference: np.ndarray | None, scale: float) -> np.ndarray:
        """Return `image` as the network takes it: normalised, then resized by `scale`.

        Raises
        ------
        InputError
            It is no plane of finite real numbers.
        """
        image = finite_plane(image, AXES)
        reference = image if reference is None else finite_plane(reference, AXES)
        card = self.card
        return resize(prepare(image, card.percentiles, reference=reference, clip=card.clip), scale)

    def draw(self, image: np.ndarray, tile: int | None = None) -> np.ndarray:
        """Return the maps (maps, Y, X) of a prepared image.

        Parameters
        ----------
        image : (M, N) ndarray of float32
            Of `prepare`.
        tile : int, optional
            Side in px of the tiles, less after `lighten`; one pass by default.
        """
        card = self.card
        self._asked = tile or 0
        tile = max(image.shape) + card.multiple if tile is None else min(tile, self._largest)
        return run_tiled(self.run, image, tile, multiple=card.multiple, margin=card.margin)

    def lighten(self) -> str | None:
        """Halve the largest tile, so that later passes need less memory; labels stay.

        Opening other weights does not undo it.

        Returns
        -------
        str or None
            What was done, e.g. ``"tile 512"``; None where tiles are as small as they get, or
            the last image was drawn in one pass.
        """
        side = min(self._asked, self._largest) // 2
        if side < LEAST_TILE:
            return None
        self._largest = side
        return f"tile {side}"


def prepare(
    image: np.ndarray,
    limits: tuple[float, float] = PERCENTILES,
    *,
    reference: np.ndarray | None = None,
    clip: tuple[float, float] = CLIP,
) -> np.ndarray:
    """Map two percentiles of `reference` to 0 and 1 and clip, to -0.2..4 by default.

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
    clip : tuple of float
        Bounds of the result.

    Returns
    -------
    ndarray of float32

    Examples
    --------
    >>> prepare(np.array([[0, 5, 10]]), (0, 100))
    array([[0. , 0.5, 1. ]], dtype=float32)
    """
    reference = image if reference is None else reference
    return normalise(image, percentiles(reference, *limits), clip=clip)


def run_tiled(
    network: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    tile: int,
    *,
    multiple: int = MULTIPLE,
    margin: int = MARGIN,
) -> np.ndarray:
    """Run a network on an image of any size, in equal tiles where it is large.

    The image is continued by reflection to multiples of `multiple`. Each tile is cut with a
    rim, and the rim of its output is thrown away: where the rim is wider than the network
    sees, the result is that of the whole image.

    Parameters
    ----------
    network : callable
        From float32 (1, 1, Y, X), sides multiples of `multiple`, to float32 (1, C, Y, X).
    image : (M, N) ndarray of float32
    tile : int
        Side in px that tiles should have, without their rims; up to half as much again.
    multiple : int
        Of the sides of the network's input.
    margin : int
        Width in px of the rim, rounded up to `multiple`.

    Returns
    -------
    (C, M, N) ndarray of float32
    """
    height, width = image.shape
    rim = -(-margin // multiple) * multiple
    padded = np.pad(image, [(0, -side % multiple) for side in image.shape], mode="reflect")
    rows = []
    for top, bottom in _cuts(padded.shape[0], tile, multiple):
        row = []
        for left, right in _cuts(padded.shape[1], tile, multiple):
            above, before = min(top, rim), min(left, rim)
            cut = padded[top - above : bottom + rim, left - before : right + rim]
            found = network(cut[None, None])[0]
            row.append(found[:, above : above + bottom - top, before : before + right - left])
        rows.append(np.concatenate(row, axis=2))
    return np.concatenate(rows, axis=1)[:, :height, :width]


def _cuts(side: int, tile: int, multiple: int) -> list[tuple[int, int]]:
    """Cut `side` into about equal parts near `tile`, all multiples: starts and ends."""
    count = max(1, min(round(side / tile), side // multiple))
    edges = [side * part // count // multiple * multiple for part in range(count + 1)]
    return list(pairwise(edges))


def _check_shape(session: Any, weights: Weights, engine: str, maps: int) -> None:
    """Refuse a network that is not one of a grey image and `maps` maps."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    takes, gives = inputs[0].shape, outputs[0].shape
    found = [len(inputs), len(takes), len(gives), takes[1:2], gives[1:2]]
    if found != [1, 4, 4, [1], [maps]]:
        raise WeightsError(
            f"the weights {weights.name!r} map {takes} to {gives}",
            hint=f"{engine} needs a network from (N, 1, Y, X) to (N, {maps}, Y, X)",
        )


def read_card(weights: Weights) -> Card:
    """Return what the card of the weights says of the input.

    Raises
    ------
    WeightsError
        It cannot be right.
    """
    try:
        return Card(**weights.card.get("input", {}))
    except (ValidationError, TypeError) as error:
        raise WeightsError(
            f"the card of the weights {weights.name!r} does not describe an input ({error})",
            hint="Correct percentiles, clip, multiple and margin under `input`, or leave them out",
        ) from error
