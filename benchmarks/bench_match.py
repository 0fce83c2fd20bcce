"""Time and memory of matching, agreement and region tables against their peers.

Run ``python benchmarks/bench_match.py``: about five minutes and 5 GB, most of both for the
peer. Equality is checked first; ours is the median of seven calls.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from skimage.measure import regionprops_table
from stardist.matching import matching

from opsef_bridge.compare import agreement, image_support, pairwise_f1
from opsef_bridge.measure.match import match
from opsef_bridge.measure.regions import region_table

TEN = tuple(np.arange(0.5, 1, 0.05).tolist())


def discs(side: int, count: int, radius: float, seed: int) -> np.ndarray:
    """Labels of `count` discs on a shaken grid; the seed moves and resizes them."""
    random = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    per_row = int(np.ceil(np.sqrt(count)))
    step = side / per_row
    for number in range(count):
        middle = (np.array(divmod(number, per_row)) + 0.5) * step + random.uniform(-2, 2, 2)
        r = radius * random.uniform(0.8, 1.2)
        low = np.maximum(np.floor(middle - r), 0).astype(int)
        y, x = np.ogrid[low[0] : int(middle[0] + r) + 1, low[1] : int(middle[1] + r) + 1]
        inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= r * r
        part = labels[low[0] : low[0] + len(y), low[1] : low[1] + x.shape[1]]
        part[inside[: len(part), : part.shape[1]]] = number + 1
    return labels


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _resident_peak() -> int:
    """Peak of this process's resident memory in kB (ru_maxrss would count its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _peak(function: Callable[..., Any], a: np.ndarray, b: np.ndarray, queue: Any) -> None:
    function(a[:64], b[:64])  # imports and compiled code are not what is measured
    before = _resident_peak()
    function(a, b)
    queue.put((_resident_peak() - before) / 1024)


def megabytes(function: Callable[..., Any], a: np.ndarray, b: np.ndarray) -> float:
    """Growth of the peak of resident memory, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(function, a, b, queue))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def show(name: str, ours: float, theirs: float, unit: str) -> None:
    ratio = f"{theirs / max(ours, 1e-9):8.0f} x"
    print(f"{name:44s} ours {ours:9.4f} {unit}   peer {theirs:9.3f} {unit}   {ratio}", flush=True)


def bench_match(a: np.ndarray, b: np.ndarray, name: str) -> None:
    ours, theirs = match(a, b, TEN), matching(a, b, TEN)
    for row, peer in zip(ours.itertuples(), theirs, strict=True):
        assert (row.tp, row.fp, row.fn) == (peer.tp, peer.fp, peer.fn)
    one, ten = seconds(lambda: match(a, b), 7), seconds(lambda: match(a, b, TEN), 7)
    show(f"match, {name}, one threshold", one, seconds(lambda: matching(a, b), 1), "s ")
    show(f"match, {name}, ten thresholds", ten, seconds(lambda: matching(a, b, TEN), 1), "s ")
    low = seconds(lambda: match(a, b, 0.2), 3)
    assert match(a, b, 0.2).tp.item() == matching(a, b, 0.2).tp
    show(f"match, {name}, IoU 0.2", low, seconds(lambda: matching(a, b, 0.2), 1), "s ")
    memory = megabytes(match, a, b)
    show(f"match, {name}, memory", memory, megabytes(matching, a, b), "MB")


def bench_agreement(variants: int) -> None:
    images = [discs(600, 190, 15, seed) for seed in range(variants)]
    families = [f"family{v % 4}" for v in range(variants)]
    f1 = pairwise_f1([image_support(images, families)])
    for v, w in combinations(range(6), 2):
        assert np.isclose(f1[v, w], matching(images[v], images[w]).f1)
    ours = seconds(lambda: agreement([images], families), 7)
    peer = seconds(lambda: [matching(a, b) for a, b in combinations(images, 2)], 1)
    show(f"agreement, {variants} variants, 600 x 600, 190 objects", ours, peer, "s ")


def bench_regions(labels: np.ndarray, name: str) -> None:
    names = ["area", "centroid", "bbox", "eccentricity", "intensity_mean"]
    picture = np.random.default_rng(0).random(labels.shape)
    ours = region_table(labels, picture, properties=names)
    theirs = regionprops_table(labels, picture, properties=names)
    for column, values in zip(ours.columns[1:], theirs.values(), strict=True):
        np.testing.assert_allclose(ours[column], values, rtol=1e-9, atol=1e-9)
    fast = seconds(lambda: region_table(labels, picture, properties=names), 7)
    slow = seconds(lambda: regionprops_table(labels, picture, properties=names), 1)
    show(f"region_table, {name}", fast, slow, "s ")


def main() -> None:
    bench_agreement(32)
    for side, count, radius in ((2048, 2000, 18), (4096, 10_000, 17)):
        a, b = discs(side, count, radius, 1), discs(side, count, radius, 2)
        name = f"{side} x {side}, {count} objects"
        bench_regions(a, name)
        bench_match(a, b, name)


if __name__ == "__main__":
    main()
