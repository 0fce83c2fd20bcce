"""Random crops: one image gives many. Every number is drawn from the generator given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.transform import resize

from opsef_bridge.train.data import Sample

__all__ = ["Augmentation", "augment", "relight"]


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

    Where the image is smaller than the crop it is continued by reflection.

    Returns
    -------
    image : ndarray of float32, shape (size, size)
    labels : ndarray of int32, shape (size, size)
    """
    image, labels = _crop(rng, sample, size, how.scale)
    turns, flip = rng.integers(4), rng.random() < 0.5
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return relight(rng, image, how), np.ascontiguousarray(labels)


def _crop(
    rng: np.random.Generator, sample: Sample, size: int, scale: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square at a random place and resize it to `size`."""
    factor = np.exp(rng.uniform(*np.log(scale)))
    side = round(size / factor)
    height, width = sample.image.shape
    top = rng.integers(max(height - side, 0) + 1)
    left = rng.integers(max(width - side, 0) + 1)
    box = np.s_[top : top + side, left : left + side]
    image, labels = sample.image[box], sample.labels[box]
    missing = [(0, side - extent) for extent in image.shape]
    image = np.pad(image, missing, mode="reflect")
    labels = np.pad(labels, missing, mode="reflect")
    image = resize(image, (size, size), order=1, anti_aliasing=factor < 1)
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
