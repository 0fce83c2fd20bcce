"""Whether an image is unlike those that a variant was chosen on.

A variant that was best on a sample need not be good on an image that is much brighter or
has larger objects. Six plain figures are compared; they can only say "look here".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from opsef_bridge.compare.appearance import appearance
from opsef_bridge.measure.overlap import label_runs

__all__ = ["FACTOR", "image_figures", "unlike"]

FACTOR = 2.0
"""Beyond half of the smallest or twice the largest of the sample an image is unlike it."""

GROUND = 0.05
"""Share of the sample's brightest by which a median must differ too: twice nothing is nothing."""

FEWEST = 5
"""Objects by which a count must differ too."""

MOST_PIXELS = 2**20
"""Pixels of an image that its intensities are taken from, evenly spread."""

NAMES = {
    "median": "median intensity",
    "bright": "99.8th percentile of intensity",
    "diameter": "median object diameter in px",
    "density": "number of objects per million px",
    "contrast": "contrast at the objects",
    "edge": "width of the objects' edges over their diameter",
}


def image_figures(image: np.ndarray | None, labels: np.ndarray) -> dict[str, float]:
    """Return the figures that images are compared by.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX, or None
        None where it cannot be read: then there are no intensities.
    labels : ndarray of int
        Labels of the variant, of the same shape.

    Returns
    -------
    dict
        ``median`` and ``bright``, the median and the 99.8th percentile of the intensities;
        ``objects``; ``density``, objects per million pixels (voxels); ``diameter``, the median
        diameter of a disc (ball) of the same size, absent without objects; ``pixels``;
        ``contrast`` and ``edge`` as `opsef_bridge.compare.appearance` has them, absent without
        intensities or objects.

    Examples
    --------
    >>> labels = np.zeros((10, 10), int)
    >>> labels[2:4, 2:4] = 1
    >>> figures = image_figures(np.full((10, 10), 7), labels)
    >>> figures["median"], figures["density"], round(figures["diameter"], 2)
    (7.0, 10000.0, 2.26)
    """
    runs = label_runs(labels)
    found: dict[str, float] = {"objects": float(len(runs)), "pixels": float(labels.size)}
    found["density"] = 1e6 * len(runs) / max(labels.size, 1)
    if len(runs):
        size = np.median(runs.areas)
        flat = labels.ndim == 2
        found["diameter"] = float(2 * np.sqrt(size / np.pi) if flat else np.cbrt(6 * size / np.pi))
    if image is not None and image.size:
        step = -(-image.size // MOST_PIXELS)
        middle, bright = np.percentile(image.ravel()[::step].astype(np.float64), [50, 99.8])
        found |= {"median": float(middle), "bright": float(bright)}
        look = appearance(image, labels)
        found |= {"contrast": look.contrast, "edge": look.edge} if look else {}
    return found


def unlike(sample: Sequence[Mapping[str, float]], new: Mapping[str, float]) -> list[str]:
    """Say by what an image is unlike those of a sample.

    Parameters
    ----------
    sample : sequence of mapping
        `image_figures` of each image of the sample.
    new : mapping
        Those of the image.

    Returns
    -------
    list of str
        Parts of a sentence; empty where all figures lie within `FACTOR` of the sample's range.

    Examples
    --------
    >>> of = {"median": 100.0, "bright": 900.0}
    >>> unlike([of, of | {"median": 150.0}], of | {"median": 420.0})
    ['its median intensity is 420, theirs 100 to 150']
    """
    found = []
    for key, name in NAMES.items():
        theirs = [one[key] for one in sample if key in one]
        if key not in new or not theirs:
            continue
        low, high, value = min(theirs), max(theirs), new[key]
        # Below zero, twice as far away is less.
        if min(low / FACTOR, low * FACTOR) <= value <= max(high * FACTOR, high / FACTOR):
            continue
        beyond = max(low - value, value - high)
        if key == "density" and not _counts_differ(new, low, beyond):
            continue
        if key == "median" and beyond < GROUND * max(abs(one["bright"]) for one in sample):
            continue
        theirs_text = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        found.append(f"its {name} is {value:.4g}, theirs {theirs_text}")
    return found


def _counts_differ(new: Mapping[str, float], low: float, beyond: float) -> bool:
    """Whether it is more than chance: several objects, or none where there always were some."""
    return beyond * new["pixels"] / 1e6 >= FEWEST or (low > 0 and not new["objects"])
