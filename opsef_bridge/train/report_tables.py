"""The tables of a training, from plan and scores: how good, better than what, and by what.

Nothing in them depends on the clock, so that equal trainings give equal tables; what was
timed stands in a table of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opsef_bridge.compare.evaluate import THRESHOLDS, Evaluation, compare
from opsef_bridge.train.judging import COUNTS, sums_by
from opsef_bridge.train.networks import AXES, Network
from opsef_bridge.train.score import bootstrap, pooled_f1

__all__ = [
    "SHOWN",
    "Scored",
    "axis_rows",
    "difference_rows",
    "image_rows",
    "network_rows",
    "pooled_table",
    "scored_of",
]

SHOWN = (0.5, 0.7, 0.9)
"""IoU thresholds of the tables; 0.7 and 0.9 are those of Zaki et al."""

ERRORS_AT = 0.7
"""IoU at which errors are counted in the tables."""


@dataclass(frozen=True)
class Scored:
    """A network and what was counted of it.

    Parameters
    ----------
    network : Network
    counts : dict of str to ndarray of int, shape (images, thresholds, 5)
        By split; along the last axis `COUNTS`, at the thresholds of
        `opsef_bridge.compare.evaluate`.
    images, kinds, fields, status : dict of str to list of str
        By split. The field is what is drawn with replacement for intervals.
    seconds : dict of str to list of float
    """

    network: Network
    counts: dict[str, np.ndarray]
    images: dict[str, list[str]]
    kinds: dict[str, list[str]]
    fields: dict[str, list[str]]
    status: dict[str, list[str]]
    seconds: dict[str, list[float]]


def scored_of(networks: Sequence[Network], scores: Mapping[str, Mapping[str, Any]]) -> list[Scored]:
    """Return the networks that have scores, with arrays."""
    found = []
    for one in networks:
        if one.id not in scores:
            continue
        splits = scores[one.id]["splits"]
        shape = (-1, len(THRESHOLDS), len(COUNTS))
        found.append(
            Scored(
                one,
                {name: np.array(part["counts"], int).reshape(shape)
                 for name, part in splits.items()},
                *({name: part.get(column, part["images"]) for name, part in splits.items()}
                  for column in ("images", "kinds", "fields", "status", "seconds")),
            )
        )  # fmt: skip
    return found


def image_rows(scored: Sequence[Scored]) -> Iterator[dict[str, Any]]:
    """Yield a row per network, image and threshold: what was counted, and F1."""
    for one in scored:
        for split, counts in one.counts.items():
            for image, kind, of_image in zip(
                one.images[split], one.kinds[split], counts, strict=True
            ):
                for threshold, row in zip(THRESHOLDS, of_image.tolist(), strict=True):
                    f1 = _f1(np.array([[row]]))[0]
                    yield {
                        "network": one.network.id,
                        "name": one.network.candidate,
                        "split": split,
                        "image": image,
                        "kind": kind,
                        "threshold": threshold,
                        **dict(zip(COUNTS, row, strict=True)),
                        "f1": _number(f1, 6),
                    }


def network_rows(scored: Sequence[Scored]) -> Iterator[dict[str, Any]]:
    """Yield a row per network, split and kind (the empty one is all of them).

    F1 over all objects with its 95 % interval over fields, at each of `SHOWN`; errors at an
    IoU of 0.7.
    """
    for one in scored:
        for split, counts in one.counts.items():
            if not len(counts):
                continue
            kinds, fields = np.array(one.kinds[split]), np.array(one.fields[split])
            parts = {"": np.ones(len(kinds), bool)}
            parts |= {kind: kinds == kind for kind in sorted(set(kinds))}
            for kind, chosen in parts.items():
                yield {
                    "network": one.network.id,
                    "name": one.network.candidate,
                    "trained": "yes" if one.network.trained else "no",
                    **_axes(one.network),
                    "split": split,
                    "kind": kind,
                    **_figures(counts[chosen], fields[chosen].tolist()),
                }


def _axes(one: Network) -> dict[str, str]:
    """Values on the axes, by column: `network` and `images` are something else here."""
    named = {"network": "settings", "images": "learned_from"}
    told = {named.get(name, name): value for name, value in one.axes().items()}
    return told if one.trained else {name: "" for name in told} | {"dataset": one.dataset}


def _figures(counts: np.ndarray, fields: Sequence[str]) -> dict[str, Any]:
    """F1 with intervals, and errors, of counts of shape (images, thresholds, 5)."""
    table = pooled_table(counts, fields).set_index("threshold")
    at = THRESHOLDS.index(ERRORS_AT)
    sums = counts[:, at].sum(axis=0)
    row: dict[str, Any] = {
        "images": len(counts),
        "fields": len(set(fields)),
        "objects": int(sums[0] + sums[2]),
    }
    for threshold in SHOWN:
        f1, low, high = table.loc[threshold, ["f1", "f1_low", "f1_high"]]
        row |= {f"f1_{threshold}": _number(f1), f"low_{threshold}": _number(low),
                f"high_{threshold}": _number(high)}  # fmt: skip
    return row | dict(zip(COUNTS, sums.tolist(), strict=True))


def pooled_table(counts: np.ndarray, fields: Sequence[str]) -> pd.DataFrame:
    """Return F1 over all objects per threshold, with its interval where there are two fields."""
    f1, by_field = _f1(counts), sums_by(counts[..., :3], fields)
    low, high = bootstrap(by_field) if len(by_field) > 1 else (f1 * np.nan,) * 2
    return pd.DataFrame({"threshold": THRESHOLDS, "f1": f1, "f1_low": low, "f1_high": high})


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 per threshold; NaN where there was nothing to find, and nothing was found."""
    f1 = pooled_f1(counts[..., :3])
    return np.where(counts[..., :3].any(axis=(0, -1)), f1, np.nan)


def _number(value: float, digits: int = 4) -> float | str:
    """Return a figure for a table, with nothing where there is none."""
    return round(float(value), digits) if value == value else ""


def difference_rows(scored: Sequence[Scored]) -> Iterator[dict[str, Any]]:
    """Yield what each trained network gains over each baseline, on the same test images.

    The interval is of a bootstrap over fields, the same for both.
    """
    baselines = [one for one in scored if not one.network.trained]
    for one in scored:
        if not one.network.trained:
            continue
        for base in baselines:
            if base.images["test"] != one.images["test"] or not one.images["test"]:
                continue
            pair = {"network": _evaluation(one), "baseline": _evaluation(base)}
            table = compare(pair)
            for row in table[table["threshold"].isin(SHOWN)].to_dict("records"):
                yield {
                    "network": one.network.id,
                    "name": one.network.candidate,
                    "baseline": base.network.weights,
                    "parent": "yes" if base.network.weights == one.network.weights else "no",
                    "threshold": row["threshold"],
                    "images": len(one.images["test"]),
                    "fields": row["images"],
                    "f1": _number(row["f1_a"]),
                    "f1_baseline": _number(row["f1_b"]),
                    **{name: _number(row[name]) for name in ("difference", "low", "high")},
                    "better": _number(row["a_better"]),
                }


def _evaluation(one: Scored) -> Evaluation:
    """Return what `compare` asks for, field by field."""
    none, fields = pd.DataFrame(), one.fields["test"]
    counts = sums_by(one.counts["test"][..., :3], fields)
    return Evaluation(THRESHOLDS, tuple(sorted(set(fields))), none, none, none, counts)


def axis_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return, by axis on which networks differ and value, the mean F1 over all others.

    Axes that matter most, by the spread of F1 at 0.7, come first.
    """
    trained = [one for one in scored if one.network.trained and len(one.counts["test"])]
    places = [THRESHOLDS.index(threshold) for threshold in SHOWN]
    f1 = {one.network.id: pooled_f1(one.counts["test"][..., :3])[places] for one in trained}
    found: list[tuple[float, list[dict[str, Any]]]] = []
    for axis in AXES:
        values: dict[str, list[np.ndarray]] = {}
        for one in trained:
            values.setdefault(one.network.axes()[axis], []).append(f1[one.network.id])
        if len(values) < 2:
            continue
        means = {value: np.mean(rows, axis=0) for value, rows in values.items()}
        spread = float(np.ptp([mean[1] for mean in means.values()]))
        rows = [
            {"axis": axis, "value": value, "networks": len(values[value]),
             **{f"f1_{t}": round(float(m), 4) for t, m in zip(SHOWN, mean, strict=True)},
             "spread_0.7": round(spread, 4)}
            for value, mean in means.items()
        ]  # fmt: skip
        found.append((spread, rows))
    return [row for _, rows in sorted(found, key=lambda pair: -pair[0]) for row in rows]
