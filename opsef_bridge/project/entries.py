"""A row of ``images/index.csv``: one image, and how its file is to be read."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images import Region
from opsef_bridge.images.calibration import MICROMETRES, to_micrometres
from opsef_bridge.images.projection import PROJECTIONS

__all__ = ["ImageEntry", "parse_row", "safe_name"]

LENGTHS = ("pixel_size_x", "pixel_size_y", "pixel_size_z", "time_step")
"""Columns of the index that hold what cannot be negative."""

_YES = {"yes", "true", "1", "ja", "wahr", "oui", "vrai"}
_NO = {"no", "false", "0", "nein", "falsch", "non", "faux"}
"""Excel writes them in the language of the computer."""


@dataclass(frozen=True)
class ImageEntry:
    """One row of ``images/index.csv``; `more` are the user's own columns.

    Lengths are in `unit`; a pixel size of 0 means that none is known. `axes` and `shape`
    are empty for a file that could not be read when it was imported. A time series, a
    volume in substacks and a tiled image are several rows with one `parent`.

    `part` is the part of the series that the row is, as `Region.from_text` reads it. Three
    columns are for choices of a person, empty ones follow ``opsef.yaml``: `crop` (a part too,
    in indices of the series), `segment_channel` (its number or name) and `projection`.
    `channels` are the names in the file, parted by ``|``; `time_step` is in seconds. `gone` is
    ``yes`` for what is not asked for any more, by ``opsef.yaml`` or because its file is gone.
    """

    id: str
    source: str
    series: int = 0
    sha256: str = ""
    size: int = 0
    mtime: float = 0.0
    axes: str = ""
    shape: tuple[int, ...] = ()
    pixel_size_x: float = 0.0
    pixel_size_y: float = 0.0
    pixel_size_z: float = 0.0
    unit: str = "pixel"
    group: str = "default"
    parent: str = ""
    include: bool = True
    more: dict[str, str] = field(default_factory=dict)
    part: str = ""
    crop: str = ""
    segment_channel: str = ""
    projection: str = ""
    channels: str = ""
    time_step: float = 0.0
    gone: str = ""

    @property
    def region(self) -> Region:
        """What is read of the series: the part, where `crop` does not say otherwise."""
        part, crop = Region.from_text(self.part), Region.from_text(self.crop)
        return Region.from_json(part.to_json() | crop.to_json())

    def origin(self) -> dict[str, str]:
        """Return what the image is of its file, for the texts of what is made from it."""
        told = {
            "series": str(self.series) if self.series else "",
            "part": self.region.text,
            "channels of the file": self.channels.replace("|", ", "),
            "time step": f"{self.time_step:g} s" if self.time_step else "",
        }
        return {name: text for name, text in told.items() if text}

    def info_text(self) -> str:
        """Return lines for the text of a label file: the id, and `origin`."""
        told = {"image": self.id} | self.origin()
        return "\n".join(f"{name}: {text}" for name, text in told.items())

    def calibration(self) -> dict[str, Any]:
        """Return what a pixel measures and what the image is of its file, as JSON values.

        ``pixel_size`` by axis, in ``unit``; and, where there is something, ``series``,
        ``part``, ``channels`` (the names in the file) and ``time_step`` (seconds).

        Examples
        --------
        >>> entry = ImageEntry("i00001-a", "a.tif", pixel_size_x=0.5, unit="um", part="t=3")
        >>> entry.calibration()
        {'pixel_size': {'X': 0.5}, 'unit': 'um', 'part': 't=3'}
        """
        told = {
            "series": self.series,
            "part": self.region.text,
            "channels": self.channels.split("|") if self.channels else [],
            "time_step": self.time_step,
        }
        known = {name: value for name, value in told.items() if value}
        return {"pixel_size": self.spacing, "unit": self.unit, **known}

    def channel_numbers(self) -> list[int]:
        """Return the channels of `segment_channel`, from 0; none where it is empty.

        Raises
        ------
        ImageError
            It is no number, and no name of a channel of the file.
        """
        names = self.channels.split("|") if self.channels else []
        wanted = [part.strip() for part in self.segment_channel.split("|") if part.strip()]
        unknown = [one for one in wanted if not one.isdigit() and one not in names]
        if unknown:
            raise ImageError(
                f"segment_channel of {self.id} is {unknown[0]!r}, the file names {names or 'none'}",
                hint="Correct it in images/index.csv: a number from 0, or one of these names",
            )
        return [int(one) if one.isdigit() else names.index(one) for one in wanted]

    @property
    def spacing(self) -> dict[str, float]:
        """Known pixel sizes by axis."""
        sizes = {"Z": self.pixel_size_z, "Y": self.pixel_size_y, "X": self.pixel_size_x}
        return {axis: size for axis, size in sizes.items() if size}

    def to_row(self) -> dict[str, Any]:
        """Return the row of the index."""
        row = asdict(self)
        row |= row.pop("more")
        row["shape"] = "x".join(map(str, self.shape))
        row["include"] = "yes" if self.include else "no"
        return row

    @classmethod
    def from_row(cls, row: dict[str, str]) -> ImageEntry:
        """Read a row of the index; the inverse of `to_row`."""
        known = {f.name for f in fields(cls)} - {"more"}
        values: dict[str, Any] = {k: v for k, v in row.items() if k in known}
        for key in ("series", "size"):
            values[key] = _integer(row, key)
        values["mtime"] = _number(row, "mtime")
        for key in LENGTHS:
            values[key] = _length(row, key)
        _check_unit(row)
        shape = values.get("shape") or ""
        values["shape"] = tuple(int(side) for side in shape.split("x") if side)
        _check_axes(values.get("axes") or "", values["shape"])
        for key in ("id", "source"):
            if "\n" in (row.get(key) or ""):
                raise ValueError(f"{key} goes over several lines: is there a quotation mark in it?")
        include = (values.get("include") or "yes").strip().lower()
        if include not in _YES | _NO:
            raise ValueError(f"include is {include!r}, neither yes nor no")
        values["include"] = include in _YES
        safe_name(values.get("id") or "")
        entry = cls(**values, more={k: v for k, v in row.items() if k not in known})
        _ = entry.region  # an error now, not when it is read
        crop = Region.from_text(entry.crop)
        if crop.t is not None or crop.c is not None:
            raise ValueError(f"crop is {entry.crop!r}: it has z, y and x, but no t or c")
        if entry.projection not in ("", *PROJECTIONS):
            raise ValueError(f"projection is {entry.projection!r}, none of {PROJECTIONS}")
        return entry


def parse_row(row: dict[str, str]) -> ImageEntry:
    """Read a row of the index; what is wrong is a ValueError that names the image.

    Raises
    ------
    ValueError
        A cell cannot be understood.
    """
    try:
        return ImageEntry.from_row(row)
    except (ValueError, InputError) as error:
        raise ValueError(f"row {row.get('id')!r}: {error}") from None


def _check_axes(axes: str, shape: tuple[int, ...]) -> None:
    """Refuse axes and shape that cannot be of one image; both are empty where it is unread."""
    fine = set(axes) <= set("TZCYXS") and len(set(axes)) == len(axes) and {"Y", "X"} <= set(axes)
    if (axes and not fine) or len(axes) != len(shape):
        sides = "x".join(map(str, shape))
        raise ValueError(
            f"axes {axes!r} and shape {sides!r} are not of one image: clear both cells, and the "
            "next import fills them"
        )


def _integer(row: dict[str, str], key: str) -> int:
    try:
        return int(row.get(key) or "0")
    except ValueError:
        raise ValueError(f"{key} is {row[key]!r}, which is no integer") from None


def _number(row: dict[str, str], key: str) -> float:
    text = row.get(key) or "0"
    try:
        # Excel writes a decimal comma where the computer speaks German or French.
        number = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{key} is {text!r}, which is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{key} is {text!r}, which is no finite number")
    return number


def _length(row: dict[str, str], key: str) -> float:
    number = _number(row, key)
    if number < 0:
        raise ValueError(f"{key} is {row[key]!r}: it is above 0, or 0 where it is not known")
    return number


def _check_unit(row: dict[str, str]) -> None:
    unit = row.get("unit") or "pixel"
    if unit not in ("pixel", "pixels") and to_micrometres(1, unit) is None:
        raise ValueError(f"unit is {unit!r}, none of pixel, {', '.join(MICROMETRES)}")


def safe_name(name: str) -> str:
    """Return `name` if it can be a part of a path that stays inside its folder.

    Ids come from files that people edit and, later, from requests: ``../x`` must not lead
    out of the project.

    Raises
    ------
    ValueError
        It holds something else than letters, digits, ``-``, ``_`` and single dots.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name):
        raise ValueError(f"{name!r} is no id: use letters, digits, '-', '_' and '.'")
    return name
