"""The comparison hyperstack: one image, the variants as frames in the order of rank.

T = variant, Z = the image's planes, C = four 8-bit views of each plane:

1. the base picture (raw, or a recipe's output);
2. what the network saw: the recipe's output at the variant's scale, blown back up;
3. the base picture with the outlines of the objects;
4. the labels in false colours.

Stepping along T flips through the variants; stepping along C looks at one of them. The
stack is made plane by plane, so it never needs the memory of more than a few planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from skimage.segmentation import find_boundaries

from opsef_bridge.engines.scaling import resize, resize_labels
from opsef_bridge.images import label_lut

__all__ = [
    "CHANNELS",
    "Frame",
    "affordable_frames",
    "display_range",
    "false_colours",
    "stack_luts",
    "stack_planes",
    "to_8bit",
    "with_outlines",
]

CHANNELS = ("base", "seen by the network", "outlines", "labels")

OUTLINE = 255
"""Value of outlines in the third view; the picture below them ends at 250."""


@dataclass(frozen=True)
class Frame:
    """One variant of one image.

    Parameters
    ----------
    labels : ndarray of int32, axes YX or ZYX
    seen : ndarray, axes YX or ZYX
        Output of the recipe, on the grid of `labels` or a coarser one.
    scale : float
        Factor by which the network saw it enlarged.
    """

    labels: np.ndarray
    seen: np.ndarray
    scale: float


def affordable_frames(shape: tuple[int, ...], limit: int = 60_000_000) -> int:
    """Return how many frames of 8-bit planes of `shape` fit into `limit` bytes, at least 1."""
    return max(1, limit // (len(CHANNELS) * int(np.prod(shape))))


def display_range(image: np.ndarray) -> tuple[float, float]:
    """Return the 0.1 and 99.9 percentiles: the values shown black and white."""
    low, high = (float(v) for v in np.percentile(image.astype(np.float32), (0.1, 99.9)))
    return (low, high) if high > low else (low, low + 1)


def to_8bit(plane: np.ndarray, limits: tuple[float, float], white: int = 255) -> np.ndarray:
    """Map `limits` to 0 and `white`, clipped, as uint8."""
    low, high = limits
    scaled = (plane.astype(np.float32) - low) * (white / (high - low))
    return np.clip(np.rint(scaled), 0, white).astype(np.uint8)


def false_colours(labels: np.ndarray) -> np.ndarray:
    """Map ids to 1..255 over and over, background to 0, as indices of `label_lut`."""
    return np.where(labels > 0, (labels - 1) % 255 + 1, 0).astype(np.uint8)


def with_outlines(plane: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the inner border of each object of `labels` (YX) onto an 8-bit plane."""
    out = np.minimum(plane, 250)
    out[find_boundaries(labels, mode="inner", connectivity=1)] = OUTLINE
    return out


def stack_luts() -> list[np.ndarray]:
    """Return the colour tables of the four views; outlines are yellow on grey."""
    grey = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    outlines = grey.copy()
    outlines[:, OUTLINE] = (255, 230, 0)
    return [grey, grey, outlines, label_lut()]


def stack_planes(base: np.ndarray, frames: Iterable[Frame]) -> Iterator[np.ndarray]:
    """Yield the planes of the hyperstack: channel fastest, then Z, then frames.

    Parameters
    ----------
    base : ndarray, axes YX or ZYX
        The base picture, of the shape of the labels.
    frames : iterable of Frame
        In the order of rank; each is let go before the next is asked for.
    """
    limits = display_range(base)
    for frame in frames:
        seen = _as_seen(frame, base.shape)
        seen_limits = display_range(seen)
        for z in range(1 if base.ndim == 2 else len(base)):
            plane, view, labels = ((a if a.ndim == 2 else a[z]) for a in (base, seen, frame.labels))
            grey = to_8bit(plane, limits)
            yield grey
            yield to_8bit(view, seen_limits)
            yield with_outlines(grey, labels)
            yield false_colours(labels)


def _as_seen(frame: Frame, shape: tuple[int, ...]) -> np.ndarray:
    """What the network saw, each of its pixels as a block: what is lost shows as lost."""
    small = resize(frame.seen.astype(np.float32), min(frame.scale, 1.0))
    return resize_labels(small, shape)
