"""What a sweep looks at: which of the images, and which part of a large one."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from opsef_bridge.project import ImageEntry

__all__ = ["Box", "choose_box", "sample_images"]

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
    height, width = (min(side, n) for n in image.shape[-2:])
    if (height, width) == image.shape[-2:]:
        return None
    plane = image if image.ndim == 2 else image.max(axis=0)
    corners = [
        (y, x)
        for y in _starts(plane.shape[0], height, side // 2)
        for x in _starts(plane.shape[1], width, side // 2)
    ]

    def structure(corner: tuple[int, int]) -> float:
        y, x = corner
        return float(np.std(plane[y : y + height, x : x + width], dtype=np.float64))

    y, x = max(corners, key=structure)
    return (y, x, height, width)


def _starts(length: int, side: int, step: int) -> list[int]:
    """Starts of windows that cover a length, the last one flush with its end (to 8)."""
    last = (length - side) // 8 * 8
    return sorted({*(s // 8 * 8 for s in range(0, last, step)), last})
