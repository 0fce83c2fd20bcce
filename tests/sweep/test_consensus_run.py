"""The consensus of a sweep: one more variant, made of the others, without a voice."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from opsef_bridge import cli
from opsef_bridge.cli.common import Context
from opsef_bridge.compare import agreement, support
from opsef_bridge.compare.votes import SILENT
from opsef_bridge.errors import ConfigError, InputError, NotFoundError
from opsef_bridge.files import read_json
from opsef_bridge.measure import match
from opsef_bridge.project import Project, read_csv
from opsef_bridge.sweep import Plan, adopt, resume_run, status
from opsef_bridge.sweep.consensus import consensus, plan_consensus
from tests.small_projects import Here

MODELS = {
    "probe": {"engine": "probe", "threshold": [0.3, 0.4, 0.5, 0.6]},
    "classic": {
        "engine": "watershed",
        "threshold": ["otsu", 0.5, 0.8, 1.2],
        "min_distance": [3, 8],
    },
}
LITTLE = {"compare": {"top": 16, "rois": 16}}
SWEPT: dict[str, Path] = {}
"""Projects after their sweep; tests get copies."""


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return blurred discs, some dim and some bright, and their labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((84, 104))
    truth = np.zeros(rows.shape, np.int32)
    image = np.full(rows.shape, 10.0)
    for number, (y, x) in enumerate(np.ndindex(4, 5), start=1):
        centre = np.array([y, x]) * 20 + 12 + rng.integers(-1, 2, 2)
        disc = np.hypot(rows - centre[0], columns - centre[1]) < 7.5
        truth[disc] = number
        image[disc] = rng.integers(120, 220)
    return ndimage.gaussian_filter(image, 1.5).astype(np.uint8), truth


@pytest.fixture
def swept(bench):
    """A project after its sweep."""

    def make(models=MODELS, blank=False, **sections):
        key = json.dumps([models, blank, sections])
        if key not in SWEPT:
            files = {f"{k}.tif": scene(k)[0] for k in range(2)}
            if blank:
                files["blank.tif"] = np.full((84, 104), 10, np.uint8)
            project = bench.project(files, name="template", models=models, **LITTLE, **sections)
            bench.sweep(project)
            SWEPT[key] = project.root
        return Project(shutil.copytree(SWEPT[key], bench.folder / "project"))

    return make


def rows_of(project, run):
    return {row["id"]: row for row in read_csv(project.run(run).variants_file)}


def mine(project, run):
    """The variant that is the consensus."""
    (one,) = [v for v in Plan.from_json(project.run(run).plan()).variants if v.engine == SILENT]
    return one


def test_it_is_one_more_variant_and_finds_the_objects(swept):
    project = swept()
    result = consensus(project, executor=Here())
    run, new = project.run(result.run), mine(project, result.run)
    assert (result.exit_code, result.passes, new.id) == (0, 0, "v0013")
    rows = rows_of(project, result.run)
    assert len(rows) == 13 and rows[new.id]["family"] == "consensus"
    assert (rows[new.id]["status"], rows[new.id]["recipe"]) == ("ok", "-")
    assert json.loads(rows[new.id]["parameters"]) == {"supported": 0.5, "overlap": 0.25}
    for seed, image in enumerate(project.images()):
        truth = scene(seed)[1]
        f1 = {v: match(truth, project.labels(result.run, v, image.id))["f1"][0] for v in rows}
        assert f1[new.id] >= np.median([f1[v] for v in rows if v != new.id])
        assert f1[new.id] > 0.9
    assert all(run.compare_file(image.id).is_file() for image in project.images())
    assert all(run.rois_file(new.id, image.id).is_file() for image in project.images())
    page = run.report_file.read_text("utf-8")
    assert new.slug in page and "opsef consensus --supported 0.5 --overlap 0.25" in page


def test_what_the_ranking_says_of_the_others_stays(swept):
    project = swept()
    before = rows_of(project, "run-0001")
    told = read_json(project.run("run-0001").root / "ranking.json")["groups"]["default"]
    result = consensus(project, executor=Here())
    after = rows_of(project, result.run)
    figures = ("agreement", "agreement_07", "plain_mean", "plain_mean_07", "score", "objects")
    for variant, row in before.items():
        assert {f: after[variant][f] for f in figures} == {f: row[f] for f in figures}
    now = read_json(project.run(result.run).root / "ranking.json")["groups"]["default"]
    assert [now[name] for name in ("families", "sizes", "method")] == [
        told[name] for name in ("families", "sizes", "method")
    ]
    assert any("2 families" in sentence for sentence in now["words"])


@pytest.mark.parametrize(
    "families", [["a", "b", "c"] * 4, ["a"] * 12, ["a", "b", "c"]], ids=["three", "one", "plain"]
)
def test_the_silent_change_no_figure(families):
    """Also clones of a variant, one that has found most, and in every method."""
    rng = np.random.default_rng(3)
    truth = scene(0)[1]
    labels = []
    for _ in families:
        kept = rng.random(21) < 0.7
        labels.append(np.where(kept[truth], np.roll(truth, rng.integers(-2, 3), axis=1), 0))
    columns = ["agreement", "agreement_07", "plain_mean", "plain_mean_07", "families", "method"]
    alone = agreement([labels], families)[columns]
    for more in ([truth], [labels[0]], [truth, labels[1], np.zeros_like(truth)]):
        together = agreement([[*labels, *more]], [*families, *[SILENT] * len(more)])
        assert together[columns][: len(labels)].equals(alone)
        assert together["agreement"].between(0, 1).all()
        assert together["agreement"][len(labels)] > 0
    q = support(labels, families)
    with_it = support([*labels, truth], [*families, SILENT])
    assert all(a.equals(b) for a, b in zip(q, with_it[:-1], strict=True))
    assert len(with_it[-1]) == 20 and (with_it[-1]["q"] > 0).all()


def test_the_same_call_does_nothing_and_other_values_are_another_run(swept):
    project = swept()
    first = consensus(project, executor=Here())
    files = {p: p.stat().st_mtime_ns for p in project.run(first.run).root.rglob("*")}
    assert consensus(project, executor=Here()).run == first.run
    assert {p: p.stat().st_mtime_ns for p in project.run(first.run).root.rglob("*")} == files
    strict = consensus(project, supported=1, executor=Here())
    assert strict.run != first.run
    assert rows_of(project, strict.run)[mine(project, strict.run).id]["status"] == "empty"
    assert consensus(project, run="run-0001", executor=Here()).run == first.run


def test_it_goes_on_where_it_was_stopped(swept):
    project = swept()

    class Stopped(Here):
        def run(self, project, run, plan):
            kinds = [unit.kind for unit in plan.units]
            super().run(project, run, _cut(plan, kinds.index("consensus")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consensus(project, executor=Stopped())
    run = project.run()
    assert status(run).open and not run.variants_file.is_file()
    result = consensus(project, executor=Here())
    assert (result.run, result.open, result.exit_code) == (run.id, 0, 0)
    assert run.variants_file.is_file()


def _cut(plan, count):
    return Plan(plan.key, plan.purpose, plan.config, plan.images, plan.variants, plan.units[:count])


def test_an_image_without_labels_fails_alone_and_an_empty_one_is_empty(swept):
    project = swept(blank=True)
    bad = project.images()[0]
    project.source_file(bad).write_bytes(b"no image")
    for file in (project.root / "runs").rglob(f"labels/*/{bad.id}.tif"):
        file.unlink()  # what is to be taken over is gone, and cannot be made again
    result = consensus(project, executor=Here())
    new = mine(project, result.run).id
    of = {o["image"]: o for o in project.run(result.run).outcomes() if o["variant"] == new}
    assert (of[bad.id]["status"], of[bad.id]["code"]) == ("failed", "no-labels")
    assert "resume" in of[bad.id]["hint"]
    states = {e.source: of[e.id]["status"] for e in project.images() if e.id != bad.id}
    assert states == {"data/1.tif": "ok", "data/blank.tif": "empty"}
    assert result.exit_code == 1
    # What comes back in a retry takes part in the consensus.
    shutil.copy(SWEPT[json.dumps([MODELS, True, {}])] / "data/0.tif", project.source_file(bad))
    again = resume_run(project, project.run(result.run), Here())
    assert again.failed == 0
    of = {o["image"]: o for o in project.run(result.run).outcomes() if o["variant"] == new}
    assert of[bad.id]["status"] == "ok" and len(of) == 3


def test_it_cannot_be_adopted_nor_built_upon(swept):
    project = swept()
    result = consensus(project, executor=Here())
    new = mine(project, result.run).id
    with pytest.raises(InputError, match="is a consensus") as refused:
        adopt(project, new, run=result.run)
    assert "rois export" in refused.value.hint
    assert project.adopted() == {}
    assert adopt(project, "v0002", run=result.run)["default"]["id"] == "v0002"
    with pytest.raises(ConfigError, match="purpose consensus"):
        consensus(project, run=result.run)
    assert adopt(project, "v0001")["default"]["run"] == "run-0001"  # the newest sweep is that


@pytest.mark.parametrize("values", [{"supported": 1.1}, {"overlap": -0.1}, {"overlap": np.nan}])
def test_shares_are_checked(swept, values):
    project = swept()
    with pytest.raises(InputError, match=next(iter(values))):
        consensus(project, **values)
    assert project.runs() == ["run-0001"]


def test_what_has_no_consensus_is_said(bench, swept):
    with pytest.raises(NotFoundError, match="no sweep yet"):
        consensus(bench.project(name="new"))
    single = swept(models={"classic": {"engine": "watershed"}})
    with pytest.raises(ConfigError, match="single variant"):
        consensus(single)
    value = single.run().plan()
    value["variants"] = [{**value["variants"][0], "id": f"v000{k}"} for k in (1, 2)]
    value["images"][0] |= {"tiles": [1024, 64, 5000, 5000]}
    single.run().write_plan(value)
    with pytest.raises(ConfigError, match="5000 x 5000 pixels is too large"):
        plan_consensus(single.run())


def test_the_command_says_what_it_made(swept, monkeypatch, capfd):
    project = swept()
    first = consensus(project, executor=Here())  # so that no worker starts below

    def opsef(*words):
        monkeypatch.setattr(sys, "argv", ["opsef", "-p", str(project.root), *words])
        monkeypatch.setattr(Context, "folder", Path("."))
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    code, out, err = opsef("consensus")
    assert code == 0, err
    assert "v0013 of " + first.run in out and "not the answer" in out
    code, out, err = opsef("consensus", "--json")
    facts = json.loads(out)
    assert (code, facts["run"], facts["consensus"][0]["id"]) == (0, first.run, "v0013")
    code, out, err = opsef("consensus", "--supported", "2")
    assert code == 2 and "supported is 2" in err
    code, out, err = opsef("adopt", "v0013", "--run", first.run)
    assert code == 2 and "is a consensus" in err
