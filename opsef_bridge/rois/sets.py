"""The ROIs of one label image as a file pair: the zip for ImageJ, the JSON for programs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from opsef_bridge.files import read_json, write_json
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois.zips import write_rois

__all__ = ["read_sidecar", "sidecar_path", "write_roi_set"]


def write_roi_set(
    path: str | os.PathLike[str],
    labels: ArrayLike,
    *,
    offset: tuple[int, int] = (0, 0),
    hyperstack: bool = False,
    info: Mapping[str, Any] | None = None,
) -> bool:
    """Write the objects of a label image as a ROI zip, with a JSON of the same name beside.

    The JSON maps each ROI's name to its label and class (``null``: not classified), and
    holds `info`, the shape of `labels` and `offset`. Without objects neither file is
    written, and what an earlier run left there is removed: ImageJ cannot open an empty zip.

    Parameters
    ----------
    path : path-like
        The zip, by convention ``<image>_ROIs.zip``.
    labels : ([Z,] Y, X) array_like of integer or bool
        Label image, 0 is background. Of a volume an object has one ROI per plane.
    offset : (int, int)
        Row and column of the first pixel in the source image; not zero for a crop.
    hyperstack : bool
        Whether a source of volumes has channels or time points besides planes.
    info : mapping
        What else the JSON shall say, such as image and variant.

    Returns
    -------
    bool
        Whether there was an object, and so a file.

    Raises
    ------
    InputError, RoiError
        As `opsef_bridge.measure.trace.trace_rois`.
    """
    path = Path(path)
    rois = trace_rois(labels, offset=offset, hyperstack=hyperstack)
    if not rois:
        path.unlink(missing_ok=True)
        sidecar_path(path).unlink(missing_ok=True)
        return False
    write_rois(path, rois)
    record = {
        **(info or {}),
        "shape": list(np.shape(labels)),
        "offset": [int(start) for start in offset],
        "rois": {
            roi.name: {"label": int(roi.name.partition("-")[0]), "class": None} for roi in rois
        },
    }
    write_json(sidecar_path(path), record)
    return True


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of the JSON that belongs to a ROI zip.

    Examples
    --------
    >>> sidecar_path("rois/cell_ROIs.zip").as_posix()
    'rois/cell_ROIs.json'
    """
    return Path(path).with_suffix(".json")


def read_sidecar(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON that belongs to the ROI zip `path`."""
    return read_json(sidecar_path(path))
