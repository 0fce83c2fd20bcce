"""What all routes share: who asks, ids, bodies as files, answers with ETags, errors."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import Depends, Header, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from opsef_bridge.errors import (
    InputError,
    LockedError,
    NotFoundError,
    OpsefError,
    StaleError,
)
from opsef_bridge.project import Project
from opsef_bridge.service.guard import too_large
from opsef_bridge.service.jobs import Jobs
from opsef_bridge.service.pages import Pages
from opsef_bridge.service.places import uploads
from opsef_bridge.service.requests import perform, write_request

__all__ = [
    "Author",
    "Body",
    "ErrorAnswer",
    "Id",
    "InProject",
    "RequestId",
    "Services",
    "Started",
    "State",
    "binary_body",
    "file_answer",
    "perform_now",
    "problem_answers",
    "start_job",
]

ID = r"^[A-Za-z0-9_.-]{1,64}$"
Id = Annotated[str, InPath(pattern=ID)]
CHUNK = 2**20

SAME_SECONDS = 60.0
"""How long somebody who sends the same request again waits for the first to be done."""


@dataclass(frozen=True)
class Services:
    """What the routes work with; one for the whole application."""

    root: Path
    jobs: Jobs
    upload_limit: int
    pixel_limit: int
    pages: Pages
    stopping: threading.Event = field(default_factory=threading.Event)


async def _state(request: Request) -> Services:
    return request.app.state.services


async def _author(request: Request) -> str:
    return request.state.author


def _project(request: Request, project: Id) -> Project:
    # What begins with "_" belongs to the service itself.
    if project.startswith("_"):
        raise NotFoundError(f"there is no project {project!r}", hint="GET /v1/projects lists them")
    return request.app.state.services.jobs.project(project)


State = Annotated[Services, Depends(_state)]
Author = Annotated[str, Depends(_author)]
RequestId = Annotated[
    str | None,
    Header(
        alias="X-Opsef-Request",
        pattern=r"^[A-Za-z0-9_-]{8,64}$",
        description="An id that the client makes up. Who got no answer sends the same again "
        "with the same id: it is done once, and answered the same. Something else, or somebody "
        "else, with that id is refused (422). After an answer, also a refusal, take a new id.",
    ),
]
"""The id by which a request can be sent again."""

InProject = Annotated[Project, Depends(_project)]


class Problem(BaseModel):
    """What is wrong, and the way out."""

    code: str
    message: str
    hint: str = ""
    report: dict[str, Any] | None = None


class ErrorAnswer(BaseModel):
    """Every answer that is no success."""

    error: Problem


class Started(BaseModel):
    """Id of a job."""

    job: str


class TooLargeError(InputError):
    """More came than is taken."""

    code = "too-large"


_STATUS: list[tuple[type[OpsefError], int]] = [
    (TooLargeError, 413),
    (NotFoundError, 404),
    (StaleError, 412),
    (LockedError, 409),
]


class AnswerError(OpsefError):
    """An error with a status of HTTP that no other error has."""

    def __init__(self, status: int, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.code = status, code


def problem_answers(*numbers: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of errors that a route may answer with."""
    return {number: {"model": ErrorAnswer} for number in (401, *numbers)}


def _problem(
    status: int, code: str, message: str, hint: str = "", report: dict | None = None
) -> JSONResponse:
    error = {"code": code, "message": message, "hint": hint}
    if report:
        error["report"] = report
    return JSONResponse({"error": error}, status)


def answer_opsef_error(request: Request, error: Exception) -> Response:
    """Answer with the message that the command line would print."""
    assert isinstance(error, OpsefError)
    if isinstance(error, AnswerError):
        return _problem(error.status, error.code, error.message, error.hint)
    status = next((number for kind, number in _STATUS if isinstance(error, kind)), 422)
    if error.code == "internal":  # a job wrote down a fault of ours
        status = 500
    if _is_full(error.__cause__):
        return _problem(507, "disk-full", error.message, error.hint)
    report = getattr(error, "report", None)
    return _problem(status, error.code, error.message, error.hint, report)


def answer_invalid(request: Request, error: Exception) -> Response:
    """Answer for what the models of a route refuse."""
    assert isinstance(error, RequestValidationError)
    lines = []
    for one in error.errors():
        where = ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0])
        lines.append(f"{where}: {one['msg']}")
    return _problem(422, "bad-input", "; ".join(lines) or "the request cannot be understood")


def answer_http(request: Request, error: Exception) -> Response:
    """Answer for addresses and methods that are not there."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and request.headers.get("content-type", "").endswith("json"):
        return _problem(422, "bad-input", "the body is no JSON")
    codes = {404: "not-found", 405: "wrong-method", 413: "too-large"}
    answer = _problem(error.status_code, codes.get(error.status_code, "error"), str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def answer_unexpected(request: Request, error: Exception) -> Response:
    """Answer for a fault of ours; the server writes what it was into its log."""
    if _is_full(error):
        return _problem(507, "disk-full", "the disk of the service is full", "Make room there")
    return _problem(
        500, "internal", "the service failed; its log says why", "Please report this, with the log"
    )


def _is_full(error: BaseException | None) -> bool:
    """Tell whether there was no room on the disk, or none for this account."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def binary_body(media: str, *, required: bool = True) -> dict[str, Any]:
    """Return what OpenAPI says of a route that takes a file as its body."""
    schema = {"type": "string", "format": "binary"}
    return {"requestBody": {"required": required, "content": {media: {"schema": schema}}}}


async def _body(request: Request) -> AsyncIterator[Path]:
    """Put a body into a temporary file as it comes; it is removed after the answer."""
    services = request.app.state.services
    folder = await anyio.to_thread.run_sync(uploads, services.root)
    handle, name = tempfile.mkstemp(dir=folder, prefix="upload-")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            size, waiting = 0, bytearray()
            async for chunk in request.stream():
                size += len(chunk)
                if size > services.upload_limit:
                    message, hint = too_large(services.upload_limit)
                    raise TooLargeError(message, hint=hint)
                waiting += chunk
                if len(waiting) >= CHUNK:
                    await anyio.to_thread.run_sync(file.write, bytes(waiting))
                    waiting.clear()
            await anyio.to_thread.run_sync(file.write, bytes(waiting))
        yield path
    except ClientDisconnect:  # there is nobody to answer to, and no fault to log
        raise HTTPException(400, "the connection was cut") from None
    finally:
        path.unlink(missing_ok=True)


Body = Annotated[Path, Depends(_body)]
"""The body, as a file."""


def perform_now(
    project: Project,
    kind: str,
    parameters: Mapping[str, Any],
    author: str,
    attachment: Path | None = None,
    id: str | None = None,
) -> dict[str, Any]:
    """Write a request that is done at once, do it, and return its result.

    With the `id` of one that was done before, the result, or the error, of that is told again.
    """
    wanted = dict(parameters)
    request = write_request(project, kind, wanted, author=author, attachment=attachment, id=id)
    result = perform(project, request, patience=SAME_SECONDS)
    if not result:  # its state file is gone
        raise AnswerError(
            409, "unknown-outcome", f"{id} was done, but what it answered is not known any more",
            hint="See what is there now; send it with a new id where it is missing",
        )  # fmt: skip
    return result


def start_job(
    state: Services,
    project: str,
    kind: str,
    parameters: Mapping[str, Any],
    author: str,
    *,
    id: str | None = None,
    attachment: Path | None = None,
    suffix: str = ".zip",
) -> dict[str, str]:
    """Write a request of a kind that takes a while, begin its job, and return the `Started`.

    Parameters
    ----------
    project : str
        Id of a project that the service has, or `opsef_bridge.service.scratch.SCRATCH`.
    kind, parameters, author, id, attachment, suffix
        As `opsef_bridge.service.requests.write_request` takes them. With the `id` of one that
        was sent before, that one's job is told again.

    Raises
    ------
    OpsefError
        As `write_request`; nothing is started then.
    """
    job = write_request(
        state.jobs.project(project), kind, parameters,
        author=author, attachment=attachment, suffix=suffix, id=id,
    )  # fmt: skip
    state.jobs.start(project, job)
    return {"job": job}


def etag_of(path: Path) -> str:
    """Return an ETag by size and time of a file, without reading it."""
    status = path.stat()
    text = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def has_already(request: Request, etag: str) -> bool:
    """Tell whether the client says that it has this version already."""
    given = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in tags or "*" in tags


def file_answer(
    request: Request,
    path: Path,
    *,
    media: str,
    etag: str | None = None,
    headers: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Response:
    """Stream a file, or the part that the client asks for; 304 where it has it already."""
    etag = etag or etag_of(path)
    more = {"ETag": etag, "Cache-Control": "private, no-cache", **(headers or {})}
    if has_already(request, etag):
        return Response(status_code=304, headers=more)
    return FileResponse(path, media_type=media, headers=more, filename=name)


def cached(project: Project, name: str, make: Callable[[Path], None]) -> Path:
    """Return a file of the project's cache; make it where it is not there."""
    if not re.fullmatch(ID[1:-1].replace("{1,64}", "{1,200}"), name):
        raise InputError(f"{name!r} is no name of a file")
    path = project.cache_folder / "service" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    return path
