"""How far regions may differ from their image: presets, each number with its source.

``none``
    A region as it is in the image: nothing is changed.
``opsef``
    What trainings do to their crops on the fly: `opsef_bridge.train.augment.Augmentation`.
``elastic``
    The same, and besides turned by any angle and bent as in [2]_.
``zaki``
    The list of [1]_, from the published code and its file ``pipeline/configs/imgaug.cfg``
    (CBIIT/nci-hitif). Left out, because the code configures but never uses them: gamma
    (``GammaContrast``), saturation, multiply, salt and pepper. The tiles of CLAHE are not
    configured there; 8 x 8 are taken here, the default of OpenCV. There are no free angles
    and no elastic deformation in [1]_.

References
----------
.. [1] G. Zaki et al., "A deep learning pipeline for nucleus segmentation", Cytometry A
   97:1248-1264, 2020.
.. [2] O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical
   image segmentation", MICCAI 2015:234-241. (Random displacements on a coarse grid, bicubic
   between its nodes.)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from opsef_bridge.errors import InputError
from opsef_bridge.train.augment import Augmentation

__all__ = ["PRESETS", "EightBit", "Preset", "preset_of"]


@dataclass(frozen=True)
class EightBit:
    """Changes to grey levels from 0 to 255: CLAHE once or twice, then one noise or one blur.

    Every pair is the least and largest value of a uniform draw. Names in brackets are those
    of imgaug, which [1]_ used.
    """

    clahe: tuple[float, float] = (5.0, 50.0)
    """Clip limit (``AllChannelsCLAHE``)."""
    impulse: tuple[float, float] = (0.001, 0.15)
    """Share of pixels that take a random value, most of them near 0 or 255
    (``ImpulseNoise``)."""
    poisson: tuple[float, float] = (0.0, 20.0)
    """Mean of the counts that are added (``AdditivePoissonNoise``)."""
    gaussian: tuple[float, float] = (0.001 * 255, 0.1 * 255)
    """Standard deviation of what is added (``AdditiveGaussianNoise``)."""
    dropout: tuple[float, float] = (0.01, 0.1)
    """Share of pixels that become 0 (``Dropout``)."""
    blur: tuple[float, float] = (1.0, 9.0)
    """Sigma in px (``GaussianBlur``)."""
    median: tuple[int, int] = (1, 5)
    """Side of the window in px; an even one is enlarged by 1 (``MedianBlur``)."""


@dataclass(frozen=True)
class Preset:
    """How regions are cut out and changed.

    Parameters
    ----------
    name : str
    size : int
        Height and width of a region in px.
    shoulder : int
        Pixels along the edges of an image that no region takes: objects that the edge cuts
        are there.
    scales : tuple of float
        Enlargements of which one is drawn; those at which the image would be smaller than a
        region are passed over, if another is left.
    scale : (float, float)
        Without `scales`: least and largest enlargement, drawn log-uniformly.
    turns : {"none", "all", "one"}
        ``all``: any of the eight turns and flips. ``one``: one of flip left-right, flip
        up-down, a turn by 90, 180 or 270 degrees.
    rotation : float
        Largest free angle in degrees, to either side.
    elastic : float
        Standard deviation in px of the displacement of the nodes of a grid of 64 px.
    light : Augmentation or None
        Gamma, gain, blur and noise; of colour images stain and tint too.
    eight_bit : EightBit or None
    apart : bool
        Give the pieces of an object that the edge of a region parted an id each. By default
        they keep their id: they are one object.
    """

    name: str
    size: int = 256
    shoulder: int = 0
    scales: tuple[float, ...] = ()
    scale: tuple[float, float] = (1.0, 1.0)
    turns: Literal["none", "all", "one"] = "none"
    rotation: float = 0.0
    elastic: float = 0.0
    light: Augmentation | None = None
    eight_bit: EightBit | None = None
    apart: bool = False

    def __post_init__(self) -> None:
        if self.size < 8:
            raise InputError(f"regions of {self.size} px", hint="Give a size of at least 8")

    def to_json(self) -> dict[str, Any]:
        """Return all numbers, as a card has them: pairs are lists."""
        return dict(json.loads(json.dumps(asdict(self))))


_OPSEF = Augmentation()

PRESETS = {
    one.name: one
    for one in (
        Preset("none"),
        Preset("opsef", scale=_OPSEF.scale, turns="all", light=_OPSEF),
        # 3 px on 64 px bend visibly and never fold: the steepest slope is about 0.2.
        Preset(
            "elastic", scale=_OPSEF.scale, turns="all", rotation=180.0, elastic=3.0, light=_OPSEF
        ),
        Preset(
            "zaki",
            size=256,  # crop_size
            shoulder=8,  # shoulder: "Ignore region in the input image for edge objects"
            scales=(1.0, 2.0, 0.333, 0.667, 1.333),  # scales
            turns="one",  # flip, rotate
            eight_bit=EightBit(),
        ),
    )
}


def preset_of(name: str) -> Preset:
    """Return the preset of that name.

    Raises
    ------
    InputError
        There is none.
    """
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}", hint=f"Choose of {', '.join(PRESETS)}")
    return PRESETS[name]
