"""How sure the first place is, by images drawn anew."""

from __future__ import annotations

import numpy as np
import pytest

from opsef_bridge.compare import image_support, score, support
from opsef_bridge.compare.confidence import (
    first_places_by_images,
    object_supports,
    score_intervals,
)
from opsef_bridge.compare.vouched import Tally, combined


def scene(random: np.random.Generator, variants: int, missing: float = 0.1) -> list:
    """Label images of `variants` that each miss, shift or split some of 12 squares."""
    made = []
    for variant in range(variants):
        labels = np.zeros((48, 64), int)
        for number in range(12):
            y, x = 16 * (number // 4), 16 * (number % 4)
            y, x = y + random.integers(0, 2 + variant % 3), x + random.integers(0, 2 + variant % 4)
            if random.random() > missing * (variant % 5):
                labels[y : y + 10, x : x + 10] = number + 1
        made.append(labels)
    return made


def by_score(supports, families, draws, seed) -> np.ndarray:
    """The same in the obvious way: `score` of the images that are drawn."""
    random = np.random.default_rng(seed)
    shares = np.zeros(len(families))
    for _ in range(draws):
        drawn = random.integers(0, len(supports), len(supports))
        found = score([supports[i] for i in drawn], families)["agreement"].to_numpy().round(6)
        first = found == found.max()
        shares += first / first.sum()
    return shares / draws


@pytest.mark.parametrize(
    ("variants", "families"),
    [(12, "abcabcabcabc"), (12, "a" * 12), (5, "abcab"), (11, "a" * 10 + "b")],
)
def test_it_is_the_ranking_of_images_drawn_anew(variants: int, families: str) -> None:
    random = np.random.default_rng(3)
    images = [scene(random, variants) for _ in range(4)]
    images[1][variants - 1] = images[2][variants - 1] = None  # fails on some images
    images[0][0] = None
    supports = [image_support(labels, families) for labels in images]
    found = first_places_by_images(supports, families, draws=40, seed=5)
    np.testing.assert_allclose(found, by_score(supports, families, 40, 5))
    assert found.sum() == pytest.approx(1)
    assert np.count_nonzero(found) > 1  # else this says nothing


def test_equal_variants_share_and_nothing_is_nobody() -> None:
    labels = scene(np.random.default_rng(1), 1)[0]
    supports = [image_support([labels, labels, labels * 0], "abc")] * 2
    np.testing.assert_allclose(first_places_by_images(supports, "abc"), [0.5, 0.5, 0])
    assert first_places_by_images([], "abc").tolist() == [0, 0, 0]


@pytest.mark.parametrize("families", ["abcabc", "aaaaaa"])
def test_supports_of_objects_are_those_of_the_table(families: str) -> None:
    labels = scene(np.random.default_rng(2), 6)
    found = object_supports(image_support(labels, families), families)
    for values, table in zip(found, support(labels, families), strict=True):
        np.testing.assert_array_equal(values, table["q"])


def drawn_scores(supports, families, tallies, asked, draws, seed) -> np.ndarray:
    """Scores of images drawn anew, in the obvious way."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = random.integers(0, len(supports), len(supports))
        agreement = score([supports[i] for i in drawn], families)["agreement"].to_numpy()
        told = [tallies[i] for i in drawn if tallies and tallies[i]]
        found.append(combined(agreement, told, asked=asked))
    return np.array(found)


@pytest.mark.parametrize("judged", [False, True])
def test_intervals_are_those_of_scores_of_images_drawn_anew(judged: bool) -> None:
    random = np.random.default_rng(4)
    families = "abcabcabcabc"
    images = [scene(random, 12, missing=m) for m in (0.02, 0.1, 0.2, 0.05)]
    images[1][2] = None
    supports = [image_support(labels, families) for labels in images]
    hits = [Tally(random.uniform(size=(n, 12)), random.uniform(size=(2, 12))) for n in (3, 1)]
    tallies = [hits[0], None, None, hits[1]] if judged else []
    found = score_intervals(supports, families, tallies, asked=True, draws=60, seed=5)
    scores = drawn_scores(supports, families, tallies, True, 60, 5)
    np.testing.assert_allclose(found[:, 0], np.quantile(scores, 0.05, axis=0))
    np.testing.assert_allclose(found[:, 1], np.quantile(scores, 0.95, axis=0))
    assert (found[:, 0] < found[:, 1]).any()  # else this says nothing


def test_intervals_of_equal_images_have_no_width() -> None:
    labels = scene(np.random.default_rng(6), 3)
    supports = [image_support(labels, "abc")] * 3
    found = score_intervals(supports, "abc")
    agreement = score(supports, "abc")["agreement"]
    np.testing.assert_allclose(found, np.array([agreement, agreement]).T)
    assert score_intervals([], "abc").tolist() == [[0, 0]] * 3
    with pytest.raises(ValueError, match="1 tallies of 3 images"):
        score_intervals(supports, "abc", [None])
