"""Tables of objects: the original's columns and all columns, beside scikit-image's.

Run ``python benchmarks/bench_region_table.py``: less than a minute. OpSeF measured with
``skimage.measure.regionprops_table``. Equality is checked first. CPU time, median of calls that
alternate between the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_postprocess import SHARED, field, theirs
from skimage.measure import regionprops_table

from opsef_bridge.measure import regions
from opsef_bridge.measure.regions import object_columns, region_table

ORIGINAL = {
    "area": "area",
    "centroid_y": "centroid-0",
    "centroid_x": "centroid-1",
    "eccentricity": "eccentricity",
    "equivalent_diameter": "equivalent_diameter_area",
    "intensity_mean": "intensity_mean",
    "intensity_max": "intensity_max",
    "intensity_min": "intensity_min",
    "perimeter": "perimeter",
}
"""The columns of OpSeF's tables beside ``label``, and what scikit-image calls them."""

CHECKED = 1e-9
"""Largest relative error."""

ASKED = 8.0
"""Times as fast as scikit-image, at least."""


def picture(shape: tuple[int, ...], channels: int = 1) -> np.ndarray:
    """Noise of 16 bits, channels first if there are several."""
    size = shape if channels == 1 else (channels, *shape)
    return np.random.default_rng(0).integers(0, 60_000, size).astype(np.uint16)


def ours(labels: np.ndarray, image: np.ndarray) -> Any:
    return region_table(labels, image, properties=list(ORIGINAL))


def peer(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name.partition("-")[0] for name in ORIGINAL.values())
    return regionprops_table(labels, image, properties=["label", *names])


def check(labels: np.ndarray, image: np.ndarray) -> float:
    """Largest relative error of the original's columns."""
    mine, other = ours(labels, image), peer(labels, image)
    np.testing.assert_array_equal(mine["label"], other["label"])
    worst = 0.0
    for column, name in ORIGINAL.items():
        expected = other[name]
        np.testing.assert_allclose(mine[column], expected, rtol=CHECKED, atol=0, err_msg=column)
        scale = np.maximum(np.abs(expected), np.finfo(float).tiny)
        worst = max(worst, float((np.abs(mine[column] - expected) / scale).max()))
    return worst


def alternate(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: float(np.median(each)) for name, each in times.items()}


def squashed(side: int, per_side: int) -> np.ndarray:
    """Objects that are not round: scikit-image's eccentricity of disks is that of rounding."""
    labels = field((side, side), per_side)
    y, x = np.indices(labels.shape)
    cell = side / per_side
    labels[(y % cell < 0.3 * cell) & (x % cell < (0.3 + 0.3 * (labels % 2)) * cell)] = 0
    return labels


def bench_original(side: int, per_side: int) -> None:
    labels = squashed(side, per_side)
    image = picture(labels.shape)
    worst = check(labels, image)
    count = len(np.unique(labels)) - 1
    print(f"{count} objects in {side} x {side}: equal, largest relative error {worst:.1e}")
    calls = {"ours": lambda: ours(labels, image), "peer": lambda: peer(labels, image)}
    found = alternate(calls, 3)
    show("the original's columns", found)
    columns = {"ours": lambda: region_table(labels, properties=SHARED)}
    columns["peer"] = lambda: theirs(labels, SHARED)
    show("all columns that scikit-image has", alternate(columns, 1))
    ratio = found["peer"] / found["ours"]
    print(f"the original's columns: {ratio:.1f} x, asked for {ASKED:.0f} x")
    assert ratio >= ASKED


def show(name: str, found: dict[str, float]) -> None:
    mine, other = 1000 * found["ours"], 1000 * found["peer"]
    print(f"{name:36s} {mine:9.1f} ms   scikit-image {other:9.1f} ms   {other / mine:6.1f} x")


def bench_parts(side: int, per_side: int) -> None:
    """What each column costs, and what a volume does."""
    labels = squashed(side, per_side)
    image, channels = picture(labels.shape), picture(labels.shape, 4)
    everything = [*object_columns("yx"), *regions.INTENSITY]
    ordered = ["intensity_median", "intensity_p5", "intensity_p95"]
    cases: dict[str, tuple[np.ndarray | None, list[str]]] = {
        "area": (None, ["area"]),
        "all shapes": (None, object_columns("yx")),
        **{name: (None, [name]) for name in (*regions.IMAGEJ, regions.WIDTH)},
        "all shapes and intensities": (image, everything),
        "mean, min, max, sum, std": (image, list(regions.INTENSITY)),
        "median": (image, ["intensity_median"]),
        "median, p5, p95": (image, ordered),
        "all of four channels": (channels, [*everything, *ordered]),
    }
    calls = {
        name: (lambda given=given, wanted=wanted: region_table(labels, given, properties=wanted))
        for name, (given, wanted) in cases.items()
    }
    for name, spent in alternate(calls, 7).items():
        print(f"{name:36s} {1000 * spent:9.1f} ms", flush=True)


def main() -> None:
    bench_original(2048, 100)
    bench_parts(2048, 100)


if __name__ == "__main__":
    main()
