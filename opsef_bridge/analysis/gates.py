"""Gates: conditions on the columns of a table, such as ``area > 200 and solidity < 0.9``.

A small language of its own; nothing of a gate is ever run as code. From the loosest to the
tightest binding:

====================================  ==========================================
``a or b``                            one of both
``a and b``                           both
``not a``                             the opposite
``< <= > >= == !=``, chained          ``10 < area <= 200``; a single ``=`` is refused
``in``, ``not in``                    ``class in (1, 2)``, ``well not in ("A1", "B2")``
``+ -``, then ``* /``, then ``-a``    arithmetic
====================================  ==========================================

Numbers are written ``12``, ``0.5`` or ``1e3``, text in quotes. A column is written by its name;
in backquotes where that is no word: ```1st channel` > 5``. A column of yes and no is a condition
by itself: ``not touches_border``. Whatever is compared with a missing value (NaN, empty text) does
not hold, ``!=`` and ``not in`` too; ``not (...)`` turns that into yes, as with any condition.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Gate", "parse_gate"]

LONGEST = 2000
"""Characters of a gate."""

DEEPEST = 50
"""Brackets, signs and ``not`` within each other."""

TOKEN = re.compile(
    r"""\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    |(?P<text>"[^"]*"|'[^']*')
    |`(?P<quoted>[^`]+)`
    |(?P<word>[^\W\d]\w*)
    |(?P<sign><=|>=|==|!=|[<>=+\-*/(),\[\]]))""",
    re.VERBOSE,
)
COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
    "==": np.equal, "!=": np.not_equal,
}  # fmt: skip
COMPUTED: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide,
}  # fmt: skip
EXAMPLE = "Write it like: area > 200 and (class == 1 or not touches_border)"
KEYWORDS = ("and", "or", "not", "in")


@dataclass(frozen=True)
class Gate:
    """A parsed condition.

    Parameters
    ----------
    text : str
        As it was written.
    columns : tuple of str
        The columns that it needs, each once, in the order of the text.
    """

    text: str
    columns: tuple[str, ...]
    _tree: tuple[Any, ...]

    def select(self, table: pd.DataFrame) -> np.ndarray:
        """Return which rows of a table the condition holds for.

        Parameters
        ----------
        table : DataFrame of N rows

        Returns
        -------
        (N,) ndarray of bool

        Raises
        ------
        InputError
            The table lacks a column, or text is compared with numbers.
        """
        for name in self.columns:
            if name not in table:
                near = difflib.get_close_matches(name, list(map(str, table.columns)), 3)
                raise InputError(
                    f"the table has no column {name!r}, which the gate {self.text!r} needs",
                    hint=f"Did you mean {' or '.join(near)}?"
                    if near
                    else f"It has {', '.join(map(str, table.columns))}",
                )
        with np.errstate(all="ignore"):  # what is divided by 0 is infinite or NaN, as in a table
            found = _value(self._tree, table, self.text)
        if _kind(found) != "condition":
            raise _no_condition(self.text)
        return np.array(np.broadcast_to(found, len(table)))


def parse_gate(text: str) -> Gate:
    """Read a condition on columns.

    Parameters
    ----------
    text : str
        At most 2000 characters, in the language of this module's docstring.

    Raises
    ------
    InputError
        It is no condition; the message marks the place.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"area": [50, 300, 400], "solidity": [0.95, 0.8, 0.95]})
    >>> gate = parse_gate("area > 200 and solidity < 0.9")
    >>> gate.select(table)
    array([False,  True, False])
    >>> parse_gate("area >").select(table)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    opsef_bridge.errors.InputError: the gate ends where a value should stand: area > <here>...
    """
    if len(text) > LONGEST:
        raise InputError(
            f"the gate has {len(text)} characters, the limit is {LONGEST}",
            hint="Part it into several",
        )
    parser = _Parser(text)
    tree = parser.whole()
    return Gate(text, tuple(dict.fromkeys(_columns(tree))), tree)


class _Parser:
    """One method for each level of binding; each returns a tree of tuples (kind, ...)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.at = 0
        self.depth = 0

    def whole(self) -> tuple[Any, ...]:
        tree = self.either()
        if self.at < len(self.tokens):
            self.fail("cannot be understood")
        return tree

    def either(self) -> tuple[Any, ...]:
        parts = [self.both()]
        while self.take("or"):
            parts.append(self.both())
        return ("or", *parts) if len(parts) > 1 else parts[0]

    def both(self) -> tuple[Any, ...]:
        parts = [self.opposite()]
        while self.take("and"):
            parts.append(self.opposite())
        return ("and", *parts) if len(parts) > 1 else parts[0]

    def opposite(self) -> tuple[Any, ...]:
        if self.take("not"):
            return ("not", self.deeper(self.opposite))
        return self.comparison()

    def comparison(self) -> tuple[Any, ...]:
        parts: list[Any] = [self.total()]
        while True:
            if sign := self.take(*COMPARED):
                parts += [sign, self.total()]
                continue
            if self.peek() == "=":
                self.fail("compares nothing", hint="Two signs compare: area == 200")
            negated = self.peek() == "not" and self.peek(1) == "in"
            if len(parts) > 1 or not (negated or self.peek() == "in"):
                return ("compare", *parts) if len(parts) > 1 else parts[0]
            self.at += 2 if negated else 1
            inside = ("in", parts[0], self.choices(), negated)
            return inside

    def choices(self) -> tuple[Any, ...]:
        closing = {"(": ")", "[": "]"}.get(self.take("(", "[") or "")
        if closing is None:
            self.fail("should be a list in brackets, such as (1, 2)")
        found = [self.total()]
        while self.take(","):
            found.append(self.total())
        self.must(closing)
        return tuple(found)

    def total(self) -> tuple[Any, ...]:
        return self.chain(self.product, "+", "-")

    def product(self) -> tuple[Any, ...]:
        return self.chain(self.signed, "*", "/")

    def chain(self, part: Callable[[], tuple[Any, ...]], *signs: str) -> tuple[Any, ...]:
        first, rest = part(), []
        while sign := self.take(*signs):
            rest.append((sign, part()))
        return ("compute", first, *rest) if rest else first

    def signed(self) -> tuple[Any, ...]:
        if self.take("-"):
            return ("compute", ("number", 0.0), ("-", self.deeper(self.signed)))
        return self.atom()

    def atom(self) -> tuple[Any, ...]:
        if self.at == len(self.tokens):
            raise InputError(
                f"the gate ends where a value should stand: {self.text} <here>", hint=EXAMPLE
            )
        kind, value, _ = self.tokens[self.at]
        if kind in ("number", "text", "column"):
            self.at += 1
            return (kind, value)
        if self.take("("):
            inner = self.deeper(self.either)
            self.must(")")
            return inner
        self.fail("should be a value, a column or a bracket")

    def deeper(self, part: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"lies within more than {DEEPEST} brackets and signs", hint="Write less")
        tree = part()
        self.depth -= 1
        return tree

    def peek(self, ahead: int = 0) -> str | None:
        """The sign or keyword that comes next, None where something else does."""
        if self.at + ahead >= len(self.tokens):
            return None
        kind, value, _ = self.tokens[self.at + ahead]
        return value if kind == "sign" else None

    def take(self, *signs: str) -> str | None:
        found = self.peek()
        if found in signs:
            self.at += 1
            return found
        return None

    def must(self, sign: str) -> None:
        if not self.take(sign):
            self.fail(f"should be {sign}")

    def fail(self, problem: str, hint: str = EXAMPLE) -> NoReturn:
        if self.at == len(self.tokens):
            raise InputError(
                f"the gate ends too early, what follows {problem}: {self.text} <here>", hint=hint
            )
        start = self.tokens[self.at][2]
        rest = self.text[start:]
        raise InputError(f"{rest!r} {problem}: {self.text[:start]}<here>{rest}", hint=hint)


def _tokens(text: str) -> Iterator[tuple[str, Any, int]]:
    """Yield (kind, value, where it starts); keywords are signs."""
    at, end = 0, len(text.rstrip())
    if not end:
        raise InputError("the gate is empty", hint="Write a condition, such as area > 200")
    while at < end:
        found = TOKEN.match(text, at)
        if found is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            rest = text[start:]
            raise InputError(
                f"{rest!r} cannot be understood: {text[:start]}<here>{rest}",
                hint="Text stands in quotes, odd names of columns in backquotes",
            )
        kind = found.lastgroup or ""
        value: Any = found[kind]
        start = found.end() - len(value)
        at = found.end()
        if kind == "word" and value.lower() in KEYWORDS:
            yield "sign", value.lower(), start
        elif kind in ("word", "quoted"):
            yield "column", value, start
        elif kind == "number":
            yield kind, float(value), start
        else:
            yield kind, value[1:-1] if kind == "text" else value, start


def _columns(tree: tuple[Any, ...]) -> Iterator[str]:
    if tree[0] == "column":
        yield tree[1]
    for part in tree[1:]:
        if isinstance(part, tuple):
            # A list of choices and a pair of sign and operand are tuples without a kind.
            nested = part if part and isinstance(part[0], tuple) else (part,)
            for one in nested:
                yield from _columns(one)


def _value(tree: tuple[Any, ...], table: pd.DataFrame, text: str) -> Any:
    """Work out a tree: a number, text, or an array of one value per row."""
    kind, *parts = tree
    if kind == "column":
        return _array(table[parts[0]])
    if kind in ("number", "text"):
        return parts[0]
    if kind in ("and", "or", "not"):
        found = [_condition(part, table, text) for part in parts]
        if kind == "not":
            return ~found[0]
        return np.logical_and.reduce(found) if kind == "and" else np.logical_or.reduce(found)
    if kind == "compute":
        total = _number(parts[0], table, text)
        for sign, part in parts[1:]:
            total = COMPUTED[sign](total, _number(part, table, text))
        return total
    if kind == "in":
        value, choices, negated = parts
        inside = np.logical_or.reduce(
            [_holds(value, "==", choice, table, text) for choice in choices]
        )
        known = _holds(value, "==", value, table, text)
        return known & ~inside if negated else inside
    pairs = zip(parts[:-2:2], parts[1::2], parts[2::2], strict=True)
    return np.logical_and.reduce([_holds(*pair, table, text) for pair in pairs])


def _holds(
    left: tuple[Any, ...], sign: str, right: tuple[Any, ...], table: pd.DataFrame, text: str
) -> np.ndarray:
    a, b = _value(left, table, text), _value(right, table, text)
    kinds = {_kind(a), _kind(b)}
    if kinds == {"text"} and sign not in ("==", "!="):
        raise InputError(f"text has no order: {sign} in the gate {text!r}", hint="Use == or !=")
    if len(kinds) > 1 and "text" in kinds:
        raise InputError(
            f"{_shown(left)} {sign} {_shown(right)} compares text with numbers: {text!r}",
            hint="Quotes make text: plate == '7'; numbers have none: area > 7",
        )
    known = ~(_missing(a) | _missing(b))
    return np.atleast_1d(COMPARED[sign](a, b) & known)


def _condition(tree: tuple[Any, ...], table: pd.DataFrame, text: str) -> np.ndarray:
    found = _value(tree, table, text)
    if _kind(found) != "condition":
        raise _no_condition(_shown(tree))
    return np.atleast_1d(found)


def _number(tree: tuple[Any, ...], table: pd.DataFrame, text: str) -> Any:
    found = _value(tree, table, text)
    if _kind(found) != "number":
        raise InputError(
            f"{_shown(tree)} is no number, in the gate {text!r}", hint="Compute with numbers only"
        )
    return found


def _array(column: pd.Series) -> np.ndarray:
    """The values of a column: bool, float, or text with None for what is missing."""
    if column.dtype == bool or str(column.dtype) == "boolean":
        return column.fillna(False).to_numpy(bool)
    if column.dtype.kind in "iuf" or str(column.dtype).startswith(("Int", "UInt", "Float")):
        return column.to_numpy(float, na_value=np.nan)
    missing = column.isna().to_numpy() | (column == "").to_numpy(bool)
    return np.array(
        [None if no else str(value) for no, value in zip(missing, column, strict=True)], object
    )


def _kind(value: Any) -> str:
    dtype = np.asarray(value).dtype
    return {"b": "condition", "f": "number"}.get(dtype.kind, "text")


def _missing(value: Any) -> Any:
    if _kind(value) == "number":
        return np.isnan(value)
    return np.equal(value, None) if np.asarray(value).dtype == object else np.False_


def _shown(tree: tuple[Any, ...]) -> str:
    return repr(tree[1]) if tree[0] in ("column", "number", "text") else "what is computed"


def _no_condition(shown: str) -> InputError:
    return InputError(
        f"{shown} is no condition that holds or not", hint="Compare it, such as area > 200"
    )
