"""Runs that are killed, stopped or hampered: nothing is lost, nothing is made up."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

from opsef_bridge.errors import LockedError
from opsef_bridge.execute import run_unit
from opsef_bridge.files import lock, read_json
from opsef_bridge.project import read_csv
from opsef_bridge.sweep import Executor, plan_sweep, resume_run, run_plan, status

PROBE = {"probe": {"engine": "probe", "threshold": [0.3, 0.6]}}
SLOW = {"probe": {"engine": "probe", "pause": 0.15, "threshold": [0.3, 0.6]}}
BOTH = {**SLOW, "classic": {"engine": "watershed", "threshold": ["otsu", 0.8]}}


@pytest.fixture(scope="session")
def images(make_discs):
    return {f"{k}.tif": make_discs(k) for k in range(4)}


def kill(process) -> None:
    process.kill()  # the command alone: its workers have to notice by themselves
    process.communicate()


def run_for_a_while(bench, project, until, seconds: float) -> None:
    """Start a run and kill it some time after its first outcome."""
    process = bench.start(project, "sweep", "run", "--workers", "2")
    until(lambda: process.poll() is not None or (project.runs() and project.run().outcomes()))
    time.sleep(seconds)
    kill(process)


def slow(*values: int) -> list:
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("seed", [0, *slow(*range(1, 12))])
def test_a_killed_run_goes_on_as_if_nothing_had_been(bench, images, until, seed):
    recipes = {"raw": [], "smooth": ["median"]}
    calm = bench.project(images, name="calm", models=BOTH, preprocess=recipes)
    bench.sweep(calm)
    killed = bench.project(images, name="killed", models=BOTH, preprocess=recipes)
    draw = random.Random(seed)
    for _ in range(2):
        run_for_a_while(bench, killed, until, draw.uniform(0, 1.5))
    left = killed.root / "runs" / "run-0001" / "labels" / ".deadbeef.partial.tif"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half")
    code, _, err = bench.opsef(killed, "sweep", "run", "--workers", "2")
    assert code == 0, err
    assert bench.result(killed) == bench.result(calm)
    assert killed.runs() == ["run-0001"]
    assert bench.partials(killed) == []


def test_ctrl_c_stops_and_can_go_on(bench, images, until):
    project = bench.project(images, models=PROBE)
    bench.hold(1)
    process = bench.start(project, "sweep", "run", "--workers", "1")
    until(lambda: project.runs() and project.run().outcomes())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "sweep resume" in err and "Traceback" not in err
    stopped = status(project.run())
    assert (stopped.ok, stopped.failed) == (2, 0)
    bench.release()
    result = resume_run(project, project.run(), bench.here)
    assert (result.ok, result.passes, result.exit_code) == (8, 4, 0)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_a_signal_that_another_thread_took_stops_it_too(bench, images):
    project = bench.project(images, models=PROBE)
    bench.hold(1)

    def report(event):  # in a thread that waits for the worker
        if event.done == 2:
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_plan(project, plan_sweep(project), Executor(workers=1, report=report))
    assert status(project.run()).ok == 2


def test_a_worker_ends_with_its_killed_controller(bench, images, until):
    project = bench.project(images, models=SLOW)
    process = bench.start(project, "sweep", "run", "--workers", "1")
    until(lambda: bench.passes())
    worker = int(bench.log.read_text().split()[0])
    kill(process)
    until(lambda: not _alive(worker), timeout=10)
    assert status(project.run()).failed == 0


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_commands_on_one_project(bench, images, until):
    project = bench.project(images, models=PROBE)
    bench.hold(1)
    first = bench.start(project, "sweep", "run", "--workers", "1")
    until(lambda: project.runs() and project.run().outcomes())
    code, _, err = bench.opsef(project, "sweep", "run")
    assert code == LockedError.exit_code == 2
    assert f"process {first.pid}" in err
    bench.release()
    assert first.wait(60) == 0
    first.communicate()


def test_a_unit_is_done_by_one_process_at_a_time(bench, monkeypatch):
    from opsef_bridge.execute import units

    project = bench.project()
    bench.sweep(project)
    monkeypatch.setattr(units, "PATIENCE", 0.2)
    with lock(project.run().unit_file("u0001").with_suffix(".lock")), pytest.raises(LockedError):
        run_unit(str(project.root), "run-0001", "u0001")
    assert run_unit(str(project.root), "run-0001", "u0001")["ok"] == 4


def test_a_dead_worker_is_the_failure_of_one_image(bench, images):
    deadly = images["1.tif"].copy()
    deadly[0, 0] = 251
    project = bench.project({**images, "1.tif": deadly})
    bench.deadly.touch()
    code, out, _ = bench.opsef(project, "sweep", "run", "--workers", "1")
    assert code == 1
    assert "6 ok" in out and "2 failed" in out and "sweep resume" in out
    outcomes = bench.outcomes(project)
    for (image, _), outcome in outcomes.items():
        assert outcome["status"] == ("failed" if image == "i00002" else "ok")
    assert outcomes["i00002", "v0001"]["code"] == "worker-died"
    assert "signal 9" in outcomes["i00002", "v0001"]["message"]
    assert len(read_csv(project.run().variants_file)) == 2  # ranked by the rest
    assert {row["status"] for row in read_csv(project.run().variants_file)} == {"partly failed"}

    assert bench.sweep(project).failed == 2  # `run` does not try again, `resume` does
    bench.deadly.unlink()
    before = bench.passes()
    result = resume_run(project, project.run(), bench.here)
    assert (result.ok, result.failed, result.exit_code) == (8, 0, 0)
    assert bench.passes() == before + 1
    assert {row["status"] for row in read_csv(project.run().variants_file)} == {"ok"}


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("raises", "worker-failed", "RuntimeError: the probe was told to fail"),
        ("float", "bad-labels", "float64"),
        ("negative", "bad-labels", "values from -"),
        ("shape", "bad-labels", "(71, 96)"),
    ],
)
def test_an_engine_that_breaks_the_contract_fails(bench, fault, code, words):
    project = bench.project(models={"p": {"engine": "probe", "fault": ["none", fault]}})
    result = bench.sweep(project)
    assert (result.ok, result.failed, result.exit_code) == (2, 2, 1)
    outcome = bench.outcomes(project)["i00001", "v0002"]
    assert outcome["status"] == "failed" and outcome["code"] == code
    assert words in outcome["message"]
    assert not project.run().label_file("v0002", outcome["image"]).exists()


def test_gaps_in_the_ids_of_an_engine_are_closed(bench):
    project = bench.project(models={"p": {"engine": "probe", "fault": ["none", "gaps"]}})
    bench.sweep(project)
    plain, gaps = (project.labels(None, v, project.images()[0].id) for v in ("v0001", "v0002"))
    np.testing.assert_array_equal(plain, gaps)


def test_a_variant_that_fails_everywhere_leaves_the_others(bench):
    project = bench.project(models={"p": {"engine": "probe", "fault": ["none", "raises"]}})
    bench.sweep(project)
    rows = {row["id"]: row for row in read_csv(project.run().variants_file)}
    assert (rows["v0001"]["status"], rows["v0002"]["status"]) == ("ok", "failed")
    assert rows["v0002"]["rank"] == "2"
    assert "the probe was told to fail" in project.run().report_file.read_text()


def test_all_that_fails_is_told(bench):
    project = bench.project(models={"p": {"engine": "probe", "fault": "raises"}})
    result = bench.sweep(project)
    assert (result.ok, result.failed, result.problems, result.exit_code) == (0, 2, {}, 1)
    assert [row["status"] for row in read_csv(project.run().variants_file)] == ["failed"]


def test_a_failure_that_stays_keeps_the_record(bench):
    project = bench.project(models={"p": {"engine": "probe", "fault": ["none", "raises"]}})
    bench.sweep(project)
    assert resume_run(project, project.run(), bench.here).failed == 2
    assert read_json(project.run().record_file)["result"]["failed"] == 2


def test_a_run_that_was_cut_off_before_its_plan_leaves_no_gap(bench):
    project = bench.project()
    (project.runs_folder / "run-0001").mkdir(parents=True)
    (project.runs_folder / "run-0001" / ".12345678.partial.json").write_text("{")
    assert project.runs() == []
    assert bench.sweep(project).run == "run-0001"
    assert bench.partials(project) == []


def test_the_disk_is_full(bench, make_discs, monkeypatch):
    """Files above a size cannot be written: the stacks and labels, not the small records."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # Python would leave half a module
    noise = np.random.default_rng(0).integers(0, 255, (400, 400)).astype(np.uint8)
    models = {"p": {"engine": "probe", "threshold": 0.5}}
    project = bench.project({"a.tif": make_discs(1), "n.tif": noise}, models=models)
    command = "import resource, runpy, signal, sys\n" + (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "sys.argv[0] = 'opsef'\n"
        "runpy.run_module('opsef_bridge', run_name='__main__')\n"
    )
    limited = bench.run_python(command, "-p", str(project.root), "sweep", "run", "--workers", "1")
    assert limited.returncode == 1, limited.stderr
    assert "Traceback" not in limited.stderr
    outcomes = bench.outcomes(project)
    assert outcomes["i00001", "v0001"]["status"] == "ok"
    assert outcomes["i00002", "v0001"]["status"] == "failed"
    assert "File too large" in outcomes["i00002", "v0001"]["message"]
    assert bench.partials(project) == []
    result = resume_run(project, project.run(), bench.here)
    assert (result.ok, result.exit_code) == (2, 0)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 60 kB in ``project``; return a function that changes its size."""
    folder = tmp_path / "project"
    folder.mkdir()

    def mount(options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    if shutil.which("mount") is None or mount("size=60k") != 0:
        pytest.skip("this user may not mount a small disk")
    yield lambda size: mount(f"remount,size={size}")
    subprocess.run(["umount", str(folder)], check=True)


def test_the_disk_is_full_from_the_start(bench, small_disk):
    models = {"p": {"engine": "probe", "threshold": [0.3, 0.6]}}
    project = bench.project(models=models)
    code, _, err = bench.opsef(project, "sweep", "run", "--workers", "1")
    assert code == 2
    assert "No space left" in err and str(project.root) in err and "Free some space" in err
    assert "Traceback" not in err
    assert bench.partials(project) == []
    assert small_disk("20m") == 0
    assert bench.sweep(project).ok == 4
    assert bench.partials(project) == []


def test_a_folder_that_cannot_be_written_is_named(bench, small_disk):
    project = bench.project()
    assert small_disk("60k,ro") == 0  # rights would not stop root
    code, _, err = bench.opsef(project, "sweep", "run")
    assert small_disk("60k,rw") == 0
    assert code == 2
    assert str(project.root) in err and "Read-only file system" in err and "Traceback" not in err


def test_a_file_in_the_way_of_a_folder_is_named(bench):
    project = bench.project()
    (project.root / "runs").write_text("in the way")
    with pytest.raises(Exception, match="runs") as caught:
        run_plan(project, plan_sweep(project))
    assert getattr(caught.value, "exit_code", None) == 2
