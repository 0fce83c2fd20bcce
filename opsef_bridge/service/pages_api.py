"""Routes of pages in a browser: links that open once, what they open, and what a page saves."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from opsef_bridge.compare import report
from opsef_bridge.errors import NotFoundError
from opsef_bridge.project import Project
from opsef_bridge.service.chosen import ChosenParameters, newest_revisions
from opsef_bridge.service.pages import PREFIX, TICKET_SECONDS
from opsef_bridge.service.places import inside
from opsef_bridge.service.web import (
    Author,
    Id,
    InProject,
    RequestId,
    State,
    perform_now,
    problem_answers,
)

__all__ = ["router"]

router = APIRouter(tags=["pages"])

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of a page that may save: nobody frames it, keeps it, or learns its address."""


class Link(BaseModel):
    """An address below that of the service, and how long it may be opened."""

    path: str
    seconds: float


@router.post(
    "/v1/projects/{project}/runs/{run}/report/ticket",
    status_code=201,
    response_model=Link,
    responses=problem_answers(404, 422),
)
def report_ticket(
    project: Id, run: Id, opened: InProject, request: Request, state: State
) -> dict[str, Any]:
    """Return an address of this service that opens the report in a browser: once, and soon.

    The page saves verdicts as those of the person who asked for it.
    """
    inside(opened, opened.run(run).report_file)
    return _link(state.pages.ticket(_token(request), project, "report", run))


@router.post(
    "/v1/projects/{project}/objects/ticket",
    status_code=201,
    response_model=Link,
    responses=problem_answers(404, 422),
)
def objects_ticket(
    project: Id, opened: InProject, request: Request, state: State
) -> dict[str, Any]:
    """Return an address of this service that opens the page of objects: once, and soon.

    ``opsef analyse`` makes the page. It saves classes as the person who asked for it.
    """
    _objects(opened, {})
    return _link(state.pages.ticket(_token(request), project, "objects"))


@router.get(PREFIX + "{ticket}", response_class=HTMLResponse, responses=problem_answers(404, 422))
def open_page(ticket: Annotated[str, InPath(max_length=64)], state: State) -> Response:
    """Return the page that a ticket is for, with buttons that save. Needs no token."""
    taken = state.pages.take(ticket)
    if taken is None:
        raise NotFoundError(
            "this link was used already, or is too old",
            hint="A link opens once, within a minute: ask for a new one",
        )
    page, author, key = taken
    project = state.jobs.project(page.project)
    told = {"project": page.project, "author": author, "key": key}
    if page.page == "objects":
        text, policy = _objects(project, told | {"newest": newest_revisions(project)})
    else:
        file = inside(project, project.run(page.run).report_file)
        text = report.for_service(file.read_text("utf-8", "replace"), told)
        policy = report.service_policy()
    headers = {"Content-Security-Policy": policy, **HEADERS}
    return Response(text, media_type="text/html; charset=utf-8", headers=headers)


@router.post(
    "/v1/projects/{project}/classes", status_code=201, responses=problem_answers(404, 409, 412, 422)
)
def save_classes(
    wanted: ChosenParameters, opened: InProject, author: Author, id: RequestId = None
) -> dict[str, Any]:
    """Give objects of an image classes at once: a revision, where a class changes."""
    chosen = wanted.model_dump(exclude_none=True, by_alias=True)
    return perform_now(opened, "classes", chosen, author, id=id)


def _token(request: Request) -> str:
    return request.headers["authorization"].partition(" ")[2].strip()


def _link(ticket: str) -> dict[str, Any]:
    return {"path": PREFIX + ticket, "seconds": TICKET_SECONDS}


def _objects(project: Project, told: dict[str, Any]) -> tuple[str, str]:
    """Return the page of objects as it is shown, and its policy."""
    from opsef_bridge.analysis import page

    wanted = project.root.joinpath(*page.PLACE)
    try:
        file = inside(project, wanted)
    except NotFoundError:
        raise NotFoundError(
            f"{project.root.name} has no page of objects",
            hint="`opsef analyse` makes it, in the folder of the project",
        ) from None
    return page.for_service(file.read_text("utf-8", "replace"), told), page.service_policy()
