"""The ``images`` section of ``opsef.yaml``: which images there are, and what is read of them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from opsef_bridge.engines import Parameters

__all__ = ["NAME_PATTERNS", "Images", "Measure", "Section", "Segment", "Substacks", "Tiles"]


class Section(Parameters):
    """A section of the file: as strict as the parameters of an engine."""


Channel = Annotated[int, Field(ge=0)]


class Segment(Section):
    """Which part of an image is segmented."""

    channel: Channel | Annotated[list[Channel], Field(min_length=1, max_length=8)] = 0
    """Number of the channel, from 0; or several, for engines that take them together (the
    others take the first). Colour images have none: they go to grey, but for engines that
    take colour."""

    def channels(self) -> list[int]:
        """Return the channels as a list."""
        return self.channel if isinstance(self.channel, list) else [self.channel]


class Measure(Section):
    """What is measured in the objects of each image."""

    channels: Literal["all"] | list[int | str] = Field([])
    """Channels whose intensities become columns of the tables: numbers from 0, names that the
    file gives, or ``all``. Of colour images they are red, green and blue. The mean of what is
    segmented is measured always."""

    @field_validator("channels", mode="before")
    @classmethod
    def _numbers_and_names(cls, value: Any) -> Any:
        many = value if isinstance(value, list) else [value]
        for one in many:
            named = isinstance(one, str) and one.strip()
            numbered = isinstance(one, int) and not isinstance(one, bool) and one >= 0
            if not (named or numbered):
                raise ValueError(f"{one!r} is no channel: give numbers from 0, names, or all")
        return "all" if many == ["all"] else many


RESERVED = (
    "id", "source", "series", "sha256", "size", "mtime", "axes", "shape", "pixel_size_x",
    "pixel_size_y", "pixel_size_z", "unit", "group", "parent", "include", "more", "part", "crop",
    "segment_channel", "projection", "channels", "time_step", "gone",
)  # fmt: skip
"""Columns of ``images/index.csv`` that have a meaning."""


class Substacks(Section):
    """Cuts the planes of a volume into shorter volumes; each is an image of its own."""

    size: int = Field(ge=1)
    """Planes of each; what is left over at the end is kept, shorter."""
    step: int | None = Field(None, ge=1)
    """Planes from one start to the next; by default `size`."""


class Tiles(Section):
    """Cuts large images into squares."""

    size: int = Field(1024, ge=64)
    """Side in pixels."""
    overlap: int = Field(64, ge=0)
    """Pixels that neighbours share: at least one object, or objects at seams are cut."""
    separate: bool = False
    """Whether each tile is an image of its own; else their labels become those of the whole
    image."""

    @model_validator(mode="after")
    def _overlap_below_half(self) -> Tiles:
        if 2 * self.overlap >= self.size:
            raise ValueError(f"overlap {self.overlap} is not below half of size {self.size}")
        return self


NAME_PATTERNS = {
    # CellVoyager: AssayPlate_X_B03_T0001F002L01A01Z01C01.tif
    "yokogawa": r"(?P<plate>.+)_(?P<well>[A-Z]{1,2}\d{2})_T(?P<time>\d{4})F(?P<field>\d{3})"
    r"L\d{2}A\d{2}Z(?P<plane>\d{2})C(?P<channel_number>\d{2})",
}
"""Named patterns for `Images.names`."""


class Images(Section):
    """Where the images are and how they are read."""

    source: list[str] = Field(min_length=1)
    """Files, folders or globs, relative to the project."""
    axes: str | None = None
    """Names of the axes, e.g. ``ZYX``, for files that do not say."""
    series: Literal["all"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = (
        "all"
    )
    """Which images of files that hold several, from 0; or ``all``."""
    times: Literal["all"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = (
        "all"
    )
    """Which time points, from 0; or ``all``. Each is an image of its own."""
    planes: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] | None = None
    """First plane of a volume, from 0, and the one behind the last."""
    substacks: Substacks | None = None
    """Cut volumes into shorter ones; each is an image of its own."""
    segment: Segment = Segment()
    """Which part of each image is segmented."""
    measure: Measure = Measure()
    """What is measured in the objects."""
    projection: Literal["none", "max", "sum", "median", "mean"] = "none"
    """How the planes of a volume become one image; ``none`` keeps the volume."""
    scale: float = Field(1.0, gt=0, le=1)
    """1, or 1/2, 1/3, ...: blocks of pixels become their mean before every recipe; labels
    come back in the pixels of the source."""
    tiles: Tiles | None = None
    """Cut large images into squares, whose labels are put together again."""
    names: str | None = None
    """Regular expression with named groups, or ``yokogawa``: each group becomes a column of
    ``images/index.csv``, e.g. plate, well and field."""

    @field_validator("source", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("planes")
    @classmethod
    def _planes_in_order(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"{value[0]} is not before {value[1]}: it is [first, behind the last]")
        return value

    @field_validator("scale")
    @classmethod
    def _whole_blocks(cls, value: float) -> float:
        if abs(1 / value - round(1 / value)) > 0.01:
            raise ValueError("choose 1, 0.5, 0.333, 0.25 ...; other scales belong to the models")
        return value

    @field_validator("names")
    @classmethod
    def _pattern_with_groups(cls, value: str | None) -> str | None:
        if value is not None and value not in NAME_PATTERNS:
            try:
                groups = re.compile(value).groupindex
            except re.error as error:
                raise ValueError(f"it is no regular expression ({error})") from None
            taken = [name for name in groups if name in RESERVED]
            if taken:
                raise ValueError(f"{taken[0]} is a column of its own; name the group otherwise")
            if not groups:
                known = ", ".join(NAME_PATTERNS)
                raise ValueError(f"it has no named group (?P<well>...), and is none of {known}")
        return value

    @property
    def assumed_axes(self) -> str | None:
        """Return `axes` as readers take what is only for files that do not say."""
        return None if self.axes is None else f"?{self.axes}"

    @property
    def block(self) -> int:
        """Side of the blocks of pixels that become one, by `scale`."""
        return round(1 / self.scale)

    def name_pattern(self) -> re.Pattern[str] | None:
        """Return the compiled `names`."""
        if self.names is None:
            return None
        return re.compile(NAME_PATTERNS.get(self.names, self.names))
