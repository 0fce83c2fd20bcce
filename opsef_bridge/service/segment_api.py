"""Routes of Segment Image: one image in, objects out; and what can segment it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel

from opsef_bridge.engines import engine_class, engine_names, list_weights
from opsef_bridge.engines.parameters import split_parameters
from opsef_bridge.errors import ImageError, InputError, NotFoundError, OpsefError
from opsef_bridge.service.jobs_api import JobAnswer
from opsef_bridge.service.pixels import sent_image_info
from opsef_bridge.service.places import inside
from opsef_bridge.service.requests import Job, error_of
from opsef_bridge.service.scratch import SCRATCH
from opsef_bridge.service.web import (
    AnswerError,
    Author,
    Body,
    Id,
    RequestId,
    Services,
    Started,
    State,
    binary_body,
    file_answer,
    problem_answers,
    start_job,
)

__all__ = ["router"]

router = APIRouter(tags=["segment"])

Model = Annotated[str | None, Query(min_length=1, max_length=100)]


class Models(BaseModel):
    """What can segment an image."""

    engines: list[dict[str, Any]]


@router.post(
    "/v1/segment",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 413, 422),
    openapi_extra=binary_body("image/tiff"),
)
def segment_image(
    request: Request,
    body: Body,
    author: Author,
    state: State,
    engine: Model = None,
    weights: Model = None,
    id: RequestId = None,
) -> dict[str, str]:
    """Segment one image (TIFF); what else is in the query are parameters of the engine."""
    values = {
        key: _value(text)
        for key, text in request.query_params.items()
        if key not in ("engine", "weights")
    }
    _check_model(engine, weights, values)
    image = body.rename(body.with_name(body.name + ".tif"))
    try:
        sent_image_info(image, state.pixel_limit)
        wanted = {"engine": engine, "weights": weights, "parameters": values}
        named = {key: value for key, value in wanted.items() if value is not None}
        return start_job(
            state, SCRATCH, "segment", named, author, id=id, attachment=image, suffix=".tif"
        )
    except ImageError as error:
        said = error.message.replace(str(image), "the body").replace(image.name, "the body")
        raise ImageError(said, hint=error.hint) from None
    finally:
        image.unlink(missing_ok=True)


def _check_model(engine: str | None, weights: str | None, values: dict[str, Any]) -> None:
    """Refuse at once what the job would refuse."""
    if not engine and not weights:
        raise InputError("no model is named", hint="Name an engine or weights: GET /v1/models")
    if weights:
        found = next((one for one in list_weights() if one.name == weights), None)
        if found is None:
            known = ", ".join(one.name for one in list_weights())
            raise NotFoundError(f"there are no weights {weights!r}", hint=f"Choose of {known}")
        if engine and engine != found.engine:
            raise InputError(
                f"the weights {weights!r} are of {found.engine}, not of {engine}",
                hint="Name the weights alone",
            )
        engine = found.engine
    split_parameters(engine_class(engine or ""), values)


def _value(text: str) -> bool | int | float | str:
    """Return what a query says as the value that it looks like."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@router.get("/v1/segment/{job}", response_model=JobAnswer, responses=problem_answers(404, 422))
def segment_state(job: Id, author: Author, state: State) -> JSONResponse:
    """Return the state of a segmentation."""
    return JSONResponse(_own(state, job, author).to_json())


@router.delete("/v1/segment/{job}", response_model=JobAnswer, responses=problem_answers(404, 422))
def cancel_segment(job: Id, author: Author, state: State) -> dict[str, Any]:
    """Cancel a segmentation."""
    _own(state, job, author)
    return state.jobs.cancel(SCRATCH, job).to_json()


@router.get(
    "/v1/segment/{job}/rois",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/zip": {}}},
        204: {"description": "No objects were found"},
        304: {"description": "The client has it already"},
        **problem_answers(404, 409, 422),
    },
)
def segment_rois(job: Id, author: Author, state: State, request: Request) -> Response:
    """Return the objects that were found, as a zip of ImageJ ROIs."""
    done = _own(state, job, author)
    if done.error is not None:
        raise error_of(done.error)
    if done.result is None:
        raise AnswerError(409, "not-ready", f"it is {done.state}", hint="Ask again when it is done")
    headers = {"X-Opsef-Objects": str(done.result["objects"])}
    if not done.result["rois"]:
        return Response(status_code=204, headers=headers)
    project = state.jobs.project(SCRATCH)
    path = inside(project, project.root / done.result["rois"])
    return file_answer(
        request, path, media="application/zip", headers=headers, name=f"{job}_ROIs.zip"
    )


def _own(state: Services, job: str, author: str) -> Job:
    """Return a job of that person; those of others are not there for them."""
    found = state.jobs.get(SCRATCH, job)
    if found.author != author:
        raise NotFoundError(f"there is no job {job!r}")
    return found


@router.get("/v1/models", response_model=Models, responses=problem_answers())
def list_models() -> dict[str, Any]:
    """List the engines with their weights and parameters."""
    weights = list_weights()
    found = []
    for name in engine_names():
        try:
            engine = engine_class(name)
        except OpsefError:
            continue  # `opsef doctor` says why
        own = [one for one in weights if one.engine == name]
        fields = {**engine.Predict.model_fields, **engine.Decode.model_fields}
        found.append(
            {
                "engine": name,
                "needs_weights": engine.needs_weights,
                "weights": [
                    {
                        "name": one.name,
                        "here": one.path is None or one.path.is_file(),
                        "licence": str(one.card.get("licence", "unknown")),
                    }
                    for one in own
                ],
                "parameters": {key: _plain(field.default) for key, field in fields.items()},
            }
        )
    return {"engines": found}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
