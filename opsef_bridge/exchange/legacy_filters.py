"""OpSeF's ``filter_para`` as ``postprocess.keep``.

OpSeF deleted objects outside of six ranges whose ends did not belong to them, measured in the
display image. So at its defaults (circularity below 1, eccentricity above 0) it deleted
round objects; defaults are not carried over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from opsef_bridge.errors import InputError
from opsef_bridge.exchange.legacy_values import Said, number, tidy

__all__ = ["keep_of"]

_DEFAULTS = {
    "area": (0, 10_000),
    "perimeter": (0, 99_999_999),
    "circularity": (0, 1),
    "mean_intensity": (0, 65_535),
    "sum_intensity": (0, 1e14),
    "eccentricity": (0, 10),
}

_LARGEST = {"perimeter": 99_999_999, "eccentricity": 1}
"""From these values on no object is restricted."""


def keep_of(ranges: Mapping[str, Any], say: Said) -> dict[str, Any]:
    """Return the ``postprocess`` block that keeps what OpSeF's filter kept, as far as it can.

    Parameters
    ----------
    ranges : mapping of str to (low, high)
        ``run_def["filter_para"]``.
    say : Said
        Gets sentences about what is not the same.

    Raises
    ------
    InputError
        A range is not two numbers.

    Examples
    --------
    >>> keep_of({"area": [50, 1500], "perimeter": [0, 99999999]}, Said())
    {'keep': [{'area': [51, 1499]}]}
    """
    keep = []
    for name, ends in ranges.items():
        low, high = _ends(name, ends)
        if (low, high) == _DEFAULTS.get(name):
            _default(name, say)
        elif name == "area":
            keep += _area(low, high, say)
        elif name in _LARGEST:
            keep += _real(name, low, high, say)
        elif name == "circularity":
            keep += _circularity(low, high, say)
        else:
            _nothing(name, low, high, say)
    return {"keep": keep} if keep else {}


def _ends(name: str, ends: Any) -> tuple[float, float]:
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise InputError(f"filter_para: {name} is {ends!r}", hint="It must be two numbers")
    low, high = (number(end, f"filter_para: {name}") for end in ends)
    if low >= high:
        raise InputError(
            f"filter_para: {name} from {tidy(low)} to {tidy(high)} keeps nothing",
            hint="The first number must be the smaller one",
        )
    return low, high


def _default(name: str, say: Said) -> None:
    if name == "area":
        say("OpSeF deleted objects of 10,000 px and more; this default is not carried over.")
    elif name in ("circularity", "eccentricity"):
        say(
            "OpSeF deleted round objects at its defaults (circularity 1 and more, eccentricity "
            "0); here they are kept."
        )


def _area(low: float, high: float, say: Said) -> list[dict[str, Any]]:
    """Areas are whole numbers, so an open end can be said by its neighbour."""
    first = math.floor(low) + 1 if low >= 1 else None
    last = math.ceil(high) - 1
    if last < (first or 1):
        raise InputError(
            f"filter_para: area from {tidy(low)} to {tidy(high)} keeps nothing",
            hint="No whole number lies between them",
        )
    say(f"area: the ends {tidy(low)} and {tidy(high)} did not belong to OpSeF's range.")
    return [{"area": [first, last]}]


def _real(name: str, low: float, high: float, say: Said) -> list[dict[str, Any]]:
    bottom = None if low <= 0 else tidy(low)
    top = None if high >= _LARGEST[name] else tidy(high)
    if name == "eccentricity" and low == 0:
        say("eccentricity: OpSeF deleted round objects (0); here they are kept.")
    if bottom is None and top is None:
        return []
    say(f"{name}: the ends of the range belong to it here, and did not in OpSeF.")
    return [{name: [bottom, top]}]


def _circularity(low: float, high: float, say: Said) -> list[dict[str, Any]]:
    """OpSeF's, pi x equivalent diameter / perimeter, is the root of the one here."""
    say(
        f"circularity from {tidy(low)} to {tidy(high)}: its square is the circularity here, "
        "4 pi area / perimeter^2; the ends of the range belong to it."
    )
    bottom = None if low <= 0 else tidy(low * low)
    top = None if high >= 1 else tidy(high * high)
    return [] if bottom is None and top is None else [{"circularity": [bottom, top]}]


def _nothing(name: str, low: float, high: float, say: Said) -> None:
    between = f"from {tidy(low)} to {tidy(high)}"
    if name in _DEFAULTS:
        say(
            f"{name} {between} is not carried over: objects are not kept by intensity here. "
            "OpSeF measured in its 8-bit display image."
        )
    else:
        say(f"filter_para: {name} {between} is not known and is not carried over.")
