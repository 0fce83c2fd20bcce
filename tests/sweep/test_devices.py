"""Who works on which GPU. The driver and the engine's runtime are stand-ins here: what is
tested is what the sweep makes of their answers. `pytest -m gpu` has the real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

DRIVER = """#!/bin/sh
echo "GPU 0: NVIDIA Stand-in (UUID: GPU-0)"
echo "GPU 1: NVIDIA Stand-in (UUID: GPU-1)"
"""


@pytest.fixture
def two_gpus(tmp_path: Path) -> dict[str, str]:
    """An environment whose driver lists two GPUs, with an engine that can use them."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(DRIVER)
    program.chmod(0o755)
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    kept = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    return {**kept, "PATH": path, "PROBE_DEVICES": "cuda cpu"}


def units(crew: int) -> dict:
    """Four units of an engine that waits for so many processes."""
    return {f"m{n}": {"engine": "probe", "threshold": n / 10, "crew": crew} for n in range(1, 5)}


@pytest.fixture
def project(bench):
    return bench.project({"a.tif": np.eye(64, dtype=np.uint8) * 200}, models=units(2))


def seats(bench) -> dict[str, set[str]]:
    """The GPUs that each process saw, by its number."""
    found: dict[str, set[str]] = {}
    for line in bench.log.read_text().splitlines():
        pid, _, gpu = line.partition(" ")
        found.setdefault(pid, set()).add(gpu)
    return found


def test_every_gpu_has_one_worker_that_sees_no_other(bench, project, two_gpus):
    code, _, err = bench.opsef(project, "sweep", "run", "--workers", "4", env=two_gpus)
    assert code == 0, err
    assert sorted(gpu for seen in seats(bench).values() for gpu in seen) == ["0", "1"]
    record = json.loads((project.run("run-0001").root / "run.json").read_text())
    assert record["device"] == ["cuda"]


def test_a_runtime_that_cannot_use_the_gpu_works_on_all_cores(bench, project, two_gpus):
    bench.configure(project.root, models=units(3))
    without = {**two_gpus, "PROBE_DEVICES": "cpu"}
    code, _, err = bench.opsef(project, "sweep", "run", "--workers", "3", env=without)
    assert code == 0, err
    assert len(seats(bench)) == 3
    assert set().union(*seats(bench).values()) == {""}


def test_the_plan_says_which_device_and_cuda_is_refused_where_it_cannot_be(
    bench, project, two_gpus
):
    code, out, _ = bench.opsef(project, "--json", "sweep", "plan", env=two_gpus)
    assert code == 0
    assert json.loads(out)["devices"] == {"probe": "cuda"}
    bench.configure(project.root, sweep={"device": "cuda"})
    without = {**two_gpus, "PROBE_DEVICES": "cpu"}
    code, _, err = bench.opsef(project, "sweep", "plan", env=without)
    assert code == 2
    assert "the engine 'probe' can only use cpu here" in err
