"""Read any image file: readers by suffix behind one contract.

A reader is two functions, ``read``, called as ``(path, series, axes, region)``, and
``info``, called as ``(path, series, axes)``. They raise what their library raises;
`read_image` turns that into an `ImageError` that names the file. To add a format, make a
`Reader` and pass it to `register_reader`; `opsef_bridge.testing.readers.ReaderSuite` is
what it should pass.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opsef_bridge.errors import ImageError, OpsefError
from opsef_bridge.images.by_bioio import (
    PLUGINS,
    bioio_info,
    bioio_names,
    bioio_suffixes,
    read_bioio,
)
from opsef_bridge.images.image import Image, ImageInfo, Infos
from opsef_bridge.images.jpeg import jpeg_info, read_jpeg
from opsef_bridge.images.lif import lif_info, lif_infos, lif_names, read_lif
from opsef_bridge.images.ome_zarr import read_zarr, zarr_info, zarr_infos, zarr_names
from opsef_bridge.images.png import png_info, read_png
from opsef_bridge.images.region import Region
from opsef_bridge.images.tiff import read_tiff, tiff_info, tiff_infos, tiff_names

__all__ = [
    "Reader",
    "image_info",
    "image_infos",
    "is_image",
    "read_image",
    "reading",
    "register_reader",
    "series_names",
    "suffixes",
]

DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@dataclass(frozen=True)
class Reader:
    """How files of some suffixes are read.

    Parameters
    ----------
    name : str
        Name of the format.
    suffixes : tuple of str
        Lower case, with the dot: ``(".tif", ".tiff")``.
    read : callable
        ``read(path, series, axes, region) -> Image``. `axes` is None or the letters of
        the caller, which win over the file's. Pixels keep the dtype of the file,
        singleton axes are dropped, the rest is in the order ``TZCYXS``. A file whose
        axes are not known is an `ImageError` that lists the choices; so is a series that
        is missing. `region` is None or the `Region` wanted, of which no more should be
        read than needed (`opsef_bridge.images.axes.arrange_part` helps); a function
        without that parameter works too: its image is cut afterwards.
    info : callable
        ``info(path, series, axes) -> ImageInfo``: the same without reading pixels.
    names : callable, optional
        ``names(path) -> list of str``: the name of each series, empty where it has none.
    folder : bool
        What is read is a folder (OME-Zarr), not a file.
    infos : callable, optional
        ``infos(path, axes)``: what `info` says of each series, the file opened once, as
        `opsef_bridge.images.image.each_info` gives it.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Image]
    info: Callable[[Path, int, str | None], ImageInfo]
    names: Callable[[Path], list[str]] | None = None
    folder: bool = False
    infos: Callable[[Path, str | None], Infos] | None = None


_READERS: dict[str, Reader] = {}


def register_reader(reader: Reader) -> None:
    """Make `read_image` use `reader` for its suffixes."""
    for suffix in reader.suffixes:
        _READERS[suffix.lower()] = reader


BIOIO = Reader("bioio", (), read_bioio, bioio_info, bioio_names)
"""Asked where no reader is registered for a suffix."""

TIFFS = (".tif", ".tiff", ".tf8", ".btf")
register_reader(Reader("TIFF", TIFFS, read_tiff, tiff_info, tiff_names, infos=tiff_infos))
register_reader(Reader("PNG", (".png",), read_png, png_info))
register_reader(Reader("JPEG", (".jpg", ".jpeg"), read_jpeg, jpeg_info))
register_reader(Reader("OME-Zarr", (".zarr",), read_zarr, zarr_info, zarr_names, True, zarr_infos))
register_reader(Reader("Leica", (".lif",), read_lif, lif_info, lif_names, infos=lif_infos))


def suffixes() -> tuple[str, ...]:
    """Return the suffixes that can be read, sorted; those of bioio's plug-ins if installed.

    Examples
    --------
    >>> {".png", ".tif", ".tiff"} <= set(suffixes())
    True
    """
    return tuple(sorted({*_READERS, *bioio_suffixes()}))


def is_image(path: str | os.PathLike[str]) -> bool:
    """Tell whether `path` is a file, or a folder, of a kind that can be read.

    Only the name is looked at, and whether it is a file or a folder.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    folder = suffix in _READERS and _READERS[suffix].folder
    return suffix in suffixes() and (path.is_dir() if folder else path.is_file())


def read_image(
    path: str | os.PathLike[str],
    series: int = 0,
    *,
    axes: str | None = None,
    region: Region | None = None,
) -> Image:
    """Read an image file, or a part of one.

    Parameters
    ----------
    path : path-like
        An image of one of the kinds of `suffixes`.
    series : int
        Which image of the file, from 0.
    axes : str, optional
        Letters of ``TZCYXS`` for the dimensions of the file, in its order; needed where
        the file does not say (a plain 3D TIFF) or is wrong. ``?ZYX`` is for a set of files
        of which only some do not say: those that do keep their own.
    region : Region, optional
        The part wanted, in the axes of the image that would be read without it. Little
        more is read from the disk than that, and nothing more is kept in memory.

    Returns
    -------
    Image
        Pixels in the dtype of the file, never rescaled; axes in the order ``TZCYXS``
        without singletons; spacing in micrometres where the file is calibrated.

    Raises
    ------
    ImageError
        The file is missing, empty, damaged, incomplete, or of an unknown kind; its axes
        are not known; the region does not fit; or its dtype (64-bit integers, half
        floats, complex numbers) is none to work on.

    Examples
    --------
    >>> import tempfile, pathlib, numpy
    >>> from opsef_bridge.images import write_hyperstack
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.tif"
    >>> write_hyperstack(path, numpy.zeros((5, 8, 9), "uint8"), "ZYX", spacing=(2, 0.5, 0.5))
    >>> image = read_image(path)
    >>> image.data.shape, image.axes, image.spacing, image.unit
    ((5, 8, 9), 'ZYX', {'Z': 2.0, 'Y': 0.5, 'X': 0.5}, 'um')
    >>> read_image(path, region=Region(z=(1, 3), y=(0, 4))).data.shape
    (2, 4, 9)
    """
    path = Path(path)
    reader = _reader(path)
    with reading(path, folder=reader.folder):
        if region is None or not _takes_region(reader.read):
            image = reader.read(path, series, axes)
            image = image if region is None else region.cut(image)
        else:
            image = reader.read(path, series, axes, region)
    _check_dtype(path, image.data.dtype)
    native = image.data.astype(image.data.dtype.newbyteorder("="), copy=False)
    return image.with_data(native)


def image_info(
    path: str | os.PathLike[str], series: int = 0, *, axes: str | None = None
) -> ImageInfo:
    """Describe an image file without reading its pixels.

    Parameters and errors are those of `read_image`; damage behind the header is not seen.
    """
    path = Path(path)
    reader = _reader(path)
    with reading(path, folder=reader.folder):
        info = reader.info(path, series, axes)
    _check_dtype(path, np.dtype(info.dtype))
    return info


def image_infos(
    path: str | os.PathLike[str], *, axes: str | None = None
) -> list[ImageInfo | ImageError]:
    """Describe every series of a file as `image_info` does, in time linear in their number.

    Parameters are those of `image_info`. A series that cannot be described is the error that
    `image_info` raises; so is the only one of a file that cannot be read at all.
    """
    path = Path(path)
    told: Infos = []
    with contextlib.suppress(Exception):  # `image_info` says what is wrong, and with which series
        infos = _reader(path).infos
        told = infos(path, axes) if infos is not None else []
    if not told:
        with contextlib.suppress(ImageError):
            told = [None] * len(series_names(path))
    return [_checked(path, series, axes, info) for series, info in enumerate(told or [None])]


def _checked(
    path: Path, series: int, axes: str | None, info: ImageInfo | ImageError | None
) -> ImageInfo | ImageError:
    try:
        if info is None:
            return image_info(path, series, axes=axes)
        if isinstance(info, ImageInfo):
            _check_dtype(path, np.dtype(info.dtype))
    except ImageError as error:
        return error
    return info


def series_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the name of each series of a file; empty where it has none.

    Raises
    ------
    ImageError
        As those of `read_image`.
    """
    path = Path(path)
    reader = _reader(path)
    with reading(path, folder=reader.folder):
        if reader.names is not None:
            return reader.names(path)
        return [""] * reader.info(path, 0, None).series


@contextlib.contextmanager
def reading(path: Path, *, folder: bool = False) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read into an `ImageError` that names it.

    Parameters
    ----------
    path : Path
    folder : bool
        What is read is a folder.
    """
    if folder and not path.is_dir():
        raise ImageError(f"{path} is not a folder", hint="Check the name")
    if not folder and not path.is_file():
        raise ImageError(f"{path} is not a file", hint="Check the name")
    if not folder and path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes)", hint="Copy it again from its source")
    try:
        yield
    except OpsefError:
        raise
    except Exception as error:  # each library has its own family, and none is complete
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ImageError(
            f"{path} cannot be read: {reason}",
            hint="It is damaged, incomplete or not what its name says: copy it again from its "
            "source, or open it in ImageJ and save it as TIFF",
        ) from error


def _takes_region(read: Callable[..., Image]) -> bool:
    parameters = inspect.signature(read).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (
        any(one.kind == inspect.Parameter.VAR_POSITIONAL for one in parameters)
        or sum(one.kind in positional for one in parameters) > 3
    )


def _reader(path: Path) -> Reader:
    suffix = path.suffix.lower()
    if suffix in _READERS:
        return _READERS[suffix]
    if not path.is_file():
        raise ImageError(f"{path} is not a file", hint="Check the name")
    if suffix in PLUGINS or (importlib.util.find_spec("bioio") is not None and suffix):
        return BIOIO
    raise ImageError(
        f"{path.name} is of a kind that cannot be read ({path.suffix or 'no suffix'})",
        hint=f"Bring one of {', '.join(suffixes())}; ImageJ saves most formats as TIFF",
    )


def _check_dtype(path: Path, dtype: np.dtype) -> None:
    if dtype.newbyteorder("=").name not in DTYPES:
        raise ImageError(
            f"{path} has pixels of {dtype.name}, which cannot be worked on",
            hint="Save it as 8-, 16- or 32-bit integers or as 32-bit float",
        )
