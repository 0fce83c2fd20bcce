"""Every engine of this package passes the suite that others inherit, and it can fail."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from opsef_bridge.engines import Engine, engine_class, engine_names, find_weights
from opsef_bridge.engines.watershed import Watershed
from opsef_bridge.testing.engines import EngineSuite, VolumeEngineSuite


@cache
def loaded(name: str) -> Engine:
    engine = engine_class(name)()
    engine.load(find_weights(name, None))
    return engine


class TestPlanes(EngineSuite):
    @pytest.fixture(params=["fpn2ws", "stardist", "unet", "watershed"])
    def engine(self, request):
        return loaded(request.param)


class TestVolumes(VolumeEngineSuite):
    @pytest.fixture(params=["watershed"])
    def engine(self, request):
        return loaded(request.param)


def test_no_engine_is_left_out():
    by_axes = {
        axes: [n for n in engine_names() if axes in loaded(n).axes] for axes in ("YX", "ZYX")
    }
    assert by_axes == {
        "YX": ["cellpose", "fpn2ws", "maskrcnn", "stardist", "unet", "watershed"],
        "ZYX": ["cellpose", "watershed"],
    }


class Gaps(Watershed):
    def decode(self, raw, parameters):
        labels = super().decode(raw, parameters)
        return np.where(labels == 1, 0, labels)


class Wide(Watershed):
    def decode(self, raw, parameters):
        return super().decode(raw, parameters).astype(np.int64)


class Impatient(Watershed):
    """Thresholds that need no pass are in the pass, and it forgets the reference."""

    Predict = Watershed.Decode

    def predict(self, image, parameters, *, reference=None):
        return super().predict(image, Watershed.Predict())


class Rough(Watershed):
    """Changes its image."""

    def predict(self, image, parameters, *, reference=None):
        image -= image.min()
        return super().predict(image, parameters, reference=reference)


class Lopsided(Watershed):
    """Finds nothing in the upper half."""

    def decode(self, raw, parameters):
        labels = super().decode(raw, parameters)
        labels[: labels.shape[0] // 2] = 0
        return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


class Anchored(Watershed):
    """Cuts objects along lines that do not move with them: tiles that were not joined."""

    def decode(self, raw, parameters):
        labels = super().decode(raw, parameters)
        rows, columns = (np.arange(side) // 60 % 2 for side in labels.shape)
        parts = 2 * labels + (rows[:, None] ^ columns)
        parts = np.where(labels > 0, parts, 0)
        return np.unique(parts, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


@pytest.mark.parametrize(
    ("wrong", "test", "more"),
    [
        (Gaps, "test_labels_follow_the_rules", ()),
        (Wide, "test_labels_follow_the_rules", ()),
        (Impatient, "test_parameters_have_defaults_and_part_in_two", None),
        (Impatient, "test_a_crop_is_normalised_like_its_image", ()),
        (Rough, "test_the_image_is_not_changed", ()),
        (Lopsided, "test_turned_pictures_give_turned_labels", ("over",)),
        (Anchored, "test_shifted_pictures_give_shifted_labels", ("down",)),
        (Anchored, "test_shifted_pictures_give_shifted_labels", ("right",)),
    ],
)
def test_the_suite_catches_wrong_engines(wrong, test, more):
    suite = EngineSuite()
    picture = EngineSuite.picture.__wrapped__(suite)
    whole = any(word in test for word in ("crop", "turned", "shifted"))
    image = () if more is None else (picture if whole else picture[:96, :112],)
    with pytest.raises((AssertionError, ValueError)):
        getattr(suite, test)(wrong(), *image, *(more or ()))
