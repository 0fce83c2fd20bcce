"""Pictures are not written over what a project is made of."""

from __future__ import annotations

import pytest

from opsef_bridge.errors import InputError
from opsef_bridge.project import Project
from opsef_bridge.sweep.targets import check_target
from tests.running import run_opsef
from tests.small_projects import discs, swept

TAKEN = (
    "data/a.tif", "data/new.png", "images/index.csv", "runs/run-0001/labels/v0001/x.tif",
    "runs/run-0001/report.html", "truth/a.tif", "annotations/a.tif", "cache/a.tif",
    "models/a.png", "opsef.yaml", "adopted.json", "pictures/../data/a.tif",
)  # fmt: skip
FREE = ("pictures/a.tif", "a.png", "plots/a.png", "runs/run-0001/compare/a.tif", "../beside.png")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return swept(tmp_path_factory.mktemp("targets") / "project", {"a.tif": discs(0)})


@pytest.mark.parametrize("place", TAKEN)
def test_what_a_project_is_made_of_is_refused(project, place):
    with pytest.raises(InputError, match="Name another folder"):
        check_target(project, project.root / place)


@pytest.mark.parametrize("place", FREE)
def test_other_places_are_free(project, place):
    check_target(project, project.root / place)


def test_sources_that_lie_elsewhere_are_safe_too(project, tmp_path):
    import shutil

    (tmp_path / "scans").mkdir()
    shutil.copy(project.root / "data" / "a.tif", tmp_path / "scans")
    other = Project(tmp_path / "project")
    other.root.mkdir()
    text = (project.root / "opsef.yaml").read_text("utf-8")
    scans = tmp_path / "scans"
    other.root.joinpath("opsef.yaml").write_text(text.replace("data/*", f"{scans}/*"), "utf-8")
    from opsef_bridge.sweep.importing import import_images

    import_images(other, other.config)
    with pytest.raises(InputError, match="is an image"):
        check_target(other, scans / "a.tif")


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "--montage", "--image", "i00001", "--to", "data/a.png"),
        ("compare", "--image", "i00001", "--to", "runs/run-0001/labels/v0001/i00001-a.tif"),
        ("compare", "--to", "data"),
        ("review", "i00001-a", "--map", "data/a.tif"),
    ],
)
def test_commands_write_nothing_there(project, monkeypatch, capfd, words):
    monkeypatch.chdir(project.root)
    files = {file: file.read_bytes() for file in project.root.glob("data/*")}
    files |= {file: file.read_bytes() for file in project.root.glob("runs/*/labels/*/*")}
    code, _, err = run_opsef(monkeypatch, capfd, *words)
    assert code == 2 and "Name another folder" in err
    assert {file: file.read_bytes() for file in files} == files
    assert len(list(project.root.glob("data/*"))) == 1
