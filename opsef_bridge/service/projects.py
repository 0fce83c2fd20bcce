"""Routes of projects and their images."""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from opsef_bridge.config import Config
from opsef_bridge.errors import ImageError, NotFoundError, OpsefError
from opsef_bridge.files import file_sha256, key_of
from opsef_bridge.images import write_hyperstack
from opsef_bridge.images.identity import stamp
from opsef_bridge.presets import Preset
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.service.ledger import ONCE
from opsef_bridge.service.new_project import made_by, make_project, object_pixels
from opsef_bridge.service.once import once, once_in
from opsef_bridge.service.people import service_folder
from opsef_bridge.service.pixels import sent_image_info
from opsef_bridge.service.places import file_name, project_key
from opsef_bridge.service.web import (
    Author,
    Body,
    Id,
    InProject,
    RequestId,
    State,
    binary_body,
    cached,
    file_answer,
    problem_answers,
)
from opsef_bridge.sweep import plan_sweep
from opsef_bridge.sweep.estimate import estimate
from opsef_bridge.sweep.importing import import_images
from opsef_bridge.sweep.predict import segmented_array

__all__ = ["API", "router"]

API = 1
"""Version of the interface; scripts refuse another one."""

PATIENCE = 20.0
"""Seconds to wait for others who change the list of images."""

router = APIRouter(tags=["projects"])


class Health(BaseModel):
    """Which program answers."""

    name: str
    api: int
    version: str


class NewProject(BaseModel, extra="forbid"):
    """A project to make."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    preset: Preset = "fluorescence"
    object_um: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    pixel_um: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None


class Made(BaseModel):
    """A project that was made; `said` tells where its id is not the name that was asked for."""

    id: str
    key: str
    said: list[str]


class ImageMade(BaseModel):
    """Id of an image that was sent; `said` tells where it is kept under another name."""

    image: str
    said: list[str]


class ImageRow(BaseModel):
    """An image of a project; `part`, `channels` and `time_step` (seconds) are of its file."""

    id: str
    source: str
    axes: str
    shape: list[int]
    pixel_size: dict[str, float]
    unit: str
    series: int = 0
    part: str = ""
    channels: list[str] = []
    time_step: float = 0.0
    group: str
    include: bool


class ImageRows(BaseModel):
    """The images of a project."""

    images: list[ImageRow]


class ProjectNames(BaseModel):
    """Ids of all projects, and by each id the key of the project: see `ProjectFacts`."""

    projects: list[str]
    keys: dict[str, str]


class ProjectFacts(BaseModel):
    """A project at a glance.

    `key` is 32 hexadecimal digits that stay the same as long as the project has its id. No
    other project has them, and no project of another service, be it of the same name.
    """

    id: str
    key: str
    images: list[ImageRow]
    runs: list[str]
    adopted: dict[str, Any]
    classes: dict[int, str]
    jobs: list[dict[str, Any]]


@router.get("/v1/health", response_model=Health)
async def health() -> dict[str, Any]:
    """Say which program this is. Needs no token."""
    return _HEALTH


def _version() -> str:
    try:
        return version("opsef_bridge")
    except PackageNotFoundError:
        return "unknown"


_HEALTH = {"name": "opsef_bridge", "api": API, "version": _version()}


@router.get("/v1/me", responses=problem_answers())
async def me(author: Author) -> dict[str, str]:
    """Say whose token it is."""
    return {"name": author}


@router.get("/v1/projects", response_model=ProjectNames, responses=problem_answers())
def list_projects(state: State) -> dict[str, Any]:
    """List the projects."""
    names = state.jobs.projects()
    keys = {}
    for name in names:
        with suppress(OpsefError):  # its opsef.yaml is broken
            keys[name] = project_key(state.root, state.jobs.project(name))
    return {"projects": names, "keys": keys}


@router.post(
    "/v1/projects", status_code=201, response_model=Made, responses=problem_answers(409, 413, 422)
)
def new_project(
    wanted: NewProject, state: State, author: Author, id: RequestId = None
) -> dict[str, Any]:
    """Make a project for images that are sent next."""
    pixels = object_pixels(wanted.object_um, wanted.pixel_um)

    def make() -> tuple[int, dict[str, Any]]:
        mark = None if id is None else key_of(author, id)
        # One that was made just before the service was killed.
        there = mark and made_by(mark, map(state.jobs.project, state.jobs.projects()))
        folder = there or make_project(state.root, wanted.name, wanted.preset, pixels, mark)
        said = _renamed(wanted.name, folder.name, "Its id is made of letters, digits and '-'")
        key = project_key(state.root, Project(folder))
        return 201, {"id": folder.name, "key": key, "said": said}

    asked = {"project": wanted.model_dump()}
    return once(service_folder(state.root) / ONCE, id, author, asked, make)[1]


def _renamed(asked: str, kept: str, why: str) -> list[str]:
    """Return what is said of a name that is not kept as it came."""
    if unicodedata.normalize("NFC", asked) == kept:
        return []
    return [f"{asked!r} is {kept!r} here. {why}, and it has a number where there is one already"]


@router.get(
    "/v1/projects/{project}", response_model=ProjectFacts, responses=problem_answers(404, 422)
)
def show_project(project: Id, opened: InProject, state: State) -> dict[str, Any]:
    """Show a project at a glance."""
    return {
        "id": project,
        "key": project_key(state.root, opened),
        "images": [_row(entry) for entry in opened.images()],
        "runs": opened.runs(),
        "adopted": opened.adopted(),
        "classes": opened.config.classes,
        "jobs": [job.to_json() for job in state.jobs.list(project, newest=20)],
    }


@router.get(
    "/v1/projects/{project}/images", response_model=ImageRows, responses=problem_answers(404, 422)
)
def list_images(opened: InProject) -> dict[str, Any]:
    """List the images of a project."""
    return {"images": [_row(entry) for entry in opened.images()]}


@router.post(
    "/v1/projects/{project}/images",
    status_code=201,
    response_model=ImageMade,
    responses={200: {"model": ImageMade}, **problem_answers(404, 409, 413, 422)},
    openapi_extra=binary_body("image/tiff"),
)
def add_image(
    opened: InProject,
    name: Annotated[str, Query(min_length=1, max_length=200)],
    body: Body,
    answer: Response,
    state: State,
    author: Author,
    id: RequestId = None,
) -> dict[str, Any]:
    """Take an image (TIFF or PNG). The same image under the same name is taken once (200)."""
    kept = file_name(name)
    file = body.rename(body.with_name(body.name + Path(kept).suffix.lower()))
    try:
        asked = {"image": name, "sha256": None if id is None else file_sha256(file)}
        status, told = once_in(
            opened, id, author, asked, lambda: _take(opened, file, name, state.pixel_limit)
        )
    finally:
        file.unlink(missing_ok=True)
    answer.status_code = status
    return told


def _take(project: Project, file: Path, name: str, pixel_limit: int) -> tuple[int, dict[str, Any]]:
    """Put a file that came into the project; return status and answer."""
    kept, config = file_name(name), project.config
    _check_readable(file, kept, config.images.assumed_axes, pixel_limit)
    with project.changing_images(PATIENCE):
        target, new = _place(project, file, kept)
        entries = _taken(project, config, file, target, new)
    source = target.relative_to(project.root).as_posix()
    found = [entry.id for entry in entries if entry.source == source]
    if not found:
        raise NotFoundError(
            f"opsef.yaml does not name {source} among its images",
            hint="Add `data` to images.source",
        )
    said = _renamed(name, target.name, "Signs that files cannot have in their names are '-'")
    return 201 if new else 200, {"image": found[0], "said": said}


def _check_readable(file: Path, name: str, axes: str | None, pixel_limit: int) -> None:
    """Refuse what is no image, or too large a one, before it is in the project."""
    try:
        sent_image_info(file, pixel_limit, axes)
    except ImageError as error:
        said = error.message.replace(str(file), name).replace(file.name, name)
        raise ImageError(said, hint=error.hint) from None


def _taken(
    project: Project, config: Config, file: Path, target: Path, new: bool
) -> list[ImageEntry]:
    """Put a file into the project, if it is new, and return the images that are there then."""
    if new:
        target.parent.mkdir(exist_ok=True)
        os.replace(file, target)
        os.chmod(target, 0o644)
    try:
        return import_images(project, config)
    except Exception:
        if new:
            target.unlink(missing_ok=True)
        raise


def _place(project: Project, file: Path, name: str) -> tuple[Path, bool]:
    """Return where a file that came goes, and whether it is not there yet."""
    path = Path(name)
    for number in range(1, 10_000):
        stem = path.stem if number == 1 else f"{path.stem}-{number}"
        target = project.root / "data" / f"{stem}{path.suffix}"
        if not os.path.lexists(target):
            return target, True
        same = target.is_file() and target.stat().st_size == file.stat().st_size
        if same and file_sha256(target) == file_sha256(file):
            return target, False
    raise ImageError(f"there are too many images called {name}", hint="Choose another name")


@router.get(
    "/v1/projects/{project}/images/{image}/data",
    response_class=FileResponse,
    responses={
        200: {"content": {"image/tiff": {}}},
        304: {"description": "The client has it already"},
        **problem_answers(404, 422),
    },
)
def image_data(opened: InProject, image: Id, request: Request) -> Response:
    """Return what is segmented of an image: one plane or volume, as a TIFF of 8 or 16 bit."""
    entry = opened.image(image)
    config = opened.config
    file = opened.source_file(entry)
    if not file.exists():
        raise NotFoundError(f"the file of {image} is gone: {entry.source}")
    choices = (entry.id, entry.calibration(), entry.segment_channel, entry.projection)
    key = key_of(entry.sha256, *stamp(file), *choices, config.images.model_dump())

    def make(path: Path) -> None:
        array = for_imagej(segmented_array(opened, config, entry))
        axes = "ZYX"[-array.ndim :]
        spacing = {axis: size for axis, size in entry.spacing.items() if axis in axes}
        told = entry.info_text()
        write_hyperstack(path, array, axes, spacing or None, info=told, unit=entry.unit)

    path = cached(opened, f"{key}.tif", make)
    return file_answer(request, path, media="image/tiff", etag=f'"{key}"', name=f"{image}.tif")


@router.get("/v1/projects/{project}/plan", responses=problem_answers(404, 409, 422))
def plan(opened: InProject) -> dict[str, Any]:
    """Say what a sweep would cost: passes, seconds, disk."""
    with opened.changing_images(PATIENCE):
        planned = plan_sweep(opened)
    return estimate(opened, planned)


def for_imagej(array: np.ndarray) -> np.ndarray:
    """Return the pixels as uint8 or uint16; as they are where these can hold them.

    Examples
    --------
    >>> for_imagej(np.array([[-1.0, 0.0, 1.0]])).tolist()
    [[0, 32768, 65535]]
    >>> for_imagej(np.array([[300, 2]])).dtype
    dtype('uint16')
    """
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "iu" and low >= 0 and high <= 65535:
        return array.astype(np.uint16)
    if not high > low:
        return np.zeros(array.shape, np.uint16)
    scaled = (array.astype(np.float64) - low) * (65535 / (high - low))
    return np.rint(scaled).astype(np.uint16)


def _row(entry: ImageEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "source": Path(entry.source).name,
        "axes": entry.axes,
        "shape": list(entry.shape),
        **entry.calibration(),
        "group": entry.group,
        "include": entry.include,
    }
