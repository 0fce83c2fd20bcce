"""The inbox of a project, without a service: what comes by a shared or copied folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from opsef_bridge.files import lock, write_json
from opsef_bridge.project import Project, read_csv
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.sets import write_roi_set
from opsef_bridge.service import inbox
from opsef_bridge.service.requests import job_of, jobs_of, open_jobs, perform, write_request
from opsef_bridge.service.states import cancel_mark, process_start
from opsef_bridge.sweep import status

IMAGE = "i00001-0"
VERDICT = {"image": IMAGE, "variant": "v0001", "verdict": "good"}


def put(project, name, at="2026-05-01T10:00:00+00:00", **more):
    """Write a request as the scripts in ImageJ do, without this package."""
    request = {
        "opsef": 1, "id": name, "kind": "verdict", "author": "bo", "at": at,
        "parameters": VERDICT, "attachment": None,
    } | more  # fmt: skip
    folder = project.root / "inbox"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json.tmp").write_text(json.dumps(request), "ascii")
    (folder / f"{name}.json.tmp").rename(folder / f"{name}.json")
    return name


def verdicts(project):
    file = project.annotations_folder / "verdicts.csv"
    return [row["request"] for row in read_csv(file)] if file.is_file() else []


def test_requests_are_done_in_the_order_they_were_made(project):
    put(project, "q-b", at="2026-05-01T10:00:02+00:00")
    put(project, "q-c", at="2026-05-01T12:00:01+02:00")  # the first of all
    put(project, "q-a", at="2026-05-01T10:00:03Z")
    told = []
    jobs = inbox.run(project, told.append)
    assert [job.id for job in jobs] == ["q-c", "q-b", "q-a"] == verdicts(project)
    assert {job.state for job in jobs} == {"done"}
    assert [(job.id, job.state) for job in told][:2] == [("q-c", "running"), ("q-c", "done")]
    assert inbox.run(project) == [] and len(verdicts(project)) == 3
    assert sorted(p.name for p in project.inbox_folder.iterdir()) == ["done", "jobs"]


BROKEN = {
    "half": '{"opsef": 1, "id": "q-x", "ki',
    "empty": "",
    "list": "[1]",
    "number": "7",
    "deep": "[" * 100_000,
    "nul": "\0\0\0",
    "later": {"opsef": 2},
    "no-kind": {"kind": "shell"},
    "kind-list": {"kind": ["sweep"]},
    "other-id": {"id": "q-other"},
    "path-id": {"id": "../../x"},
    "path": {"parameters": VERDICT | {"image": "../../etc/passwd"}},
    "null": {"parameters": None},
    "no-author": {"author": ""},
    "author-list": {"author": ["a"]},
    "surrogate": {"author": "\ud800"},
    "wrong-word": {"attachement": "q.zip"},
    "more-words": {"parameters": VERDICT | {"\ud800": 1}},
    "attached": {"attachment": "../../opsef.yaml"},
    "attached-other": {"kind": "rois", "parameters": {"image": IMAGE}, "attachment": "q-9.zip"},
    "attached-list": {"attachment": ["a.zip"]},
}


def test_a_request_that_cannot_be_understood_fails_alone(project):
    before = project.config_file.read_bytes()
    for name, content in BROKEN.items():
        if isinstance(content, str):
            put(project, name)
            (project.inbox_folder / f"{name}.json").write_text(content)
        else:
            put(project, name, **content)
    put(project, "q-fine")
    jobs = {job.id: job for job in inbox.run(project)}
    assert verdicts(project) == ["q-fine"] and jobs["q-fine"].state == "done"
    for name in BROKEN:
        assert jobs[name].state == "failed", name
        assert jobs[name].error["hint"] and "internal" not in jobs[name].error["code"], name
        assert job_of(project, name).to_json() == jobs[name].to_json()
    assert len(jobs) == len(BROKEN) + 1
    assert inbox.run(project) == []  # they are not tried again
    assert project.config_file.read_bytes() == before
    assert len(jobs_of(project)) == len(jobs)


def test_a_file_that_came_in_half_is_done_when_it_is_whole(project):
    put(project, "q-1")
    file = project.inbox_folder / "q-1.json"
    whole = file.read_text()
    file.write_text(whole[:40])
    [job] = inbox.run(project)
    assert job.state == "failed" and "q-1.json" in job.error["message"]
    assert inbox.run(project) == []
    file.write_text(whole)
    assert job_of(project, "q-1").state == "waiting"
    [job] = inbox.run(project)
    assert job.state == "done" and verdicts(project) == ["q-1"]


def test_a_zip_that_comes_later_than_its_request(project, tmp_path):
    write_roi_set(tmp_path / "a.zip", Objects(project.labels(None, "v0001", IMAGE)))
    put(
        project, "q-1", kind="rois", attachment="q-1.zip",
        parameters={"image": IMAGE, "base": "run-0001/v0001", "truth": None, "resolve": None},
    )  # fmt: skip
    put(project, "q-2", at="2026-05-01T10:00:01+00:00")
    first, second = inbox.run(project)
    assert first.state == "failed" and "q-1.zip" in first.error["message"]
    assert second.state == "done" and inbox.run(project) == []
    shutil.copy(tmp_path / "a.zip", project.inbox_folder / "q-1.zip")
    [job] = inbox.run(project)
    assert (job.state, job.result["revision"], job.author) == ("done", "r0001", "bo")
    left = sorted(p.name for p in project.inbox_folder.rglob("q-1*") if p.parent.name != "jobs")
    assert left == ["q-1.json"]  # the revision has the zip
    kept = History(project, IMAGE).folder / "r0001-received.zip"
    assert kept.read_bytes() == (tmp_path / "a.zip").read_bytes()


def test_a_link_is_no_attachment_and_no_request(project, tmp_path):
    (tmp_path / "secret.zip").write_bytes(b"x")
    put(project, "q-1", kind="rois", attachment="q-1.zip", parameters={"image": IMAGE})
    (project.inbox_folder / "q-1.zip").symlink_to(tmp_path / "secret.zip")
    put(project, "q-2")
    shutil.move(project.inbox_folder / "q-2.json", tmp_path / "q-2.json")
    (project.inbox_folder / "q-2.json").symlink_to(tmp_path / "q-2.json")
    assert {job.state for job in inbox.run(project)} == {"failed"}
    assert History(project, IMAGE).head() is None and verdicts(project) == []


def test_a_file_whose_name_is_no_id_is_told_of(project):
    project.inbox_folder.mkdir()
    for name in ("a b.json", "ä.json", "a.b.json", "x" * 70 + ".json"):
        (project.inbox_folder / name).write_text("{}")
    (project.inbox_folder / ".half.json").write_text("{}")
    (project.inbox_folder / "readme.txt").write_text("x")
    assert inbox.run(project) == []
    jobs = jobs_of(project)
    assert len(jobs) == 4 and {job.state for job in jobs} == {"failed"}
    assert any("a b.json" in job.error["message"] for job in jobs)
    inbox.run(project)
    assert jobs_of(project) == jobs


def test_a_request_that_lies_there_again_is_not_done_again(project):
    """A folder that is synchronised brings back what was moved away."""
    put(project, "q-1")
    inbox.run(project)
    put(project, "q-1")
    inbox.run(project)
    assert verdicts(project) == ["q-1"] and job_of(project, "q-1").tries == 1
    assert not project.request_file("q-1").exists()


def test_what_is_cancelled_before_it_begins(project):
    put(project, "q-1")
    cancel_mark(project, "q-1").parent.mkdir()
    cancel_mark(project, "q-1").touch()
    [job] = inbox.run(project)
    assert job.state == "cancelled" and verdicts(project) == []
    assert not cancel_mark(project, "q-1").exists()


def test_what_is_held_up_waits_and_the_others_go_on(project):
    put(project, "q-1", kind="sweep", parameters={})
    put(project, "q-2", at="2026-05-01T10:00:01+00:00")
    with lock(project.lock_file):
        first, second = inbox.run(project)
    assert (first.state, second.state) == ("waiting", "done")
    [job] = inbox.run(project)
    assert (job.id, job.state, job.tries) == ("q-1", "done", 1)


def test_watch_takes_what_comes_until_it_is_stopped(project, until):
    stop = threading.Event()
    told = []
    thread = threading.Thread(
        target=inbox.watch, args=(project, stop, 0.05, told.append), daemon=True
    )
    thread.start()
    try:
        put(project, "q-1")
        until(lambda: verdicts(project) == ["q-1"], timeout=10)
        put(project, "q-2")
        until(lambda: verdicts(project) == ["q-1", "q-2"], timeout=10)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive() and "q-2" in {job.id for job in told}
    put(project, "q-3")
    assert [job.id for job in open_jobs(project)] == ["q-3"]


@pytest.fixture
def process(bytecode, until):
    """Return ``process(code, *words)``, which starts Python; it ends with the test."""
    started = []

    def start(code, *words, **more):
        environment = dict(os.environ, PYTHONPYCACHEPREFIX=str(bytecode))
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        one = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True,
            start_new_session=True, env=environment, **more,
        )  # fmt: skip
        started.append(one)
        return one

    yield start
    for one in started:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
        one.communicate(timeout=10)


def test_the_exit_code_tells_how_it_went(process, perform_code, project):
    put(project, "q-good")
    put(project, "q-bad", parameters=VERDICT | {"variant": "v0099"})
    put(project, "q-held", kind="sweep", parameters={})
    good, bad, unknown = (
        process(perform_code, project.root, id) for id in ("q-good", "q-bad", "q-unknown")
    )
    with lock(project.lock_file):
        held = process(perform_code, project.root, "q-held")
        out, _ = held.communicate(timeout=60)
    assert (held.returncode, job_of(project, "q-held").state) == (75, "waiting")
    assert "held by" in out
    assert [one.wait(60) for one in (good, bad, unknown)] == [0, 1, 1]
    assert "v0099" in bad.communicate()[0] and "q-unknown" in unknown.communicate()[0]
    again = process(perform_code, project.root, "q-good")
    assert again.wait(60) == 0 and verdicts(project) == ["q-good"]


RUN = """
import sys
from opsef_bridge.project import Project
from opsef_bridge.service.inbox import run
try:
    run(Project(sys.argv[1]))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_leaves_the_request_for_the_next_time(process, probe, root, until):
    project = probe(root / "slow")
    probe.hold(1)
    put(project, "q-1", kind="sweep", parameters={"workers": 1})
    put(project, "q-2", at="2026-05-01T10:00:01+00:00")
    first = process(RUN, project.root)
    until(lambda: project.runs() and project.run().outcomes())
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == 130
    job = job_of(project, "q-1")
    assert job.state == "interrupted" and job.error is None and not job.ended_for_good
    assert verdicts(project) == [] and status(project.run()).failed == 0
    probe.release()
    done = inbox.run(project)
    assert [(job.id, job.state) for job in done] == [("q-1", "done"), ("q-2", "done")]
    assert status(project.run()).ok == 8 and probe.passes() <= 5


def test_a_run_that_was_killed_is_gone_on_with(process, probe, root, until):
    project = probe(root / "slow", images=3)
    probe.hold(1)
    put(project, "q-1", kind="sweep", parameters={"workers": 1})
    first = process(RUN, project.root)
    until(lambda: project.runs() and project.run().outcomes())
    running = job_of(project, "q-1")
    assert running.state == "running" and process_start(first.pid) == running.pid_started
    assert inbox.run(project) == []  # somebody is at it
    first.kill()
    first.wait(10)
    probe.release()
    [job] = inbox.run(project)
    assert (job.state, job.tries, job.result["ok"]) == ("done", 2, 6)
    assert project.runs() == ["run-0001"] and probe.passes() <= 4


def test_a_process_in_the_background_of_a_shell_can_be_cancelled(process, probe, root, until):
    """Those ignore Ctrl-C, unless they say otherwise."""
    project = probe(root / "slow")
    probe.hold(1)
    id = write_request(project, "sweep", {"workers": 1}, author="ada")
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from opsef_bridge.service.inbox import perform_main
sys.exit(perform_main(*sys.argv[1:]))
"""
    one = process(code, project.root, id)
    until(lambda: project.runs() and project.run().outcomes())
    cancel_mark(project, id).touch()
    one.send_signal(signal.SIGINT)
    assert one.wait(30) == 130 and job_of(project, id).state == "cancelled"


def test_a_state_of_another_computer(project):
    """A shared folder: only the lock tells whether somebody there is still at it."""
    put(project, "q-1")
    state = {
        "id": "q-1", "kind": "verdict", "author": "bo", "state": "running", "tries": 1, "pid": 1,
        "pid_started": 1, "host": "another", "at": "2026-05-01T10:00:00+00:00",
    }  # fmt: skip
    write_json(project.job_file("q-1"), state)
    with lock(project.job_file("q-1").with_suffix(".lock")):
        assert inbox.run(project) == []
    [job] = inbox.run(project)
    assert (job.state, job.tries) == ("done", 2)


def test_an_empty_project_has_an_empty_inbox(tmp_path):
    project = Project(tmp_path)
    assert inbox.run(project) == [] == jobs_of(project) == open_jobs(project)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LookupError):
        perform(project, "q-1")
