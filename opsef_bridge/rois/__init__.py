"""ROI files: ImageJ zips and the sidecar that keeps what they cannot hold."""

from opsef_bridge.rois.sets import read_sidecar, sidecar_path, write_roi_set
from opsef_bridge.rois.zips import read_rois, write_rois

__all__ = ["read_rois", "read_sidecar", "sidecar_path", "write_roi_set", "write_rois"]
