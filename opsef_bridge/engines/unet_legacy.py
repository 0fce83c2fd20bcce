"""OpSeF's post-processing of a U-Net, as it was, for those who must have its results again.

References
----------
.. [1] T. M. Rasse, R. Hollandi, P. Horvath, "OpSeF: open source Python framework for
   collaborative instance segmentation of bioimages", Front. Bioeng. Biotechnol. 8:558880,
   2020. (``UNet_Watershed``: ``m_kernel=2``, ``de_kernel=2``, ``de_it=2``, ``dist_thr=0.5``.)
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

__all__ = ["legacy_labels"]

SIGMA = 2
"""Of the Gaussian that blurs the probabilities, in px."""

WINDOW = 3
"""Side in px of the square that opens the cells: one of 2 px, applied twice."""

STEPS = {(0, 1): 65536, (1, 1): 91750, (1, 2): 143976}
"""Lengths of a step along an axis, along a diagonal, and of a knight's move, in 1/65536 px: 1,
1.4 and 2.1969 of OpenCV's ``DIST_L2`` with a mask of 5 px. Whole numbers, for exact sums."""

FAR = 2**29
"""Longer than any path, and small enough to be added to."""

DEEP = 0.5
"""Share of the largest distance of the whole image above which a pixel belongs to a seed."""


def legacy_labels(interior: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return objects as OpSeF's ``UNet_Watershed`` found them, faults included.

    Both maps are blurred. Cells are where the interior is more probable than the background;
    they are opened. Seeds are the pieces that are deeper than half of the deepest place in
    the image, so that small objects beside a large one have none. Whatever is neither cell
    nor seed is the seed of the background. All seeds flood ``255 - 255 * interior``, without
    a mask. The map of the border plays no part: the original read that of the background in
    its place.

    Parameters
    ----------
    interior, background : (M, N) ndarray of float
        Probabilities, of the size of the image.

    Returns
    -------
    labels : (M, N) ndarray of int32
        1..N.

    Notes
    -----
    Opening and distances are those of OpenCV, to the pixel: its opening by squares of even
    sides moves the cells, here by 2 px to the right and down, and its distances come within
    2 % of the exact ones. Known to differ from the original: the background is 0 and objects
    are 1..N, where it had 1 and 2..N+1; probabilities were held as float16; an image is
    normalised before it is resized, not after, and continued by reflection, not resized, to
    a multiple of 8.
    """
    interior = ndimage.gaussian_filter(interior, SIGMA, mode="nearest")
    background = ndimage.gaussian_filter(background, SIGMA, mode="nearest")
    cells = interior > background
    opened = _opened(cells)
    depth = _depth(opened)
    seeds, _ = ndimage.label(depth > DEEP * depth.max(), structure=np.ones((3, 3)))
    markers = seeds + 1
    markers[cells & (seeds == 0)] = 0
    flooded = watershed(255 - 255 * interior, markers)
    return (flooded - 1).astype(np.int32)


def _opened(mask: np.ndarray) -> np.ndarray:
    """Open a mask by a square of 2 px, twice, as OpenCV does: with a shift, edges left alone."""
    how = {"size": WINDOW, "origin": WINDOW // 2, "mode": "nearest"}
    eroded = ndimage.minimum_filter(mask, **how)
    opened: np.ndarray = ndimage.maximum_filter(eroded, **how)
    return opened


def _depth(mask: np.ndarray) -> np.ndarray:
    """Return the length of the shortest path out of a mask, by `STEPS`; `FAR` if there is none.

    Parameters
    ----------
    mask : (M, N) ndarray of bool

    Returns
    -------
    (M, N) ndarray of int32
        0 outside the mask; what lies beyond the image is not outside.

    References
    ----------
    .. [1] G. Borgefors, "Distance transformations in digital images", Comput. Vision Graph.
       34(3):344-371, 1986.
    """
    around = np.pad(np.where(mask, FAR, 0).astype(np.int32), 2, constant_values=FAR)
    height, width = mask.shape
    depth, before = around[2:-2, 2:-2], None
    while before is None or not np.array_equal(depth, before):
        before = depth.copy()
        for (down, right), length in _ALL_STEPS:
            there = around[2 + down : 2 + down + height, 2 + right : 2 + right + width]
            np.minimum(depth, there + np.int32(length), out=depth)
    return depth


_ALL_STEPS = [
    ((y * first, x * second), length)
    for (a, b), length in STEPS.items()
    for first, second in {(a, b), (b, a)}
    for y in (-1, 1)[: 1 + (first > 0)]
    for x in (-1, 1)[: 1 + (second > 0)]
]
"""`STEPS` in all 16 directions."""
