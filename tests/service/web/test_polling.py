"""Many who follow a job at once: everybody is answered, and all are told the same end."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from opsef_bridge.project import Project
from opsef_bridge.service.people import invite
from opsef_bridge.sweep import status

pytest.importorskip("uvicorn", reason="the extra `service` is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

CONFIG = """\
opsef: 1
images: {source: [data]}
models: {classic: {engine: watershed, scale: [0.5, 1.0], threshold: [otsu, 0.8]}}
sweep: {images: all, crop: none}
"""
SECONDS = 120


def poll(client: Any, path: str) -> list[dict[str, Any]]:
    """Ask for the state of a job until it has ended."""
    seen = []
    end = time.monotonic() + SECONDS
    while not seen or seen[-1]["state"] in ("waiting", "running"):
        assert time.monotonic() < end, seen[-1]
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        seen.append(answer.json())
        time.sleep(0.02)  # a client that polls is not a flood
    return seen


def follow(client: Any, path: str) -> list[dict[str, Any]]:
    """Listen to the events of a job until they end."""
    with client.stream("GET", f"{path}/events", timeout=SECONDS) as answer:
        assert answer.status_code == 200
        return [json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:")]


def test_five_clients_lose_nothing_while_a_sweep_runs(root, start_server):
    project = Project(root / "demo")
    project.config_file.write_text(CONFIG)
    running = start_server(root)
    _, token = invite(root, "ada")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=30) as client:
        started = client.post("/v1/projects/demo/runs", json={"kind": "sweep"})
        path = f"/v1/projects/demo/jobs/{started.json()['job']}"
        with ThreadPoolExecutor(5) as pool:
            asked = [pool.submit(how, client, path) for how in (poll, poll, poll, follow, follow)]
        told = [one.result() for one in asked]
        last = client.get(path).json()
    assert last["state"] == "done" and last["result"]["failed"] == 0, last
    order = ["waiting", "running", "done"]
    for seen in told:
        assert seen[-1] == last
        states = [order.index(one["state"]) for one in seen]
        assert states == sorted(states)
        done = [one["current"] for one in seen if one["state"] == "running"]
        assert done == sorted(done), done
        assert all(one["current"] <= one["maximum"] for one in seen)
    assert max(len(seen) for seen in told) > 5
    run = project.run(last["result"]["run"])
    assert status(run).open == 0 and len(run.plan()["variants"]) == 4
