"""What a training asks of a cluster, what it says when a disk is full, and a batch by Snakemake."""

from __future__ import annotations

from pathlib import Path

import pytest
import tifffile

from opsef_bridge.execute import Unit, group_units, run_snakemake, snakefile
from opsef_bridge.execute import snakemake as snakemake_module
from opsef_bridge.execute.jobs import MEMORY, MOST
from opsef_bridge.execute.snakefile import MINUTES
from opsef_bridge.execute.units import _disk_error
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep import adopt, plan_batch, run_plan
from tests.execute.test_jobs import run_rule, sweep_of
from tests.train.training_project import dataset_project, write_train

GRID = """\
train:
  networks:
    u: {{engine: unet, batch: 8, crop: {crop}, bfloat16: false}}
  start: random
  steps: [{steps}]
  seed: [1, 2]
  device: {device}
"""


def planned(folder: Path, steps: int, device: str = "auto", crop: int = 256) -> list[Unit]:
    """Units of a grid of two networks, as ``plan.json`` has them."""
    pytest.importorskip("torch")
    from opsef_bridge.train.planning import plan_grid
    from opsef_bridge.train.running import open_training

    project = dataset_project(folder)
    write_train(project, GRID.format(steps=steps, device=device, crop=crop))
    return [
        Unit.from_json(unit) for unit in open_training(project, plan_grid(project)).plan()["units"]
    ]


def test_long_trainings_have_a_job_and_hours_of_their_own(tmp_path):
    units = planned(tmp_path / "p", 20_000)
    trained = [unit.id for unit in units if unit.kind == "train"]
    jobs = group_units(units, slots=100)
    own = [job for job in jobs if set(job.units) & set(trained)]
    assert [job.units for job in own] == [(unit,) for unit in trained]
    text = snakefile("p", "train-0001", jobs)
    for job in own:
        first, second, last = (run_rule(text, job.name, attempt) for attempt in (1, 2, 3))
        assert job.seconds > MOST and first["minutes"] * 60 >= 2 * job.seconds > 60 * MINUTES
        for name in ("minutes", "mem_mb"):
            assert second[name] == 2 * first[name] and last[name] == 3 * first[name]


def test_large_crops_ask_for_more_memory_than_usual_ones(tmp_path):
    pytest.importorskip("torch")
    asked = {}
    for crop in (64, 768):
        for unit in planned(tmp_path / str(crop), 4, crop=crop):
            if unit.kind == "train":
                asked[crop] = group_units([unit])[0].mem_mb
    assert asked[64] == MEMORY < asked[768]


def test_a_gpu_is_for_networks_and_only_where_one_may_be_used(tmp_path):
    wanted = {unit.kind for unit in planned(tmp_path / "p", 4) if unit.resources["gpu"]}
    assert wanted == {"train", "train-infer"}
    on_cpu = planned(tmp_path / "q", 4, "cpu")
    assert not any(unit.resources["gpu"] for unit in on_cpu)
    assert len(group_units(on_cpu, slots=2)) == 1  # a tiny grid waits for one job only


def test_without_gpus_no_job_is_kept_apart_for_one(tmp_path, monkeypatch):
    pytest.importorskip("snakemake")
    # Only the Snakefile counts; no job is started.
    monkeypatch.setattr(snakemake_module, "_run", lambda run, u, o, log, r: log.touch())
    run = Project(tmp_path).new_run()
    units = [
        Unit(unit.id, unit.kind, unit.turn, unit.needs, resources={"gpu": float(k % 2)})
        for k, unit in enumerate(sweep_of(4))
    ]
    run_snakemake(str(tmp_path), run, units, gpu=lambda unit: True)
    assert "'cpu-0001'" in run.snakefile.read_text()
    assert "gpu-0" not in run.snakefile.read_text()


@pytest.mark.parametrize(
    ("folder", "command"),
    [("trainings/train-0001", "train resume"), ("runs/run-0001", "sweep resume")],
)
def test_a_full_disk_names_the_command_that_goes_on(tmp_path, folder, command):
    (tmp_path / folder).mkdir(parents=True)
    error = _disk_error(Run(tmp_path / folder), "u0001", OSError("no space"))
    assert f"`opsef {command}` goes on" in error.hint


def test_a_batch_by_snakemake_is_the_local_one(bench, make_discs):
    pytest.importorskip("snakemake")
    results = []
    for name in ("here", "there"):
        project = bench.project(
            {f"{k}.tif": make_discs(k) for k in range(2)}, name=name,
            models={"classic": {"engine": "watershed", "threshold": ["otsu", 0.8]}},
            sweep={"images": 1},
        )  # fmt: skip
        bench.sweep(project)
        adopt(project, "v0002")
        if name == "here":
            assert run_plan(project, plan_batch(project), bench.here).exit_code == 0
        else:
            code, out, err = bench.opsef(project, "batch", "--engine", "snakemake")
            assert code == 0, out + err
        labels = {key: made.tolist() for key, made in bench.labels(project).items()}
        results.append((labels, tifffile.imread(project.run().batch_file).tolist()))
    assert results[0] == results[1]
    assert len(results[0][0]) == 2
    assert project.run().snakefile.is_file()
