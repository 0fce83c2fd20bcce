"""The comparison hyperstack: one image, the variants as frames in the order of rank.

T = variant, Z = the image's planes, C = four views of each plane:

1. the base picture (raw, or a recipe's output);
2. what the network saw: the recipe's output at the variant's scale, blown back up;
3. the base picture with the outlines of the objects;
4. the labels in false colours;

and then, if they are wanted, further channels of the image. Stepping along T flips through
the variants; stepping along C looks at one of them.

The stack is made plane by plane, and the next planes are made while some are written. What is
held meanwhile does not grow with the number of variants: the base picture and the further
channels as they are written, the labels of one variant, what its recipe makes of the image, up
to `SEEN_BYTES` of what recipes made as it is shown, and six planes on their way. Of a volume
labels and pictures are volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.engines.scaling import resize, resize_labels
from opsef_bridge.images import label_lut
from opsef_bridge.measure.compiled import compiled

__all__ = [
    "CHANNELS",
    "STACK_BYTES",
    "Frame",
    "affordable_frames",
    "display_range",
    "false_colours",
    "source_dtype",
    "stack_luts",
    "stack_planes",
    "to_8bit",
    "with_outlines",
]

CHANNELS = ("base", "seen by the network", "outlines", "labels")

OUTLINE = 255
"""Value of outlines in the third view; the picture below them ends at 250."""

STACK_BYTES = 60_000_000
"""Of a comparison stack that nobody asked to be larger."""

SEEN_BYTES = 2**24
"""Of what recipes made, kept as it is shown for later frames that saw the same."""

RANGE_PIXELS = 2**21
"""Of a larger picture the display range is that of every n-th row and column."""


@dataclass(frozen=True)
class Frame:
    """One variant of one image.

    Parameters
    ----------
    labels : ndarray of int32, axes YX or ZYX
    seen : callable
        Returns the output of the recipe, axes YX or ZYX, on the grid of `labels` or a coarser
        one.
    scale : float
        Factor by which the network saw it enlarged.
    key : hashable, optional
        Frames of one image, key and scale saw the same, so `seen` is not called for each.
    """

    labels: np.ndarray
    seen: Callable[[], np.ndarray]
    scale: float
    key: Any = None


def affordable_frames(shape: tuple[int, ...], channels: int = len(CHANNELS)) -> int:
    """Return how many frames of 8-bit planes of `shape` fit into `STACK_BYTES`, at least 1.

    Examples
    --------
    >>> affordable_frames((512, 512)), affordable_frames((2048, 2048))
    (57, 3)
    """
    return max(1, STACK_BYTES // (channels * int(np.prod(shape))))


def source_dtype(image: np.ndarray) -> np.dtype:
    """Return the dtype of those that ImageJ has (uint8, uint16, float32) for an image's values.

    Integers that do not fit into 16 bits, and floats, become float32, which holds integers up
    to 2**24 exactly.
    """
    if image.dtype == bool or image.dtype == np.uint8:
        return np.dtype(np.uint8)
    return np.dtype(np.uint16 if image.dtype == np.uint16 else np.float32)


def display_range(image: np.ndarray) -> tuple[float, float]:
    """Return the 0.1 and 99.9 percentiles: the values shown black and white.

    Of pictures above `RANGE_PIXELS` they are those of every n-th row and column. Values that
    are not finite do not count.
    """
    step = int(np.ceil(np.sqrt(image.size / RANGE_PIXELS)))
    sample = image[..., ::step, ::step].astype(np.float32)
    if image.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    if not sample.size:
        return (0.0, 1.0)
    low, high = (float(v) for v in np.percentile(sample, (0.1, 99.9)))
    return (low, high) if high > low else (low, low + 1)


def to_8bit(plane: np.ndarray, limits: tuple[float, float], white: int = 255) -> np.ndarray:
    """Map `limits` to 0 and `white`, clipped, as uint8; what is not a number becomes 0."""
    low, high = limits
    scaled = plane.astype(np.float32)
    scaled -= low
    scaled *= white / (high - low)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, white, out=scaled)
    if plane.dtype.kind == "f":
        np.nan_to_num(scaled, copy=False)
    return scaled.astype(np.uint8)


def false_colours(labels: np.ndarray) -> np.ndarray:
    """Map ids of a plane to 1..255 over and over, background to 0, as indices of `label_lut`."""
    return _drawn(np.zeros(labels.shape, np.uint8), labels)[1]


def with_outlines(plane: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the inner border of each object of `labels` (YX) onto an 8-bit plane."""
    return _drawn(plane, labels)[0]


def _drawn(plane: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an 8-bit plane with outlines, and the labels in false colours."""
    outlined, coloured = np.empty(labels.shape, np.uint8), np.empty(labels.shape, np.uint8)
    ids = np.ascontiguousarray(labels, np.int32)
    _draw(ids, np.ascontiguousarray(plane, np.uint8), outlined, coloured)
    return outlined, coloured


@compiled
def _draw(
    labels: NDArray[np.int32],
    grey: NDArray[np.uint8],
    outlined: NDArray[np.uint8],
    coloured: NDArray[np.uint8],
) -> None:
    """Draw both views in one go; a pixel of an object with another neighbour is an outline."""
    height, width = labels.shape
    darkest = np.uint8(OUTLINE - 5)
    for y in range(height):
        here, above, below = labels[y], labels[max(y - 1, 0)], labels[min(y + 1, height - 1)]
        for x in range(width):  # these two without branches: the compiler makes vectors of them
            n = here[x]
            colour = np.uint8(np.uint32(n - 1) % np.uint32(255) + np.uint32(1))
            coloured[y, x] = colour if n > 0 else np.uint8(0)
        for x in range(1, width - 1):
            n = here[x]
            other = (n != above[x]) | (n != below[x]) | (n != here[x - 1]) | (n != here[x + 1])
            outlined[y, x] = np.uint8(OUTLINE) if other & (n > 0) else min(grey[y, x], darkest)
        for x in (0, width - 1):
            n = here[x]
            left, right = here[max(x - 1, 0)], here[min(x + 1, width - 1)]
            other = (n != above[x]) | (n != below[x]) | (n != left) | (n != right)
            outlined[y, x] = np.uint8(OUTLINE) if other & (n > 0) else min(grey[y, x], darkest)


def stack_luts(more: int = 0) -> list[np.ndarray]:
    """Return the colour tables of the four views and of `more` channels, which are grey.

    Outlines are yellow on grey.
    """
    grey = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    outlines = grey.copy()
    outlines[:, OUTLINE] = (255, 230, 0)
    return [grey, grey, outlines, label_lut(), *[grey] * more]


def stack_planes(
    base: np.ndarray,
    frames: Iterable[Frame],
    more: Sequence[np.ndarray] = (),
    *,
    values: Any = None,
) -> Iterator[np.ndarray]:
    """Yield the planes of the hyperstack: channel fastest, then Z, then frames.

    Parameters
    ----------
    base : ndarray, axes YX or ZYX
        The base picture, of the shape of the labels.
    frames : iterable of Frame
        In the order of rank. Each is asked for in a thread, while the one before is written.
    more : sequence of ndarray
        Further channels, each of the shape of `base`.
    values : dtype-like, optional
        Base and further channels keep their values, in this dtype; the other views have theirs
        of 0..255 in it too, since all planes of a hyperstack are of one dtype. By default base
        and further channels are mapped to 0..255 by their `display_range`.

    Yields
    ------
    ndarray of `values`, or of uint8; axes YX
    """
    dtype = np.dtype(np.uint8 if values is None else values)
    grey = to_8bit(_volume(base), display_range(base))
    if values is None:
        first, others = grey, [to_8bit(_volume(one), display_range(one)) for one in more]
    else:
        first, others = _volume(base), [_volume(one) for one in more]
    shape = base.shape
    del base, more
    for views in _ahead(_views(frames, grey, shape)):
        z, seen, outlined, coloured = views
        for view in (first[z], seen, outlined, coloured, *(one[z] for one in others)):
            yield view.astype(dtype, copy=False)


def _views(
    frames: Iterable[Frame], grey: np.ndarray, shape: tuple[int, ...]
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, frame by frame, each Z and what differs there: seen, outlines, labels."""
    kept: dict[Any, np.ndarray] = {}
    most = SEEN_BYTES // grey.size
    for frame in frames:
        key = (frame.key, min(frame.scale, 1.0))
        seen = kept.get(key)
        if seen is None:
            seen = _volume(_as_seen(frame.seen(), frame.scale, shape))
            if frame.key is not None and most:
                while len(kept) >= most:
                    del kept[next(iter(kept))]
                kept[key] = seen
        labels = _volume(frame.labels)
        del frame
        for z, plane in enumerate(grey):
            yield z, seen[z], *_drawn(plane, labels[z])
        del labels, seen


def _ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Yield `items`, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _as_seen(seen: np.ndarray, scale: float, shape: tuple[int, ...]) -> np.ndarray:
    """What the network saw, each of its pixels as a block: what is lost shows as lost."""
    small = seen if scale >= 1 else resize(seen.astype(np.float32), scale)
    return resize_labels(to_8bit(small, display_range(small)), shape)


def _volume(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 3 else array[np.newaxis]
