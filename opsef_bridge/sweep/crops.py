"""Crops of comparisons: a box, or the side of the square with the most structure in it."""

from __future__ import annotations

from opsef_bridge.config import Config
from opsef_bridge.errors import InputError
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.planned import PlannedImage
from opsef_bridge.sweep.predict import open_parts
from opsef_bridge.sweep.sample import Box, choose_box
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = ["check_crop", "crop_box", "parse_crop"]

SMALLEST_CROP = 16
"""Pixels of the side of a crop."""


def parse_crop(text: str) -> int | Box:
    """Return the crop of ``"256"`` (a side) or ``"0,128,256,256"`` (y, x, height, width).

    Raises
    ------
    InputError
        It is neither, or smaller than `SMALLEST_CROP`.

    Examples
    --------
    >>> parse_crop("256"), parse_crop("0,128,256,300")
    (256, (0, 128, 256, 300))
    """
    words = text.replace(" ", "").split(",")
    if len(words) not in (1, 4) or not all(word.isascii() and word.isdigit() for word in words):
        raise InputError(
            f"the crop {text!r} cannot be understood",
            hint="Give a side in pixels, e.g. 256; or y,x,height,width, e.g. 0,128,256,256",
        )
    numbers = [int(word) for word in words]
    if min(numbers[-2:]) < SMALLEST_CROP:
        raise InputError(
            f"the crop {text!r} is smaller than {SMALLEST_CROP} pixels", hint="Take a larger one"
        )
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2], numbers[3])


def check_crop(config: Config, entry: ImageEntry, image: PlannedImage, crop: int | Box) -> None:
    """Refuse a crop that is outside of what was segmented of an image.

    Raises
    ------
    InputError
        It is, or is larger.
    """
    if not {"Y", "X"} <= set(entry.axes):
        return  # it could not be read; to open it says so
    top, left, height, width = image.box or (0, 0, *segmented_shape(entry, config)[-2:])
    if isinstance(crop, int):
        if crop > max(height, width):
            raise InputError(
                f"a crop of {crop} pixels is larger than what was segmented of {image.id}: "
                f"{height} x {width}",
                hint="Take a smaller one, or leave it out",
            )
        return
    y, x, rows, columns = crop
    if not (top <= y and left <= x and y + rows <= top + height and x + columns <= left + width):
        raise InputError(
            f"the crop y {y} to {y + rows}, x {x} to {x + columns} is outside of what was "
            f"segmented of {image.id}: y {top} to {top + height}, x {left} to {left + width}",
            hint="Name a box inside of it: y,x,height,width in pixels of the source",
        )


def crop_box(
    project: Project, config: Config, image: PlannedImage, crop: int | Box | None
) -> Box | None:
    """Return the box (y, x, height, width) that a crop is of an image; None for all of it.

    Of a side it is the square of what was segmented that holds the most structure; pixels are
    those of the source.
    """
    if not isinstance(crop, int):
        return crop
    entry = project.image(image.id)
    parts = open_parts(project, config, entry, image, ArrayCache(project.cache_folder))
    found = choose_box(parts.part((), image.box), crop)
    if found is None:
        return None
    top, left = image.box[:2] if image.box else (0, 0)
    return (top + found[0], left + found[1], found[2], found[3])
