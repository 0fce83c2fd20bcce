"""Images with labels, and the classes that a network learns from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.segmentation import find_boundaries

from opsef_bridge.engines.unet import prepare
from opsef_bridge.errors import InputError
from opsef_bridge.images import read_image, read_labels

__all__ = [
    "BACKGROUND",
    "BORDER",
    "IGNORED",
    "INTERIOR",
    "UNKNOWN",
    "Sample",
    "checksum",
    "class_map",
    "folds",
    "object_count",
    "read_samples",
]

BACKGROUND, INTERIOR, BORDER = 0, 1, 2

UNKNOWN = -1
"""Label of a pixel for which nobody vouched: it counts in no loss."""

IGNORED = 255
"""Class of such a pixel."""


@dataclass(frozen=True)
class Sample:
    """One image to learn from or to be judged on.

    Parameters
    ----------
    name : str
    image : ndarray of float32, shape (Y, X), of a volume (Z, Y, X)
        Normalised.
    labels : ndarray of int32, shape of the image
        0 background, every positive value one object, `UNKNOWN` where nobody vouched.
    group : str
        Images of one group (tiles of one field) never stand on both sides of a split.
    kind : str
        Cell type or condition: what augmentation balances and tables tell apart.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    group: str
    kind: str = ""


def read_samples(
    folder: str | Path, groups: Mapping[str, str], *, without: Iterable[str] = ()
) -> list[Sample]:
    """Read ``images/NAME.png`` with ``labels/NAME.tif``, by name, and normalise.

    Parameters
    ----------
    folder : path
    groups : mapping of str to str
        Group of each name; a name that is missing is its own group.
    without : iterable of str
        Groups to leave out.

    Raises
    ------
    InputError
        There is no image, or one without labels of its shape.
    """
    left_out = set(without)
    samples = []
    for path in sorted(Path(folder, "images").glob("*.png")):
        group = groups.get(path.stem, path.stem)
        if group in left_out:
            continue
        truth = Path(folder, "labels", f"{path.stem}.tif")
        if not truth.is_file():
            raise InputError(f"{path.name} has no labels: there is no file {truth}")
        image, labels = read_image(path).data, read_labels(truth)
        if image.shape != labels.shape:
            raise InputError(f"{path.name} is {image.shape}, its labels are {labels.shape}")
        samples.append(Sample(path.stem, prepare(image), labels, group))
    if not samples:
        raise InputError(f"no images to learn from: {Path(folder, 'images')} has no PNG file")
    return samples


def class_map(labels: np.ndarray) -> np.ndarray:
    """Return the class of each pixel: background, interior, border, or `IGNORED`.

    The border is one pixel wide and inside the object (a pixel with a 4-neighbour of
    another value); the image's edge is no border. Ignored are pixels that are `UNKNOWN`.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)

    Returns
    -------
    ndarray of uint8, shape (Y, X)

    Examples
    --------
    >>> class_map(np.array([[1, 1, 1, 0, 0]]))
    array([[1, 1, 2, 0, 0]], dtype=uint8)
    """
    border = find_boundaries(labels, connectivity=1, mode="inner")
    classes = np.where(labels > 0, INTERIOR, BACKGROUND)
    return np.where(labels < 0, IGNORED, np.where(border, BORDER, classes)).astype(np.uint8)


def folds(samples: Sequence[Sample], count: int, seed: int) -> list[list[int]]:
    """Split `samples` into `count` lists of indices of about as many objects each.

    Groups stay together. The largest go first, each to the fold that has least; ties and
    the order of equal groups are drawn by `seed`.
    """
    sizes: dict[str, int] = {}
    for sample in samples:
        sizes[sample.group] = sizes.get(sample.group, 0) + object_count(sample.labels)
    names = sorted(sizes)
    np.random.default_rng(seed).shuffle(names)
    totals = [0] * count
    fold_of = {}
    for name in sorted(names, key=lambda name: -sizes[name]):
        fold_of[name] = totals.index(min(totals))
        totals[fold_of[name]] += sizes[name]
    return [[i for i, s in enumerate(samples) if fold_of[s.group] == fold] for fold in range(count)]


def object_count(labels: np.ndarray) -> int:
    """Return how many objects there are.

    Examples
    --------
    >>> object_count(np.array([-1, 0, 0, 4, 4, 9]))
    2
    """
    return len(np.unique(labels[labels > 0]))


def checksum(samples: Sequence[Sample]) -> str:
    """Return the sha256 of names, images and labels: what a network was trained on."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.name} {sample.group} {sample.image.shape}".encode())
        digest.update(sample.image.tobytes())
        digest.update(sample.labels.tobytes())
    return digest.hexdigest()
