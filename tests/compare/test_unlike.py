"""Which images are unlike those that a variant was chosen on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.compare.unlike import image_figures, unlike

SAMPLE = [
    {"median": 100.0, "bright": 1000.0, "diameter": 10.0, "density": 50.0, "pixels": 1e6,
     "objects": 50.0},
    {"median": 140.0, "bright": 1500.0, "diameter": 14.0, "density": 90.0, "pixels": 1e6,
     "objects": 90.0},
]  # fmt: skip


def new(**changes: float) -> dict[str, float]:
    return SAMPLE[0] | changes


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (new(median=281, bright=900), "median intensity is 281, theirs 100 to 140"),
        (new(bright=499), "99.8th percentile of intensity is 499"),
        (new(bright=3001), "99.8th percentile of intensity is 3001"),
        (new(diameter=29), "median object diameter in px is 29"),
        (new(density=181, objects=181), "number of objects per million px is 181"),
        (new(density=0, objects=0), "number of objects per million px is 0"),
    ],
)
def test_what_is_said(image, said) -> None:
    (found,) = unlike(SAMPLE, image)
    assert said in found


@pytest.mark.parametrize(
    "image",
    [
        new(median=280, bright=3000, diameter=28, density=180),
        new(median=50, bright=500, diameter=5, density=25),
        {"density": 60.0, "pixels": 1e6, "objects": 60.0},
        new(density=20, objects=1, pixels=5e4),  # a small image: few objects say nothing
    ],
)
def test_what_is_not_said(image) -> None:
    assert unlike(SAMPLE, image) == []


def test_a_ground_of_nothing_is_not_twice_as_bright_at_once() -> None:
    dark = [new(median=0.0), new(median=0.0)]
    assert unlike(dark, new(median=40.0)) == []
    assert len(unlike(dark, new(median=60.0))) == 1
    assert unlike([], new(median=60.0)) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.integers(0, 4))
def test_an_image_of_the_sample_is_never_unlike_it(medians, at) -> None:
    sample = [new(median=value, bright=value + 1) for value in medians]
    assert unlike(sample, sample[at % len(sample)]) == []


def test_figures() -> None:
    labels = np.zeros((100, 200), np.int32)
    labels[:10, :10], labels[20:50, 20:50], labels[60:64, 60:64] = 1, 5, 9
    image = np.zeros((100, 200), np.uint16)
    image[:60] = 500
    found = image_figures(image, labels)
    assert found["diameter"] == pytest.approx(2 * np.sqrt(100 / np.pi))
    assert (found["objects"], found["density"], found["median"]) == (3, 150, 500)
    assert "median" not in image_figures(None, labels)
    assert "diameter" not in image_figures(image, labels * 0)
    ball = np.zeros((9, 9, 9), int)
    ball[2:7, 2:7, 2:7] = 1
    assert image_figures(None, ball)["diameter"] == pytest.approx(np.cbrt(6 * 125 / np.pi))
    large = np.tile(np.arange(2048, dtype=np.uint16), (1100, 1))
    assert image_figures(large, large * 0)["median"] == pytest.approx(1023.5, abs=2)
