"""The ``analyse`` section of ``opsef.yaml``: what the tables of objects hold."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from opsef_bridge.config.images import Section

__all__ = ["STATISTICS", "Analyse"]

STATISTICS = ("mean", "median", "min", "max", "sum", "std")
"""Of the pixels of an object; percentiles are named ``p5``, ``p99.5``."""

PERCENTILE = re.compile(r"p(\d{1,2}(\.\d+)?|100)")


class Analyse(Section):
    """What is measured in the objects, and how tables are written."""

    properties: Literal["all"] | list[str] = "all"
    """Properties of shape: all, or a list of the columns of ``tables/columns.md``. Area and
    centroid are always there."""
    intensities: list[str] = Field(default_factory=lambda: list(STATISTICS))
    """Statistics of each channel of ``images.measure``: mean, median, min, max, sum, std, and
    percentiles such as p5 or p99.5."""
    background: Annotated[float, Field(ge=0, le=100)] | Literal["none"] = "none"
    """Percentile of the pixels outside of all objects, per image and channel, that is taken off
    the intensities, in columns of their own: 50 is the median."""
    ratios: list[tuple[int | str, int | str]] = Field([])
    """Pairs of channels of ``images.measure``, by name or number: mean of the first by mean of
    the second; without their backgrounds, where ``background`` is given."""
    neighbours: Annotated[float, Field(gt=0)] | Literal["none"] = "none"
    """Count the objects whose centre is within this distance of an object's centre; in the unit
    of the image, pixels where its calibration is not known. Distance to the nearest centre and
    the number of objects that touch come along."""
    conditions: str | None = None
    """CSV file beside ``opsef.yaml`` with the condition of each image; joined by its column
    ``image``, ``id`` or ``file``, or by plate and well."""
    decimal: Literal[".", ","] = "."
    """Decimal sign of CSV files; with a comma, columns are parted by semicolons."""

    @field_validator("intensities")
    @classmethod
    def _known(cls, value: list[Any]) -> list[Any]:
        for one in value:
            if one not in STATISTICS and not PERCENTILE.fullmatch(one):
                raise ValueError(
                    f"{one!r} is no statistic: choose of {', '.join(STATISTICS)}, or a "
                    "percentile such as p5"
                )
        return list(dict.fromkeys(value))
