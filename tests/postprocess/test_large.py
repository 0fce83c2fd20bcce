"""Cleaning piece by piece: what `clean` does, for labels that do not fit into the memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from opsef_bridge.errors import ConfigError, InputError
from opsef_bridge.measure.stitch import stitch_onto
from opsef_bridge.postprocess import Postprocess, clean
from opsef_bridge.postprocess import large as module
from opsef_bridge.postprocess.large import check_postprocess, clean_large


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Labels of all sizes, rings among them."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.choice([0.3, 0.6, 0.75])
    return label(mask, connectivity=1).astype(np.int32)


def cleaned(labels: np.ndarray, intensity: np.ndarray | None = None, **how) -> np.ndarray:
    canvas = np.zeros(labels.shape, np.int32)
    objects = stitch_onto(canvas, [labels], [(0,) * labels.ndim])
    read = None if intensity is None else lambda part: intensity[part]
    number, areas = clean_large(canvas, objects, intensity=read, **how)
    found = number[canvas]
    assert areas.tolist() == np.bincount(found.ravel(), minlength=1)[1:].tolist()
    return found


bounds = st.lists(
    st.dictionaries(
        st.sampled_from(["area", "extent", "equivalent_diameter", "intensity_mean"]),
        st.tuples(st.none() | st.floats(0, 5), st.none() | st.floats(0.5, 60)),
        max_size=2,
    ),
    max_size=2,
)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 22), st.integers(1, 22))
    | st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    st.integers(0, 2**32), st.booleans(), st.booleans(), bounds,
)  # fmt: skip
def test_it_is_what_clean_does(shape, seed, fill_holes, clear_border, keep):
    labels = blobs(shape, seed)
    intensity = np.random.default_rng(seed).random(shape) * 9
    how = {"fill_holes": fill_holes, "clear_border": clear_border, "keep": keep}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", (2, 6, 5))
        found = cleaned(labels, intensity, **how)
    assert np.array_equal(found, clean(labels, intensity=intensity, **how))


def test_of_rings_the_inner_one_gets_the_hole():
    # The inner ring has more pixels than the outer one.
    labels = np.zeros((15, 15), np.int32)
    labels[0, :] = labels[-1, :] = labels[:, 0] = labels[:, -1] = 1
    labels[2:13, 2:13] = 2
    labels[6:9, 6:9] = 0
    found = cleaned(labels, fill_holes=True)
    assert np.array_equal(found, clean(labels, fill_holes=True))
    assert found[7, 7] == 2 and found[1, 1] == 1


def test_an_object_that_is_too_large_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 99)
    labels = np.ones((10, 10), np.int32)
    assert cleaned(labels, keep=[{"area": (5, None)}]).all()
    with pytest.raises(InputError, match="10 x 10"):
        cleaned(labels, fill_holes=True)


def test_an_intensity_without_an_image_is_refused():
    with pytest.raises(InputError, match="intensity_mean"):
        cleaned(np.ones((4, 4), np.int32), keep=[{"intensity_mean": (1, None)}])


def test_a_property_of_several_columns_is_refused():
    with pytest.raises(InputError, match="one number"):
        cleaned(np.ones((4, 4), np.int32), keep=[{"centroid": (1, None)}])


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"open": 2}, "open"),
        ({"largest_component": True}, "largest_component"),
        ({"keep": [{"centroid_y": [1, None]}]}, "centroid_y"),
        ({"keep": [{"area": [1, None]}, {"touches_border": [0, 0]}]}, "touches_border"),
    ],
)
def test_what_needs_the_whole_image_is_refused_beforehand(settings, name):
    with pytest.raises(ConfigError, match=name):
        check_postprocess(Postprocess(**settings))


def test_the_rest_is_not_refused():
    check_postprocess(Postprocess())
    check_postprocess(
        Postprocess(fill_holes=True, clear_border=True, keep=[{"solidity": [0.8, None]}])
    )
