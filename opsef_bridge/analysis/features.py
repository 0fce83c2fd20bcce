"""Features: the columns of a table that describe objects, made comparable."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Features", "feature_names", "features"]

NO_FEATURE = re.compile(
    r"label|class|class_name|centroid_.+|bbox_.+|pixel_size_.+|[zyx]_from|time(_point)?|orientation|"
    r"touches_border|cluster|predicted_class|probability|background_.+|mean_intensity_background|"
    r"(pca|tsne|umap)_[12]"
)
"""Where an object is and what it is called says nothing of what it looks like; the angle of an
object turns with the slide."""

MISSING = 0.5
"""Share of missing values from which a column is left out, instead of the rows that lack it."""


@dataclass(frozen=True)
class Features:
    """Standardised features of objects.

    Attributes
    ----------
    names : tuple of str
        Columns, F of them.
    values : (N, F) ndarray of float64
        Each column less its mean, by its standard deviation.
    rows : (N,) ndarray of int64
        Positions in the table of the rows that have all features.
    said : tuple of str
        Sentences: what was left out, and why.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    said: tuple[str, ...] = ()


def feature_names(table: pd.DataFrame, without: Collection[str] = ()) -> list[str]:
    """Return the columns of numbers that describe what objects look like.

    Parameters
    ----------
    table : DataFrame
    without : collection of str
        Columns that are none: conditions, which are known of images.

    Examples
    --------
    >>> import pandas as pd
    >>> feature_names(pd.DataFrame({"label": [1], "area": [2.0], "well": ["A1"], "bbox_y0": [3]}))
    ['area']
    """
    return [
        name
        for name in table
        if table[name].dtype.kind in "iuf"
        and not NO_FEATURE.fullmatch(str(name))
        and name not in without
    ]


def features(
    table: pd.DataFrame, columns: Sequence[str] | None = None, *, without: Collection[str] = ()
) -> Features:
    """Standardise features of the objects of a table.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str, optional
        Columns of numbers; by default those of `feature_names`, which takes `without`.
    without : collection of str

    Raises
    ------
    InputError
        A column is not there or holds no numbers; or nothing is left: fewer than two rows, or no
        column that differs between objects.

    Notes
    -----
    Columns that are the same for all objects are left out, and so are columns that half of the
    objects lack; then the objects that lack any other.

    Examples
    --------
    >>> import pandas as pd
    >>> found = features(pd.DataFrame({"area": [1.0, 3.0, 5.0], "solidity": [1.0, 1.0, 1.0]}))
    >>> found.names, found.values.ravel().round(2).tolist()
    (('area',), [-1.22, 0.0, 1.22])
    """
    names = list(columns) if columns is not None else feature_names(table, without)
    for name in names:
        if name not in table:
            near = difflib.get_close_matches(name, [str(one) for one in table], 3)
            raise InputError(
                f"the table has no column {name!r}",
                hint=f"Did you mean {' or '.join(near)}?" if near else "columns.md lists them",
            )
        if table[name].dtype.kind not in "iufb":
            raise InputError(f"the column {name!r} holds no numbers", hint="Leave it out")
    values = table[names].to_numpy(np.float64) if names else np.zeros((len(table), 0))
    values = np.where(np.isfinite(values), values, np.nan)
    said = []
    lacking = (
        np.isnan(values).mean(axis=0) >= MISSING if len(values) else np.zeros(len(names), bool)
    )
    if lacking.any():
        gone = ", ".join(name for name, no in zip(names, lacking, strict=True) if no)
        said.append(f"Left out, since half of the objects or more lack it: {gone}.")
    names = [name for name, no in zip(names, lacking, strict=True) if not no]
    values = values[:, ~lacking]
    rows = np.flatnonzero(~np.isnan(values).any(axis=1))
    if len(rows) < len(values):
        said.append(f"{len(values) - len(rows)} objects lack a feature and are left out.")
    values = values[rows]
    spread = values.std(axis=0) if len(values) else np.zeros(len(names))
    # A constant column of large values has a spread of rounding errors.
    size = np.abs(values).max(axis=0) if len(values) else spread
    differs = spread > 1e-12 * size
    names = [name for name, yes in zip(names, differs, strict=True) if yes]
    if len(rows) < 2 or not names:
        raise InputError(
            f"{len(rows)} objects with {len(names)} features that differ between them are too few",
            hint="Measure more: analyse.properties and images.measure of opsef.yaml",
        )
    values = (values[:, differs] - values[:, differs].mean(axis=0)) / spread[differs]
    return Features(tuple(names), values, rows, tuple(said))
