"""``opsef truth ask`` and ``answer`` as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from opsef_bridge.project import Project, read_csv
from opsef_bridge.rois import write_roi_set
from opsef_bridge.rois.answers import read_answers
from tests.running import run_opsef
from tests.small_projects import swept_to_judge


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    return swept_to_judge(tmp_path_factory.mktemp("truth") / "Projekt ä").root


@pytest.fixture
def project(made_once, tmp_path) -> Project:
    return Project(shutil.copytree(made_once, tmp_path / "Projekt ä"))


@pytest.fixture
def opsef(monkeypatch, capfd, project):
    """Run `opsef -p PROJECT` in this process; return exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        return run_opsef(monkeypatch, capfd, "-p", project.root, *words)

    return run


def asked(opsef, *words) -> list[dict]:
    code, out, err = opsef("truth", "ask", *words, "--json")
    assert code == 0, err
    return json.loads(out)["questions"]


def test_questions_as_a_table(opsef):
    found = asked(opsef, "--count", "3")
    code, out, _ = opsef("truth", "ask", "--count", 3)
    assert code == 0
    head, *rows = out.splitlines()
    assert head.split() == ["image", "variant", "label", "y", "x", "have", "it"]
    for row, one in zip(rows, found, strict=False):
        y, x, height, width = one["box"]
        told = [one["image"], one["variant"], one["label"], y + height // 2, x + width // 2]
        assert row.split() == [*map(str, told), f"{100 * one['share']:.0f}", "%"]
    one = found[0]
    assert f"truth answer {one['image']} {one['variant']} {one['label']} right" in out


def test_answers_are_kept_and_the_ranking_follows(opsef, project):
    one, two = asked(opsef, "--count", "2")
    before = project.run().variants_file.read_text()
    place = (one["image"], one["variant"], one["label"])
    code, out, _ = opsef("truth", "answer", *place, "right", "--author", "ada")
    assert code == 0 and ": right; 1 answer so far" in out
    first = read_csv(project.run().variants_file)[0]["id"]
    assert f"First now: {first}" in out and project.run().variants_file.read_text() != before
    other = (two["image"], two["variant"], two["label"])
    code, out, _ = opsef("truth", "answer", *other, "nothing", "--author", "bob")
    assert code == 0 and "2 answers so far" in out
    code, out, _ = opsef("truth", "answer", *place, "nothing", "--own", "--json")
    told = json.loads(out)
    assert (told["replaced"], told["answers"], told["asked"]) == (1, 2, False)
    later = asked(opsef, "--count", "9")
    assert not {place, other} & {(q["image"], q["variant"], q["label"]) for q in later}
    code, out, _ = opsef("truth", "list")
    assert code == 0 and "nothing" in out and "bob" in out
    rows = {row["image"]: row for row in json.loads(opsef("truth", "list", "--json")[1])}
    assert sum(row["answers"]["nothing"] for row in rows.values()) == 2
    assert rows[one["image"]]["claims"] == []


def test_what_is_drawn_comes_from_a_roi(opsef, project, tmp_path):
    (one,) = asked(opsef, "--count", "1")
    shape = tifffile.imread(project.root / "data" / "a.tif").shape
    labels = np.zeros(shape, np.int32)
    y, x, height, width = one["box"]
    labels[y : y + height, x : x + width] = 1
    write_roi_set(tmp_path / "drawn.zip", labels)
    place = (one["image"], one["variant"], one["label"])
    code, _, err = opsef("truth", "answer", *place, "drawn")
    assert code == 2 and "nothing is drawn" in err
    code, _, err = opsef("truth", "answer", *place, "drawn", "--roi", tmp_path / "none.zip")
    assert code == 2 and not project.answers_file(one["image"]).exists()
    code, _, err = opsef("truth", "answer", *place, "drawn", "--roi", tmp_path / "drawn.zip")
    assert code == 0, err
    kept = read_answers(project, one["image"])[1][0]
    np.testing.assert_array_equal(kept.drawn, np.flatnonzero(labels))


def test_pictures(opsef, tmp_path):
    code, out, _ = opsef("truth", "ask", "--count", 2, "--pictures", tmp_path / "p", "--json")
    assert code == 0
    files = json.loads(out)["pictures"]
    assert [Path(file).name[:3] for file in files] == ["01-", "02-"]
    for file in files:
        size = PIL.Image.open(file).size
        assert min(size) >= 4 * 64 and size <= (4 * 80, 4 * 72)


def test_nothing_left_to_ask(opsef, project):
    for entry in project.images():
        code, _, err = opsef("rois", "export", "v0001", "--image", entry.id, "--to", project.root)
        assert code == 0, err
        file = project.root / f"{entry.id}_ROIs.zip"
        code, _, err = opsef("rois", "import", file, "--image", entry.id, "--truth", "whole")
        assert code == 0, err
    code, out, _ = opsef("truth", "ask")
    assert code == 0 and "Nothing to ask" in out
    assert asked(opsef) == []


def test_answers_without_an_image_are_not_forgotten(opsef, project):
    (one,) = asked(opsef, "--count", "1")
    assert opsef("truth", "answer", one["image"], one["variant"], one["label"], "right")[0] == 0
    code, _, err = opsef("rois", "log")
    assert code == 0 and "belongs to no image" not in err
    text = project.index_file.read_text()
    project.index_file.write_text(text.replace(one["image"], "i00009-renamed"))
    code, _, err = opsef("rois", "log")
    assert code == 0 and f"truth/{one['image']}.answers.json belongs to no image" in err


def test_a_claim_moves_the_ranking(opsef, project):
    image = project.images()[0].id
    opsef("rois", "export", "v0001", "--image", image, "--to", project.root)
    file = project.root / f"{image}_ROIs.zip"
    assert opsef("rois", "import", file, "--image", image, "--base", "none")[0] == 0
    before = {row["id"]: row["score"] for row in read_csv(project.run().variants_file)}
    assert opsef("truth", "add", image, "whole", "--author", "ada")[0] == 0
    after = {row["id"]: row["score"] for row in read_csv(project.run().variants_file)}
    assert after != before and float(after["v0001"]) > float(before["v0001"])


def test_what_cannot_be_asked_or_answered(opsef, project):
    assert opsef("truth", "ask", "--count", 0)[0] == 2
    code, _, err = opsef("truth", "ask", "--run", "run-0009")
    assert code == 2 and "run-0009" in err
    code, _, err = opsef("truth", "ask", "--group", "x")
    assert code == 2 and "default" in err
    image = project.images()[0].id
    for words in (("v0001", 1, "perhaps"), ("v0001", 9999, "right"), ("v0099", 1, "right")):
        assert opsef("truth", "answer", image, *words)[0] == 2
    assert not project.answers_file(image).exists()


def test_pictures_are_no_file(opsef, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "folder"):
        code, out, err = opsef("truth", "ask", "--pictures", place)
        assert (code, out) == (2, "") and f"{file} is a file. Name a folder" in err
    assert file.read_text() == "mine"
