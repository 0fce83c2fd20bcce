"""What will fail is said before a run, image by image, and the others run."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tifffile

from opsef_bridge import cli
from opsef_bridge.cli.common import Context
from opsef_bridge.images import write_hyperstack
from opsef_bridge.project import Project, read_csv, write_csv
from opsef_bridge.sweep import plan_sweep, run_plan
from opsef_bridge.sweep.estimate import estimate
from opsef_bridge.sweep.foreseen import foreseen
from tests.small_projects import Here, discs

CONFIG = """\
opsef: 1
images: {source: [data/*]}
models: {classic: {engine: watershed}}
sweep: {crop: none}
"""


@pytest.fixture
def project(tmp_path) -> Project:
    """Two images of two channels each, imported."""
    (tmp_path / "data").mkdir()
    for seed in (1, 2):
        both = np.stack([discs(seed), discs(seed) // 2])
        tifffile.imwrite(
            tmp_path / "data" / f"{seed}.tif", both, imagej=True, metadata={"axes": "CYX"}
        )
    (tmp_path / "opsef.yaml").write_text(CONFIG, "utf-8")
    project = Project(tmp_path)
    plan_sweep(project)
    return project


def choose(project: Project, **cells: str) -> None:
    """Fill cells of the first image."""
    first, *others = read_csv(project.index_file)
    columns = list(dict.fromkeys([*first, *cells]))
    write_csv(project.index_file, [first | cells, *others], columns)


CHOICES = [
    ({"segment_channel": "0,1"}, "segment_channel of i00001-1 is '0,1'"),
    ({"segment_channel": "DAPI"}, "segment_channel of i00001-1 is 'DAPI'"),
    ({"segment_channel": "7"}, "segment_channel is 7, the image has 2"),
    ({"segment_channel": "2"}, "segment_channel is 2, the image has 2"),
    ({"crop": "y=0:900"}, "crop 'y=0:900': y=0:900 is outside of the image"),
    ({"crop": "x=80:90"}, "crop 'x=80:90': x=80:90 is outside of the image"),
]


@pytest.mark.parametrize(("cells", "words"), CHOICES)
def test_a_choice_that_does_not_fit_is_foreseen_and_costs_its_image_only(project, cells, words):
    choose(project, **cells)
    plan = plan_sweep(project)
    [sentence] = foreseen(project, plan)
    assert sentence.startswith("i00001-1 will fail: ") and words in sentence
    assert estimate(project, plan)["will_fail"] == [sentence]
    result = run_plan(project, plan, Here())
    assert (result.ok, result.failed, result.problems) == (1, 1, {})
    failed = [o["image"] for o in project.run().outcomes() if o["status"] == "failed"]
    assert failed == ["i00001-1"]


@pytest.mark.parametrize(
    "cells", [{}, {"segment_channel": "1"}, {"segment_channel": "1|0"}, {"crop": "y=0:40 x=8:80"}]
)
def test_nothing_is_foreseen_where_nothing_fails(project, cells):
    choose(project, **cells)
    plan = plan_sweep(project)
    assert foreseen(project, plan) == []
    assert run_plan(project, plan, Here()).failed == 0


def test_a_channel_for_models_that_take_colour_only(project):
    choose(project, segment_channel="0|7")
    plan = plan_sweep(project)
    [sentence] = foreseen(project, plan)
    assert "will fail where a model takes colour: segment_channel is 0|7" in sentence
    assert run_plan(project, plan, Here()).failed == 0


def test_a_damaged_file_and_a_channel_of_the_configuration(project):
    (project.root / "data" / "1.tif").write_text("no TIFF")
    tifffile.imwrite(project.root / "data" / "3.tif", discs(3))
    text = CONFIG.replace("[data/*]", "[data/*], segment: {channel: 1}")
    project.config_file.write_text(text, "utf-8")
    damaged, grey = foreseen(project, plan_sweep(project))
    assert damaged.startswith("i00001-1 will fail: ") and "cannot be read" in damaged
    assert grey.startswith("i00003-3 will fail: images.segment.channel is 1, the image has 1")


def run_opsef(project: Project, monkeypatch, capfd, *words: str) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["opsef", "-p", str(project.root), *words])
    monkeypatch.setattr(Context, "folder", Context.folder)
    with pytest.raises(SystemExit):
        cli.main()
    return capfd.readouterr()


def test_plan_and_run_say_it(project, monkeypatch, capfd):
    choose(project, segment_channel="7")
    _, told = run_opsef(project, monkeypatch, capfd, "sweep", "plan")
    sentence = "i00001-1 will fail: segment_channel is 7"
    assert sentence in told
    _, told = run_opsef(project, monkeypatch, capfd, "sweep", "run", "--workers", "1")
    assert sentence in told
    answer, _ = run_opsef(project, monkeypatch, capfd, "--json", "sweep", "plan")
    assert json.loads(answer)["will_fail"][0].startswith(sentence)


def test_the_plan_says_what_substacks_leave_over(project, monkeypatch, capfd):
    stack = np.stack([discs(3)] * 7)
    write_hyperstack(project.root / "data" / "3.tif", stack, "ZYX")
    project.config_file.write_text(CONFIG.replace("]}", "], substacks: {size: 3}}", 1), "utf-8")
    said, warned = run_opsef(project, monkeypatch, capfd, "sweep", "plan")
    assert "3.tif: 7 planes in substacks of 3: the last has 1" in said
    assert "3.tif" not in warned
    said, _ = run_opsef(project, monkeypatch, capfd, "--json", "sweep", "plan")
    assert json.loads(said)["images"]
