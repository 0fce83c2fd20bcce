"""A picture of each question: the place in the image, and the outline that is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from opsef_bridge.compare.stack import display_range, to_8bit
from opsef_bridge.config import Config
from opsef_bridge.files import atomic_path
from opsef_bridge.project import Project
from opsef_bridge.sweep.asking import Asked
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.sample import Box
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = ["around", "question_picture", "write_pictures"]

AROUND = 3
"""Sides of what is shown, in sides of the object's box."""

LEAST = 64
"""Pixels of the image that are shown at least along each side."""

ZOOM, LARGEST = 4, 1600
"""Magnification, and pixels of the longest side from which it is less."""

YELLOW = (255, 230, 0)


def write_pictures(project: Project, asked: Sequence[Asked], folder: Path) -> list[Path]:
    """Write one PNG for each question.

    Parameters
    ----------
    project : Project
    asked : sequence of Asked
    folder : Path
        Made where it does not exist.

    Returns
    -------
    list of Path
        ``01-<image>-<variant>-<label>.png``, in the order of the questions.

    Raises
    ------
    ImageError
        The file of an image cannot be read any more.
    """
    files = []
    for number, one in enumerate(asked, 1):
        file = folder / f"{number:02d}-{one.image}-{one.variant}-{one.label}.png"
        picture = PIL.Image.fromarray(question_picture(project, one))
        with atomic_path(file) as partial:
            picture.save(partial)
        files.append(file)
    return files


def question_picture(project: Project, asked: Asked) -> NDArray[np.uint8]:
    """Draw the place of a question.

    Returns
    -------
    (H, W, 3) ndarray of uint8
        Grey, stretched to the values in and close around the outline, which is yellow, along
        the edges of pixels. Each pixel of the image is a block of 4 x 4, or less where that
        would be larger than 1600.

    Raises
    ------
    ImageError
        The file of the image cannot be read any more.
    """
    config = Config(**Plan.from_json(project.run(asked.run).plan()).config)
    entry = project.image(asked.image)
    box = around(asked.box, segmented_shape(entry, config))
    place = segmented_array(project, config, entry, box=box)
    plane = place if asked.plane is None else place[asked.plane]
    top, left, height, width = box
    zoom = max(1, min(ZOOM, LARGEST // max(height, width)))
    y, x, h, w = asked.box
    near = plane[
        max(y - top - h // 4, 0) : y - top + h + h // 4,
        max(x - left - w // 4, 0) : x - left + w + w // 4,
    ]  # a bright neighbour must not make a dim object black
    grey = to_8bit(plane, display_range(near)).repeat(zoom, axis=0).repeat(zoom, axis=1)
    picture = PIL.Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    pen = PIL.ImageDraw.Draw(picture)
    for loop in asked.outline:
        corners = [((x - left) * zoom, (y - top) * zoom) for x, y in loop]
        pen.line([*corners, corners[0]], fill=YELLOW, width=2 if zoom > 1 else 1)
    return np.asarray(picture)


def around(box: Box, shape: Sequence[int]) -> Box:
    """Return three times a box about its middle, at least 64 pixels, within the image.

    Examples
    --------
    >>> around((100, 10, 30, 8), (512, 512))
    (70, 0, 90, 64)
    """
    starts, sides = [], []
    for start, side, length in zip(box[:2], box[2:], shape[-2:], strict=True):
        wanted = min(max(AROUND * side, LEAST), length)
        starts.append(min(max(start + side // 2 - wanted // 2, 0), length - wanted))
        sides.append(wanted)
    return starts[0], starts[1], sides[0], sides[1]
