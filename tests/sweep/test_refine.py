"""Refining: better variants between those of a run, at the price of few network passes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from opsef_bridge import cli
from opsef_bridge.cli.common import Context
from opsef_bridge.errors import ConfigError, NotFoundError
from opsef_bridge.files import read_json
from opsef_bridge.measure import match
from opsef_bridge.project import Project, read_csv
from opsef_bridge.rois.answers import Answer, add_answer
from opsef_bridge.sweep import Executor, Plan, adopt, plan_batch, run_plan, status
from opsef_bridge.sweep.consensus import consensus
from opsef_bridge.sweep.refine import refine
from tests.small_projects import Here

PROBE = {"engine": "probe", "threshold": [0.44, 0.47, 0.5, 0.53, 0.56, 0.59]}
"""A family that has it about right, and votes."""

COARSE = {"engine": "watershed", "threshold": [0.2, 2.2], "min_distance": [3, 30]}
"""A ladder between whose rungs the right values lie."""


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return blurred discs of about one brightness, and their labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((84, 104))
    truth = np.zeros(rows.shape, np.int32)
    for number, (y, x) in enumerate(np.ndindex(4, 5), start=1):
        centre = np.array([y, x]) * 20 + 12 + rng.integers(-1, 2, 2)
        truth[np.hypot(rows - centre[0], columns - centre[1]) < 7.5] = number
    image = ndimage.gaussian_filter(np.where(truth > 0, 200.0, 10.0), 2.5)
    return image.clip(0, 245).astype(np.uint8), truth


SWEPT: dict[str, Path] = {}
"""Projects after their first sweep; tests get copies."""


@pytest.fixture
def coarse(bench):
    """A project after its first, coarse sweep."""

    def make(name="project", models=None, **sections):
        models = models or {"classic": COARSE, "probe": PROBE}
        key = json.dumps([models, sections])
        if key not in SWEPT:
            files = {f"{k}.tif": scene(k)[0] for k in range(2)}
            little = {"compare": {"top": 1, "rois": 0}}  # the stacks are not what is tested
            project = bench.project(files, name="template", models=models, **little, **sections)
            assert bench.sweep(project).failed == 0
            SWEPT[key] = project.root
        return Project(shutil.copytree(SWEPT[key], bench.folder / name))

    return make


def told(project, run):
    return read_json(project.run(run).root / "refine.json")


def classic(refined, project):
    """Parameters and objective of the best watershed among the trials."""
    run = project.run(refined.run)
    ids = {v.id: v for v in Plan.from_json(run.plan()).variants if v.model == "classic"}
    mine = [t for t in told(project, refined.run)["trials"] if t.get("id") in ids]
    best = max(mine, key=lambda t: t["objective"])
    return ids[best["id"]], best["objective"]


def test_a_coarse_ladder_is_refined(coarse):
    project = coarse()
    rows = read_csv(project.run().variants_file)
    refined = refine(project, trials=24, executor=Here())
    assert refined.now["objective"] >= refined.before["objective"]
    assert refined.gain == pytest.approx(refined.now["objective"] - refined.before["objective"])
    best, value = classic(refined, project)
    assert value > max(float(r["agreement"]) for r in rows if r["model"] == "classic")
    truths = [scene(k)[1] for k in range(2)]
    images = project.images()

    def f1(run, variant):
        found = [project.labels(run, variant, one.id) for one in images]
        pairs = zip(truths, found, strict=True)
        return np.mean([match(t, one, thresholds=(0.7,))["f1"][0] for t, one in pairs])

    before = max(f1("run-0001", r["id"]) for r in rows if r["model"] == "classic")
    assert f1(refined.run, best.id) > before + 0.1


def test_all_variants_are_ordinary_and_ranked_together(coarse):
    project = coarse()
    refined = refine(project, trials=10, executor=Here())
    run = project.run(refined.run)
    rows = read_csv(run.variants_file)
    assert refined.trials == 10
    assert refined.budget == Plan.from_json(project.run("run-0001").plan()).passes()
    assert len(rows) == 10 + 10 == len({row["slug"] for row in rows})
    assert run.report_file.is_file() and len(list((run.root / "compare").glob("*.tif"))) == 2
    assert status(run).passes == 0  # all is taken over
    plans = [project.run(name).plan() for name in project.runs()]
    assert [plan["purpose"] for plan in plans] == ["sweep", *["refine"] * 3]
    assert [len(plan["variants"]) for plan in plans] == [10, 8, 2, 20]
    family = {row["model"]: row["family"] for row in rows}
    assert family == {"classic": "watershed", "probe": "probe"}


def test_thresholds_cost_no_pass(coarse, bench):
    project = coarse()
    before = bench.passes()
    refined = refine(project, passes=0, trials=8, executor=Here())
    assert (refined.trials, refined.passes, refined.budget) == (8, 0, 0)
    assert bench.passes() == before


def scaled() -> dict:
    return {
        "classic": {"engine": "watershed", "scale": [0.5, 1.0], "threshold": [0.5, 1.5]},
        "probe": {"engine": "probe", "threshold": 0.5},
    }


@pytest.mark.parametrize("budget", [0, 3, 7])
def test_the_budget_is_kept(coarse, budget):
    models = {"classic": {"engine": "watershed", "scale": [0.5, 1.0], "threshold": [0.5, 1.5]}}
    project = coarse(models=models)
    refined = refine(project, passes=budget, trials=16, executor=Here())
    made = sum(status(project.run(name)).passes for name in project.runs()[1:])
    assert made == refined.passes == budget // 2 * 2  # of two images each
    assert refined.trials == 16
    plan = Plan.from_json(project.run(refined.run).plan())
    assert len({variant.scale for variant in plan.variants}) == 2 + budget // 2


def test_numbers_of_recipes_are_turned(coarse):
    project = coarse(
        models={**scaled(), "classic": {"engine": "watershed", "threshold": 1.0}},
        preprocess={"smooth": [{"gaussian": {"sigma": 2}}]},
    )
    refined = refine(project, trials=8, executor=Here())
    plan = Plan.from_json(project.run(refined.run).plan())
    recipes = {v.recipe: dict(v.steps)["gaussian"]["sigma"] for v in plan.variants}
    assert len(recipes) > 2 and recipes.pop("smooth") == 2
    for name, sigma in recipes.items():
        assert name == f"smooth-gaussian.sigma-{sigma:g}" and 1 <= sigma <= 3
    turned = next(v for v in plan.variants if v.recipe in recipes)
    adopt(project, turned.id, run=refined.run)
    assert run_plan(project, plan_batch(project), Here()).ok == 2


class Stop(Exception):
    """Somebody pulled the plug."""


class Stopping(Here):
    """Stop before the unit of that number."""

    left = 0

    def run(self, project, run, plan):
        for unit in plan.units:
            if Stopping.left == 0:
                raise Stop
            Stopping.left -= 1
            super().run(project, run, _only(plan, unit))
        return {}


def _only(plan, unit):
    return Plan(plan.key, plan.purpose, plan.config, plan.images, plan.variants, (unit,))


@pytest.mark.parametrize("units", [2, 6])
def test_a_stopped_search_goes_on_as_if_nothing_had_been(coarse, bench, units):
    calm, stopped = coarse("calm"), coarse("stopped")
    whole = refine(calm, trials=18, seed=3, executor=Here())
    Stopping.left = units
    with pytest.raises(Stop):
        refine(stopped, trials=18, seed=3, executor=Stopping())
    again = refine(stopped, trials=18, seed=3, executor=Here())
    assert told(stopped, again.run) == told(calm, whole.run)
    assert stopped.runs() == calm.runs()
    assert bench.result(stopped) == bench.result(calm)


def test_the_same_call_does_nothing_and_another_seed_asks_anew(coarse, bench):
    project = coarse(models=scaled())
    first = refine(project, trials=8, seed=1, executor=Here())
    runs, passes = project.runs(), bench.passes()
    assert refine(project, trials=8, seed=1, executor=None) == first
    assert project.runs() == runs and bench.passes() == passes
    other = refine(project, trials=8, seed=2, executor=Here())
    assert told(project, other.run)["trials"] != told(project, first.run)["trials"]


def test_a_refined_run_can_be_refined(coarse):
    project = coarse()
    first = refine(project, trials=4, executor=Here())
    second = refine(project, run=first.run, trials=4, executor=Here())
    assert second.refined == first.run
    assert len(read_csv(project.run(second.run).variants_file)) == 10 + 4 + 4


def test_answers_take_part(coarse):
    project = coarse(models=scaled(), sweep={"crop": 64})
    without = refine(project, trials=2, executor=Here())
    assert without.answers == 0
    image = project.images()[0]
    truth = scene(0)[1]
    for number in range(1, 21):
        outline = np.flatnonzero(truth == number)
        answer = Answer("nothing", "run-0001", "v0001", number, "me", outline)
        add_answer(project, image.id, answer, truth.shape)
    refined = refine(project, trials=2, executor=Here())
    assert 0 < refined.answers < 20  # those in the box
    # Whoever has these objects is wrong there.
    assert refined.before["objective"] < without.before["objective"] - 0.05


def test_bad_input_is_refused(bench, coarse):
    empty = bench.project(name="empty")
    with pytest.raises(NotFoundError, match="no sweep yet"):
        refine(empty)
    project = coarse()
    with pytest.raises(NotFoundError, match="no run 'run-0007'"):
        refine(project, run="run-0007")
    with pytest.raises(NotFoundError, match="no group 'large'"):
        refine(project, group="large")
    for numbers in ({"trials": 0}, {"passes": -1}):
        with pytest.raises(ConfigError, match="nothing to do"):
            refine(project, **numbers)
    assert project.runs() == ["run-0001"]


def test_a_consensus_or_a_batch_is_refused_and_its_source_is_named(coarse):
    project = coarse()
    made = consensus(project, executor=Here())
    strict = consensus(project, supported=1, executor=Here())
    for run in (made.run, strict.run):
        with pytest.raises(ConfigError, match=f"{run} is a consensus of the variants of run-0001"):
            refine(project, run=run, executor=Here())
        with pytest.raises(ConfigError, match="opsef sweep refine --run run-0001"):
            refine(project, run=run, executor=Here())
    adopt(project, "v0001", run="run-0001")
    batch = run_plan(project, plan_batch(project), Here())
    with pytest.raises(ConfigError, match=f"{batch.run} is a run of the purpose batch"):
        refine(project, run=batch.run, executor=Here())
    shutil.rmtree(project.run("run-0001").root)
    with pytest.raises(ConfigError, match=f"{made.run} is a consensus: it is chosen"):
        refine(project, run=made.run, executor=Here())
    assert project.runs() == [made.run, strict.run, batch.run]


def test_lost_labels_of_trials_are_made_again(coarse):
    project = coarse()
    first = refine(project, trials=2, executor=Here())
    lost = sorted((project.run("run-0002").root / "labels").glob("*/*.tif"))[0]
    lost.unlink()
    assert refine(project, trials=2, executor=Here()) == first
    assert lost.is_file()


def test_nothing_but_failed_variants(bench):
    project = bench.project(models={"p": {"engine": "probe", "fault": "raises", "threshold": 0.5}})
    assert bench.sweep(project).ok == 0
    with pytest.raises(ConfigError, match="all variants of run-0001 failed"):
        refine(project, executor=Here())


def test_nothing_to_turn(bench):
    project = bench.project(models={"p": {"engine": "probe"}})
    bench.sweep(project)
    with pytest.raises(ConfigError, match="nothing to turn"):
        refine(project, executor=Here())


def test_groups_are_refined_one_by_one(bench):
    files = {"small_1.tif": scene(1)[0], "large_1.tif": scene(2)[0]}
    models = {"classic": {"engine": "watershed", "threshold": [0.5, 1.5]}}
    groups = {"small": "small*", "large": "large*"}
    project = bench.project(files, models=models, groups=groups)
    bench.sweep(project)
    with pytest.raises(ConfigError, match="--group"):
        refine(project, executor=Here())
    refined = refine(project, group="large", trials=3, executor=Here())
    plan = Plan.from_json(project.run(refined.run).plan())
    assert [image.group for image in plan.images] == ["large"]
    assert {row["group"] for row in read_csv(project.run(refined.run).variants_file)} == {"large"}


def test_the_command_says_before_and_now(coarse, monkeypatch, capfd):
    project = coarse(models=scaled())
    first = refine(project, trials=3, passes=0, executor=Here())  # so that no worker starts below

    def opsef(*words):
        monkeypatch.setattr(sys, "argv", ["opsef", "-p", str(project.root), *words])
        monkeypatch.setattr(Context, "folder", Path("."))
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    words = ("sweep", "refine", "--trials", "3", "--passes", "0")
    code, out, err = opsef(*words)
    assert code == 0, err
    assert "Best before: " in out and "Best now: " in out and "Gain: " in out
    assert "not an accuracy" in out and "0 of 0 network passes used" in out
    assert f"adopt {first.now['id']} --run {first.run} --group default" in out
    code, out, err = opsef("--json", *words)
    facts = json.loads(out)
    assert (code, facts["trials"], facts["run"], facts["now"]) == (0, 3, first.run, first.now)
    code, out, err = opsef("sweep", "refine", "--trials", "0")
    assert code == 2 and "nothing to do" in err
    chosen = adopt(project, facts["now"]["id"], run=facts["run"])
    assert chosen["default"]["slug"] == facts["now"]["slug"]


@pytest.mark.slow
def test_workers_do_the_trials(coarse):
    project = coarse(models=scaled())
    refined = refine(project, trials=2, executor=Executor(workers=1))
    assert refined.result.ok > 0 and refined.result.exit_code == 0


def test_trials_that_fail_are_counted(coarse):
    project = coarse(models=scaled())
    for entry in project.images():
        tifffile.imwrite(project.source_file(entry), scene(7)[0])  # not what was planned
    refined = refine(project, trials=3, executor=Here())
    assert (refined.trials, refined.failed) == (3, 3)
    assert refined.gain == 0 and refined.now["slug"] == refined.before["slug"]
    assert len(read_csv(project.run(refined.run).variants_file)) == len(
        read_csv(project.run("run-0001").variants_file)
    )
