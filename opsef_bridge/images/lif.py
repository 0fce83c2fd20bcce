"""Leica .lif in, by readlif (optional): every series, channel, plane and time point.

Each series becomes one image; of a mosaic, each tile does, as a series of its own. Rows
of a scan without a Y axis (XZ, XT) are called Y, with the spacing that they have: such a
section is segmented like any plane. A scan of sections along Y (XZY) is a volume with
its true axes. Wavelengths of a spectral scan are channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from opsef_bridge.errors import ImageError
from opsef_bridge.images.axes import arrange, arrange_part, name_axes, without_pixels
from opsef_bridge.images.calibration import spacing_along, to_micrometres, to_seconds
from opsef_bridge.images.image import Image, ImageInfo, Infos, each_info
from opsef_bridge.images.region import Region

__all__ = ["lif_info", "lif_infos", "lif_names", "read_lif"]

LETTERS = {1: "X", 2: "Y", 3: "Z", 4: "T"}
WAVELENGTHS = (5, 9)
"""Dimensions of detected and of exciting light."""
TILES = 10

MAGIC, MEMORY = b"\x70\x00\x00\x00", b"\x2a"
"""What a LIF file, and each block in it, has at 0 and at 8."""


@dataclass(frozen=True)
class _Scan:
    """One series: a readlif image, or one tile of it.

    `outer` are Leica's numbers of the dimensions above a plane, outermost first, but for
    tiles and for those of light, which are `lights`: with the channels these make the
    axis C. Of a colour camera the channels are the samples of each pixel.
    """

    image: Any
    tile: int | None
    outer: tuple[int, ...]
    lights: tuple[int, ...]
    colour: bool
    description: ElementTree.Element | None

    @property
    def name(self) -> str:
        return _name(self.image, self.tile)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.image.bit_depth[0] == 8 else np.uint16)

    @property
    def letters(self) -> str:
        outer = "".join(LETTERS.get(d, "Q") for d in self.outer)
        columns, rows = (LETTERS.get(d, "Q") for d in self.image.display_dims)
        columns = columns if "X" in outer + rows else "X"
        rows = rows if "Y" in outer + columns else "Y"
        return f"{outer}{rows}{columns}S" if self.colour else f"{outer}C{rows}{columns}"

    @property
    def shape(self) -> tuple[int, ...]:
        columns, rows = (self.size(d) for d in self.image.display_dims)
        count = self.image.channels * math.prod(map(self.size, self.lights))
        plane = (rows, columns, count) if self.colour else (count, rows, columns)
        return (*map(self.size, self.outer), *plane)

    def size(self, dimension: int) -> int:
        return int(self.image.dims_n.get(dimension, 1))


def read_lif(
    path: Path, series: int = 0, axes: str | None = None, region: Region | None = None
) -> Image:
    """Read one series, or a part of it; see `opsef_bridge.images.read_image`.

    Only the planes wanted are read, each equal to what readlif's ``get_plane`` gives.
    """
    scan, _ = _scan(path, series)
    letters = name_axes(scan.shape, scan.letters, axes, path.name)
    data, axes = arrange_part(
        lambda index: _planes(scan, index), letters, scan.shape, region, colour=scan.colour
    )
    channels = _channels(scan)
    if region is not None:
        channels = region.names(channels)
    return Image(data, axes, *spacing_along(_spacing(scan), axes), channels, _time_step(scan))


def lif_info(path: Path, series: int = 0, axes: str | None = None) -> ImageInfo:
    """Describe one series without reading its pixels."""
    return _info(path, *_scan(path, series), axes)


def lif_infos(path: Path, axes: str | None = None) -> Infos:
    """Describe all series; see `opsef_bridge.images.image.each_info`."""
    file = _open(path)
    found, elements = _series(file), _elements(file)

    def describe(series: int) -> ImageInfo:
        scan = _described(path, file, elements, *found[series])
        _check_complete(path, scan, series)
        return _info(path, scan, len(found), axes)

    return each_info(describe, len(found))


def _info(path: Path, scan: _Scan, count: int, axes: str | None) -> ImageInfo:
    letters = name_axes(scan.shape, scan.letters, axes, path.name)
    data, axes = arrange(without_pixels(scan.shape, scan.dtype), letters, colour=scan.colour)
    return ImageInfo(
        axes,
        data.shape,
        scan.dtype.name,
        count,
        *spacing_along(_spacing(scan), axes),
        _channels(scan),
        _time_step(scan),
    )


def lif_names(path: Path) -> list[str]:
    """Return the names of all series, also of those that cannot be read; tiles are numbered."""
    file = _open(path)
    return [_name(file.get_image(number), tile) for number, tile in _series(file)]


def _open(path: Path) -> Any:
    try:
        from readlif.reader import LifFile
    except ImportError:
        raise ImageError(
            f"{path.name} needs the package readlif, which is not installed",
            hint='Run: pip install "opsef_bridge[lif]"',
        ) from None
    with path.open("rb") as file:
        head = file.read(9)
    if head[:4] != MAGIC or head[8:] != MEMORY:
        raise ImageError(
            f"{path} is no LIF file: it begins with {head!r}",
            hint="It has another format than its name says, or is damaged: copy it again from "
            "its source, or give it the suffix of its format",
        )
    try:
        return LifFile(str(path))
    except ValueError as error:
        if "closed file" in str(error):  # readlif closes it where it finds no block
            raise ValueError("a block of pixels is not where the one before it ends") from error
        raise


def _name(image: Any, tile: int | None) -> str:
    return image.name if tile is None else f"{image.name} tile {tile}"


def _series(file: Any) -> list[tuple[int, int | None]]:
    """Return (image, tile) of every series; tile is None but for mosaics."""
    found: list[tuple[int, int | None]] = []
    for number, one in enumerate(file.image_list):
        tiles = one["dims"].m
        found += [(number, tile) for tile in range(tiles)] if tiles > 1 else [(number, None)]
    return found


def _scan(path: Path, series: int) -> tuple[_Scan, int]:
    """Return a series, known to be complete, and how many there are."""
    file = _open(path)
    found = _series(file)
    if not 0 <= series < len(found):
        raise ImageError(
            f"{path.name} has no series {series}", hint=f"It has {len(found)}, counted from 0"
        )
    scan = _described(path, file, _elements(file), *found[series])
    _check_complete(path, scan, series)
    return scan, len(found)


def _check_complete(path: Path, scan: _Scan, series: int) -> None:
    begin, length = scan.image.offsets
    needed = math.prod(scan.image.dims_n.values()) * scan.image.channels * scan.dtype.itemsize
    if length == 0 or begin + length > path.stat().st_size:
        raise ValueError(f"it ends before the pixels of series {series} ({scan.name}) do")
    if length != needed:
        raise ValueError(f"series {series} has {length} bytes of pixels, its header says {needed}")


def _described(
    path: Path, file: Any, elements: list[ElementTree.Element], number: int, tile: int | None
) -> _Scan:
    image = file.get_image(number)
    if len(set(image.bit_depth)) != 1 or not 8 <= image.bit_depth[0] <= 16:
        raise ImageError(
            f"{path.name}: series {number} ({image.name}) has channels of {image.bit_depth} bits",
            hint="Channels of 8 to 16 bits, all alike, can be read: export it from LAS X as TIFF",
        )
    hidden = (*image.display_dims, TILES)
    above = [d for d in reversed(image.dims_n) if d not in hidden and image.dims_n[d] > 1]
    # Where it can be told which description is whose.
    known = len(elements) == len(file.image_list)
    description = elements[number].find("./Data/Image/ImageDescription") if known else None
    return _Scan(
        image,
        tile,
        tuple(d for d in above if d not in WAVELENGTHS),
        tuple(d for d in above if d in WAVELENGTHS),
        _interleaved(description, image),
        description,
    )


def _interleaved(description: ElementTree.Element | None, image: Any) -> bool:
    """Tell whether each pixel has all channels side by side, as colour cameras write it."""
    first = None if description is None else description.find("./Dimensions/DimensionDescription")
    step = 0 if first is None else int(first.get("BytesInc", 0))
    return image.channels == 3 and step == 3 * (1 if image.bit_depth[0] == 8 else 2)


def _planes(scan: _Scan, index: tuple[slice | list[int], ...]) -> np.ndarray:
    """Read what `index` takes of `_Scan.shape`, plane by plane."""
    lists = [
        taken if isinstance(taken, list) else range(taken.start, taken.stop) for taken in index
    ]
    out = np.empty([len(one) for one in lists], scan.dtype)
    lead = len(index) - (3 if scan.colour else 2)
    for target in np.ndindex(out.shape[:lead]):
        at = [lists[i][number] for i, number in enumerate(target)]
        if scan.colour:
            planes = [_plane(scan, [*at, i]).ravel() for i in range(3)]
            plane = np.concatenate(planes).reshape(scan.shape[-3:])
        else:
            plane = _plane(scan, at)
        out[target] = plane[index[lead:]]
    return out


def _plane(scan: _Scan, at: list[int]) -> np.ndarray:
    """Return one plane as readlif gives it: numbers of `outer`, then of the channel."""
    image = scan.image
    sizes = (*map(scan.size, scan.lights), image.channels)
    *lights, channel = (int(i) for i in np.unravel_index(at[-1], sizes))
    wanted = dict(zip((*scan.outer, *scan.lights), (*at[:-1], *lights), strict=True))
    if scan.tile is not None:
        wanted[TILES] = scan.tile
    simple = set(wanted) <= {3, 4, TILES} and image.display_dims == (1, 2)
    # get_plane knows any order of dimensions, but neither channels outside of Z nor
    # depths between 8 and 16 bits; get_frame knows these.
    if simple and (image.channel_as_second_dim or image.bit_depth[0] not in (8, 16)):
        return np.asarray(
            image.get_frame(wanted.get(3, 0), wanted.get(4, 0), channel, wanted.get(TILES, 0))
        )
    return np.asarray(image.get_plane(c=channel, requested_dims=wanted))


def _elements(file: Any) -> list[ElementTree.Element]:
    """Return what the XML has of each image."""
    return [one for one in file.xml_root.iter("Element") if one.find("./Data/Image") is not None]


def _channels(scan: _Scan) -> tuple[str, ...]:
    """Return the channels' colour tables by name, or the wavelengths; or nothing."""
    if scan.description is None or scan.colour:
        return ()
    found = scan.description.findall("./Channels/ChannelDescription")
    names = [one.get("LUTName", "") for one in found]
    for dim in scan.description.findall("./Dimensions/DimensionDescription"):
        count = int(dim.get("NumberOfElements", 1))
        if int(dim.get("DimID", 0)) in WAVELENGTHS and count > 1:
            first, length = float(dim.get("Origin", 0)), float(dim.get("Length", 0))
            steps = [1e9 * (first + i * length / (count - 1)) for i in range(count)]
            names = [f"{name} {step:.0f} nm" for step in steps for name in names]
    return tuple(names) if all(names) and len(set(names)) == len(names) else ()


def _spacing(scan: _Scan) -> dict[str, float]:
    """Return micrometres a pixel; readlif has pixels a micrometre."""
    dims = (*scan.outer, *reversed(scan.image.display_dims))
    found = {}
    for letter, dim in zip(scan.letters.strip("S").replace("C", ""), dims, strict=True):
        scale = scan.image.scale_n.get(dim)
        length = to_micrometres(abs(1 / scale), "um") if scale else None
        if letter in "ZYX" and LETTERS.get(dim, "Q") in "ZYX" and length:
            found[letter] = length
    return found


def _time_step(scan: _Scan) -> float:
    """Return seconds between time points; readlif has time points a second."""
    rate = scan.image.scale_n.get(4) if 4 in scan.outer else None
    return to_seconds(abs(1 / rate), "s") if rate else 0.0
