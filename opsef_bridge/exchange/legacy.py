"""Make a project of a run folder ``Processed_<run_ID>`` of the original OpSeF.

The run folder is only read. Of each image comes the picture, and one mask as the first
revision: what AnnotatorJ returned, else what OpSeF had segmented; what OpSeF had segmented is
the base of the revision, so that its changes say what a person did.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.config import parse_config
from opsef_bridge.engines.registry import list_weights
from opsef_bridge.errors import ImageError, InputError, NotFoundError, OpsefError, ProjectError
from opsef_bridge.exchange.legacy_folder import (
    CLASSIFIED,
    MaskName,
    Picture,
    background_label,
    choose_masks,
    classified,
    find_masks,
    find_pictures,
    was_edited,
)
from opsef_bridge.exchange.legacy_settings import settings_to_yaml
from opsef_bridge.exchange.pickles import load_settings
from opsef_bridge.files import atomic_path, file_sha256, write_text
from opsef_bridge.images import read_labels
from opsef_bridge.measure.changes import align
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.file_pairs import CLASSES, MASKS, PICTURES, RETURNED, without_class
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, History, Revision, Source
from opsef_bridge.rois.run_folder import MANIFEST, read_run_folder
from opsef_bridge.sweep.importing import import_images

__all__ = ["Imported", "import_legacy"]


@dataclass(frozen=True)
class Imported:
    """What came of a run folder.

    Attributes
    ----------
    images : list of ImageEntry
    revisions : list of Revision
    said : list of str
        Sentences: what was taken, what was not, and what means something else here.
    config_file : Path
        The ``opsef.yaml`` that was written.
    """

    images: list[ImageEntry]
    revisions: list[Revision]
    said: list[str]
    config_file: Path


@dataclass
class _Taken:
    """The objects of one image, what they were made from, and where they come from."""

    objects: Objects
    source: Source
    base: Base = field(default_factory=Base)
    before: Objects | None = None
    received: Path | None = None
    notes: list[str] = field(default_factory=list)


def import_legacy(
    project: Project,
    run_folder: Path,
    *,
    masks: str | None = None,
    author: str = "OpSeF-IV",
) -> Imported:
    """Make a project of a run folder of the original OpSeF.

    ``opsef.yaml`` is written last: an import that was cut off may be started again.

    Parameters
    ----------
    project : Project
        Has no ``opsef.yaml`` yet.
    run_folder : Path
        ``Processed_<run_ID>``. If ``Parameter_<dataset>_Run_<run_ID>.pkl`` lies in it or beside
        it, its settings are said as an ``opsef.yaml``.
    masks : str, optional
        Where images have several masks: the beginning of a name, or a glob.
    author : str
        Of the revisions.

    Raises
    ------
    ProjectError
        There is an ``opsef.yaml`` already, or other files of the same names in ``data/``.
    InputError
        It is no run folder of OpSeF; images have several masks and nothing says which; the
        settings are none, or are refused.
    """
    folder = Path(run_folder)
    _check(project, folder)
    settings, said = _settings(folder)
    chosen = choose_masks(find_masks(folder), folder, masks)
    pictures, about = find_pictures(folder)
    if not pictures:
        raise InputError(
            f"{folder / PICTURES} has no picture that can be read",
            hint="It must hold 8bitSum_<image>.tif or Sum_<image>.tif",
        )
    said += about + _without_partner(chosen, pictures)
    text, more = _yaml(project, settings, pictures, {})
    returned, about = _returned(folder)
    said += about
    entries = _copy_pictures(project, pictures, text)
    names = dict(parse_config(text).classes)
    revisions = []
    notes: dict[str, list[str]] = {}
    for image in [image for image in entries if image in chosen]:
        try:
            taken = _take(folder, chosen[image], returned, pictures[image])
        except OpsefError as error:
            said.append(f"{image}: no objects were taken: {error}")
            continue
        for note in taken.notes:
            notes.setdefault(note, []).append(image)
        used = sorted(set(taken.objects.classes.values()))
        names = {number: f"Class_{number:02d}" for number in used} | names
        revisions.append(_save(project, entries[image], taken, author, names))
    said += [f"{_few(images)}: {note}" for note, images in notes.items()]
    text, more = _yaml(project, settings, pictures, dict(sorted(names.items())))
    write_text(project.config_file, text)
    said = list(dict.fromkeys([*said, *more]))
    return Imported(list(entries.values()), revisions, said, project.config_file)


def _few(names: Sequence[str], most: int = 5) -> str:
    """Return names as text, the first of many."""
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text} ... ({len(names)} in all)"


def _check(project: Project, folder: Path) -> None:
    if project.config_file.exists():
        raise ProjectError(
            f"there is a project in {project.root} already",
            hint="Name a new folder: opsef import-legacy RUN_FOLDER -p NEW_PROJECT",
        )
    if (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder} is an export of opsef_bridge, not a run folder of the original OpSeF",
            hint="Bring it back into its project: opsef annotatorj import",
        )
    if not (folder / PICTURES).is_dir() or not (folder / MASKS).is_dir():
        raise InputError(
            f"{folder} is no run folder of OpSeF: {PICTURES} or {MASKS} is missing",
            hint="Name the folder Processed_<run_ID>",
        )


def _settings(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of the run, and a sentence about the file."""
    run = folder.name.removeprefix("Processed_")
    files = sorted(folder.glob("*.pkl"))
    files = files or sorted(folder.parent.glob(f"Parameter_*_Run_{run}.pkl"))
    mine = [file for file in files if file.stem.endswith(f"_Run_{run}")]
    if len(files) > 1 and len(mine) != 1:
        raise InputError(
            f"{folder} has several settings: {', '.join(file.name for file in files)}",
            hint="Leave only that of the run in the folder",
        )
    if not files:
        return {}, [
            "There are no settings: opsef.yaml has only defaults. To carry them over, put "
            "Parameter_<dataset>_Run_<run_ID>.pkl (from OpSeF's folder my_runs) into "
            f"{folder.name} and import into a new project."
        ]
    file = mine[0] if mine else files[0]
    return load_settings(file), [f"Settings are those of {file.name}."]


def _without_partner(chosen: Mapping[str, MaskName], pictures: Mapping[str, Picture]) -> list[str]:
    said = []
    without = [image for image in pictures if image not in chosen]
    if without:
        said.append(
            f"OpSeF left no mask of {_few(without)} (it passed over the last images where "
            "their number was no multiple of its batch size)."
        )
    lost = [mask.name for image, mask in chosen.items() if image not in pictures]
    if lost:
        said.append(f"There is no picture for {_few(lost)}; these masks were left out.")
    return said


def _yaml(
    project: Project,
    settings: Mapping[str, Any],
    pictures: Mapping[str, Picture],
    classes: Mapping[int, str],
) -> tuple[str, list[str]]:
    stacks = True if any(picture.stack for picture in pictures.values()) else None
    originals = all(picture.kind == "original" for picture in pictures.values())
    return settings_to_yaml(
        settings,
        source=["data/*.tif"],
        shapes=[picture.shape for picture in pictures.values()],
        projected=True,
        stacks=False if originals else stacks,
        weights={weights.name for weights in list_weights([project.models_folder])},
        classes=classes,
    )


def _copy_pictures(
    project: Project, pictures: Mapping[str, Picture], text: str
) -> dict[str, ImageEntry]:
    """Copy pictures to ``data/<image>.tif``; return the rows of the index by image."""
    data = project.root / "data"
    for image, picture in pictures.items():
        target = data / f"{image}.tif"
        if target.exists() and file_sha256(target) != file_sha256(picture.file):
            raise ProjectError(
                f"{target} is there already, and is another file",
                hint="Name a new folder for the project",
            )
    for image, picture in pictures.items():
        target = data / f"{image}.tif"
        if not target.exists():
            with atomic_path(target) as partial:
                shutil.copyfile(picture.file, partial)
    images = {f"data/{image}.tif": image for image in pictures}
    entries = import_images(project, parse_config(text))
    return {images[entry.source]: entry for entry in entries if entry.source in images}


@dataclass(frozen=True)
class _Edit:
    """What AnnotatorJ returned for a mask."""

    objects: Objects
    file: Path
    notes: Sequence[str] = ()


def _returned(folder: Path) -> tuple[dict[str, _Edit], list[str]]:
    """Return what came back from AnnotatorJ, by the name of the mask."""
    if not was_edited(folder):
        return {}, []
    try:
        found, said = read_run_folder(folder)
    except NotFoundError:  # somebody took the lists away
        return _by_names(folder)
    edits = {
        _mask_name(one.source): _Edit(one.objects, one.source, [*one.differences, *one.notes])
        for one in found
    }
    return edits, said


def _by_names(folder: Path) -> tuple[dict[str, _Edit], list[str]]:
    """Return the masks of 11_ and 13_ by their names alone."""
    edits = {}
    for file in sorted((folder / RETURNED).glob("*.tif")):
        mask = MaskName.of(file.name)
        if mask is None:
            continue
        objects = Objects(read_labels(file))
        _, parts = classified(folder / CLASSES, mask)
        edits[mask.name] = _Edit(_with_classes(objects, parts), file)
    return edits, ["There is no list of AnnotatorJ; masks were found by their names."]


def _mask_name(file: Path) -> str:
    """Name of the mask that a returned mask or zip belongs to."""
    return without_class(file.name.replace("_ROIs.zip", ".tif"))


def _with_classes(objects: Objects, known: Objects | None) -> Objects:
    """Give objects the classes of the same objects in `known`."""
    if known is None or known.labels.shape != objects.labels.shape:
        return objects
    same = align(known.labels, objects.labels)
    classes = {a: known.classes[b] for a, b in same.items() if b in known.classes}
    return Objects(objects.labels, classes)


def _take(folder: Path, mask: MaskName, returned: Mapping[str, _Edit], picture: Picture) -> _Taken:
    """Return the best objects of an image: AnnotatorJ's, else with OpSeF's classes, else plain."""
    file = folder / MASKS / mask.name
    plain = Objects(read_labels(file)) if file.is_file() else None
    parts, divided = classified(folder / CLASSIFIED, mask)
    before = _with_classes(plain, divided) if plain is not None else divided
    base = Base()
    if plain is not None:
        base = Base(file=f"{MASKS}/{mask.name}", sha256=file_sha256(file))
    elif parts:
        base = Base(file=f"{CLASSIFIED}/{parts[0].name}", sha256=file_sha256(parts[0]))
    notes: list[str] = []
    edit = returned.get(mask.name)
    if edit is None and returned:
        notes.append(
            "AnnotatorJ returned nothing (it leaves out images without objects), so what OpSeF had "
            "segmented was taken"
        )
    if edit is not None:
        objects, received = edit.objects, edit.file
        notes += edit.notes
        if before is not None and before.classes and not objects.classes:
            objects = _with_classes(objects, before)
            notes.append("AnnotatorJ returned no classes; those of OpSeF were kept")
    elif before is not None:
        objects = before
        received = file if plain is not None else parts[0]
        notes += [f"classes are those of {CLASSIFIED}"] if divided is not None else []
    else:
        raise ImageError(f"{mask.name} is in no folder of masks", hint="Check the folder")
    _check_shape(objects, picture, mask)
    if before is not None and before.labels.shape != objects.labels.shape:
        base, before = Base(), None
        notes.append(f"{mask.name} has another shape; what was changed in it is not known")
    notes += _looks(mask, objects)
    source = Source(file=received.name, sha256=file_sha256(received), kind="legacy")
    return _Taken(objects, source, base, before, received, notes)


def _check_shape(objects: Objects, picture: Picture, mask: MaskName) -> None:
    if objects.labels.shape != picture.shape:
        raise InputError(
            f"{mask.name} has the shape {objects.labels.shape}, the picture {picture.shape}",
            hint="Masks of stacks cannot be imported"
            if objects.labels.ndim == 3
            else "The mask belongs to another picture",
        )


def _looks(mask: MaskName, objects: Objects) -> list[str]:
    label = background_label(objects.labels)
    if label is None:
        return []
    share = np.count_nonzero(objects.labels == label) / objects.labels.size
    return [
        f"object {label} covers {share:.0%} of the image and most of its border: it may be the "
        "background, to which OpSeF's U-Net gave the number 1. Delete it if it is"
    ]


def _save(
    project: Project, entry: ImageEntry, taken: _Taken, author: str, names: Mapping[int, str]
) -> Revision:
    saved = History(project, entry.id).save(
        taken.objects,
        base=taken.base,
        base_objects=taken.before,
        author=author,
        source=taken.source,
        received=taken.received,
        notes=taken.notes,
        class_names={c: names[c] for c in sorted(set(taken.objects.classes.values()))},
    )
    return saved.revision
