"""Thresholds are chosen on validation images, by all of their known pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from opsef_bridge.engines import engine_class, find_weights
from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import InputError
from opsef_bridge.train import tuning
from opsef_bridge.train.data import UNKNOWN
from opsef_bridge.train.tuning import AXES, Looked, among_objects, tune


@pytest.fixture(scope="module")
def looked() -> Looked:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160]
    inside = np.zeros((160, 160), bool)
    for row in range(24, 160, 40):
        for column in range(24, 160, 40):
            inside |= (y - row) ** 2 + (x - column) ** 2 < 100
    labels, _ = ndimage.label(inside)
    image = ndimage.gaussian_filter(inside * 1000.0, 1.5) + rng.normal(100, 10, inside.shape)
    return Looked(image, labels.astype(np.int32))


def mean(values) -> float:
    return float(np.mean(values))


@pytest.mark.parametrize("engine", ["unet", "stardist", "fpn2ws"])
def test_what_is_chosen_is_at_least_as_good_and_a_value_the_engine_takes(engine, looked):
    weights = find_weights(engine, None)
    found = tune(weights, [looked], device="cpu")
    assert mean(found.f1) >= mean(found.before) > 0.3
    engine_class(engine).Decode(**found.values)
    assert found.tried > len(AXES[engine])


def test_a_threshold_that_came_with_the_weights_is_where_it_starts(looked):
    weights = find_weights("unet", None)
    bad = replace(weights, card={**weights.card, "thresholds": {"threshold": 0.9999}})
    found = tune(bad, [looked], device="cpu")
    assert mean(found.before) < mean(found.f1)
    assert found.values["threshold"] < 0.9999


def test_what_nobody_vouched_for_is_neither_right_nor_wrong(looked):
    weights = find_weights("unet", None)
    whole = tune(weights, [looked], device="cpu")
    # Half of the objects are gone from truth: as background they are wrong, as unknown nothing.
    labels = looked.labels.copy()
    labels[:, 80:] = 0
    wrong = tune(weights, [Looked(looked.image, labels)], device="cpu")
    labels[:, 80:] = UNKNOWN
    sparse = tune(weights, [Looked(looked.image, labels)], device="cpu")
    assert mean(wrong.f1) < mean(whole.f1) - 0.1
    assert mean(sparse.f1) > mean(whole.f1) - 0.05


def test_where_nothing_is_ever_found_the_values_of_the_engine_stay(monkeypatch, looked):
    monkeypatch.setattr(tuning, "AXES", {"unet": {"threshold": (0.5,)}})
    far = Looked(np.full((64, 64), 7.0), np.zeros((64, 64), np.int32))
    far.labels[4:8, 4:8] = 1
    found = tune(find_weights("unet", None), [far], device="cpu")
    assert (found.values, found.f1) == ({}, (0.0, 0.0, 0.0))


def test_what_cannot_be_tuned_is_refused(looked):
    with pytest.raises(InputError, match="no object"):
        tune(find_weights("unet", None), [])
    with pytest.raises(InputError, match="watershed"):
        tune(Weights("", "watershed"), [looked])


def test_of_a_large_volume_a_box_with_objects_is_looked_at():
    labels = np.zeros((3, 40, 50), np.int32)
    labels[1, 33:38, 2:6] = 4
    one = Looked(labels * 10, labels)
    cut = among_objects(one, 3 * 12 * 12)
    assert cut.labels.shape == (3, 12, 12) and (cut.labels == 4).sum() == 20
    np.testing.assert_array_equal(cut.image, cut.labels * 10)
    assert among_objects(one, labels.size) is one
    labels[:] = 0
    assert among_objects(one, 100) is one
