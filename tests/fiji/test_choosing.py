"""Questions, support in colours and the work list in a real ImageJ window, on a real sweep."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from opsef_bridge.images import read_labels
from opsef_bridge.project import Project, read_csv
from opsef_bridge.rois.answers import read_answers
from opsef_bridge.rois.revisions import History
from opsef_bridge.service.people import invitation, invite, write_invitation
from opsef_bridge.sweep import plan_sweep, run_plan
from tests.small_projects import Here, discs

from .contract_server import Line
from .test_imagej import LIMIT, Service, app, service, talk

__all__ = ["app", "service"]  # fixtures

HERE = Path(__file__).parent
CONFIG = """\
opsef: 1
images: {source: [data/*]}
models: {classic: {engine: watershed, threshold: [0.05, 0.35, 0.4, 0.45, 0.5, 1.4]}}
sweep: {crop: none}
"""


def disputed(root: Path) -> Project:
    """Make a project in which the variants disagree: one sees neither dim discs nor a dim rim."""
    folder = root / "disputed"
    (folder / "data").mkdir(parents=True)
    rows, columns = np.indices((72, 80))
    away = np.hypot(rows - 12, columns - 40)
    for number in range(2):
        image = discs(number)
        image[away < 7] = 700
        image[away < 3.5] = 1700
        image[36:] = image[36:] // 4 + 150
        image = np.repeat(np.repeat(image, 3, 0), 3, 1)
        tifffile.imwrite(folder / "data" / f"{'ab'[number]}.tif", image, imagej=True)
    (folder / "opsef.yaml").write_text(CONFIG)
    project = Project(folder)
    assert run_plan(project, plan_sweep(project), Here()).failed == 0
    return project


@pytest.fixture
def loop(display: str, app: Path, classes: Path, service: Service, tmp_path: Path) -> Any:
    """Return ``run(*parts)``: the project after these parts of the loop, what it told, the line."""
    pictures = Path(os.environ.get("OPSEF_SCREENSHOTS") or tmp_path / "pictures")
    project = disputed(service.root)
    line = Line(service.port)
    (tmp_path / "hier").mkdir()
    _, token = invite(service.root, "Ada")
    file = write_invitation(tmp_path / "hier", invitation("Ada", token, port=line.port))

    def run(*parts: str, **more: Any) -> tuple[Project, dict[str, Any], Line]:
        told = {"app": str(app), "classes": str(classes), "pictures": str(pictures),
                "invitation": str(file), "project": "disputed", "parts": parts, **more}  # fmt: skip
        answers = {
            "DEAD": lambda _: setattr(line, "dead", True),
            "ALIVE": lambda _: setattr(line, "dead", False),
        }
        command = [sys.executable, str(HERE / "loop_choosing.py"), json.dumps(told)]
        code, said, output = talk(command, answers, LIMIT)
        assert code == 0 and "PASSED" in said, output[-6000:]
        return project, said, line

    try:
        yield run
    finally:
        line.close()


def test_questions_by_keys(loop: Any) -> None:
    project, said, line = loop("questions")
    kept = [one for entry in project.images() for one in read_answers(project, entry.id)[1]]
    kept = [one for one in kept if not one.replaced]
    assert sorted(one.answer for one in kept) == ["nothing", "nothing", "right"]
    assert {one.author for one in kept} == {"Ada"} and all(one.asked for one in kept)
    ranking = json.loads((project.run("run-0001").root / "ranking.json").read_text())
    assert [told["answers"] for told in ranking["groups"].values()] == [3]
    # What had no answer was sent again by one id, and noted down once.
    sent = [id for method, path, id in line.seen if method == "POST" and "/answers" in path]
    assert len(set(sent)) == 4 and len(sent) > 4, sent
    recorded = said["RECORDED"]
    for answer in ("right", "drawn", "nothing"):
        assert f'run("Answer Questions", "answer={answer} image=' in recorded, recorded
    assert "pixels=[" in recorded and 'run("Answer Questions", "run=' in recorded, recorded


def test_support_in_colours_and_the_work_list(loop: Any, service: Service) -> None:
    made = Project(service.root / "disputed")
    entry, run = made.images()[0], made.run("run-0001")
    rows = read_csv(run.variants_file)
    rim = next(row["id"] for row in rows if row["slug"].endswith("1.4"))
    project, said, _ = loop("comparison", "work", image=entry.id, base=f"run-0001/{rim}")
    judged = read_csv(project.annotations_folder / "verdicts.csv")
    assert [(row["variant"], row["verdict"]) for row in judged] == [(said["JUDGED"], "under")]
    assert said["WORKED"]["doubtful"] == 1
    # What was saved: the objects of the variant, but for one that another took the place of.
    before = read_labels(run.label_file(rim, entry.id))
    revision = History(project, entry.id).head()
    assert revision is not None and revision.base.variant == rim and not revision.classes
    assert len(revision.changes.added) == 2 and len(revision.changes.deleted) == 1
    after = History(project, entry.id).objects(revision.id).labels
    kept = np.setdiff1d(np.unique(before), [0, *revision.changes.deleted])
    for label in kept:
        np.testing.assert_array_equal(after == label, before == label)
    y, x, height, width = said["WORKED"]["box"]
    new = after[y : y + height, x : x + width]
    [label] = np.setdiff1d(np.unique(new), [0, *kept])
    lines = np.argwhere(after == label)
    assert lines.min(0).tolist() == [y, x] and (lines.max(0) + 1 - [y, x]).tolist() == [
        height, width,
    ]  # fmt: skip
