"""The layout of an OpSeF run folder and its file lists: which mask belongs to which picture.

Lists of OpSeF have ``/`` and ``\\n``, those of AnnotatorJ what its system has; a line is the
picture and one or more masks, relative to the run folder but with a separator in front.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from opsef_bridge.errors import RoiError

__all__ = [
    "CLASSES",
    "FOLDERS",
    "FROM_FIJI",
    "LISTS",
    "MASKS",
    "PICTURES",
    "RETURNED",
    "ROIS",
    "Pair",
    "class_of",
    "inside",
    "pairs_text",
    "read_pairs",
    "without_class",
]

FOLDERS = (
    "00_InputRaw",
    "01_Input",
    "02_SegMasks",
    "03_SegOverlays",
    "04_BasicQuantification",
    "05_AdditionalChannel",
    "06_AdditionalMask",
    "07_ClassifiedSegMasks",
    "08_ClassifiedSegOverlays",
    "09_ClassifiedQuantification",
    "10_ImportExport",
    "11_SegMasksFromFiji",
    "12_TmpRoisFromFiji",
    "13_ClassifiedSegMasksFromFiji",
)
"""OpSeF makes the first twelve, AnnotatorJ the last two."""

PICTURES, MASKS, LISTS = FOLDERS[0], FOLDERS[2], FOLDERS[10]
RETURNED, ROIS, CLASSES = FOLDERS[11:]

FROM_FIJI = "FilePairList_fromFiji_"
"""How the names of the lists begin that AnnotatorJ's export writes (Masks, Classes)."""

_CLASS = re.compile(r"_MaskClass([0-9]{2})")


class Pair(NamedTuple):
    """A line of a list: the picture and its masks, with ``/`` and without one in front."""

    picture: str
    files: tuple[str, ...]


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Read a FilePairList of OpSeF or AnnotatorJ.

    Line ends, the kind and number of separators, a byte order mark, blank lines, a
    ``root;...`` line and a ``;`` at the end do not matter. Lines may have any number of masks,
    also none. Nothing is looked up: see `inside`.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "FilePairList_fromFiji_Masks.txt"
    >>> _ = path.write_bytes(b"root;C:/x\\r\\n\\\\00_InputRaw\\\\a.tif;/11/a.tif;\\r\\n")
    >>> read_pairs(path)
    [Pair(picture='00_InputRaw/a.tif', files=('11/a.tif',))]
    """
    pairs = []
    for line in re.split(r"[\r\n]+", _decoded(Path(path).read_bytes())):
        columns = [_plain(column) for column in line.split(";")]
        if columns[0] and columns[0].lower() != "root":
            pairs.append(Pair(columns[0], tuple(filter(None, columns[1:]))))
    return pairs


def pairs_text(pairs: Iterable[Pair]) -> str:
    """Return the text of a list that AnnotatorJ opens.

    It has neither a root line nor a blank one: AnnotatorJ dies of both.

    Examples
    --------
    >>> pairs_text([Pair("00_InputRaw/a.tif", ("02_SegMasks/a.tif",))])
    '/00_InputRaw/a.tif;/02_SegMasks/a.tif\\n'
    """
    return "".join(
        ";".join(f"/{name}" for name in (pair.picture, *pair.files)) + "\n" for pair in pairs
    )


def inside(root: str | os.PathLike[str], relative: str) -> Path:
    """Return the path of a file of the run folder `root`, which need not exist.

    Raises
    ------
    RoiError
        It would lie outside: by ``..``, by a drive letter, or by a link.
    """
    root = Path(root)
    parts = [part for part in relative.replace("\\", "/").split("/") if part not in ("", ".")]
    wrong = ".." in parts or "\0" in relative or bool(parts and parts[0][1:2] == ":")
    path = root if wrong else root.joinpath(*parts)
    if wrong or not parts or not path.resolve().is_relative_to(root.resolve()):
        raise RoiError(
            f"the path {relative!r} leads out of the folder {root.name}",
            hint="Lists name files of their own run folder, such as /00_InputRaw/a.tif: correct "
            "the list, or copy the file into the folder",
        )
    return path


def class_of(name: str) -> int:
    """Return the class that the name of a mask states, 0 if it states none.

    Examples
    --------
    >>> class_of("000_CP_MaskClass05_0.4_a.tif"), class_of("000_CP_Mask_0.4_a.tif")
    (5, 0)
    """
    found = _CLASS.search(name)
    return int(found[1]) if found else 0


def without_class(name: str) -> str:
    """Return the name of a mask without the class: the same for all masks of one image.

    Examples
    --------
    >>> without_class("000_CP_MaskClass05_0.4_a.tif")
    '000_CP_Mask_0.4_a.tif'
    """
    return _CLASS.sub("_Mask", name, count=1)


def _decoded(data: bytes) -> str:
    """Decode a text of any system: UTF-8 if it is that, else one byte for each letter."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _plain(column: str) -> str:
    return re.sub(r"[\\/]+", "/", column.strip()).lstrip("/")
