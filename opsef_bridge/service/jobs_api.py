"""Routes of jobs: state by polling or as events, cancel."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from opsef_bridge.errors import NotFoundError
from opsef_bridge.service.requests import Job
from opsef_bridge.service.web import Id, InProject, Services, State, problem_answers

__all__ = ["JobAnswer", "events_of", "router"]

router = APIRouter(tags=["jobs"])
JOB = "/v1/projects/{project}/jobs/{job}"

INTERVAL = 0.5
"""Seconds between two looks at a job that somebody follows."""

KEEP_ALIVE = 15.0
"""Seconds without news after which a line is sent, so that proxies keep the connection."""


class JobAnswer(BaseModel, extra="allow"):
    """What became of a request."""

    id: str
    kind: str
    author: str
    state: Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]
    message: str
    current: int
    maximum: int
    at: str
    started: str | None
    ended: str | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None


class JobRows(BaseModel):
    """The jobs of a project."""

    jobs: list[JobAnswer]


@router.get(
    "/v1/projects/{project}/jobs", response_model=JobRows, responses=problem_answers(404, 422)
)
def list_jobs(
    project: Id,
    opened: InProject,
    state: State,
    newest: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """List the jobs of a project, newest first."""
    return {"jobs": [job.to_json() for job in state.jobs.list(project, newest=newest)]}


@router.get(JOB, response_model=JobAnswer, responses=problem_answers(404, 422))
def show_job(project: Id, job: Id, state: State) -> JSONResponse:
    """Return the state of a job. Made to be asked often: it reads that job only."""
    return JSONResponse(_get(state, project, job).to_json())


@router.delete(JOB, response_model=JobAnswer, responses=problem_answers(404, 422))
def cancel_job(project: Id, job: Id, state: State) -> dict[str, Any]:
    """Cancel a job; what it finished stays. One that has ended stays as it is."""
    _get(state, project, job)
    return state.jobs.cancel(project, job).to_json()


@router.get(
    JOB + "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **problem_answers(404, 422)},
)
async def job_events(project: Id, job: Id, state: State) -> StreamingResponse:
    """Send the state of a job whenever it changes, as server-sent events, until it ends."""
    first = await anyio.to_thread.run_sync(_get, state, project, job)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        events_of(state, project, first), media_type="text/event-stream", headers=headers
    )


async def events_of(state: Services, project: str, job: Job) -> AsyncIterator[str]:
    """Yield the events of a job until it ends, or the service does."""
    last, told = None, time.monotonic()
    while True:
        value = job.to_json()
        if value != last:
            yield f"event: job\ndata: {json.dumps(value)}\n\n"
            last, told = value, time.monotonic()
        elif time.monotonic() - told > KEEP_ALIVE:
            yield ": still here\n\n"
            told = time.monotonic()
        if job.ended_for_good or state.stopping.is_set():
            return
        await asyncio.sleep(INTERVAL)
        job = await anyio.to_thread.run_sync(_get, state, project, job.id)


def _get(state: Services, project: str, job: str) -> Job:
    if project.startswith("_"):
        raise NotFoundError(f"there is no project {project!r}", hint="GET /v1/projects lists them")
    return state.jobs.get(project, job)
