"""`opsef compare`, and the question before much disk is taken."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import tifffile

from opsef_bridge.cli import sweeps
from opsef_bridge.files import read_json
from opsef_bridge.project import Project, read_csv
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, run_plan
from opsef_bridge.sweep.estimate import disk_bytes, estimate
from tests.running import run_opsef
from tests.small_projects import CONFIG, Here, discs, swept


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("made"), {"a.tif": discs(1), "b.tif": discs(2)})


@pytest.fixture
def project(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture
def opsef(monkeypatch, capfd, project):
    return lambda *words: run_opsef(monkeypatch, capfd, "-p", project.root, *words)


@pytest.fixture
def answering(monkeypatch):
    """Return how to put a terminal with an answer in place of stdin."""
    opened = []

    def answer(text: str) -> None:
        master, slave = os.openpty()
        stdin = os.fdopen(slave)
        opened.extend((stdin, master))
        os.write(master, text.encode())
        monkeypatch.setattr("sys.stdin", stdin)

    yield answer
    for one in opened:
        one.close() if hasattr(one, "close") else os.close(one)


def test_stacks_are_written_again_and_named(opsef, project):
    code, out, _ = opsef("compare", "run-0001", "--top", "1", "--image", "i00002", "--json")
    told = json.loads(out)
    assert code == 0 and list(told["files"]) == [project.images()[1].id]
    assert told["run"] == "run-0001" and told["in_line"] == [] and told["report"] is None
    with tifffile.TiffFile(told["files"][project.images()[1].id]) as tiff:
        assert tiff.imagej_metadata["channels"] == 4
        assert tiff.imagej_metadata.get("frames", 1) == 1
    code, out, _ = opsef("compare")
    assert code == 0 and "stacks and report show the order of the ranking by now" in out
    for entry in project.images():
        assert str(project.run().compare_file(entry.id)) in out


def test_variants_crop_values_and_montage(opsef, project, tmp_path):
    code, out, err = opsef(
        "compare", "--variants", "v0002, v0001", "--crop", "8,10,32,40", "--dtype", "source",
        "--channels", "all", "--to", tmp_path / "stacks",
    )  # fmt: skip
    assert code == 0, err
    for entry in project.images():
        with tifffile.TiffFile(tmp_path / "stacks" / f"{entry.id}.tif") as tiff:
            assert tiff.series[0].shape == (2, 4, 32, 40)
            assert "v0002" in tiff.imagej_metadata["Labels"][0]
            source = tifffile.imread(project.source_file(entry))[8:40, 10:50]
            assert (tiff.asarray()[0, 0] == source).all()
    code, out, err = opsef("compare", "--montage", "--image", "i00001")
    assert code == 0 and out.strip().endswith("_montage.png"), err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run-0007"], ["run-0007", "run-0001"]),
        (["--top", "0"], ["--top", "1"]),
        (["--top", "1000"], ["--top", "999"]),
        (["--base", "green"], ["green", "raw"]),
        (["--crop", "8,10,32"], ["8,10,32", "y,x,height,width"]),
        (["--crop", "60,0,32,32"], ["60 to 92", "0 to 72"]),
        (["--variants", "v0001,v0001"], ["v0001", "twice"]),
        (["--image", "nothing"], ["nothing", "i00001"]),
        (["--dtype", "16bit"], ["16bit", "source"]),
    ],
)
def test_what_is_wrong_is_said(opsef, words, said):
    code, _, err = opsef("compare", *words)
    assert code == 2 and all(word in err for word in said), err


def test_an_image_that_cannot_be_shown_gives_exit_code_1(opsef, project):
    entry = project.images()[0]
    project.source_file(entry).unlink()
    code, out, err = opsef("compare")
    assert code == 1 and f"{entry.id} is left out" in err and entry.id not in out


def planned(project: Project, config: str = CONFIG.replace("CROP", "48")) -> Project:
    """Another sweep is asked for than was done."""
    (project.root / "opsef.yaml").write_text(config, "utf-8")
    return project


def test_much_disk_is_asked_for_and_without_a_terminal_refused(opsef, project, monkeypatch):
    planned(project)
    monkeypatch.setattr(sweeps, "ASKED_ABOVE", 1000)
    for words in (["sweep", "run"], ["sweep", "run", "--json"]):
        code, out, err = opsef(*words)
        assert code == 2 and "--yes" in err and "more than 0 MB" in err, err
    assert json.loads(out)["error"]["code"] == "bad-input"
    assert project.runs() == ["run-0001"]
    code, out, _ = opsef("sweep", "plan")
    assert code == 0 and "sweep run will ask first, or takes --yes" in out
    code, _, err = opsef("sweep", "run", "--yes", "--workers", "1")
    assert code == 0 and project.runs() == ["run-0001", "run-0002"], err
    code, _, err = opsef("sweep", "run", "--workers", "1")
    assert code == 0, f"that run was asked for already: {err}"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="Windows has no such terminals")
@pytest.mark.parametrize(("answer", "expected"), [("y\n", 0), ("n\n", 2)])
def test_a_person_answers_at_a_terminal(opsef, project, monkeypatch, answering, answer, expected):
    planned(project)
    monkeypatch.setattr(sweeps, "ASKED_ABOVE", 1000)
    answering(answer)
    code, out, err = opsef("sweep", "run", "--workers", "1")
    assert code == expected and "Go on?" in err, err
    assert len(project.runs()) == 1 + (expected == 0)
    assert ("Nothing was done" in out) == (expected == 2)


def test_a_batch_and_large_stacks_ask_too(opsef, project, monkeypatch):
    adopt(project, "v0001")
    monkeypatch.setattr(sweeps, "ASKED_ABOVE", 1000)
    code, _, err = opsef("batch")
    assert code == 2 and "--yes" in err
    code, _, err = opsef("compare")
    assert code == 2 and "--yes" in err
    assert opsef("compare", "--yes")[0] == 0
    assert opsef("compare", "--montage")[0] == 0, "a picture is small"


def test_the_bytes_that_are_foretold_are_those_that_are_written(project):
    planned(project, CONFIG.replace("CROP", "none") + "compare: {top: 1}\n")
    plan = plan_sweep(project)
    labels, stacks = disk_bytes(project, plan)
    assert labels == 0, "an earlier run has made them"
    facts = estimate(project, plan)
    assert facts["disk_bytes"] == facts["label_bytes"] + facts["stack_bytes"] == stacks
    run = project.run(run_plan(project, plan, Here()).run)
    size = sum(run.compare_file(entry.id).stat().st_size for entry in project.images())
    assert stacks == 2 * 4 * 72 * 80 and stacks < size < stacks + 15_000
    adopt(project, read_csv(run.variants_file)[0]["id"])
    plan = plan_batch(project)
    _, stacks = disk_bytes(project, plan)
    run = project.run(run_plan(project, plan, Here()).run)
    assert stacks < run.batch_file.stat().st_size < stacks + 10_000
    assert read_json(run.record_file)["result"]["failed"] == 0


def test_a_stack_that_nobody_asked_to_be_larger_stays_below_60_mb(project):
    text = CONFIG.replace("CROP", "none") + "compare: {top: 999, dtype: source, channels: all}\n"
    plan = plan_sweep(planned(project, text))
    entries = project.images()
    large = [entry.__class__(**{**vars(e), "shape": (4000, 5000)}) for e, entry in
             zip(entries, entries, strict=True)]  # fmt: skip
    project.write_images(large)
    assert disk_bytes(project, plan)[1] == 2 * 4 * 2 * 4000 * 5000, "one frame, whatever it takes"
