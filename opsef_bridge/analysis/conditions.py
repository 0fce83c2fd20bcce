"""Conditions: what a person knows of each image, from a CSV file, joined to the tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Conditions", "read_conditions"]

JOINED_BY = (("image",), ("id",), ("file",), ("plate", "well"), ("well",))
"""Columns that say what a row is about; the first of these that the file has counts."""


class Conditions:
    """Rows about images.

    Parameters
    ----------
    by : tuple of str
        The columns that say what a row is about.
    rows : mapping
        From their values to the other columns.
    """

    def __init__(self, by: tuple[str, ...], rows: Mapping[tuple[str, ...], dict[str, str]]) -> None:
        self.by = by
        self.rows = dict(rows)
        self.columns = list(dict.fromkeys(name for row in self.rows.values() for name in row))

    def of(self, image: str, source: str, more: Mapping[str, str]) -> dict[str, str] | None:
        """Return what is said of an image; None where there is no row about it.

        Parameters
        ----------
        image : str
            Its id.
        source : str
            Its file; the name is enough, with or without its ending.
        more : mapping
            Its other columns, such as ``plate`` and ``well``.
        """
        if "well" in self.by:
            return self.rows.get(tuple(_well(str(more.get(name, ""))) for name in self.by))
        path = Path(source)
        names = (image, source, path.name, path.stem)
        return next((self.rows[name,] for name in names if (name,) in self.rows), None)

    def join(self, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        """Add the columns to a table of images.

        Parameters
        ----------
        table : DataFrame
            With the columns ``image`` and ``source``.

        Returns
        -------
        DataFrame
            With the columns of the conditions behind its own; empty text where there is no row
            about an image. A column that the table has already gets ``condition_`` before its
            name.
        list of str
            Sentences: which images have no condition, which rows no image.
        """
        said, used, told = [], set(), []
        lacking = []
        for row in table.to_dict("records"):
            found = self.of(str(row["image"]), str(row["source"]), row)
            if found is None:
                lacking.append(str(row["image"]))
            used |= {key for key, value in self.rows.items() if value is found}
            told.append(found or {})
        table = table.copy()
        for name in self.columns:
            new = f"condition_{name}" if name in table else name
            table[new] = [str(one.get(name, "")) for one in told]
        if lacking:
            said.append(f"No condition is known of {_some(lacking)}.")
        left = [" ".join(key) for key in self.rows if key not in used]
        if left:
            said.append(f"Conditions of what is not in the tables: {_some(left)}.")
        return table, said


def read_conditions(file: Path) -> Conditions:
    """Read a CSV file of conditions.

    Parameters
    ----------
    file : Path
        UTF-8; columns parted by comma, semicolon or tab. A column ``image``, ``id`` or ``file``
        names the image, by its id or its file; or ``plate`` and ``well``, or ``well``, by the
        columns of that name in ``images/index.csv``.

    Raises
    ------
    InputError
        There is no such file; it lacks these columns; or says two things of one image.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{file.name} cannot be read: {error.strerror}",
            hint="analyse.conditions names a CSV file, seen from the project folder",
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{file.name} is no UTF-8 text", hint="Save it as CSV UTF-8") from None
    first = text.partition("\n")[0]
    sign = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=sign)
    names = [name.strip() for name in reader.fieldnames or ()]
    rows = list(reader)
    by = next((by for by in JOINED_BY if set(by) <= set(names)), None)
    if by is None:
        raise InputError(
            f"{file.name} does not say which image a row is about: its columns are "
            f"{', '.join(names) or 'none'}",
            hint="Name one of them image, file, or well",
        )
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        cells = {(name or "").strip(): (value or "").strip() for name, value in _pairs(row)}
        if not all(cells.get(name) for name in by):
            raise InputError(
                f"{file.name} line {number} has no {' and no '.join(by)}",
                hint="Each row says which image it is about",
            )
        key = tuple(_well(cells[name]) if "well" in by else cells[name] for name in by)
        rest = {name: value for name, value in cells.items() if name and name not in by}
        if found.setdefault(key, rest) != rest:
            raise InputError(
                f"{file.name} line {number} says something else of {' '.join(key)} than a line "
                "before",
                hint="Keep one of them",
            )
    return Conditions(by, found)


def _pairs(row: Mapping[str | None, str | list[str] | None]) -> list[tuple[str, str]]:
    """Cells beyond the last heading have none, and are left out."""
    return [(name, value) for name, value in row.items() if name and isinstance(value, str)]


def _well(text: str) -> str:
    """``a1`` and ``A01`` are one well.

    Examples
    --------
    >>> _well("a1"), _well("B12"), _well("left")
    ('A01', 'B12', 'left')
    """
    row, column = text[:1], text[1:]
    if row.isalpha() and column.isdigit():
        return f"{row.upper()}{int(column):02d}"
    return text


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
