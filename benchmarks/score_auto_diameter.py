"""How good ``diameter: auto`` is for the shipped Cellpose network, on images of *train*.

Run ``python benchmarks/score_auto_diameter.py DSB2018 [COUNT]``. DSB2018 is a folder with
``manifest.csv`` and ``train`` (BBBC038v1, CC0). COUNT images are taken evenly; bundled ones and
their fields are left out. The network has learned from these images: the figures compare ways
to choose a diameter, and are no scores of the network. ``val`` is not looked at.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from opsef_bridge.demo import example_data
from opsef_bridge.engines.cellpose import Cellpose, Decode, Predict
from opsef_bridge.engines.cellpose_size import median_diameter
from opsef_bridge.engines.registry import find_weights
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.train.score import bootstrap, count_matches, pooled_f1

LADDER = (12.0, 22.0, 45.0)
WAYS = (*LADDER, 30.0, "truth", "auto")


def chosen_images(data: Path, count: int) -> list[Path]:
    """Return `count` images of train, evenly by name."""
    with (data / "manifest.csv").open(newline="") as file:
        field = {row["file"]: row["mosaic_group"] for row in csv.DictReader(file)}
    with (example_data() / "origin.csv").open(newline="") as file:
        bundled = {Path(row["image"]).stem.rsplit("_", 1)[-1] for row in csv.DictReader(file)}
    left_out = {field[name] for name in bundled if name in field}
    paths = sorted((data / "train" / "images").glob("*.png"))
    paths = [path for path in paths if field[path.stem] not in left_out]
    return [paths[i * len(paths) // count] for i in range(count)]


def best_of_ladder(counts: dict[float | str, np.ndarray]) -> np.ndarray:
    """Return, image by image, the counts of the diameter of the ladder with the best F1."""
    rows = zip(*(counts[diameter] for diameter in LADDER), strict=True)
    return np.array([max(row, key=lambda one: pooled_f1(one[None])[0]) for row in rows])


def main(data: str, count: str = "40") -> None:
    """Score and print."""
    engine = Cellpose()
    engine.load(find_weights("cellpose", None))
    found: dict[float | str, list[np.ndarray]] = {way: [] for way in WAYS}
    seconds = dict.fromkeys(WAYS, 0.0)
    ratios = []
    for path in chosen_images(Path(data), int(count)):
        image = read_image(path).data
        truth = read_labels(path.parents[1] / "labels" / f"{path.stem}.tif")
        right = median_diameter(truth)
        for way in WAYS:
            started = time.process_time()
            raw = engine.predict(image, Predict(diameter=right if way == "truth" else way))
            labels = engine.decode(raw, Decode())
            seconds[way] += time.process_time() - started
            found[way].append(count_matches([(truth, labels)])[0])
        ratios.append(raw.values["chosen_diameter"] / right)
        print(f"{path.stem} {image.shape} truth {right:5.1f}  auto / truth {ratios[-1]:.2f}")
        sys.stdout.flush()
    counts: dict[float | str, np.ndarray] = {way: np.array(rows) for way, rows in found.items()}
    counts["best of the ladder"] = best_of_ladder(counts)
    print(f"\n{len(ratios)} images; auto / truth: quartiles", np.percentile(ratios, (25, 50, 75)))
    print(f"within a factor of 1.25: {np.mean(np.abs(np.log(ratios)) < np.log(1.25)):.2f}")
    for way, rows in counts.items():
        low, high = bootstrap(rows)
        f1 = pooled_f1(rows)
        name = f"{way:g}" if isinstance(way, float) else way
        print(
            f"{name:20} F1@0.5 {f1[0]:.3f} ({low[0]:.3f}..{high[0]:.3f})  "
            f"F1@0.7 {f1[1]:.3f} ({low[1]:.3f}..{high[1]:.3f})"
            + (f"  CPU {seconds[way]:.0f} s" if way in seconds else "")
        )


if __name__ == "__main__":
    main(*sys.argv[1:3])
