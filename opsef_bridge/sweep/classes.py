"""Classes of objects by a mask: which file or channel it is made from, and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from opsef_bridge.config import Config
from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images import Image, read_image
from opsef_bridge.postprocess.masks import ClassMask, classes_by_mask, make_mask
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep.boxes import cut_box
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.sample import Box

__all__ = ["classes_of", "mask_file"]


def mask_file(project: Project, how: ClassMask, entry: ImageEntry) -> Path:
    """Return the file of the user's mask of an image; it need not be there."""
    return project.root / how.source_of(Path(entry.source).stem, entry.id)


def classes_of(
    project: Project,
    config: Config,
    entry: ImageEntry,
    labels: np.ndarray,
    box: Box | None = None,
) -> dict[int, int]:
    """Return the class of every object by the ``class_mask`` of the configuration.

    Parameters
    ----------
    entry : ImageEntry
    labels : ndarray of int32, axes YX or ZYX
        Of the image, or of a box of it. In a volume a plane serves as the mask of all planes.
    box : (y, x, height, width), optional

    Returns
    -------
    dict of int to int
        Label to class: 1 inside of the mask, 2 outside. Empty without a ``class_mask``.

    Raises
    ------
    ImageError
        The mask cannot be read, or has another shape than the image.
    """
    how = config.class_mask
    if how is None:
        return {}
    picture = _picture(project, config, entry, how)
    mask = cut_box(make_mask(picture, how), (), box)
    if mask.ndim < labels.ndim:
        mask = np.broadcast_to(mask, (len(labels), *mask.shape))
    try:
        return classes_by_mask(labels, mask, how)
    except InputError as error:
        raise ImageError(f"class_mask of {entry.id}: {error.message}", hint=error.hint) from error


def _picture(project: Project, config: Config, entry: ImageEntry, how: ClassMask) -> np.ndarray:
    """Return the channel, or the file of the user, in the pixels of the image."""
    if how.channel is not None:
        other = replace(entry, segment_channel=str(how.channel))
        return segmented_array(project, config, other)
    mask = _part(read_image(mask_file(project, how, entry)), entry)
    flat = (entry.projection or config.images.projection) != "none"
    return mask.data.max(axis=mask.axes.index("Z")) if flat and "Z" in mask.axes else mask.data


def _part(mask: Image, entry: ImageEntry) -> Image:
    """Cut a mask of the whole file as its image is cut; a mask of the image itself fits as it is.

    That is told by the sides and by the number of planes, each by itself: a person may paint
    one plane for all, or the whole of what was projected.
    """
    due = dict(zip(entry.axes, entry.shape, strict=True))
    has = dict(zip(mask.axes, mask.data.shape, strict=True))
    region = replace(entry.region, c=None)
    if (has["Y"], has["X"]) == (due["Y"], due["X"]):
        region = replace(region, y=None, x=None)
    if "T" not in has:
        region = replace(region, t=None)
    if has.get("Z", due.get("Z")) == due.get("Z"):
        region = replace(region, z=None)
    return region.cut(mask)
