"""How a picture looks at the objects of a label image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import opsef_bridge
from opsef_bridge.compare.appearance import (
    Appearance,
    Pictures,
    appearance,
    learned,
)
from opsef_bridge.compare.unlike import image_figures, unlike

KNOWN = frozenset(learned()["families"])
GOOD = Appearance(2.3, 0.2, 9)
SOFT = Appearance(2.3, 0.6, 9)


def discs(radius: float = 8, side: int = 160, count: int = 4) -> np.ndarray:
    """Discs on a grid, some of which are cut by the border."""
    labels = np.zeros((side, side), np.int32)
    places = np.linspace(0, side - 20, count)
    for number, (y, x) in enumerate((y, x) for y in places for x in places):
        rows, columns = np.indices(labels.shape)
        labels[np.hypot(rows - y, columns - x) <= radius] = number + 1
    return labels


def picture(labels: np.ndarray, blur: float = 1, noise: float = 2) -> np.ndarray:
    bright = np.where(labels > 0, 200.0, 50.0)
    random = np.random.default_rng(0)
    return ndimage.gaussian_filter(bright, blur) + random.normal(0, noise, labels.shape)


LABELS = discs()
SHARP = picture(LABELS)


def test_bright_objects_with_sharp_edges_are_what_the_networks_know():
    found = appearance(SHARP, LABELS)
    assert found.unlike() == ()
    assert found.objects == 16


def test_blurred_inverted_and_unrelated_pictures_are_not():
    large = ndimage.grey_dilation(LABELS, size=5)
    assert appearance(picture(LABELS, blur=4), large).unlike() == ("edge",)
    assert "contrast" in appearance(SHARP.max() - SHARP, LABELS).unlike()
    nothing = np.random.default_rng(1).normal(100, 10, LABELS.shape)
    assert "contrast" in appearance(nothing, LABELS).unlike()
    assert abs(appearance(nothing, LABELS).contrast) < 0.5


def test_the_edge_grows_with_the_blur_and_the_contrast_falls_with_the_noise():
    edges = [appearance(picture(LABELS, blur), LABELS).edge for blur in (0.5, 1, 2, 3)]
    assert edges == sorted(edges) and edges[-1] > 1.5 * edges[0]
    contrasts = [appearance(picture(LABELS, 1, noise), LABELS).contrast for noise in (2, 20, 60)]
    assert contrasts == sorted(contrasts, reverse=True) and contrasts[-1] < 1.8


def test_the_edge_of_a_ramp_is_its_width_over_the_diameter():
    y, x = np.indices((101, 101)) - 50
    radius = np.hypot(y, x)
    ramp = 100 - 10 * np.clip(radius - 15.5, 0, 10)  # 10 px wide, half of it at 20.5
    found = appearance(ramp, (radius <= 20).astype(int))
    assert found.edge == pytest.approx(10 / 40, rel=0.12)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1e4), st.floats(-1e4, 1e4), st.permutations(range(1, 17)))
def test_neither_brightness_nor_numbers_of_labels_matter(factor, offset, numbers):
    renumbered = np.array([0, *(3 * n for n in numbers)])[LABELS]
    found = appearance(factor * SHARP + offset, renumbered)
    expected = appearance(SHARP, LABELS)
    assert found.contrast == pytest.approx(expected.contrast, rel=1e-3)
    assert found.edge == pytest.approx(expected.edge, rel=1e-3)


def test_an_enlarged_picture_looks_the_same():
    zoomed = ndimage.zoom(SHARP, 3, order=1), ndimage.zoom(LABELS, 3, order=0)
    found, expected = appearance(*zoomed), appearance(SHARP, LABELS)
    assert found.contrast == pytest.approx(expected.contrast, rel=0.1)
    assert found.edge == pytest.approx(expected.edge, rel=0.25)


def test_touching_objects_have_their_edges_to_the_background_only():
    rows = np.indices(LABELS.shape)[0]
    middles = ndimage.center_of_mass(np.ones_like(LABELS), LABELS, range(LABELS.max() + 1))
    below = rows > np.array([y for y, _ in middles])[LABELS]
    halves = np.where(LABELS > 0, 2 * LABELS - below, 0)
    found = appearance(SHARP, halves)
    assert found.unlike() == () and found.objects > 20
    assert found.contrast > 2


def test_a_volume_is_looked_at_plane_by_plane():
    labels = np.stack([np.zeros_like(LABELS), LABELS, LABELS])
    pictures = np.stack([SHARP, SHARP, SHARP])
    found, flat = appearance(pictures, labels), appearance(SHARP, LABELS)
    assert (found.contrast, found.edge) == (flat.contrast, flat.edge)
    assert found.objects == 2 * flat.objects
    many = appearance(np.stack([SHARP] * 20), np.stack([LABELS] * 20))
    assert many.objects == 8 * flat.objects


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        (SHARP, np.zeros_like(LABELS)),
        (SHARP, np.ones_like(LABELS)),
        (SHARP, np.arange(LABELS.size).reshape(LABELS.shape)),
        (np.zeros((3, 8, 8)), np.zeros((3, 8, 8), int)),
        (np.zeros((0, 5)), np.zeros((0, 5), int)),
    ],
)
def test_without_an_object_and_something_around_it_there_is_nothing_to_say(image, labels):
    assert appearance(image, labels) is None


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf])
def test_an_empty_picture_looks_like_nothing_known(value):
    found = appearance(np.full(LABELS.shape, float(value)), LABELS)
    assert (found.contrast, found.edge) == (0, 1)
    assert found.unlike() == ("contrast", "edge")


def test_whole_numbers_do_not_wrap():
    dark = (255 - SHARP).clip(0, 255).astype(np.uint8)
    assert appearance(dark, LABELS).contrast < -1.5


def test_a_caution_is_due_from_a_third_of_the_images_on():
    looks = {f"i{n}": SOFT if n < 3 else GOOD for n in range(9)}
    found = Pictures("v1", KNOWN, looks)
    assert found.cautioned and found.unlike == {f"i{n}": ("edge",) for n in range(3)}
    fewer = Pictures("v1", KNOWN, {**looks, "i2": GOOD})
    assert not fewer.cautioned and list(fewer.unlike) == ["i0", "i1"]
    assert not Pictures("v1", KNOWN, {}).cautioned


@pytest.mark.parametrize(
    ("families", "judged"),
    [
        (["unet:nuclei-unet"], True),
        (["unet:nuclei-unet", "watershed"], True),
        (["unet:nuclei-unet", "watershed", "stardist:he-stardist"], False),
        (["unet:mine", "watershed"], False),
        ([], False),
    ],
)
def test_models_of_which_nothing_is_known_are_not_judged(families, judged):
    found = Pictures("v1", frozenset(families), {"i1": SOFT})
    assert found.judged is judged and found.cautioned is judged
    assert bool(found.unlike) is judged


def test_what_was_learned_says_where_it_comes_from():
    folder = Path(opsef_bridge.__file__).parent
    constants = json.loads((folder / "compare" / "appearance_constants.json").read_text("utf-8"))
    assert constants["version"] == 1 and "dsb2018/train" in constants["source"]
    assert len(constants["data_sha256"]) == 64
    cards = [json.loads(file.read_text("utf-8"))
             for file in (folder / "engines" / "weights").glob("nuclei-*.json")]  # fmt: skip
    assert sorted(constants["families"]) == sorted(card["family"] for card in cards)
    assert 1.5 < constants["contrast_from"] < 2.2 and 0.25 < constants["edge_to"] < 0.45


def test_a_batch_notices_blurred_and_inverted_images():
    sample = [image_figures(picture(LABELS, blur), LABELS) for blur in (0.8, 1)]
    assert unlike(sample, image_figures(picture(LABELS, 1.2), LABELS)) == []
    (said,) = unlike(sample, image_figures(picture(LABELS, 3), LABELS))
    assert said.startswith("its width of the objects' edges over their diameter is 0.")
    dark = image_figures(250 - picture(LABELS), LABELS)
    assert any(
        text.startswith("its contrast at the objects is -2") for text in unlike(sample, dark)
    )
    assert "edge" not in image_figures(None, LABELS)
