"""How large an image is as it is segmented, and whether it is segmented in tiles."""

from __future__ import annotations

from opsef_bridge.config import Config
from opsef_bridge.project import ImageEntry

__all__ = ["segmented_shape", "tiling"]


def segmented_shape(entry: ImageEntry, config: Config) -> tuple[int, ...]:
    """Return the shape of what is segmented of an image: Y and X, of a volume Z before them."""
    sides = dict(zip(entry.axes, entry.shape, strict=True))
    projection = entry.projection or config.images.projection
    planes = sides.get("Z", 1) if projection == "none" else 1
    return (*([planes] if planes > 1 else []), sides["Y"], sides["X"])


def tiling(entry: ImageEntry, config: Config) -> tuple[int, int, int, int] | None:
    """Return size and overlap of the tiles of an image, its height and width.

    None if it is not larger than a tile, or its size is not known.
    """
    how = config.images.tiles
    if how is None or how.separate or not {"Y", "X"} <= set(entry.axes):
        return None
    height, width = segmented_shape(entry, config)[-2:]
    return (how.size, how.overlap, height, width) if max(height, width) > how.size else None
