"""A project of two small images with a finished sweep, made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from opsef_bridge.project import Project
from tests.small_projects import discs, swept


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exchange") / "Projekt ä"
    swept(folder, {"a.tif": discs(1), "b.tif": discs(2)})
    return folder


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy for a test to change."""
    return Project(shutil.copytree(finished, tmp_path / "Projekt ä"))
