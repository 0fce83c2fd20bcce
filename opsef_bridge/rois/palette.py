"""The colour of each class, as AnnotatorJ shows it.

ImageJ itself ignores the stroke colour of a ROI that has a group; napari and readers in
Python use it. So colours are decoration: the class is the group.
"""

from __future__ import annotations

import colorsys

from opsef_bridge.errors import InputError
from opsef_bridge.rois.objects import LARGEST_CLASS

__all__ = ["PALETTE", "colour_of", "stroke_of"]

PALETTE: dict[int, tuple[int, int, int]] = {
    1: (255, 0, 0),
    2: (0, 255, 0),
    3: (0, 0, 255),
    4: (0, 255, 255),
    5: (255, 0, 255),
    6: (255, 255, 0),
    7: (255, 200, 0),
    8: (255, 255, 255),
}
"""Red, green and blue of the classes that AnnotatorJ has a colour for, 0 to 255."""


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of a class.

    Classes 1 to 8 have the colours of AnnotatorJ; those above, which it does not have, get
    fixed colours that all differ.

    Parameters
    ----------
    number : int
        The class, from 1 to 255. Objects without a class (0) have no colour of their own.

    Returns
    -------
    (int, int, int)
        Red, green, blue, from 0 to 255.

    Raises
    ------
    InputError
        There is no such class.

    Examples
    --------
    >>> colour_of(1), colour_of(7)
    ((255, 0, 0), (255, 200, 0))
    """
    if not 1 <= number <= LARGEST_CLASS:
        raise InputError(
            f"class {number} has no colour", hint=f"Classes are numbered 1 to {LARGEST_CLASS}"
        )
    if number in PALETTE:
        return PALETTE[number]
    # Steps by the golden ratio never meet again, and put neighbours far from each other.
    hue = number * 0.6180339887498949 % 1
    saturation, value = (0.9, 0.6, 0.75)[number % 3], (0.95, 0.7)[number % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def stroke_of(number: int) -> bytes:
    """Return the colour of a class as ImageJ ROIs hold it: opaque, red, green, blue.

    Without a class (0) the colour is none, four zeros: then ImageJ draws the ROI in the
    colour that its user chose. AnnotatorJ's yellow would look like class 6.

    Examples
    --------
    >>> stroke_of(2).hex(), stroke_of(0).hex()
    ('ff00ff00', '00000000')
    """
    return bytes((255, *colour_of(number))) if number else bytes(4)
