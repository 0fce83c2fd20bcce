"""Regions on disk, and a stack of them to look at.

::

    regions.json   preset, seed, count, and of each region its image, group and kind
    images.npy     float32, shape (count, size, size), or (count, size, size, 3)
    labels.npy     int32, shape (count, size, size); -1 where nobody vouched
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from skimage.segmentation import find_boundaries

from opsef_bridge.errors import InputError, ProjectError
from opsef_bridge.execute import Event
from opsef_bridge.files import atomic_folder, file_sha256, read_json, write_json
from opsef_bridge.images import label_lut, write_hyperstack
from opsef_bridge.train.data import Sample
from opsef_bridge.train.dataset import read_card, read_dataset
from opsef_bridge.train.dataset_bundled import as_one_kind
from opsef_bridge.train.region_presets import Preset, preset_of
from opsef_bridge.train.regions import Regions

__all__ = ["RegionFolder", "read_regions", "write_augmented", "write_preview", "write_regions"]

CARD = "regions.json"

SHOWN = 200
"""Regions that a preview shows at most."""


def write_regions(
    folder: str | Path,
    regions: Sequence[Sample],
    preset: Preset,
    seed: int,
    origin: Mapping[str, Any] | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Write regions one by one; not more than one is held.

    Parameters
    ----------
    folder : path
        Must not exist, or be empty; it appears when all is in it.
    regions : sequence of Sample
        All of one size, all grey or all in colour.
    preset : Preset
    seed : int
        Of `opsef_bridge.train.regions.Regions`; recorded.
    origin : mapping, optional
        What they are of: id and key of the dataset, split.
    report : callable
        Called with the number of regions that are written.

    Returns
    -------
    dict
        The content of ``regions.json``.

    Raises
    ------
    InputError
        The folder holds something, or regions have different shapes.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty", hint="Name a new folder")
    with atomic_folder(folder) as partial:
        told = _write(partial, iter(regions), len(regions), report)
        card = {
            "count": len(regions),
            "seed": seed,
            "preset": preset.to_json(),
            "of": dict(origin or {}),
            "kinds": dict(sorted(Counter(one["kind"] for one in told).items())),
            "sha256": {name: file_sha256(partial / name) for name in ("images.npy", "labels.npy")},
            "regions": told,
        }
        write_json(partial / CARD, card)
    return card


def write_augmented(
    dataset: Path,
    preset: str,
    count: int,
    *,
    seed: int = 0,
    size: int | None = None,
    apart: bool = False,
    split: str = "train",
    colour: bool = False,
    preview: Path | None = None,
    out: Path | None = None,
    tell: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Draw regions of a dataset, and write a preview, a folder of all of them, or both.

    Parameters
    ----------
    dataset : Path
        Its folder.
    preset : str
        Name; `size` and `apart` change it.
    count, seed
        As `opsef_bridge.train.regions.Regions`.
    split, colour
        As `opsef_bridge.train.dataset.open_dataset`; volumes are taken plane by plane.
    preview, out : Path, optional
    tell : callable
        Takes an `Event` for each region.

    Returns
    -------
    dict
        ``dataset``, ``count``, ``seed``, ``preset`` (all numbers), ``kinds`` (regions of
        each), ``shown`` and the files.

    Raises
    ------
    InputError
        There is no such preset, the split is empty, or a file cannot be written there.
    ProjectError
        The dataset is damaged.
    """
    how = replace(preset_of(preset), apart=apart)
    how = replace(how, size=size) if size else how
    card = read_card(dataset)
    samples = as_one_kind(read_dataset(dataset, split, colour=colour, planes=True), card)
    regions = Regions(samples, count, how, seed)
    origin = {"dataset": card["id"], "key": card["key"], "split": split, "colour": colour}
    shown = write_preview(preview, regions, how, seed) if preview else 0
    if out:
        write_regions(
            out, regions, how, seed, origin, lambda done: tell(Event(done, count, f"{done}"))
        )
    return {
        **origin,
        "count": count,
        "seed": seed,
        "preset": how.to_json(),
        "kinds": regions.balance(),
        "shown": shown,
        "preview": str(preview) if preview else None,
        "out": str(out) if out else None,
    }


def _write(
    folder: Path, regions: Iterator[Sample], count: int, report: Callable[[int], None]
) -> list[dict[str, str]]:
    first = next(regions)
    open_file = np.lib.format.open_memmap
    images = open_file(folder / "images.npy", "w+", np.float32, (count, *first.image.shape))
    labels = open_file(folder / "labels.npy", "w+", np.int32, (count, *first.labels.shape))
    told = []
    for number, one in enumerate(chain([first], regions)):
        if one.image.shape != first.image.shape:
            raise InputError(
                f"{one.name} is {one.image.shape}, {first.name} is {first.image.shape}",
                hint="Take grey and colour images apart, or colour as grey",
            )
        images[number], labels[number] = one.image, one.labels
        told.append({"name": one.name, "group": one.group, "kind": one.kind})
        report(number + 1)
    images.flush()
    labels.flush()
    return told


def read_regions(folder: str | Path) -> RegionFolder:
    """Open regions that `write_regions` wrote; pixels are read when they are asked for.

    Raises
    ------
    ProjectError
        They are not there, not whole, or cannot be understood.
    """
    folder = Path(folder)
    try:
        card = read_json(folder / CARD)
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", mmap_mode="r", allow_pickle=False)
        told = card["regions"]
        if not len(images) == len(labels) == len(told) == card["count"]:
            raise ValueError(f"{len(images)} images, {len(labels)} labels, {len(told)} on the card")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProjectError(
            f"{folder} holds no regions that can be read ({error})",
            hint="Make them again: opsef train augment",
        ) from None
    return RegionFolder(card, images, labels)


class RegionFolder(Sequence[Sample]):
    """Regions in memory-mapped files.

    Parameters
    ----------
    card : dict
        Content of ``regions.json``.
    images, labels : ndarray
    """

    def __init__(self, card: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> None:
        self.card, self._images, self._labels = card, images, labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]
        """Return a region; its arrays cannot be written to."""
        told = self.card["regions"][number]
        return Sample(
            told["name"], self._images[number], self._labels[number], told["group"], told["kind"]
        )


def write_preview(file: str | Path, regions: Sequence[Sample], preset: Preset, seed: int) -> int:
    """Write regions as a hyperstack for ImageJ: T is the region, outlines are the last channels.

    Channels are the image (grey, or red, green and blue), the inner borders of the objects in
    the colours of their ids, and, where something is not vouched for, what is not.

    Parameters
    ----------
    file : path
        TIFF.
    regions : sequence of Sample
        Of one size; the first `SHOWN` are shown. Normalised values 0 to 1 are shown.
    preset : Preset
    seed : int
        Both go into the text of the image (Image > Show Info).

    Returns
    -------
    int
        How many are shown.

    Raises
    ------
    InputError
        The name is not that of a TIFF, or there are no regions.
    """
    if Path(file).suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{file} is no TIFF", hint="Name a file that ends with .tif")
    shown = [regions[n] for n in range(min(len(regions), SHOWN))]
    if not shown:
        raise InputError("there are no regions to show")
    sparse = any((one.labels < 0).any() for one in shown)
    stack = np.stack([_picture(one, sparse) for one in shown])
    colour = shown[0].image.ndim == 3
    names = ["red", "green", "blue"] if colour else ["image"]
    ramp = np.arange(256, dtype=np.uint8)
    tables = [np.stack([ramp] * 3)]
    if colour:
        tables = [np.stack([ramp * (axis == c) for axis in range(3)]) for c in range(3)]
    names += ["outlines"] + ["nobody vouched"] * sparse
    # A colour table of labels has 255 colours, so ids go round.
    tables += [label_lut()] + [np.stack([ramp // 2, 0 * ramp, ramp // 2])] * sparse
    told = [f"{one.name} {one.kind} {name}".strip() for one in shown for name in names]
    info = [f"preset: {preset.name}", f"seed: {seed}", f"regions: {len(shown)} of {len(regions)}"]
    info += [f"{name}: {value}" for name, value in preset.to_json().items() if name != "name"]
    write_hyperstack(
        file,
        stack,
        "TCYX",
        labels=told,
        ranges=[(0, 255)] * len(names),
        luts=[table.astype(np.uint8) for table in tables],
        info="\n".join(info),
        unit="pixel",
    )
    return len(shown)


def _picture(one: Sample, sparse: bool) -> np.ndarray:
    """Return the channels of a region as uint8, shape (C, Y, X)."""
    image = np.rint(one.image.clip(0, 1) * 255).astype(np.uint8)
    channels = [image] if image.ndim == 2 else list(np.moveaxis(image, -1, 0))
    border = find_boundaries(one.labels, connectivity=1, mode="inner") & (one.labels > 0)
    channels.append(np.where(border, (one.labels - 1) % 255 + 1, 0).astype(np.uint8))
    if sparse:
        channels.append(np.where(one.labels < 0, 255, 0).astype(np.uint8))
    return np.stack(channels)
