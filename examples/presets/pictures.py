"""Draw a picture for each preset, with the labels of what is in it.

Usage: python examples/presets/pictures.py FOLDER

Four are drawn, from a seed, so that they are the same everywhere; three are parts of the
images in ``examples/data`` (CC0). Pictures go to FOLDER/images, labels to FOLDER/labels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

DATA = Path(__file__).parents[1] / "data"

PHOTOS = {
    "small-nuclei": ("small_fadeb0ab0928.png", slice(0, 128), slice(0, 128)),
    "epithelial": ("large_6b6d4e6ff52d.png", slice(280, 408), slice(248, 376)),
    "kidney-he": ("tissue_5d75a63972ef.png", slice(0, 128), slice(0, 128)),
}
"""File and part of those that are photographs."""

DRAWN = ("cobblestones", "leaves", "colon-3d", "muscle")


def picture(preset: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (uint8; YX, ZYX or, of colour, YXS) and labels (int32; YX)."""
    if preset in PHOTOS:
        name, rows, columns = PHOTOS[preset]
        image = np.asarray(Image.open(DATA / "images" / name))[rows, columns]
        labels = tifffile.imread(DATA / "labels" / Path(name).with_suffix(".tif"))
        return image, labels[rows, columns].astype(np.int32)
    random = np.random.default_rng(seed)
    if preset == "colon-3d":
        return _nuclei_in_a_stack(random)
    spacing, gap = {"cobblestones": (44, 7), "leaves": (48, 4), "muscle": (32, 4)}[preset]
    labels = _pavement(random, 160, spacing, gap)
    if preset == "cobblestones":
        # Bright cells on a haze of 50, in and out of focus over five planes.
        flat = 60 + 110.0 * (labels > 0) * random.uniform(0.7, 1.2, labels.max() + 1)[labels]
        planes = [gaussian_filter(flat, 1 + abs(z - 2)) * (1 - abs(z - 2) / 8) for z in range(5)]
        return _photographed(random, np.stack(planes), 6), labels
    # Bright walls; leaves have a little in them.
    inside = 35.0 if preset == "leaves" else 20.0
    walls = np.where(labels > 0, inside, 170.0)
    return _photographed(random, gaussian_filter(walls, 1), 10), labels


def _photographed(random: np.random.Generator, light: np.ndarray, noise: float) -> np.ndarray:
    return np.clip(np.rint(light + random.normal(0, noise, light.shape)), 0, 255).astype(np.uint8)


def _pavement(random: np.random.Generator, side: int, spacing: int, gap: float) -> np.ndarray:
    """Labels of cells side by side, each the points that are nearest to its middle."""
    steps = np.arange(-spacing, side + spacing, spacing) + spacing / 2
    middles = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    middles = middles + random.uniform(-spacing / 5, spacing / 5, middles.shape)
    points = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2)
    distance, nearest = cKDTree(middles).query(points, k=2)
    inside = distance[:, 1] - distance[:, 0] > gap
    cells = np.where(inside, nearest[:, 0] + 1, 0).reshape(side, side)
    return np.unique(cells, return_inverse=True)[1].reshape(side, side).astype(np.int32)


def _nuclei_in_a_stack(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Three planes through oval nuclei of some 40 px on a haze of 70."""
    y, x = np.mgrid[:160, :160].astype(float)
    labels, light = np.zeros((160, 160), np.int32), np.full((3, 160, 160), 75.0)
    texture = gaussian_filter(random.normal(0, 60, (160, 160)), 3)
    for number, (cy, cx) in enumerate(((r, c) for r in (28, 80, 132) for c in (28, 80, 132)), 1):
        cy, cx = cy + random.uniform(-5, 5), cx + random.uniform(-5, 5)
        long, short, turn = random.uniform(19, 23), random.uniform(15, 19), random.uniform(0, 3)
        along = (y - cy) * np.cos(turn) + (x - cx) * np.sin(turn)
        across = (x - cx) * np.cos(turn) - (y - cy) * np.sin(turn)
        where = (along / long) ** 2 + (across / short) ** 2
        labels[where <= 1] = number
        for z in range(3):
            light[z][where <= 1 - 0.1 * abs(z - 1)] += random.uniform(70, 110)
    light += np.where(labels > 0, texture, 0)
    shifted = map_coordinates(light, np.mgrid[:3, :160, :160], order=1, mode="nearest")
    return _photographed(random, gaussian_filter(shifted, (0, 1.5, 1.5)), 8), labels


def write(folder: Path, preset: str) -> Path:
    """Write the picture of a preset and its labels; return the path of the picture."""
    image, labels = picture(preset)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    path = folder / "images" / f"{preset}.tif"
    if image.shape[-1] == 3:
        tifffile.imwrite(path, image, photometric="rgb")
    else:
        axes = "ZYX"[-image.ndim :]
        tifffile.imwrite(path, image, imagej=True, metadata={"axes": axes})
    tifffile.imwrite(folder / "labels" / path.name, labels.astype(np.uint16), imagej=True)
    return path


if __name__ == "__main__":
    for name in (*DRAWN, *PHOTOS):
        print(write(Path(sys.argv[1]), name))
