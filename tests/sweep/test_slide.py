"""A slide out of core, by the commands: within 1.5 GB for all processes, without seam objects.

The slide is made of cells of 288 x 288 pixels, each with a bundled CC0 picture of nuclei on
an even ground, at a place of its own (jitter) and in one of four turns. No object reaches
another cell, so the labels of each cell must be those of the cell by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from opsef_bridge.engines.watershed import Decode, Predict, Watershed
from opsef_bridge.images import Region, read_labels
from opsef_bridge.project import Project
from opsef_bridge.sweep.planned import Plan

CELL, PICTURE = 288, 224
TILE = 512
LIMIT = 1.5e9

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc"
)


class Slide:
    """Where which turn of the picture lies."""

    def __init__(self, picture: np.ndarray, side: int) -> None:
        rng = np.random.default_rng(0)
        self.side = side
        self.ground = int(np.median(picture))
        self.pictures = [np.rot90(picture, k) for k in range(4)]
        cells = [(y, x) for y in range(0, side, CELL) for x in range(0, side, CELL)]
        self.cells = [cell for cell in cells if max(cell) + CELL <= side]
        self.turns = rng.integers(0, 4, len(self.cells))
        self.shifts = rng.integers(0, CELL - PICTURE + 1, (len(self.cells), 2))

    def array(self) -> np.ndarray:
        slide = np.full((self.side, self.side), self.ground, np.uint8)
        for (y, x), turn, (down, right) in zip(self.cells, self.turns, self.shifts, strict=True):
            y, x = y + down, x + right
            slide[y : y + PICTURE, x : x + PICTURE] = self.pictures[turn]
        return slide

    def write(self, file: Path) -> np.ndarray:
        """Write the slide; return the sample by which it is normalised."""
        slide = self.array()
        tifffile.imwrite(file, slide, tile=(TILE, TILE), compression="zlib", bigtiff=True)
        step = int(np.ceil(np.sqrt(slide.size / 2**20)))
        return slide[::step, ::step].copy()

    def truth(self, sample: np.ndarray) -> list[np.ndarray]:
        """Return the labels of each turn of the picture by itself."""
        rim = (CELL - PICTURE) // 2
        found = []
        for picture in self.pictures:
            cell = np.pad(picture, rim, constant_values=self.ground)
            raw = Watershed().predict(cell, Predict(), reference=sample)
            found.append(Watershed().decode(raw, Decode())[rim:-rim, rim:-rim])
        return found


def picture(folder: Path) -> np.ndarray:
    """A picture of nuclei that fades to the ground at its border, so no object reaches it."""
    grey = np.asarray(Image.open(folder / "small_fadeb0ab0928.png").convert("L")).astype(float)
    grey = grey[:PICTURE, :PICTURE]
    ground = np.median(grey)
    ramp = np.minimum(np.arange(PICTURE), np.arange(PICTURE)[::-1]) / 12 - 0.5
    ramp = ramp.clip(0, 1)
    return np.rint(ground + (grey - ground) * ramp * ramp[:, None]).astype(np.uint8)


class Memory(threading.Thread):
    """Samples the memory of a process and of all below it."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process, self.peak, self.most = process, 0, 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            known = list(family(self.process))
            self.peak = max(self.peak, sum(map(memory, known)))
            self.most = max(self.most, len(known))


def family(process: int) -> Iterator[int]:
    yield process
    try:
        for task in (Path("/proc") / str(process) / "task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))
    except OSError:
        return


def memory(process: int) -> int:
    """Resident bytes of a process; of what it shares with others its part."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def watched(bench, project: Project, *words: str) -> Memory:
    """Run a command; return what it took."""
    process = bench.start(project, *words)
    watch = Memory(process.pid)
    watch.start()
    try:
        _, err = process.communicate(timeout=1500)
    finally:
        watch.over.set()
        watch.join()
    assert process.returncode == 0, err
    return watch


def test_the_memory_of_children_is_seen(bench, until):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "x = bytearray(300_000_000); input()"
    process = subprocess.Popen([sys.executable, "-c", code, child], stdin=subprocess.PIPE)
    watch = Memory(process.pid)
    watch.start()
    try:
        until(lambda: watch.peak > 300_000_000)
        assert watch.most >= 2
    finally:
        process.communicate(b"\n")
        watch.over.set()
        watch.join()
    assert memory(os.getpid()) > 10_000_000


@pytest.mark.parametrize("side", [2048, pytest.param(8192, marks=pytest.mark.slow)])
def test_a_slide_within_memory_and_without_seams(bench, side):
    slide = Slide(picture(bench.examples), side)
    project = bench.project(
        {},
        models={"classic": {"engine": "watershed"}},
        images={"tiles": {"size": 1024, "overlap": 64}},
        sweep={"crop": 512},
    )
    sample = slide.write(project.root / "data" / "slide.tif")
    peaks = [watched(bench, project, "sweep", "run", "--workers", "2")]
    assert bench.opsef(project, "adopt", "v0001")[0] == 0
    peaks.append(watched(bench, project, "batch", "--workers", "2"))
    assert max(watch.peak for watch in peaks) < LIMIT
    assert min(watch.peak for watch in peaks) > 1e8 and peaks[1].most >= 2
    plan = Plan.from_json(project.run().plan())
    assert len(plan.images[0].tile_boxes()) == (side // 960 + (side % 960 > 64)) ** 2

    truth = slide.truth(sample)
    file = project.run().label_file("v0001", "i00001-slide")
    count = sum(int(truth[turn].max()) for turn in slide.turns)
    [outcome] = project.run().outcomes()
    assert outcome["objects"] == count > len(slide.cells)
    seen = np.zeros(count + 1, bool)
    pixels, top, band = 0, -1, np.zeros((0, 0), np.int32)
    for (y, x), turn, (down, right) in zip(slide.cells, slide.turns, slide.shifts, strict=True):
        if y != top:
            top, band = y, read_labels(file, Region(y=(y, y + CELL)))
        labels = band[:, x : x + CELL]
        expected = np.zeros_like(labels)
        expected[down : down + PICTURE, right : right + PICTURE] = truth[turn]
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
        assert len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1], (y, x)
        # No object is in two cells.
        assert not seen[pairs[0][pairs[0] > 0]].any()
        seen[pairs[0]] = True
        pixels += np.count_nonzero(labels)
    assert seen[1:].all()
    whole = sum(int(np.count_nonzero(truth[turn])) for turn in slide.turns)
    assert pixels == whole
