"""ImageJ ROI zips: what "Save..." and "Open..." of the ROI Manager write and read."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from roifile import ImagejRoi

from opsef_bridge.errors import RoiError
from opsef_bridge.files import atomic_path

__all__ = ["read_rois", "write_rois"]

MAX_BYTES = 2**30
"""Largest size of a zip, packed or unpacked, that is read: 1 GiB, millions of objects."""

MAX_ENTRIES = 500_000
"""Most entries of a zip that is read."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of every entry, the earliest a zip can hold: same ROIs, same bytes."""


def write_rois(path: str | os.PathLike[str], rois: Sequence[ImagejRoi]) -> None:
    """Write ROIs to a zip that ImageJ's ROI Manager opens, in the order given.

    The zip is written whole and put in place by a rename; the same ROIs make the same
    bytes. Each entry has the name of its ROI with ``.roi`` added.

    Parameters
    ----------
    path : path-like
        The zip, by convention ``<image>_ROIs.zip``.
    rois : sequence of roifile.ImagejRoi
        At least one; names are not empty, different, and without slashes.

    Raises
    ------
    RoiError
        There are no ROIs (ImageJ and AnnotatorJ fail on an empty zip), or names do not fit.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from opsef_bridge.measure.trace import trace_rois
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "nuclei_ROIs.zip"
    >>> write_rois(path, trace_rois([[1, 0, 2]]))
    >>> [roi.name for roi in read_rois(path)]
    ['0001', '0002']
    """
    path = Path(path)
    if not rois:
        raise RoiError(
            f"there are no ROIs to write to {path.name}",
            hint="Leave the file out: ImageJ and AnnotatorJ cannot open an empty zip",
        )
    bad = [roi.name for roi in rois if not roi.name or "/" in roi.name or "\\" in roi.name]
    bad += [name for name, count in Counter(roi.name for roi in rois).items() if count > 1]
    if bad:
        raise RoiError(
            f"ROI name {bad[0]!r} is empty, has a slash or occurs twice",
            hint="Give each ROI a name of its own, such as '0001'",
        )
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for roi in rois:
            entry = zipfile.ZipInfo(f"{roi.name}.roi", EPOCH)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)


def read_rois(path: str | os.PathLike[str]) -> list[ImagejRoi]:
    """Read the ROIs of a zip, or the one of a ``.roi`` file, in the order of the file.

    As in ImageJ, the name of an entry without ``.roi`` is the name of the ROI, and
    entries that are no ``.roi`` are passed over. Names that occur twice are kept.
    Nothing is unpacked to disk.

    Raises
    ------
    RoiError
        The file cannot be read or is damaged (a part of it is never returned), is larger
        than 1 GiB packed or unpacked, has more than 500,000 entries or a name that points
        out of the zip, or holds no ROI.
    FileNotFoundError
        There is no such file.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise RoiError(
            f"{path.name} has {path.stat().st_size} bytes; the limit is {MAX_BYTES}",
            hint="Save fewer ROIs to one zip: one zip for each image",
        )
    if path.suffix.lower() == ".roi":
        return [_decode(path.read_bytes(), path.stem, path)]
    try:
        with zipfile.ZipFile(path) as archive:
            rois = [
                _decode(archive.read(entry), PurePosixPath(entry.filename).name[:-4], path)
                for entry in _roi_entries(archive, path)
            ]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise RoiError(
            f"{path.name} is no zip of ROIs, or is truncated or damaged ({error})",
            hint="Save it again with More > Save... in ImageJ's ROI Manager",
        ) from error
    if not rois:
        raise RoiError(
            f"{path.name} holds no ROI",
            hint="Select the objects in ImageJ's ROI Manager and save again",
        )
    return rois


def _roi_entries(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the ROIs of a zip whose names and sizes are safe."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise RoiError(
            f"{path.name} has {len(entries)} entries; the limit is {MAX_ENTRIES}",
            hint="Save fewer ROIs to one zip: one zip for each image",
        )
    # Reading stops at the size that an entry states, so the sum is a true bound.
    size = sum(entry.file_size for entry in entries)
    if size > MAX_BYTES:
        raise RoiError(
            f"{path.name} unpacks to {size} bytes; the limit is {MAX_BYTES}",
            hint="This is no zip of ROIs as ImageJ writes it: save it again in ImageJ",
        )
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
            raise RoiError(
                f"{path.name} has an entry that points out of it: {entry.filename!r}",
                hint="This is no zip of ROIs as ImageJ writes it: save it again in ImageJ",
            )
    return [entry for entry in entries if entry.filename.endswith(".roi") and not _is_mac(entry)]


def _is_mac(entry: zipfile.ZipInfo) -> bool:
    """Tell whether an entry is what macOS adds for each file when it makes a zip."""
    return entry.filename.startswith("__MACOSX/")


def _decode(data: bytes, name: str, path: Path) -> ImagejRoi:
    """Decode one ROI and give it the name of its entry."""
    try:
        roi = ImagejRoi.frombytes(data)
    except (ValueError, TypeError, IndexError, struct.error) as error:
        raise RoiError(
            f"{path.name}: entry {name!r} is no ImageJ ROI or is damaged ({error})",
            hint="Delete this ROI in ImageJ's ROI Manager and save again",
        ) from error
    roi.name = name
    return roi
