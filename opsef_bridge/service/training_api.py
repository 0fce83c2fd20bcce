"""Routes of training: what can be trained, a training as a job, a candidate becomes a model."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from opsef_bridge.service.corrected import NextParameters
from opsef_bridge.service.ledger import is_known
from opsef_bridge.service.trained import (
    PromoteParameters,
    TrainParameters,
    check_training,
    training_facts,
)
from opsef_bridge.service.web import (
    Author,
    Id,
    InProject,
    RequestId,
    Started,
    State,
    problem_answers,
    start_job,
)

__all__ = ["router"]

router = APIRouter(tags=["training"])


class WeightsRow(BaseModel):
    """Weights that a training can start from."""

    name: str
    engine: str


class CandidateRow(BaseModel):
    """What a training has made."""

    name: str
    training: str
    engine: str


class TrainingFacts(BaseModel):
    """What a person chooses of, and how many images there are to learn from.

    `vouched`: images of which something is vouched for; `newest`: these and all that have a
    revision; `least`: how many are needed. `start` are the weights of the adopted variant,
    where they can be trained.
    """

    able: bool
    weights: list[WeightsRow]
    start: str
    vouched: int
    newest: int
    least: int
    candidates: list[CandidateRow]


@router.get(
    "/v1/projects/{project}/train",
    response_model=TrainingFacts,
    responses=problem_answers(404, 422),
)
def show_training(opened: InProject) -> dict[str, Any]:
    """Say whether the service can train, from which weights, and on how many images."""
    return training_facts(opened)


@router.post(
    "/v1/projects/{project}/train",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 409, 422),
)
def train(
    project: Id,
    wanted: TrainParameters,
    opened: InProject,
    author: Author,
    state: State,
    id: RequestId = None,
) -> dict[str, str]:
    """Train from corrections, and judge beside the parent: a job of minutes.

    Its result has the ``candidate``, its ``parent``, the ``dataset``, both ``scores`` and the
    ``gain`` with intervals, and ``words``. Cancelled, it keeps its checkpoint: the same asked
    again goes on.
    """
    if id is None or not is_known(opened, id):  # what is told again is not checked again
        check_training(opened, wanted)
    return start_job(state, project, "train", wanted.model_dump(exclude_unset=True), author, id=id)


@router.post(
    "/v1/projects/{project}/next",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 409, 422),
)
def correct_next(
    project: Id,
    wanted: NextParameters,
    opened: InProject,
    author: Author,
    state: State,
    id: RequestId = None,
) -> dict[str, str]:
    """Look for what to correct next: a job, whose result has ``next``, best first.

    An entry is an image, or the ``box`` (y, x, height, width) of a large one, with the objects
    that are expected ``wrong`` in it and the ``minutes`` that it may take.
    """
    return start_job(state, project, "next", wanted.model_dump(exclude_unset=True), author, id=id)


@router.post(
    "/v1/projects/{project}/promote",
    status_code=202,
    response_model=Started,
    responses=problem_answers(404, 409, 422),
)
def promote(
    project: Id,
    wanted: PromoteParameters,
    opened: InProject,
    author: Author,
    state: State,
    id: RequestId = None,
) -> dict[str, str]:
    """Compare a candidate with its parent; unless it is worse, make it a model: a job."""
    return start_job(
        state, project, "promote", wanted.model_dump(exclude_unset=True), author, id=id
    )
