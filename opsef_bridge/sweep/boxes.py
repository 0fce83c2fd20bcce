"""Boxes on the grids of recipes that bin: cut them, and bring labels back to the source."""

from __future__ import annotations

from typing import Any

import numpy as np

from opsef_bridge.preprocess import recipe_scale
from opsef_bridge.sweep.sample import Box

__all__ = ["bin_factor", "box_shape", "cut_box", "grid_shape", "to_source"]


def box_shape(shape: tuple[int, ...], box: Box | None) -> tuple[int, ...]:
    """Return the shape of the box of an image of `shape`."""
    return shape if box is None else (*shape[:-2], *box[2:])


def cut_box(output: np.ndarray, steps: Any, box: Box | None) -> np.ndarray:
    """Cut the box, in pixels of the source, from the output of a recipe that may bin."""
    if box is None:
        return output
    factor = bin_factor(steps)
    y, x, height, width = box
    rows = slice(y // factor, -(-(y + height) // factor))
    return output[..., rows, slice(x // factor, -(-(x + width) // factor))]


def grid_shape(shape: tuple[int, ...], steps: Any, box: Box | None) -> tuple[int, ...]:
    """Return the shape of what `cut_box` cuts, for a source or box of `shape`."""
    factor = bin_factor(steps)
    sides = [
        -(-(start + side) // factor) - start // factor
        for side, start in zip(shape[-2:], box[:2] if box else (0, 0), strict=True)
    ]
    return (*shape[:-2], *sides)


def to_source(
    labels: np.ndarray, steps: Any, shape: tuple[int, ...], box: Box | None
) -> np.ndarray:
    """Give every pixel of the source, or of its box, the label of the block it is in.

    Parameters
    ----------
    labels : ndarray
        On the grid of the recipe's output, as `cut_box` cut it.
    steps : recipe
    shape : tuple of int
        Shape of the source, or of its box.
    """
    factor = bin_factor(steps)
    if factor == 1:
        return labels
    index = [
        (np.arange(side) + start) // factor - start // factor
        for side, start in zip(shape[-2:], box[:2] if box else (0, 0), strict=True)
    ]
    return labels[..., index[0][:, None], index[1]]


def bin_factor(steps: Any) -> int:
    """Return the side in pixels of the source of the blocks that a recipe makes one pixel."""
    return round(1 / recipe_scale(steps))
