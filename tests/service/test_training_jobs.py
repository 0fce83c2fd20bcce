"""A training is a process that may be cancelled; the same request goes on from its checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from opsef_bridge.files import read_json
from opsef_bridge.project import Project
from opsef_bridge.service.requests import job_of, write_request
from tests.train.corrected_project import make_corrected

pytest.importorskip("torch", reason="the extra `train` is not installed")

WISH = {
    "engine": "unet", "start": "random", "steps": 1_000_000, "every": 5, "device": "cpu",
    "workers": 1, "settings": {"batch": 1, "crop": 64, "width": 8, "depth": 2}, "name": "mine",
}  # fmt: skip
"""A training without end: it is stopped in its middle however fast the machine is."""


def told_of(project: Project) -> int:
    """Return the last step that was told of, 0 before the first."""
    files = list(project.trainings_folder.rglob("progress.json"))
    return int(read_json(files[0])["step"]) if files else 0


def test_a_cancelled_training_goes_on_when_it_is_asked_for_again(service, root, until):
    project = make_corrected(root / "cells", 3, 3)
    jobs = service()

    def begin() -> str:
        id = write_request(project, "train", WISH, author="ada")
        jobs.start("cells", id)
        return id

    def stop(id: str) -> None:
        jobs.cancel("cells", id)
        until(lambda: (jobs.pump(), job_of(project, id).ended_for_good)[1])
        until(lambda: (jobs.pump(), not jobs._mine)[1])
        assert job_of(project, id).state == "cancelled"

    first = begin()
    until(lambda: (jobs.pump(), told_of(project) >= 40)[1], 300)
    assert "step" in jobs.get("cells", first).message
    stop(first)
    [progress] = project.trainings_folder.rglob("progress.json")
    reached = told_of(project)
    assert list(project.trainings_folder.rglob("checkpoint.pt"))
    progress.unlink()

    second = begin()
    assert second != first
    until(lambda: (jobs.pump(), told_of(project))[1], 300)
    # At most the steps since the last checkpoint are done again.
    assert told_of(project) > reached - WISH["every"]
    assert project.trainings() == ["train-0001"]
    stop(second)


def test_a_process_that_does_an_inbox_never_holds_torch(tmp_path):
    project = make_corrected(tmp_path / "cells", 4, 4)
    short = WISH | {"steps": 2, "every": 2, "name": "short"}
    write_request(project, "train", short, author="ada", id="good")
    write_request(project, "train", short | {"settings": {"warm_up": 0.5}}, author="ada", id="bad")
    code = (
        "import sys, json\n"
        "from opsef_bridge.project import Project\n"
        "from opsef_bridge.service import inbox\n"
        "seen = []\n"
        "jobs = inbox.run(Project(sys.argv[1]), lambda job: seen.append(job.message))\n"
        "heavy = sorted({'torch', 'tensorflow', 'onnx'} & set(sys.modules))\n"
        "print(json.dumps([[job.state for job in jobs], heavy, seen]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(project.root)], capture_output=True, text=True, check=True
    )
    states, heavy, seen = json.loads(done.stdout.splitlines()[-1])
    assert (states, heavy) == (["done", "failed"], [])
    assert any("step 2 of 2" in message for message in seen)
    good, bad = (job_of(project, name) for name in ("good", "bad"))
    assert good.result["candidate"] == "short" and good.result["parent"] == ""
    assert good.result["report"] == "trainings/train-0001/report.html"
    assert (project.root / good.result["report"]).is_file() and good.result["said"]
    # What was wrong is told as if it had happened here.
    assert bad.error["code"] == "bad-input" and bad.error["hint"]
