"""Postprocessing: labels -> labels, and masks that sort objects into classes."""

from opsef_bridge.postprocess.clean import Postprocess, clean
from opsef_bridge.postprocess.masks import (
    ClassMask,
    classes_by_mask,
    labels_of_class,
    make_mask,
    split_by_mask,
)
from opsef_bridge.postprocess.otsu import auto_mask

__all__ = [
    "ClassMask",
    "Postprocess",
    "auto_mask",
    "classes_by_mask",
    "clean",
    "labels_of_class",
    "make_mask",
    "split_by_mask",
]
