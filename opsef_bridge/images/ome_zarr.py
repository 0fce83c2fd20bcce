"""OME-Zarr in and out (OME-NGFF 0.4 and 0.5), by zarr (optional).

An OME-Zarr is a folder whose name ends on ``.zarr``. Its pixels lie in chunks, so parts
are read and written without the rest: what is too large for a TIFF goes here. A chunk
that is not in the folder holds the array's fill value; the format has it so, and a chunk
that was lost cannot be told from an empty one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import ImageError
from opsef_bridge.images.axes import arrange, arrange_part, name_axes, without_pixels
from opsef_bridge.images.calibration import spacing_along, to_micrometres, to_seconds
from opsef_bridge.images.image import AXES, Image, ImageInfo, Infos, each_info
from opsef_bridge.images.region import Region

__all__ = ["read_zarr", "zarr_info", "zarr_infos", "zarr_library", "zarr_names"]

KINDS = {"channel": "C", "time": "T"}
LARGEST_CHUNK = 2**31
INFLATION = 100_000
"""No chunk of one value is smaller than this part of its pixels; an array that claims
more is damaged, and is not given the memory."""


@dataclass(frozen=True)
class _Level:
    """The full resolution of one image, and what its metadata say of it."""

    array: Any
    letters: str
    spacing: dict[str, float] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    time_step: float = 0.0


def read_zarr(
    path: Path, series: int = 0, axes: str | None = None, region: Region | None = None
) -> Image:
    """Read one image of an OME-Zarr, or a part; see `opsef_bridge.images.read_image`.

    Of the levels of a pyramid the first is read. Images of a collection
    (bioformats2raw) or a plate are series. Only chunks that the region touches are read.
    A plain zarr array without axes needs them from the caller.
    """
    level, _ = _level(path, series)
    letters = name_axes(level.array.shape, level.letters, axes, path.name)

    def load(index: tuple[slice | list[int], ...]) -> np.ndarray:
        _check_stored(path, level.array, index)
        return _read(level.array, index)

    data, axes = arrange_part(load, letters, level.array.shape, region)
    channels = level.channels if region is None else region.names(level.channels)
    return Image(data, axes, *spacing_along(level.spacing, axes), channels, level.time_step)


def zarr_info(path: Path, series: int = 0, axes: str | None = None) -> ImageInfo:
    """Describe one image of an OME-Zarr without reading its pixels."""
    return _info(path, *_level(path, series), axes)


def zarr_infos(path: Path, axes: str | None = None) -> Infos:
    """Describe all images of an OME-Zarr; see `opsef_bridge.images.image.each_info`."""
    root = zarr_library(path).open(str(path), mode="r")
    found = _places(root)

    def describe(series: int) -> ImageInfo:
        return _info(path, _level_at(root, found[series]), len(found), axes)

    return each_info(describe, len(found))


def _info(path: Path, level: _Level, count: int, axes: str | None) -> ImageInfo:
    letters = name_axes(level.array.shape, level.letters, axes, path.name)
    dtype = level.array.dtype.newbyteorder("=")
    data, axes = arrange(without_pixels(level.array.shape, dtype), letters)
    return ImageInfo(
        axes,
        data.shape,
        dtype.name,
        count,
        *spacing_along(level.spacing, axes),
        level.channels,
        level.time_step,
    )


def zarr_names(path: Path) -> list[str]:
    """Return the names of all images: their own, or their place in the folder."""
    root, names = zarr_library(path).open(str(path), mode="r"), []
    for place in _places(root):
        node = root[place] if place else root
        metadata = {} if hasattr(node, "shape") else _metadata(node)
        scales = metadata.get("multiscales") or [{}]
        names.append(str(scales[0].get("name") or place).strip("/"))
    return names


def zarr_library(path: Path) -> Any:
    """Return the package zarr, or say how to install it."""
    try:
        import zarr
    except ImportError:
        raise ImageError(
            f"{path.name} needs the package zarr, which is not installed",
            hint='Run: pip install "opsef_bridge[zarr]"',
        ) from None
    return zarr


def _level(path: Path, series: int) -> tuple[_Level, int]:
    """Return an image of the folder, and how many there are."""
    root = zarr_library(path).open(str(path), mode="r")
    found = _places(root)
    if not 0 <= series < len(found):
        raise ImageError(
            f"{path.name} has no series {series}", hint=f"It has {len(found)}, counted from 0"
        )
    return _level_at(root, found[series]), len(found)


def _level_at(root: Any, place: str) -> _Level:
    node = root[place] if place else root
    if hasattr(node, "shape"):
        names = getattr(node.metadata, "dimension_names", None) or [
            *"?" * (node.ndim - 2),
            "Y",
            "X",
        ]
        return _Level(node, "".join(_letter({"name": name}) for name in names))
    return _described(node)


def _places(root: Any) -> list[str]:
    """Return the place in the folder of every image: a group, or an array."""
    if hasattr(root, "shape"):
        return [""]
    metadata = _metadata(root)
    if metadata.get("multiscales"):
        return [""]
    if "plate" in metadata:
        wells = [str(well["path"]) for well in metadata["plate"]["wells"]]
        places = [
            f"{well}/{image['path']}"
            for well in wells
            for image in _metadata(root[well])["well"]["images"]
        ]
    elif "OME" in root and _metadata(root["OME"]).get("series"):
        places = [str(place) for place in _metadata(root["OME"])["series"]]
    else:
        keys = set(root.keys())
        places = [str(number) for number in range(len(keys)) if str(number) in keys]
    if not places:
        raise ValueError("it holds no image (no multiscales in its metadata)")
    return places


def _metadata(group: Any) -> dict[str, Any]:
    """Return the OME metadata: at the top in 0.4, under ``ome`` in 0.5."""
    attributes = dict(group.attrs)
    found = attributes.get("ome", attributes)
    if not isinstance(found, dict):
        raise ValueError("its OME metadata are no dictionary")
    return found


def _described(group: Any) -> _Level:
    metadata = _metadata(group)
    scale = metadata["multiscales"][0]
    first = scale["datasets"][0]
    array = group[first["path"]]
    # Axes of version 0.3 are bare names; those of 0.1 and 0.2 are always these five.
    axes = [
        {"name": axis} if isinstance(axis, str) else axis for axis in scale.get("axes", "tczyx")
    ]
    if len(axes) != array.ndim:
        raise ValueError(f"it names {len(axes)} axes for {array.ndim} dimensions")
    factors = np.ones(array.ndim)
    for change in [
        *first.get("coordinateTransformations", []),
        *scale.get("coordinateTransformations", []),
    ]:
        if change.get("type") == "scale":
            factors = factors * np.asarray(change["scale"], float)
    letters = "".join(_letter(axis) for axis in axes)
    sizes = dict(zip(letters, factors.tolist(), strict=True))
    units = {letter: str(axis.get("unit", "")) for letter, axis in zip(letters, axes, strict=True)}
    lengths = {a: to_micrometres(sizes[a], units[a]) for a in "ZYX" if a in sizes}
    labels = [one.get("label") for one in (metadata.get("omero") or {}).get("channels", [])]
    return _Level(
        array,
        letters,
        {axis: size for axis, size in lengths.items() if size},
        tuple(str(label) for label in labels) if all(labels) else (),
        to_seconds(sizes.get("T"), units.get("T", "")),
    )


def _letter(axis: dict[str, Any]) -> str:
    name = str(axis.get("name") or "?").upper()
    return name if name in AXES else KINDS.get(str(axis.get("type")), "Q")


def _check_stored(path: Path, array: Any, index: tuple[slice | list[int], ...]) -> None:
    """Refuse what zarr and its codecs would read wrongly, or die of.

    An empty file is no empty chunk; zarr takes it for one. Blosc trusts the length that
    its header says, and reads beyond the end of a file that was cut short.
    """
    sizes = [len(i) if isinstance(i, list) else i.stop - i.start for i in index]
    wanted = math.prod(sizes) * array.dtype.itemsize
    chunk = math.prod(array.chunks) * array.dtype.itemsize
    if chunk > LARGEST_CHUNK:
        raise ValueError(f"its chunks of {chunk} bytes are too large")
    if wanted > 2**30:
        stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if wanted > INFLATION * stored:
            raise ValueError(f"its header claims {wanted} bytes of pixels in {stored} bytes")
    compressors = [type(one).__name__ for one in array.compressors]
    blosc = array.shards is None and compressors[-1:] in (["Blosc"], ["BloscCodec"])
    for file in _files(path, array, index):
        size = file.stat().st_size if file.is_file() else None
        if size == 0:
            raise ValueError(f"its chunk {file.relative_to(path)} is empty")
        if blosc and size is not None:
            with open(file, "rb") as opened:
                head = opened.read(16)
            if len(head) < 16 or int.from_bytes(head[12:], "little") != size:
                raise ValueError(f"its chunk {file.relative_to(path)} is damaged")


def _read(array: Any, index: tuple[slice | list[int], ...]) -> np.ndarray:
    """Read a part in rows of chunks: zarr decodes all chunks of one call at a time."""
    sizes = [len(i) if isinstance(i, list) else i.stop - i.start for i in index]
    out = np.empty(sizes, array.dtype.newbyteorder("="))
    pieces = [
        _pieces(taken, step) for taken, step in zip(index[:-1], array.chunks[:-1], strict=True)
    ]
    for chosen in itertools.product(*pieces):
        target = tuple(to for to, _ in chosen)
        out[target] = array[(*(of for _, of in chosen), index[-1])]
    return out


def _pieces(taken: slice | list[int], step: int) -> list[tuple[slice, slice]]:
    """Return (slice of the result, slice of the array) for each chunk along an axis."""
    if isinstance(taken, list):
        return [(slice(i, i + 1), slice(at, at + 1)) for i, at in enumerate(taken)]
    first = taken.start
    edges = [first, *range((first // step + 1) * step, taken.stop, step), taken.stop]
    return [(slice(a - first, b - first), slice(a, b)) for a, b in itertools.pairwise(edges)]


def _files(path: Path, array: Any, index: tuple[slice | list[int], ...]) -> Iterator[Path]:
    """Yield the files of the chunks (or shards) that the index touches."""
    touched = [
        sorted({i // step for i in taken})
        if isinstance(taken, list)
        else range(taken.start // step, (taken.stop - 1) // step + 1)
        for taken, step in zip(index, array.shards or array.chunks, strict=True)
    ]
    for at in itertools.product(*touched):
        yield path / array.path / array.metadata.encode_chunk_key(at)
