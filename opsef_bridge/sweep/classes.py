"""Classes of objects by a mask: which file or channel it is made from, and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from opsef_bridge.config import Config
from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images import Region, read_image
from opsef_bridge.postprocess.masks import ClassMask, classes_by_mask, make_mask
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep.boxes import cut_box
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.sample import Box

__all__ = ["classes_of"]


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
    file = project.root / how.source_of(Path(entry.source).stem)
    found = read_image(file).data
    region = entry.region
    if found.shape[-2:] != entry.shape[entry.axes.index("Y") :][:2]:
        # A mask of the whole file, for an image that is a part of it.
        found = read_image(file, region=Region(y=region.y, x=region.x)).data
    return found
