"""opsef_bridge: sweep segmentation networks headlessly, compare and correct in ImageJ.

The functions of this namespace take arrays and return arrays; they are loaded when they
are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Image": "opsef_bridge.images",
    "Project": "opsef_bridge.project",
    "agreement": "opsef_bridge.compare",
    "apply_recipe": "opsef_bridge.preprocess",
    "fill_rois": "opsef_bridge.measure",
    "match": "opsef_bridge.measure",
    "overlap": "opsef_bridge.measure",
    "read_image": "opsef_bridge.images",
    "read_rois": "opsef_bridge.rois",
    "region_table": "opsef_bridge.measure",
    "segment": "opsef_bridge.sweep.segment",
    "stitch": "opsef_bridge.measure",
    "trace_rois": "opsef_bridge.measure",
    "write_hyperstack": "opsef_bridge.images",
    "write_rois": "opsef_bridge.rois",
}

__all__ = list(_WHERE)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
