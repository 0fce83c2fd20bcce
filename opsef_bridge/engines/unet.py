"""``unet``: a U-Net of three classes (background, interior, border), run by ONNX Runtime.

Any ONNX file serves that maps ``(N, 1, Y, X)`` float32 to ``(N, 3, Y, X)`` probabilities of
background, interior and border, for any Y and X that are multiples of 16 (the card may name
another number, see `opsef_bridge.engines.map_network.Card`). `opsef_bridge.train` makes such
files; `opsef_bridge.engines.unet_files` makes them of the weights of CellProfiler's U-Net.

OpSeF [2]_ ran a network of the same classes, that one. Its post-processing
(``UNet_Watershed``) read the background in place of the border class, took its seeds above
half the one global maximum of the distance transform, so that small nuclei vanished beside a
large one, and labelled the background 1. Here every local maximum that stands out from its
surroundings is a seed, and the background is 0. Its ``UNetShape``, the size to which images
were brought, is ``scale`` here. ``legacy: true`` decodes as OpSeF did, for those who must
have its results again: of one nucleus of radius 30 and sixty of radius 5 to 12, all drawn by
a perfect network, it finds one.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical
   image segmentation", MICCAI 2015:234-241.
.. [2] T. M. Rasse, R. Hollandi, P. Horvath, "OpSeF: open source Python framework for
   collaborative instance segmentation of bioimages", Front. Bioeng. Biotechnol. 8:558880,
   2020.
.. [3] J. C. Caicedo et al., "Evaluation of deep learning strategies for nucleus
   segmentation in fluorescence images", Cytometry A 95:952-965, 2019. (The three classes.)
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from opsef_bridge.engines.base import Parameters, Raw, Weights
from opsef_bridge.engines.devices import onnx_devices
from opsef_bridge.engines.map_network import (
    CLIP,
    MULTIPLE,
    PERCENTILES,
    MapNetwork,
    Tiled,
    prepare,
    run_tiled,
)
from opsef_bridge.engines.parting import part
from opsef_bridge.engines.scaling import decode_on_finer_grid, drop_small, resize_to
from opsef_bridge.engines.unet_legacy import legacy_labels

__all__ = ["CLIP", "MULTIPLE", "PERCENTILES", "UNet", "prepare", "run_tiled"]


class Predict(Tiled):
    """Parameters that need a new pass."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    threshold: float = Field(0.7, gt=0, lt=1)
    """Probability of interior above which a pixel belongs to the core of an object; bound of
    the foreground too, unless that is set."""
    foreground: float | None = Field(None, gt=0, lt=1)
    """Probability of interior or border above which a pixel belongs to an object."""
    prominence: float = Field(1.0, gt=0, le=100)
    """How much deeper than the neck between them, in px of the network, two parts of a core
    must be to become two objects; smaller values part more."""
    min_size: int = Field(20, ge=0)
    """Smaller objects are dropped; pixels of the original image."""
    legacy: bool = False
    """Decode as OpSeF did, faults included: one seed per piece that is deeper than half of the
    deepest; of the other parameters only `min_size` counts (see `legacy_labels`)."""


class UNet:
    """Three-class U-Net; interiors parted at their necks, then grown over their borders.

    The image is normalised to its 1st and 99.8th percentile and clipped to -0.2..4 (the card
    may name others: CellProfiler's U-Net takes 0..1 from the least to the largest value) and
    resized by ``scale``; best where the nuclei come out as large as
    those that the network has learned from.
    """

    name: ClassVar[str] = "unet"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX"})
    needs_weights: ClassVar[bool] = True
    Predict = Predict
    Decode = Decode

    def __init__(self) -> None:
        self._network = MapNetwork(self.name, maps=3)

    @classmethod
    def devices(cls, weights: Weights | None = None) -> tuple[str, ...]:
        """Return the devices that it can use here, best first."""
        return onnx_devices()

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Open the ONNX file on `device`, ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        WeightsError
            The file is missing, cannot be read, or holds another kind of network.
        WorkerError
            ONNX Runtime cannot use `device`.
        """
        self._network.open(weights, device)

    def lighten(self) -> str | None:
        """Make later passes need less memory by smaller tiles; None when nothing is left."""
        return self._network.lighten()

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the maps ``interior`` and ``foreground`` (interior or border)."""
        network = self._network
        maps = network.draw(network.prepare(image, reference, parameters.scale), parameters.tile)
        return Raw(
            {"interior": maps[1], "foreground": maps[1] + maps[2]},
            np.shape(image),
            {"scale": parameters.scale},
        )

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: seeds, watershed, small objects dropped."""
        if parameters.legacy:
            return drop_small(_as_opsef(raw), parameters.min_size)
        maps = np.stack([raw.maps["interior"], raw.maps["foreground"]]).astype(np.float32)
        inside, prominence = parameters.threshold, parameters.prominence
        outline = inside if parameters.foreground is None else parameters.foreground
        # Maps of a shrunk image are enlarged before they are decoded, and so is their jitter.
        pixel = max(1.0, 1 / raw.values["scale"])

        def split(maps: np.ndarray) -> np.ndarray:
            cores, foreground = maps[0] > inside, maps[1] > outline
            return part(cores, foreground, prominence * pixel, blur=pixel)

        return decode_on_finer_grid(maps, raw.shape, split, min_size=parameters.min_size)


def _as_opsef(raw: Raw) -> np.ndarray:
    """Return the labels of OpSeF's own post-processing, on the grid of the image."""
    maps = np.stack([raw.maps["interior"], raw.maps["foreground"]]).astype(np.float32)
    interior, foreground = resize_to(maps, (2, *raw.shape))
    return legacy_labels(interior, 1 - foreground)
