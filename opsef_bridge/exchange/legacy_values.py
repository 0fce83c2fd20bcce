"""Values of OpSeF's settings, checked, and the sentences about what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from opsef_bridge.errors import InputError

__all__ = ["Said", "flag", "listed", "number", "part", "tidy", "word"]


class Said:
    """Sentences for a person, in the order in which they were said, each once.

    Examples
    --------
    >>> say = Said()
    >>> say("One.")
    >>> say("One.")
    >>> list(say)
    ['One.']
    """

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def __call__(self, sentence: str) -> None:
        self._sentences[sentence] = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)


def part(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the dictionary `key` of the settings; an empty one where there is none.

    Raises
    ------
    InputError
        It is no dictionary.
    """
    value = settings.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"the setting {key} is {value!r}", hint="It must be a dictionary")
    return value


def listed(settings: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list `key` of the settings; an empty one where there is none.

    Raises
    ------
    InputError
        It is no list.
    """
    value = settings.get(key)
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    raise InputError(f"the setting {key} is {value!r}", hint="It must be a list")


def flag(settings: Mapping[str, Any], key: str) -> bool:
    """Return whether `key` of the settings is switched on."""
    return settings.get(key) in (True, 1)


def word(value: Any) -> str:
    """Return a setting as text."""
    return value if isinstance(value, str) else str(value)


def number(value: Any, what: str) -> float:
    """Return a setting as a finite number.

    Raises
    ------
    InputError
        It is none; the message begins with `what`.
    """
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise InputError(f"{what} is {value!r}", hint="It must be a finite number")


def tidy(value: float) -> int | float:
    """Return a number as a person would write it.

    Examples
    --------
    >>> tidy(50.0), tidy(1 / 3)
    (50, 0.3333)
    """
    return int(value) if value == int(value) else round(value, 4)
