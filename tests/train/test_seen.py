"""Which weights have seen the test images that they are judged on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from opsef_bridge.engines.base import Weights
from opsef_bridge.project import Project
from opsef_bridge.train.dataset import read_card
from opsef_bridge.train.dataset_make import Wish, make_dataset
from opsef_bridge.train.dataset_sources import collect
from opsef_bridge.train.dataset_split import Shares
from opsef_bridge.train.seen import remarks_of_models, seen_by, seen_remarks, seen_tests
from tests.running import run_opsef
from tests.train.corrected_project import make_corrected

HALF = Wish(shares=Shares(0.25, 0.25))


def weights(name: str, seen: list[str]) -> Weights:
    return Weights(name, "unet", Path(f"{name}.onnx"), "", {"name": name, "data": {"seen": seen}})


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """Three datasets of the same images: two splits, and the test set of the first kept."""
    made = make_corrected(tmp_path_factory.mktemp("seen") / "p", 8, 8)
    found = collect(made)
    first = make_dataset(made, found, HALF)
    assert make_dataset(made, found, replace(HALF, seed=2)).new
    assert make_dataset(made, found, replace(HALF, seed=3, test_from=first.folder)).new
    return made


def cards(project: Project) -> list[dict]:
    return [read_card(project.dataset_folder(name)) for name in project.datasets()]


def names(card: dict, *splits: str) -> set[str]:
    return {one["name"] for one in card["samples"] if one["split"] in splits}


def test_what_was_learned_from_or_chose_is_known_in_another_split(project):
    first, second, third = cards(project)
    seen = seen_by(first, names(first, "train"))
    assert len(seen) == len(names(first, "train", "val"))
    both = names(second, "test") & names(first, "train", "val")
    assert both, "the second split must differ for this test to say something"
    mine = weights("mine", seen)
    assert set(seen_tests(second, mine.card)) == both
    assert seen_tests(first, mine.card) == seen_tests(third, mine.card) == []
    [said] = seen_remarks(second, [mine, weights("other", [])])
    assert said.startswith(f"{len(both)} of {len(names(second, 'test'))} test images of d0002")
    assert "mine" in said and "--test-from" in said


def test_images_that_a_smaller_set_left_out_were_not_learned_from(project):
    first = cards(project)[0]
    [one, *_] = sorted(names(first, "train"))
    assert len(seen_by(first, [one])) == 1 + len(names(first, "val"))


def test_what_ancestors_saw_is_seen(project):
    first, second, _ = cards(project)
    parent = weights("parent", seen_by(first, names(first, "train")))
    child = weights("child", seen_by(second, names(second, "train"), parent.card))
    assert set(parent.card["data"]["seen"]) <= set(child.card["data"]["seen"])
    assert set(seen_tests(second, child.card)) == set(seen_tests(second, parent.card))


@pytest.mark.parametrize("card", [{}, {"data": None}, {"data": "somewhere"}, {"data": {}},
                                  {"data": {"seen": None}}])  # fmt: skip
def test_weights_whose_card_says_nothing(project, card):
    assert seen_tests(cards(project)[1], card) == []


def test_models_of_the_project_are_asked_when_a_dataset_is_made(project, monkeypatch, capfd):
    first, second, third = cards(project)
    folder = project.models_folder / "mine"
    folder.mkdir(parents=True)
    (folder / "mine.onnx").write_bytes(b"weights")
    told = {"name": "mine", "engine": "unet", "file": "mine.onnx", "sha256": "0" * 64,
            "data": {"seen": seen_by(first, names(first, "train"))}}  # fmt: skip
    (folder / "mine.json").write_text(json.dumps(told))
    assert [remarks_of_models(project, card) != [] for card in (first, second, third)] == [
        False, True, False,
    ]  # fmt: skip
    words = ("train", "dataset", "--val", 0.25, "--test", 0.25)
    code, _, err = run_opsef(monkeypatch, capfd, "-p", project.root, *words, "--seed", 2)
    assert code == 0 and "when mine was trained: its score there is too good" in err
    code, _, err = run_opsef(monkeypatch, capfd, "-p", project.root, *words)
    assert code == 0 and "mine" not in err
