"""The loop in a real ImageJ window, while the service is killed and the line is cut."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile
import yaml

from opsef_bridge.project import Project
from opsef_bridge.rois.revisions import History
from opsef_bridge.service.forms import read_request
from opsef_bridge.service.people import invitation, invite, write_invitation
from opsef_bridge.service.requests import job_of, jobs_of
from tests.running import wait_until
from tests.small_projects import discs

from .test_imagej import app, talk

__all__ = ["app"]  # a fixture

HERE = Path(__file__).parent
PLUGINS = HERE.parent / "sweep" / "plugins"
LIMIT = 480.0  # seconds; 40 to 60 is usual
CREW = 9
"""A pass of the engine `probe` waits for so many processes: until the test says so."""


class Line:
    """A TCP proxy on loopback: what a network in between does to a connection."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.broken = False
        self.drop = 0
        self.puts = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut all connections; new ones are cut at once."""
        self.broken = True
        for one in list(self._open):
            self._end(one)

    def close(self) -> None:
        self._end(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.broken:
                    raise ConnectionError("the line is cut")
                far = socket.create_connection(("127.0.0.1", self.to), timeout=10)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            self._open |= {near, far}
            saving = threading.Event()
            for ends in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass_on, args=(*ends, saving), daemon=True).start()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, asks: bool, saving: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if asks and b"PUT /v1/" in data:
                    self.puts += 1
                    saving.set()
                if not asks and saving.is_set():
                    if self.drop > 0:  # the service has done it; nobody learns of it
                        self.drop -= 1
                        break
                    saving.clear()
                target.sendall(data)
        self._end(source)
        self._end(target)

    def _end(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
        self._open.discard(one)


class Service:
    """`opsef serve` of a folder, which can be killed and started again at the same port."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "opsef_bridge", "serve", str(self.root),
                   "--port", str(self.port)]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert " at http://" in line, line
        self.port = int(line.rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


@pytest.fixture
def passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which the engine `probe` notes its passes, of all processes."""
    site = tmp_path / "site"
    metadata = site / "probe_engine-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: probe-engine\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[opsef_bridge.engines]\nprobe = probe_engine:Probe\n"
    )
    paths = [str(site), str(PLUGINS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("PROBE_LOG", str(tmp_path / "passes.txt"))
    monkeypatch.setenv("PROBE_DEADLY", str(tmp_path / "deadly"))
    monkeypatch.setenv("PROBE_HELD", str(tmp_path / "held"))
    return tmp_path / "passes.txt"


@pytest.fixture
def service(tmp_path: Path, passes: Path) -> Iterator[Service]:
    root = tmp_path / "Projekte für alle"
    make_project(root / "nuclei")
    made = Service(root)
    try:
        yield made
    finally:
        made.process.terminate()
        made.process.wait(20)


@pytest.fixture
def line(service: Service) -> Iterator[Line]:
    made = Line(service.port)
    try:
        yield made
    finally:
        made.close()


def make_project(folder: Path, zoom: float = 0.0) -> None:
    """Make a project of four small images; a sweep looks at two of them."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for number in range(4):
        tifffile.imwrite(folder / "data" / f"{number}.tif", discs(number, first=(12, 12)))
    probe = {"engine": "probe", "crew": CREW, "zoom": zoom, "threshold": [0.3, 0.6]}
    config = {
        "opsef": 1,
        "images": {"source": ["data"]},
        "models": {"probe": probe},
        "sweep": {"images": 2, "crop": "none"},
    }
    (folder / "opsef.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.slow
def test_nothing_is_lost_or_done_twice(
    display: str, app: Path, classes: Path, service: Service, line: Line, passes: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    project = Project(service.root / "nuclei")
    _, token = invite(service.root, "Ada Müller")
    file = write_invitation(tmp_path, invitation("Ada Müller", token, port=line.port))
    _, second = invite(service.root, "Ada Müller")
    direct = invitation("Ada Müller", second, port=service.port)
    other = write_invitation(tmp_path / "other", direct)

    def in_a_pass() -> None:
        wait_until(lambda: passes.is_file() and passes.read_text(), 180)

    def let_go() -> None:
        with passes.open("a") as log:
            log.writelines(f"other{number}\n" for number in range(CREW))

    def kill(_: str) -> None:
        in_a_pass()
        service.kill()

    def restart(_: str) -> None:
        service.start()
        let_go()

    def arm(config: str) -> None:
        passes.unlink()
        if config:
            make_project(project.root, zoom=0.5)

    def crash(job: str) -> None:
        in_a_pass()
        service.kill()
        found = job_of(project, job)
        assert found.state == "running" and found.pid
        os.killpg(found.pid, signal.SIGKILL)

    def cut(_: str) -> None:
        in_a_pass()
        line.cut()

    def mend(_: str) -> None:
        line.broken = False
        let_go()

    def drop(answers: str) -> None:
        line.drop, line.puts = int(answers), 0

    answers = {"KILL": kill, "RESTART": restart, "ARM": arm, "CRASH": crash, "CUT": cut,
               "MEND": mend, "DROP": drop}  # fmt: skip
    told = {
        "app": str(app),
        "classes": str(classes),
        "pictures": os.environ.get("OPSEF_SCREENSHOTS") or str(tmp_path / "pictures"),
        "invitation": str(file),
        "image": "i00001-0",
        "other": str(other),
    }
    command = [sys.executable, str(HERE / "loop_rough.py"), json.dumps(told)]
    code, said, output = talk(command, answers, LIMIT)
    assert code == 0 and "PASSED" in said, output[-6000:]

    # Every job ended well, the one that was killed at its second try.
    jobs = {job.id: job for job in jobs_of(project)}
    assert {job.state for job in jobs.values()} == {"done"}, jobs
    assert [jobs[said["BATCH"]].tries, jobs[said["SWEEP"]].tries] == [2, 1]
    assert sorted(job.kind for job in jobs.values() if job.kind != "adopt") == [
        "batch", "rois", "rois", "rois", "sweep", "sweep",
    ]  # fmt: skip
    assert project.runs() == ["run-0001", "run-0002", "run-0003"]
    # Each edit is there once, though its answer was lost up to four times.
    revisions = History(project, told["image"]).revisions()
    assert [revision.id for revision in revisions] == ["r0001", "r0002", "r0003"]
    assert [len(revision.changes.deleted) for revision in revisions] == [1, 1, 1]
    assert {revision.author for revision in revisions} == {"Ada Müller"}
    assert line.puts == 1  # the last one, by hand, by the id of those before
    for job in jobs.values():
        assert read_request(project, job.id)[0].author == "Ada Müller"
