"""Routes of runs: start them, look at them, adopt one of their variants."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, Field

from opsef_bridge.errors import NotFoundError
from opsef_bridge.files import read_json
from opsef_bridge.project import Project, Run, read_csv
from opsef_bridge.service.places import inside
from opsef_bridge.service.web import (
    ID,
    Author,
    Id,
    InProject,
    RequestId,
    Started,
    State,
    file_answer,
    perform_now,
    problem_answers,
    start_job,
)
from opsef_bridge.sweep import status
from opsef_bridge.sweep.ranking import read_ranking, words_of_run

__all__ = ["router"]

router = APIRouter(tags=["runs"])
RUN = "/v1/projects/{project}/runs/{run}"
NUMBERS = {"rank", "objects", "seconds", "agreement", "agreement_07", "plain_mean"}
NUMBERS |= {"plain_mean_07", "score", "object_px", "scale"}

TIFF = {200: {"content": {"image/tiff": {}}}, 206: {"description": "A part of it"}}
TIFF |= {304: {"description": "The client has it already"}}

Name = Annotated[str, Field(pattern=ID)]


class NewRun(BaseModel, extra="forbid"):
    """A run to start."""

    kind: Literal["sweep", "batch"]
    resume: bool = False
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    executor: Literal["local", "snakemake"] = "local"
    profile: Name | None = None


class Adopt(BaseModel, extra="forbid"):
    """A variant to adopt: of the newest sweep, for all groups, unless it says otherwise."""

    variant: Annotated[str, Field(min_length=1, max_length=200)]
    group: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    run: Name | None = None


class RunNames(BaseModel):
    """The runs of a project."""

    runs: list[dict[str, Any]]


@router.post(
    "/v1/projects/{project}/runs",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 409, 422),
)
def start_run(
    project: Id,
    wanted: NewRun,
    opened: InProject,
    author: Author,
    state: State,
    id: RequestId = None,
) -> dict[str, str]:
    """Start a sweep, or a batch of what was adopted; answers with the id of the job."""
    chosen = wanted.model_dump(exclude={"kind"}, exclude_none=True)
    if wanted.kind == "batch":
        chosen.pop("resume")
    return start_job(state, project, wanted.kind, chosen, author, id=id)


@router.get(
    "/v1/projects/{project}/runs", response_model=RunNames, responses=problem_answers(404, 422)
)
def list_runs(opened: InProject) -> dict[str, Any]:
    """List the runs of a project, oldest first."""
    found = []
    for name in opened.runs():
        run = opened.run(name)
        record = read_json(run.record_file) if run.record_file.is_file() else {}
        times = {key: record.get(key) for key in ("started", "ended")}
        found.append({"id": name, "purpose": run.plan()["purpose"], **times, **_state_of(run)})
    return {"runs": found}


@router.get(RUN, responses=problem_answers(404, 422))
def show_run(run: Id, opened: InProject) -> dict[str, Any]:
    """Return state, images and ranking of a run; an empty ranking where it is not made yet."""
    folder = opened.run(run)
    plan = folder.plan()
    rows = read_csv(folder.variants_file) if folder.variants_file.is_file() else []
    images = [{"id": one["id"], "group": one["group"], "box": one["box"]} for one in plan["images"]]
    for image in images:
        image["compare"] = folder.compare_file(image["id"]).is_file()
    return {
        "id": run,
        "purpose": plan["purpose"],
        **_state_of(folder),
        "images": images,
        "variants": [_typed(row) for row in rows],
        "report": folder.report_file.is_file(),
        "batch": folder.batch_file.is_file(),
    }


@router.get(RUN + "/ranking", responses=problem_answers(404, 422))
def ranking(run: Id, opened: InProject) -> dict[str, Any]:
    """Return by group why a variant comes first: figures, ties, confidence, and words."""
    folder = opened.run(run)
    told = read_ranking(folder)
    if not told:  # an older version ranked it: only its words can be told
        told = {group: {"words": words} for group, words in words_of_run(folder).items()}
    return {"run": run, "groups": told}


def _state_of(run: Run) -> dict[str, Any]:
    counts = asdict(status(run))
    del counts["problems"], counts["run"]
    remarks = list(counts.pop("remarks"))
    return {"state": "open" if counts["open"] else "done", "counts": counts, "remarks": remarks}


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """Give the cells of a row of ``variants.csv`` their types; an empty number is None."""
    typed: dict[str, Any] = dict(row)
    for key in NUMBERS & row.keys():
        typed[key] = _number(row[key])
    return typed


def _number(text: str) -> float | int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return int(value) if value.is_integer() and "." not in text else value


@router.get(
    RUN + "/compare/{image}",
    response_class=FileResponse,
    responses={**TIFF, **problem_answers(404, 422)},
)
def comparison(run: Id, image: Id, opened: InProject, request: Request) -> Response:
    """Return the comparison stack of an image; parts of it by Range."""
    folder = opened.run(run)
    return _file(request, opened, folder.compare_file(_image(opened, image)), f"{image}.tif")


@router.get(
    RUN + "/batch", response_class=FileResponse, responses={**TIFF, **problem_answers(404, 422)}
)
def batch_stack(run: Id, opened: InProject, request: Request) -> Response:
    """Return the stack of a batch: all images, with outlines and labels."""
    return _file(request, opened, opened.run(run).batch_file, f"{run}-batch.tif")


@router.get(
    RUN + "/labels/{variant}/{image}",
    response_class=FileResponse,
    responses={**TIFF, **problem_answers(404, 422)},
)
def labels(run: Id, variant: Id, image: Id, opened: InProject, request: Request) -> Response:
    """Return the labels of an image by a variant."""
    folder = opened.run(run)
    if variant not in {one["id"] for one in folder.plan()["variants"]}:
        raise NotFoundError(f"{run} has no variant {variant!r}")
    file = folder.label_file(variant, _image(opened, image))
    return _file(request, opened, file, f"{image}-{variant}.tif")


@router.get(
    RUN + "/report",
    response_class=HTMLResponse,
    responses={304: {"description": "The client has it already"}, **problem_answers(404, 422)},
)
def report(run: Id, opened: InProject, request: Request) -> Response:
    """Return the report of a run, one page."""
    file = inside(opened, opened.run(run).report_file)
    # A page from here may not run anything: its pictures are in it.
    safe = {"Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; "
            "style-src 'unsafe-inline'"}  # fmt: skip
    return file_answer(request, file, media="text/html; charset=utf-8", headers=safe)


@router.post("/v1/projects/{project}/adopt", responses=problem_answers(404, 409, 422))
def adopt(wanted: Adopt, opened: InProject, author: Author, id: RequestId = None) -> dict[str, Any]:
    """Adopt a variant: a batch runs it on all images."""
    return perform_now(opened, "adopt", wanted.model_dump(exclude_none=True), author, id=id)


def _image(project: Project, image: str) -> str:
    return project.image(image).id


def _file(request: Request, project: Project, path: Path, name: str) -> Response:
    return file_answer(request, inside(project, path), media="image/tiff", name=name)
