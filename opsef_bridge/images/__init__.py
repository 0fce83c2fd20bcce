"""Files <-> arrays: images in, ImageJ hyperstacks and label images out."""

from opsef_bridge.images.hyperstack import write_hyperstack, write_planes
from opsef_bridge.images.image import Image, ImageInfo
from opsef_bridge.images.labels import label_lut, read_labels, write_labels
from opsef_bridge.images.plane import segment_plane, segment_samples, to_grey
from opsef_bridge.images.read import (
    Reader,
    image_info,
    read_image,
    register_reader,
    suffixes,
)

__all__ = [
    "Image",
    "ImageInfo",
    "Reader",
    "image_info",
    "label_lut",
    "read_image",
    "read_labels",
    "register_reader",
    "segment_plane",
    "segment_samples",
    "suffixes",
    "to_grey",
    "write_hyperstack",
    "write_labels",
    "write_planes",
]
