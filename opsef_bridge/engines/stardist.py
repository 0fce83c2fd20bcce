"""``stardist``: star-convex polygons and polyhedra, in 2D and 3D.

The network says for each pixel of a grid how probable it is that an object has its middle
there, and how far the object's edge is along each of a set of rays. Candidates above a
probability suppress each other where they overlap, best first; the polygons of those that
are left are painted. Both are done by the compiled code of the ``stardist`` package, so labels
are those of its ``predict_instances``.

The network itself has two runtimes. Weights are either an ONNX file from ``(N, C, [Z,] Y, X)``
float32 to ``prob (N, 1, ...)`` and ``dist (N, rays, ...)``, run by ONNX Runtime, without
TensorFlow; or a zip of the package's own model folder, run by the package with TensorFlow.
`opsef_bridge.engines.stardist_files` makes both of a model folder, each with its card.

References
----------
.. [1] U. Schmidt, M. Weigert, C. Broaddus, G. Myers, "Cell detection with star-convex
   polygons", MICCAI 2018:265-273.
.. [2] M. Weigert, U. Schmidt, R. Haase, K. Sugawara, G. Myers, "Star-convex polyhedra for 3D
   object detection and segmentation in microscopy", WACV 2020:3666-3673.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise, product
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from opsef_bridge.engines.base import Parameters, Raw, Scaled, Weights
from opsef_bridge.engines.devices import onnx_devices, tensorflow_devices
from opsef_bridge.engines.runtime import open_session
from opsef_bridge.engines.scaling import drop_small, finite_plane, normalise, percentiles, resize
from opsef_bridge.engines.stardist_card import Card, read_card, read_thresholds
from opsef_bridge.errors import InputError, WeightsError, WorkerError

__all__ = ["Card", "StarDist", "run_tiled"]

LIMITS = (1e-3, 6e4)
"""Bounds of distances in px: those of the package, and of half precision."""

EXACT = 0.1
"""What is found for pixels more probable than this is kept in single precision."""

TAIL = np.float32(4096)
"""What the last bit of probabilities is multiplied by to be one of half precision."""

SMALLEST_TILE = 256
"""Tiles do not become smaller for want of memory."""

Network = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From float32 (1, C, [Z,] Y, X) to probabilities (1, 1, ...) and distances (1, rays, ...)."""


class Predict(Scaled):
    """Parameters that need a new pass."""

    tile: int = Field(1024, ge=64)
    """Tiles of a large image hold about the square of this many pixels or voxels; memory,
    not labels."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    prob: float | None = Field(None, gt=0, lt=1)
    """Probability above which a pixel may be an object's middle; by default the threshold
    that comes with the weights."""
    nms: float | None = Field(None, gt=0, lt=1)
    """Overlap (shared area over the smaller one) above which the less probable of two
    candidates goes; by default the threshold that comes with the weights."""


class StarDist:
    """Star-convex objects: 2D grey and colour, 3D grey, as the weights have it.

    The image is normalised to its 1st and 99.8th percentile (the card may name others; all
    colours alike) and resized by ``scale``, Z kept; best where the objects come out as large
    as those that the network has learned from. Objects are painted at the original size.
    """

    name: ClassVar[str] = "stardist"
    version: ClassVar[str] = "2"
    reads_thresholds: ClassVar[bool] = True
    axes: frozenset[str] = frozenset({"YX", "YXS", "ZYX"})
    """Of the class: what there are weights for. Of an engine with weights: what they take."""
    needs_weights: ClassVar[bool] = True
    Predict = Predict
    Decode = Decode

    def __init__(self) -> None:
        self._network: Network | None = None
        self._card: Card
        self._thresholds: dict[str, float]
        self._tile = int(Predict().tile)  # of the last pass
        self._largest_tile: int | None = None

    @classmethod
    def devices(cls, weights: Weights | None = None) -> tuple[str, ...]:
        """Return the devices that the runtime can use: that of `weights`, or ONNX Runtime."""
        return tensorflow_devices() if weights and _is_keras(weights) else onnx_devices()

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Open the ONNX file or the zip on `device`, ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        WeightsError
            The file is missing or cannot be read, or it and its card are not a StarDist
            network.
        WorkerError
            The runtime cannot use `device`.
        OpsefError
            The file is a zip, and TensorFlow is not installed.
        """
        card, thresholds = read_card(weights), read_thresholds(weights)
        open_network = _open_keras if _is_keras(weights) else _open_onnx
        self._network = open_network(weights, card, device)
        self._thresholds = thresholds.model_dump()
        self.axes = frozenset({card.axes})
        self._card = card

    def lighten(self) -> str | None:
        """Halve the tiles of later passes; None when they are as small as is sensible."""
        if self._tile <= SMALLEST_TILE:
            return None
        self._tile = self._largest_tile = max(SMALLEST_TILE, self._tile // 2)
        return f"tile {self._tile}"

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the maps ``prob`` and ``dist`` on the grid of the network.

        Half precision alone has one value for many of the best probabilities, whose order
        decides which candidate wins, and moves outlines. So ``prob + prob_rest + prob_tail /
        TAIL`` is the probability to the bit, and ``dist + dist_rest`` the distance to all but
        the last. Where the probability is below `EXACT` both rests are zero: they would fill
        the cache with noise, and take time.
        """
        if self._network is None:
            raise WorkerError("stardist was asked to predict before its weights were loaded")
        card = self._card
        image = self._channels_first(image)
        reference = image if reference is None else self._channels_first(reference)
        prepared = normalise(image, percentiles(reference, *card.percentiles), clip=card.clip)
        resized = resize(prepared, parameters.scale)
        self._tile = min(parameters.tile, self._largest_tile or parameters.tile)
        maps = run_tiled(self._network, resized, card, self._tile)
        axes = "zyx"[-len(card.grid) :]
        values = dict(self._thresholds)
        for axis, grid, new, old in zip(
            axes, card.grid, resized.shape[1:], image.shape[1:], strict=True
        ):
            values |= {f"grid_{axis}": float(grid), f"scale_{axis}": new / old}
        if card.axes == "ZYX":
            values |= {f"anisotropy_{a}": v for a, v in zip(axes, card.anisotropy, strict=True)}
        return Raw(maps, image.shape[1:], values)

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: candidates, non-maximum suppression, painting."""
        axes = "zyx"[-len(raw.shape) :]
        grid, scale = (
            np.array([raw.values[f"{what}_{a}"] for a in axes]) for what in ("grid", "scale")
        )
        threshold = raw.values["prob"] if parameters.prob is None else parameters.prob
        overlap = raw.values["nms"] if parameters.nms is None else parameters.nms
        prob = raw.maps["prob"].astype(np.float32) + raw.maps["prob_rest"]
        if "prob_tail" in raw.maps:
            prob += raw.maps["prob_tail"] / TAIL
        places = np.nonzero(prob > threshold)
        if not len(places[0]):
            return np.zeros(raw.shape, np.int32)
        points = np.stack(places, axis=1) * grid.astype(int)
        every = (slice(None), *places)
        dist = raw.maps["dist"][every].T.astype(np.float32)
        if "dist_rest" in raw.maps:
            dist += raw.maps["dist_rest"][every].T
        dist = dist.clip(*LIMITS)
        paint = _polygons if len(axes) == 2 else _polyhedra
        labels = paint(raw, points, prob[places], dist, overlap, scale)
        painted_over = not np.bincount(labels.ravel())[1:].all()
        return drop_small(labels, 1) if painted_over else labels.astype(np.int32, copy=False)

    def _channels_first(self, image: np.ndarray) -> np.ndarray:
        """Return `image` as float32 with the channels in front."""
        plane = finite_plane(image, self.axes)
        if self._card.axes != "YXS":
            return plane[None]
        if plane.shape[-1] != 3:
            raise InputError(
                f"an image of shape {plane.shape} is no colour image: its last axis is not 3",
                hint="These weights take red, green and blue; choose others for grey images",
            )
        return np.moveaxis(plane, -1, 0)


def run_tiled(network: Network, image: np.ndarray, card: Card, tile: int) -> dict[str, np.ndarray]:
    """Run a network on an image of any size, in equal tiles where it is large.

    The image is continued by reflection to multiples of ``card.multiple``. Each tile is cut
    with a rim as wide as the network sees, and the rim of its output is thrown away: the
    maps are those of the whole image.

    Parameters
    ----------
    network : callable
        From float32 (1, C, [Z,] Y, X) to probabilities (1, 1, ...) and distances
        (1, rays, ...) on the grid.
    image : (C, [Z,] Y, X) ndarray of float32
    card : Card
    tile : int
        A tile holds about ``tile**2`` pixels or voxels, without its rim.

    Returns
    -------
    dict of str to ndarray of float16
        ``prob``, ``prob_rest``, ``prob_tail`` ([Z,] Y, X), ``dist`` and ``dist_rest`` (rays,
        [Z,] Y, X), see `StarDist.predict`.
    """
    sides = image.shape[1:]
    missing = [(0, -side % m) for side, m in zip(sides, card.multiple, strict=True)]
    padded = np.pad(image, [(0, 0), *missing], mode="reflect")
    grid = [side // step for side, step in zip(padded.shape[1:], card.grid, strict=True)]
    prob = np.zeros(grid, np.float32)
    dist = rest = np.empty(0)
    side = round(tile ** (2 / len(sides)))
    cuts = [_cuts(s, side, m) for s, m in zip(padded.shape[1:], card.multiple, strict=True)]
    for box in product(*cuts):
        first = [max(0, a - m) for (a, _), m in zip(box, card.margin, strict=True)]
        wide = [slice(f, b + m) for f, (_, b), m in zip(first, box, card.margin, strict=True)]
        found = network(np.ascontiguousarray(padded[(slice(None), *wide)])[None])
        zipped = list(zip(box, card.grid, first, strict=True))
        here = tuple(slice(a // g, b // g) for (a, b), g, _ in zipped)
        inside = tuple(slice((a - f) // g, (b - f) // g) for (a, b), g, f in zipped)
        prob[here] = found[0][(0, 0, *inside)]
        if not dist.size:  # laid out in memory as the network has it: some have rays last
            dist = np.empty_like(found[1][0], np.float16, shape=(card.rays, *grid))
            rest = np.zeros_like(dist)
        every = (slice(None), *here)
        _put_halves(found[1][(0, slice(None), *inside)], prob[here], dist[every], rest[every])
    crop = tuple(slice(-(-side // step)) for side, step in zip(sides, card.grid, strict=True))
    maps = {"dist": dist[(slice(None), *crop)], "dist_rest": rest[(slice(None), *crop)]}
    return _parts(prob, card.rim, crop) | maps


def _parts(prob: np.ndarray, rim: int, crop: tuple[slice, ...]) -> dict[str, np.ndarray]:
    """Part probabilities, none at the rim, into what three maps of half precision can hold."""
    middle = tuple(slice(rim, max(rim, side - rim)) for side in prob.shape)
    kept = np.zeros_like(prob)
    kept[middle] = prob[middle]
    half = kept.astype(np.float16)
    rest, tail = np.zeros_like(half), np.zeros_like(half)
    near = kept > EXACT
    finer = kept[near] - half[near]
    rest[near] = finer
    tail[near] = (finer - rest[near]) * TAIL
    return {"prob": half[crop], "prob_rest": rest[crop], "prob_tail": tail[crop]}


def _put_halves(found: np.ndarray, prob: np.ndarray, dist: np.ndarray, rest: np.ndarray) -> None:
    """Write distances (rays, ...) to `dist`, and what it cannot hold of the probable to `rest`."""
    with np.errstate(over="ignore"):  # `decode` bounds them, and only the candidates
        dist[:] = found
    places = (slice(None), *np.nonzero(prob > EXACT))
    exact = found[places].clip(*LIMITS)
    half = exact.astype(np.float16)
    dist[places], rest[places] = half, exact - half


def _cuts(side: int, tile: int, multiple: int) -> list[tuple[int, int]]:
    """Cut `side` into about equal parts near `tile`, all multiples: starts and ends."""
    count = max(1, min(round(side / tile), side // multiple))
    edges = [side * part // count // multiple * multiple for part in range(count + 1)]
    return list(pairwise(edges))


def _polygons(
    raw: Raw,
    points: np.ndarray,
    prob: np.ndarray,
    dist: np.ndarray,
    overlap: float,
    scale: np.ndarray,
) -> np.ndarray:
    """Suppress candidates of a plane and paint the others, the most probable on top."""
    from stardist.geometry import polygons_to_label
    from stardist.nms import non_maximum_suppression_sparse

    points, prob, dist, _ = non_maximum_suppression_sparse(dist, prob, points, nms_thresh=overlap)
    centres = (points + 0.5) / scale - 0.5
    return polygons_to_label(dist, centres, raw.shape, prob=prob, scale_dist=1 / scale)


def _polyhedra(
    raw: Raw,
    points: np.ndarray,
    prob: np.ndarray,
    dist: np.ndarray,
    overlap: float,
    scale: np.ndarray,
) -> np.ndarray:
    """Suppress candidates of a volume and fill the others, the most probable on top."""
    from opsef_bridge.engines.polyhedra import paint_polyhedra

    anisotropy = [raw.values[f"anisotropy_{axis}"] for axis in "zyx"]
    return paint_polyhedra(
        points, prob, dist, raw.shape,
        overlap=overlap, anisotropy=anisotropy, scale=scale.tolist(),
    )  # fmt: skip


def _is_keras(weights: Weights) -> bool:
    """Whether TensorFlow runs `weights`."""
    return weights.path is not None and weights.path.suffix == ".zip"


def _open_keras(weights: Weights, card: Card, device: str) -> Network:
    """Return the network in a zip; refuse a card that describes another."""
    from opsef_bridge.engines.stardist_keras import open_network

    network, described = open_network(weights, device)
    says = card.model_dump(include=set(described) - {"percentiles"}, mode="json")
    _compare(weights, says, {key: described[key] for key in says})
    return network


def _open_onnx(weights: Weights, card: Card, device: str) -> Network:
    """Return the network in an ONNX file; refuse a card that describes another."""
    session = open_session(weights, device)
    spatial = 3 if card.axes == "ZYX" else 2
    image = session.get_inputs()[0]
    gives = {output.name: output.shape for output in session.get_outputs()}
    says = {"axes": spatial + 2, "channels": 3 if card.axes == "YXS" else 1, "prob": 1}
    says |= {"rays": card.rays}
    found = {"axes": len(image.shape), "channels": image.shape[1]}
    found |= {key: gives.get(n, [0, 0])[1] for key, n in (("prob", "prob"), ("rays", "dist"))}
    _compare(weights, says, found)

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prob, dist = session.run(["prob", "dist"], {image.name: batch})
        return prob, dist

    return run


def _compare(weights: Weights, says: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    other = [key for key in says if says[key] != found[key]]
    if other:
        raise WeightsError(
            f"the card of the weights {weights.name!r} does not describe the network in "
            f"{weights.path}: "
            + "; ".join(f"it says {says[key]} {key}, the file has {found[key]}" for key in other),
            hint="Bring the card that belongs to the file, or convert the model folder again. "
            "stardist needs a network from (N, C, [Z,] Y, X) to prob and dist",
        )
