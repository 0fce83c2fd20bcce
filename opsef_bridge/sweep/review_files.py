"""The review map of an image as a file: a hyperstack for ImageJ, or a PNG with a legend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from opsef_bridge.compare.review_map import (
    CLASSES,
    legend,
    map_lut,
    map_plane,
    support_image,
    support_lut,
)
from opsef_bridge.compare.stack import display_range, to_8bit
from opsef_bridge.config import Config
from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path
from opsef_bridge.images import label_lut, write_hyperstack
from opsef_bridge.project import Project
from opsef_bridge.sweep.planned import Plan, PlannedImage
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.review import Review, WorkItem
from opsef_bridge.sweep.targets import check_target

__all__ = ["CHANNELS", "check_file", "write_map"]

CHANNELS = ("map", "base", "support", "labels")

SMALL, LARGE = 600, 1600
"""A PNG of a smaller image is enlarged, but not over `LARGE` pixels."""


def write_map(project: Project, found: Review, file: Path) -> Path:
    """Write the review map of an image.

    Parameters
    ----------
    project : Project
    found : Review
        With all places (no ``limit``): those that are missing are drawn.
    file : Path
        ``.tif``: a calibrated hyperstack of the part that the sweep saw, with the channels
        ``map`` (the picture with outlines in the colours of support; pink: missing),
        ``base`` (the values of the image), ``support`` (0 background, 1 to 255 for 0 to 1)
        and ``labels``; uint16, or float32 where the base or the labels need it. ``.png``:
        the map of one plane with a legend, and the numbers of the places in `found`.

    Returns
    -------
    Path
        `file`.

    Raises
    ------
    InputError
        `file` is a folder, lies in a file, has another suffix; or a PNG of a volume is wanted.
    ImageError
        The file of the image cannot be read any more, or is another one than was swept.
    """
    check_file(project, file)
    run = project.run(found.run)
    plan = Plan.from_json(run.plan())
    image = next(one for one in plan.images if one.id == found.image)
    entry = project.image(image.id)
    labels = run.labels(found.variant, image.id)
    base = segmented_array(project, Config(**plan.config), entry, image.sha256, box=image.box)
    if file.suffix.lower() == ".png":
        if base.ndim == 3:
            raise InputError(
                f"{image.id} is a volume of {len(base)} planes, a PNG holds one",
                hint=f"Write a hyperstack: --map {file.with_suffix('.tif').name}",
            )
        with atomic_path(file) as partial:
            PIL.Image.fromarray(_png(found, image, base, labels)).save(partial)
        return file
    dtype, top = _dtype(base, labels)
    drawn = _map_planes(found, image, base, labels)
    views = (drawn, base, support_image(labels, found.support), labels)
    write_hyperstack(
        file,
        np.stack([view.astype(dtype) for view in views], axis=-3),
        "CYX" if base.ndim == 2 else "ZCYX",
        spacing=entry.spacing,
        unit=entry.unit,
        channels=CHANNELS,
        ranges=[(0, top), display_range(base), (0, top), (0, top)],
        luts=[map_lut(), _grey(), support_lut(), label_lut()],
        mode="color",
        info=_info(found, image),
    )
    return file


def check_file(project: Project, file: Path) -> None:
    """Refuse a name under which no map can be written."""
    if file.is_dir():
        raise InputError(f"{file} is a folder", hint=f"Name a file in it: {file / 'map.tif'}")
    if file.suffix.lower() not in (".tif", ".tiff", ".png"):
        raise InputError(f"{file} is no kind of map", hint="Name a file that ends in .tif or .png")
    above = next((one for one in file.parents if one.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"{above} is a file, {file} cannot lie in it", hint="Name another place")
    check_target(project, file)


def _dtype(base: np.ndarray, labels: np.ndarray) -> tuple[type[np.generic], int]:
    """What ImageJ can hold all channels in, and the value it shows at the end of a table."""
    whole = np.issubdtype(base.dtype, np.integer)
    fits = whole and base.min(initial=0) >= 0 and base.max(initial=0) < 2**16
    if fits and labels.max(initial=0) < 2**16:
        return np.uint16, 255
    # ImageJ scales by 256 / range where values are no integers.
    return np.float32, 256


def _map_planes(
    found: Review, image: PlannedImage, base: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    grey = to_8bit(base, display_range(base))
    if base.ndim == 2:
        return map_plane(grey, labels, found.support, _missing(found, image, None))
    planes = [
        map_plane(grey[z], labels[z], found.support, _missing(found, image, z))
        for z in range(len(base))
    ]
    return np.stack(planes)


def _missing(
    found: Review, image: PlannedImage, plane: int | None
) -> list[list[list[tuple[float, float]]]]:
    """The outlines of what is missing in a plane, in pixels of the part the sweep saw."""
    top, left = image.box[:2] if image.box else (0, 0)
    return [
        [[(x - left, y - top) for x, y in loop] for loop in one.outline]
        for one in found.work
        if one.what == "missing" and one.plane == plane
    ]


def _png(found: Review, image: PlannedImage, base: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The map in colours, enlarged where it is small, with numbers and a legend."""
    zoom = max(1, min(-(-SMALL // max(base.shape)), LARGE // max(base.shape)))
    grey = to_8bit(base, display_range(base))
    drawn = map_plane(grey, labels, found.support, _missing(found, image, None), zoom)
    picture = PIL.Image.fromarray(np.ascontiguousarray(map_lut()[:, drawn].transpose(1, 2, 0)))
    pen, font = PIL.ImageDraw.Draw(picture), PIL.ImageFont.load_default(12)
    for number, one in enumerate(found.work, 1):
        pen.text(_place(one, image, zoom), str(number), fill="white", font=font, anchor="mm",
                 stroke_width=1, stroke_fill=(0, 0, 0))  # fmt: skip
    title = f"{found.image}: {found.variant} of {found.run}, {len(found.support)} objects"
    words = legend(picture.width, title)
    whole = np.zeros((picture.height + len(words), words.shape[1], 3), np.uint8)
    whole[: picture.height, : picture.width] = np.asarray(picture)
    whole[picture.height :] = words
    return whole


def _place(one: WorkItem, image: PlannedImage, zoom: int) -> tuple[float, float]:
    """The middle of a place in a picture."""
    top, left = image.box[:2] if image.box else (0, 0)
    y, x, height, width = one.box
    return (x - left + width / 2) * zoom, (y - top + height / 2) * zoom


def _info(found: Review, image: PlannedImage) -> str:
    lines = [
        f"Review map of {found.image}: {found.variant} of {found.run}, {found.slug}",
        "map: outlines by support, pink: others have it, this variant lacks it",
        "support: 0 background, 1 to 255 for 0 to 1",
        *(f"support {one.low:g} to {one.high:g}: {one.colour}" for one in CLASSES),
        f"{found.left['doubtful']} doubtful, {found.left['missing']} missing",
        *found.words,
    ]
    if image.box:
        lines.insert(1, f"y, x, height, width in the whole image: {', '.join(map(str, image.box))}")
    return "\n".join(lines)


def _grey() -> np.ndarray:
    return np.tile(np.arange(256, dtype=np.uint8), (3, 1))
