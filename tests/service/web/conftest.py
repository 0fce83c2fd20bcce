"""The service over HTTP: in this process, and as a real server on a free port."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tifffile

from opsef_bridge.project import Project
from opsef_bridge.service.jobs import Jobs
from opsef_bridge.service.people import invite
from opsef_bridge.sweep import plan_sweep, run_plan
from tests.small_projects import Here, discs

CONFIG = """\
opsef: 1
images: {source: [data]}
models: {classic: {engine: watershed, threshold: [otsu, 0.8]}}
classes: {1: resting, 2: dividing}
sweep: {crop: none}
"""


@pytest.fixture(scope="session")
def make_discs():
    return discs


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Path:
    """A folder with the project ``demo``, swept; not to be changed."""
    root = tmp_path_factory.mktemp("service") / "Räume 1"
    folder = root / "demo"
    (folder / "data").mkdir(parents=True)
    for name, seed in {"a.tif": 1, "Zählung b.tif": 2}.items():
        tifffile.imwrite(folder / "data" / name, discs(seed), imagej=True)
    (folder / "opsef.yaml").write_text(CONFIG, "utf-8")
    project = Project(folder)
    assert run_plan(project, plan_sweep(project), Here()).failed == 0
    return root


@pytest.fixture
def root(served, tmp_path) -> Path:
    """A copy for a test to change."""
    return Path(shutil.copytree(served, tmp_path / "Räume 1"))


@dataclass
class Site:
    """A service in this process, and who may use it."""

    root: Path
    client: Any
    tokens: dict[str, str]

    @property
    def project(self) -> Project:
        return Project(self.root / "demo")

    @property
    def images(self) -> list[str]:
        return [entry.id for entry in self.project.images()]

    def headers(self, name: str = "ada", **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}", **more}

    def ask(self, method: str, path: str, *, who: str = "ada", headers=None, **more):
        """Ask as a person; `path` is below ``/v1``."""
        said = self.headers(who) | (headers or {})
        return self.client.request(method, f"/v1{path}", headers=said, **more)


@pytest.fixture
def site(root):
    """The service without a server, and without processes for its jobs: these wait."""
    pytest.importorskip("fastapi", reason="the extra `service` is not installed")
    from fastapi.testclient import TestClient

    from opsef_bridge.service.app import create_app

    tokens = {name: invite(root, name)[1] for name in ("ada", "bob")}
    app = create_app(root, upload_limit=2**20, jobs=Jobs(root, at_most=0), pump=False)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield Site(root, client, tokens)


@pytest.fixture
def start_server():
    """Return ``start(root, **options)``: a real server in a thread, ended with the test."""
    pytest.importorskip("uvicorn", reason="the extra `service` is not installed")
    from opsef_bridge.service.serve import serve

    started = []

    def start(root: Path, **options):
        there, found, failed = threading.Event(), [], []

        def ready(running):
            found.append(running)
            there.set()

        def run():
            try:
                serve(root, ready=ready, **options)
            except BaseException as error:
                failed.append(error)
                there.set()

        thread = threading.Thread(target=run)
        thread.start()
        assert there.wait(30), "it never answered"
        if failed:
            thread.join()
            raise failed[0]
        started.append((found[0], thread))
        return found[0]

    yield start
    for running, thread in started:
        running.stop()
        thread.join(30)
        assert not thread.is_alive(), "it does not end"
