"""Any other format in, by bioio and its plug-ins, where they are installed.

What a format's axes, calibration and channels are is as its plug-in says. Names that
bioio itself makes up (``Channel:0:0``) are no channel names.
"""

from __future__ import annotations

import datetime
import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import ImageError
from opsef_bridge.images.axes import arrange, arrange_part, name_axes, without_pixels
from opsef_bridge.images.calibration import spacing_along, to_micrometres
from opsef_bridge.images.image import AXES, Image, ImageInfo
from opsef_bridge.images.region import Region

__all__ = ["PLUGINS", "bioio_info", "bioio_names", "bioio_suffixes", "read_bioio"]

PLUGINS = {
    ".bmp": "bioio-imageio",
    ".czi": "bioio-czi",
    ".dv": "bioio-dv",
    ".ims": "bioio-bioformats",
    ".lsm": "bioio-tifffile",
    ".nd2": "bioio-nd2",
    ".oib": "bioio-bioformats",
    ".oif": "bioio-bioformats",
    ".oir": "bioio-bioformats",
    ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy",
    ".vsi": "bioio-bioformats",
}
"""The package that reads files of a suffix, for formats that this program does not."""

MADE_UP = re.compile(r"Channel:\d+(:\d+)?|Image:\d+")


def bioio_suffixes() -> tuple[str, ...]:
    """Return the suffixes of `PLUGINS` whose package is installed; nothing is imported."""
    if importlib.util.find_spec("bioio") is None:
        return ()
    found = {suffix: plugin.replace("-", "_") for suffix, plugin in PLUGINS.items()}
    return tuple(s for s, module in found.items() if importlib.util.find_spec(module))


def read_bioio(
    path: Path, series: int = 0, axes: str | None = None, region: Region | None = None
) -> Image:
    """Read one scene of a file, or a part; see `opsef_bridge.images.read_image`.

    How much is read for a part is up to the plug-in; most read the planes that it touches.
    """
    image = _scene(path, series)
    order = str(image.dims.order)
    letters = name_axes(image.shape, _letters(order), axes, path.name)

    def load(index: tuple[slice | list[int], ...]) -> np.ndarray:
        lazy = image.get_image_dask_data(order)
        for i, taken in enumerate(index):  # one by one: dask takes one list at a time
            lazy = lazy[(slice(None),) * i + (taken,)]
        return np.asarray(lazy.compute(scheduler="synchronous"))

    data, axes = arrange_part(load, letters, image.shape, region, colour="S" in letters)
    channels = _channels(image)
    if region is not None:
        channels = region.names(channels)
    return Image(data, axes, *spacing_along(_spacing(image), axes), channels, _time_step(image))


def bioio_info(path: Path, series: int = 0, axes: str | None = None) -> ImageInfo:
    """Describe one scene of a file without reading its pixels."""
    image = _scene(path, series)
    letters = name_axes(image.shape, _letters(str(image.dims.order)), axes, path.name)
    dtype = np.dtype(image.dtype).newbyteorder("=")
    data, axes = arrange(without_pixels(image.shape, dtype), letters, colour="S" in letters)
    return ImageInfo(
        axes,
        data.shape,
        dtype.name,
        len(image.scenes),
        *spacing_along(_spacing(image), axes),
        _channels(image),
        _time_step(image),
    )


def bioio_names(path: Path) -> list[str]:
    """Return the names of the scenes, empty where bioio made them up."""
    return ["" if MADE_UP.fullmatch(str(name)) else str(name) for name in _open(path).scenes]


def _open(path: Path) -> Any:
    plugin = PLUGINS.get(path.suffix.lower())
    way = f"Run: pip install bioio {plugin}" if plugin else "Install the plug-in of bioio for it"
    unreadable = ImageError(
        f"{path.name} is of a kind that cannot be read here ({path.suffix})",
        hint=f"{way}; or open it in Fiji and save it as TIFF",
    )
    try:
        import bioio
        from bioio_base.exceptions import UnsupportedFileFormatError
    except ImportError:
        raise unreadable from None
    try:
        return bioio.BioImage(path)
    except UnsupportedFileFormatError:
        raise unreadable from None


def _scene(path: Path, series: int) -> Any:
    image = _open(path)
    if not 0 <= series < len(image.scenes):
        raise ImageError(
            f"{path.name} has no series {series}",
            hint=f"It has {len(image.scenes)}, counted from 0",
        )
    image.set_scene(series)
    return image


def _letters(order: str) -> str:
    return "".join(letter if letter in AXES else "Q" for letter in order)


def _spacing(image: Any) -> dict[str, float]:
    """Return micrometres a pixel: bioio's unit where the plug-in names none.

    A size of exactly 1 without a unit is what plug-ins say where they know of none.
    """
    found = {}
    for axis in "ZYX":
        size = getattr(image.physical_pixel_sizes, axis, None)
        unit = getattr(getattr(image.dimension_properties, axis, None), "unit", None)
        length = to_micrometres(size, str(unit) if unit is not None else "um")
        if length and (unit is not None or length != 1):
            found[axis] = length
    return found


def _channels(image: Any) -> tuple[str, ...]:
    names = [str(name) for name in image.channel_names or ()]
    return () if any(MADE_UP.fullmatch(name) for name in names) else tuple(names)


def _time_step(image: Any) -> float:
    step = image.time_interval
    seconds = step.total_seconds() if isinstance(step, datetime.timedelta) else float(step or 0)
    return seconds if 0 < seconds < math.inf else 0.0
