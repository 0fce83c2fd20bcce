"""What a sweep tells the executor of its units: how long, and which can use a GPU."""

from __future__ import annotations

import pytest

from opsef_bridge.execute import group_units
from opsef_bridge.sweep import plan_sweep
from opsef_bridge.sweep.devices import turns_with_networks
from opsef_bridge.sweep.estimate import GUESSED, estimate, unit_seconds

MODELS = {
    "classic": {"engine": "watershed", "threshold": ["otsu", 0.8]},
    "probe": {"engine": "probe", "zoom": [0.0, 1.0], "threshold": [0.3, 0.6]},
}


def test_the_times_of_units_are_those_of_the_estimate(bench, make_discs):
    images = {f"{k}.tif": make_discs(k, (300, 400)) for k in range(3)}
    project = bench.project(images, models=MODELS)
    plan = plan_sweep(project)
    told = estimate(project, plan)
    found = unit_seconds(project, plan)
    assert set(found) == {unit.id for unit in plan.units if unit.makes}
    assert sum(found.values()) == pytest.approx(
        GUESSED * told["seconds"] * told["workers"], abs=0.6
    )
    bench.sweep(project)
    assert sum(unit_seconds(project, plan).values()) == 0  # all is there


def test_a_tile_takes_its_part_of_the_image(bench, make_discs):
    tiled = {"images": {"tiles": {"size": 256, "overlap": 32}}, "sweep": {"crop": "none"}}
    project = bench.project({"a.tif": make_discs(1, (600, 600))}, models=MODELS, **tiled)
    plan = plan_sweep(project)
    found = unit_seconds(project, plan)
    kinds = {unit.id: unit.kind for unit in plan.units}
    assert {kinds[unit] for unit in found} == {"tiles"}
    told = estimate(project, plan)
    assert sum(found.values()) == pytest.approx(
        GUESSED * told["seconds"] * told["workers"], rel=0.25
    )


def test_networks_can_use_a_gpu_and_classical_methods_cannot(bench):
    for device, turns in {"auto": {"probe"}, "cpu": set()}.items():
        project = bench.project(name=device, models=MODELS, sweep={"device": device})
        plan = plan_sweep(project)
        assert turns_with_networks(plan) == turns
        jobs = group_units(plan.units, gpu=lambda unit, turns=turns: unit.turn in turns)
        on_gpu = {unit for job in jobs if job.name.startswith("gpu") for unit in job.units}
        assert on_gpu == {unit.id for unit in plan.units if unit.turn in turns}
