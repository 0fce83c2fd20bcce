"""``blobs``: bright round objects of about one size, by the Laplacian of Gaussian.

Between two blobs that touch the response dips, so that a threshold above the dip parts them.

References
----------
.. [1] T. Lindeberg, "Feature detection with automatic scale selection", International
   Journal of Computer Vision 30(2):79-116, 1998.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy import ndimage

from opsef_bridge.engines import Parameters, Raw, Scaled, Weights
from opsef_bridge.engines.scaling import (
    CLIP,
    decode_on_finer_grid,
    finite_plane,
    normalise,
    percentiles,
    resize,
)

__all__ = ["Blobs"]


class Predict(Scaled):
    """Parameters that need a new pass."""

    diameter: float = Field(16, ge=2, le=500)
    """Of the objects, in pixels of the original image."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    threshold: float = Field(0.1, gt=0, lt=1)
    """Of the response; an even disc of the right diameter in the dark has 0.7 at its middle."""
    min_size: int = Field(20, ge=0)
    """Smaller objects are dropped; pixels of the original image."""


class Blobs:
    """Connected parts of the response of the Laplacian of Gaussian.

    The image is normalised to its 0.1 and 99.9 percentiles, clipped to -0.2..4 and resized
    by ``scale``.
    """

    name: ClassVar[str] = "blobs"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX"})
    needs_weights: ClassVar[bool] = False
    Predict = Predict
    Decode = Decode

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Do nothing: there are no weights."""

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the response to blobs of the diameter."""
        image = finite_plane(image, self.axes)
        reference = image if reference is None else finite_plane(reference, self.axes)
        plane = normalise(image, percentiles(reference, 0.1, 99.9), clip=CLIP)
        # A disc answers most where its radius is the sigma times the root of 2.
        sigma = parameters.diameter * parameters.scale / 2 / 2**0.5
        response = -(sigma**2) * ndimage.gaussian_laplace(
            resize(plane, parameters.scale), sigma, mode="nearest"
        )
        return Raw({"response": response}, image.shape)

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: threshold, connected parts, small ones dropped."""

        def split(response: np.ndarray) -> np.ndarray:
            return ndimage.label(response > parameters.threshold)[0].astype(np.int32)

        response = raw.maps["response"].astype(np.float32)
        return decode_on_finer_grid(response, raw.shape, split, min_size=parameters.min_size)
