"""``opsef compare``: comparison stacks of a run again, otherwise shown, without segmenting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from opsef_bridge.compare.stack import affordable_frames
from opsef_bridge.compare.words import order_note
from opsef_bridge.config import Compare, Config
from opsef_bridge.errors import InputError, NotFoundError, OpsefError
from opsef_bridge.execute import Job, Unit
from opsef_bridge.files import patiently, read_json, write_json
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep.crops import check_crop, crop_box
from opsef_bridge.sweep.estimate import SOURCE_BYTES, channel_count
from opsef_bridge.sweep.planned import Plan, PlannedImage, find_variant
from opsef_bridge.sweep.rank import PATIENCE
from opsef_bridge.sweep.ranking import STALE, ranking_file, read_ranking, stale_words
from opsef_bridge.sweep.reporting import report as write_report
from opsef_bridge.sweep.run import newest_run, variant_rows
from opsef_bridge.sweep.sample import Box
from opsef_bridge.sweep.shown import open_shown
from opsef_bridge.sweep.stacks import affordable, write_montage, write_shown
from opsef_bridge.sweep.targets import check_target
from opsef_bridge.sweep.tiling import segmented_shape

__all__ = ["Comparison", "Wish", "compare_again", "stack_bytes"]


@dataclass(frozen=True)
class Wish:
    """How comparisons are shown; what is left out is as the run was configured.

    Parameters
    ----------
    top : int, optional
        So many of the highest rank, whatever bytes that makes; by default no more than the run
        shows, in `opsef_bridge.compare.stack.STACK_BYTES`.
    base : str, optional
        Recipe of the base picture, or ``raw``.
    channels : {"segment", "all"}, optional
    dtype : {"8bit", "source"}, optional
    crop : int or (y, x, height, width), optional
        A part of what was segmented: a box in pixels of the source, or the side of the square
        with the most structure in it.
    images : sequence of str
        Ids; all by default. ``i00001`` is enough.
    variants : sequence of str
        Ids or slugs, in the order in which they are shown; by rank by default.
    montage : bool
        Draw a PNG of each image in place of its stack.
    to : Path, optional
        Where to write: a file if it is one image, else a folder.
    """

    top: int | None = None
    base: str | None = None
    channels: str | None = None
    dtype: str | None = None
    crop: int | Box | None = None
    images: Sequence[str] = ()
    variants: Sequence[str] = ()
    montage: bool = False
    to: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """What `compare_again` did.

    Parameters
    ----------
    run : str
    files : mapping of str to Path
        What was written, by image.
    failed : mapping of str to OpsefError
        Why others were not.
    remarks : sequence of str
    in_line : sequence of str
        Groups whose stacks now show the order of the ranking.
    report : Path or None
        The report, if it was written again.
    """

    run: str
    files: Mapping[str, Path]
    failed: Mapping[str, OpsefError]
    remarks: Sequence[str]
    in_line: Sequence[str]
    report: Path | None


def stack_bytes(project: Project, run: str | None, wish: Wish) -> int:
    """Return how many bytes of stacks `compare_again` would write, about."""
    order = _Order.of(project, run, wish)
    total = 0
    for image in order.images:
        entry = project.image(image.id)
        known = {"Y", "X"} <= set(entry.axes)
        shape = segmented_shape(entry, order.config) if known else (0, 0)
        height, width = image.box[2:] if image.box else shape[-2:]
        if isinstance(wish.crop, tuple):
            height, width = wish.crop[2:]
        elif wish.crop:
            height, width = min(wish.crop, height), min(wish.crop, width)
        wide = SOURCE_BYTES if order.settings.dtype == "source" else 1
        frame = (channel_count(entry, order.settings) * wide, *shape[:-2], height, width)
        frames = len(order.rows_of(image))
        if not order.asked and math.prod(frame):
            frames = min(frames, affordable_frames(frame, 1))
        total += frames * math.prod(frame)
    return total


def compare_again(
    project: Project,
    run: str | None = None,
    wish: Wish | None = None,
    report: Callable[[str, int, int], object] = lambda image, done, of: None,
) -> Comparison:
    """Write the comparison stacks of a run again, or draw montages of them.

    Nothing is segmented. Where all stacks of a group are written, by rank and in their place,
    they show the ranking as it is by now; ``ranking.json`` says so, and the report is written
    again.

    Parameters
    ----------
    project : Project
    run : str, optional
        Id of a sweep; the newest by default.
    wish : Wish, optional
        How; as the run was configured by default.
    report : callable
        Takes the id of the image that is in work, how many are done, and of how many.

    Raises
    ------
    NotFoundError
        No such run, image, variant or recipe; or the run is a batch, or not ranked yet.
    InputError
        A number is out of its range; a crop is outside of what was segmented; `Wish.to` is no
        folder, for several images.
    """
    wish = wish or Wish()
    order = _Order.of(project, run, wish)
    places = _places(project, order, wish)
    for image in order.images if wish.crop else ():
        check_crop(order.config, project.image(image.id), image, wish.crop)
    remarks: list[str] = []
    failed: dict[str, OpsefError] = {}
    for number, image in enumerate(order.images):
        report(image.id, number, len(order.images))
        try:
            shown = open_shown(
                project, order.run, order.plan, image, order.rows_of(image), remarks.append,
                settings=order.settings, box=crop_box(project, order.config, image, wish.crop),
                note=order.note(image), total=len(order.ranked(image)),
            )  # fmt: skip
            if wish.montage:
                write_montage(places[image.id], shown)
            else:
                if not order.asked:
                    shown = affordable(shown, order.settings.dtype)
                write_shown(places[image.id], shown, order.settings.dtype)
        except OpsefError as error:
            failed[image.id] = error
    files = {name: place for name, place in places.items() if name not in failed}
    in_line = [] if wish.montage or wish.to or wish.variants else _in_line(order, files)
    if in_line:
        _note_shown(order, in_line)
        _report_again(project, order)
    return Comparison(
        order.run.id, files, failed, remarks, in_line,
        order.run.report_file if in_line else None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Order:
    """A wish, checked against the run that it is of."""

    run: Run
    plan: Plan
    config: Config
    settings: Compare
    rows: Sequence[Mapping[str, str]]  # of variants.csv
    images: Sequence[PlannedImage]
    variants: Sequence[str]
    asked: bool  # for so many variants, whatever they take

    @classmethod
    def of(cls, project: Project, run: str | None, wish: Wish) -> _Order:
        folder = newest_run(project, "sweep") if run is None else project.run(run)
        if folder is None:
            raise NotFoundError("there is no sweep yet", hint="Start one: `opsef sweep run`")
        plan = Plan.from_json(folder.plan())
        if plan.purpose == "batch":
            raise NotFoundError(
                f"{folder.id} is a batch, which compares no variants",
                hint="Name a sweep; the stack of a batch is its batch.tif",
            )
        config = Config(**plan.config)
        variants = [find_variant(plan, one, folder.id).id for one in wish.variants]
        twice = [one for one in variants if variants.count(one) > 1]
        if twice:
            raise InputError(f"the variant {twice[0]} is named twice", hint="Name each once")
        return cls(
            folder, plan, config, _settings(config, wish), variant_rows(folder),
            _images(plan, wish.images, folder.id), variants,
            wish.top is not None or bool(variants),
        )  # fmt: skip

    def ranked(self, image: PlannedImage) -> list[Mapping[str, str]]:
        """Return the rows of the group of an image, by rank."""
        return [row for row in self.rows if row["group"] == image.group]

    def rows_of(self, image: PlannedImage) -> list[Mapping[str, str]]:
        """Return the rows that are shown of an image, in their order."""
        ranked = self.ranked(image)
        if not self.variants:
            return ranked[: self.settings.top]
        rows = {row["id"]: row for row in ranked}
        missing = [one for one in self.variants if one not in rows]
        if missing:
            raise NotFoundError(
                f"{missing[0]} was not tried on {image.id}", hint="Name others, or other images"
            )
        return [rows[one] for one in self.variants]

    def note(self, image: PlannedImage) -> str:
        """Return what is to be said of the order in which the variants of an image stand."""
        if self.variants:
            return "none: the variants were chosen one by one"
        told = read_ranking(self.run).get(image.group, {})
        by = "by score: agreement with the answers of a person" if told.get("answers") else ""
        return order_note(self.ranked(image)) or by


def _settings(config: Config, wish: Wish) -> Compare:
    """Return how the run shows comparisons, with what is wished instead."""
    names = ("top", "base", "channels", "dtype")
    wished = {name: getattr(wish, name) for name in names if getattr(wish, name) is not None}
    recipes = list(dict.fromkeys(["raw", *config.preprocess]))
    if wished.get("base", "raw") not in recipes:
        raise NotFoundError(
            f"the run has no recipe {wished['base']!r}", hint=f"Choose of {', '.join(recipes)}"
        )
    try:
        return Compare(**config.compare.model_dump() | wished)
    except ValidationError as error:
        [first, *_] = error.errors()
        raise InputError(
            f"{first['loc'][0]} is {first['input']!r}: {first['msg']}", hint="Choose another value"
        ) from None


def _images(plan: Plan, wanted: Sequence[str], run: str) -> list[PlannedImage]:
    """Return the images of those ids, or of the numbers that ids begin with; all of none."""
    found = []
    for name in wanted:
        mine = [i for i in plan.images if i.id == name or i.id.startswith(f"{name}-")]
        if not mine:
            raise NotFoundError(
                f"{run} has no image {name!r}",
                hint=f"It has {len(plan.images)}: {plan.images[0].id} to {plan.images[-1].id}",
            )
        found += [image for image in mine if image not in found]
    return found or list(plan.images)


def _places(project: Project, order: _Order, wish: Wish) -> dict[str, Path]:
    """Return the file of each image; refuse those that the project is made of."""
    ending = "_montage.png" if wish.montage else ".tif"
    stacks = {image.id: order.run.compare_file(image.id) for image in order.images}
    names = {name: stack.with_name(name + ending) for name, stack in stacks.items()}
    if wish.to is None:
        return names
    if wish.to.suffix.lower() in (".tif", ".tiff", ".png"):
        if len(names) > 1:
            raise InputError(
                f"{wish.to} is one file, for {len(names)} images",
                hint="Name a folder, or one image (--image)",
            )
        if (wish.to.suffix.lower() == ".png") != wish.montage:
            raise InputError(
                f"{wish.to} has the ending of a {'stack' if wish.montage else 'montage'}",
                hint="Stacks are .tif, montages .png",
            )
        places = dict.fromkeys(names, wish.to)
    else:
        places = {name: wish.to / file.name for name, file in names.items()}
    for place in places.values():
        check_target(project, place)
    return places


def _in_line(order: _Order, files: Mapping[str, Path]) -> list[str]:
    """Return the groups of which all stacks were written."""
    groups = dict.fromkeys(image.group for image in order.plan.images)
    return [
        group
        for group in groups
        if all(image.id in files for image in order.plan.images if image.group == group)
    ]


def _note_shown(order: _Order, groups: Sequence[str]) -> None:
    """Say in ``ranking.json`` which order the stacks show; they may be ranked anew meanwhile."""
    file = ranking_file(order.run)
    if not file.is_file():
        return
    with patiently(order.run.root / ".ranking.lock", PATIENCE):
        whole, rows = read_json(file), variant_rows(order.run)
        for group in groups:
            told = whole["groups"].get(group)
            if told is None:
                continue
            now = [row["id"] for row in rows if row["group"] == group]
            told["shown"] = [row["id"] for row in order.rows if row["group"] == group]
            words = [sentence for sentence in told["words"] if not sentence.startswith(STALE)]
            told["words"] = words + stale_words(now, told["shown"])
        write_json(file, whole)


def _report_again(project: Project, order: _Order) -> None:
    """Write the report again, as its unit does."""
    plan = order.run.plan()
    unit = next((unit for unit in plan["units"] if unit["kind"] == "report"), None)
    if unit is None:
        return
    job = Job(
        project, order.run, plan, Unit.from_json(unit), {"outcomes": []},
        lambda message, done, of: None,
    )  # fmt: skip
    for _ in write_report(job):
        pass
