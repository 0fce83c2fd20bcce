"""`opsef evaluate`, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.measure.match import match
from tests.exchange.conftest import finished, project  # noqa: F401  (fixtures)
from tests.measure.test_match import blobs
from tests.running import run_opsef

A = "i00001-a"


@pytest.fixture
def opsef(monkeypatch, capfd, tmp_path):
    """Run `opsef` in an empty folder, in this process; return exit code, stdout, stderr."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*words: object) -> tuple[int, str, str]:
        return run_opsef(monkeypatch, capfd, *words)

    return run


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    """Truth, a good model, and one that lost half of its objects, of five images."""
    places = [tmp_path / name for name in ("truth", "good", "poor")]
    for seed in range(5):
        truth, good = blobs(seed, 1)
        for place, labels in zip(places, (truth, good, good * (good % 2)), strict=True):
            write_labels(place / f"image{seed}.tif", labels)
    return places


def test_one_model(opsef, folders):
    truth, good, _ = folders
    code, out, _ = opsef("evaluate", good, truth)
    lines = out.splitlines()
    objects = sum(len(np.unique(read_labels(file))) - 1 for file in truth.iterdir())
    assert code == 0 and lines[0] == f"{objects} objects of truth in 5 images"
    assert lines[1].split()[:5] == ["model", "IoU", "F1", "from", "to"]
    assert [line.split()[1] for line in lines[2:]] == ["0.5", "0.7", "0.9"]
    assert all(line.startswith("good") for line in lines[2:])


def test_two_models_and_their_files(opsef, folders, tmp_path):
    truth, good, poor = folders
    to = tmp_path / "out"
    code, out, _ = opsef("evaluate", good, truth, "--and", poor, "--to", to, "--thresholds", "0.5")
    assert code == 0 and f"Wrote {to / 'compare.csv'}" in out
    assert "a better" in out and sorted(p.name for p in to.iterdir())[0] == "compare.csv"
    code, out, _ = opsef("evaluate", good, truth, "--and", poor, "--json")
    told = json.loads(out, parse_constant=pytest.fail)  # NaN is no JSON
    assert told["models"] == ["good", "poor"] and told["files"] == []
    row = next(row for row in told["compare"] if row["threshold"] == 0.5)
    assert (row["a"], row["b"]) == ("good", "poor") and row["difference"] > 0
    assert 0.5 < row["a_better"] <= 1 and row["low"] <= row["difference"] <= row["high"]
    first = told["evaluation"][0]
    labels = [read_labels(place / "image0.tif") for place in (truth, good)]
    assert (first["model"], first["image"]) == ("good", "image0")
    assert first["tp"] == match(*labels).tp.item() > 0
    assert {row["from_px"] for row in told["strata"]} <= {1, 2, 4, 8}


def test_single_files_have_no_interval(opsef, folders):
    truth, good, _ = folders
    files = good / "image1.tif", truth / "image1.tif"
    code, out, _ = opsef("evaluate", *files)
    assert code == 0 and out.splitlines()[2].split()[3:5] == ["-", "-"]
    told = json.loads(opsef("evaluate", *files, "--json")[1], parse_constant=pytest.fail)
    assert told["pooled"][0]["f1_low"] is None


def test_planes_of_a_stack(opsef, tmp_path):
    for name, side in (("truth", 0), ("pred", 1)):
        write_labels(tmp_path / f"{name}.tif", np.stack([blobs(n, 1)[side] for n in range(3)]))
    files = tmp_path / "pred.tif", tmp_path / "truth.tif"
    assert "in 1 image\n" in opsef("evaluate", *files)[1]
    assert "in 3 images" in opsef("evaluate", *files, "--planes")[1]


def test_a_variant_against_what_is_vouched_for(opsef, project):  # noqa: F811
    p = ("-p", project.root)
    code, _, err = opsef(*p, "evaluate", "v0001", "truth")
    assert code == 2 and "nobody has vouched" in err and "opsef truth add" in err
    _, out, _ = opsef(*p, "rois", "export", "v0001", "--image", A)
    assert opsef(*p, "rois", "import", out.strip(), "--truth", "whole")[0] == 0
    code, out, _ = opsef(*p, "evaluate", "v0001", "truth", "--and", "v0002", "--run", "run-0001")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert next(row for row in rows if row[0] == "v0001")[2] == "1.000"
    assert any(row[0] == "v0002" for row in rows)


def test_what_is_wrong_is_said_with_the_way_out(opsef, folders, tmp_path):
    truth, good, _ = folders
    (tmp_path / "empty").mkdir()
    for words, said, way in (
        (("gone", truth), "no file or folder gone", "-p PROJECT"),
        ((tmp_path / "empty", truth), "no label image in", "TIFF"),
        ((good, truth, "--thresholds", "x"), "no IoU thresholds", "0.5,0.75"),
        ((good, truth, "--thresholds", "0.5,2"), "threshold 2.0 is outside", "0.5"),
        ((good / "image1.tif", tmp_path / "empty"), "no label image in", "PNG"),
    ):
        code, out, err = opsef("evaluate", *words)
        assert code == 2 and said in err and way in err and out == ""
    code, out, _ = opsef("evaluate", "gone", truth, "--json")
    assert code == 2 and json.loads(out)["error"]["code"] == "not-found"


def test_the_place_for_tables_is_no_file(opsef, folders, tmp_path):
    truth, good, _ = folders
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "folder"):
        code, out, err = opsef("evaluate", good, truth, "--to", place)
        assert (code, out) == (2, "") and f"{file} is a file. Name a folder" in err
    assert file.read_text() == "mine"
