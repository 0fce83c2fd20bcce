"""Read any image file: readers by suffix behind one contract.

A reader is two functions, ``read`` and ``info``, called as ``(path, series, axes)``.
They raise what their library raises; `read_image` turns that into an `ImageError` that
names the file. To add a format, make a `Reader` and pass it to `register_reader`;
`opsef_bridge.testing.readers.ReaderSuite` is what it should pass.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opsef_bridge.errors import ImageError, OpsefError
from opsef_bridge.images.image import Image, ImageInfo
from opsef_bridge.images.png import png_info, read_png
from opsef_bridge.images.tiff import read_tiff, tiff_info

__all__ = ["Reader", "image_info", "read_image", "reading", "register_reader", "suffixes"]

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
        ``read(path, series, axes) -> Image``. `axes` is None or the letters of the
        caller, which win over the file's. Pixels keep the dtype of the file, singleton
        axes are dropped, the rest is in the order ``TZCYXS``. A file whose axes are not
        known is an `ImageError` that lists the choices; so is a series that is missing.
    info : callable
        ``info(path, series, axes) -> ImageInfo``: the same without reading pixels.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, int, str | None], Image]
    info: Callable[[Path, int, str | None], ImageInfo]


_READERS: dict[str, Reader] = {}


def register_reader(reader: Reader) -> None:
    """Make `read_image` use `reader` for its suffixes."""
    for suffix in reader.suffixes:
        _READERS[suffix.lower()] = reader


register_reader(Reader("TIFF", (".tif", ".tiff"), read_tiff, tiff_info))
register_reader(Reader("PNG", (".png",), read_png, png_info))


def suffixes() -> tuple[str, ...]:
    """Return the suffixes that can be read, sorted.

    Examples
    --------
    >>> suffixes()
    ('.png', '.tif', '.tiff')
    """
    return tuple(sorted(_READERS))


def read_image(path: str | os.PathLike[str], series: int = 0, *, axes: str | None = None) -> Image:
    """Read an image file.

    Parameters
    ----------
    path : path-like
        TIFF (plain, ImageJ or OME) or PNG, by suffix.
    series : int
        Which image of the file, from 0.
    axes : str, optional
        Letters of ``TZCYXS`` for the dimensions of the file, in its order; needed where
        the file does not say (a plain 3D TIFF) or is wrong.

    Returns
    -------
    Image
        Pixels in the dtype of the file, never rescaled; axes in the order ``TZCYXS``
        without singletons; spacing in micrometres where the file is calibrated.

    Raises
    ------
    ImageError
        The file is missing, empty, damaged, incomplete, or of an unknown kind; its axes
        are not known; or its dtype (64-bit integers, half floats, complex numbers) is
        none to work on.

    Examples
    --------
    >>> import tempfile, pathlib, numpy
    >>> from opsef_bridge.images import write_hyperstack
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.tif"
    >>> write_hyperstack(path, numpy.zeros((5, 8, 9), "uint8"), "ZYX", spacing=(2, 0.5, 0.5))
    >>> image = read_image(path)
    >>> image.data.shape, image.axes, image.spacing, image.unit
    ((5, 8, 9), 'ZYX', {'Z': 2.0, 'Y': 0.5, 'X': 0.5}, 'um')
    """
    path = Path(path)
    with reading(path):
        image = _reader(path).read(path, series, axes)
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
    with reading(path):
        info = _reader(path).info(path, series, axes)
    _check_dtype(path, np.dtype(info.dtype))
    return info


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read into an `ImageError` that names it."""
    if not path.is_file():
        raise ImageError(f"{path} is not a file", hint="Check the name")
    if path.stat().st_size == 0:
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


def _reader(path: Path) -> Reader:
    try:
        return _READERS[path.suffix.lower()]
    except KeyError:
        raise ImageError(
            f"{path.name} is of a kind that cannot be read ({path.suffix or 'no suffix'})",
            hint=f"Bring one of {', '.join(suffixes())}; ImageJ saves most formats as TIFF",
        ) from None


def _check_dtype(path: Path, dtype: np.dtype) -> None:
    if dtype.newbyteorder("=").name not in DTYPES:
        raise ImageError(
            f"{path} has pixels of {dtype.name}, which cannot be worked on",
            hint="Save it as 8-, 16- or 32-bit integers or as 32-bit float",
        )
