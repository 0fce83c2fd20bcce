"""Memory and time of reading parts of a 2 GB stack, and of a .lif beside plain readlif.

Run ``python benchmarks/bench_read.py [MEGABYTES]``. The stack is written once as ImageJ
TIFF (uncompressed), tiled OME-TIFF (zstd) and OME-Zarr (zstd). Each part is read in a
process of its own: what counts is its peak of resident memory less what it held before,
over the bytes asked for. More than 1.3 is a failure.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from opsef_bridge.images import Region, read_image, write_planes, write_zarr

SIDE = 2048
LIMIT = 1.3
LIF = Path(__file__).parents[1] / "tests" / "data" / "lif" / "synthetic_cc0.lif"

CHILD = """
import sys, time
from opsef_bridge.images import Region, read_image

def held(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

path, text = sys.argv[1:]
read_image(path, region=Region(z=(0, 1), y=(0, 1), x=(0, 1)))  # loads the libraries
before, start = held("VmRSS:"), time.perf_counter()
image = read_image(path, region=Region.from_text(text) if text else None)
took = time.perf_counter() - start
print((held("VmHWM:") - before) / image.data.nbytes, image.data.nbytes / 2**20, took)
"""


def planes(count: int) -> Iterator[np.ndarray]:
    """Yield planes of 12-bit noise, each shifted from the one before."""
    noise = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)
    for i in range(count):
        yield np.roll(noise, i * 7, axis=1)


def make(folder: Path, count: int) -> list[Path]:
    """Write the stack in all formats."""
    shape = (count, SIDE, SIDE)
    paths = [folder / name for name in ("imagej.tif", "tiled.ome.tif", "stack.zarr")]
    write_planes(paths[0], planes(count), (1, count, 1, SIDE, SIDE), np.uint16)
    tiles = (
        plane[y : y + 256, x : x + 256]
        for plane in planes(count)
        for y in range(0, SIDE, 256)
        for x in range(0, SIDE, 256)
    )
    options = {"tile": (256, 256), "compression": "zstd", "ome": True, "bigtiff": True}
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(paths[1], tiles, shape=shape, dtype="u2", metadata=metadata, **options)
    blocks = (((z, 0, 0), plane[np.newaxis]) for z, plane in enumerate(planes(count)))
    write_zarr(paths[2], blocks, "ZYX", shape=shape, dtype=np.uint16)
    return paths


def seconds(function: Callable[[], object]) -> float:
    """Return the median time of the processor over 15 calls."""
    times = []
    for _ in range(15):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return statistics.median(times)


def measure(path: Path, region: Region | None) -> float:
    """Read a part in a process of its own; print and return its memory."""
    text = region.text if region else ""
    command = [sys.executable, "-c", CHILD, str(path), text]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    ratio, size, took = map(float, found)
    what = text or "all"
    print(f"{path.name:14}{what:28}{size:8.0f} MB {took:7.2f} s  memory {ratio:5.2f} of that")
    return ratio


def compare_lif() -> None:
    """Print the time to read a stack of a .lif by ours and by plain readlif."""
    from readlif.reader import LifFile

    def peer() -> list[np.ndarray]:
        image = LifFile(str(LIF)).get_image(0)
        places = np.ndindex(image.nt, image.nz, image.channels)
        return [np.asarray(image.get_frame(z, t, c)) for t, z, c in places]

    a, b = seconds(lambda: read_image(LIF)), seconds(peer)
    print(f"{LIF.name}: ours {1000 * a:.1f} ms, readlif {1000 * b:.1f} ms, ratio {a / b:.2f}")


def main(megabytes: int = 2048) -> int:
    """Measure and print; return 1 where a part takes too much memory."""
    count = max(megabytes * 2**20 // (SIDE * SIDE * 2), 8)
    some = (count // 4, count // 2)
    regions = [
        Region(z=some),
        Region(y=(300, 1300), x=(512, 1536)),
        Region(z=some, y=(0, 1024), x=(0, SIDE)),
        None,
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = make(Path(folder), count)
        print(f"{count} planes of {SIDE} x {SIDE} uint16")
        ratios = [measure(path, region) for path in paths for region in regions]
    compare_lif()
    print(f"most memory: {max(ratios):.2f} of the bytes asked for (limit {LIMIT})")
    return int(max(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main(*(int(argument) for argument in sys.argv[1:2])))
