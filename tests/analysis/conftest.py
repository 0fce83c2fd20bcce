"""A copy of a module's swept project for every test, and the command on it."""

from __future__ import annotations

import shutil

import pytest

from opsef_bridge.project import Project
from tests.running import run_opsef


@pytest.fixture
def project(ready, tmp_path):
    """A copy of the project that the module made once: its fixture `ready`."""
    shutil.copytree(ready.root, tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture
def opsef(project, monkeypatch, capfd):
    """``opsef -p PROJECT`` in this process: exit code, stdout, stderr."""

    def run(*words: object):
        return run_opsef(monkeypatch, capfd, "-p", project.root, *words)

    return run
