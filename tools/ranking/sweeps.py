"""The projects of the experiment and their sweeps, by the program itself."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from opsef_bridge.images import read_image

__all__ = ["SETS", "TRAINING", "UNLIKE", "make_projects", "sweep"]

BLURS = {"blurred-2": 2, "blurred-3": 3, "blurred": 4}
"""Sigma in px by set."""

UNLIKE = ("tissue", "inverted", *BLURS)
SETS = ("fluorescence", *UNLIKE)
"""Nuclei in fluorescence, like what the networks learned from; and some that are unlike it."""

TRAINING = "training"
"""What the networks learned from; it has no tables."""

HEAD = """\
opsef: 1
images: {source: data}
sweep: {images: all, crop: none, device: cpu}
compare: {top: 1, rois: 0}
"""
RECIPES = """\
preprocess:
  raw: []
  even: [{median: {radius: 1}}, {clahe: {}}]
"""
RAW = """\
preprocess:
  raw: []
"""
INVERTED = """\
preprocess:
  inverted: [invert]
"""
MODELS = """\
models:
  unet:      {{engine: unet, scale: [{scales}], threshold: [{unet}]}}
  fpn2ws:    {{engine: fpn2ws, scale: [{scales}], seed: [{fpn2ws}]}}
  stardist:  {{engine: stardist, weights: nuclei-stardist, scale: [{scales}], prob: [{stardist}]}}
  cellpose:  {{engine: cellpose, diameter: [{diameters}], cellprob: [{cellpose}]}}
  maskrcnn:  {{engine: maskrcnn, scale: [{scales}], score: [{maskrcnn}]}}
  classical: {{engine: watershed, threshold: [{classical}], min_distance: [{distances}]}}
"""
LADDER = {"scales": "0.5, 1.0, 2.0", "diameters": "12, 22, 45"}
ONE = {"scales": "1.0", "diameters": "22"}
MANY = {
    "unet": "0.4, 0.6",
    "fpn2ws": "0.5, 0.7",
    "stardist": "0.4, 0.6",
    "cellpose": "-1, 1",
    "maskrcnn": "0.4, 0.7",
    "classical": "otsu, local",
    "distances": "3, 6, 12",
}
SINGLE = {
    "unet": "0.5",
    "fpn2ws": "0.6",
    "stardist": "0.5",
    "cellpose": "0",
    "maskrcnn": "0.5",
    "classical": "otsu",
    "distances": "6",
}

Change = Callable[[np.ndarray], np.ndarray]


def make_projects(data: Path, out: Path) -> None:
    """Write the project of each set: images, and the configurations of its sweeps.

    Parameters
    ----------
    data : Path
        Folder with ``dsb2018`` (BBBC038v1) and ``bbbc039`` as ``images`` and ``labels``.
    out : Path
        Gets a folder for each of `SETS`.
    """
    main = HEAD + RECIPES + MODELS.format(**LADDER, **MANY)
    few = HEAD + INVERTED + MODELS.format(**ONE, **SINGLE)
    all_scales = HEAD + INVERTED + MODELS.format(**LADDER, **SINGLE)
    one_threshold = HEAD + RAW + MODELS.format(**LADDER, **SINGLE)
    one_scale = HEAD + RAW + MODELS.format(**ONE, **SINGLE)
    # Cellpose takes longer than all others together.
    fast = "\n".join(line for line in one_scale.split("\n") if "cellpose" not in line)
    fluorescence = sorted((data / "dsb2018" / "val" / "images").iterdir())
    fields = sorted((data / "bbbc039" / "images").iterdir())
    _write(out / "fluorescence", [*fluorescence, *fields], [main, few])
    with (data / "dsb2018" / "manifest.csv").open(newline="") as file:
        stained = {row["file"] for row in csv.DictReader(file) if row["kind"].startswith("he_")}
    other = sorted((data / "dsb2018" / "other" / "images").iterdir())
    _write(out / "tissue", [file for file in other if file.stem in stained], [main, all_scales])
    some = fluorescence[::3]
    for name, sigma in BLURS.items():
        blur = partial(_blurred, sigma=sigma)
        _write(out / name, some, [main if name == "blurred" else one_threshold], blur)
    _write(out / "inverted", some, [main], lambda a: float(a.max()) - a + a.min())
    _write(out / TRAINING, sorted((data / "dsb2018" / "train" / "images").iterdir()), [fast])


def _blurred(array: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(array.astype(float), sigma)


def _write(
    root: Path, images: Iterable[Path], configs: Iterable[str], change: Change | None = None
) -> None:
    (root / "data").mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(configs):
        (root / f"{number}.yaml").write_text(text, "utf-8")
    for image in images:
        if change is None:
            shutil.copy(image, root / "data" / image.name)
            continue
        array = read_image(image).data
        changed = np.rint(change(array)).astype(array.dtype)
        tifffile.imwrite(root / "data" / f"{image.stem}.tif", changed)


def sweep(root: Path, workers: int) -> None:
    """Do the sweeps of a project; what is done already is not done again."""
    for config in sorted(root.glob("[0-9].yaml")):
        shutil.copy(config, root / "opsef.yaml")
        words = ["-p", str(root), "sweep", "run", "--workers", str(workers)]
        subprocess.run([sys.executable, "-m", "opsef_bridge", *words], check=False)
