"""What a table of 1,000,000 objects with 20 features costs: embeddings, clusters, plots.

Run ``python benchmarks/bench_analysis.py [ROWS]``: about three minutes. Each is to be done within
60 s: the plots, and the plots with each embedding or all of them. Seconds by the clock, imports
included: run it on a quiet machine. "first" is the first call in a process, when umap-learn
compiles its code.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from opsef_bridge.analysis.clusters import MOST as CLUSTERED
from opsef_bridge.analysis.clusters import cluster
from opsef_bridge.analysis.embedding import MOST as EMBEDDED
from opsef_bridge.analysis.embedding import embed
from opsef_bridge.analysis.features import features
from opsef_bridge.analysis.plots import box_plot, histogram, save_figure, scatter

FEATURES, GROUPS, IMAGES = 20, 5, 200
ASKED = 60.0
"""Seconds."""


def objects(rows: int) -> pd.DataFrame:
    """Five heaps, skewed and correlated as shapes and intensities are."""
    rng = np.random.default_rng(0)
    heap = rng.integers(0, GROUPS, rows)
    hidden = rng.normal(0, 2, (GROUPS, 6))[heap] + rng.normal(size=(rows, 6))
    values = hidden @ rng.normal(size=(6, FEATURES)) + rng.normal(size=(rows, FEATURES))
    values[:, ::3] = np.exp(values[:, ::3] / 4)
    table = pd.DataFrame(values, columns=[f"feature_{k}" for k in range(FEATURES)])
    table.insert(0, "label", np.arange(rows))
    image = rng.integers(0, IMAGES, rows)
    table.insert(0, "image", np.array([f"i{k:05d}" for k in range(IMAGES)], object)[image])
    table["condition"] = np.array(["control", "drug a", "drug b"], object)[image % 3]
    table["class"] = heap
    return table


def timed(name: str, call: Callable[[], Any], spent: dict[str, float]) -> Any:
    start = time.perf_counter()
    result = call()
    spent[name] = time.perf_counter() - start
    print(f"{name:32s} {spent[name]:7.1f} s", flush=True)
    return result


def bench_plots(table: pd.DataFrame, folder: Path, spent: dict[str, float]) -> None:
    figures = {
        "scatter": lambda: scatter(table, "feature_0", "feature_1", "class"),
        "histogram": lambda: histogram(table, "feature_0", "condition"),
        "box plot": lambda: box_plot(table, "feature_0", "condition"),
        "violin plot": lambda: box_plot(table, "feature_0", "condition", violin=True),
    }
    for name, draw in figures.items():
        file = folder / f"{name.replace(' ', '_')}.png"
        timed(name, lambda draw=draw, file=file: save_figure(draw(), file), spent)


def bench_embeddings(table: pd.DataFrame, folder: Path, spent: dict[str, float]) -> None:
    made = timed("features", lambda: features(table), spent)
    assert made.values.shape == (len(table), FEATURES)
    for method in EMBEDDED:
        found = timed(f"{method}, first", lambda way=method: embed(made.values, way), spent)
        again = timed(method, lambda way=method: embed(made.values, way), spent)
        np.testing.assert_array_equal(found.points, again.points)
        drawn = np.isfinite(found.points).all(axis=1).sum()
        assert drawn == min(EMBEDDED[method], len(table))
        assert drawn == len(table) or f"{drawn:,} of {len(table):,} objects" in found.said[0]
        for sentence in found.said:
            print(f"    {sentence}")
        some = table.assign(x=found.points[:, 0], y=found.points[:, 1])
        draw = folder / f"{method}.png"
        timed(
            f"scatter of {method}",
            lambda some=some, draw=draw: save_figure(scatter(some, "x", "y", "class"), draw),
            spent,
        )


def bench_clusters(table: pd.DataFrame, spent: dict[str, float]) -> None:
    values = features(table).values
    for kind in CLUSTERED:
        found = timed(kind, lambda kind=kind: cluster(values, kind), spent)
        count = len(set(found.numbers.tolist()) - {0})
        print(f"    {count} clusters, silhouette {found.silhouette:.2f}. {' '.join(found.said)}")
        if kind != "hdbscan":
            timed(f"{kind}, 5 clusters", lambda kind=kind: cluster(values, kind, 5), spent)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    table = objects(rows)
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench_plots(table, Path(folder), spent)
        plots = sum(spent.values())
        bench_embeddings(table, Path(folder), spent)
    bench_clusters(table, spent)
    print(f"\n{rows:,} rows, {FEATURES} features")
    totals, own = {"plots": plots}, {}
    for method in EMBEDDED:
        own[method] = spent[f"{method}, first"] + spent[f"scatter of {method}"]
        totals[f"plots and {method}"] = plots + spent["features"] + own[method]
    totals["plots and all of them"] = plots + spent["features"] + sum(own.values())
    for kind in CLUSTERED:
        totals[f"features and {kind}"] = spent["features"] + spent[kind]
    for name, seconds in totals.items():
        verdict = "within" if seconds <= ASKED else "MORE than"
        print(f"{name:32s} {seconds:7.1f} s, {verdict} the {ASKED:.0f} s asked for")


if __name__ == "__main__":
    main()
