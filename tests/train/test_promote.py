"""A candidate is compared with its parent on the same test images before it is used."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")

from opsef_bridge.engines import list_weights, verify
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.project import Project
from opsef_bridge.train.dataset import CARD
from opsef_bridge.train.places import score_file
from opsef_bridge.train.planning import RunWish, plan_run
from opsef_bridge.train.promote import DECIDES, candidates, promote
from tests.train.training_project import TINY, carry_out, dataset_project


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with a candidate that hardly learned, of random weights."""
    project = dataset_project(tmp_path_factory.mktemp("promote"))
    wish = RunWish("unet", "d0001", "random", {"steps": 3.0}, settings=TINY, name="mine", every=3)
    run = carry_out(project, plan_run(project, wish))
    return project, run


def test_a_candidate_that_is_worse_is_refused_and_nothing_is_copied(trained):
    project, _ = trained
    with pytest.raises(InputError, match="worse than its parent") as error:
        promote(project, "mine", device="cpu")
    assert "nuclei-unet" in error.value.message
    assert "--force" in error.value.hint
    assert not list_weights_of(project)


def list_weights_of(project):
    return [w for w in list_weights([project.models_folder]) if w.name.startswith("mine")]


def test_with_force_it_is_copied_with_the_comparison_on_its_card(trained):
    project, run = trained
    done = promote(project, "mine", to="mine-2", force=True, device="cpu")
    (weights,) = list_weights_of(project)
    verify(weights)
    assert (weights.name, done.file) == ("mine-2", weights.path)
    told = weights.card["promotion"]
    assert (told["training"], told["dataset"], told["forced"]) == (run.id, "d0001", True)
    assert told["parent"]["name"] == "nuclei-unet"
    # The same figures as those that the training itself found on the test images.
    (one,) = [one for _, one in candidates(project)]
    scores = json.loads(score_file(run, one.id).read_text())
    counts = np.array(scores["splits"]["test"]["counts"])
    at = scores["thresholds"].index(DECIDES)
    tp, fp, fn = counts[:, at, :3].sum(axis=0)
    row = next(row for row in done.rows if row["threshold"] == DECIDES)
    assert row["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert row["parent_f1"] > row["f1"]
    assert str(done.images) in done.words and "nuclei-unet" in done.words


def test_what_is_not_there_is_named(trained):
    project, _ = trained
    with pytest.raises(NotFoundError, match="'yours'") as error:
        promote(project, "yours")
    assert "mine" in error.value.hint
    with pytest.raises(NotFoundError, match="train-0009"):
        promote(project, "mine", training="train-0009")


def test_another_dataset_of_the_same_name_is_refused(trained):
    project, _ = trained
    file = project.dataset_folder("d0001") / "dataset.json"
    card = file.read_text()
    try:
        told = json.loads(card)
        told["samples"] = told["samples"][:-1]
        from opsef_bridge.train.dataset import content_key

        told["key"] = content_key(told["samples"])
        file.write_text(json.dumps(told))
        with pytest.raises(InputError, match="another dataset"):
            promote(project, "mine", device="cpu")
    finally:
        file.write_text(card)


def test_the_interval_is_over_fields_not_over_their_tiles(trained, tmp_path):
    project = Project(shutil.copytree(trained[0].root, tmp_path / "tiles"))
    over_images = promote(project, "mine", to="one", force=True, device="cpu")
    assert over_images.images > 1 and over_images.rows[0]["low"] is not None
    card_file = project.dataset_folder("d0001") / CARD
    card = json.loads(card_file.read_text())
    for one in card["samples"]:
        if one["split"] == "test":
            one["tokens"].append("parent:slide")
    card_file.write_text(json.dumps(card))
    over_fields = promote(project, "mine", to="two", force=True, device="cpu")
    assert [row["f1"] for row in over_fields.rows] == [row["f1"] for row in over_images.rows]
    assert over_fields.rows[0]["low"] is None and "one field" in over_fields.words
