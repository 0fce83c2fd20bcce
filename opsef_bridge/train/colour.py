"""Colour images of stained tissue: reading them, random crops of them, and make-believe ones.

Values of a normalised image are close to the part of the light that passes: ground is near
1, a stain near 0. By Beer and Lambert a stain of another strength is a power of that part,
and light of another colour a factor, each with its own number per sample.

References
----------
.. [1] A. C. Ruifrok, D. A. Johnston, "Quantification of histochemical staining by color
   deconvolution", Anal. Quant. Cytol. Histol. 23:291-299, 2001.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from opsef_bridge.engines.scaling import CLIP, normalise, percentiles
from opsef_bridge.errors import InputError
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.train.augment import Augmentation, random_crop
from opsef_bridge.train.data import Sample

__all__ = [
    "HAEMATOXYLIN",
    "StainAugmentation",
    "augment_colour",
    "prepare_colour",
    "read_colour_samples",
    "restain",
    "stained",
]

HAEMATOXYLIN = (0.65, 0.70, 0.29)
"""How much of red, green and blue light haematoxylin takes away, as logarithms [1]_."""


@dataclass(frozen=True)
class StainAugmentation(Augmentation):
    """How far colour crops may differ from their image."""

    stain: tuple[float, float] = (0.6, 1.6)
    """Power of each sample, drawn log-uniformly: stains of other strength and hue."""
    tint: tuple[float, float] = (0.85, 1.15)
    """Factor of each sample: light of another colour."""


def prepare_colour(image: np.ndarray) -> np.ndarray:
    """Normalise an image as the engine does: all samples together.

    Parameters
    ----------
    image : ndarray, shape (Y, X, 3)

    Returns
    -------
    ndarray of float32, shape (Y, X, 3)
    """
    return normalise(image, percentiles(image, 1.0, 99.8), clip=CLIP)


def read_colour_samples(
    folder: str | Path, groups: Mapping[str, str], *, without: Iterable[str] = ()
) -> list[Sample]:
    """Read the colour images among ``images/NAME.png`` with their labels, by name.

    Parameters
    ----------
    folder : path
    groups : mapping of str to str
        Group of each name; images that are not in it are passed over.
    without : iterable of str
        Groups to leave out.

    Raises
    ------
    InputError
        There is no such image, or one is grey, or has no labels of its shape.
    """
    left_out = set(without)
    samples = []
    for path in sorted(Path(folder, "images").glob("*.png")):
        group = groups.get(path.stem)
        if group is None or group in left_out:
            continue
        image = read_image(path).data
        labels = read_labels(Path(folder, "labels", f"{path.stem}.tif"))
        if image.shape != (*labels.shape, 3):
            raise InputError(
                f"{path.name} is {image.shape}, its labels are {labels.shape}",
                hint="A colour image has red, green and blue as its last axis",
            )
        samples.append(Sample(path.stem, prepare_colour(image), labels, group))
    if not samples:
        raise InputError(f"no colour images to learn from in {Path(folder, 'images')}")
    return samples


def stained(sample: Sample, strength: float = 2.5) -> Sample:
    """Return a fluorescence image as if its nuclei were stained: dark and blue on white.

    Parameters
    ----------
    sample : Sample
        Of a normalised grey image.
    strength : float
        The larger, the less light passes where the image is 1.
    """
    amount = strength * np.clip(sample.image, 0, 1.5)
    passed = np.exp(-amount[..., None] * np.array(HAEMATOXYLIN, np.float32))
    return Sample(sample.name, prepare_colour(passed), sample.labels, sample.group)


def augment_colour(
    rng: np.random.Generator, sample: Sample, size: int, how: StainAugmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Return one crop of `size` px: enlarged, turned, flipped, of another stain and light.

    Returns
    -------
    image : ndarray of float32, shape (size, size, 3)
    labels : ndarray of int32, shape (size, size)
    """
    image, labels = random_crop(rng, sample, size, how.scale)
    return restain(rng, image, how), labels


def restain(rng: np.random.Generator, image: np.ndarray, how: StainAugmentation) -> np.ndarray:
    """Change stain and light, of all samples and of each; blur some, add noise to some.

    Parameters
    ----------
    rng : Generator
    image : ndarray of float32, shape (Y, X, 3)
    how : StainAugmentation
    """
    power = np.exp(rng.uniform(*np.log(how.gamma)) + rng.uniform(*np.log(how.stain), 3))
    gain = rng.uniform(*how.gain) * rng.uniform(*how.tint, 3)
    image = np.sign(image) * np.abs(image) ** power * gain
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0, how.blur), axes=(0, 1))
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0, how.noise), image.shape)
    return np.ascontiguousarray(image, np.float32)
