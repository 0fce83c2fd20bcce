"""Regions: random overlapping pieces of labelled images, each in another shape and light.

Every region has its own random numbers, by the seed and its number, so region 7 is the same
whether ten are drawn or a million, in whatever order, on whatever machine. Kinds take turns:
after any count no kind has more than one region more than another. All changes of shape are
one map of places, so an image is interpolated once, and its labels go the same way by the
nearest pixel, those that nobody vouched for (-1) with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from scipy import interpolate, ndimage

from opsef_bridge.errors import InputError
from opsef_bridge.preprocess.opencv_clahe import opencv_clahe
from opsef_bridge.train.augment import apart, relight
from opsef_bridge.train.colour import StainAugmentation, restain
from opsef_bridge.train.data import Sample
from opsef_bridge.train.region_presets import EightBit, Preset

__all__ = ["Regions", "degrade", "draw_regions"]

GRID = 64
"""Distance in px of the nodes that elastic deformation moves."""

TILES = 8
"""Tiles of CLAHE along each side."""

TRIES = 10
"""Places that are tried until one shows a pixel that is vouched for: a turn may lose it."""


def draw_regions(
    samples: Sequence[Sample], count: int, preset: Preset, seed: int = 0
) -> Iterator[Sample]:
    """Yield `count` regions; see `Regions`."""
    yield from Regions(samples, count, preset, seed)


class Regions(Sequence[Sample]):
    """Regions of samples, drawn when they are asked for.

    The kind of a region follows from its number: kinds take turns, in an order that is drawn
    anew for each round. Of a kind an image is drawn with replacement, in proportion to its
    pixels that are vouched for, and of an image a place where at least one is.

    Parameters
    ----------
    samples : sequence of Sample
        Images (Y, X), or (Y, X, 3) in colour.
    count : int
    preset : Preset
    seed : int

    Raises
    ------
    InputError
        There are no samples, one is a volume or vouched for nowhere, or is smaller than its
        shoulders; or `count` is below 1.

    Examples
    --------
    >>> from opsef_bridge.train.region_presets import Preset
    >>> image = np.arange(400, dtype=np.float32).reshape(20, 20)
    >>> sample = Sample("a", image, np.ones((20, 20), np.int32), "a")
    >>> few, many = (Regions([sample], n, Preset("x", size=8), seed=3) for n in (2, 50))
    >>> few[1].image.shape, np.array_equal(few[1].image, many[1].image)
    ((8, 8), True)
    """

    def __init__(
        self, samples: Sequence[Sample], count: int, preset: Preset, seed: int = 0
    ) -> None:
        if count < 1:
            raise InputError(f"{count} regions cannot be drawn", hint="Draw at least 1")
        if not len(samples):
            raise InputError("there is nothing to draw regions of: no samples")
        self._samples, self._count, self._preset, self._seed = samples, count, preset, seed
        self._known: list[np.ndarray | None] = []
        weights: dict[str, list[tuple[int, int]]] = {}
        for index, sample in enumerate(samples):
            _check(sample, preset)
            known = sample.labels >= 0
            self._known.append(None if known.all() else np.flatnonzero(known))
            weights.setdefault(sample.kind, []).append((index, int(known.sum())))
        self.kinds = sorted(weights)
        self._of_kind = {
            kind: (np.array([i for i, _ in pairs]), np.array([w for _, w in pairs], float))
            for kind, pairs in weights.items()
        }

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]
        """Return a region; its name tells its number and its image."""
        if not -self._count <= number < self._count:
            raise IndexError(number)
        number %= self._count
        kind = self._kind(number)
        rng = self._generator(1, number)
        indices, weights = self._of_kind[kind]
        index = int(rng.choice(indices, p=weights / weights.sum()))
        sample = self._samples[index]
        for _ in range(TRIES):
            image, labels = _cut(rng, sample, self._known[index], self._preset)
            if (labels >= 0).any():
                break
        image = _lit(rng, image, self._preset)
        return Sample(f"{number:06d}-{sample.name}", image, labels, sample.group, kind)

    def balance(self) -> dict[str, int]:
        """Return how many regions there are of each kind."""
        rounds, rest = divmod(self._count, len(self.kinds))
        more = [self._kind(self._count - 1 - n) for n in range(rest)]
        return {kind: rounds + (kind in more) for kind in self.kinds}

    def _kind(self, number: int) -> str:
        turn, place = divmod(number, len(self.kinds))
        return self.kinds[int(self._generator(0, turn).permutation(len(self.kinds))[place])]

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


def _check(sample: Sample, preset: Preset) -> None:
    shape = sample.labels.shape
    if len(shape) != 2:
        raise InputError(
            f"{sample.name} is of shape {shape}", hint="Regions are of planes: planes=True"
        )
    if min(shape) <= 2 * preset.shoulder:
        raise InputError(
            f"{sample.name} of {shape[0]} x {shape[1]} px has nothing between its shoulders of "
            f"{preset.shoulder} px",
            hint="Leave the image out, or take another preset",
        )
    if not (sample.labels >= 0).any():
        raise InputError(f"nobody vouches for any pixel of {sample.name}", hint="Leave it out")


def _cut(
    rng: np.random.Generator, sample: Sample, known: np.ndarray | None, preset: Preset
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a region: drawn place, scale, angle, bend, turn and flip."""
    size, shape = preset.size, sample.labels.shape
    bounds = [(preset.shoulder, extent - preset.shoulder) for extent in shape]
    side = round(size / _scale(rng, bounds, preset))
    seen = None if known is None else np.unravel_index(known[rng.integers(len(known))], shape)
    starts = [
        _start(rng, *pair, side, None if seen is None else int(seen[axis]))
        for axis, pair in enumerate(bounds)
    ]
    rows, columns = _places(rng, starts, side, preset)
    outside = any(
        where.min() < low - 0.5 or where.max() >= high - 0.5
        for where, (low, high) in zip((rows, columns), bounds, strict=True)
    )
    rows, columns = (
        _mirrored(where, *pair) for where, pair in zip((rows, columns), bounds, strict=True)
    )
    image = _sampled(sample.image, rows, columns, side / size)
    labels = sample.labels[np.rint(rows).astype(np.intp), np.rint(columns).astype(np.intp)]
    labels = apart(labels) if outside or preset.apart else labels
    turns, flip = _turn(rng, preset.turns)
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(labels, np.int32)


def _scale(rng: np.random.Generator, bounds: Sequence[tuple[int, int]], preset: Preset) -> float:
    """Draw an enlargement; of a list only those at which the image is as large as a region."""
    if not preset.scales:
        return float(np.exp(rng.uniform(*np.log(preset.scale))))
    least = min(high - low for low, high in bounds)
    fitting = [s for s in preset.scales if round(preset.size / s) <= least]
    return float(rng.choice(fitting or [max(preset.scales)]))


def _start(rng: np.random.Generator, low: int, high: int, side: int, seen: int | None) -> int:
    """Draw the first row or column; with `seen` one from which this pixel is reached.

    What is smaller than the region lies anywhere in it, and is continued by its mirror image.
    """
    first, last = sorted((low, high - side))
    if seen is not None:
        least, most = max(first, seen - side + 1), min(last, seen)
        first, last = (least, most) if least <= most else (first, last)
    return int(rng.integers(first, last + 1))


def _places(
    rng: np.random.Generator, starts: Sequence[int], side: int, preset: Preset
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column in the image of each pixel of a region, as fractions."""
    size, step = preset.size, side / preset.size
    steps = (np.arange(size) - (size - 1) / 2) * step
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    if preset.rotation:
        angle = np.deg2rad(rng.uniform(-preset.rotation, preset.rotation))
        cosine, sine = np.cos(angle), np.sin(angle)
        rows, columns = cosine * rows - sine * columns, sine * rows + cosine * columns
    if preset.elastic:
        spline = _spline(size)
        nodes = rng.normal(0, preset.elastic, (2, spline.shape[1], spline.shape[1]))
        bend = spline @ nodes @ spline.T
        rows, columns = rows + step * bend[0], columns + step * bend[1]
    middle = (side - 1) / 2
    return rows + starts[0] + middle, columns + starts[1] + middle


@lru_cache(maxsize=4)
def _spline(size: int) -> np.ndarray:
    """Return the matrix, shape (size, nodes), from nodes to pixels along a cubic spline."""
    nodes = max(size // GRID, 1) + 1
    nodes = max(nodes, 4)  # as many as a cubic needs
    return interpolate.CubicSpline(np.linspace(0, size - 1, nodes), np.eye(nodes))(np.arange(size))


def _mirrored(where: np.ndarray, low: int, high: int) -> np.ndarray:
    """Fold places outside of low..high-1 back, as if there were a mirror at the last pixel.

    Examples
    --------
    >>> _mirrored(np.array([-2.0, 0, 3, 4, 5.5]), 0, 4)
    array([2. , 0. , 3. , 2. , 0.5])
    """
    length = high - low - 1
    if not length:
        return np.full_like(where, low)
    folded = (where - low) % (2 * length)
    return np.where(folded > length, 2 * length - folded, folded) + low


def _sampled(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, step: float) -> np.ndarray:
    """Return the image between its pixels; smoothed before where it shrinks.

    No more of the image is read than needed.
    """
    low = [max(int(where.min()) - 8, 0) for where in (rows, columns)]
    high = [int(where.max()) + 9 for where in (rows, columns)]
    part = np.asarray(image[low[0] : high[0], low[1] : high[1]], np.float32)
    if step > 1:  # as `skimage.transform.resize`
        part = ndimage.gaussian_filter(part, (step - 1) / 2, mode="mirror", axes=(0, 1))
    where = np.stack([rows - low[0], columns - low[1]])
    samples = [part] if part.ndim == 2 else [part[..., c] for c in range(part.shape[-1])]
    cut = [ndimage.map_coordinates(one, where, order=1, mode="nearest") for one in samples]
    return cut[0] if part.ndim == 2 else np.stack(cut, axis=-1)


def _turn(rng: np.random.Generator, turns: str) -> tuple[int, bool]:
    """Draw quarter turns, and whether left and right change places."""
    if turns == "none":
        return 0, False
    if turns == "all":
        return int(rng.integers(4)), bool(rng.integers(2))
    which = int(rng.integers(3))  # flip left-right, flip up-down, one of three turns
    return [(0, True), (2, True), (int(rng.integers(1, 4)), False)][which]


def _lit(rng: np.random.Generator, image: np.ndarray, preset: Preset) -> np.ndarray:
    """Change the intensities of a region."""
    if preset.light is not None and image.ndim == 3:
        image = restain(rng, image, StainAugmentation(**vars(preset.light)))
    elif preset.light is not None:
        image = relight(rng, image, preset.light)
    if preset.eight_bit is not None:
        image = degrade(rng, image, preset.eight_bit)
    return np.ascontiguousarray(image, np.float32)


def degrade(rng: np.random.Generator, image: np.ndarray, how: EightBit) -> np.ndarray:
    """Change an image as if it had 256 grey levels: CLAHE, then one noise or one blur.

    Parameters
    ----------
    rng : Generator
    image : ndarray of float32, shape (Y, X) or (Y, X, 3)
        What is below 0 or above 1 is cut off.
    how : EightBit

    Returns
    -------
    ndarray of float32, same shape
        From 0 to 1, in steps of 1/255.
    """
    levels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    for _ in range(int(rng.integers(1, 3))):
        limit = rng.uniform(*how.clahe)
        planes = [levels] if levels.ndim == 2 else np.moveaxis(levels, -1, 0)
        planes = [opencv_clahe(plane, TILES, limit) for plane in planes]
        levels = planes[0] if levels.ndim == 2 else np.stack(planes, axis=-1)
    change = [_noise, _blur][int(rng.integers(2))]
    values = change(rng, levels.astype(np.float32), how)
    return np.rint(values).clip(0, 255).astype(np.float32) / np.float32(255)


def _noise(rng: np.random.Generator, levels: np.ndarray, how: EightBit) -> np.ndarray:
    which = int(rng.integers(4))
    if which == 0:
        struck = rng.random(levels.shape) < rng.uniform(*how.impulse)
        return np.where(struck, 255 * rng.beta(0.5, 0.5, levels.shape), levels)
    if which == 1:
        return levels + rng.poisson(rng.uniform(*how.poisson), levels.shape)
    if which == 2:
        return levels + rng.normal(0, rng.uniform(*how.gaussian), levels.shape)
    return np.where(rng.random(levels.shape) < rng.uniform(*how.dropout), 0, levels)


def _blur(rng: np.random.Generator, levels: np.ndarray, how: EightBit) -> np.ndarray:
    if rng.integers(2):
        return ndimage.gaussian_filter(levels, rng.uniform(*how.blur), axes=(0, 1))
    side = int(rng.integers(how.median[0], how.median[1] + 1)) | 1
    return ndimage.median_filter(levels, side, axes=(0, 1))
