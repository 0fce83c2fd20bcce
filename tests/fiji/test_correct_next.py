"""Correct Next: in Jython, and in a real ImageJ window on a real sweep."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from opsef_bridge.project import Project, read_csv
from opsef_bridge.rois.truth import read_truth
from opsef_bridge.service.forms import checked, read_request
from opsef_bridge.sweep import adopt
from opsef_bridge.train.next_up import next_up

from .test_choosing import disputed
from .test_imagej import LIMIT, Service, app, service, talk
from .test_library import names_of, passed

__all__ = ["app", "service"]  # fixtures

HERE = Path(__file__).parent
CHECKS = "next_checks.jy"
TILE = 128
"""Pixels: the images are of 216 x 240."""


@pytest.fixture(scope="module")
def next_checks(checks: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    folder = tmp_path_factory.mktemp("next") / "demo"
    folder.mkdir()
    (folder / "opsef.yaml").write_text("opsef: 1\n")
    done = checks(CHECKS, OPSEF_PROJECT=str(folder))
    # What was written into the inbox is what the service understands.
    project = Project(folder)
    [found] = [read_request(project, file.stem)[0] for file in folder.glob("inbox/*.json")]
    assert found.kind == "next" and checked(found).tile == 256
    return done


@pytest.mark.parametrize("name", names_of(CHECKS))
def test_correct_next(next_checks: dict[str, str | None], name: str) -> None:
    passed(next_checks, name)


def test_correct_next_in_the_window(
    display: str, app: Path, classes: Path, service: Service, tmp_path: Path
) -> None:
    project = disputed(service.root)
    rows = read_csv(project.run("run-0001").variants_file)
    adopt(project, next(row["id"] for row in rows if row["slug"].endswith("1.4")))
    before = next_up(project, tile=TILE)
    pictures = Path(os.environ.get("OPSEF_SCREENSHOTS") or tmp_path / "pictures")
    file, _ = service.invite("Ada", tmp_path)
    told = {"app": str(app), "classes": str(classes), "pictures": str(pictures),
            "invitation": str(file), "tile": TILE, "folder": str(project.root)}  # fmt: skip
    command = [sys.executable, str(HERE / "loop_next.py"), json.dumps(told)]
    code, said, output = talk(command, {}, LIMIT)
    assert code == 0 and "PASSED" in said, output[-6000:]
    first = before[0]
    assert said["LISTED"] == [[one.image, one.scope] for one in before]
    [claim] = read_truth(project, first.image).record["claims"]
    assert claim["box"] == list(first.box) and claim["author"] == "Ada"
    assert [(one.image, one.scope) for one in next_up(project, tile=TILE)] == [
        tuple(one) for one in said["LEFT"]
    ]
    assert [first.image, first.scope] not in said["LEFT"]
