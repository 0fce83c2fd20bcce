"""The application: routes, what stands before them, and the thread that moves jobs on."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from fastapi import APIRouter, FastAPI, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from opsef_bridge.errors import NotFoundError, OpsefError
from opsef_bridge.service import (
    analysis_api,
    jobs_api,
    objects,
    pages_api,
    projects,
    questions_api,
    runs,
    segment_api,
    training_api,
)
from opsef_bridge.service.guard import Guard
from opsef_bridge.service.jobs import Jobs
from opsef_bridge.service.pages import PREFIX, Pages
from opsef_bridge.service.people import People
from opsef_bridge.service.pixels import PIXEL_LIMIT
from opsef_bridge.service.places import uploads
from opsef_bridge.service.web import (
    Services,
    answer_http,
    answer_invalid,
    answer_opsef_error,
    answer_unexpected,
)

__all__ = ["UPLOAD_LIMIT", "create_app"]

log = logging.getLogger("opsef_bridge.service")

UPLOAD_LIMIT = 4 * 2**30
"""Bytes of an image or a zip that is sent: what a classic TIFF can hold."""

PUMP_SECONDS = 0.3
"""Between two looks at the jobs."""

_UPLOADS = re.compile(r"POST /v1/(segment|projects/[^/]+/images)|PUT /v1/projects/[^/]+/rois/[^/]+")

fiji = APIRouter(tags=["fiji"])


@fiji.get("/fiji.zip", responses={200: {"content": {"application/zip": {}}}})
def fiji_zip() -> Response:
    """Return the menu for Fiji, to be unpacked into its folder. Needs no token."""
    try:
        from opsef_bridge.service.fiji import bundle
    except ImportError:
        raise NotFoundError("the scripts for Fiji are not installed") from None
    with tempfile.TemporaryDirectory() as folder:
        file = bundle(Path(folder) / "fiji.zip")
        content = file.read_bytes()
    name = {"Content-Disposition": 'attachment; filename="fiji.zip"'}
    return Response(content, media_type="application/zip", headers=name)


def create_app(
    root: Path,
    *,
    hosts: Iterable[str] = (),
    upload_limit: int = UPLOAD_LIMIT,
    pixel_limit: int = PIXEL_LIMIT,
    jobs: Jobs | None = None,
    pump: bool = True,
) -> FastAPI:
    """Return the application for a folder of projects.

    Parameters
    ----------
    root : Path
        The folder; what the service keeps for itself is in ``.opsef`` there.
    hosts : iterable of str
        Names besides ``localhost`` under which it may be asked for.
    upload_limit : int
        Bytes of an image or a zip.
    pixel_limit : int
        Pixels of an image.
    jobs : Jobs, optional
        Those of `root` by default.
    pump : bool
        Whether jobs are moved on while the application runs (its lifespan).
    """
    root = Path(root).resolve()
    people = People(root)
    pages = Pages(people.who)
    services = Services(root, jobs or Jobs(root), upload_limit, pixel_limit, pages)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if not pump:
            yield
            return
        _clear(uploads(root))
        await anyio.to_thread.run_sync(services.jobs.catch_up)
        thread = threading.Thread(target=_pump, args=(services,), name="jobs", daemon=True)
        thread.start()
        try:
            yield
        finally:
            services.stopping.set()
            await anyio.to_thread.run_sync(thread.join, 10.0)

    app = FastAPI(
        title="opsef_bridge",
        version=str(projects.API),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.services = services
    parts = (projects, runs, objects, questions_api, analysis_api, training_api, pages_api,
             jobs_api, segment_api)  # fmt: skip
    for part in parts:
        app.include_router(part.router)
    app.include_router(fiji)
    app.add_exception_handler(OpsefError, answer_opsef_error)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(Exception, answer_unexpected)
    app.add_middleware(
        Guard,
        who=lambda method, path, token: people.who(token) or pages.who(method, path, token),
        # The ticket is in the address; the route looks at it.
        is_open=lambda method, path: method == "GET" and path.startswith(PREFIX),
        hosts=hosts,
        upload_limit=upload_limit,
        is_upload=lambda method, path: bool(_UPLOADS.fullmatch(f"{method} {path}")),
    )
    return app


def _pump(services: Services) -> None:
    """Move jobs on until the service stops; one that fails must not end the others."""
    while not services.stopping.is_set():
        try:
            services.jobs.pump()
        except Exception:
            log.exception("jobs could not be moved on; trying again")
        services.stopping.wait(PUMP_SECONDS)


def _clear(folder: Path) -> None:
    """Remove what a service that was killed had half received."""
    for file in folder.iterdir():
        file.unlink(missing_ok=True)
