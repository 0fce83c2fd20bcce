"""Pure measuring functions: label images in; overlaps, tables, ROIs and labels out."""

from __future__ import annotations

from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.match import match
from opsef_bridge.measure.overlap import Pairs, Runs, iou_pairs, label_runs, overlap
from opsef_bridge.measure.regions import region_table
from opsef_bridge.measure.stitch import stitch
from opsef_bridge.measure.trace import trace_rois

__all__ = [
    "Pairs",
    "Runs",
    "fill_rois",
    "iou_pairs",
    "label_runs",
    "match",
    "overlap",
    "region_table",
    "stitch",
    "trace_rois",
]
