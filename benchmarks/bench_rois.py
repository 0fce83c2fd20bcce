"""ROIs at scale: 10,000 objects in 4096 x 4096, against peers in the same run.

    python benchmarks/bench_rois.py [--repeats 5]

Equality comes first: labels -> ROIs -> zip -> ROIs -> labels must give the same labels
before anything is timed. Times are medians; compare the ratios, which hold on a busy
machine too. OpenCV's contours run through pixel centres, so they are a floor for speed
and no alternative; ``find_contours`` and ``skimage.draw.polygon`` lose holes and parts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import roifile
from scipy import ndimage as ndi
from skimage.draw import polygon
from skimage.measure import find_contours

from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import Objects, read_rois, write_rois
from opsef_bridge.rois.annotatorj import check_stems
from opsef_bridge.rois.geojson import to_geojson

PITCH = 40


def nuclei(side: int, seed: int = 0) -> np.ndarray:
    """Return a label image of concave, nucleus-like objects, one in 40 x 40 pixels."""
    rng = np.random.default_rng(seed)
    cells = side // PITCH
    y, x = np.mgrid[:PITCH, :PITCH] - PITCH / 2 + 0.5
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    labels = np.zeros((side, side), np.int32)
    for cell in range(cells * cells):
        lobes, phase, size = rng.integers(2, 5), rng.uniform(0, 6.3), rng.uniform(9, 15)
        inside = radius < size * (1 + 0.25 * np.cos(lobes * angle + phase))
        row, column = np.array(divmod(cell, cells)) * PITCH
        labels[row : row + PITCH, column : column + PITCH][inside] = cell + 1
    return labels


def crops(labels: np.ndarray) -> list[np.ndarray]:
    """Return each object's mask in its bounding box, padded by one pixel."""
    return [
        np.pad(labels[box] == value, 1)
        for value, box in enumerate(ndi.find_objects(labels), 1)
        if box is not None
    ]


def contours_skimage(labels: np.ndarray) -> list[np.ndarray]:
    """Outline each object with `skimage.measure.find_contours`."""
    return [find_contours(crop, 0.5)[0] for crop in crops(labels)]


def contours_opencv(labels: np.ndarray) -> list[np.ndarray]:
    """Outline each object with OpenCV, through the centres of its outer pixels."""
    import cv2

    mode, method = cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    return [cv2.findContours(crop.astype(np.uint8), mode, method)[0][0] for crop in crops(labels)]


def fill_skimage(rois: list[roifile.ImagejRoi], shape: tuple[int, int]) -> np.ndarray:
    """Fill the outer loop of each ROI with `skimage.draw.polygon`."""
    labels = np.zeros(shape, np.int32)
    for roi in rois:
        x, y = roi.coordinates().T
        labels[polygon(y - 0.5, x - 0.5, shape)] = int(roi.name)
    return labels


def median(function: Callable[..., object], *arguments: object, repeats: int) -> float:
    """Return the median time of a call in seconds, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))


def growth(small: Callable[[], object], large: Callable[[], object], repeats: int) -> float:
    """Return how much more CPU time `large` takes than `small`: medians, taken in turns.

    In turns, so that what else the machine does falls on both alike.
    """
    times: dict[Callable[[], object], list[float]] = {small: [], large: []}
    for _ in range(repeats + 1):
        for function, taken in times.items():
            begin = time.process_time()
            function()
            taken.append(time.process_time() - begin)
    return float(np.median(times[large][1:]) / np.median(times[small][1:]))


def main() -> None:
    """Check equality, then print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    labels, quarter = nuclei(4096), nuclei(2048)
    folder = Path(tempfile.mkdtemp())
    ours, theirs = folder / "ours.zip", folder / "theirs.zip"

    rois = trace_rois(labels)
    write_rois(ours, rois)
    back = fill_rois(read_rois(ours), labels.shape)
    assert np.array_equal(back, labels), "labels -> ROIs -> labels is not exact"
    print(f"{len(rois)} objects, {labels.shape}: round trip exact, {ours.stat().st_size} bytes")

    def timed(function: Callable[..., object], *arguments: object) -> float:
        return median(function, *arguments, repeats=repeats)

    def line(what: str, ours: float, peer: str = "", theirs: float | None = None) -> None:
        ratio = f"{theirs:8.3f} s  {theirs / ours:5.1f}x  {peer}" if theirs else ""
        print(f"{what:28}{ours:8.3f} s  {ratio}")

    trace = timed(trace_rois, labels)
    line("labels -> ROIs", trace, "find_contours on crops", timed(contours_skimage, labels))
    try:
        line("labels -> ROIs", trace, "cv2 (inexact)", timed(contours_opencv, labels))
    except ImportError:
        print("cv2 is not installed: no floor")
    write = timed(write_rois, ours, rois)
    roifile_write = timed(lambda: roifile.roiwrite(theirs, rois, mode="w"))
    line("ROIs -> zip (deflated)", write, "roiwrite (stored)", roifile_write)
    read = timed(read_rois, ours)
    line("zip -> ROIs", read, "roiread (stored)", timed(roifile.roiread, theirs))
    fill = timed(fill_rois, rois, labels.shape)
    line("ROIs -> labels", fill, "skimage.draw.polygon", timed(fill_skimage, rois, labels.shape))
    line("zip -> labels", timed(lambda: fill_rois(read_rois(ours), labels.shape)))
    small_rois = trace_rois(quarter)
    write_rois(theirs, small_rois)
    names = [f"i{k:05d}-cell" for k in range(40_000)]
    for what, small, large in (
        ("labels -> ROIs", lambda: trace_rois(quarter), lambda: trace_rois(labels)),
        (
            "zip -> labels",
            lambda: fill_rois(read_rois(theirs), quarter.shape),
            lambda: fill_rois(read_rois(ours), labels.shape),
        ),
        (
            "labels -> GeoJSON",
            lambda: to_geojson(Objects(quarter)),
            lambda: to_geojson(Objects(labels)),
        ),
        (
            "names for AnnotatorJ",
            lambda: check_stems(names[:10_000]),
            lambda: check_stems(names),
        ),
    ):
        print(f"4x as much: {what} {growth(small, large, repeats):.2f}x the CPU time")


if __name__ == "__main__":
    main()
