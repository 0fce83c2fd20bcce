"""Where labels to learn from come from: truth, revisions, folders of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from opsef_bridge.analysis.conditions import Conditions, read_conditions
from opsef_bridge.errors import ImageError, InputError, NotFoundError
from opsef_bridge.exchange.label_sets import Item, open_labels
from opsef_bridge.exchange.sources import chosen_images, orphans, outdated
from opsef_bridge.images import is_image, read_image, segment_plane, segment_samples
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.answers import read_answers, vouched
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.truth import read_truth
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.train.data import UNKNOWN

__all__ = [
    "Found",
    "LabelFolder",
    "Loaded",
    "collect",
    "find_in_folder",
    "find_in_project",
    "label_folders",
    "sparse_labels",
]

Loaded = tuple[np.ndarray, np.ndarray]
"""Pixels as they are in the file, ([Z,] Y, X[, 3]), and int32 labels ([Z,] Y, X)."""


@dataclass(frozen=True)
class Found:
    """An image with vouched labels that are not read yet.

    Parameters
    ----------
    name : str
        For files; letters, digits, ``-``, ``_`` and dots.
    image : str
        Id in the project, or file.
    source : {"truth", "revision", "folder", "bundled"}
    load : callable
        Reads pixels and labels, `UNKNOWN` where nobody vouched.
    columns : mapping
        What is known of it, by column: what splits and kinds may be by.
    revisions, authors, boxes
        Of the claims behind the labels.
    kind : str
        Of an image without columns, which is a field of its own; empty where columns tell.
    told : mapping
        More for the card.
    """

    name: str
    image: str
    source: str
    load: Callable[[], Loaded]
    columns: Mapping[str, str]
    revisions: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    boxes: tuple[tuple[int, ...], ...] = ()
    kind: str = ""
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelFolder:
    """A folder of images and one of labels of the same names, all vouched for throughout.

    Parameters
    ----------
    images, labels : Path
    kind : str
        Cell type or condition; by default the name of the folder that holds both.
    """

    images: Path
    labels: Path
    kind: str = ""

    @classmethod
    def of(cls, folder: Path, labels: Path | None = None, kind: str = "") -> LabelFolder:
        """Take `folder` and `labels`; without `labels` what is in ``images`` and ``labels``.

        Raises
        ------
        InputError
            There is no such folder.
        """
        images = folder
        if labels is None:
            images, labels = folder / "images", folder / "labels"
        for place in (images, labels):
            if not place.is_dir():
                raise InputError(
                    f"there is no folder {place}",
                    hint="Name a folder that holds images/ and labels/, or both: "
                    "--folder IMAGES --labels LABELS",
                )
        above = folder.resolve().name if images != folder else folder.resolve().parent.name
        return cls(images, labels, kind or above)


def label_folders(
    folders: Sequence[Path], labels: Sequence[Path] = (), kinds: Sequence[str] = ()
) -> list[LabelFolder]:
    """Return folders with their labels and kinds, each named as often as the folders, or never.

    Raises
    ------
    InputError
        They are not as many, or there is no such folder.
    """
    for name, given in (("--labels", labels), ("--kind", kinds)):
        if given and len(given) != len(folders):
            raise InputError(
                f"{len(given)} {name} for {len(folders)} --folder",
                hint=f"Give {name} once for each --folder, in their order, or not at all",
            )
    return [
        LabelFolder.of(folder, labels[n] if labels else None, kinds[n] if kinds else "")
        for n, folder in enumerate(folders)
    ]


def collect(
    project: Project,
    folders: Sequence[LabelFolder] = (),
    *,
    truth: bool = True,
    images: Sequence[str] = (),
    revisions: bool = False,
    conditions: Path | None = None,
    remark: Callable[[str], object] = lambda text: None,
) -> list[Found]:
    """Find all that is to be learned from: in the project, if `truth`, and in folders.

    Parameters
    ----------
    project, images, revisions, conditions, remark
        As `find_in_project`.
    folders : sequence of LabelFolder
        With some the project need not exist.
    truth : bool

    Raises
    ------
    InputError
        As `find_in_project` and `find_in_folder`.
    """
    found: list[Found] = []
    if truth and (project.config_file.is_file() or not folders):
        project.must_exist()
        found += find_in_project(
            project, images, revisions=revisions, conditions=conditions, remark=remark
        )
    for folder in folders:
        found += find_in_folder(folder, project, conditions)
    return found


def find_in_project(
    project: Project,
    images: Iterable[str] = (),
    *,
    revisions: bool = False,
    conditions: Path | None = None,
    remark: Callable[[str], object] = lambda text: None,
) -> list[Found]:
    """Find what is vouched for in a project: by truth, by answers, or all newest revisions.

    Parameters
    ----------
    project : Project
    images : iterable of str
        Ids; by default all that are included.
    revisions : bool
        Take the newest revision of each image that has one as right throughout. Who asks
        for that vouches for it.
    conditions : Path, optional
        CSV file with more columns, by default ``analyse.conditions`` of ``opsef.yaml``.
    remark : callable
        Takes a sentence for a person.

    Raises
    ------
    NotFoundError
        There is no such image.
    InputError
        The file of conditions cannot be read.
    ProjectError, RoiError
        What is vouched for cannot be understood.
    """
    told = _conditions(project, conditions)
    entries = chosen_images(project, images)
    for sentence in outdated(project, [entry.id for entry in entries]):
        remark(sentence)
    for place in orphans(project):
        remark(f"{place} is of an image that images/index.csv lacks, and is left out")
    found = []
    for entry in entries:
        head = History(project, entry.id).head() if revisions else None
        if head is not None:
            load = partial(_load_revision, project, entry, head.id)
            columns = _columns(entry, told)
            one = Found(entry.id, entry.id, "revision", load, columns, (head.id,), (head.author,))
            found.append(one)
        elif (one := _vouched(project, entry, told)) is not None:
            found.append(one)
    return found


def _vouched(project: Project, entry: ImageEntry, told: Conditions | None) -> Found | None:
    """Return what truth and answers say of an image; None where they say nothing."""
    truth = project.truth_file(entry.id).is_file()
    claims = read_truth(project, entry.id).record["claims"] if truth else []
    answers = [one for one in read_answers(project, entry.id)[1] if not one.replaced]
    if not claims and not answers:
        return None
    authors = [claim["author"] for claim in claims] + [one.author for one in answers]
    return Found(
        entry.id,
        entry.id,
        "truth",
        partial(_load_truth, project, entry),
        _columns(entry, told),
        tuple(dict.fromkeys(claim["revision"] for claim in claims)),
        tuple(dict.fromkeys(authors)),
        tuple(tuple(claim["box"]) for claim in claims if claim["box"]),
    )


def _conditions(project: Project, file: Path | None) -> Conditions | None:
    if file is None and project.config_file.is_file():
        named = project.config.analyse.conditions
        file = project.root / named if named else None
    return read_conditions(file) if file else None


def _columns(entry: ImageEntry, told: Conditions | None) -> dict[str, str]:
    own = {"image": entry.id, "source": entry.source, "group": entry.group}
    more = (told.of(entry.id, entry.source, entry.more) if told else None) or {}
    return {**more, **entry.more, **own, "parent": entry.parent}


def _load_truth(project: Project, entry: ImageEntry) -> Loaded:
    said = vouched(project, entry.id)
    if said is None:
        raise NotFoundError(f"nobody vouches for anything in {entry.id} any more")
    return _with_pixels(project, entry, sparse_labels(said.labels, said.known))


def _load_revision(project: Project, entry: ImageEntry, revision: str) -> Loaded:
    return _with_pixels(project, entry, History(project, entry.id).objects(revision).labels)


def _with_pixels(project: Project, entry: ImageEntry, labels: np.ndarray) -> Loaded:
    """Return the pixels that are segmented, colours kept, with their labels."""
    colour = "S" in entry.axes
    pixels = segmented_array(project, project.config, entry, colour=colour)
    if colour:
        pixels = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    return _checked(entry.id, pixels, labels, colour)


def _checked(name: str, pixels: np.ndarray, labels: np.ndarray, colour: bool) -> Loaded:
    shape = pixels.shape[:-1] if colour else pixels.shape
    if shape != labels.shape:
        raise InputError(
            f"the labels of {name} are of shape {labels.shape}, its pixels of shape {shape}",
            hint="Check that they belong together; of an image of the project look at crop and "
            "projection in images/index.csv, or leave it out: --without",
        )
    return pixels, labels.astype(np.int32, copy=False)


def find_in_folder(
    folder: LabelFolder, project: Project, conditions: Path | None = None
) -> list[Found]:
    """Find the images of a folder, paired with labels by the names of their files.

    Parameters
    ----------
    folder : LabelFolder
    project : Project
        Need not exist; its ``images.segment`` says which channel is taken.
    conditions : Path, optional
        CSV file with a column ``image`` or ``file``, and more columns to split by.

    Raises
    ------
    InputError
        Names do not match, two files have one name, or there is nothing.
    """
    told = _conditions(project, conditions)
    files: dict[str, Path] = {}
    for file in sorted(folder.images.iterdir()):
        if not file.name.startswith(".") and is_image(file):
            stem = file.name.removesuffix(file.suffix).removesuffix(".ome")
            if stem in files:
                raise InputError(
                    f"{files[stem].name} and {file.name} in {folder.images} have one name",
                    hint="Rename one, or take it out",
                )
            files[stem] = file
    items = {item.name: item for item in open_labels(str(folder.labels), project).items}
    _check_names(folder, set(files), set(items))
    channel = 0
    if project.config_file.is_file():
        channel = project.config.images.segment.channels()[0]
    found = []
    for stem, file in files.items():
        more = (told.of(stem, str(file), {}) if told else None) or {}
        own = {"image": stem, "source": str(file), "parent": ""}
        found.append(
            Found(
                f"{folder.kind}-{stem}",
                str(file),
                "folder",
                partial(_load_file, file, items[stem], channel),
                {"group": folder.kind, **own, **more},
            )
        )
    return found


def _check_names(folder: LabelFolder, images: set[str], labels: set[str]) -> None:
    if not images:
        raise InputError(f"there is no image in {folder.images}", hint="Check the folder")
    for lacking, of, place in (
        (images - labels, "labels", folder.labels),
        (labels - images, "an image", folder.images),
    ):
        if lacking:
            names = sorted(lacking)
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            raise InputError(
                f"{shown} {'has' if len(names) == 1 else 'have'} not {of} in {place}",
                hint="Files that belong together have one name but for their ending",
            )


def _load_file(file: Path, item: Item, channel: int) -> Loaded:
    labels = item.read().labels
    try:
        image = read_image(file)
    except ImageError:
        if labels.ndim != 3:
            raise
        image = read_image(file, axes="ZYX")  # a stack without named axes, as for labels
    colour = "S" in image.axes
    if colour:
        pixels = np.ascontiguousarray(np.moveaxis(segment_samples(image), 0, -1))
    else:
        pixels = segment_plane(image, channel if "C" in image.axes else 0)
    return _checked(str(file), pixels, labels, colour)


def sparse_labels(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return labels with `UNKNOWN` wherever nobody vouched.

    A pixel counts where it belongs to a vouched object, or lies in a region that is vouched
    for. Close around a single vouched object nothing is background unless somebody said so.

    Parameters
    ----------
    labels : ndarray of int, shape ([Z,] Y, X)
    known : ndarray of bool, same shape

    Returns
    -------
    ndarray of int32, same shape

    Examples
    --------
    >>> sparse_labels(np.array([0, 3, 3, 0, 0]), np.array([0, 0, 0, 0, 1], bool))
    array([-1,  3,  3, -1,  0], dtype=int32)
    """
    return np.where(known | (labels > 0), labels, UNKNOWN).astype(np.int32)
