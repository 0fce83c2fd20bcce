"""ImageJ ROI zips: what "Save..." and "Open..." of the ROI Manager write and read."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from roifile import ImagejRoi

from opsef_bridge.errors import RoiError
from opsef_bridge.files import atomic_path

__all__ = ["read_rois", "write_rois"]

MAX_BYTES = 2**30
"""Largest size of a zip, packed or unpacked, that is read: 1 GiB, millions of objects."""

MAX_ENTRIES = 500_000
"""Most entries of a zip that is read."""

MAX_DIRECTORY = 2**26
"""Largest list of entries that is read, in bytes: more than so many entries need."""

MAX_RATIO, SMALL = 200, 2**24
"""How many times its size a zip may unpack to, where that is more than 16 MiB. Real ROIs
pack to a half or a third."""

ENTRY, LOCAL, END = b"PK\1\2", b"PK\3\4", b"PK\5\6"
END_64, END_64_PLACE = b"PK\6\6", b"PK\6\7"
"""What parts of a zip begin with (PKWARE's APPNOTE, section 4.3)."""

ENTRY_FORMAT = struct.Struct("<4s4x2H4x3L3H4x2L")
LOCAL_FORMAT = struct.Struct("<4s2x2H16x2H")
ENCRYPTED, UTF_8 = 0x1, 0x800
ZIP_64, TOO_LONG = 0x0001, 0xFFFFFFFF
UNIX, VERSION, VERSION_64 = 3 << 8, 20, 45

LONGEST_END = 76 + 22 + 0xFFFF
"""Bytes that the end of a zip takes at most: zip64 end and its place, end, comment."""


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
    with atomic_path(path) as partial, open(partial, "wb") as file:
        _pack(file, rois, path)


def _pack(file: BinaryIO, rois: Sequence[ImagejRoi], path: Path) -> None:
    """Write the bytes that `zipfile` would, in half its time."""
    directory = []
    at = 0
    for roi in rois:
        data = roi.tobytes()
        packed = zlib.compress(data, wbits=-zlib.MAX_WBITS)
        name = f"{roi.name}.roi".encode()
        flags = 0 if name.isascii() else UTF_8
        # The earliest date that a zip can hold: same ROIs, same bytes.
        common = flags, zipfile.ZIP_DEFLATED, 0, (1 << 5) | 1
        sizes = zlib.crc32(data), len(packed), len(data), len(name)
        front = struct.pack("<4s5H3L2H", LOCAL, VERSION, *common, *sizes, 0) + name
        file.write(front + packed)
        rest = 0, 0, 0, 0, 0o644 << 16, at
        row = struct.pack("<4s6H3L5H2L", ENTRY, UNIX | VERSION, VERSION, *common, *sizes, *rest)
        directory.append(row + name)
        at += len(front) + len(packed)
        if at > MAX_BYTES:
            raise RoiError(
                f"{path.name} would have more than {MAX_BYTES} bytes",
                hint="Write fewer ROIs to one zip: one zip for each image",
            )
    rows, count = b"".join(directory), len(directory)
    file.write(rows)
    if count > 0xFFFF:
        record = 44, VERSION_64, VERSION_64, 0, 0, count, count, len(rows), at
        file.write(struct.pack("<4sQ2H2L4Q", END_64, *record))
        file.write(struct.pack("<4sLQL", END_64_PLACE, 0, at + len(rows), 1))
        count = 0xFFFF
    file.write(struct.pack("<4s4H2LH", END, 0, 0, count, count, len(rows), at, 0))


def read_rois(path: str | os.PathLike[str]) -> list[ImagejRoi]:
    """Read the ROIs of a zip, or the one of a ``.roi`` file, in the order of the file.

    As in ImageJ, the name of an entry without ``.roi`` is the name of the ROI, and
    entries that are no ``.roi`` are passed over. Names that occur twice are kept.
    Nothing is unpacked to disk, and what a zip says of itself is checked before it is
    believed: the list of entries before it is parsed, sizes before anything is unpacked.

    Raises
    ------
    RoiError
        The file cannot be read or is damaged (a part of it is never returned), is larger
        than 1 GiB packed or unpacked, unpacks to more than 200 times its size, has more
        than 500,000 entries, a name that points out of the zip or a link, or holds no ROI.
    FileNotFoundError
        There is no such file.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise RoiError(
            f"{path.name} has {size} bytes; the limit is {MAX_BYTES}",
            hint="Save fewer ROIs to one zip: one zip for each image",
        )
    if path.suffix.lower() == ".roi":
        return [_decode(path.read_bytes(), path.stem, path)]
    rois = []
    with open(path, "rb") as file:
        try:
            for entry in _safe_entries(file, size, path):
                data = _unpack(file, entry)  # also of what is no ROI: it may be a damaged name
                if entry.name.endswith(".roi") and not _is_mac(entry):
                    rois.append(_decode(data, entry.roi_name, path))
        except (_DamagedError, struct.error, zlib.error, UnicodeDecodeError) as error:
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


class _DamagedError(Exception):
    """Bytes that contradict each other."""


class _Entry(NamedTuple):
    """An entry of a zip, as its directory lists it."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    offset: int

    @property
    def roi_name(self) -> str:
        return self.name.replace("\\", "/").rpartition("/")[2][: -len(".roi")]


def _entries(file: BinaryIO, size: int) -> list[_Entry]:
    """Read the list of all entries of a zip of `size` bytes."""
    count, length, offset, stop = _end(file, size)
    begin = stop - length
    in_front = begin - offset
    if begin < 0 or in_front < 0:
        raise _DamagedError("its list of entries is not where it should be")
    if count > MAX_ENTRIES:
        raise _too_many(file, f"{count} entries", MAX_ENTRIES)
    if length > MAX_DIRECTORY:
        raise _too_many(file, f"a list of entries of {length} bytes", MAX_DIRECTORY)
    file.seek(begin)
    directory = file.read(length)
    # The count at the end of the file may lie. No entry is without this mark.
    if (marks := directory.count(ENTRY)) > MAX_ENTRIES:
        raise _too_many(file, f"{marks} entries", MAX_ENTRIES)
    entries = []
    at = 0
    while at < length:
        entry, at = _entry(directory, at, in_front)
        if entry.offset + LOCAL_FORMAT.size + entry.packed > begin:
            raise _DamagedError(f"entry {entry.name!r} reaches into the list of entries")
        entries.append(entry)
    if sum(entry.packed for entry in entries) > begin:
        raise _DamagedError("its entries overlap")
    if len(entries) & 0xFFFF != count & 0xFFFF:  # writers without zip64 count up to 65535
        raise _DamagedError(f"it says that it has {count} entries, and has {len(entries)}")
    return entries


def _too_many(file: BinaryIO, what: str, limit: int) -> RoiError:
    return RoiError(
        f"{Path(file.name).name} has {what}; the limit is {limit}",
        hint="Save fewer ROIs to one zip: one zip for each image",
    )


def _end(file: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """Return how many entries there are, length and offset of their list, and where it ends."""
    begin = max(0, size - LONGEST_END)
    file.seek(begin)
    tail = file.read()
    at = tail.rfind(END)
    # A comment may hold the mark too; the true one is followed by a comment up to the end.
    while at >= 0 and int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail) - at - 22:
        at = tail.rfind(END, 0, at)
    if at < 0:
        raise _DamagedError("its end is missing")
    disk, first_disk, here, count, length, offset = struct.unpack_from("<4H2L", tail, at + 4)
    stop = begin + at
    if at >= 76 and tail[at - 20 : at - 16] == END_64_PLACE:
        stop -= 76
        if tail[at - 76 : at - 72] != END_64:
            raise _DamagedError("its zip64 end is missing")
        disk, first_disk, here, count, length, offset = struct.unpack_from(
            "<2L4Q", tail, at - 76 + 16
        )
    if disk or first_disk or here != count:
        raise _DamagedError("it is one part of several")
    return count, length, offset, stop


def _entry(directory: bytes, at: int, in_front: int) -> tuple[_Entry, int]:
    """Parse an entry of the list; return it and where the next one begins."""
    fields = ENTRY_FORMAT.unpack_from(directory, at)
    mark, flags, method, crc, packed, size, names, extras, comments, mode, offset = fields
    name_at = at + ENTRY_FORMAT.size
    extra_at = name_at + names
    stop = extra_at + extras + comments
    if mark != ENTRY or stop > len(directory):
        raise _DamagedError("its list of entries is broken")
    raw = directory[name_at:extra_at]
    name = raw.decode("utf-8" if flags & UTF_8 else "cp437")
    if TOO_LONG in (packed, size, offset):
        extra = directory[extra_at : extra_at + extras]
        size, packed, offset = _long_fields(extra, (size, packed, offset))
    return _Entry(raw, name, flags, method, crc, packed, size, mode, offset + in_front), stop


def _long_fields(extra: bytes, fields: tuple[int, ...]) -> Iterator[int]:
    """Yield fields, those that do not fit in 32 bits from the zip64 part of an entry."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == ZIP_64:
            for field in fields:
                if field == TOO_LONG:
                    (field,) = struct.unpack_from("<Q", extra[: at + length], at)
                    at += 8
                yield field
            return
        at += length
    raise _DamagedError("a zip64 size is missing")


def _unpack(file: BinaryIO, entry: _Entry) -> bytes:
    """Return the bytes of an entry, never more than the directory says."""
    file.seek(entry.offset)
    mark, flags, method, names, extras = LOCAL_FORMAT.unpack(file.read(LOCAL_FORMAT.size))
    if mark != LOCAL or file.read(names) != entry.raw_name:
        raise _DamagedError(f"entry {entry.name!r} is not where the list says")
    if flags & ENCRYPTED or entry.flags & ENCRYPTED:
        raise _DamagedError(f"entry {entry.name!r} is encrypted")
    file.seek(extras, os.SEEK_CUR)
    data = file.read(entry.packed)
    if method != entry.method or method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _DamagedError(f"entry {entry.name!r} is packed by method {entry.method}")
    if method == zipfile.ZIP_DEFLATED:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        data = unpacker.decompress(data, entry.size + 1)
        if not unpacker.eof or unpacker.unused_data:
            raise _DamagedError(f"entry {entry.name!r} has another size than the list says")
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise _DamagedError(f"the checksum of entry {entry.name!r} is wrong")
    return data


def _safe_entries(file: BinaryIO, packed: int, path: Path) -> list[_Entry]:
    """Return the entries of a zip of `packed` bytes, whose names, kinds and sizes are safe."""
    entries = _entries(file, packed)
    way_out = "This is no zip of ROIs as ImageJ writes it: save it again in ImageJ"
    # Unpacking stops at the size that an entry states, so the sum is a true bound.
    size = sum(entry.size for entry in entries)
    limit = min(MAX_BYTES, max(MAX_RATIO * packed, SMALL))
    if size > limit:
        raise RoiError(
            f"{path.name} unpacks to {size} bytes; the limit for its {packed} bytes is {limit}",
            hint=way_out,
        )
    for entry in entries:
        name = entry.name.replace("\\", "/")
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
            raise RoiError(
                f"{path.name} has an entry that points out of it: {entry.name!r}", hint=way_out
            )
        if stat.S_IFMT(entry.mode >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RoiError(
                f"{path.name} has an entry that is a link or no file: {entry.name!r}", hint=way_out
            )
    return entries


def _is_mac(entry: _Entry) -> bool:
    """Tell whether an entry is what macOS adds for each file when it makes a zip."""
    return entry.name.startswith("__MACOSX/")


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
