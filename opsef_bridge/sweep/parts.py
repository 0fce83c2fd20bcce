"""Parts of an image after a recipe, and the whole to normalise by: of one in memory
(`Whole`), and of one that is larger than a tile (`Windows`).

`Windows` hold no more than a part. What a recipe makes of a part is what it makes of the
whole image there, since each part is read with the rim that the recipe needs, and steps
that look at the whole image go through all its parts once before. In place of
the whole image, engines normalise by a sample of it: every n-th row and column of what
the recipe makes of it, `SAMPLE` pixels at most. Of an image of no more pixels it is the
image itself. Of a larger one, percentiles of the sample lie where the image has the
percentile p +- sqrt(p (100 - p) / SAMPLE), or p +- 0.1 at the median and 0.006 at the 0.1
and 99.9 percentiles, if neighbouring pixels were drawn independently; being evenly spread
they are nearer as a rule. An object that is thinner than n pixels and alone may be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from opsef_bridge.files import key_of
from opsef_bridge.images.tiles import grow_box, tile_boxes
from opsef_bridge.preprocess import (
    apply_recipe,
    find_step,
    normalise_recipe,
    recipe_identity,
    takes_colour,
)
from opsef_bridge.preprocess.whole import Known, Piece, Place
from opsef_bridge.sweep.boxes import bin_factor, cut_box, grid_shape
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.planned import STAGE
from opsef_bridge.sweep.reach import recipe_grid, recipe_reach
from opsef_bridge.sweep.sample import Box

__all__ = ["SAMPLE", "Whole", "Windows", "recipe_output"]

SAMPLE = 2**20
"""Pixels (voxels) of the sample, about."""

SIDE = 1024
"""Side in pixels of the parts that the sample is taken from."""


def recipe_output(
    cache: ArrayCache, image_key: str, image: np.ndarray, steps: Any, *, samples: bool = False
) -> np.ndarray:
    """Apply a recipe; every prefix that is in the cache is taken from there.

    Parameters
    ----------
    image_key : str
        Content key of `image`.
    steps : sequence of (str, dict)
        As `opsef_bridge.preprocess.normalise_recipe` returns them.
    samples : bool
        Whether the last axis of `image` is its samples.
    """
    if not steps:
        return image
    key = key_of("steps", STAGE, image_key, recipe_identity(steps))
    found = cache.get(key)
    if found is not None:
        return found[0]["output"]
    before = recipe_output(cache, image_key, image, steps[:-1], samples=samples)
    if samples:
        output = apply_recipe(before, steps[-1:], samples=not takes_colour(steps[:-1]))
    else:
        output = apply_recipe(before, steps[-1:])
    cache.put(key, {"output": output}, {})
    return output


class Whole:
    """An image that is in memory.

    Parameters
    ----------
    array : ndarray, axes YX or ZYX
        What is segmented.
    samples : callable
        Returns its samples, in front.
    key : str
        Content key of the image.
    cache : ArrayCache
        Where what recipes make is kept.
    """

    def __init__(
        self,
        array: np.ndarray,
        samples: Callable[[], np.ndarray],
        key: str,
        cache: ArrayCache,
    ) -> None:
        self.shape = array.shape
        self._array = array
        self._samples = samples
        self._key = key
        self._cache = cache
        self._last: tuple[Any, np.ndarray] | None = None

    def part(self, steps: Any, box: Box | None, *, colour: bool = False) -> np.ndarray:
        """Return what a recipe makes of the image, in a box in pixels of the source."""
        return cut_box(self.reference(steps, colour=colour), steps, box)

    def reference(self, steps: Any, *, colour: bool = False) -> np.ndarray:
        """Return what a recipe makes of the whole image; with `colour` of each sample."""
        if self._last is None or self._last[0] != (steps, colour):
            self._last = None
            self._last = ((steps, colour), self._made(steps, colour))
        return self._last[1]

    def _made(self, steps: Any, colour: bool) -> np.ndarray:
        if takes_colour(steps):
            samples, key = np.moveaxis(self._samples(), 0, -1), key_of(self._key, "samples")
            return recipe_output(self._cache, key, samples, steps, samples=True)
        if not colour:
            return recipe_output(self._cache, self._key, self._array, steps)
        return np.stack(
            [
                recipe_output(self._cache, key_of(self._key, "sample", number), sample, steps)
                for number, sample in enumerate(self._samples())
            ]
        )


class Windows:
    """Parts of one image that is read part by part.

    Parameters
    ----------
    read : callable
        ``read(box, colour)`` returns a part of what is segmented, axes YX or ZYX; with
        `colour` its samples in front.
    shape : tuple of int
        Of the image: Y and X, of a volume Z before them.
    key : str
        Content key of the image.
    cache : ArrayCache
        Where the sample is kept, and what steps know of the whole image.
    """

    def __init__(
        self,
        read: Callable[[Box, bool], np.ndarray],
        shape: tuple[int, ...],
        key: str,
        cache: ArrayCache,
    ) -> None:
        self.shape = shape
        self._read = read
        self._key = key
        self._cache = cache
        self._last: tuple[tuple[Box, bool], np.ndarray] | None = None
        self._known: dict[str, Known] = {}  # the cache may be full, or emptied

    def part(self, steps: Any, box: Box | None, *, colour: bool = False) -> np.ndarray:
        """Return what a recipe makes of the image, in a box in pixels of the source.

        Parameters
        ----------
        steps : recipe
        box : (y, x, height, width)
        colour : bool
            Keep samples apart, in front.

        Raises
        ------
        ImageError
            The part cannot be read.
        """
        steps, box = normalise_recipe(steps), box or (0, 0, *self.shape[-2:])
        window = grow_box(box, recipe_reach(steps), self.shape, grid=recipe_grid(steps))
        grey = takes_colour(steps)
        array = self._array(window, colour or grey)
        if colour or grey:
            array = np.moveaxis(array, 0, -1)
        place = partial(self._place, steps, window)
        made = apply_recipe(array, steps, samples=colour or grey, place=place)
        if colour and not grey:
            made = np.moveaxis(made, -1, 0)
        return cut_box(made, steps, (box[0] - window[0], box[1] - window[1], *box[2:]))

    def reference(self, steps: Any, *, colour: bool = False) -> np.ndarray:
        """Return a sample of what a recipe makes of the whole image; taken once, then cached."""
        key = key_of("sample", SAMPLE, self._key, recipe_identity(steps), colour)
        return self._kept(key, lambda: {"sample": self._sample(steps, colour)})["sample"]

    def _kept(self, key: str, make: Callable[[], Known]) -> Known:
        if key not in self._known:
            found = self._cache.get(key)
            self._known[key] = make() if found is None else found[0]
            if found is None and self._known[key]:
                self._cache.put(key, self._known[key], {})
        return self._known[key]

    def _place(self, steps: Any, window: Box, number: int, sample: int | None) -> Place:
        """Tell a step about the whole image; the first time it goes through all of it."""
        name, parameters = steps[number]
        before = steps[:number]
        factor, of = bin_factor(before), grid_shape(self.shape, before, None)

        def measured() -> Known:
            measure = find_step(name).measure
            pieces = partial(self._pieces, before, sample)
            return measure(pieces, of, **parameters) if measure else {}

        key = key_of("known", STAGE, self._key, recipe_identity(steps[: number + 1]), sample)
        return Place(
            at=(window[0] // factor, window[1] // factor),
            of=(of[-2], of[-1]),
            known=self._kept(key, measured),
        )

    def _pieces(self, steps: Any, sample: int | None, rim: int = 0) -> Iterator[Piece]:
        """Go through what a recipe makes of the image, or of one of its samples."""
        factor = bin_factor(steps)
        for box in self._boxes(factor):
            grown = grow_box(box, rim * factor, self.shape, grid=factor)
            made = self.part(steps, grown, colour=sample is not None)
            y, x = (box[0] - grown[0]) // factor, (box[1] - grown[1]) // factor
            height, width = grid_shape(box[2:], steps, box)
            yield Piece(
                made if sample is None else made[sample],
                (grown[0] // factor, grown[1] // factor),
                (slice(y, y + height), slice(x, x + width)),
            )

    def _boxes(self, factor: int) -> list[Box]:
        return tile_boxes(self.shape, max(SIDE // factor, 1) * factor, shift=False)

    def _sample(self, steps: Any, colour: bool) -> np.ndarray:
        factor = bin_factor(steps)
        depth = int(np.prod(self.shape[:-2]))
        height, width = (-(-side // factor) for side in self.shape[-2:])
        step = int(np.ceil(np.sqrt(depth * height * width / SAMPLE)))
        whole: np.ndarray | None = None
        for box in self._boxes(factor):
            made = self.part(steps, box, colour=colour)
            if whole is None:
                sides = (-(-height // step), -(-width // step))
                whole = np.zeros((*made.shape[:-2], *sides), made.dtype)
            y, x = box[0] // factor, box[1] // factor
            chosen = made[..., -y % step :: step, -x % step :: step]
            rows, columns = -(-y // step), -(-x // step)
            whole[..., rows : rows + chosen.shape[-2], columns : columns + chosen.shape[-1]] = (
                chosen
            )
        assert whole is not None
        return whole

    def _array(self, window: Box, colour: bool) -> np.ndarray:
        """Read a window; the last one is kept, since recipes follow each other."""
        if self._last is None or self._last[0] != (window, colour):
            self._last = None
            self._last = ((window, colour), self._read(window, colour))
        return self._last[1]
