"""``watershed``: the classical baseline, a threshold and a distance watershed.

Foreground is what is brighter than a threshold (Otsu's, a factor of it, or a local mean);
touching objects are parted at the necks of their distance transform, one seed per local
maximum. No weights. In 2D and 3D.

References
----------
.. [1] N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. Syst.,
   Man, Cybern. 9(1):62-66, 1979.
.. [2] S. Beucher, C. Lantuejoul, "Use of watersheds in contour detection", 1979.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_local, threshold_otsu
from skimage.segmentation import watershed

from opsef_bridge.engines.base import Parameters, Raw, Scaled, Weights
from opsef_bridge.engines.scaling import (
    CLIP,
    decode_on_finer_grid,
    finite_plane,
    normalise,
    percentiles,
    resize,
)

__all__ = ["Watershed", "split_touching"]

LOCAL_BLOCK = 51
"""Side in pixels, on the resized image, of the window of the local threshold."""


class Predict(Scaled):
    """Parameters that need a new pass."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    threshold: Literal["otsu", "local"] | Annotated[float, Field(gt=0, le=100)] = "otsu"
    """``otsu``, ``local``, or a factor of Otsu's threshold, e.g. 0.8."""
    min_distance: int = Field(5, ge=1, le=500)
    """Least distance of two seeds, in pixels of the original image."""
    min_size: int = Field(20, ge=0)
    """Smaller objects are dropped; pixels of the original image."""


class Watershed:
    """Otsu or local threshold, then distance watershed.

    The image is normalised to its 0.1 and 99.9 percentiles, clipped to -0.2..4 and resized
    by ``scale``; a larger scale gives smoother outlines, a smaller one bridges texture
    inside objects.
    """

    name: ClassVar[str] = "watershed"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX", "ZYX"})
    needs_weights: ClassVar[bool] = False
    Predict = Predict
    Decode = Decode

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Do nothing: there are no weights, and the CPU is always used."""

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the normalised, resized image and Otsu's threshold of `reference`."""
        image = finite_plane(image, self.axes)
        reference = image if reference is None else finite_plane(reference, self.axes)
        limits = percentiles(reference, 0.1, 99.9)
        otsu = _otsu(normalise(reference, limits, clip=CLIP))
        plane = resize(normalise(image, limits, clip=CLIP), parameters.scale)
        return Raw({"image": plane}, image.shape, {"otsu": otsu, "scale": parameters.scale})

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: threshold, seeds, watershed, small objects dropped."""
        plane = raw.maps["image"].astype(np.float32)
        # The grid on which the labels are made may be finer than the original.
        fine = max(1.0, raw.values["scale"])

        def split(plane: np.ndarray) -> np.ndarray:
            mask = _foreground(plane, parameters.threshold, raw.values["otsu"])
            return split_touching(mask, round(parameters.min_distance * fine))

        return decode_on_finer_grid(plane, raw.shape, split, min_size=parameters.min_size)


def split_touching(mask: np.ndarray, min_distance: int) -> np.ndarray:
    """Part touching objects of `mask` at the necks of its distance transform.

    Parameters
    ----------
    mask : ndarray of bool
        2D or 3D.
    min_distance : int
        Least distance of two seeds in pixels; every connected part keeps at least one.

    Returns
    -------
    labels : ndarray of int32
        0 outside `mask`; every pixel of `mask` has a label.

    Examples
    --------
    >>> y, x = np.mgrid[:40, :70]
    >>> discs = ((x - 22) ** 2 + (y - 20) ** 2 < 196) | ((x - 46) ** 2 + (y - 20) ** 2 < 196)
    >>> int(split_touching(discs, 5).max())
    2
    """
    if not mask.any():  # scikit-image returns peaks of two coordinates then, also in 3D
        return np.zeros(mask.shape, np.int32)
    # Smoothing removes the plateaus that would seed one object twice.
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    parts, _ = ndimage.label(mask)
    peaks = peak_local_max(distance, min_distance=min_distance, labels=parts, exclude_border=False)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, seeds, mask=mask).astype(np.int32)


def _foreground(plane: np.ndarray, threshold: str | float, otsu: float) -> np.ndarray:
    if threshold == "local":
        # The offset keeps noise in an empty background below its own local mean.
        block = tuple(min(LOCAL_BLOCK, side - 1 + side % 2) for side in plane.shape)
        local = threshold_local(plane, block, method="mean", offset=-0.25 * otsu)
        return plane > local
    factor = 1.0 if threshold == "otsu" else float(threshold)
    return plane > factor * otsu


def _otsu(plane: np.ndarray) -> float:
    """Otsu's threshold; above everything for a constant image, which has no objects."""
    low, high = float(plane.min()), float(plane.max())
    return float(threshold_otsu(plane.ravel())) if high > low else 2.0
