"""Ranges of numbers: between the rungs of a ladder, within the limits of a field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

__all__ = ["clipped", "is_number", "limits", "neighbours"]


def neighbours(
    ladder: Sequence[float], best: Sequence[float], *, log: bool = False
) -> tuple[float, float]:
    """Return the rungs beside the best ones; where the ladder ends, one rung further.

    A ladder of one rung: half of it to either side, or from two thirds to one and a half
    of it with `log`; 1 to either side of 0.

    Parameters
    ----------
    ladder : sequence of float
        Sorted, without doubles.
    best : sequence of float
        Some of them.
    log : bool
        Whether one rung further is so many times more, not so much more.

    Examples
    --------
    >>> neighbours([0.3, 0.5, 0.7, 0.9], [0.5, 0.7])
    (0.3, 0.9)
    >>> neighbours([2, 4, 8], [8], log=True)
    (4.0, 16.0)
    >>> neighbours([4], [4])
    (2.0, 6.0)
    """
    if log:
        low, high = neighbours([math.log(v) for v in ladder], [math.log(v) for v in best])
        if len(ladder) == 1:
            return ladder[0] / 1.5, ladder[0] * 1.5
        return float(f"{math.exp(low):.12g}"), float(f"{math.exp(high):.12g}")
    if len(ladder) == 1:
        reach = abs(ladder[0]) / 2 or 1.0
        return ladder[0] - reach, ladder[0] + reach
    steps = [b - a for a, b in pairwise(ladder)]
    below = [rung for rung in ladder if rung < min(best)]
    above = [rung for rung in ladder if rung > max(best)]
    return (
        float(below[-1] if below else ladder[0] - steps[0]),
        float(above[0] if above else ladder[-1] + steps[-1]),
    )


def limits(field: FieldInfo) -> tuple[float, float, bool, bool]:
    """Return the least and largest number of a field, and whether they are themselves out.

    Examples
    --------
    >>> from pydantic import Field
    >>> limits(Field(0.5, gt=0, le=1))
    (0.0, 1.0, True, False)
    """
    low, high, above, below = -math.inf, math.inf, False, False
    for mark in [*field.metadata, *_marks(field.annotation)]:
        for name in ("ge", "gt"):
            bound = getattr(mark, name, None)
            if bound is not None and bound >= low:
                low, above = float(bound), name == "gt"
        for name in ("le", "lt"):
            bound = getattr(mark, name, None)
            if bound is not None and bound <= high:
                high, below = float(bound), name == "lt"
    return low, high, above, below


def _marks(annotation: Any) -> list[Any]:
    """Return the limits inside of ``Literal["auto"] | Annotated[float, Field(gt=0)]``."""
    if get_origin(annotation) is Annotated:
        marks = get_args(annotation)[1:]
        return [m for one in marks for m in (one.metadata if isinstance(one, FieldInfo) else [one])]
    return [mark for one in get_args(annotation) for mark in _marks(one)]


def clipped(
    wanted: tuple[float, float],
    bounds: tuple[float, float, bool, bool],
    best: Sequence[float],
    *,
    integer: bool,
) -> tuple[float, float]:
    """Cut a range to limits, as `limits` gives them, and keep the best values in it.

    Examples
    --------
    >>> clipped((-0.2, 0.8), (0.0, 1.0, True, True), [0.3], integer=False)
    (0.008, 0.8)
    >>> clipped((2.5, 7.5), (1, 7, False, False), [5], integer=True)
    (2, 7)
    """
    low, high, above, below = bounds
    if integer:
        least = max(math.floor(wanted[0]), math.floor(low) + 1 if above else low)
        most = min(math.ceil(wanted[1]), math.ceil(high) - 1 if below else high)
        return int(least), int(most)
    margin = (min(wanted[1], high) - max(wanted[0], low)) / 100
    least = max(wanted[0], low + margin if above else low)
    most = min(wanted[1], high - margin if below else high)
    return min(least, *best), max(most, *best)


def is_number(value: Any) -> bool:
    """Return whether `value` is a number; truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
