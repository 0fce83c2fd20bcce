"""Crops on the fly: what a mirror makes of objects, and what nobody vouched for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from opsef_bridge.train.augment import Augmentation, augment
from opsef_bridge.train.colour import StainAugmentation, augment_colour
from opsef_bridge.train.data import UNKNOWN, Sample

WAYS = [(augment, Augmentation()), (augment_colour, StainAugmentation())]


def sample(labels: np.ndarray, colour: bool) -> Sample:
    image = (labels > 0).astype(np.float32)
    return Sample("s", np.stack([image] * 3, axis=-1) if colour else image, labels, "g")


@pytest.mark.parametrize("draw, how", WAYS)
def test_an_object_and_its_mirror_image_are_two(draw, how):
    labels = np.zeros((40, 50), np.int32)
    labels[5:12, 8:15], labels[25:33, 30:38] = 3, 7
    small = sample(labels, colour=draw is augment_colour)
    most = 0
    for seed in range(10):
        _, found = draw(np.random.default_rng(seed), small, 128, how)
        ids = np.unique(found[found > 0])
        most = max(most, len(ids))
        for id_ in ids:
            assert ndimage.label(found == id_, np.ones((3, 3)))[1] == 1
    assert most > 2


def test_boxes_of_mask_r_cnn_hold_one_of_them():
    pytest.importorskip("torch")
    from opsef_bridge.train.maskrcnn import targets

    labels = np.zeros((40, 40), np.int32)
    labels[15:22, 15:22] = 1
    _, found = augment(np.random.default_rng(0), sample(labels, False), 128, Augmentation())
    boxes = targets(found, 0.1)["boxes"].numpy()
    assert len(boxes) > 2 and (boxes[:, 2:] - boxes[:, :2]).max() < 15


@pytest.mark.parametrize("draw, how", WAYS)
def test_crops_show_what_somebody_vouched_for(draw, how):
    labels = np.full((600, 600), UNKNOWN, np.int32)
    labels[100:160, 300:360] = 4
    one = sample(labels, colour=draw is augment_colour)
    crops = [draw(np.random.default_rng(n), one, 192, how)[1] for n in range(40)]
    # Of all places two fifths show it; of ten tries nearly always one does.
    assert sum((crop == 4).any() for crop in crops) > 30


def test_an_image_without_an_object_needs_no_other_place():
    empty = Sample("e", np.zeros((64, 64), np.float32), np.zeros((64, 64), np.int32), "g")
    image, labels = augment(np.random.default_rng(0), empty, 32, Augmentation())
    assert image.shape == labels.shape == (32, 32) and not labels.any()


def test_very_large_ids_become_small_ones_and_the_same_objects():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(rng.integers(-1, 9, (8, 8)), 8, 0), 8, 1).astype(np.int32)
    large = np.where(labels > 0, labels + 2_000_000_000, labels).astype(np.int32)
    how = Augmentation()
    found, wanted = (
        augment(np.random.default_rng(3), sample(one, False), 48, how)[1] for one in (large, labels)
    )
    assert found.max() <= 9 and found.dtype == np.int32
    np.testing.assert_array_equal(found.clip(-1, 1), wanted.clip(-1, 1))
    pairs = {(a, b) for a, b in zip(found.ravel(), wanted.ravel(), strict=True)}
    assert len(pairs) == len(np.unique(wanted)) == len(np.unique(found))
