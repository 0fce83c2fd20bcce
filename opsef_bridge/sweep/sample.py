"""What a sweep looks at: which of the images, and which part of a large one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from opsef_bridge.project import ImageEntry

__all__ = ["Box", "choose_box", "choose_box_in", "sample_images"]

Box = tuple[int, int, int, int]
"""(y, x, height, width) in pixels of the source."""


def sample_images(images: Sequence[ImageEntry], count: int | str, seed: int) -> list[ImageEntry]:
    """Draw `count` included images, evenly from the groups, in the order of the index.

    The draw of a group depends on the seed and the group's own images only, so another
    group's images do not change it.
    """
    images = [entry for entry in images if entry.include]
    if count == "all" or len(images) <= int(count):
        return images
    queues: dict[str, list[ImageEntry]] = {}
    for entry in images:
        queues.setdefault(entry.group, []).append(entry)
    for group, members in queues.items():
        random.Random(f"{seed} {group}").shuffle(members)
    drawn: list[ImageEntry] = []
    while len(drawn) < int(count):
        for members in queues.values():
            if members and len(drawn) < int(count):
                drawn.append(members.pop())
    return sorted(drawn, key=images.index)


def choose_box(image: np.ndarray, side: int) -> Box | None:
    """Choose the square of an image that holds the most structure.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
    side : int
        Side of the square; a shorter side of the image is taken whole.

    Returns
    -------
    Box or None
        The window, on a grid of half its side, with the largest standard deviation of
        the values; None where the image is not larger than the square. Corners are
        multiples of 8, so that binned recipes meet the same pixels.
    """
    height = min(side, image.shape[-2])
    plane = image if image.ndim == 2 else image.max(axis=0)
    return choose_box_in(lambda row: plane[row : row + height], plane.shape, side)


def choose_box_in(read: Callable[[int], np.ndarray], shape: Sequence[int], side: int) -> Box | None:
    """Choose as `choose_box` of an image of which only some rows are held.

    Parameters
    ----------
    read : callable
        Returns `side` rows of the plane from a row on, or all of a lower plane.
    shape : sequence of int
        Y and X of the plane.
    side : int
    """
    height, width = (min(side, n) for n in shape)
    if (height, width) == tuple(shape):
        return None
    best: tuple[float, Box] | None = None
    for y in _starts(shape[0], height, side // 2):
        rows = read(y)
        for x in _starts(shape[1], width, side // 2):
            structure = float(np.std(rows[:, x : x + width], dtype=np.float64))
            if best is None or structure > best[0]:
                best = (structure, (y, x, height, width))
    return best[1] if best else None


def _starts(length: int, side: int, step: int) -> list[int]:
    """Starts of windows that cover a length, the last one flush with its end (to 8)."""
    last = (length - side) // 8 * 8
    return sorted({*(s // 8 * 8 for s in range(0, last, step)), last})
