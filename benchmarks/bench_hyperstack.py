"""Write speed and memory of `write_planes` beside plain `tifffile.imwrite`.

Run ``python benchmarks/bench_hyperstack.py [MEGABYTES]``, or with ``--comparison [VARIANTS]``
for the comparison stack of 64 variants of 2048 x 2048 pixels. Both write the same pixels to
the same disk, alternating; the ratio is of the medians. The peer is given the whole array,
made beforehand; ours gets one plane at a time. Its time includes making them; of the comparison
stack both are measured, with planes made beforehand, and made on the way from labels.
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

from opsef_bridge.compare.stack import Frame, stack_planes
from opsef_bridge.images import write_planes

SIDE = 1024
ROUNDS = 5
LARGE, VARIANTS, SCALES = 2048, 64, (0.5, 1.0)
"""Of the comparison: side in pixels, frames, and at which scales networks saw the image."""


def planes(count: int) -> Iterator[np.ndarray]:
    """Yield distinct planes that are cheap to make."""
    for i in range(count):
        yield np.full((SIDE, SIDE), i, np.uint16)


def seconds(function: Callable[[], None]) -> float:
    """Return the time that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak(function: Callable[[], None], plane: int = SIDE * SIDE * 2) -> float:
    """Return the memory that one call allocates, in planes."""
    tracemalloc.start()
    function()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size / plane


def discs(shift: int) -> np.ndarray:
    """Return labels of discs on a grid of 24 pixels, moved by `shift`."""
    rows, columns = np.indices((LARGE, LARGE), np.int32) + np.int32(shift)
    ids = (rows // 24) * (LARGE // 24 + 2) + columns // 24 + 1
    return np.where((rows % 24 - 12) ** 2 + (columns % 24 - 12) ** 2 < 90, ids, 0)


def comparison(variants: int = VARIANTS) -> None:
    """Measure the comparison stack and print."""
    base = np.random.default_rng(0).integers(0, 4096, (LARGE, LARGE), np.uint16)
    labels = [discs(shift) for shift in range(4)]
    shape = (variants, 1, 4, LARGE, LARGE)

    def made() -> Iterator[np.ndarray]:
        frames = (
            Frame(labels[i % len(labels)], lambda: base, SCALES[i % len(SCALES)], "raw")
            for i in range(variants)
        )
        return stack_planes(base, frames)

    for _ in zip(range(4), made(), strict=False):
        pass  # numba compiles
    data = np.empty(shape, np.uint8)
    for place, plane in zip(np.ndindex(shape[:3]), made(), strict=True):
        data[place] = plane
    with tempfile.TemporaryDirectory() as folder:
        ours, whole, peer = (Path(folder, f"{name}.tif") for name in ("ours", "whole", "peer"))
        ways: dict[str, Callable[[], None]] = {
            "tifffile.imwrite": lambda: tifffile.imwrite(
                peer, data, imagej=True, metadata={"axes": "TZCYX"}
            ),
            "writing alone": lambda: write_planes(
                ours, (data[place] for place in np.ndindex(shape[:3])), shape, np.uint8
            ),
            "with making planes": lambda: write_planes(whole, made(), shape, np.uint8),
        }
        for write in ways.values():
            write()
        expected = tifffile.memmap(peer, mode="r")
        same = all(
            np.array_equal(tifffile.memmap(file, mode="r"), expected) for file in (ours, whole)
        )
        print(f"{variants} variants of {LARGE} x {LARGE}, {data.nbytes / 1e6:.0f} MB")
        print(f"same pixels: {same}")
        del expected
        files = (ours, whole, peer)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            names = list(ways)[number % 3 :] + list(ways)[: number % 3]  # nobody is always first
            for name in names:
                for file in files:  # what waits to go to the disk would slow the next one down
                    file.unlink(missing_ok=True)
                times[name].append(seconds(ways[name]))
        alone = statistics.median(times["tifffile.imwrite"])
        for name, taken in times.items():
            middle = statistics.median(taken)
            print(
                f"{name:20}{middle:7.3f} s (least {min(taken):.3f}) "
                f"{data.nbytes / middle / 1e6:6.0f} MB/s, {alone / middle:5.2f} x the speed"
            )
        held = peak(ways["with making planes"], LARGE * LARGE)
        print(f"with making planes: {held:.1f} planes of 8 bit more, labels among them")


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
    words = sys.argv[1:]
    if words[:1] == ["--comparison"]:
        comparison(*(int(word) for word in words[1:2]))
    else:
        main(*(int(word) for word in words[:1]))
