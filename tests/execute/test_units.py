"""Units: recorded step by step, done once, and run in turns by the local executor."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opsef_bridge.errors import NotFoundError, OpsefError, WorkerError
from opsef_bridge.execute import (
    Job,
    Outcome,
    Unit,
    fail_item,
    forget_failures,
    run_local,
    run_named,
    run_unit,
    unit_kind,
    unit_summary,
)
from opsef_bridge.execute import local as local_module
from opsef_bridge.execute import units as units_module
from opsef_bridge.files import read_json, write_json
from opsef_bridge.project import Project, Run
from opsef_bridge.workers import WorkerDied

IMAGES = ("i1", "i2", "i3")


@pytest.fixture
def made(tmp_path, monkeypatch) -> SimpleNamespace:
    """A run of one unit of a kind that fails on the images in ``broken``."""
    monkeypatch.setattr(units_module, "_KINDS", {})
    state = SimpleNamespace(broken=set(), steps=[], project=str(tmp_path))

    @unit_kind("trial")
    def trial(job: Job) -> Iterator[list[Outcome]]:
        for image, variant, key in job.open_makes():
            job.report(image)
            if image in state.broken:
                raise KeyError(image)
            state.steps.append(image)
            yield [Outcome(image, variant, key, "ok", objects=1)]

    unit = Unit("u0001", "trial", "trial", makes=tuple((i, "v1", f"k-{i}") for i in IMAGES))
    state.run = write_plan(tmp_path, [unit])
    return state


def write_plan(root: Path, units: list[Unit]) -> Run:
    run = Project(root).new_run()
    write_json(run.plan_file, {"units": [asdict(unit) for unit in units]})
    return run


def test_a_unit_is_done_once(made):
    assert run_unit(made.project, "run-0001", "u0001")["ok"] == 3
    assert run_unit(made.project, "run-0001", "u0001")["ok"] == 3
    assert made.steps == list(IMAGES)
    assert unit_summary(made.run, "u0001") == {"ok": 3, "empty": 0, "failed": 0, "passes": 0}
    assert made.run.done_file("u0001").is_file()


def test_a_unit_goes_on_where_it_broke(made):
    made.broken = {"i2"}
    with pytest.raises(KeyError):
        run_unit(made.project, "run-0001", "u0001")
    assert made.steps == ["i1"]
    assert not made.run.done_file("u0001").exists()
    assert len(made.run.outcomes()) == 1
    made.broken = set()
    run_unit(made.project, "run-0001", "u0001")
    assert made.steps == list(IMAGES)


def test_a_full_disk_is_told_with_what_is_free(made, monkeypatch):
    @unit_kind("trial")
    def trial(job: Job) -> Iterator[list[Outcome]]:
        raise OSError("65536 requested and 12864 written")
        yield []

    with pytest.raises(WorkerError, match=r"12864 written.* MB free.*resume"):
        run_unit(made.project, "run-0001", "u0001")


def test_progress_names_the_item_and_counts(made):
    told = []
    run_unit(made.project, "run-0001", "u0001", lambda *what: told.append(what))
    assert told == [("i1", 0, 3), ("i2", 1, 3), ("i3", 2, 3)]


def test_a_death_is_the_failure_of_its_item(made):
    death = WorkerDied("it is gone", hint="look")
    assert fail_item(made.project, "run-0001", "u0001", "i2", death) == 1
    assert fail_item(made.project, "run-0001", "u0001", "i2", death) == 0
    assert fail_item(made.project, "run-0001", "u0001", "", death) == 0
    assert run_unit(made.project, "run-0001", "u0001")["failed"] == 1
    assert made.steps == ["i1", "i3"]
    (failed,) = [o for o in made.run.outcomes() if o["status"] == "failed"]
    assert (failed["image"], failed["code"], failed["hint"]) == ("i2", "worker-died", "look")


def test_failures_are_forgotten_on_request(made):
    fail_item(made.project, "run-0001", "u0001", "i2", WorkerDied("gone"))
    run_unit(made.project, "run-0001", "u0001")
    assert forget_failures(made.run, "u0001") == 1
    assert forget_failures(made.run, "u0001") == 0
    assert not made.run.done_file("u0001").exists()
    assert run_unit(made.project, "run-0001", "u0001")["ok"] == 3
    assert made.steps == ["i1", "i3", "i2"]


def test_unknown_units_and_kinds(made):
    with pytest.raises(NotFoundError, match="u0009"):
        run_unit(made.project, "run-0001", "u0009")
    units_module._KINDS.clear()
    with pytest.raises(NotFoundError, match="trial"):
        run_unit(made.project, "run-0001", "u0001")


def test_a_plan_comes_back_as_it_was():
    unit = Unit("u0001", "k", "t", ("u0000",), {"model": "m"}, (("i", "v", "key"),))
    assert Unit.from_json(json.loads(json.dumps(asdict(unit)))) == unit


def test_resources_are_no_part_of_what_a_unit_is():
    unit = Unit("u0001", "k", "t", resources={"mem_mb": 500})
    assert unit.identity() == Unit("u0001", "k", "t").identity()
    older = {name: value for name, value in asdict(unit).items() if name != "resources"}
    assert Unit.from_json(older) == Unit("u0001", "k", "t")


# The rest runs in worker processes: they import this file's neighbour by its name.

WORK = """
import os, time
from pathlib import Path

def work(project, run, unit, progress):
    folder = Path(project) / "runs" / run / "units"
    folder.mkdir(exist_ok=True)
    if unit in os.environ.get("FAILING", "").split():
        raise ValueError(unit)
    with open(Path(project) / "log.txt", "a") as log:
        log.write(f"{unit} {os.getpid()}\\n")
    progress(unit, 0, 1)
    (folder / f"{unit}.done").write_text("done")
"""


@pytest.fixture
def target(tmp_path, monkeypatch) -> str:
    (tmp_path / "trial_work.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return "trial_work:work"


def chain() -> list[Unit]:
    """Two engines of one unit each, then two turns without an engine."""
    makes = (("i", "v", "k"),)
    return [
        Unit("u0001", "predict", "one", makes=makes),
        Unit("u0002", "predict", "two", makes=makes),
        Unit("u0003", "rank", "rank", needs=("u0001", "u0002")),
        Unit("u0004", "report", "report", needs=("u0003",)),
    ]


def test_turns_follow_each_other_and_engines_end_with_theirs(tmp_path, target):
    run = write_plan(tmp_path, chain())
    told = []
    failed = run_local(target, str(tmp_path), run, chain(), workers=2, report=told.append)
    assert failed == {}
    lines = (tmp_path / "log.txt").read_text().splitlines()
    units, processes = zip(*(line.split() for line in lines), strict=True)
    assert units == ("u0001", "u0002", "u0003", "u0004")
    assert processes[0] != processes[1] != processes[2] == processes[3]
    assert (told[-1].done, told[-1].total) == (4, 4)


def test_a_unit_that_failed_takes_those_along_that_need_it(tmp_path, target, monkeypatch):
    monkeypatch.setenv("FAILING", "u0001")
    run = write_plan(tmp_path, chain())
    failed = run_local(target, str(tmp_path), run, chain(), workers=1)
    assert set(failed) == {"u0001", "u0003", "u0004"}
    assert "ValueError: u0001" in str(failed["u0001"])
    assert "Traceback" in run.log_file("u0001").read_text()
    assert run.done_file("u0002").is_file()


DEADLY = """
import os, signal

def work(project, run, unit, progress):
    progress("i", 0, 1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_death_is_no_outcome_where_it_is_tried_again(tmp_path, target, monkeypatch):
    (tmp_path / "trial_work.py").write_text(DEADLY)
    run = write_plan(tmp_path, chain()[:1])
    with pytest.raises(WorkerDied):
        run_named(target, str(tmp_path), run, ["u0001"], tried_again=True)
    assert run.outcomes() == []
    with pytest.raises(WorkerDied):  # again, and on an item that has failed: it gives up
        run_named(target, str(tmp_path), run, ["u0001"])
    assert [outcome["status"] for outcome in run.outcomes()] == ["failed"]


def test_named_units_are_done_in_the_order_of_the_plan(tmp_path, target):
    run = write_plan(tmp_path, chain())
    run_named(target, str(tmp_path), run, ["u0003", "u0001", "u0002"])
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["u0001", "u0002", "u0003"]
    with pytest.raises(NotFoundError, match="u0009"):
        run_named(target, str(tmp_path), run, ["u0001", "u0009"])


def test_nothing_to_do_starts_no_process(tmp_path, monkeypatch):
    run = write_plan(tmp_path, chain())
    for unit in chain():
        run.done_file(unit.id).parent.mkdir(exist_ok=True)
        run.done_file(unit.id).write_text("done")

    def refuse(*_: Any) -> None:
        raise AssertionError("a worker was made")

    monkeypatch.setattr(local_module, "Worker", refuse)
    assert run_local("no:where", str(tmp_path), run, chain()) == {}


def test_an_error_keeps_its_words(made):
    outcome = Outcome.failed(OpsefError("what", hint="way out"), "i1", "v1", "k")
    assert (outcome.status, outcome.code, outcome.message, outcome.hint) == (
        "failed", "error", "what", "way out",
    )  # fmt: skip
    assert read_json(made.run.plan_file)["units"][0]["id"] == "u0001"
