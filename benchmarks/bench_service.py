"""How fast the service answers who polls it, alone and beside 20 others.

    python benchmarks/bench_service.py [--requests 500] [--clients 20] [--interval 0.5]

Server, pollers and the client that is timed are processes of their own. The client keeps its
connection, as Fiji does. A plain route of starlette under the same uvicorn runs alongside:
compare the ratios, which hold on a busy machine too. The project has many jobs, because the
state of one must not cost more for them.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from opsef_bridge.project import Project
from opsef_bridge.service.people import invite
from opsef_bridge.service.requests import perform, write_request
from opsef_bridge.sweep import plan_sweep, run_plan

CONFIG = """\
opsef: 1
images: {source: [data]}
models: {classic: {engine: watershed}}
sweep: {crop: none}
"""

HEALTH = "/v1/health"

SERVE = "import sys; from opsef_bridge.service.serve import serve; serve(sys.argv[1])"

PLAIN = """
import socket, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def answer(request):
    return JSONResponse({"name": "plain", "api": 1})

listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
listener.listen()
print("at http://127.0.0.1:%d" % listener.getsockname()[1], flush=True)
app = Starlette(routes=[Route("/v1/health", answer)])
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""

POLL = """
import http.client, sys, threading, time
port, path, token, clients, interval = sys.argv[1:]

def poll(number):
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    time.sleep(float(interval) * number / int(clients))
    while True:
        connection.request("GET", path, headers={"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        time.sleep(float(interval))

threads = [threading.Thread(target=poll, args=(n,), daemon=True) for n in range(int(clients))]
for thread in threads: thread.start()
print("at work", flush=True)
for thread in threads: thread.join()
sys.exit("all pollers ended")
"""


@contextlib.contextmanager
def running(code: str, *words: str) -> Iterator[str]:
    """Run Python code as a process for the length of the block; yield the end of what it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().strip().rpartition(" ")[2]
        if process.poll() is not None:
            raise RuntimeError(f"the process ended with {process.returncode}")
    finally:
        process.terminate()
        process.wait(20)


def make_project(root: Path, jobs: int) -> str:
    """Make a swept project with so many jobs that are done; return the id of one."""
    folder = root / "demo"
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    tifffile.imwrite(folder / "data" / "a.tif", rng.integers(0, 255, (64, 64), np.uint8))
    (folder / "opsef.yaml").write_text(CONFIG, "utf-8")
    project = Project(folder)
    run_plan(project, plan_sweep(project))
    wanted = {"image": project.images()[0].id, "variant": "v0001", "verdict": "good"}
    for _ in range(jobs):
        job = write_request(project, "verdict", wanted, author="ada")
        perform(project, job)
    return job


def times(port: int, path: str, token: str, requests: int) -> np.ndarray:
    """Return how many milliseconds each request took, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {token}"}
    taken = []
    for number in range(requests + 20):
        start = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if number >= 20:
            taken.append(1000 * (time.perf_counter() - start))
        assert answer.status == 200 and json.loads(body)
        time.sleep(0.002)  # a client that polls is not a flood
    return np.array(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--interval", type=float, default=0.5)
    parser.add_argument("--jobs", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        job = make_project(root, given.jobs)
        _, token = invite(root, "ada")
        path = f"/v1/projects/demo/jobs/{job}"
        with running(SERVE, folder) as url, running(PLAIN) as plain:
            port, other = int(url.rpartition(":")[2]), int(plain.rpartition(":")[2])
            print(f"{'':28}{'median':>9}{'p95':>9}{'max':>9}   p95 / plain")
            for clients in (0, given.clients):
                with contextlib.ExitStack() as stack:
                    if clients:
                        words = (str(port), path, token, str(clients), str(given.interval))
                        stack.enter_context(running(POLL, *words))
                        time.sleep(1)
                    base = times(other, HEALTH, "", given.requests)
                    report("plain starlette", clients, base, base)
                    report("GET health", clients, times(port, HEALTH, token, given.requests), base)
                    report("GET job", clients, times(port, path, token, given.requests), base)


def report(name: str, clients: int, taken: np.ndarray, base: np.ndarray) -> None:
    """Print a row of the table."""
    low, high = np.percentile(taken, [50, 95])
    ratio = high / np.percentile(base, 95)
    beside = f"{name}, {clients} others"
    print(f"{beside:28}{low:7.2f}ms{high:7.2f}ms{taken.max():7.2f}ms   {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
