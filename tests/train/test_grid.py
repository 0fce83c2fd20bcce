"""A grid of networks: planned, killed, gone on with, never done twice, told in tables."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.files import read_json  # noqa: E402
from opsef_bridge.images import read_labels  # noqa: E402
from opsef_bridge.project import Project, read_csv  # noqa: E402
from opsef_bridge.sweep import Executor  # noqa: E402
from opsef_bridge.train import kinds  # noqa: E402
from opsef_bridge.train.dataset import read_card  # noqa: E402
from opsef_bridge.train.judging import fields_of  # noqa: E402
from opsef_bridge.train.places import weights_of  # noqa: E402
from opsef_bridge.train.planning import plan_grid  # noqa: E402
from opsef_bridge.train.running import run_training, training_status  # noqa: E402
from tests.train.training_project import (  # noqa: E402
    carry_out,
    dataset_project,
    tables_of,
    write_train,
)

GRID = """\
train:
  networks:
    u: {engine: unet, batch: 2, crop: 64, width: 8, depth: 2, bfloat16: false}
    f: {engine: fpn2ws, batch: 1, crop: 64, bfloat16: false}
  start: [random, shipped]
  steps: 4
  every: 2
  train_images: 2
"""


SMALLER = """\
train:
  networks:
    u: {engine: unet, batch: 2, crop: 64, width: 8, depth: 2, bfloat16: false}
  start: random
  steps: [4, 5]
  every: 2
  train_images: 2
"""


FAILING = """\
train:
  networks:
    u: {engine: unet, batch: 2, crop: 64, width: 8, depth: 2, bfloat16: false}
    lost: {engine: unet, batch: 2, crop: 64, width: 8, depth: 2, bfloat16: false, rate: 1.0e+30}
  start: random
  steps: 4
  every: 2
  train_images: 2
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A grid of two engines from random and shipped weights, done in one go."""
    project = dataset_project(tmp_path_factory.mktemp("grid") / "p")
    write_train(project, GRID)
    return project, carry_out(project, plan_grid(project))


def fresh(project: Project, folder) -> Project:
    """Copy a project without its trainings."""
    shutil.copytree(project.root, folder, ignore=shutil.ignore_patterns("trainings"))
    return Project(folder)


class Stop(Exception):
    """What ends a unit in its middle, as a kill does between two reports."""


def test_every_network_is_judged_beside_what_it_started_from(done):
    run = done[1]
    rows = [row for row in read_csv(run.root / "tables" / "networks.csv")
            if row["split"] == "test" and not row["kind"]]  # fmt: skip
    assert [(row["start"], row["trained"]) for row in rows] == [
        ("", "no"), ("", "no"),
        ("random", "yes"), ("shipped", "yes"), ("random", "yes"), ("shipped", "yes"),
    ]  # fmt: skip
    assert {row["images"] for row in rows} == {"2"}
    kinds = {row["kind"] for row in read_csv(run.root / "tables" / "networks.csv")}
    assert kinds == {"", "round", "flat"}
    assert training_status(run).exit_code == 0


def test_labels_are_there_to_be_looked_at_and_give_the_counts(done):
    project, run = done
    row = next(r for r in read_csv(run.root / "tables" / "scores.csv")
               if r["network"] == "n0001" and r["threshold"] == "0.5")  # fmt: skip
    labels = read_labels(run.label_file("n0001", row["image"]))
    truth = read_labels(project.dataset_folder("d0001") / "labels" / f"{row['image']}.tif")
    assert len(np.unique(labels[labels > 0])) == int(row["tp"]) + int(row["fp"])
    assert len(np.unique(truth[truth > 0])) == int(row["tp"]) + int(row["fn"])


def test_killed_in_the_middle_it_ends_with_the_same_tables(done, tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "TOLD_EVERY", 0.0)
    project = fresh(done[0], tmp_path / "q")
    plan = plan_grid(project)

    def stop_at(text: str):
        def progress(message: str, *_: int) -> None:
            if re.search(text, message):
                raise Stop

        return progress

    for place in ("n0003 step 3 of 4", "n0006 step 1 of 4", "n0004 infers .*, 2 of"):
        with pytest.raises(Stop):
            carry_out(project, plan, stop_at(place))
    run = carry_out(project, plan)
    assert project.trainings() == ["train-0001"]
    assert tables_of(run) == tables_of(done[1])
    assert len(tables_of(run)) == 5
    for one in plan.networks:
        if one.trained:
            assert weights_of(run, one).sha256 == weights_of(done[1], one).sha256


def test_what_is_done_is_not_done_again(done):
    project, run = done
    before = {file: file.stat().st_mtime_ns for file in run.root.rglob("*") if file.is_file()}
    said = []
    carry_out(project, plan_grid(project), lambda *told: said.append(told))
    after = {file: file.stat().st_mtime_ns for file in run.root.rglob("*") if file.is_file()}
    assert {f for f in after if f.suffix != ".lock"} == {f for f in before if f.suffix != ".lock"}
    assert all(after[f] == before[f] for f in before if f.suffix != ".lock")
    assert said == []


def test_a_larger_grid_takes_over_what_is_made(done, tmp_path, monkeypatch):
    shutil.copytree(done[0].root, tmp_path / "q")
    project = Project(tmp_path / "q")
    write_train(project, SMALLER)
    monkeypatch.setattr(kinds, "TOLD_EVERY", 0.0)
    said = []
    run = carry_out(project, plan_grid(project), lambda message, *_: said.append(message))
    assert run.id == "train-0002"
    steps = {m.group(1) for text in said if (m := re.search(r"step \d+ of (\d+)", text))}
    assert steps == {"5"}
    old = next(row for row in read_csv(done[1].root / "tables" / "networks.csv")
               if row["network"] == "n0003")  # fmt: skip
    new = next(row for row in read_csv(run.root / "tables" / "networks.csv")
               if row["cycles"] == "4 steps")  # fmt: skip
    assert new | {"network": ""} == old | {"network": ""}


def test_a_network_that_is_lost_does_not_cost_the_report_of_the_others(done, tmp_path):
    shutil.copytree(done[0].root, tmp_path / "q")
    project = Project(tmp_path / "q")
    write_train(project, FAILING)
    result = run_training(project, plan_grid(project), Executor("local", 1))
    run = project.training(result.training)
    assert result.exit_code == 1 and result.done == result.of - 4
    text = run.report_file.read_text()
    assert "1 of 2 networks trained" in text
    assert re.search("n0002 lost-d0001-.{6} has no result: the loss of step", text)
    rows = read_csv(run.root / "tables" / "networks.csv")
    assert {row["network"] for row in rows} == {"n0001"}
    assert any("lost" in str(error) for error in training_status(run).problems.values())


def test_tiles_and_equal_pictures_are_of_one_field(done):
    card = read_card(done[0].dataset_folder("d0001"))
    fields = fields_of(card)
    assert len(set(fields.values())) == len(card["samples"])
    first, second, third, *_ = card["samples"]
    first["tokens"] = ["plate:1", "parent:slide"]
    second["tokens"] = ["plate:1", "pixels:00", "parent:slide"]
    third["tokens"] = ["plate:1", "pixels:00"]
    fields = fields_of(card)
    assert fields[first["name"]] == fields[second["name"]] == fields[third["name"]]
    assert len(set(fields.values())) == len(card["samples"]) - 2


def test_the_page_is_whole_and_escapes(done):
    text = done[1].report_file.read_text()
    assert text.count("<h3>") >= 5 and "data:image/png;base64," in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "Which axis matters" in text and "nuclei-unet (its start)" in text


def test_the_card_tells_where_the_weights_come_from(done):
    project, run = done
    plan = plan_grid(project)
    one = next(one for one in plan.networks if one.trained and one.weights == "nuclei-unet")
    card = weights_of(run, one).card
    assert card["parent"]["name"] == "nuclei-unet"
    assert card["data"]["dataset"] == "d0001"
    assert (
        card["data"]["dataset_key"] == read_json(project.dataset_folder() / "dataset.json")["key"]
    )
    assert card["training"]["key"] == one.key and card["training"]["steps"] == 4
    assert card["evaluations"][0]["data"]["name"] == "test of d0001"
    assert sorted(card["data"]["of_images"]) == sorted(one.images)
