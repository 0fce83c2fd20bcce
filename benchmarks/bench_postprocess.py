"""Time of postprocessing: four times the objects on the same area, and filters beside tables.

Run ``python benchmarks/bench_postprocess.py``: about three minutes. Equality with loops over the
objects, and of tables with scikit-image's, is checked first. CPU time, median of several calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.ndimage
from skimage.measure import regionprops_table

from opsef_bridge.measure import regions
from opsef_bridge.measure.regions import object_columns, region_table
from opsef_bridge.postprocess import clean, split_by_mask
from opsef_bridge.preprocess.disk import disk

STEPS: dict[str, dict[str, Any]] = {
    "nothing but numbers": {},
    "fill_holes": {"fill_holes": True},
    "open: 2": {"open": 2},
    "largest_component": {"largest_component": True},
    "clear_border": {"clear_border": True},
    "keep: area": {"keep": [{"area": (30, None)}]},
    "all of them": {
        **{"fill_holes": True, "open": 2, "largest_component": True, "clear_border": True},
        "keep": [{"area": (30, None)}],
    },
}

TABLES = {
    "the filters of OpSeF": [
        "area",
        "perimeter",
        "eccentricity",
        "intensity_mean",
        "intensity_sum",
    ],
    "all columns of objects": object_columns("yx"),
    "the default table": None,
}

SHARED = [
    column for column in object_columns("yx") if column not in (*regions.IMAGEJ, regions.WIDTH)
]
"""Columns that scikit-image has too."""

PEER = {
    "equivalent_diameter": ("equivalent_diameter_area",),
    "circularity": ("area", "perimeter"),
    "touches_border": ("bbox",),
    **{f"centroid_{axis}": ("centroid",) for axis in "yx"},
    **{f"bbox_{axis}{end}": ("bbox",) for axis in "yx" for end in (0, 1)},
}
"""Properties of scikit-image that columns need which are named otherwise here."""


ONE_BY_ONE = ("area", *regions.OUTLINE, *regions.IMAGEJ, *regions.SHAPE, regions.WIDTH)


def field(shape: tuple[int, ...], per_side: int) -> np.ndarray:
    """Disks with a hole and a speck beside, `per_side` by `per_side`; whole in the end planes."""
    side = shape[-1]
    step = side / per_side
    place = (np.arange(side) + 0.5) / step
    cell, part = place.astype(int), place % 1 - 0.5
    far = np.hypot(part[:, None], part)
    number = 1 + cell[:, None] * per_side + cell
    speck = (abs(part[:, None] - 0.38) < 0.04) & (abs(part - 0.38) < 0.04)
    plane = np.where(((far < 0.4) & (far > 0.1)) | speck, number, 0).astype(np.int32)
    if len(shape) == 2:
        return plane
    volume = np.stack([plane] * shape[0])
    volume[[0, -1]] = np.where(far < 0.4, number, 0)
    return volume


def rings(side: int, count: int) -> np.ndarray:
    """So many rings around each other, together as large as the image: boxes do not help."""
    y, x = np.ogrid[:side, :side]
    radius = np.maximum(abs(2 * y - side + 1), abs(2 * x - side + 1)) / side
    ring = np.ceil(radius * count).astype(np.int32)
    return np.where(radius * count % 1 < 0.5, ring, 0)


def seconds(call: Callable[[], Any], repeats: int = 5) -> float:
    """Median CPU time of `repeats` calls, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return float(np.median(times))


def each(labels: np.ndarray, change: Callable[[np.ndarray], np.ndarray], fill: bool) -> np.ndarray:
    """The same by a loop over the objects, each in its box."""
    result = labels.copy() if fill else np.zeros_like(labels)
    for number, box in enumerate(scipy.ndimage.find_objects(labels), 1):
        if box is not None:
            mask = change(labels[box] == number)
            result[box][mask & (labels[box] == 0) if fill else mask] = number
    return result


def opened(mask: np.ndarray) -> np.ndarray:
    planes = [np.pad(plane, 3) for plane in (mask if mask.ndim == 3 else mask[None])]
    done = [scipy.ndimage.binary_opening(plane, disk(2))[3:-3, 3:-3] for plane in planes]
    return np.stack(done).reshape(mask.shape)


def largest(mask: np.ndarray) -> np.ndarray:
    parts, _ = scipy.ndimage.label(mask, np.ones((3,) * mask.ndim))
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


def check(labels: np.ndarray) -> None:
    """Equal to loops, on disks that do not touch the border."""
    filled = each(labels, scipy.ndimage.binary_fill_holes, True)
    np.testing.assert_array_equal(clean(labels, fill_holes=True), filled)
    one = each(labels, largest, False)
    np.testing.assert_array_equal(clean(labels, largest_component=True), one)
    both = each(each(labels, opened, False), largest, False)
    np.testing.assert_array_equal(clean(labels, open=2, largest_component=True) > 0, both > 0)
    areas = region_table(labels, properties=["area"]).set_index("label").area
    middle = areas.median()
    kept = clean(labels, keep=[{"area": (middle, None)}])
    np.testing.assert_array_equal(kept > 0, np.isin(labels, areas.index[areas >= middle]))


def bench_objects(shape: tuple[int, ...], per_side: int) -> None:
    few, many = field(shape, per_side), field(shape, 2 * per_side)
    check(few)
    name = " x ".join(map(str, shape))
    print(f"\n{name}: {few.max()} and {many.max()} objects on the same area")
    mask = np.indices(shape)[-1] % 300 > 150
    calls = {
        step: (lambda labels, options=options: clean(labels, **options))
        for step, options in STEPS.items()
    } | {
        f"split_by_mask, {rule}": (lambda labels, rule=rule: split_by_mask(labels, mask, rule=rule))
        for rule in ("overlap", "centroid")
    }
    for step, call in calls.items():
        one, four = seconds(lambda call=call: call(few)), seconds(lambda call=call: call(many))
        show(step, one, four)
    loop = [
        seconds(lambda labels=labels: each(labels, scipy.ndimage.binary_fill_holes, True), 1)
        for labels in (few, many)
    ]
    show("peer: fill_holes by a loop over boxes", *loop)


def bench_rings(side: int, count: int) -> None:
    few, many = rings(side, count), rings(side, 4 * count)
    filled = each(few, scipy.ndimage.binary_fill_holes, True)
    assert ((clean(few, fill_holes=True) > 0) == (filled > 0)).all()
    print(f"\n{side} x {side}: {count} and {4 * count} rings around each other")
    times = [seconds(lambda x=x: clean(x, fill_holes=True)) for x in (few, many)]
    show("fill_holes", *times)
    loop = [
        seconds(lambda x=x: each(x, scipy.ndimage.binary_fill_holes, True), 1) for x in (few, many)
    ]
    show("peer: fill_holes by a loop over boxes", *loop)


def theirs(labels: np.ndarray, columns: list[str]) -> dict[str, np.ndarray]:
    """The same columns by scikit-image; the last two are made of what it has."""
    names = dict.fromkeys(name for c in columns for name in PEER.get(c, (c,)))
    table = regionprops_table(labels, properties=names)
    renamed = {"equivalent_diameter_area": "equivalent_diameter"}
    renamed |= {f"centroid-{k}": f"centroid_{axis}" for k, axis in enumerate("yx")}
    renamed |= {f"bbox-{k}": f"bbox_{end}" for k, end in enumerate(("y0", "x0", "y1", "x1"))}
    table = {renamed.get(name, name): values for name, values in table.items()}
    if "touches_border" in columns:
        y0, x0, y1, x1 = (table[f"bbox_{end}"] for end in ("y0", "x0", "y1", "x1"))
        height, width = labels.shape
        table["touches_border"] = (y0 == 0) | (x0 == 0) | (y1 == height) | (x1 == width)
    if "circularity" in columns:
        table["circularity"] = np.minimum(4 * np.pi * table["area"] / table["perimeter"] ** 2, 1)
    return {column: table[column] for column in columns}


def check_table(labels: np.ndarray) -> None:
    columns = SHARED
    ours = region_table(labels, properties=columns)
    for column, values in theirs(labels, columns).items():
        np.testing.assert_allclose(ours[column], values, rtol=1e-9, atol=1e-9, err_msg=column)


def bench_tables(side: int, per_side: int) -> None:
    """All columns of objects, four times the objects, against scikit-image."""
    few, many = field((side, side), per_side), field((side, side), 2 * per_side)
    check_table(few)
    columns = SHARED
    picture = np.random.default_rng(0).integers(0, 60_000, few.shape).astype(np.uint16)
    print(f"\n{side} x {side}: tables of {few.max()} and {many.max()} objects on the same area")
    for name, given, wanted in (
        ("all columns that scikit-image has", None, columns),
        ("all columns of objects", None, object_columns("yx")),
        ("the same and all intensities", picture, [*columns, *regions.INTENSITY]),
        ("the default table", None, None),
        *((column, None, [column]) for column in ONE_BY_ONE),
    ):
        one, four = (table_seconds(labels, given, wanted) for labels in (few, many))
        show(name, one, four)
    show("peer: all columns, scikit-image", *(peer_seconds(x, columns) for x in (few, many)))


def table_seconds(labels: np.ndarray, picture: np.ndarray | None, names: Any) -> float:
    return seconds(lambda: region_table(labels, picture, properties=names), 9)


def peer_seconds(labels: np.ndarray, columns: list[str]) -> float:
    return seconds(lambda: theirs(labels, columns), 1)


def bench_filters(labels: np.ndarray) -> None:
    picture = np.random.default_rng(0).integers(0, 60_000, labels.shape).astype(np.uint16)
    print(f"\nFilters beside the table they need, {labels.shape}, {labels.max()} objects")
    plain = seconds(lambda: clean(labels), 9)
    print(f"clean without a filter, which only numbers: {1000 * plain:.1f} ms")
    for name, properties in TABLES.items():
        columns = region_table(labels, picture, None, properties).columns[1:]
        keep = [{column: (None, 1e18) for column in columns}]
        keep[0]["area"] = (float(np.median(np.bincount(labels.ravel())[1:])), None)
        show_filter(name, filter_seconds(labels, picture, keep), plain)
    for column in SHARED:
        values = region_table(labels, properties=[column])[column].to_numpy(float)
        middle = float(np.median(values))
        keep = [{column: (middle - 1e-6 * (1 + abs(middle)), None)}]  # no value lies so near
        check_filter(labels, keep)
        peer = peer_seconds(labels, [column])
        show_filter(column, filter_seconds(labels, None, keep), plain, peer)


def check_filter(labels: np.ndarray, keep: Any) -> None:
    """Equal to what scikit-image's table says."""
    [(column, (low, _))] = keep[0].items()
    stay = 1 + np.flatnonzero(theirs(labels, [column])[column] >= low)
    np.testing.assert_array_equal(clean(labels, keep=keep) > 0, np.isin(labels, stay))


def show_filter(
    name: str, times: tuple[float, float], plain: float, peer: float | None = None
) -> None:
    """Print a table's time, and the rest of `clean` without and with its numbering."""
    table, rest = times
    beyond = rest - plain
    line = (
        f"{name:24s} table {1000 * table:7.1f} ms   keep {1000 * beyond:6.1f} ms "
        f"{100 * beyond / table:6.1f} %   keep and number {1000 * rest:6.1f} ms "
        f"{100 * rest / table:6.1f} %"
    )
    print(line + (f"   scikit-image {1000 * peer:8.1f} ms" if peer else ""), flush=True)


def filter_seconds(
    labels: np.ndarray, picture: np.ndarray | None, keep: Any
) -> tuple[float, float]:
    """Median CPU time of the table, and of the rest of `clean`, in the same calls."""
    original, inner, whole = regions.region_table, [], []

    def timed(*given: Any, **named: Any) -> Any:
        start = time.process_time()
        table = original(*given, **named)
        inner.append(time.process_time() - start)
        return table

    regions.region_table = timed
    try:
        for _ in range(9):
            start = time.process_time()
            clean(labels, keep=keep, intensity=picture)
            whole.append(time.process_time() - start)
    finally:
        regions.region_table = original
    return float(np.median(inner)), float(np.median(np.subtract(whole, inner)))


def show(name: str, one: float, four: float) -> None:
    print(
        f"{name:38s} {1000 * one:9.1f} ms {1000 * four:9.1f} ms   {four / one:5.2f} x", flush=True
    )


def main() -> None:
    bench_objects((2048, 2048), 45)
    bench_objects((32, 512, 512), 12)
    bench_rings(2048, 64)
    bench_tables(2048, 20)
    bench_tables(2048, 45)
    bench_filters(field((2048, 2048), 45))


if __name__ == "__main__":
    main()
