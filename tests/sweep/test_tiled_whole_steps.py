"""A sweep in tiles by recipes that look at the whole image: the labels of the whole."""

from __future__ import annotations

import numpy as np
import tifffile

from tests.sweep.test_tiled import CLASSIC, assert_same

RECIPES = {
    "scaled": [{"normalise": {"low": 2}}, {"median": {"radius": 1}}],
    "eight": [{"bin": {}}, {"to_8bit": {}}],
    "even": [{"clahe": {"tiles": 3}}, "normalise"],
}


def uneven(make_discs, shape: tuple[int, int]) -> np.ndarray:
    """Return discs on light that falls off, so that no tile has the percentiles of the whole."""
    light = np.linspace(0.5, 1.5, shape[1]) * np.linspace(1.2, 0.8, shape[0])[:, np.newaxis]
    return (make_discs(3, shape) * 60 * light).astype(np.uint16)


def test_steps_that_look_at_the_whole_image_give_the_labels_of_the_whole(bench, make_discs):
    image = uneven(make_discs, (200, 150))
    assert_same(bench, {"a.tif": image}, models=CLASSIC, preprocess=RECIPES)


def test_the_light_of_a_reference_and_volumes(bench, make_discs):
    image = uneven(make_discs, (200, 150))
    volume = np.stack([image, image // 2 + 100, image])
    flat = (np.linspace(0.5, 1.5, 150) * np.full((200, 1), 900)).astype(np.uint16)
    recipe = [{"flat_field": {"reference": "flat.tif"}}, {"normalise": {"per_plane": True}}]
    for name in ("whole", "tiled"):
        (bench.folder / name).mkdir()
        tifffile.imwrite(bench.folder / name / "flat.tif", flat)
    assert_same(
        bench, {"a.tif": volume}, models=CLASSIC, preprocess={"lit": recipe},
        images={"axes": "ZYX", "projection": "max"},
    )  # fmt: skip
