"""Random crops of volumes: turned in the plane, flipped, enlarged, in another light."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from skimage.segmentation import relabel_sequential
from torch.nn import functional

from opsef_bridge.train.augment import Augmentation, relight
from opsef_bridge.train.data import UNKNOWN, Sample

__all__ = ["Box", "augment_volume", "draw_crop", "known_objects", "renumbered"]

TRIES = 10
"""Crops that are drawn until one shows an object, where one must."""


class Box(NamedTuple):
    """The smallest box around an object.

    Parameters
    ----------
    extent : tuple of int
        Voxels along Z, Y and X.
    whole : bool
        Whether it touches neither an edge of the volume nor voxels that nobody vouched for.
    """

    extent: tuple[int, ...]
    whole: bool


def known_objects(labels: np.ndarray) -> Iterator[Box]:
    """Yield the boxes of the objects of a volume, by label.

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        Negative where nobody vouched.
    """
    labels = renumbered(labels, labels.size)  # a list as long as the largest number is made
    for number, box in enumerate(ndimage.find_objects(labels.clip(0)), 1):
        if box is None:
            continue
        wide = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        sides = zip(box, labels.shape, strict=True)
        inside = all(side.start > 0 and side.stop < end for side, end in sides)
        around = ndimage.binary_dilation(labels[wide] == number) & (labels[wide] < 0)
        extent = tuple(int(side.stop - side.start) for side in box)
        yield Box(extent, inside and not around.any())


def renumbered(labels: np.ndarray, most: int) -> np.ndarray:
    """Return labels as they are or, where one is above `most`, numbered 1, 2, ... in their order.

    Parameters
    ----------
    labels : ndarray of int
        Negative where nobody vouched, and then also in what is returned.
    most : int

    Examples
    --------
    >>> renumbered(np.array([-1, 0, 5, 99, 5]), 98).tolist()
    [-1, 0, 1, 2, 1]
    """
    if labels.max(initial=0) <= most:
        return labels
    return np.where(labels > 0, relabel_sequential(labels.clip(0))[0], labels)


def draw_crop(
    rng: np.random.Generator, samples: Sequence[Sample], settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a crop of one of the samples; of one that must show an object, up to ten.

    Parameters
    ----------
    rng : Generator
    samples : sequence of Sample
        Volumes.
    settings
        With ``crop``, ``with_objects`` and ``augmentation``.

    Returns
    -------
    image : ndarray of float32, shape of the crop
    labels : ndarray of int32, shape of the crop
    """
    tries = TRIES if rng.random() < settings.with_objects else 1
    for _ in range(tries):
        sample = samples[rng.integers(len(samples))]
        image, labels = augment_volume(rng, sample, settings.crop, settings.augmentation)
        if (labels > 0).any():
            break
    return relight(rng, image, settings.augmentation), labels


def augment_volume(
    rng: np.random.Generator, sample: Sample, size: Sequence[int], how: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Return one crop of a volume: enlarged alike along all axes, flipped, turned in the plane.

    Quarter turns are for crops that are square; others are turned by half. Where the volume is
    smaller than the crop the image is continued by reflection, and its labels are `UNKNOWN`.

    Returns
    -------
    image : ndarray of float32, shape `size`
    labels : ndarray of int32, shape `size`
    """
    image, labels = _cut(rng, sample, size, how.scale)
    quarters = 1 if size[1] == size[2] else 2
    turns = quarters * int(rng.integers(4 // quarters))
    image, labels = (np.rot90(one, turns, axes=(1, 2)) for one in (image, labels))
    flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
    image, labels = np.flip(image, flips), np.flip(labels, flips)
    return np.ascontiguousarray(image), np.ascontiguousarray(labels, np.int32)


def _cut(
    rng: np.random.Generator, sample: Sample, size: Sequence[int], scale: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a box at a random place and resize it to `size`."""
    factor = float(np.exp(rng.uniform(*np.log(scale))))
    box, missing, nearest = [], [], []
    for side, extent in zip(size, sample.labels.shape, strict=True):
        wanted = max(1, round(side / factor))
        start = int(rng.integers(max(extent - wanted, 0) + 1))
        box.append(slice(start, start + wanted))
        missing.append((0, max(0, wanted - extent)))
        nearest.append(np.minimum((np.arange(side) + 0.5) * wanted / side, wanted - 1).astype(int))
    image, labels = sample.image[tuple(box)], sample.labels[tuple(box)]
    if np.any(missing):
        image = np.pad(image, missing, mode="reflect")
        labels = np.pad(labels, missing, constant_values=UNKNOWN)
    if image.shape != tuple(size):
        whole = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
        image = functional.interpolate(whole, size=tuple(size), mode="trilinear")[0, 0].numpy()
    return image, labels[np.ix_(*nearest)]
