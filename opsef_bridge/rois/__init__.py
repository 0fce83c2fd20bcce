"""ROI files: ImageJ zips and the sidecar that keeps what they cannot hold."""

from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.painting import Notes, paint
from opsef_bridge.rois.sets import (
    EditedError,
    read_roi_set,
    read_sidecar,
    sidecar_path,
    write_roi_set,
)
from opsef_bridge.rois.zips import read_rois, write_rois

__all__ = [
    "EditedError",
    "Notes",
    "Objects",
    "paint",
    "read_roi_set",
    "read_rois",
    "read_sidecar",
    "sidecar_path",
    "write_roi_set",
    "write_rois",
]
