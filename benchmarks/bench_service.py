"""How fast the service answers who polls it, alone and beside 20 others, and during a sweep.

    python benchmarks/bench_service.py [--requests 500] [--clients 20] [--interval 0.5]
    python benchmarks/bench_service.py --sweep [--clients 20] [--interval 0.1] [--images 8]

With ``--sweep`` the clients poll the job of a real sweep until it ends, half of them listening
to its events too. Each must be answered every time, see progress that never goes back, and be
told the same end; else this program fails.

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
from scipy import ndimage

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


FOLLOW = """
import http.client, json, sys, threading, time
port, path, token, clients, interval = sys.argv[1:]
headers = {"Authorization": "Bearer " + token}
taken, ends, faults = [], [], []

def poll(number):
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    reached, state = 0, None
    time.sleep(float(interval) * number / int(clients))
    while state not in ("done", "failed", "cancelled"):
        start = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        job = json.loads(answer.read())
        taken.append(1000 * (time.perf_counter() - start))
        state = job.get("state")
        if answer.status != 200 or job["current"] < reached:
            faults.append([answer.status, job])
            return
        reached = job["current"]
        time.sleep(float(interval))
    ends.append(job)

def listen(number):
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=600)
    connection.request("GET", path + "/events", headers=headers)
    answer = connection.getresponse()
    lines = [line for line in answer.read().split(b"\\n") if line.startswith(b"data:")]
    jobs = [json.loads(line[5:]) for line in lines]
    reached = [job["current"] for job in jobs]
    if answer.status != 200 or reached != sorted(reached):
        faults.append([answer.status, jobs])
    ends.append(jobs[-1])

def guarded(action, number):
    try:
        action(number)
    except BaseException as error:
        faults.append(repr(error))

clients = int(clients)
actions = [(poll, n) for n in range(clients)] + [(listen, n) for n in range(clients // 2)]
threads = [threading.Thread(target=guarded, args=one) for one in actions]
for thread in threads: thread.start()
for thread in threads: thread.join()
same = all(end == ends[0] for end in ends) and len(ends) == len(actions)
print(json.dumps({"taken": taken, "end": ends and ends[0], "same": same, "faults": faults}))
"""

SWEEP = """\
opsef: 1
images: {source: [data]}
models: {classic: {engine: watershed, scale: [0.5, 1.0, 2.0], threshold: [otsu, 0.8, local]}}
sweep: {images: all, crop: none}
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


def during_a_sweep(clients: int, interval: float, images: int) -> None:
    """Print how long polls took while a sweep ran; fail where anything was lost."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = root / "demo" / "data"
        data.mkdir(parents=True)
        rng = np.random.default_rng(0)
        for number in range(images):
            field = ndimage.gaussian_filter(rng.normal(size=(512, 512)), 8)
            picture = (255 * (field > np.quantile(field, 0.8))).astype(np.uint8)
            tifffile.imwrite(data / f"{number}.tif", picture)
        (root / "demo" / "opsef.yaml").write_text(SWEEP, "utf-8")
        _, token = invite(root, "ada")
        with running(SERVE, folder) as url:
            port = url.rpartition(":")[2]
            connection = http.client.HTTPConnection("127.0.0.1", int(port))
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/projects/demo/runs", '{"kind": "sweep"}', headers)
            job = json.loads(connection.getresponse().read())["job"]
            path = f"/v1/projects/demo/jobs/{job}"
            words = (port, path, token, str(clients), str(interval))
            command = [sys.executable, "-c", FOLLOW, *words]
            start = time.perf_counter()
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds = time.perf_counter() - start
    told = json.loads(said)
    end, taken = told["end"], np.array(told["taken"])
    low, high = np.percentile(taken, [50, 95])
    print(f"{clients} clients polled {len(taken)} times during a sweep of {seconds:.1f} s")
    print(f"median {low:.2f} ms, p95 {high:.2f} ms, max {taken.max():.2f} ms")
    print(f"the job: {end['state']}, {end['message']}")
    if told["faults"] or not told["same"] or end["state"] != "done" or end["result"]["open"]:
        raise SystemExit(f"something was lost: {told['faults']}, {end}")
    print("nothing was lost: every poll answered 200, progress never went back, one end for all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--interval", type=float, help="seconds; 0.5, or 0.1 with --sweep")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--sweep", action="store_true", help="poll while a sweep runs")
    parser.add_argument("--images", type=int, default=8, help="of the sweep")
    given = parser.parse_args()
    if given.interval is None:
        given.interval = 0.1 if given.sweep else 0.5
    if given.sweep:
        during_a_sweep(given.clients, given.interval, given.images)
        return
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
