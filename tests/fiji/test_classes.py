"""Classes by the service and tables of all images: in Jython, and in a real ImageJ window."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from opsef_bridge.project import Project
from opsef_bridge.rois.revisions import History
from opsef_bridge.service.forms import read_request
from opsef_bridge.sweep import adopt, plan_batch, run_plan
from tests.small_projects import Here, discs, swept

from .test_imagej import LIMIT, Service, app, service, talk
from .test_library import names_of, passed

__all__ = ["app", "service"]  # fixtures

HERE = Path(__file__).parent
CHECKS = "classes_checks.jy"


@pytest.fixture(scope="module")
def class_checks(checks: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    folder = tmp_path_factory.mktemp("classes") / "demo"
    folder.mkdir()
    (folder / "opsef.yaml").write_text("opsef: 1\n")
    done = checks(CHECKS, OPSEF_PROJECT=str(folder))
    # What was written into the inbox is what the service understands.
    project = Project(folder)
    found = [read_request(project, file.stem)[0] for file in folder.glob("inbox/*.json")]
    assert Counter(one.kind for one in found) == {"analyse": 2, "classify": 3}
    return done


@pytest.mark.parametrize("name", names_of(CHECKS))
def test_classes(class_checks: dict[str, str | None], name: str) -> None:
    passed(class_checks, name)


def test_classes_in_the_window(
    display: str, app: Path, classes: Path, service: Service, tmp_path: Path
) -> None:
    files = {f"{number}.tif": discs(number, (144, 160)) for number in range(2)}
    project = swept(service.root / "cells", files)
    adopt(project, "v0001")
    assert run_plan(project, plan_batch(project), Here()).failed == 0
    pictures = Path(os.environ.get("OPSEF_SCREENSHOTS") or tmp_path / "pictures")
    file, _ = service.invite("Ada", tmp_path)
    images = [entry.id for entry in project.images()]
    told = {"app": str(app), "classes": str(classes), "pictures": str(pictures),
            "invitation": str(file), "project": "cells", "images": images,
            "csv": str(tmp_path / "all.csv")}  # fmt: skip
    command = [sys.executable, str(HERE / "loop_classes.py"), json.dumps(told)]
    code, said, output = talk(command, {}, LIMIT)
    assert code == 0 and "PASSED" in said, output[-6000:]

    # Two gates, then what was given by keys: each a revision.
    history = History(project, images[0])
    whole = [history.objects(one.id).classes for one in history.revisions()]
    assert [set(one.values()) for one in whole] == [{2}, {1, 2}, {1, 2}]
    given = {label: group for label, group in whole[2].items() if whole[1].get(label) != group}
    assert given == {int(label): group for label, group in said["GIVEN"].items()}
    assert len(History(project, images[1]).revisions()) == 2
    assert {one.author for one in history.revisions()} == {"Ada"}
    with open(told["csv"], encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert {row["image"] for row in rows} == set(images) and [len(rows)] == said["ROWS"]
