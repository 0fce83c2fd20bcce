"""Labels on disk that stand for a model or for truth: a folder, a file, a variant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from opsef_bridge.config import Config
from opsef_bridge.errors import ImageError, InputError, NotFoundError
from opsef_bridge.exchange.sources import outdated, variant_of
from opsef_bridge.images import Region, image_info, read_labels
from opsef_bridge.project import Project, Run
from opsef_bridge.rois.answers import list_answers
from opsef_bridge.rois.truth import list_truth, read_truth
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = ["Box", "Item", "LabelSet", "Labelled", "open_labels"]

SUFFIXES = (".tif", ".tiff", ".png", ".zarr")

Box = tuple[int, int, int, int]
"""Top, left, height, width of the part of an image that labels are of."""


class Labelled(NamedTuple):
    """Labels of an image, and where everything is vouched for (None: everywhere)."""

    labels: np.ndarray
    valid: np.ndarray | None = None


@dataclass(frozen=True)
class Item:
    """Labels of one image that are not read yet; `also` are other names of the image.

    Where the labels are of a `box` of it, `whole` is the shape of all that is segmented of it,
    if that is known.
    """

    name: str
    read: Callable[[], Labelled]
    also: tuple[str, ...] = ()
    box: Box | None = None
    whole: tuple[int, ...] | None = None


@dataclass(frozen=True)
class LabelSet:
    """The labels of one model, or truth: what it is called, and an item per image.

    `single` is whether it was named as one file, whose images need no names. `notes` are
    sentences about what may be wrong with them.
    """

    name: str
    items: tuple[Item, ...]
    single: bool = False
    notes: tuple[str, ...] = ()


def open_labels(
    place: str, project: Project, *, run: str | None = None, planes: bool = False
) -> LabelSet:
    """Find the labels that a place on the command line means; none are read yet.

    Parameters
    ----------
    place : str
        In a project ``truth`` (what is vouched for) or a variant (id or slug). Or a folder
        of label images (TIFF, PNG, OME-Zarr), also that of a variant in a project; or one
        such file. Each time point of a file is an image; a stack of planes is a volume.
    project : Project
        Need not exist.
    run : str, optional
        Where a variant is looked up; by default in the newest sweep.
    planes : bool
        Take each plane of a stack as an image of its own.

    Raises
    ------
    NotFoundError
        There is nothing of that name.
    InputError
        Two files have one name, or there is no label image.
    """
    exists = project.config_file.is_file()
    if exists and place == "truth":
        return _truth_set(project)
    if exists and re.fullmatch(r"v\d{4,}", place):
        return _variant_set(project, place, run)
    path = Path(place)
    if path.is_dir() and path.suffix.lower() != ".zarr":
        inside = _run_folder(path.resolve())
        return _variant_set(*inside) if inside else _folder_set(path, project, planes)
    if path.exists():
        return LabelSet(_stem(path), tuple(_file_items(path, planes)), single=True)
    if exists and len(path.parts) == 1:
        return _variant_set(project, place, run)
    raise NotFoundError(
        f"there is no file or folder {place}",
        hint="Name a folder of label images or a label image; with -p PROJECT also the id of a "
        "variant, and `truth` for what is vouched for",
    )


def _truth_set(project: Project) -> LabelSet:
    names = _source_names(project)
    found = [record["image"] for record in list_truth(project)]
    if not found and list_answers(project):
        raise NotFoundError(
            "answers to questions say which variant is better, not how good it is",
            hint="Vouch for an image, a box or objects: opsef truth add IMAGE whole",
        )
    if not found:
        raise NotFoundError(
            "nobody has vouched for anything in this project",
            hint="`opsef truth add IMAGE whole` does; a folder of label images of that name is "
            "./truth",
        )
    items = (Item(i, partial(_read_truth, project, i), names.get(i, ())) for i in found)
    known = {entry.id for entry in project.images()}.intersection(found)
    notes = outdated(project, known) if known else []
    return LabelSet("truth", tuple(items), notes=tuple(notes))


def _read_truth(project: Project, image: str) -> Labelled:
    """Objects that are vouched for one by one have known pixels, whatever lies around them."""
    truth = read_truth(project, image)
    return Labelled(truth.labels, truth.known | (truth.labels > 0))


def _variant_set(project: Project, variant: str, run: str | None) -> LabelSet:
    folder, variant = variant_of(project, variant, run)
    names, plan = _source_names(project), Plan.from_json(folder.plan())
    config, entries = Config(**plan.config), {entry.id: entry for entry in project.images()}
    items = []
    for image in plan.images:
        if folder.label_file(variant, image.id).is_file():
            entry = entries.get(image.id)
            whole = segmented_shape(entry, config) if image.box and entry and entry.axes else None
            read = partial(_read_variant, folder, variant, image.id)
            items.append(Item(image.id, read, names.get(image.id, ()), image.box, whole))
    if not items:
        raise NotFoundError(
            f"{folder.id} has no labels of {variant}",
            hint="outcomes.csv of the run says what became of every image and variant",
        )
    return LabelSet(variant, tuple(items))


def _read_variant(run: Run, variant: str, image: str) -> Labelled:
    return Labelled(run.labels(variant, image))


def _source_names(project: Project) -> dict[str, tuple[str, ...]]:
    """Other names of the images of a project: that of the file, where it is of one image."""
    entries = project.images() if project.config_file.is_file() else []
    stems = {entry.id: _stem(Path(entry.source)) for entry in entries}
    times = Counter(stems.values())
    return {id_: (stem,) if times[stem] == 1 else () for id_, stem in stems.items()}


def _run_folder(folder: Path) -> tuple[Project, str, str] | None:
    """Return project, variant and run where a folder is ``runs/<run>/labels/<variant>``."""
    if len(folder.parents) < 4 or folder.parent.name != "labels":
        return None
    root = folder.parents[3]
    if folder.parents[2].name != "runs" or not (root / "opsef.yaml").is_file():
        return None
    return Project(root), folder.name, folder.parents[1].name


def _folder_set(folder: Path, project: Project, planes: bool) -> LabelSet:
    names = _source_names(project)
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue
        if (other := files.setdefault(_stem(file), file)) != file:
            raise InputError(
                f"{other.name} and {file.name} in {folder} have one name",
                hint="Rename one, or take it out",
            )
    if not files:
        raise InputError(
            f"there is no label image in {folder}", hint="TIFF, PNG and OME-Zarr are read"
        )
    items = [item for file in files.values() for item in _file_items(file, planes)]
    found = tuple(replace(item, also=names.get(item.name, ())) for item in items)
    return LabelSet(folder.resolve().name, found)


def _file_items(file: Path, planes: bool) -> Iterable[Item]:
    """Yield the images of a file: its time points, and the planes of a stack if asked for."""
    times, depth = _stack(file)
    for t in range(times):
        for z in range(depth if planes else 1):
            name, region = _stem(file), Region()
            if times > 1:
                name, region = f"{name}_t{t + 1:04d}", replace(region, t=t)
            if planes and depth > 1:
                name, region = f"{name}_z{z + 1:04d}", replace(region, z=(z, z + 1))
            yield Item(name, partial(_read, file, region if region != Region() else None))


def _stack(file: Path) -> tuple[int, int]:
    """Number of time points and planes; what cannot be told is seen when it is read."""
    for axes in (None, "ZYX"):  # a stack without named axes is a volume, as for `read_labels`
        if file.suffix.lower() == ".png":
            break
        try:
            info = image_info(file, axes=axes)
        except ImageError:
            continue
        sizes = dict(zip(info.axes, info.shape, strict=True))
        return sizes.get("T", 1), sizes.get("Z", 1)
    return 1, 1


def _read(file: Path, region: Region | None = None) -> Labelled:
    return Labelled(read_labels(file, region))


def _stem(file: Path) -> str:
    return re.sub(r"\.ome$", "", file.stem, flags=re.IGNORECASE)
