"""Where objects come from before they go out: a variant, a revision, what was adopted.

Whatever goes out says what it was made from (its *base*), so that what comes back is
compared with that and with nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.config import Config
from opsef_bridge.errors import InputError, NotFoundError, OpsefError
from opsef_bridge.exchange.blind import draw
from opsef_bridge.project import ImageEntry, Project, Run
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.records import content_of
from opsef_bridge.rois.revisions import Base, History, Revision
from opsef_bridge.sweep.classes import classes_of
from opsef_bridge.sweep.planned import Plan, find_variant
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.run import newest_run
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = [
    "Subject",
    "base_subject",
    "chosen_images",
    "exchange_folder",
    "image_shape",
    "orphans",
    "outdated",
    "record_of",
    "revision_of",
    "subject_of",
    "subjects",
    "variant_of",
    "variant_subject",
]


Remark = Callable[[str], object]
"""Takes a sentence for a person."""


@dataclass(frozen=True)
class Subject:
    """The objects of one image and what they are made from.

    Attributes
    ----------
    image : ImageEntry
    objects : Objects
        On the whole image, also where a variant saw only a crop of it.
    base : Base
    """

    image: ImageEntry
    objects: Objects
    base: Base


def chosen_images(project: Project, images: Iterable[str] = ()) -> list[ImageEntry]:
    """Return the images of those ids; with none, all that are included.

    Raises
    ------
    NotFoundError
        There is no such image.
    """
    wanted = list(images)
    if wanted:
        return [project.image(image) for image in wanted]
    return [entry for entry in project.images() if entry.include and not entry.gone]


def exchange_folder(project: Project, name: str) -> Path:
    """Return the folder of an export of that name.

    Raises
    ------
    InputError
        It cannot be the name of a folder.
    """
    try:
        return project.exchange_folder(name)
    except ValueError:
        raise InputError(
            f"{name!r} cannot be the name of a folder in exchange/",
            hint="Use letters, digits, '-', '_' and single dots",
        ) from None


def image_shape(project: Project, entry: ImageEntry) -> tuple[int, ...]:
    """Return the shape (YX or ZYX) of what is segmented of an image, and so of its objects."""
    head = History(project, entry.id).head()
    if head is not None:
        return tuple(head.shape)
    return segmented_array(project, project.config, entry).shape


def variant_of(project: Project, variant: str, run: str | None = None) -> tuple[Run, str]:
    """Return the run and the id of a variant (id or slug); of the newest sweep by default.

    Raises
    ------
    NotFoundError
        There is no such variant, no such run, or no sweep yet.
    """
    folder = project.run(run) if run else newest_run(project, "sweep")
    if folder is None:
        raise NotFoundError("there is no sweep yet", hint="Start one: opsef sweep run")
    return folder, find_variant(Plan.from_json(folder.plan()), variant, folder.id).id


def variant_subject(
    project: Project, entry: ImageEntry, run: Run, variant: str, remark: Remark | None = None
) -> Subject | None:
    """Return the objects of an image by a variant; None where the run has no labels of it.

    A class mask that cannot be used costs the classes where somebody takes the `remark`.
    """
    file = run.label_file(variant, entry.id)
    plan = Plan.from_json(run.plan())
    planned = {image.id: image for image in plan.images}
    if entry.id not in planned or not file.is_file():
        return None
    labels, box = run.labels(variant, entry.id), planned[entry.id].box
    if box:
        top, left, height, width = box
        whole = np.zeros(image_shape(project, entry), np.int32)
        whole[..., top : top + height, left : left + width] = labels
        labels = whole
    objects = Objects(labels, _classes(project, plan, entry, labels, remark))
    base = Base(run=run.id, variant=variant, sha256=content_of(objects), box=box)
    return Subject(entry, objects, base)


def _classes(
    project: Project, plan: Plan, entry: ImageEntry, labels: np.ndarray, remark: Remark | None
) -> dict[int, int]:
    """Return the classes by the mask; none, where it cannot be used and the remark is taken."""
    try:
        return classes_of(project, Config(**plan.config), entry, labels)
    except OpsefError as error:
        if remark is None:
            raise
        remark(f"{entry.id}: its objects have no classes: {error}")
        return {}


def subject_of(
    project: Project,
    entry: ImageEntry,
    *,
    variant: tuple[Run, str] | None = None,
    revision: str | None = None,
    remark: Remark | None = None,
) -> Subject | None:
    """Return the objects of an image: of a variant, of a revision, or the best there are.

    Parameters
    ----------
    variant : (Run, str)
        As `variant_of` returns it.
    revision : str
        Id, or ``latest``.
    remark : callable, optional
        Takes a sentence where a class mask cannot be used; the objects have no classes then.

    Returns
    -------
    Subject or None
        Without `variant` and `revision`: the newest revision; where there is none, the result
        of the newest batch; None where there is neither, or the variant has no labels.

    Raises
    ------
    NotFoundError
        There is no such revision.
    ImageError
        A class mask cannot be used, and nobody takes the `remark`.
    """
    if variant is not None:
        return variant_subject(project, entry, *variant, remark)
    history = History(project, entry.id)
    head = history.head()
    if revision not in (None, "latest"):
        head = history.get(revision)
    if head is not None:
        return Subject(entry, history.objects(head.id), Base(revision=head.id))
    return None if revision else _of_batch(project, entry, remark)


def outdated(project: Project, images: Iterable[str] = ()) -> list[str]:
    """Return sentences about images whose file was replaced since objects of them were saved."""
    said = []
    for entry in chosen_images(project, images):
        head = History(project, entry.id).head()
        if head and head.image_sha256 and entry.sha256 not in ("", head.image_sha256):
            said.append(
                f"{entry.id}: {entry.source} is another picture than when {head.id} was saved; "
                "its objects may lie elsewhere"
            )
        elif head and entry.axes and tuple(head.shape) != segmented_shape(entry, project.config):
            said.append(
                f"{entry.id}: another part or projection of {entry.source} is segmented than when "
                f"{head.id} was saved; undo that in images/index.csv to go on with its objects"
            )
    return said


def orphans(project: Project) -> list[str]:
    """Return folders of revisions, and records of truth, of images that the index lacks."""
    known = {entry.id for entry in project.images()}
    folders = [path.parent for path in project.annotations_folder.glob("*/r*.json")]
    places = {path: path.name for path in folders}
    records = project.truth_folder.glob("*.json")
    places |= {path: path.stem.removesuffix(".answers") for path in records}
    return sorted(
        path.relative_to(project.root).as_posix()
        for path, image in places.items()
        if image not in known
    )


def revision_of(project: Project, image: str, revision: str = "latest") -> Revision:
    """Return a revision of an image by id, or the newest.

    Raises
    ------
    NotFoundError
        There is no such image or revision.
    """
    history = History(project, project.image(image).id)
    if revision != "latest":
        return history.get(revision)
    head = history.head()
    if head is None:
        raise NotFoundError(
            f"{image} has no revision yet", hint="`opsef rois import FILE` saves one"
        )
    return head


def subjects(
    project: Project,
    variants: Sequence[str],
    *,
    run: str | None,
    revision: str | None,
    images: Iterable[str],
    blind: bool,
    way: str,
    remark: Remark,
) -> Iterator[Subject]:
    """Yield the objects of each image that an export takes; images without any are left out.

    Parameters
    ----------
    variants : sequence of str
        Variants (ids or slugs); of several one is drawn for each image, if `blind`.
    run, revision, images, remark
        As `variant_of`, `subject_of` and `chosen_images`.
    way : str
        A command that names a variant, for the message where there is nothing.

    Raises
    ------
    InputError
        More was named than can be taken.
    NotFoundError
        There is no such image, variant or revision, or there are no objects at all.
    """
    if len(variants) > 1 and not blind:
        raise InputError(
            f"{len(variants)} variants were named", hint="Name one, or add --blind to draw one"
        )
    if variants and revision:
        raise InputError("both a variant and a revision were named", hint="Name one of them")
    choices = [variant_of(project, variant, run) for variant in variants]
    found = False
    for entry in chosen_images(project, images):
        chosen = draw(choices) if choices else None
        subject = subject_of(project, entry, variant=chosen, revision=revision, remark=remark)
        if subject is not None:
            found = True
            yield subject
    if not found:
        raise NotFoundError(
            "there are no objects to export",
            hint=f"Name a variant ({way}), or run `opsef adopt` and `opsef batch`",
        )


def _of_batch(project: Project, entry: ImageEntry, remark: Remark | None) -> Subject | None:
    run = newest_run(project, "batch")
    if run is None:
        return None
    for outcome in run.outcomes():
        if outcome["image"] == entry.id:
            return variant_subject(project, entry, run, outcome["variant"], remark)
    return None


def base_subject(
    project: Project, entry: ImageEntry, base: Base, remark: Remark | None = None
) -> Subject | None:
    """Return the objects of the variant that a base names, and the base with its box.

    None for no base, and for a revision: `History` looks those up itself. Where the run is
    gone, or was made anew with other labels than the `sha256` of the base tells, the objects
    that were kept with the first revision are taken. `remark` as for `subject_of`.

    Raises
    ------
    NotFoundError
        What was edited is not there any more.
    """
    if not base.variant:
        return None
    found = None
    if base.run in project.runs():
        found = variant_subject(project, entry, project.run(base.run), base.variant, remark)
    if found and base.sha256 in (None, found.base.sha256):
        return found
    kept = History(project, entry.id).kept_base(base)
    if kept is None:
        raise NotFoundError(
            f"the objects of {entry.id} by {base.variant} of {base.run} that were edited are gone",
            hint="Name a revision that holds the same objects (--base rNNNN): what the file "
            "lacks counts as deleted, what it has besides as added",
        )
    return Subject(entry, kept, base)


def record_of(subject: Subject) -> dict[str, Any]:
    """Return what goes out with objects: which image, which picture, made from what.

    ``calibration`` is that of `ImageEntry.calibration`; the objects themselves are in pixels.
    """
    told = {key: value for key, value in subject.base.to_json().items() if value}
    if "sha256" in told:
        told["labels_sha256"] = told.pop("sha256")
    return {
        "image": subject.image.id,
        "image_sha256": subject.image.sha256,
        "source_shape": list(subject.objects.labels.shape),
        "calibration": subject.image.calibration(),
        **told,
    }
