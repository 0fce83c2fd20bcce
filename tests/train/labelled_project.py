"""A project of small labelled images whose objects a test saves and vouches for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from opsef_bridge.images import write_labels
from opsef_bridge.project import Project
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Source
from opsef_bridge.sweep.importing import import_images

CONFIG = """\
opsef: 1
images: {source: [data/*.tif]}
models: {classic: {engine: watershed}}
"""


def squares(seed: int, shape: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with bright squares of 6 px, and their labels from 1."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for n, (y, x) in enumerate(np.ndindex(shape[0] // 12, shape[1] // 12), start=1):
        labels[y * 12 + 2 : y * 12 + 8, x * 12 + 3 : x * 12 + 9] = n
    image = rng.normal(300, 20, shape) + 1000 * (labels > 0)
    return image.astype(np.uint16), labels


def project_of(folder: Path, pictures: dict[str, np.ndarray]) -> Project:
    """Make a project of images."""
    (folder / "data").mkdir(parents=True)
    for name, picture in pictures.items():
        file = folder / "data" / name
        colour = picture.ndim == 3 and picture.shape[-1] == 3
        axes = "YXS" if colour else {2: "YX", 3: "ZYX", 4: "ZCYX"}[picture.ndim]
        tifffile.imwrite(file, picture, photometric="rgb" if colour else None,
                         metadata={"axes": axes}, ome=False, imagej=not colour)  # fmt: skip
    (folder / "opsef.yaml").write_text(CONFIG)
    project = Project(folder)
    import_images(project, project.config)
    return project


def save(project: Project, image: str, labels: np.ndarray, author: str = "ada") -> str:
    """Save labels as the newest revision of an image; return its id."""
    history = History(project, image)
    head = history.head()
    base = Base(revision=head.id) if head else Base()
    number = len(history.revisions())
    source = Source(f"{number}.zip", f"{number:064x}", "imagej-zip")
    return history.save(Objects(labels), base=base, author=author, source=source).revision.id


def label_folder(folder: Path, count: int, start: int = 0) -> Path:
    """Write ``images/`` and ``labels/`` of squares."""
    for n in range(count):
        image, labels = squares(start + n)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / "images" / f"f{n}.tif", image)
        write_labels(folder / "labels" / f"f{n}.tif", labels)
    return folder
