"""Random crops: one image gives many. Every number is drawn from the generator given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage import measure
from skimage.transform import resize

from opsef_bridge.train.data import Sample

__all__ = ["Augmentation", "apart", "augment", "random_crop", "relight"]

TRIES = 10
"""Places that are tried until one shows a pixel that is vouched for."""


@dataclass(frozen=True)
class Augmentation:
    """How far crops may differ from their image. Intensities are normalised ones."""

    scale: tuple[float, float] = (0.75, 1.35)
    """Least and largest enlargement, drawn log-uniformly."""
    gamma: tuple[float, float] = (0.6, 1.6)
    gain: tuple[float, float] = (0.6, 1.4)
    blur: float = 1.2
    """Largest sigma in px, of 30 % of the crops."""
    noise: float = 0.06
    """Largest standard deviation, of 50 % of the crops."""


def augment(
    rng: np.random.Generator, sample: Sample, size: int, how: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Return one crop of `size` px: enlarged, turned, flipped, in another light.

    Returns
    -------
    image : ndarray of float32, shape (size, size)
    labels : ndarray of int32, shape (size, size)
    """
    image, labels = random_crop(rng, sample, size, how.scale)
    return relight(rng, image, how), labels


def random_crop(
    rng: np.random.Generator, sample: Sample, size: int, scale: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return one crop of `size` px, enlarged, turned and flipped.

    Where the image is smaller than the crop it is continued by reflection. Crops that show
    nothing for which somebody vouched are drawn again, a few times. Very large ids become small
    ones.

    Returns
    -------
    image : ndarray of float32, shape (size, size), or (size, size, 3) in colour
    labels : ndarray of int32, shape (size, size)
    """
    for _ in range(TRIES):
        image, labels = _crop(rng, sample, size, scale)
        if (labels >= 0).any():
            break
    if labels.max() > labels.size:  # what goes through objects by their ids takes long
        ids = np.unique(labels[labels > 0])
        labels = np.where(labels > 0, np.searchsorted(ids, labels) + 1, labels).astype(np.int32)
    turns, flip = rng.integers(4), rng.random() < 0.5
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return image, np.ascontiguousarray(labels)


def _crop(
    rng: np.random.Generator, sample: Sample, size: int, scale: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square at a random place and resize it to `size`."""
    factor = np.exp(rng.uniform(*np.log(scale)))
    side = round(size / factor)
    top, left = (rng.integers(max(extent - side, 0) + 1) for extent in sample.labels.shape)
    box = np.s_[top : top + side, left : left + side]
    image, labels = sample.image[box], sample.labels[box]
    missing = [(0, side - extent) for extent in labels.shape]
    if np.any(missing):
        image = np.pad(image, [*missing, (0, 0)][: image.ndim], mode="reflect")
        labels = apart(np.pad(labels, missing, mode="reflect"))
    image = resize(image, (size, size, *image.shape[2:]), order=1, anti_aliasing=factor < 1)
    nearest = np.minimum((np.arange(size) + 0.5) * side / size, side - 1).astype(int)
    return image.astype(np.float32), labels[np.ix_(nearest, nearest)]


def relight(rng: np.random.Generator, image: np.ndarray, how: Augmentation) -> np.ndarray:
    """Change gamma and gain; blur some, add noise to some."""
    gamma = np.exp(rng.uniform(*np.log(how.gamma)))
    gain = rng.uniform(*how.gain)
    image = np.sign(image) * np.abs(image) ** gamma * gain
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0, how.blur))
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0, how.noise), image.shape)
    return np.ascontiguousarray(image, np.float32)


def apart(labels: np.ndarray) -> np.ndarray:
    """Give every piece of an object an id of its own; the largest piece keeps the id.

    An object and its mirror image are two.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        0 and negative values stay.

    Returns
    -------
    ndarray of int32, shape (Y, X)

    Examples
    --------
    >>> apart(np.array([[7, 7, 0, 7, -1, 2]]))
    array([[ 7,  7,  0,  8, -1,  2]], dtype=int32)
    """
    out = np.array(labels, np.int32)
    pieces = measure.label(labels.clip(0), background=0, connectivity=2)
    area = np.bincount(pieces.ravel())
    first = np.zeros(len(area), np.int64)
    first[pieces.ravel()] = labels.clip(0).ravel()
    order = np.lexsort((np.arange(len(area)), -area, first))[1:]  # without background
    order = order[first[order] > 0]
    repeated = order[1:][first[order[1:]] == first[order[:-1]]]
    number = int(out.max(initial=0))
    for more, piece in enumerate(np.sort(repeated), start=1):
        out[pieces == piece] = number + more
    return out
