"""Workers, with real processes: values, typed errors, deaths, cancelling, orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from opsef_bridge.errors import ImageError
from opsef_bridge.workers import Cancelled, Worker, WorkerDied, WorkerFailed
from tests.running import wait_until

CHILD = """
import os, signal, sys, time
from opsef_bridge.errors import ImageError

calls = 0

def echo(progress, value):
    return value

def count(progress):
    global calls
    calls += 1
    return [calls, os.getpid()]

def steps(progress, n):
    for i in range(n):
        progress(f"item {i}", i, n)
    return n

def bad_image(progress):
    raise ImageError("a.tif is broken", hint="Bring another")

def bug(progress):
    return {}["gone"]

def unspeakable(progress):
    return {1, 2}

def leave(progress):
    sys.exit(3)

def die(progress, how):
    print("last words", file=sys.stderr, flush=True)
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)

def die_later(progress):
    progress("one", 0, 2)
    progress("two", 1, 2)
    os.kill(os.getpid(), signal.SIGKILL)

def talk(progress, text):
    print(text, file=sys.stderr)

def chatter(progress):
    print("no line end", end="", flush=True)
    os.write(1, b'{"task": "from C"}')
    os.system("echo from a program")
    return 1

def work(progress, started=None):
    if started:
        with open(started, "w") as file:
            file.write(str(os.getpid()))
    while True:
        progress("working", 0, 1)
        time.sleep(0.01)

def threads(progress):
    return [os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MINE")]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("child")
    (folder / "opsef_child.py").write_text(CHILD)
    return folder


@pytest.fixture(scope="module")
def worker(folder):
    with Worker(environment={"PYTHONPATH": str(folder), "MINE": "x"}) as worker:
        yield worker


def ended(pid: int, seconds: float = 10, *, zombie: bool = False) -> bool:
    """True if the process is gone (or is a `zombie`) within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if zombie and state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("value", [None, 0, "µ\n", [1, 2.5], {"a": {"b": []}}, True])
def test_values_go_there_and_back(worker, value):
    assert worker.call("opsef_child:echo", {"value": value}) == value


def test_state_is_kept_between_calls(worker):
    first, second = worker.call("opsef_child:count", {}), worker.call("opsef_child:count", {})
    assert second == [first[0] + 1, first[1]]
    assert first[1] != os.getpid()


def test_progress_arrives_in_order(worker):
    seen = []
    result = worker.call("opsef_child:steps", {"n": 5}, on_progress=lambda *p: seen.append(p))
    assert (result, seen) == (5, [(f"item {i}", i, 5) for i in range(5)])


def test_errors_of_the_package_arrive_unchanged(worker):
    with pytest.raises(ImageError) as caught:
        worker.call("opsef_child:bad_image", {})
    assert (caught.value.message, caught.value.hint) == ("a.tif is broken", "Bring another")
    assert caught.value.code == "bad-image"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("opsef_child:bug", "KeyError: 'gone'"),
        ("opsef_child:gone", "AttributeError.*gone"),
        ("no_such_module:x", "ModuleNotFoundError.*no_such_module"),
        ("opsef_child:unspeakable", "TypeError.*set is not JSON"),
        ("opsef_child:leave", "SystemExit: 3"),
    ],
)
def test_other_errors_are_failures_and_the_worker_lives_on(worker, target, words):
    with pytest.raises(WorkerFailed, match=words):
        worker.call(target, {})
    assert worker.call("opsef_child:echo", {"value": 1}) == 1


def test_wrong_arguments_are_a_failure(worker):
    with pytest.raises(WorkerFailed, match=r"TypeError.*nonsense"):
        worker.call("opsef_child:echo", {"nonsense": 1})


def test_the_traceback_is_in_the_log_of_its_call(worker, tmp_path):
    for i in range(30):  # result and stderr come through two pipes: either may be first
        log = tmp_path / f"{i}" / "log.txt"
        with pytest.raises(WorkerFailed):
            worker.call("opsef_child:bug", {}, log=log)
        lines = log.read_text().splitlines()
        assert lines[0].startswith("Traceback") and lines[-1] == "KeyError: 'gone'"


def test_each_call_has_its_own_part_of_the_log(worker, tmp_path):
    log = tmp_path / "log.txt"
    worker.call("opsef_child:talk", {"text": "not kept"})
    for text in ("one", "two\n\nthree"):
        worker.call("opsef_child:talk", {"text": text}, log=log)
    worker.call("opsef_child:echo", {"value": 1}, log=tmp_path / "silent.txt")
    assert log.read_text() == "one\ntwo\n\nthree\n"
    assert not (tmp_path / "silent.txt").exists()


def test_what_a_library_prints_does_not_break_the_messages(worker, tmp_path):
    log = tmp_path / "log.txt"
    done = []

    def call():
        done.append(worker.call("opsef_child:chatter", {}, log=log))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert done == [1]
    assert log.read_text() == 'no line end{"task": "from C"}from a program\n'


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", r"exit code 7 \(last words\)\. The log"),
        ("SIGKILL", r"signal 9 \(last words\)\..*memory"),
        ("SIGSEGV", "signal 11"),
    ],
)
def test_a_death_is_a_death_and_the_next_call_gets_a_fresh_process(worker, tmp_path, how, words):
    log = tmp_path / "log.txt"
    before = worker.call("opsef_child:count", {})
    with pytest.raises(WorkerDied, match=words):
        worker.call("opsef_child:die", {"how": how}, log=log)
    assert log.read_text().splitlines()[0] == "last words"
    after = worker.call("opsef_child:count", {})
    assert after[0] == 1 and after[1] != before[1]


def test_the_item_that_a_process_died_on_is_told_before_its_death(worker):
    items = []

    def slow(message, done, of):
        items.append(message)
        time.sleep(0.3)

    with pytest.raises(WorkerDied):
        worker.call("opsef_child:die_later", {}, on_progress=slow)
    assert items == ["one", "two"]


def test_a_process_that_dies_between_calls_is_replaced(worker):
    _, pid = worker.call("opsef_child:count", {})
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert worker.call("opsef_child:count", {})[0] == 1


def test_an_interpreter_that_cannot_start_is_a_death(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    broken.chmod(0o755)
    with Worker(python=str(broken)) as worker, pytest.raises(WorkerDied, match="code 127"):
        worker.call("opsef_child:echo", {"value": 1})


def test_cancel_stops_the_call_at_its_next_progress_and_nothing_else(worker):
    _, pid = worker.call("opsef_child:count", {})
    with pytest.raises(Cancelled):
        worker.call("opsef_child:work", {}, on_progress=lambda *progress: worker.cancel())
    assert worker.call("opsef_child:count", {})[1] == pid
    worker.cancel()  # nothing runs: nothing happens
    assert worker.call("opsef_child:echo", {"value": 1}) == 1


def test_kill_from_another_thread_ends_the_call(folder):
    with Worker(environment={"PYTHONPATH": str(folder)}) as worker:
        _, pid = worker.call("opsef_child:count", {})
        threading.Timer(0.2, worker.kill).start()
        with pytest.raises(WorkerDied, match="signal 9"):
            worker.call("opsef_child:work", {})
        assert ended(pid)


def test_close_ends_the_process_and_may_be_called_twice(folder):
    worker = Worker(environment={"PYTHONPATH": str(folder)})
    worker.close()
    _, pid = worker.call("opsef_child:count", {})
    worker.close()
    worker.close()
    assert ended(pid, 0.5)


def test_close_is_not_held_up_by_a_call_that_never_reports(folder):
    worker = Worker(environment={"PYTHONPATH": str(folder)})
    _, pid = worker.call("opsef_child:count", {})
    os.kill(pid, signal.SIGSTOP)
    worker.close(timeout=0.2)
    assert ended(pid, 1)


def test_a_child_has_the_threads_it_was_given(worker, folder):
    assert worker.call("opsef_child:threads", {}) == ["1", "1", "x"]
    with Worker(threads=3, environment={"PYTHONPATH": str(folder), "MINE": ""}) as other:
        assert other.call("opsef_child:threads", {}) == ["3", "3", ""]


PARENT = """
import sys
from opsef_bridge.workers import Worker
Worker(environment={"PYTHONPATH": sys.argv[1]}).call("opsef_child:work", {"started": sys.argv[2]})
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_an_orphan_stops_when_its_parent_is_killed(folder, tmp_path, end):
    started = tmp_path / "started"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, folder, started], stderr=subprocess.DEVNULL
    )
    while not (started.is_file() and started.read_text()):
        assert parent.poll() is None
        time.sleep(0.02)
    pid = int(started.read_text())
    assert not ended(pid, 0.1)
    parent.send_signal(end)
    parent.wait()
    assert ended(pid, zombie=True)  # a container may have nobody to bury orphans


def test_ctrl_c_goes_to_the_parent_alone(worker):
    _, pid = worker.call("opsef_child:count", {})
    os.kill(pid, signal.SIGINT)
    time.sleep(0.1)
    assert worker.call("opsef_child:count", {})[1] == pid


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_a_signal_that_another_thread_took_ends_the_call(folder, tmp_path):
    """The system gives a signal to any thread; Python answers it in the main thread alone."""
    started, late = tmp_path / "started", []

    def interrupt():
        wait_until(started.is_file)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    with Worker(environment={"PYTHONPATH": str(folder)}) as worker:
        end = threading.Timer(30, lambda: (late.append(True), worker.kill()))
        end.start()
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            worker.call("opsef_child:work", {"started": str(started)})
        end.cancel()
    assert not late
