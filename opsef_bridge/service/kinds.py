"""The kinds of requests: their parameters, and what each does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from opsef_bridge.engines import list_weights
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.exchange.files import clear_objects
from opsef_bridge.exchange.saving import How, Imported, base_of_text, save_objects, text_of_base
from opsef_bridge.exchange.sources import (
    Subject,
    image_shape,
    revision_of,
    subject_of,
    variant_of,
)
from opsef_bridge.execute import Event
from opsef_bridge.files import file_sha256
from opsef_bridge.images import read_image
from opsef_bridge.project import ImageEntry, Project, write_csv
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Source
from opsef_bridge.rois.sets import read_roi_set, write_roi_set
from opsef_bridge.rois.truth import add_truth, parse_scope
from opsef_bridge.service import corrected, trained
from opsef_bridge.service.analysed import told_of_analysis, told_of_classes
from opsef_bridge.service.chosen import ChosenParameters, told_of_chosen
from opsef_bridge.service.parameters import (
    AdoptParameters,
    AnalyseParameters,
    AnswerParameters,
    AskParameters,
    ClassifyParameters,
    ImportParameters,
    ReviewParameters,
    RoisParameters,
    Running,
    SegmentParameters,
    SweepParameters,
    TableParameters,
    TruthParameters,
    VerdictParameters,
)
from opsef_bridge.service.reviewed import told_of_review
from opsef_bridge.sweep import Executor, adopt, newest_run, plan_batch, plan_sweep, segment
from opsef_bridge.sweep import left_out as left_out_of
from opsef_bridge.sweep.asking import answer, questions, rank_again
from opsef_bridge.sweep.importing import import_images
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.remarks import first_of
from opsef_bridge.sweep.run import Result, resume_run, run_plan
from opsef_bridge.sweep.verdicts import add_verdict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "Kind", "Task", "subject_named", "table_of"]


@dataclass(frozen=True)
class Task:
    """What a kind gets to know of a request besides its parameters.

    Attributes
    ----------
    project : Project
    id, author : str
    attachment : Path or None
        The file that came along.
    tries : int
        1 the first time, more where an earlier try was interrupted.
    tell : callable
        Takes an `Event`: progress.
    """

    project: Project
    id: str
    author: str
    attachment: Path | None
    tries: int
    tell: Callable[[Event], None]


def _carry_out(task: Task, plan: Plan, executor: Executor) -> Result:
    """Carry out a plan; a later try also does again what failed because the first was killed."""
    run = newest_run(task.project, plan.purpose)
    if task.tries > 1 and run is not None and run.plan()["key"] == plan.key:
        return resume_run(task.project, run, executor)
    return run_plan(task.project, plan, executor)


def _executor(task: Task, how: Running) -> Executor:
    profile = Path(how.profile) if how.profile else None
    return Executor(how.executor, how.workers, profile, task.tell)


def _ended(result: Result) -> dict[str, Any]:
    counts = {name: getattr(result, name) for name in ("ok", "empty", "failed", "open", "passes")}
    words = ", ".join(f"{counts[name]} {name}" for name in ("ok", "empty", "failed", "open"))
    problems = {unit: str(error) for unit, error in result.problems.items()}
    said = [f"{result.run}: {words}", *(f"{unit}: {text}" for unit, text in problems.items())]
    said += first_of(result.remarks)
    told = {"problems": problems, "remarks": list(result.remarks), "said": said}
    return {"run": result.run, **counts, **told}


def _sweep(task: Task, given: SweepParameters) -> dict[str, Any]:
    executor = _executor(task, given)
    if given.resume or given.run:
        folder = task.project.run(given.run) if given.run else newest_run(task.project, "sweep")
        if folder is None:
            raise NotFoundError("there is no sweep to go on with", hint="Start one: Run Sweep")
        return _ended(resume_run(task.project, folder, executor))
    plan = plan_sweep(task.project)
    return _ended(_carry_out(task, plan, executor))


def _batch(task: Task, given: Running) -> dict[str, Any]:
    plan = plan_batch(task.project)
    left = left_out_of(plan, task.project.images())
    return _ended(_carry_out(task, plan, _executor(task, given))) | {"left_out": dict(left)}


def _adopt(task: Task, given: AdoptParameters) -> dict[str, Any]:
    how = {"group": given.group, "run": given.run, "by": task.author}
    chosen = adopt(task.project, given.variant, **how)
    said = [f"{what['id']} of {what['run']} for group {group}" for group, what in chosen.items()]
    said += dict.fromkeys(word for what in chosen.values() for word in what["words"])
    return {"adopted": chosen, "said": said}


def _rois(task: Task, given: RoisParameters) -> dict[str, Any]:
    told = _saved(_objects_saved(task, given))
    if given.truth is not None:
        told["said"] += rank_again(task.project)[1]
    return told


def _objects_saved(task: Task, given: RoisParameters) -> Imported:
    project, entry = task.project, task.project.image(given.image)
    how = How(task.author, given.resolve, given.truth)
    if given.empty == (task.attachment is not None):
        raise InputError(
            "a zip came along with `empty`" if given.empty else "no zip came along",
            hint="Attach a zip of ROIs; or, where all objects were deleted, say `empty` alone",
        )
    base = _base_text(project, given.base)
    if task.attachment is None:
        return clear_objects(project, entry.id, how, base=base or "none")
    objects, notes, _ = read_roi_set(task.attachment, image_shape(project, entry), sidecar=False)
    saved = save_objects(
        project,
        entry,
        objects,
        how,
        base=base_of_text(project, base) if base else None,
        source=Source(task.attachment.name, file_sha256(task.attachment), "imagej-zip"),
        received=task.attachment,
        notes=notes.lines(),
    )
    return Imported(entry.id, task.attachment.name, saved, said=tuple(notes.lines()))


def _base_text(project: Project, text: str | None) -> str | None:
    """Return the name of what was edited; a request that was sent before stands for its result.

    Without a service a window does not learn what became of its last save, and goes on.
    """
    from opsef_bridge.service.ledger import is_job, job_of  # it knows the kinds

    if text is None or not text.startswith("q") or not is_job(project, text):
        return text
    job = job_of(project, text)
    told = (job.result or {}).get("base")
    if job.state != "done" or not told:
        raise InputError(
            f"the edit before this one, {text}, was not saved",
            hint="See what became of it (Jobs), open the image again, and edit that",
        )
    return str(told)


def _saved(done: Imported) -> dict[str, Any]:
    told = done.to_json()
    names = ("image", "revision", "new", "objects", "changes", "said")
    now = done.saved.now if done.saved else None
    return {name: told[name] for name in names} | {"base": text_of_base(now) if now else None}


def _verdict(task: Task, given: VerdictParameters) -> dict[str, Any]:
    one = add_verdict(
        task.project, given.image, given.variant, given.verdict,
        run=given.run, author=task.author, request=task.id,
    )  # fmt: skip
    said = f"{one.variant} of {one.run} on {one.image}: {one.verdict}"
    return {**one.to_json(), "said": [said]}


def _truth(task: Task, given: TruthParameters) -> dict[str, Any]:
    project = task.project
    revision = revision_of(project, given.image, given.revision)
    scope = parse_scope(given.scope)
    record = add_truth(project, given.image, revision.id, scope, author=task.author)
    told = {name: record[name] for name in ("image", "objects", "known_pixels", "new")}
    said = [f"Truth of {given.image}: {given.scope} of {revision.id}, by {task.author}"]
    said += rank_again(project)[1]
    return {**told, "revision": revision.id, "scope": given.scope, "said": said}


def _ask(task: Task, given: AskParameters) -> dict[str, Any]:
    found = questions(task.project, given.run, given.group, given.count, task.tell)
    said = [f"{len(found)} {'place' if len(found) == 1 else 'places'} to look at"]
    return {"questions": [one.to_json() for one in found], "said": said}


def _answer(task: Task, given: AnswerParameters) -> dict[str, Any]:
    told = answer(
        task.project,
        given.image,
        given.variant,
        given.label,
        given.answer,
        run=given.run,
        drawn=task.attachment,
        author=task.author,
        asked=given.asked,
    )
    said = f"{given.image}, object {given.label} of {told['variant']}: {given.answer}"
    return {**told, "said": [f"{said}; {told['answers']} so far", *told["words"]]}


def subject_named(
    project: Project,
    entry: ImageEntry,
    run: str | None = None,
    variant: str | None = None,
    revision: str | None = None,
) -> Subject | None:
    """Return the objects that are named; without a name the newest, None where there are none.

    Raises
    ------
    InputError
        Both a variant and a revision are named, or a run alone.
    NotFoundError
        There is no such run, variant or revision.
    """
    if revision and (variant or run):
        raise InputError("both a variant and a revision were named", hint="Name one of them")
    if run and not variant:
        raise InputError(f"{run} was named without a variant", hint="Name one of its variants")
    chosen = variant_of(project, variant, run) if variant else None
    return subject_of(project, entry, variant=chosen, revision=revision)


def table_of(
    project: Project,
    image: str,
    *,
    run: str | None = None,
    variant: str | None = None,
    revision: str | None = None,
) -> tuple[pd.DataFrame, str]:
    """Measure the objects of an image.

    Parameters
    ----------
    image : str
        Id.
    run, variant, revision : str, optional
        Whose objects; by default the newest revision, else those of the newest batch.

    Returns
    -------
    table : DataFrame
        One row an object, with the columns that `opsef_bridge.analysis.tables` lists: label,
        area, centroid, class, mean_intensity and unit come first.
    made_from : str
        What the objects are of, in words.

    Raises
    ------
    NotFoundError
        There is no such image, or there are no such objects.
    InputError
        Both a variant and a revision are named.
    ImageError
        The image cannot be read any more, or lacks a channel that ``images.measure`` names.
    """
    from opsef_bridge.analysis import object_table  # brings numba

    entry = project.image(image)
    subject = subject_named(project, entry, run, variant, revision)
    if subject is None:
        raise NotFoundError(
            f"there are no objects of {image}" + (f" by {variant}" if variant else ""),
            hint="Run a sweep and name a variant, or run a batch, or save objects first",
        )
    return object_table(project, project.config, subject), str(subject.base)


def _table(task: Task, given: TableParameters) -> dict[str, Any]:
    names = given.model_dump(exclude={"image"})
    table, made_from = table_of(task.project, given.image, **names)
    file = task.project.tables_folder / f"{task.project.image(given.image).id}.csv"
    write_csv(file, table.to_dict("records"), list(table.columns))
    return {
        "image": given.image,
        "file": file.relative_to(task.project.root).as_posix(),
        "objects": len(table),
        "of": made_from,
        "said": [f"{len(table)} objects of {made_from}: {file.name}"],
    }


def _segment(task: Task, given: SegmentParameters) -> dict[str, Any]:
    if task.attachment is None:
        raise InputError("no image came along", hint="Attach a TIFF")
    if given.weights and given.engine:
        owners = {w.engine for w in list_weights() if w.name == given.weights}
        if owners and given.engine not in owners:
            raise InputError(
                f"the weights {given.weights!r} are of {', '.join(sorted(owners))}, not of "
                f"{given.engine}",
                hint="Name the weights alone, or those of the engine",
            )
    model = given.weights or given.engine or ""
    task.tell(Event(0, 1, f"{model}: segmenting"))
    objects = Objects(segment(read_image(task.attachment), model, **given.parameters))
    task.tell(Event(1, 1, f"{model}: {len(objects.ids)} objects"))
    file = task.project.exchange_folder("segment") / f"{task.id}_ROIs.zip"
    there = write_roi_set(file, objects, info={"request": task.id, "model": model}, overwrite=True)
    return {
        "rois": file.relative_to(task.project.root).as_posix() if there else None,
        "objects": len(objects.ids),
        "shape": list(objects.labels.shape),
        "said": [f"{len(objects.ids)} objects by {model}"],
    }


def _import(task: Task, given: ImportParameters) -> dict[str, Any]:
    told: list[str] = []
    entries = import_images(task.project, task.project.config, told.append)
    unread = [entry.id for entry in entries if not entry.axes]
    said = [f"{len(entries)} images", *told]
    return {"images": [entry.id for entry in entries], "unreadable": unread, "said": said}


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Attributes
    ----------
    model : type
        Pydantic model of the parameters.
    perform : callable
        Takes a `Task` and the parameters; returns what the state file keeps. It may be called
        again after it was killed in the middle, and must then end as if it had not been. The
        first of the sentences under ``said`` becomes the message.
    fast : bool
        Whether a person can wait for it, so that no process of its own is started.
    suffixes : tuple of str
        Kinds of files that may come along.
    """

    model: type[BaseModel]
    perform: Callable[[Task, Any], dict[str, Any]]
    fast: bool = False
    suffixes: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "sweep": Kind(SweepParameters, _sweep),
    "batch": Kind(Running, _batch),
    "import": Kind(ImportParameters, _import),
    "segment": Kind(SegmentParameters, _segment, suffixes=(".tif", ".tiff", ".png")),
    "adopt": Kind(AdoptParameters, _adopt, fast=True),
    "rois": Kind(RoisParameters, _rois, fast=True, suffixes=(".zip",)),
    "verdict": Kind(VerdictParameters, _verdict, fast=True),
    "truth": Kind(TruthParameters, _truth, fast=True),
    "ask": Kind(AskParameters, _ask),
    "review": Kind(ReviewParameters, lambda t, given: told_of_review(t.project, given, t.tell)),
    "answer": Kind(AnswerParameters, _answer, fast=True, suffixes=(".roi", ".zip")),
    "table": Kind(TableParameters, _table, fast=True),
    "classes": Kind(ChosenParameters, told_of_chosen, fast=True),
    "train": Kind(trained.TrainParameters, trained.told_of_training),
    "next": Kind(corrected.NextParameters, corrected.told_of_next),
    "promote": Kind(trained.PromoteParameters, trained.told_of_promotion),
    "analyse": Kind(AnalyseParameters, lambda t, given: told_of_analysis(t.project, given, t.tell)),
    "classify": Kind(
        ClassifyParameters, lambda t, given: told_of_classes(t.project, given, t.author, t.tell)
    ),
}
