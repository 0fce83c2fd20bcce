"""Write speed and memory of `write_planes` beside plain `tifffile.imwrite`.

Run ``python benchmarks/bench_hyperstack.py [MEGABYTES]``. Both write the same pixels to the
same disk, alternating, five times; the ratio is of the medians. The peer is given the whole
array, made beforehand; ours gets one plane at a time and its time includes making them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from opsef_bridge.images import write_planes

SIDE = 1024
ROUNDS = 5


def planes(count: int) -> Iterator[np.ndarray]:
    """Yield distinct planes that are cheap to make."""
    for i in range(count):
        yield np.full((SIDE, SIDE), i, np.uint16)


def seconds(function: Callable[[], None]) -> float:
    """Return the time that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak(function: Callable[[], None]) -> float:
    """Return the memory that one call allocates, in planes."""
    tracemalloc.start()
    function()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size / (SIDE * SIDE * 2)


def main(megabytes: int = 200) -> None:
    """Measure and print."""
    count = max(megabytes * 2**20 // (SIDE * SIDE * 2), 1)
    shape = (count, 1, 1, SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = Path(folder, "ours.tif"), Path(folder, "peer.tif")

        data = np.stack(list(planes(count))).reshape(shape)

        def write_ours() -> None:
            write_planes(ours, planes(count), shape, np.uint16)

        def write_peer() -> None:
            tifffile.imwrite(peer, data, imagej=True, metadata={"axes": "TZCYX"})

        times = [(seconds(write_ours), seconds(write_peer)) for _ in range(ROUNDS)]
        same = np.array_equal(tifffile.memmap(ours, mode="r"), tifffile.memmap(peer, mode="r"))
        a, b = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{count} planes of {SIDE} x {SIDE} uint16 ({megabytes} MB); same pixels: {same}")
        for name, took, function in (("ours", a, write_ours), ("tifffile", b, write_peer)):
            speed = megabytes / took
            print(f"{name:9}{took:7.3f} s {speed:6.0f} MB/s {peak(function):5.1f} planes more")
        print(f"ratio {a / b:.2f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
