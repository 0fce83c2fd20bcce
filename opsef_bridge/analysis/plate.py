"""Plates: what was measured, laid out by well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PLATES", "parse_well", "plate_grid", "well_summary"]

WELL = re.compile(r"([A-Za-z]{1,2})[-_ ]?(\d{1,2})")
PLATES = ((2, 3), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
"""Rows and columns of plates with 6, 24, 48, 96, 384 and 1536 wells."""


def parse_well(text: str) -> tuple[int, int] | None:
    """Return row and column of a well, from 0; None where it is none.

    Examples
    --------
    >>> parse_well("B03"), parse_well("a1"), parse_well("AF48"), parse_well("left")
    ((1, 2), (0, 0), (31, 47), None)
    """
    found = WELL.fullmatch(text.strip())
    if not found or int(found[2]) == 0:
        return None
    row = 0
    for letter in found[1].upper():
        row = 26 * row + ord(letter) - ord("A") + 1
    row, column = row - 1, int(found[2]) - 1
    return (row, column) if row < PLATES[-1][0] and column < PLATES[-1][1] else None


def plate_grid(table: pd.DataFrame, column: str, well: str = "well") -> NDArray[np.float64]:
    """Lay the mean of a column out by well.

    Parameters
    ----------
    table : DataFrame
        Rows of one plate, for example one per image.
    column : str
        Numbers.
    well : str
        Column of wells, such as ``B03``. Other texts are left out.

    Returns
    -------
    (rows, columns) ndarray of float64
        Of the smallest plate of `PLATES` that holds all wells; NaN where nothing was measured.

    Raises
    ------
    InputError
        A column is not there, or there is no well.

    Examples
    --------
    >>> import pandas as pd
    >>> plate_grid(pd.DataFrame({"well": ["A01", "A01", "B03"], "n": [1, 3, 5]}), "n")
    array([[ 2., nan, nan],
           [nan, nan,  5.]])
    """
    for name in (column, well):
        if name not in table:
            raise InputError(f"the table has no column {name!r}", hint="See tables/columns.md")
    places = [parse_well(str(text)) for text in table[well]]
    there = np.array([place is not None for place in places], bool)
    if not there.any():
        raise InputError(f"the column {well!r} names no well", hint="Wells are like A01 or H12")
    rows, columns = np.array([place for place in places if place is not None]).T
    shape = next(s for s in PLATES if rows.max() < s[0] and columns.max() < s[1])
    values = table[column].to_numpy(float)[there]
    known = np.isfinite(values)
    at = rows[known] * shape[1] + columns[known]
    count = np.bincount(at, minlength=shape[0] * shape[1])
    total = np.bincount(at, values[known], shape[0] * shape[1])
    grid = np.full(count.shape, np.nan)
    np.divide(total, count, out=grid, where=count > 0)
    return grid.reshape(shape)


def well_summary(images: pd.DataFrame) -> pd.DataFrame:
    """Return one row per well.

    Parameters
    ----------
    images : DataFrame
        One row per image, with ``well``, ``objects`` and maybe ``plate``.

    Returns
    -------
    DataFrame
        ``plate`` (if there is one), ``well``, ``images`` and ``objects``, how many; the mean over
        the images of every other column of numbers. Images whose well is empty are left out.

    Examples
    --------
    >>> import pandas as pd
    >>> images = pd.DataFrame({"well": ["A01", "A01", ""], "objects": [1, 3, 9], "covered": 0.5})
    >>> well_summary(images)
      well  images  objects  covered
    0  A01       2        4      0.5
    """
    keys = [name for name in ("plate", "well") if name in images]
    some = images[images["well"].astype(str) != ""]
    grouped = some.groupby(keys, sort=True)
    table = grouped.agg(images=("objects", "size"), objects=("objects", "sum")).reset_index()
    numbers = [name for name in images if images[name].dtype.kind in "iuf" and name not in table]
    means = grouped[numbers].mean().reset_index()
    return table.merge(means, on=keys)
