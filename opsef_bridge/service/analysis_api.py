"""Routes of the analysis: tables and plots as a job, their files, and classes as a job."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from opsef_bridge.errors import NotFoundError
from opsef_bridge.service.parameters import AnalyseParameters, ClassifyParameters
from opsef_bridge.service.places import inside
from opsef_bridge.service.web import (
    Author,
    Id,
    InProject,
    RequestId,
    Started,
    State,
    file_answer,
    problem_answers,
    start_job,
)

__all__ = ["router"]

router = APIRouter(tags=["analysis"])

SHOWN = ("tables", "plots")
"""Folders of a project whose files may be fetched."""

MEDIA = {
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}

SAFE = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
"""A drawing can hold programs: none of them may run under the address of the service."""

FILE = {200: {"content": {media.partition(";")[0]: {} for media in MEDIA.values()}}}
FILE |= {206: {"description": "A part of it"}, 304: {"description": "The client has it already"}}


@router.post(
    "/v1/projects/{project}/analyse",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 409, 422),
)
def analyse(
    project: Id,
    wanted: AnalyseParameters,
    opened: InProject,
    author: Author,
    state: State,
    id: RequestId = None,
) -> dict[str, str]:
    """Measure all objects; write tables and plots: a job, whose result names the ``files``."""
    chosen = wanted.model_dump(exclude_unset=True)
    return start_job(state, project, "analyse", chosen, author, id=id)


@router.post(
    "/v1/projects/{project}/classify",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 409, 422),
)
def classify(
    project: Id,
    wanted: ClassifyParameters,
    opened: InProject,
    author: Author,
    state: State,
    id: RequestId = None,
) -> dict[str, str]:
    """Give objects classes by a gate, clusters, a learned classifier or rows: a job.

    Its result has the revisions, and of learned classes the ``uncertain`` objects.
    """
    chosen = wanted.model_dump(exclude_unset=True, by_alias=True)
    return start_job(state, project, "classify", chosen, author, id=id)


@router.get(
    "/v1/projects/{project}/files",
    response_class=FileResponse,
    responses={**FILE, **problem_answers(404, 422)},
)
def show_file(
    opened: InProject,
    request: Request,
    path: Annotated[str, Query(min_length=1, max_length=400)],
) -> Response:
    """Return a file that an analysis wrote, below ``tables`` or ``plots``; parts by Range."""
    parts = path.split("/")
    media = MEDIA.get(PurePosixPath(path).suffix)
    plain = all(re.fullmatch(r"[\w ()+,=.-]{1,200}", part) for part in parts)
    hidden = any(part.startswith(".") for part in parts)
    if len(parts) < 2 or parts[0] not in SHOWN or media is None or not plain or hidden:
        raise NotFoundError(
            f"there is no file {path!r} to fetch",
            hint=f"The files of an analysis are below {' and '.join(SHOWN)}",
        )
    folder = opened.root / parts[0]
    file = inside(opened, folder.joinpath(*parts[1:]))
    if not file.is_relative_to(folder):  # a link to somewhere else in the project
        raise NotFoundError(f"there is no {path}", hint="It may not be made yet")
    return file_answer(request, file, media=media, headers=SAFE, name=parts[-1])
