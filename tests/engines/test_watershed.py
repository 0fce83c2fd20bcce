"""The watershed engine: thresholds mean what they say, touching objects are parted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.engines.watershed import Decode, Predict, Watershed, split_touching
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.measure import match

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"


def disc(shape, y, x, radius) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def labels_of(image: np.ndarray, scale: float = 1.0, **decode) -> np.ndarray:
    engine = Watershed()
    return engine.decode(engine.predict(image, Predict(scale=scale)), Decode(**decode))


def test_a_bright_disc_is_found_exactly():
    mask = disc((50, 60), 25, 30, 12)
    np.testing.assert_array_equal(labels_of(mask * 90 + 10), mask)


def test_a_factor_of_otsu_moves_the_outline():
    y, x = np.indices((80, 80))
    cone = np.clip(100 - 4 * np.hypot(y - 40, x - 40), 0, None)
    areas = [np.count_nonzero(labels_of(cone, threshold=t)) for t in (0.5, 1.0, 1.5)]
    assert areas[0] > areas[1] > areas[2] > 0
    assert np.count_nonzero(labels_of(cone, threshold="otsu")) == areas[1]


def test_local_finds_a_dim_object_beside_a_bright_one_where_otsu_does_not():
    image = np.full((100, 160), 10.0)
    image[disc(image.shape, 50, 40, 10)] = 200
    image[disc(image.shape, 50, 120, 10)] = 60
    assert labels_of(image, threshold="otsu").max() == 1
    assert labels_of(image, threshold="local").max() == 2


def test_touching_discs_are_parted_at_their_neck():
    shape = (60, 100)
    both = disc(shape, 30, 30, 16) | disc(shape, 30, 58, 16)
    labels = split_touching(both, 5)
    assert labels.max() == 2
    assert (labels > 0).tolist() == both.tolist()
    left, right = labels[30, 20], labels[30, 70]
    assert left != right
    assert abs(np.count_nonzero(labels == left) - np.count_nonzero(labels == right)) < 60


def test_min_distance_keeps_seeds_apart_in_pixels_of_the_image():
    shape = (60, 100)
    both = disc(shape, 30, 30, 16) | disc(shape, 30, 58, 16)
    for scale in (1.0, 2.0):
        assert labels_of(both * 100, scale, min_distance=10).max() == 2
        assert labels_of(both * 100, scale, min_distance=40).max() == 1


def test_every_piece_keeps_an_object_however_close_they_lie():
    mask = np.zeros((40, 40), bool)
    mask[5:12, 5:12] = mask[14:21, 5:12] = mask[5:12, 14:21] = True
    assert split_touching(mask, 50).max() == 3


def test_min_size_counts_pixels_of_the_image():
    mask = disc((40, 40), 20, 20, 5)
    area = int(mask.sum())
    assert labels_of(mask * 100, min_size=area).max() == 1
    assert labels_of(mask * 100, min_size=area + 1).max() == 0


@pytest.mark.parametrize("shape", [(9, 11), (4, 9, 11)])
def test_an_empty_mask_has_no_labels(shape):
    labels = split_touching(np.zeros(shape, bool), 3)
    assert (labels.shape, labels.dtype, labels.max()) == (shape, np.int32, 0)


def test_balls_in_a_volume():
    z, y, x = np.indices((30, 40, 60))
    balls = ((z - 15) ** 2 + (y - 20) ** 2 + (x - 18) ** 2 <= 100) | (
        (z - 15) ** 2 + (y - 20) ** 2 + (x - 36) ** 2 <= 100
    )
    labels = labels_of(balls * 100)
    assert labels.max() == 2 and labels.shape == balls.shape
    assert labels[15, 20, 18] != labels[15, 20, 36]


def test_one_small_object_on_a_dead_even_ground_is_found():
    image = np.zeros((300, 300), np.uint8)
    image[100:106, 50:56] = 200  # 0.04 %: both percentiles are the ground
    assert labels_of(image).max() == 1


def test_the_threshold_is_that_of_the_reference():
    image = np.full((60, 120), 10.0)
    image[disc(image.shape, 30, 30, 10)] = 60
    image[disc(image.shape, 30, 90, 10)] = 250
    engine = Watershed()
    crop = image[:, :60]
    alone = engine.decode(engine.predict(crop, Predict()), Decode())
    part = engine.decode(engine.predict(crop, Predict(), reference=image), Decode())
    assert (alone.max(), part.max()) == (1, 0)


@pytest.mark.parametrize(
    ("name", "scale", "least"),
    [("small_8b77284d6f37.png", 1.0, 0.85), ("u2os_F12_s9.tif", 0.5, 0.85)],
)
def test_it_is_a_fair_baseline(name, scale, least):
    image = read_image(EXAMPLES / "images" / name).data
    truth = read_labels(EXAMPLES / "labels" / f"{Path(name).stem}.tif")
    assert match(truth, labels_of(image, scale))["f1"].iloc[0] >= least
