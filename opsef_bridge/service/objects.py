"""Routes of objects: out as ROI zips, back as revisions; truth, verdicts, tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.exchange.saving import text_of_base
from opsef_bridge.exchange.sources import Subject
from opsef_bridge.files import key_of
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.revisions import Base, History
from opsef_bridge.rois.sets import write_roi_set
from opsef_bridge.rois.truth import list_truth
from opsef_bridge.service.kinds import subject_named, table_of
from opsef_bridge.service.places import inside
from opsef_bridge.service.web import (
    ID,
    AnswerError,
    Author,
    Body,
    Id,
    InProject,
    RequestId,
    binary_body,
    cached,
    etag_of,
    file_answer,
    has_already,
    perform_now,
    problem_answers,
)
from opsef_bridge.sweep.verdicts import read_verdicts

__all__ = ["router"]

router = APIRouter(tags=["objects"])
ROIS = "/v1/projects/{project}/rois/{image}"

Revision = Annotated[str | None, Query(pattern=r"^(r[0-9]{4,12}|latest)$")]
Run = Annotated[str | None, Query(pattern=ID)]
Variant = Annotated[str | None, Query(min_length=1, max_length=200)]
Name = Annotated[str, Field(pattern=ID)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class SavedAnswer(BaseModel):
    """What became of an edit."""

    revision: str
    new: bool
    objects: int
    changes: dict[str, Any]
    said: list[str]


class Verdict(BaseModel, extra="forbid"):
    """What a person thinks of a variant on one image; ``none`` takes it back."""

    image: Name
    variant: Text
    run: Name | None = None
    verdict: Literal["good", "over", "under", "missed", "none"]


class TruthClaim(BaseModel, extra="forbid"):
    """What a person vouches for: ``whole``, ``touched`` or ``y,x,height,width``."""

    image: Name
    scope: Text
    revision: Annotated[str, Field(pattern=r"^(r[0-9]{4,12}|latest)$")] = "latest"


@router.get(
    ROIS,
    response_class=FileResponse,
    responses={
        200: {"content": {"application/zip": {}}},
        204: {"description": "There are no objects; the ETag says of what"},
        304: {"description": "The client has it already"},
        **problem_answers(404, 422),
    },
)
def get_rois(
    opened: InProject,
    image: Id,
    request: Request,
    revision: Revision = None,
    run: Run = None,
    variant: Variant = None,
) -> Response:
    """Return objects as a zip of ImageJ ROIs: of a revision, of a variant, or the best there are.

    The ETag says what they are of; it comes back as If-Match with the edit.
    """
    entry = opened.image(image)
    subject = _subject(opened, entry, revision, run, variant)
    base = subject.base if subject else Base()
    etag, count = f'"{text_of_base(base)}"', len(subject.objects.ids) if subject else 0
    headers = {"X-Opsef-Objects": str(count)}
    if subject is None or not count:
        return Response(status_code=204, headers={"ETag": etag, **headers})
    if has_already(request, etag):
        return Response(status_code=304, headers={"ETag": etag, **headers})
    path = _zip_of(opened, entry, subject)
    name = f"{image}_ROIs.zip"
    return file_answer(
        request, path, media="application/zip", etag=etag, headers=headers, name=name
    )


def _subject(
    project: Project, entry: ImageEntry, revision: str | None, run: str | None, variant: str | None
) -> Subject | None:
    subject = subject_named(project, entry, run, variant, revision)
    if subject is None and (revision or variant):
        raise NotFoundError(
            f"there are no objects of {entry.id} by {variant or revision}",
            hint="Name another variant, or save objects first",
        )
    return subject


def base_of_etag(value: str) -> str:
    """Return the base that an If-Match names.

    Raises
    ------
    InputError
        It is no ETag of ours.

    Examples
    --------
    >>> base_of_etag('"run-0001/v0007"')
    'run-0001/v0007'
    """
    match = re.fullmatch(
        r'(?:W/)?"?(r\d{4,12}(?::own)?|run-\d{4,12}/v\d{4,12}|none)"?', value.strip()
    )
    if match is None:
        raise InputError(
            f"If-Match {value!r} names no objects",
            hint="Send the ETag that came with the objects, as it came",
        )
    return match[1]


def _zip_of(project: Project, entry: ImageEntry, subject: Subject) -> Path:
    """Return the objects as a zip that may be sent; made once for each revision and variant."""
    base = subject.base
    if base.revision:
        return inside(project, History(project, entry.id).folder / f"{base.revision}.zip")
    run = project.run(base.run)
    stamp = etag_of(run.label_file(base.variant, entry.id))
    key = key_of(entry.id, base.run, base.variant, stamp)

    def make(path: Path) -> None:
        write_roi_set(path, subject.objects, overwrite=True)

    return cached(project, f"{key}.zip", make)


@router.put(
    ROIS,
    response_model=SavedAnswer,
    status_code=201,
    responses={200: {"model": SavedAnswer}, **problem_answers(404, 409, 412, 413, 422, 428)},
    openapi_extra=binary_body("application/zip", required=False),
)
def put_rois(
    opened: InProject,
    image: Id,
    author: Author,
    body: Body,
    answer: Response,
    truth: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    resolve: Literal["ours", "theirs"] | None = None,
    if_match: Annotated[str | None, Header(max_length=200)] = None,
    x_opsef_objects: Annotated[int | None, Header(ge=0)] = None,
    id: RequestId = None,
) -> dict[str, Any]:
    """Save edited objects as a revision: a zip of ROIs, with the ETag of what was edited.

    All objects deleted is an empty body with ``X-Opsef-Objects: 0``.
    """
    opened.image(image)
    if if_match is None:
        raise AnswerError(
            428, "no-base", "the edit does not say what it was made from",
            hint="Send the ETag that came with the objects as If-Match",
        )  # fmt: skip
    empty = body.stat().st_size == 0
    if empty and x_opsef_objects != 0:
        raise InputError(
            "the body is empty",
            hint="Send a zip of ROIs; or X-Opsef-Objects: 0, where all objects were deleted",
        )
    if not empty and x_opsef_objects == 0:
        raise InputError(
            "X-Opsef-Objects is 0, but a body came along",
            hint="Where all objects were deleted send no body",
        )
    wanted = {"image": image, "base": base_of_etag(if_match), "truth": truth, "resolve": resolve}
    zipped = None if empty else body
    result = perform_now(opened, "rois", {**wanted, "empty": empty}, author, zipped, id)
    answer.status_code = 201 if result["new"] else 200
    # What the sent objects are a form of now: further edits of them are edits of that.
    answer.headers["ETag"] = f'"{result.pop("base") or wanted["base"]}"'
    return result


@router.get(ROIS + "/log", responses=problem_answers(404, 422))
def log_of(opened: InProject, image: Id) -> dict[str, Any]:
    """Return the revisions of an image, oldest first."""
    history = History(opened, opened.image(image).id)
    return {"revisions": [revision.to_json() for revision in history.revisions()]}


@router.post(
    "/v1/projects/{project}/verdicts", status_code=201, responses=problem_answers(404, 409, 422)
)
def add_verdict(
    wanted: Verdict, opened: InProject, author: Author, id: RequestId = None
) -> dict[str, Any]:
    """Note down what the author thinks of a variant on one image."""
    return perform_now(opened, "verdict", wanted.model_dump(exclude_none=True), author, id=id)


@router.get("/v1/projects/{project}/verdicts", responses=problem_answers(404, 422))
def list_verdicts(opened: InProject, run: Run = None) -> dict[str, Any]:
    """List the last verdict of each person on each image and variant, of one run or of all."""
    return {"verdicts": [one.to_json() for one in read_verdicts(opened, run)]}


@router.post(
    "/v1/projects/{project}/truth", status_code=201, responses=problem_answers(404, 409, 422)
)
def add_truth(
    wanted: TruthClaim, opened: InProject, author: Author, id: RequestId = None
) -> dict[str, Any]:
    """Vouch for a revision, or a part of it."""
    return perform_now(opened, "truth", wanted.model_dump(), author, id=id)


@router.get("/v1/projects/{project}/truth", responses=problem_answers(404, 422))
def show_truth(opened: InProject) -> dict[str, Any]:
    """List what is vouched for, by image."""
    return {"truth": list_truth(opened)}


@router.get(
    "/v1/projects/{project}/table/{image}",
    responses={
        200: {"content": {"application/json": {}, "text/csv": {}}},
        **problem_answers(404, 422),
    },
)
def table(
    opened: InProject,
    image: Id,
    revision: Revision = None,
    run: Run = None,
    variant: Variant = None,
    format: Literal["json", "csv"] = "json",
    decimal: Literal[".", ","] = ".",
) -> Response:
    """Measure objects: one row each. With a decimal comma columns are parted by ``;``."""
    frame, made_from = table_of(opened, image, run=run, variant=variant, revision=revision)
    if format == "csv":
        parted = ";" if decimal == "," else ","
        text = frame.to_csv(index=False, sep=parted, decimal=decimal, lineterminator="\n")
        name = {"Content-Disposition": f'attachment; filename="{image}.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=name)
    rows = frame.to_json(orient="records", double_precision=10)
    head = json.dumps({"image": image, "of": made_from, "columns": list(frame.columns)})
    return Response(f'{head[:-1]}, "rows": {rows}}}', media_type="application/json")
