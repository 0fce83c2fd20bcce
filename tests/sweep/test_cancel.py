"""A run is stopped from outside: its own process, and no other."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from opsef_bridge.files import lock
from opsef_bridge.project import Project
from opsef_bridge.sweep.cancel import cancel_run
from tests.small_projects import discs, swept

HOLDS = """
import sys, time
from opsef_bridge.files import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def project(tmp_path) -> Project:
    return swept(tmp_path / "project", {"a.tif": discs(0)})


def test_the_process_that_works_on_it_is_stopped(project):
    run = project.run()
    run.done_file(run.plan()["units"][-1]["id"]).unlink()
    words = [sys.executable, "-c", HOLDS, project.lock_file]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            assert cancel_run(project, run)[0]
            assert process.wait(60) == -signal.SIGINT
        finally:
            process.kill()
    assert cancel_run(project, run)[0] is False


def test_who_works_on_another_run_is_left_alone(project):
    """This process holds the lock: it would get the signal."""
    with lock(project.lock_file):
        assert cancel_run(project, project.run())[0] is False
