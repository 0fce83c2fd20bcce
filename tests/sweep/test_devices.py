"""Who works on which GPU. The driver and the engine's runtime are stand-ins here: what is
tested is what the sweep makes of their answers. `pytest -m gpu` has the real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.engines import Weights
from opsef_bridge.engines.devices import gpu_names
from opsef_bridge.errors import ConfigError
from opsef_bridge.files import file_sha256, read_json, write_json
from opsef_bridge.sweep.devices import devices_of_engines, gpus_of_turn
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.record import devices_used

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
    assert record["device"] == {"probe": ["cuda"]}


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


@pytest.fixture
def driver(two_gpus, monkeypatch):
    """The two GPUs, for this process too."""
    monkeypatch.setenv("PATH", two_gpus["PATH"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu_names.cache_clear()
    yield
    gpu_names.cache_clear()


def weighed(name: str, devices: str) -> Weights:
    return Weights(name, "weighed", card={"devices": devices})


def test_the_weights_decide_with_the_engine(bench, driver):
    both, cpu = weighed("a", "cuda cpu"), weighed("b", "cpu")
    other = Weights("", "watershed")
    assert devices_of_engines([both, other], "auto") == {"weighed": "cuda", "watershed": "cpu"}
    assert devices_of_engines([cpu], "auto") == {"weighed": "cpu"}
    assert devices_of_engines([cpu, both], "auto") == {"weighed": "cuda and cpu"}
    assert devices_of_engines([cpu, both], "cpu") == {"weighed": "cpu"}
    assert gpus_of_turn("weighed", [cpu, both], "auto") == ("0", "1"), "any is enough"
    assert gpus_of_turn("weighed", [cpu, other], "auto") == ()
    assert gpus_of_turn("rank", [both], "auto") == ()
    with pytest.raises(ConfigError, match="'weighed' can only use cpu here with the weights 'b'"):
        devices_of_engines([both, cpu], "cuda")


def test_plan_workers_and_units_ask_with_the_weights(bench, two_gpus):
    """The engine as such can use the CPU only; these weights can use the GPU."""
    models = {n: {**model, "engine": "weighed", "weights": "w"} for n, model in units(2).items()}
    project = bench.project({"a.tif": np.eye(64, dtype=np.uint8) * 200}, models=models)
    file = project.models_folder / "w" / "w.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"w")
    card = {"name": "w", "engine": "weighed", "file": file.name, "sha256": file_sha256(file)}
    write_json(file.with_suffix(".json"), {**card, "devices": "cuda cpu"})
    env = {**two_gpus, "PROBE_DEVICES": "cpu"}
    code, out, err = bench.opsef(project, "--json", "sweep", "plan", env=env)
    assert code == 0, err
    assert json.loads(out)["devices"] == {"weighed": "cuda"}
    code, _, err = bench.opsef(project, "sweep", "run", "--workers", "4", env=env)
    assert code == 0, err
    assert sorted(gpu for seen in seats(bench).values() for gpu in seen) == ["0", "1"]
    assert read_json(project.run().record_file)["device"] == {"weighed": ["cuda"]}


def test_devices_are_told_by_engine_in_the_order_of_use(bench, project):
    bench.configure(project.root, models={"a": {"engine": "probe"}, "b": {"engine": "watershed"}})
    assert bench.sweep(project).failed == 0
    run = project.run()
    plan = Plan.from_json(run.plan())
    assert devices_used(run, plan) == {"probe": ["cpu"], "watershed": ["cpu"]}
    file = next(run.unit_file(u.id) for u in plan.units if u.turn == "probe")
    record = read_json(file)
    write_json(file, {**record, "devices": ["cuda", "cpu"], "device": "cpu"})
    assert devices_used(run, plan)["probe"] == ["cuda", "cpu"]
    old = {key: value for key, value in record.items() if key != "devices"}
    write_json(file, old | {"device": "cuda"})  # as an earlier version wrote it
    assert devices_used(run, plan)["probe"] == ["cuda"]
