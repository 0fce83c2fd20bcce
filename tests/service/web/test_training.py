"""Training from corrections over HTTP and by the inbox: facts, jobs, use of the candidate."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from opsef_bridge.engines import list_weights
from opsef_bridge.files import write_json
from opsef_bridge.project import Project
from opsef_bridge.service import inbox, trained
from opsef_bridge.service.requests import job_of
from opsef_bridge.train.dataset import read_card
from tests.train.corrected_project import make_corrected

pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("onnx")

TINY = {"start": "nuclei-unet", "steps": 2, "every": 2, "device": "cpu", "workers": 1,
        "rehearse": "none", "settings": {"batch": 1, "crop": 64}}  # fmt: skip
"""A training of seconds."""


@pytest.fixture(scope="module")
def corrected(tmp_path_factory) -> Path:
    return make_corrected(tmp_path_factory.mktemp("corrected") / "cells").root


@pytest.fixture
def cells(site, corrected) -> Project:
    """The project ``cells`` of the service, for a test to change."""
    return Project(shutil.copytree(corrected, site.root / "cells"))


def ask(site, path: str, **body):
    return site.ask("POST", f"/projects/cells/{path}", json=body)


def done(site, project: Project, path: str, **body) -> dict:
    """Ask for a job, have it done here, and return what became of it."""
    answer = ask(site, path, **body)
    assert answer.status_code == 202, answer.text
    inbox.run(project)
    return site.ask("GET", f"/projects/cells/jobs/{answer.json()['job']}").json()


def facts_of(site) -> dict:
    answer = site.ask("GET", "/projects/cells/train")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_engines_are_those_that_have_learners():
    from opsef_bridge.train.learner import learner_names

    assert tuple(learner_names()) == trained.TRAINABLE


def test_corrections_become_a_model_of_the_project(site, cells):
    wish = TINY | {"name": "mine", "settings": TINY["settings"] | {"rate": 1.0, "warm_up": 1}}
    job = done(site, cells, "train", **wish)
    assert job["state"] == "done", job
    told = job["result"]
    assert (told["candidate"], told["parent"], told["dataset"]) == ("mine", "nuclei-unet", "d0001")
    assert job["message"] == told["said"][0] and "mine" in job["message"]
    for who in ("candidate", "parent"):
        assert 0 <= told["scores"][who]["0.7"]["value"] <= 1
    assert set(told["gain"]["0.7"]) == {"value", "low", "high"}
    assert (cells.root / told["report"]).is_file()
    assert facts_of(site)["candidates"] == [
        {"name": "mine", "training": told["training"], "engine": "unet"}
    ]
    # The same request is the same training: nothing is done twice.
    again = done(site, cells, "train", **wish)
    assert again["result"]["training"] == told["training"] and len(cells.trainings()) == 1

    # Such steps make it worse: that is said, and nothing is copied.
    job = done(site, cells, "promote", name="mine")
    assert job["state"] == "failed"
    assert "mine is worse than its parent" in job["error"]["message"]
    assert "nuclei-unet" in job["error"]["message"]
    assert not cells.models_folder.is_dir() or not list(cells.models_folder.rglob("mine*"))
    job = done(site, cells, "promote", name="mine", to="mine-2", force=True)
    assert job["state"] == "done", job
    assert job["result"]["name"] == "mine-2" and job["result"]["parent"] == "nuclei-unet"
    assert "nuclei-unet" in job["result"]["said"][1]
    assert "mine-2: {engine: unet, weights: mine-2}" in job["result"]["said"][2]
    assert [one.name for one in list_weights([cells.models_folder])].count("mine-2") == 1
    assert "mine-2" in {one["name"] for one in facts_of(site)["weights"]}
    answer = ask(site, "train", **TINY, name="mine-2")
    assert answer.status_code == 422 and "'mine-2' already" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "more, kinds",
    [
        ({"rehearse": "none"}, {"default"}),
        ({}, {"default", "bundled-small", "bundled-large", "bundled-u2os"}),
        ({"start": "random", "engine": "unet"}, {"default"}),
    ],
)
def test_what_is_learned_from_besides(site, cells, more, kinds):
    """By default the bundled images of fluorescence, where something can be forgotten."""
    wish = {name: value for name, value in TINY.items() if name != "rehearse"} | more
    # What is refused after the dataset is made: nothing is trained here.
    job = done(site, cells, "train", **wish, augmentation="magic")
    assert job["state"] == "failed" and "'magic'" in job["error"]["message"], job
    [name] = cells.datasets()
    samples = read_card(cells.dataset_folder(name))["samples"]
    assert {one["kind"] for one in samples} == kinds
    assert sum(one["source"] == "truth" for one in samples) == 4


def test_what_there_is_to_learn_from(site, cells):
    told = facts_of(site)
    assert (told["able"], told["vouched"], told["newest"], told["least"]) == (True, 4, 5, 3)
    assert told["start"] == "nuclei-unet" and told["candidates"] == []
    assert {"name": "nuclei-stardist", "engine": "stardist"} in told["weights"]
    write_json(cells.adopted_file, {"": {"id": "v0001", "weights": "nuclei-stardist"}})
    assert facts_of(site)["start"] == "nuclei-stardist"
    # Weights that cannot be trained do not count.
    write_json(cells.adopted_file, {"": {"id": "v0001", "weights": ""}})
    assert facts_of(site)["start"] == "nuclei-unet"


@pytest.mark.parametrize(
    "body, why",
    [
        ({}, "name an engine"),
        ({"start": "nuclei-unet", "minutes": 0}, "minutes"),
        ({"start": "nuclei-unet", "minutes": 1, "steps": 5}, "one of minutes, steps"),
        ({"start": "nuclei-unet", "val": 0.5, "test": 0.5}, "nothing to learn from"),
        ({"start": "nuclei-unet", "cycles": {"steps": 1}}, "cycles"),
        ({"start": "../nuclei-unet.onnx"}, "start"),
        ({"start": "opsef.yaml"}, "no weights 'opsef.yaml'"),
        ({"start": "nothing"}, "no weights 'nothing'"),
        ({"start": "nuclei-unet", "engine": "stardist"}, "is of unet"),
        ({"engine": "watershed"}, "engine"),
        ({"start": "nuclei-unet", "name": "a b"}, "name"),
        ({"start": "nuclei-unet", "name": "nul"}, "'nul'"),
        ({"start": "nuclei-unet", "rehearse": "../data"}, "rehearse"),
        ({"start": "nuclei-unet", "rehearse": True}, "rehearse"),
    ],
)
def test_what_cannot_begin_is_refused_at_once(site, cells, body, why):
    answer = ask(site, "train", **body)
    assert answer.status_code == 422, answer.text
    assert why in answer.json()["error"]["message"]
    assert site.ask("GET", "/projects/cells/jobs").json()["jobs"] == []


def test_without_torch_it_says_whom_to_ask(site, cells, monkeypatch):
    monkeypatch.setattr(trained, "_has_torch", lambda: False)
    assert facts_of(site)["able"] is False
    error = ask(site, "train", **TINY).json()["error"]
    assert "torch is not installed" in error["message"] and "pip install" in error["hint"]


@pytest.mark.parametrize("vouched, why", [(0, "nobody has vouched"), (2, "cannot be split")])
def test_too_little_is_vouched_for(site, tmp_path, vouched, why):
    project = make_corrected(site.root / "cells", 3, vouched)
    job = done(site, project, "train", **TINY)
    assert job["state"] == "failed" and why in job["error"]["message"], job
    assert project.trainings() == []


@pytest.mark.parametrize("settings", [{"depht": 2}, {"encoder_weights": "a.pt"}, {"depth": "2/3"}])
def test_settings_that_are_no_numbers_of_a_training_are_named(site, cells, settings):
    answer = site.ask("POST", "/projects/cells/train", json=TINY | {"settings": settings})
    assert answer.status_code == 422
    assert next(iter(settings)) in answer.json()["error"]["message"]


def test_settings_that_the_engine_does_not_have_are_named(site, cells):
    wish = TINY | {"engine": "cellpose", "start": "random", "settings": {"depth": 2}}
    job = done(site, cells, "train", **wish)
    assert job["state"] == "failed"
    assert "'depth'" in job["error"]["message"] and "batch" in job["error"]["hint"]


def test_a_request_that_is_sent_again_is_told_its_job(site, cells):
    body = TINY | {"name": "mine"}
    id = {"X-Opsef-Request": "q123456789"}
    first = site.ask("POST", "/projects/cells/train", json=body, headers=id)
    (cells.models_folder / "mine").mkdir(parents=True)
    second = site.ask("POST", "/projects/cells/train", json=body, headers=id)
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json() == {"job": "q123456789"}
    assert job_of(cells, "q123456789").author == "ada"
