"""A folder of projects for a service: small, swept once, copied for each test."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tifffile
import yaml

from opsef_bridge.engines.registry import engine_class
from opsef_bridge.project import Project
from opsef_bridge.service.jobs import Jobs
from opsef_bridge.sweep import plan_sweep, run_plan
from tests.running import wait_until
from tests.small_projects import CONFIG, Here, discs

PLUGINS = Path(__file__).parents[1] / "sweep" / "plugins"


def make_project(folder: Path, images: int = 2, config: str = "") -> Project:
    (folder / "data").mkdir(parents=True)
    for number in range(images):
        tifffile.imwrite(folder / "data" / f"{number}.tif", discs(number, first=(12, 12)))
    (folder / "opsef.yaml").write_text(config or CONFIG.replace("CROP", "none"), "utf-8")
    return Project(folder)


@pytest.fixture(scope="session")
def swept_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("service") / "cells"
    project = make_project(folder)
    result = run_plan(project, plan_sweep(project), Here())
    assert result.failed == 0 and result.ok > 0
    return folder


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory) -> Path:
    """Where processes keep the modules that they compiled, so that they start fast."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def root(tmp_path) -> Path:
    """The folder that a service serves; blanks and umlauts are usual there."""
    folder = tmp_path / "Projekte der Ärzte"
    folder.mkdir()
    return folder


@pytest.fixture
def project(swept_once, root) -> Project:
    """A copy of a swept project, for a test to change."""
    return Project(shutil.copytree(swept_once, root / "cells"))


@pytest.fixture(scope="session")
def probe_site(tmp_path_factory) -> Path:
    """What an installed package of the engine ``probe`` would leave behind."""
    folder = tmp_path_factory.mktemp("site")
    metadata = folder / "probe_engine-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: probe-engine\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[opsef_bridge.engines]\nprobe = probe_engine:Probe\n"
    )
    return folder


@pytest.fixture
def probe(probe_site, tmp_path, monkeypatch) -> Iterator[Callable[..., Project]]:
    """Return ``probe(folder)``: a project whose sweep can be held.

    ``probe.passes()`` tells how often the network was used, in whatever process;
    ``probe.hold(n)`` lets it be used so often, and then wait for ``probe.release()``.
    """
    log = tmp_path / "passes.txt"
    paths = [str(probe_site), str(PLUGINS)]
    monkeypatch.setattr(sys, "path", [*sys.path, *paths])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PROBE_LOG", str(log))
    monkeypatch.setenv("PROBE_DEADLY", str(tmp_path / "deadly"))
    held = tmp_path / "held"
    monkeypatch.setenv("PROBE_HELD", str(held))
    engine_class.cache_clear()

    def make(folder: Path, *, images: int = 4, **models: Any) -> Project:
        probe = {"engine": "probe", "threshold": [0.3, 0.6]}
        settings = {
            "opsef": 1,
            "images": {"source": ["data/*"]},
            "models": models or {"probe": probe},
            "sweep": {"crop": "none"},
        }
        return make_project(folder, images, yaml.safe_dump(settings))

    make.here = Here()
    make.passes = lambda: len(log.read_text().splitlines()) if log.exists() else 0
    make.hold = lambda passes: held.write_text(str(passes))
    make.release = held.unlink
    yield make
    engine_class.cache_clear()


@pytest.fixture
def until() -> Callable[..., Any]:
    """Return ``until(condition, timeout=60)``, which waits for it to become true."""
    return wait_until


CODE = """
import sys
from opsef_bridge.service.inbox import perform_main
sys.exit(perform_main(*sys.argv[1:]))
"""


@pytest.fixture
def perform_code() -> str:
    """Python code that does a request, by folder and id."""
    return CODE


@pytest.fixture
def service(root, bytecode, monkeypatch) -> Iterator[Callable[..., Jobs]]:
    """Return ``service()``, the `Jobs` of the root; what they began ends with the test."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(bytecode))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    made: list[Jobs] = []

    def make(**more: Any) -> Jobs:
        command = {"command": lambda folder, id: [sys.executable, "-c", CODE, str(folder), id]}
        made.append(Jobs(root, **(command | more)))
        return made[-1]

    yield make
    for jobs in made:
        for process in jobs._mine.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
