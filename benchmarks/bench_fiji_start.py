"""How long a person waits in ImageJ: the first command, the next, and a comparison from afar.

    python benchmarks/bench_fiji_start.py

In a real ImageJ 1.54p window (Xvfb) with a real service. All requests go through a proxy on
this machine, which notes when a request is out: that is the server's time, and what is beyond
it is ours. CPU is what ImageJ's process used, all threads together: on a busy machine it tells
more than the clock. A second proxy lets 20 Mbit/s through. Two comparisons come from there: the one
that a sweep with default settings makes (16 variants of a crop of 512 px), and one of the
greatest size that is allowed (16 variants of 968 px, 60 MB).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fiji")]

MBIT = 20
FIRST_LIMIT, NEXT_LIMIT, FRAME_LIMIT = 4.0, 1.0, 5.0
SIDE = 968
CONFIG = """\
opsef: 1
images: {source: [data]}
models:
  classic:
    engine: watershed
    threshold: [0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25,
                1.3, otsu]
sweep: {SWEEP}
"""
SWEEPS = {"default": "seed: 0", "greatest": "crop: none"}


class Proxy:
    """Passes connections on to a port of this machine; notes when requests are out.

    Parameters
    ----------
    port : int
        Of the service.
    rate : float, optional
        Bytes a second that come back, over all connections; any number by default.
    """

    def __init__(self, port: int, rate: float | None = None) -> None:
        self.target, self.rate = port, rate
        self.lock = threading.Lock()
        self.free_at = 0.0
        self.passed = 0
        self.times: list[list[float]] = []  # [start, end] of each request
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def busy(self, start: float, end: float) -> float:
        """Return the seconds within a time during which at least one request was out."""
        with self.lock:
            spans = sorted((max(a, start), min(b, end)) for a, b in self.times)
        total, reached = 0.0, start
        for begin, stop in spans:
            if stop > reached:
                total += stop - max(begin, reached)
                reached = stop
        return total

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            span: list[list[float]] = []
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._copy, args=(*pair, span), daemon=True).start()

    def _copy(self, source: socket.socket, to: socket.socket, back: bool, span: list) -> None:
        try:
            while data := source.recv(16384):
                now = time.monotonic()
                if not back and (not span or span[-1][1] > span[-1][0]):
                    span.append([now, now])
                    with self.lock:
                        self.times.append(span[-1])
                if back:
                    self._wait(len(data))
                to.sendall(data)
                if back and span:
                    span[-1][1] = time.monotonic()
        except OSError:
            pass
        finally:
            for one in (source, to):
                one.close()

    def _wait(self, count: int) -> None:
        with self.lock:
            self.passed += count
            if self.rate is None:
                return
            self.free_at = max(self.free_at, time.monotonic()) + count / self.rate
            until = self.free_at
        time.sleep(max(0.0, until - time.monotonic()))


def make_projects(root: Path) -> dict[str, float]:
    """Make and sweep the projects; return the MB of each one's comparison."""
    import numpy as np
    import tifffile

    from opsef_bridge.project import Project
    from opsef_bridge.sweep import plan_sweep, run_plan
    from tests.small_projects import Here

    rng = np.random.default_rng(0)
    rows, columns = (axis % 80 - 40 for axis in np.indices((SIDE, SIDE)))
    image = rng.normal(200, 12, (SIDE, SIDE)) + 1500 * (np.hypot(rows, columns) < 15)
    sizes = {}
    for name, sweep in SWEEPS.items():
        folder = root / name
        (folder / "data").mkdir(parents=True)
        tifffile.imwrite(folder / "data" / "cells.tif", image.astype(np.uint16))
        (folder / "opsef.yaml").write_text(CONFIG.replace("SWEEP", sweep), "utf-8")
        project = Project(folder)
        run_plan(project, plan_sweep(project), Here())
        [entry] = project.images()
        sizes[name] = project.run().compare_file(entry.id).stat().st_size / 1e6
    return sizes


def drive(told: dict[str, Any]) -> None:
    """Do the commands in a window, and tell when each began and ended."""
    from imagej_window import Window, end

    window = Window(Path(told["app"]), Path(told["classes"]), Path(told["app"]) / "pictures")

    def timed(what: str, command: str, options: str, until: Callable[[], Any] | None = None):
        start, used = time.monotonic(), time.process_time()
        thread = threading.Thread(target=window.run, args=(command, options))
        thread.start()
        if until is None:
            thread.join()
        else:
            window.wait(until, f"{command} shows nothing", 120)
        told_end, used = time.monotonic(), time.process_time() - used
        thread.join()
        assert not window.errors, window.errors
        print("TIME " + json.dumps([what, start, told_end, used]), flush=True)

    def shown() -> bool:
        image = window.image()
        if image is None or not str(image.getTitle()).startswith("run-"):
            return False
        return image.getWindow() is not None and image.getProcessor().getStats().max > 0

    def connect(file: str, project: str) -> str:
        return f"invitation=[{file}] folder=[] interpreter=[] root=[] project={project}"

    try:
        timed("first command (Connect)", "Connect", connect(told["fast"], "default"))
        timed("Connect", "Connect", connect(told["fast"], "default"))
        name = told["image"]
        timed("Open Comparison", "Open Comparison", f"run=[(newest)] image={name}", shown)
        best = str(window.image().getStack().getSliceLabel(1)).split()[1]
        timed("Edit Objects", "Edit Objects", f"action=start image={name} from=run-0001/{best}")
        timed("Adopt Variant", "Adopt Variant", f"run=run-0001 variant={best} group=[]")
        timed("Jobs", "Jobs", "do=[list all]")
        window.java("ij.WindowManager").closeAllWindows()
        for project in SWEEPS:
            window.run("Connect", connect(told["slow"], project))
            options = f"run=[(newest)] image={name}"
            timed(f"first frame, {project}", "Open Comparison", options, shown)
            image = window.image()
            stack = image.getStack()
            last = stack.getSize() - 3  # the base picture of the last variant

            def whole(stack: Any = stack, last: int = last) -> bool:
                return stack.getProcessor(last).getStats().max > 0

            start = time.monotonic()
            window.wait(whole, "the last frame does not come", 300)
            came = [f"last, {project}", start, time.monotonic(), 0]
            print("TIME " + json.dumps(came), flush=True)
            image.close()
        print("PASSED", flush=True)
    except BaseException:
        import traceback

        traceback.print_exc()
        print(window.errors, window.log(), flush=True)
        end(1)
    end(0)


def display() -> subprocess.Popen[bytes] | None:
    """Start a screen without a monitor, where there is Xvfb."""
    if shutil.which("Xvfb") is None:
        return None
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1440x1000x24"]
    server = subprocess.Popen(
        [*command, "-nolisten", "tcp"], pass_fds=[writer], stderr=subprocess.DEVNULL
    )
    os.close(writer)
    with open(reader) as told:
        os.environ["DISPLAY"] = f":{told.readline().strip()}"
    return server


def measure(folder: Path) -> None:
    from opsef_bridge.service.fiji import install
    from opsef_bridge.service.people import invitation, invite, write_invitation
    from tests.fiji.conftest import compiled

    root, app, classes = folder / "projects", folder / "app", folder / "classes"
    for one in (app / "plugins", app / "luts", classes, root):
        one.mkdir(parents=True)
    install(app)
    (app / "luts" / "glasbey.lut").write_bytes(bytes(range(256)) * 3)  # as ImageJ brings it
    compiled(classes, ["Jython.java"], "jython", "ij")
    sizes = make_projects(root)
    serve = [sys.executable, "-m", "opsef_bridge", "serve", str(root), "--port", "0"]
    service = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        port = int(service.stdout.readline().strip().rpartition(":")[2])
        proxies = {"fast": Proxy(port), "slow": Proxy(port, MBIT * 1e6 / 8)}
        told = {"app": str(app), "classes": str(classes), "image": "i00001-cells"}
        _, token = invite(root, "Ada")
        for name, proxy in proxies.items():
            (folder / name).mkdir()
            value = invitation("Ada", token, port=proxy.port)
            told[name] = str(write_invitation(folder / name, value))
        command = [sys.executable, __file__, "--drive", json.dumps(told)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if "PASSED" not in done.stdout:
            sys.exit(done.stdout[-4000:] + done.stderr[-4000:])
        lines = [line for line in done.stdout.splitlines() if line.startswith("TIME ")]
        report([json.loads(line[5:]) for line in lines], proxies, sizes)
    finally:
        service.terminate()
        service.wait(20)


def report(times: list, proxies: dict[str, Proxy], sizes: dict[str, float]) -> None:
    """Print the table."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{os.cpu_count()} processors, {load:.1f} processes ready; seconds")
    print(f"{'':44}{'all':>8}{'server':>8}{'ours':>8}{'limit':>8}{'CPU':>8}")
    for what, start, end, used in times:
        name = what.partition(", ")[2]
        if what.startswith("last"):
            print(f"{'  ... all variants, so much later':44}{end - start:8.2f}")
        elif name:
            size = f"first frame of {sizes[name]:.0f} MB ({name}) at {MBIT} Mbit/s"
            busy = proxies["slow"].busy(start, end)
            row(size, end - start, busy, end - start, FRAME_LIMIT, used)
        else:
            busy = proxies["fast"].busy(start, end)
            limit = FIRST_LIMIT if what.startswith("first") else NEXT_LIMIT
            row(what, end - start, busy, end - start - busy, limit, used)


def row(what: str, whole: float, server: float, ours: float, limit: float, used: float) -> None:
    verdict = "" if ours <= limit else "  TOO SLOW"
    print(f"{what:44}{whole:8.2f}{server:8.2f}{ours:8.2f}{limit:8.1f}{used:8.2f}{verdict}")


def main() -> None:
    if sys.argv[1:2] == ["--drive"]:
        drive(json.loads(sys.argv[2]))
        return
    server = display()
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder))
    finally:
        if server is not None:
            server.terminate()
            server.wait(10)


if __name__ == "__main__":
    main()
