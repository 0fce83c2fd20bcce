"""``opsef train run``, ``grid``, ``status``, ``resume`` as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.running import run_opsef, wait_until

pytest.importorskip("torch")

from tests.train.training_project import dataset_project, write_train

TINY = ("batch=2", "crop=64", "width=8", "depth=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return dataset_project(tmp_path_factory.mktemp("train") / "p").root


def test_a_network_is_trained_judged_and_told_of(folder, monkeypatch, capfd):
    words = ("-p", folder, "train", "run", "--engine", "unet", "--from", "random", "--name", "mine",
             "--steps", 2, "--workers", 1, *TINY)  # fmt: skip
    code, out, err = run_opsef(monkeypatch, capfd, *words)
    assert code == 0, err
    assert "1 network to train (1 new), beside 0 as they are" in out
    assert "models promote mine" in out and "train-0001/report.html" in out
    assert (folder / "trainings" / "train-0001" / "models" / "mine.onnx").is_file()
    code, out, _ = run_opsef(monkeypatch, capfd, *words, "--json")
    told = json.loads(out)
    assert (code, told["new"], told["candidates"]) == (0, False, ["mine"])
    code, out, _ = run_opsef(monkeypatch, capfd, "-p", folder, "train", "status", "--json")
    told = json.loads(out)
    assert told["done"] == told["of"] == 5
    assert next(row for row in told["units"] if row["kind"] == "train")["steps"] == 2
    code, out, _ = run_opsef(monkeypatch, capfd, "-p", folder, "train", "resume")
    assert code == 0 and "nothing has changed" in out


def test_a_plan_is_told_and_nothing_is_done(folder, monkeypatch, capfd, tmp_path):
    project = dataset_project(tmp_path / "p")
    write_train(project, "train:\n  networks: {u: {engine: unet}}\n  start: [random, shipped]\n")
    code, out, _ = run_opsef(monkeypatch, capfd, "-p", project.root, "train", "grid", "--plan")
    assert code == 0 and "2 networks to train" in out and "beside 1 as they are" in out
    assert not project.trainings_folder.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run",), "The option --engine|--engine is missing"),
        (("run", "--engine", "unit"), "Choose one of unet"),
        (("run", "--engine", "unet", "--from", "nuclei-stardist"), "'stardist', not 'unet'"),
        (("run", "--engine", "unet", "--dataset", "d0042"), "Known: d0001"),
        (("run", "--engine", "unet", "width"), "KEY=VALUE"),
        (("run", "--engine", "unet", "widht=3"), "width"),
        (("run", "--engine", "unet", "crop=100"), "crop 100 is no multiple of"),
        (("run", "--engine", "unet", "--device", "tpu"), "'auto', 'cpu', 'cuda'"),
        (("run", "--engine", "unet", "--seed", "-1"), "--seed"),
        (("run", "--engine", "unet", "--rehearse", "all"), "goes with --corrections"),
        (("run", "--engine", "unet", "--corrections", "--rehearse", "cells"), "no group 'cells'"),
        (("grid",), "no section 'train'"),
        (("status", "train-0099"), "train-0099"),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(folder, monkeypatch, capfd, words, told):
    code, _, err = run_opsef(monkeypatch, capfd, "-p", folder, "train", *words)
    assert code == 2
    assert any(one in err for one in told.split("|")), err


def test_without_torch_the_extra_is_named(folder, monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, "opsef_bridge.train.learner", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = run_opsef(monkeypatch, capfd, "-p", folder, "train", "run", "--engine", "unet")
    assert code == 1 and "opsef_bridge[train]" in err


def test_without_tensorboard_no_training_that_asks_for_it_begins(folder, monkeypatch, capfd):
    monkeypatch.setattr("opsef_bridge.train.events.find_spec", lambda name: None)
    words = ("train", "run", "--engine", "unet", "--from", "random", "--seed", 7, "--tensorboard")
    before = list((folder / "trainings").glob("*"))
    code, _, err = run_opsef(monkeypatch, capfd, "-p", folder, *words)
    assert code == 1 and "pip install tensorboard" in err
    assert list((folder / "trainings").glob("*")) == before


def test_why_a_training_failed_is_told_once_and_again_by_status(monkeypatch, capfd, tmp_path):
    project = dataset_project(tmp_path / "p")
    next((project.dataset_folder() / "labels").glob("*.tif")).unlink()
    words = ("run", "--engine", "unet", "--from", "random", "--steps", 1, "--workers", 1, *TINY)
    told = []
    for what in (words, ("status",)):
        code, out, _ = run_opsef(monkeypatch, capfd, "-p", project.root, "train", *what)
        assert code == (1 if what == words else 0)
        told.append([line for line in out.splitlines() if " failed: " in line])
        assert "train resume train-0001" in out
    assert told[0] == told[1]
    assert len(told[0]) == 1 and told[0][0].startswith("u0001 failed: d0001 is damaged")
    code, out, _ = run_opsef(monkeypatch, capfd, "-p", project.root, "train", "status", "--json")
    assert "d0001 is damaged" in json.loads(out)["problems"]["u0001"]


def test_a_training_is_stopped_from_outside(monkeypatch, capfd, tmp_path):
    folder = dataset_project(tmp_path / "p").root
    words = ("train", "run", "--engine", "unet", "--from", "random", "--workers", 1, "--every", 2,
             "--steps", 100_000, *TINY)  # fmt: skip

    def status() -> dict:
        code, out, _ = run_opsef(monkeypatch, capfd, "-p", folder, "train", "status", "--json")
        assert code == 0
        return json.loads(out)

    def has_begun() -> bool:
        planned = (folder / "trainings" / "train-0001" / "plan.json").is_file()
        return planned and any(row["step"] for row in status()["units"])

    command = [sys.executable, "-m", "opsef_bridge", "-p", folder, *words]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(has_begun)
            assert status()["process"].startswith(f"process {process.pid} on ")
            code, out, _ = run_opsef(monkeypatch, capfd, "-p", folder, "train", "cancel")
            assert code == 0 and "Its process was stopped" in out
            assert process.wait(60) != 0
        finally:
            process.kill()
    _, out, _ = run_opsef(monkeypatch, capfd, "-p", folder, "train", "status")
    assert f"Nothing works on it: opsef -p {folder} train resume train-0001" in out
    assert status()["process"] is None
    _, out, _ = run_opsef(monkeypatch, capfd, "-p", folder, "train", "cancel", "--json")
    assert json.loads(out) == {"training": "train-0001", "stopped": False, "jobs": 0}


def test_a_disk_that_cannot_be_written_is_named(monkeypatch, capfd, tmp_path):
    project = dataset_project(tmp_path / "p")
    project.trainings_folder.write_text("in the way")
    words = ("run", "--engine", "unet", "--from", "random", "--steps", 1, *TINY)
    code, _, err = run_opsef(monkeypatch, capfd, "-p", project.root, "train", *words)
    assert code == 2 and "trainings" in err and "allow writing" in err
