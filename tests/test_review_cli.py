"""``opsef review`` as a person types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from opsef_bridge.project import Project
from opsef_bridge.sweep import adopt, plan_batch, run_plan
from tests.running import run_opsef
from tests.small_projects import Here, swept_to_judge


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    return swept_to_judge(tmp_path_factory.mktemp("review") / "Projekt ä").root


@pytest.fixture
def project(made_once, tmp_path) -> Project:
    return Project(shutil.copytree(made_once, tmp_path / "Projekt ä"))


@pytest.fixture
def opsef(monkeypatch, capfd, project):
    def run(*words: object) -> tuple[int, str, str]:
        return run_opsef(monkeypatch, capfd, "-p", project.root, *words)

    return run


def test_the_order_of_images(opsef, project):
    code, out, err = opsef("review", "--variant", "v0001")
    assert code == 0, err
    head, *rows = out.splitlines()
    assert head.split() == [
        "image", "variant", "objects", "doubtful", "missing", "doubt", "edited",
    ]  # fmt: skip
    told = json.loads(opsef("review", "--variant", "v0001", "--json")[1])
    first = told["images"][0]
    assert rows[0].split()[:3] == [first["image"], "v0001", str(first["objects"])]
    assert f"review {first['image']} --variant v0001" in out and "order only" in out
    assert {one["image"] for one in told["images"]} == {one.id for one in project.images()}


def test_the_places_of_an_image_and_its_map(opsef, project, tmp_path):
    image = project.images()[0].id
    told = json.loads(opsef("review", image, "--variant", "v0001", "--json")[1])
    assert told["work"] and sum(told["left"].values()) >= len(told["work"])
    file = tmp_path / "map.png"
    code, out, err = opsef("review", image, "--variant", "v0001", "--top", 1, "--map", file)
    assert code == 0, err
    assert file.stat().st_size and f"Wrote {file}" in out
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("#"))
    one = told["work"][0]
    assert lines[at + 1].split()[:4] == ["1", one["what"], one["variant"], str(one["label"])]
    assert f"{sum(told['left'].values()) - 1} more: --top" in out


def test_what_cannot_be_done(opsef, project, tmp_path):
    image = project.images()[0].id
    (tmp_path / "file").write_text("mine")
    wrong = {
        ("--map", tmp_path / "m.tif"): "--map needs an image",
        (image, "--map", tmp_path): "is a folder",
        (image, "--map", tmp_path / "file" / "m.tif"): "is a file",
        (image, "--group", "default"): "--group and an image",
        (image, "--run", "run-0042"): "no run 'run-0042'",
        ("i00077-x",): "i00077-x",
    }
    for words, said in wrong.items():
        code, _, err = opsef("review", *words)
        assert code == 2 and said in err and "Traceback" not in err, words
    assert (tmp_path / "file").read_text() == "mine"


def test_a_batch_names_the_sweep(opsef, project):
    adopt(project, "v0001")
    batch = run_plan(project, plan_batch(project), Here()).run
    for words in (("review",), ("review", project.images()[0].id), ("truth", "ask")):
        code, _, err = opsef(*words, "--run", batch)
        assert code == 2 and "is a batch" in err and "--run run-0001" in err
