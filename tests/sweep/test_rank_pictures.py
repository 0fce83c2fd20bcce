"""How the images look at the objects of the first variant: found with the ranking of a sweep."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from opsef_bridge.compare.appearance import appearance
from opsef_bridge.config import Config
from opsef_bridge.files import read_json
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.rank import rerank, seen_picture
from opsef_bridge.sweep.ranking import ranking_file
from tests.small_projects import discs

CLASSIC = {"classic": {"engine": "watershed", "threshold": ["otsu", 0.8]}}
KNOWN = {**CLASSIC, "unet": {"engine": "unet", "threshold": [0.4, 0.6]}}
IMAGES = {f"{seed}.tif": discs(seed) for seed in (1, 2)}


def told_of(project):
    return read_json(ranking_file(project.run()))["groups"]["default"]


def blurred(image: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(image.astype(float), 4).astype(np.uint16)


def test_ordinary_images_are_no_reason_for_a_caution(bench):
    project = bench.project(IMAGES, models=KNOWN)
    assert bench.sweep(project).failed == 0
    told = told_of(project)
    pictures = told["pictures"]
    assert pictures["judged"] and not pictures["warned"]
    assert pictures["variant"] == told["first"]
    assert list(pictures["images"]) == [entry.id for entry in project.images()]
    for entry in project.images():
        labels = project.run().labels(told["first"], entry.id)
        expected = appearance(tifffile.imread(project.source_file(entry)), labels)
        found = pictures["images"][entry.id]
        assert found["contrast"] == round(expected.contrast, 3)
        assert found["edge"] == round(expected.edge, 3)
        assert (found["objects"], found["unlike"]) == (expected.objects, [])
    assert not any("unlike" in text for text in told["words"])


def test_blurred_images_are_named_in_ranking_report_and_words(bench):
    files = {name: blurred(image) for name, image in IMAGES.items()}
    project = bench.project(files, models=KNOWN)
    assert bench.sweep(project).failed == 0
    told = told_of(project)
    assert told["pictures"]["warned"]
    assert ["edge" in one["unlike"] for one in told["pictures"]["images"].values()] == [True] * 2
    (said,) = [text for text in told["words"] if "unlike" in text]
    assert said.startswith("2 of 2 images look unlike") and told["first"] in said
    assert "look unlike what the models" in project.run().report_file.read_text("utf-8")


def test_nothing_is_said_of_models_whose_training_is_not_known(bench):
    files = {name: blurred(image) for name, image in IMAGES.items()}
    project = bench.project(files, models=CLASSIC)
    bench.sweep(project)
    told = told_of(project)
    assert not told["pictures"]["judged"] and not told["pictures"]["warned"]
    assert {len(one["unlike"]) for one in told["pictures"]["images"].values()} == {0}
    assert not any("unlike" in text for text in told["words"])


@pytest.mark.parametrize("crop", ["none", 48])
def test_the_picture_is_what_the_variant_saw_of_the_source(bench, crop):
    dark = np.stack([np.full_like(image := discs(3), 7), 2000 - image])
    project = bench.project(
        {"a.tif": dark}, models=CLASSIC, preprocess={"dark": [{"invert": {}}]},
        images={"segment": {"channel": 1}, "axes": "CYX"}, sweep={"crop": crop},
    )  # fmt: skip
    assert bench.sweep(project).failed == 0
    plan, (entry,) = Plan.from_json(project.run().plan()), project.images()
    look = told_of(project)["pictures"]["images"][entry.id]
    assert look["contrast"] > 1.8  # dark objects, which the recipe makes bright
    seen = seen_picture(project, Config(**plan.config), plan.images[0], plan.variants[0])
    y, x, height, width = plan.images[0].box or (0, 0, *image.shape)
    cut = dark[1, y : y + height, x : x + width].astype(float)
    assert seen.shape == cut.shape and np.corrcoef(seen.ravel(), -cut.ravel())[0, 1] > 0.999


def test_an_image_that_is_gone_has_no_look_and_is_ranked_all_the_same(bench):
    project = bench.project(IMAGES, models=CLASSIC)
    bench.sweep(project)
    before = told_of(project)
    assert rerank(project, project.run())["default"]["pictures"] == before["pictures"]
    first, second = project.images()
    project.source_file(first).unlink()
    assert rerank(project, project.run())["default"]["pictures"] == before["pictures"]  # kept
    shutil.rmtree(project.cache_folder)
    after = rerank(project, project.run())["default"]
    assert list(after["pictures"]["images"]) == [second.id]
    assert after["first"] == before["first"] and after["images"] == 2
