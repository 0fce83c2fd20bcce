"""Jobs in processes of their own, which may be cancelled, killed and orphaned at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile

from opsef_bridge.errors import NotFoundError
from opsef_bridge.files import lock, read_json, write_json
from opsef_bridge.project import read_csv
from opsef_bridge.service import jobs as module
from opsef_bridge.service import scratch as scratch_module
from opsef_bridge.service.jobs import command_of
from opsef_bridge.service.requests import job_of, perform, write_request
from opsef_bridge.service.scratch import SCRATCH
from opsef_bridge.service.states import lock_of, process_start, read_state
from opsef_bridge.sweep import plan_sweep, run_plan, status

SWEEP = {"workers": 1}


def ask(project, kind="sweep", parameters=None, **more):
    parameters = SWEEP if parameters is None else parameters
    return write_request(project, kind, parameters, author="ada", **more)


@pytest.fixture
def drive(until):
    """Return ``drive(jobs, condition)``: pump until it is true."""

    def wait(jobs, condition, timeout=60):
        return until(lambda: (jobs.pump(), condition())[1], timeout)

    return wait


@pytest.fixture
def ended(drive):
    """Return ``ended(jobs, project, id)``: pump until the job is over, and return it."""

    def wait(jobs, project, id, timeout=60):
        drive(jobs, lambda: job_of(project, id).ended_for_good, timeout)
        drive(jobs, lambda: not jobs._mine or (project.root.name, id) not in jobs._mine, timeout)
        return job_of(project, id)

    return wait


def begun(project):
    """Whether a sweep has made its first labels and is not through."""
    return project.runs() and project.run().outcomes()


def result_of(project):
    """What a sweep found, without what takes time."""
    run = project.run()
    return {
        "variants": [row | {"seconds": ""} for row in read_csv(run.variants_file)],
        "outcomes": sorted(
            (row["image"], row["variant"], row["status"], row["objects"])
            for row in read_csv(run.outcomes_file)
        ),
        "labels": {
            file.relative_to(run.root).as_posix(): tifffile.imread(file).tolist()
            for file in sorted(run.root.glob("labels/*/*.tif"))
        },
    }


def test_a_job_is_a_process_whose_progress_can_be_read(service, probe, root, drive, ended):
    project = probe(root / "slow")
    probe.hold(1)
    jobs = service(command=command_of)
    id = ask(project)
    assert jobs.get("slow", id).state == "waiting"
    assert jobs.start("slow", id).state in ("waiting", "running")
    drive(jobs, lambda: jobs.get("slow", id).current > 0)
    job = jobs.get("slow", id)
    assert job.state == "running" and 0 < job.current <= job.maximum and job.message
    assert job.pid not in (None, os.getpid()) and os.getpgid(job.pid) == job.pid
    assert job.pid_started == process_start(job.pid)
    probe.release()
    job = ended(jobs, project, id)
    assert (job.state, job.tries) == ("done", 1) and job.result["ok"] == 8
    assert job.message.startswith("run-0001: 8 ok") and job.current == job.maximum
    assert not project.request_file(id).exists()
    assert [one.id for one in jobs.list("slow")] == [one.id for one in jobs.list()] == [id]
    assert {p.name for p in (project.inbox_folder / "jobs").iterdir()} == {
        f"{id}.json",
        f"{id}.log",
    }


def test_a_cancelled_sweep_stops_and_its_work_is_not_lost(service, probe, root, drive, ended):
    project = probe(root / "slow")
    probe.hold(1)
    jobs = service()
    id = ask(project)
    jobs.start("slow", id)
    drive(jobs, lambda: begun(project) and probe.passes() == 2)
    jobs.cancel("slow", id)
    job = ended(jobs, project, id)
    assert job.state == "cancelled"
    assert process_start(job.pid) != job.pid_started
    made = status(project.run())
    assert (made.ok, made.failed, probe.passes()) == (2, 0, 2)
    assert jobs.cancel("slow", id) == job  # it is over
    with pytest.raises(Exception, match="was cancelled"):
        perform(project, id)
    probe.release()
    again = ask(project, parameters=SWEEP | {"resume": True})
    jobs.start("slow", again)
    job = ended(jobs, project, again)
    assert (job.state, job.result["ok"], job.result["run"]) == ("done", 8, "run-0001")
    assert probe.passes() == 4 + 1  # the one that was in work twice


def test_what_waits_is_cancelled_at_once(service, project):
    jobs = service()
    id = ask(project)
    assert jobs.cancel("cells", id).state == "cancelled"
    jobs.pump()
    assert not jobs._mine and not project.request_file(id).exists()
    assert not list(project.inbox_folder.rglob("*.cancel"))
    with pytest.raises(NotFoundError):
        jobs.cancel("cells", "q-other")


STUBBORN = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
from opsef_bridge.project import Project
from opsef_bridge.service import kinds, requests
sweep = requests.KINDS["sweep"]
object.__setattr__(sweep, "perform", lambda *a: time.sleep(120))
requests.perform(Project(sys.argv[1]), sys.argv[2])
"""


def test_a_process_that_does_not_stop_is_made_to(service, project, drive, ended, monkeypatch):
    monkeypatch.setattr(module, "FIRM", 0.2)
    monkeypatch.setattr(module, "FINAL", 0.4)
    jobs = service(command=lambda folder, id: [sys.executable, "-c", STUBBORN, str(folder), id])
    id = ask(project)
    jobs.start("cells", id)
    drive(jobs, lambda: job_of(project, id).state == "running")
    jobs.cancel("cells", id)
    job = ended(jobs, project, id)
    assert job.state == "cancelled" and process_start(job.pid) is None


def test_a_killed_job_is_tried_again_and_nothing_is_done_twice(service, probe, root, drive, ended):
    calm = probe(root / "calm")
    run_plan(calm, plan_sweep(calm), probe.here)
    before = probe.passes()
    project = probe(root / "slow")
    probe.hold(before + 1)
    jobs = service()
    id = ask(project)
    jobs.start("slow", id)
    drive(jobs, lambda: begun(project) and job_of(project, id).current)
    killed = job_of(project, id)
    os.killpg(killed.pid, signal.SIGKILL)
    probe.release()
    drive(jobs, lambda: job_of(project, id).tries == 2)
    job = ended(jobs, project, id)
    assert (job.state, job.tries, job.result["run"]) == ("done", 2, "run-0001")
    assert job.pid != killed.pid and project.runs() == ["run-0001"]
    assert result_of(project)["outcomes"] == result_of(calm)["outcomes"]
    assert result_of(project)["labels"] == result_of(calm)["labels"]
    assert probe.passes() - before <= 5 and status(project.run()).ok == 8


def test_a_job_that_always_dies_is_given_up(service, project, drive, ended):
    suicide = STUBBORN.replace("time.sleep(120)", "__import__('os').kill(0, 9)")
    jobs = service(command=lambda folder, id: [sys.executable, "-c", suicide, str(folder), id])
    id = ask(project)
    jobs.start("cells", id)
    job = ended(jobs, project, id)
    assert (job.state, job.tries) == ("interrupted", 2)
    assert "2 times" in job.error["message"] and job.error["hint"]
    for _ in range(3):
        jobs.pump()
    assert not jobs._mine and job_of(project, id) == job
    assert not project.request_file(id).exists()


def test_a_process_that_cannot_begin_fails_with_its_last_words(service, project, ended):
    command = [sys.executable, "-c", "raise SystemExit('no such module')"]
    jobs = service(command=lambda folder, id: command)
    id = ask(project)
    jobs.start("cells", id)
    job = ended(jobs, project, id)
    assert job.state == "failed" and "no such module" in job.error["message"]
    assert not jobs._mine


@pytest.mark.slow
def test_a_stopped_job_goes_on_however_often(service, probe, root, drive, ended):
    project = probe(root / "slow")
    probe.hold(0)
    id = ask(project)
    for tries in (1, 2):
        jobs = service()
        jobs.pump()
        drive(jobs, lambda tries=tries: job_of(project, id).tries == tries)
        drive(jobs, lambda: job_of(project, id).state == "running")
        jobs.stop()
        job = job_of(project, id)
        assert job.state == "interrupted" and not job.ended_for_good
    probe.release()
    jobs = service()
    assert ended(jobs, project, id).result["ok"] == 8


SERVICE = """
import sys, time
from pathlib import Path
from opsef_bridge.service.jobs import Jobs
root, code = sys.argv[1:]
jobs = Jobs(Path(root), command=lambda folder, id: [sys.executable, "-c", code, str(folder), id])
jobs.pump()
while True:
    jobs.pump()
    time.sleep(0.1)
"""


@pytest.fixture
def killed_service(root, until, perform_code):
    """Return ``killed_service(project, id)``: a service begins the job, and is killed then."""

    def run(project, id):
        command = [sys.executable, "-c", SERVICE, str(root), perform_code]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            until(lambda: begun(project) and job_of(project, id).current)
        finally:
            process.kill()
            process.wait(10)
        return job_of(project, id)

    return run


def test_the_next_service_follows_what_still_runs(
    service, probe, root, drive, ended, killed_service
):
    project = probe(root / "slow", images=6)
    probe.hold(1)
    id = ask(project)
    orphan = killed_service(project, id)
    assert process_start(orphan.pid) == orphan.pid_started
    jobs = service()
    jobs.pump()
    assert not jobs._mine and job_of(project, id).state == "running"
    probe.release()
    job = ended(jobs, project, id)
    assert (job.state, job.tries, job.pid) == ("done", 1, orphan.pid)
    assert job.result["ok"] == 12 and probe.passes() == 6


def test_the_next_service_can_cancel_what_still_runs(
    service, probe, root, ended, killed_service, until
):
    project = probe(root / "slow", images=6)
    probe.hold(1)
    id = ask(project)
    orphan = killed_service(project, id)
    jobs = service()
    jobs.pump()
    jobs.cancel("slow", id)
    assert ended(jobs, project, id).state == "cancelled"
    until(lambda: process_start(orphan.pid) != orphan.pid_started, timeout=10)


@pytest.mark.slow
def test_the_next_service_begins_again_what_died(
    service, probe, root, drive, ended, killed_service
):
    project = probe(root / "slow", images=6)
    probe.hold(1)
    id = ask(project)
    orphan = killed_service(project, id)
    os.killpg(orphan.pid, signal.SIGKILL)
    probe.release()
    jobs = service()
    drive(jobs, lambda: process_start(orphan.pid) is None)
    jobs.pump()
    job = ended(jobs, project, id)
    assert (job.state, job.tries, job.result["ok"]) == ("done", 2, 12)
    assert project.runs() == ["run-0001"] and probe.passes() <= 7


def test_another_process_with_the_number_of_a_dead_one_is_not_it(service, project, ended):
    """Numbers of processes come round again."""
    id = ask(project, "verdict", {"image": "i00001-0", "variant": "v0001", "verdict": "good"})
    os.utime(project.request_file(id), (1e9, 1e9))
    perform_state = {
        "id": id, "kind": "verdict", "state": "running", "pid": os.getppid(), "tries": 1,
        "pid_started": 1, "host": os.uname().nodename, "at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    write_json(project.job_file(id), perform_state)
    jobs = service()
    jobs.pump()
    assert ended(jobs, project, id).state == "done"
    os.kill(os.getppid(), 0)  # it was left alone


def test_projects_take_turns(service, probe, root, drive):
    first, second = (probe(root / name, images=1) for name in ("one", "two"))
    jobs = service(at_most=1)
    ids = [ask(one, "import", {}) for one in (first, first, second)]
    most = []

    def count():
        most.append(sum(job.state == "running" for job in jobs.list()))
        return all(job.ended_for_good for job in jobs.list())

    drive(jobs, count)
    assert max(most) == 1
    assert {job.state for job in jobs.list()} == {"done"} and len(jobs.list()) == 3
    started = {job.id: job.started for job in jobs.list()}
    assert started[ids[0]] < started[ids[1]] < started[ids[2]]


def test_two_projects_at_a_time_but_one_job_of_each(service, probe, root, drive):
    projects = [probe(root / name, images=1) for name in ("one", "two", "three")]
    jobs = service(at_most=2)
    for project in (*projects, projects[0]):
        ask(project, "import", {})
    seen = set()

    def count():
        names = [name for name, _ in jobs._mine]
        assert len(names) == len(set(names)) <= 2
        seen.add(len(names))
        return all(job.ended_for_good for job in jobs.list())

    drive(jobs, count)
    assert 2 in seen and [job.state for job in jobs.list()] == ["done"] * 4


def test_a_job_waits_for_a_command_that_somebody_runs(service, project, drive, ended, monkeypatch):
    monkeypatch.setattr(module, "LATER", 0.1)
    jobs = service()
    id = ask(project)
    with lock(project.lock_file):
        jobs.start("cells", id)
        drive(jobs, lambda: read_state(project, id) and "held by" in job_of(project, id).message)
        drive(jobs, lambda: not jobs._mine)
        assert job_of(project, id).state == "waiting"
    assert ended(jobs, project, id).state == "done"


def test_a_fast_request_is_left_to_who_wrote_it(service, project, ended):
    jobs = service()
    id = ask(project, "verdict", {"image": "i00001-0", "variant": "v0001", "verdict": "good"})
    jobs.pump()
    assert not jobs._mine
    old = time.time() - 60
    os.utime(project.request_file(id), (old, old))
    assert ended(jobs, project, id).state == "done"  # who wrote it is gone


def test_two_services_do_a_request_once(service, project, drive):
    first, second = service(), service()
    id = ask(project, "import", {})
    for jobs in (first, second):
        jobs.pump()
    drive(first, lambda: (second.pump(), not first._mine and not second._mine)[1])
    job = job_of(project, id)
    assert (job.state, job.tries) == ("done", 1)


def test_a_cut_off_request_is_put_away(service, project):
    id = ask(project, "import", {})
    perform(project, id)
    done = project.inbox_folder / "done" / f"{id}.json"
    done.rename(project.request_file(id))
    service().pump()
    assert done.is_file() and not project.request_file(id).exists()
    assert not lock_of(project, id).exists() and job_of(project, id).state == "done"


def test_only_projects_in_the_folder_are_found(service, project, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "opsef.yaml").write_text("opsef: 1\n")
    (root / "link").symlink_to(outside)
    (root / "no project").mkdir()
    (root / "a b").mkdir()
    (root / "a b" / "opsef.yaml").write_text("opsef: 1\n")
    (root / "_hidden").mkdir()
    (root / "_hidden" / "opsef.yaml").write_text("opsef: 1\n")
    jobs = service()
    assert jobs.projects() == ["cells"]
    for name in ("link", "..", ".", "", "a b", "cells/..", "cells\0", "_hidden", "x" * 300, "/"):
        with pytest.raises(NotFoundError):
            jobs.project(name)
    for id in ("../x", "", "a.b", "q-unknown"):
        with pytest.raises(NotFoundError):
            jobs.get("cells", id)


def test_a_broken_project_does_not_stop_the_others(service, project, root, ended):
    broken = root / "broken"
    broken.mkdir()
    (broken / "opsef.yaml").write_text("opsef: [")
    (broken / "engines.json").write_text("{")
    jobs = service()
    id = ask(project, "import", {})
    assert ended(jobs, project, id).state == "done"


def test_an_image_that_belongs_to_no_project(service, project, drive, monkeypatch):
    jobs = service()
    scratch = jobs.project(SCRATCH)
    image = (project.root / "data" / "0.tif").read_bytes()
    id = ask(scratch, "segment", {"engine": "watershed"}, attachment=image, suffix=".tif")
    jobs.start(SCRATCH, id)
    drive(jobs, lambda: jobs.get(SCRATCH, id).ended_for_good)
    job = jobs.get(SCRATCH, id)
    assert job.state == "done" and (scratch.root / job.result["rois"]).is_file()
    assert jobs.projects() == ["cells"] and jobs.list() == []
    drive(jobs, lambda: not jobs._mine)
    jobs._tidied = 0.0
    jobs.pump()
    assert jobs.get(SCRATCH, id) == job  # it is kept for a day
    old = time.time() - 2 * scratch_module.SECONDS
    os.utime(scratch.job_file(id), (old, old))
    jobs._tidied = 0.0
    jobs.pump()
    assert not [path for path in scratch.root.rglob("*") if path.is_file()]


def test_a_job_is_found_among_many_without_reading_the_others(service, project):
    """Polling must not become slow because a project is old."""
    for number in range(300):
        state = {"id": f"q-{number}", "state": "done", "at": "2026-01-01T00:00:00+00:00"}
        write_json(project.job_file(f"q-{number}"), state)
    jobs = service()
    assert len(jobs.list("cells")) == 300 and len(jobs.list("cells", newest=20)) == 20
    opened: set[str] = set()
    watching = True

    def note(event: str, arguments: tuple) -> None:
        if watching and event == "open" and str(arguments[0]).endswith(".json"):
            opened.add(Path(str(arguments[0])).name)

    sys.addaudithook(note)  # for good: there is no taking it back, hence the flag
    try:
        service().get("cells", "q-7")  # another one, that has seen nothing yet
    finally:
        watching = False
    assert {name for name in opened if name.startswith("q-")} == {"q-7.json"}


def test_a_list_sees_what_changed(service, project):
    jobs = service()
    id = ask(project, "import", {})
    assert jobs.get("cells", id).state == "waiting"
    perform(project, id)
    assert jobs.get("cells", id).state == "done"
    write_json(project.job_file(id), read_json(project.job_file(id)) | {"message": "changed"})
    assert jobs.get("cells", id).message == "changed"


def test_an_inbox_that_cannot_be_read_stops_nobody_else(service, project, root, ended, caplog):
    broken = root / "broken"
    broken.mkdir()
    (broken / "opsef.yaml").write_text((project.root / "opsef.yaml").read_text())
    (broken / "inbox").write_text("no folder")
    id = ask(project, "adopt", {"variant": "v0001"})
    os.utime(project.request_file(id), (1, 1))
    jobs = service()
    assert ended(jobs, project, id).state == "done"
    jobs.pump()
    assert sum("inbox of broken" in line for line in caplog.messages) <= 1


def test_a_clock_that_was_ahead_keeps_nobody_waiting(service, project, ended):
    id = ask(project, "adopt", {"variant": "v0001"})
    later = time.time() + 3600
    os.utime(project.request_file(id), (later, later))
    assert ended(service(), project, id).state == "done"


def test_edits_that_were_left_are_saved_before_new_ones(service, project):
    left = ask(project, "adopt", {"variant": "v0002"})
    sweep = ask(project)
    broken = ask(project, "adopt", {"variant": "v0099"})
    service().catch_up()
    assert job_of(project, left).state == "done"
    assert project.adopted()["default"]["id"] == "v0002"
    assert job_of(project, broken).state == "failed"
    assert job_of(project, sweep).state == "waiting", "what is long has its own process"
