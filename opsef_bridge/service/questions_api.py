"""Routes of questions to a person: which places to look at, and what she says of them.

A review lists all places of an image, and which image comes first.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from opsef_bridge.service.web import (
    ID,
    Author,
    Body,
    Id,
    InProject,
    RequestId,
    Started,
    State,
    binary_body,
    perform_now,
    problem_answers,
    start_job,
)

__all__ = ["router"]

router = APIRouter(tags=["questions"])

Name = Annotated[str, Field(pattern=ID)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Wanted(BaseModel, extra="forbid"):
    """Of which sweep (the newest), of which group, and how many places."""

    run: Name | None = None
    group: Text | None = None
    count: Annotated[int, Field(ge=1, le=100)] = 5


class Reviewed(BaseModel, extra="forbid"):
    """Which image, by which variant; without an image the order of those of a group, or all."""

    image: Name | None = None
    variant: Text | None = None
    run: Name | None = None
    group: Text | None = None
    count: Annotated[int, Field(ge=1, le=10_000)] = 100


class Answered(BaseModel):
    """What was noted down, how many answers there are, and what comes first now."""

    image: str
    run: str
    variant: str
    label: int
    answer: str
    asked: bool
    replaced: int
    answers: int
    first: str | None
    words: list[str]
    said: list[str]


@router.post(
    "/v1/projects/{project}/questions",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 409, 422),
)
def ask(
    project: Id,
    wanted: Wanted,
    opened: InProject,
    author: Author,
    state: State,
    id: RequestId = None,
) -> dict[str, str]:
    """Choose places to look at: a job, whose result has the ``questions``."""
    chosen = wanted.model_dump(exclude_none=True)
    return start_job(state, project, "ask", chosen, author, id=id)


@router.post(
    "/v1/projects/{project}/review",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 409, 422),
)
def review(
    project: Id,
    wanted: Reviewed,
    opened: InProject,
    author: Author,
    state: State,
    id: RequestId = None,
) -> dict[str, str]:
    """Look for what to correct first: a job, whose result has ``support``, ``work``, ``images``."""
    chosen = wanted.model_dump(exclude_none=True)
    return start_job(state, project, "review", chosen, author, id=id)


@router.post(
    "/v1/projects/{project}/answers",
    status_code=201,
    response_model=Answered,
    responses=problem_answers(404, 409, 413, 422),
    openapi_extra=binary_body("application/zip", required=False),
)
def answer(
    opened: InProject,
    author: Author,
    body: Body,
    image: Annotated[str, Query(pattern=ID)],
    variant: Annotated[str, Query(min_length=1, max_length=200)],
    label: Annotated[int, Query(ge=1)],
    answer: Literal["right", "drawn", "nothing"],
    run: Annotated[str | None, Query(pattern=ID)] = None,
    asked: bool = True,
    id: RequestId = None,
) -> dict[str, Any]:
    """Note down what the author says of an outline; with ``drawn`` a zip of one ROI comes along.

    ``asked`` is false for a place of the author's own choice.
    """
    given = {"image": image, "variant": variant, "label": label, "answer": answer, "asked": asked}
    wanted = given if run is None else {**given, "run": run}
    drawn = body if body.stat().st_size else None
    return perform_now(opened, "answer", wanted, author, drawn, id)
