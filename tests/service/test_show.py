"""A comparison in a window: looked at on a screen without a monitor, and stepped by its keys."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import InputError, NotFoundError, WorkerError
from opsef_bridge.project import Project
from opsef_bridge.service.show import FIJI, command_of, show, stack_of
from tests.fiji.conftest import class_path, java, missing

KEYS = """
import sys
from java.awt import Robot
from java.awt.event import InputEvent, KeyEvent
robot = Robot()
robot.setAutoDelay(50)
robot.mouseMove(int(sys.argv[1]), int(sys.argv[2]))
robot.mousePress(InputEvent.BUTTON1_DOWN_MASK)
robot.mouseRelease(InputEvent.BUTTON1_DOWN_MASK)
for name in sys.argv[3:]:
    key = getattr(KeyEvent, "VK_" + name)
    robot.keyPress(key)
    robot.keyRelease(key)
robot.mouseMove(1, 1)  # its pointer would hide pixels
"""


@pytest.fixture(autouse=True)
def no_fiji_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FIJI, raising=False)


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], np.ndarray]]:
    """Start a screen; return what gives its pixels, uint8 with axes YXS."""
    if shutil.which("Xvfb") is None:
        missing("Xvfb is not installed: windows cannot be opened")
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1000x800x24"]
    server = subprocess.Popen(
        [*command, "-fbdir", str(tmp_path), "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)

    def pixels() -> np.ndarray:
        data = (tmp_path / "Xvfb_screen0").read_bytes()  # an XWD file
        head = struct.unpack(">25I", data[:100])
        start, width, height, line = head[0] + 12 * head[19], head[4], head[5], head[12]
        assert head[11] == 32 and head[7] == 0  # bits per pixel; least significant byte first
        raw = np.frombuffer(data, np.uint8, height * line, start).reshape(height, line // 4, 4)
        return raw[:, :width, 2::-1]

    try:
        with open(reader) as told:
            number = told.readline().strip()
        assert number, "Xvfb did not start"
        monkeypatch.setenv("DISPLAY", f":{number}")
        yield pixels
    finally:
        server.terminate()
        server.wait(10)


def expected(file: Path, frame: int, channel: int) -> np.ndarray:
    """Return a plane of a comparison as ImageJ must draw it, axes YXS."""
    with tifffile.TiffFile(file) as tiff:
        plane = tiff.series[0].asarray()[frame, channel]
        lut = tiff.imagej_metadata["LUTs"][channel]
    return np.moveaxis(lut[:, plane], 0, -1)


def place_of(picture: np.ndarray, screen: np.ndarray) -> tuple[int, int] | None:
    """Return the (x, y) at which a picture is on a screen."""
    height, width, _ = picture.shape
    top = picture[height // 2].tobytes()
    for y, line in enumerate(screen):
        at = line.tobytes().find(top)
        y0 = y - height // 2
        if at >= 0 and at % 3 == 0 and y0 >= 0:
            x = at // 3
            if np.array_equal(screen[y0 : y0 + height, x : x + width], picture):
                return x, y0
    return None


def test_the_comparison_is_shown_and_its_keys_work(
    project: Project, screen: Callable[[], np.ndarray], until: Callable, tmp_path: Path
) -> None:
    entry = project.images()[1]
    shown = show(project, "run-0001", entry.id)
    assert shown.process is not None
    try:
        base = expected(shown.file, 0, 0)
        x, y = until(lambda: place_of(base, screen()), timeout=300)
        keys = tmp_path / "keys.py"
        keys.write_text(KEYS)
        command = [java(), "-cp", class_path("jython"), "org.python.util.jython", str(keys)]
        first, second = (expected(shown.file, frame, 2) for frame in (0, 1))
        assert place_of(first, screen()) is None and not np.array_equal(first, second)

        def press(name: str) -> None:
            subprocess.run([*command, str(x + 9), str(y + 9), name], check=True, timeout=300)

        for _ in range(10):  # the keys are heard a moment after the image is shown
            press("O")
            if place_of(base, screen()) is None:
                break
        assert until(lambda: place_of(first, screen())) == (x, y)
        press("RIGHT")
        assert until(lambda: place_of(second, screen())) == (x, y)
        assert shown.process.poll() is None
        if folder := os.environ.get("OPSEF_SCREENSHOTS"):
            from PIL import Image

            Image.fromarray(screen()).save(Path(folder) / "show.png")
    finally:
        shown.process.kill()
        shown.process.wait(20)


def test_without_jython_the_plain_window_is_opened(
    project: Project, screen: Callable, until: Callable, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPSEF_JARS", str(tmp_path / "jars"))
    (tmp_path / "jars").mkdir()
    with pytest.raises(NotFoundError, match=r"ij-1\.54p\.jar.*python -m opsef_bridge\.imagej"):
        show(project)
    monkeypatch.delenv("OPSEF_JARS")
    jar = Path(class_path("ij"))
    monkeypatch.setenv("OPSEF_JARS", str(tmp_path / "jars"))
    (tmp_path / "jars" / jar.name).symlink_to(jar)
    shown = show(project)
    assert shown.image == project.images()[0].id and "org.python.util.jython" not in shown.command
    assert shown.process is not None
    try:
        until(lambda: place_of(expected(shown.file, 0, 0), screen()), timeout=300)
    finally:
        shown.process.kill()
        shown.process.wait(20)


def test_which_stack(project: Project) -> None:
    first, second = (entry.id for entry in project.images())
    run = project.run()
    assert stack_of(project) == stack_of(project, "run-0001", first) == run.compare_file(first)
    run.compare_file(second).unlink()
    with pytest.raises(NotFoundError, match=f"no comparison of {second}. It has those of {first}"):
        stack_of(project, None, second)
    run.compare_file(first).unlink()
    with pytest.raises(NotFoundError, match=r"run-0001 has no comparison yet.*sweep resume"):
        stack_of(project)
    run.batch_file.write_bytes(b"")
    assert stack_of(project) == run.batch_file
    with pytest.raises(NotFoundError, match="run-0009"):
        stack_of(project, "run-0009")
    with pytest.raises(NotFoundError, match="i00099"):
        stack_of(project, None, "i00099-x")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a display")
def test_without_a_display_it_says_what_to_do(project: Project, monkeypatch) -> None:
    class_path("ij")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(NotFoundError, match=r"no display.*ssh -X.*opsef serve.*\.tif"):
        show(project)


def fiji(folder: Path, program: str) -> Path:
    """Make a folder of Fiji whose launcher is a program of the shell."""
    (folder / "jars").mkdir(parents=True)
    (folder / "plugins").mkdir()
    (folder / "jars" / "ij-1.54p.jar").write_bytes(b"")
    launcher = folder / "fiji-linux-x64"
    launcher.write_text(f"#!/bin/sh\n{program}\n")
    launcher.chmod(0o755)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="the launcher is Linux's")
def test_a_fiji_of_the_person_is_started_with_the_file(
    project: Project, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":99")
    folder = fiji(tmp_path / "Fiji für alle", f'printf %s "$1" > "{tmp_path}/told"')
    monkeypatch.setenv(FIJI, str(folder))
    shown = show(project, wait=True)
    assert shown.process is None
    assert (tmp_path / "told").read_text() == str(shown.file) == str(stack_of(project).absolute())
    broken = fiji(tmp_path / "broken", "echo no screen here >&2; exit 3")
    with pytest.raises(WorkerError, match=r"code 3: no screen here.*by hand: .*\.tif"):
        show(project, fiji=broken, wait=True)
    (broken / "fiji-linux-x64").write_text("#!/not/there\n")
    with pytest.raises(NotFoundError, match=r"cannot be started.*opsef fiji check"):
        show(project, fiji=broken)


def test_a_plain_imagej_of_the_person_runs_on_the_java_there_is(
    project: Project, tmp_path: Path
) -> None:
    folder = tmp_path / "ImageJ"
    (folder / "plugins").mkdir(parents=True)
    (folder / "ij.jar").write_bytes(b"")
    command = command_of(project, stack_of(project), folder)
    assert command[0] == java() and command[-1] == str(stack_of(project))
    assert f"-Dplugins.dir={folder}" in command and "ij.ImageJ" in command
    with pytest.raises(InputError, match="no folder of Fiji or ImageJ"):
        command_of(project, stack_of(project), tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the launcher is Linux's")
def test_the_command(project: Project, tmp_path: Path) -> None:
    folder = fiji(tmp_path / "Fiji.app", f'printf %s "$1" > "{tmp_path}/told"')
    words = ["-p", str(project.root), "show", "run-0001", "--fiji", str(folder), "--json"]
    command = [sys.executable, "-m", "opsef_bridge", *words]
    (project.inbox_folder / "waits.json").parent.mkdir(exist_ok=True)
    (project.inbox_folder / "waits.json").write_text("{}")
    env = {**os.environ, "DISPLAY": ":99"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    file = stack_of(project).absolute()
    assert json.loads(done.stdout) == {"image": file.stem, "file": str(file)}
    assert (tmp_path / "told").read_text() == str(file)
    command.remove("--json")
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert f"Opening {file}"[:60] in done.stdout.replace("\n", " ")
    assert "inbox: 1; opsef -p" in done.stdout.replace("\n", " ")
    env.pop("DISPLAY")
    words = ["-p", str(project.root), "show", "--fiji", str(folder)]
    command = [sys.executable, "-m", "opsef_bridge", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 2 and "no display" in done.stderr
