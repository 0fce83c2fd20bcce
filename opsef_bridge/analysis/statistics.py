"""Conditions compared, image by image.

The objects of one image share its specimen, stain and focus; they are no independent
measurements. Ten images of a thousand cells are ten measurements, not ten thousand: to count
objects as if they were independent is *pseudo-replication* (Hurlbert, 1984; Lazic, 2010), and
makes differences by chance look certain. So each image counts once here, by the mean or the
median of its objects, and intervals come from drawing images anew, never objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "as_sentences",
    "compare_conditions",
    "hedges_g",
    "image_values",
    "shown",
    "summarise_conditions",
]

DRAWS = 2000
LEVEL = 0.95
FEWEST = 2
"""Images of a condition from which there is an interval."""


def image_values(
    objects: pd.DataFrame,
    column: str,
    by: str,
    *,
    statistic: Literal["mean", "median"] = "mean",
    unit: str = "image",
) -> pd.DataFrame:
    """Return one value per image.

    Parameters
    ----------
    objects : DataFrame
        One row per object, with ``image``, `column`, `by` and `unit`.
    column : str
        What was measured.
    by : str
        Column of the conditions. Rows whose condition is empty are left out.
    statistic : {"mean", "median"}
        Of the objects of an image.
    unit : str
        What is drawn anew and counts once: ``image``, or a column of what images are taken from,
        such as ``well`` (with its ``plate``, if there is one) or ``patient``, where that is what
        was treated. Rows that have none are left out.

    Returns
    -------
    DataFrame
        ``condition``, ``unit``, ``value``, ``objects``; units without a value are left out.

    Raises
    ------
    InputError
        A column is not there or holds no numbers, `by` is `unit`, or a unit is in two conditions.
    """
    if by == unit:
        raise InputError(
            f"conditions and what counts once are both {by!r}", hint="Choose another column"
        )
    for name in (column, by, unit):
        if name not in objects:
            raise InputError(
                f"the table has no column {name!r}", hint="tables/columns.md lists its columns"
            )
    if objects[column].dtype.kind not in "iufb":
        raise InputError(f"the column {column!r} holds no numbers", hint="Choose another one")
    if unit == "well" and "plate" in objects:  # A01 of one plate is not A01 of another
        whole = objects["plate"].astype(str) + " " + objects["well"].astype(str)
        objects = objects.assign(well=whole.where(objects["well"].astype(str) != "", ""))
    there = objects[by].notna() & (objects[by].astype(str) != "")
    there &= objects[unit].notna() & (objects[unit].astype(str) != "")
    some = objects.loc[there, [by, unit, column]].dropna(subset=[column])
    some = some.assign(**{column: some[column].astype(float)})
    mixed = some.groupby(unit)[by].nunique()
    if (mixed > 1).any():
        raise InputError(
            f"{unit} {shown(mixed[mixed > 1].index[0])} is in {mixed.max()} conditions by {by}",
            hint="Choose a smaller unit, such as image",
        )
    grouped = some.groupby([by, unit], sort=True)[column]
    table = grouped.agg(value=statistic, objects="size").reset_index()
    return table.rename(columns={by: "condition", unit: "unit"})


def summarise_conditions(values: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Describe each condition.

    Parameters
    ----------
    values : DataFrame
        As `image_values` returns it.
    seed : int

    Returns
    -------
    DataFrame
        Per condition ``units`` and ``objects``, how many; ``mean`` and ``sd`` of the values of
        units; ``low`` and ``high``, the 95 % interval of the mean (bootstrap of units,
        percentiles of 2000 draws); NaN where a condition has a single unit.

    Examples
    --------
    >>> import pandas as pd
    >>> values = pd.DataFrame({"condition": ["a", "a", "b"], "unit": ["1", "2", "3"],
    ...                        "value": [1.0, 3.0, 5.0], "objects": [10, 10, 7]})
    >>> summarise_conditions(values)[["condition", "units", "objects", "mean"]]
      condition  units  objects  mean
    0         a      2       20   2.0
    1         b      1        7   5.0
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    rows = []
    for condition, some in values.groupby("condition", sort=True):
        value = some["value"].to_numpy(float)
        low, high = _interval(_drawn_means(value, rng)) if len(value) >= FEWEST else (np.nan,) * 2
        spread = value.std(ddof=1) if len(value) > 1 else np.nan
        rows.append(
            {
                "condition": condition, "units": len(value), "objects": int(some["objects"].sum()),
                "mean": value.mean(), "sd": spread, "low": low, "high": high,
            }
        )  # fmt: skip
    names = ["condition", "units", "objects", "mean", "sd", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def compare_conditions(
    values: pd.DataFrame, reference: str | None = None, *, seed: int = 0, unit: str = "image"
) -> pd.DataFrame:
    """Compare each condition with a reference.

    Parameters
    ----------
    values : DataFrame
        As `image_values` returns it.
    reference : str, optional
        The first in alphabetical order by default, of numbers the smallest.
    seed : int
    unit : str
        What counts once, for `said`.

    Returns
    -------
    DataFrame
        Per other condition: ``condition``, ``reference``, ``units``, ``reference_units``;
        ``difference`` of means with its 95 % interval ``low`` and ``high`` (both sides drawn
        anew); ``ratio`` of means (NaN where the reference is not above 0); ``hedges_g``, the
        difference in standard deviations with its own interval ``g_low`` and ``g_high``; ``said``,
        what to know. Intervals are NaN where a side has a single unit.

    Raises
    ------
    InputError
        There is no such condition, or only one.

    Notes
    -----
    An interval that holds 0 does not say that there is no difference. With three units a side
    intervals are too narrow: a bootstrap of so few knows too little.
    """
    import pandas as pd

    column = values["condition"]
    column = column if column.dtype.kind in "iuf" else column.astype(str)
    conditions = {shown(one): one for one in sorted(column.unique())}
    if len(conditions) < 2:
        raise InputError(
            f"there {'is one condition' if conditions else 'are no conditions'}",
            hint="Say the condition of each image: analyse.conditions names a CSV file",
        )
    reference = next(iter(conditions)) if reference is None else reference
    if reference not in conditions:
        raise InputError(
            f"there is no condition {reference!r}", hint=f"Choose of {', '.join(conditions)}"
        )
    by = {shown(name): some["value"].to_numpy(float) for name, some in values.groupby(column)}
    rows = [
        {"condition": conditions[name], "reference": conditions[reference]}
        | _compared(by[name], by[reference], np.random.default_rng(seed), unit)
        for name in conditions
        if name != reference
    ]
    return pd.DataFrame(rows)


def shown(kind: object) -> str:
    """Write a value of a column of conditions for a person.

    Examples
    --------
    >>> shown("taxol"), shown(10.0), shown(0.25), shown(np.int64(3))
    ('taxol', '10', '0.25', '3')
    """
    return f"{kind:.12g}" if isinstance(kind, float) else str(kind)


def hedges_g(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return the difference of means in pooled standard deviations, corrected for few values.

    Parameters
    ----------
    one, two : (N,), (M,) ndarray of float

    Returns
    -------
    float
        NaN where there are fewer than four values together, or none differ: of three the
        correction leaves nothing.

    Notes
    -----
    Hedges (1981), with the approximate correction ``1 - 3 / (4 (N + M) - 9)``.

    Examples
    --------
    >>> round(hedges_g(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0])), 3)
    1.6
    """
    n, m = len(one), len(two)
    if min(n, m) < 1 or n + m < 4:
        return float("nan")
    inside = ((one - one.mean()) ** 2).sum() + ((two - two.mean()) ** 2).sum()
    if inside <= 0:
        return float("nan")
    g = (one.mean() - two.mean()) / np.sqrt(inside / (n + m - 2))
    return float(g * (1 - 3 / (4 * (n + m) - 9)))


def _compared(
    one: NDArray[np.float64], two: NDArray[np.float64], rng: np.random.Generator, unit: str
) -> dict[str, object]:
    low = high = g_low = g_high = float("nan")
    few = min(len(one), len(two))
    if few >= FEWEST:
        ones, twos = _drawn(one, rng), _drawn(two, rng)
        low, high = _interval(ones.mean(axis=1) - twos.mean(axis=1))
        gs = np.array([hedges_g(a, b) for a, b in zip(ones, twos, strict=True)])
        g_low, g_high = _interval(gs[np.isfinite(gs)])
    said = "" if few >= 4 else f"only {few} {unit if few == 1 else f'{unit}s'} on one side"
    return {
        "units": len(one), "reference_units": len(two),
        "difference": one.mean() - two.mean(), "low": low, "high": high,
        "ratio": one.mean() / two.mean() if two.mean() > 0 else float("nan"),
        "hedges_g": hedges_g(one, two), "g_low": g_low, "g_high": g_high, "said": said,
    }  # fmt: skip


def _drawn(value: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return value[rng.integers(0, len(value), (DRAWS, len(value)))]


def _drawn_means(value: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return _drawn(value, rng).mean(axis=1)


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    if not len(draws):
        return float("nan"), float("nan")
    low, high = np.percentile(draws, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def as_sentences(compared: pd.DataFrame, column: str, unit: str = "image") -> Sequence[str]:
    """Return one sentence per comparison, for a person."""
    said = []
    for row in compared.itertuples():
        interval = (
            f" (95 % interval {row.low:.3g} to {row.high:.3g})" if np.isfinite(row.low) else ""
        )
        few = f"; {row.said}" if row.said else ""
        effect = f", Hedges' g {row.hedges_g:.2f}" if np.isfinite(row.hedges_g) else ""
        said.append(
            f"{column}: {shown(row.condition)} is {row.difference:+.3g} from "
            f"{shown(row.reference)}{interval}{effect}; "
            f"{row.units} and {row.reference_units} {unit}s{few}."
        )
    return said
