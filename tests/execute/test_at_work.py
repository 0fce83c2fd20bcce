"""Who works on a run is known, and is stopped from outside: that process, and no other."""

from __future__ import annotations

import fcntl
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from opsef_bridge.errors import LockedError
from opsef_bridge.execute import cancel_run, who_works, working_on
from opsef_bridge.execute.units import unit_lock
from opsef_bridge.files import lock
from opsef_bridge.project import Run
from tests.small_projects import discs, swept

HOLDS = """
import contextlib, sys, time
from opsef_bridge.files import lock
with contextlib.ExitStack() as held:
    for file in sys.argv[1:]:
        held.enter_context(lock(file))
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(*files, first: str = "") -> Iterator[subprocess.Popen]:
    """A process that holds locks until it is stopped."""
    words = [sys.executable, "-c", first + HOLDS, *files]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen) -> str:
    return f"process {process.pid} on {socket.gethostname()}"


@pytest.fixture
def run(tmp_path) -> Run:
    """A run of which the last unit is not done."""
    run = swept(tmp_path / "project", {"a.tif": discs(0)}).run()
    run.done_file(last_unit(run)).unlink()
    return run


def last_unit(run: Run) -> str:
    return run.plan()["units"][-1]["id"]


def test_the_process_that_works_on_it_is_told_and_stopped(run):
    assert who_works(run) is None
    with holder(run.lock_of_all, run.lock_file) as process:
        assert who_works(run) == told(process)
        assert cancel_run(run) == (True, 0)
        assert process.wait(60) == -signal.SIGINT
    assert who_works(run) is None
    assert cancel_run(run) == (False, 0)


def test_a_process_in_the_background_of_a_script_is_stopped_too(run):
    ignores = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    with holder(run.lock_of_all, run.lock_file, first=ignores) as process:
        assert cancel_run(run) == (True, 0)
        assert process.wait(60) == -signal.SIGTERM


def test_who_works_on_another_run_is_left_alone(run):
    other = Run(run.root.parent / "run-0002")
    with holder(run.lock_of_all, other.lock_file) as process:
        assert who_works(run) is None
        assert cancel_run(run) == (False, 0)
        assert process.poll() is None


def test_who_does_a_unit_that_is_not_done_is_told(run):
    with holder(unit_lock(run, last_unit(run))) as process:
        assert who_works(run) == told(process)
    run.done_file(last_unit(run)).touch()
    with holder(unit_lock(run, last_unit(run))):
        assert who_works(run) is None


@pytest.mark.parametrize("holds", ["process 1 on another-machine", ""])
def test_a_process_that_cannot_be_reached_is_named(run, holds):
    with lock(run.lock_file):
        run.lock_file.write_text(holds)
        with pytest.raises(LockedError, match=holds or "unknown process") as caught:
            cancel_run(run)
    assert caught.value.hint == "Cancel it on that machine"


def test_who_begins_while_somebody_looks_waits_a_little(run):
    """Looking shares the lock for a moment."""
    run.lock_file.touch()
    with open(run.lock_file) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        let_go: Callable = threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN))
        let_go.start()
        with working_on(run):
            assert who_works(run) is not None
        let_go.join()
