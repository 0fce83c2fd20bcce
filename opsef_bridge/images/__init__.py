"""Files <-> arrays: images in, ImageJ hyperstacks and label images out."""

from opsef_bridge.images.hyperstack import write_hyperstack, write_planes
from opsef_bridge.images.identity import identity, stamp
from opsef_bridge.images.image import Image, ImageInfo
from opsef_bridge.images.labels import label_lut, read_labels, write_labels
from opsef_bridge.images.ome_zarr_write import write_zarr
from opsef_bridge.images.plane import segment_plane, segment_samples, to_grey
from opsef_bridge.images.read import (
    Reader,
    image_info,
    image_infos,
    is_image,
    read_image,
    register_reader,
    series_names,
    suffixes,
)
from opsef_bridge.images.region import Region

__all__ = [
    "Image",
    "ImageInfo",
    "Reader",
    "Region",
    "identity",
    "image_info",
    "image_infos",
    "is_image",
    "label_lut",
    "read_image",
    "read_labels",
    "register_reader",
    "segment_plane",
    "segment_samples",
    "series_names",
    "stamp",
    "suffixes",
    "to_grey",
    "write_hyperstack",
    "write_labels",
    "write_planes",
    "write_zarr",
]
