"""Pictures of a report: the base of each image, and the outlines of its variants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from opsef_bridge.compare.report import FIRST_ROWS, Drawing, Picture
from opsef_bridge.compare.report_pictures import (
    base_uri,
    outlines_uri,
    thumbnail_shape,
    view_shape,
)
from opsef_bridge.config import Config
from opsef_bridge.errors import OpsefError
from opsef_bridge.images import Region, read_image, read_labels
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep.cache import ArrayCache
from opsef_bridge.sweep.parts import Whole, Windows
from opsef_bridge.sweep.planned import PlannedImage
from opsef_bridge.sweep.predict import box_shape, open_parts, to_source

__all__ = ["drawings_of", "labels_of", "picture_of"]


def labels_of(run: Run, variant: str, image: str) -> np.ndarray | None:
    """Return the labels of an image by a variant; None where there are none."""
    file = run.label_file(variant, image)
    return read_labels(file) if file.is_file() else None


def picture_of(
    project: Project, config: Config, image: PlannedImage, labels: Iterable[np.ndarray | None]
) -> Picture:
    """Return the base picture of an image; an image that cannot be read has none.

    Where the recipe of ``compare.base`` cannot be applied to it the plain image takes its
    place, as in the comparison stack, and the note says so.
    """
    entry = project.image(image.id)
    notes = [f"group {image.group}"]
    if image.box:
        notes.append("box y {}, x {}, {} x {} px".format(*image.box))
    try:
        cache = ArrayCache(project.cache_folder)
        parts = open_parts(project, config, entry, replace(image, sha256=""), cache)
        base, trouble = _base(project, config, image, parts)
    except OpsefError as error:  # its outcomes say so too
        found = next((found for found in labels if found is not None), np.zeros((1, 1)))
        return Picture(image.id, entry.source, str(error), found.shape[-2:], "")
    notes += [trouble] if trouble else []
    if len(parts.shape) == 3:
        notes.append(f"plane {parts.shape[0] // 2 + 1} of {parts.shape[0]}")
    sizes = " x ".join(f"{size:g}" for size in entry.spacing.values())
    notes += [f"pixel {' x '.join(entry.spacing)}: {sizes} {entry.unit}"] if sizes else []
    notes += [f"{name} {text}" for name, text in entry.origin().items()]
    return Picture(image.id, entry.source, ", ".join(notes), base.shape[:2], base_uri(base))


def _base(
    project: Project, config: Config, image: PlannedImage, parts: Whole | Windows
) -> tuple[np.ndarray, str]:
    """The picture below the outlines, axes YX or, of a colour image, YXS; and what is wrong."""
    steps = config.base_steps()
    if not steps:
        colour = _colour(project, config, image, parts)
        if colour is not None:
            return colour, ""
    trouble = ""
    try:
        base = parts.part(steps, image.box)
    except Exception as error:  # steps come from anywhere, and the labels are there
        if not steps:
            raise
        base = parts.part((), image.box)
        name = config.compare.base
        trouble = f"the plain image, since compare.base {name!r} cannot be applied to it: {error}"
    else:
        base = to_source(base, steps, box_shape(parts.shape, image.box), image.box)
    return _middle(base), trouble


def _colour(
    project: Project, config: Config, image: PlannedImage, parts: Whole | Windows
) -> np.ndarray | None:
    """A colour image as it is: stained tissue is judged by its colours."""
    entry = project.image(image.id)
    if entry.axes != "YXS":
        return None
    y, x, height, width = image.box or (0, 0, *parts.shape)
    region = Region(y=(y, y + height), x=(x, x + width)).within(entry.region)
    file, axes = project.source_file(entry), config.images.assumed_axes
    colour = read_image(file, entry.series, axes=axes, region=region).data
    return np.ascontiguousarray(colour) if colour.dtype == np.uint8 else None


def _middle(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 2 else array[len(array) // 2]


def drawings_of(
    labels: Mapping[str, np.ndarray | None],
    shape: tuple[int, int],
    allowed: int,
    classes: Mapping[str, np.ndarray],
) -> dict[str, Drawing]:
    """Draw thumbnails first, then enlarged outlines, in the order of rank, while they fit.

    Parameters
    ----------
    labels : mapping of variant to ndarray of int, or None
    shape : (height, width)
        Of the base picture.
    allowed : int
        Characters that the data URIs may have.
    classes : mapping of variant to ndarray of uint8
        Of `opsef_bridge.compare.report_pictures.support_classes`, where support is known.
    """
    planes = {name: _middle(found) for name, found in labels.items() if found is not None}
    small: dict[str, str] = {}
    for name, plane in planes.items():
        uri = outlines_uri(plane, thumbnail_shape(shape), classes.get(name))
        if len(small) >= FIRST_ROWS and allowed < len(uri):
            break
        small[name] = uri
        allowed -= len(uri)
    large: dict[str, str] = {}
    for name in small:
        uri = outlines_uri(planes[name], view_shape(shape), classes.get(name))
        if allowed < len(uri):
            break
        large[name] = uri
        allowed -= len(uri)
    return {name: Drawing(uri, large.get(name, "")) for name, uri in small.items()}
