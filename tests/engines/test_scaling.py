"""Input checks, normalisation and the way to another size and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.engines.scaling import (
    decode_on_finer_grid,
    drop_small,
    finite_plane,
    normalise,
    percentiles,
    resize,
    resize_labels,
    resize_to,
)
from opsef_bridge.errors import InputError

PLANES, BOTH = frozenset({"YX"}), frozenset({"YX", "ZYX"})


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int64", "float16", ">f8"])
def test_real_images_become_native_float32(dtype):
    image = np.array([[0, 1], [1, 0]], dtype)
    plane = finite_plane(image, PLANES)
    assert plane.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(plane, [[0, 1], [1, 0]])
    assert not np.shares_memory(finite_plane(plane, PLANES), plane)


@pytest.mark.parametrize(
    ("image", "axes", "words"),
    [
        (np.zeros((2, 3), complex), PLANES, "complex128"),
        (np.array([["a"]]), PLANES, "<U1"),
        (np.zeros((2, 3, 4)), PLANES, r"\(2, 3, 4\).*YX"),
        (np.zeros(3), BOTH, r"\(3,\).*YX, ZYX"),
        (np.zeros((0, 3)), BOTH, r"\(0, 3\)"),
        (np.array([[1, np.nan, np.inf]]), PLANES, "2 pixels are NaN or infinite"),
    ],
)
def test_other_images_are_refused_with_a_way_out(image, axes, words):
    with pytest.raises(InputError, match=words) as caught:
        finite_plane(image, axes)
    assert caught.value.hint


def test_percentiles_that_coincide_give_way_to_the_extremes():
    assert percentiles(np.arange(101), 1, 99) == (1, 99)
    speck = np.zeros((50, 50))
    speck[3, 3] = 7
    assert percentiles(speck, 1, 99) == (0, 7)
    assert percentiles(np.full((3, 3), 5), 1, 99) == (5, 5)


def test_normalise_maps_limits_to_0_and_1():
    image = np.array([[10, 20, 30, 0]], np.uint8)
    out = normalise(image, (10, 30))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [[0, 0.5, 1, -0.5]])
    np.testing.assert_allclose(normalise(image, (10, 30), clip=(0, 0.7)), [[0, 0.5, 0.7, 0]])
    assert not normalise(image, (5, 5)).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.05, 3), st.booleans())
def test_resize_keeps_the_range_and_the_planes(height, width, scale, volume):
    shape = (3, height, width) if volume else (height, width)
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    out = resize(image, scale)
    assert out.shape == (*shape[:-2], max(1, round(height * scale)), max(1, round(width * scale)))
    assert out.dtype == np.float32
    assert image.min() - 1e-6 <= out.min() and out.max() <= image.max() + 1e-6
    assert resize_to(out, shape).shape == shape


def test_planes_of_a_volume_do_not_mix():
    volume = np.stack([np.zeros((20, 20)), np.ones((20, 20))]).astype(np.float32)
    for scale in (0.3, 1.7):
        out = resize(volume, scale)
        np.testing.assert_allclose(out[0], 0, atol=1e-6)
        np.testing.assert_allclose(out[1], 1, atol=1e-6)


def test_resize_to_the_same_size_is_the_same():
    image = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    assert resize(image, 1.0) is image


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.integers(1, 40))
def test_labels_are_resized_by_the_nearest_pixel(h, w, height, width):
    labels = np.arange(h * w, dtype=np.int32).reshape(h, w)
    out = resize_labels(labels, (height, width))
    assert out.shape == (height, width) and set(np.unique(out)) <= set(labels.ravel())
    # Centres: pixel i of n lies at (i + 0.5) / n.
    rows = ((np.arange(height) + 0.5) / height * h).astype(int).clip(max=h - 1)
    assert (out[:, 0] // w == rows).all()


def test_doubled_labels_come_back():
    labels = np.random.default_rng(0).integers(0, 5, (7, 9))
    doubled = resize_labels(labels, (14, 18))
    np.testing.assert_array_equal(doubled, np.kron(labels, np.ones((2, 2), int)))
    np.testing.assert_array_equal(resize_labels(doubled, (7, 9)), labels)


def test_drop_small_numbers_the_rest_without_gaps():
    labels = np.array([[9, 9, 9, 0], [4, 0, 2, 2]])
    np.testing.assert_array_equal(drop_small(labels, 2), [[2, 2, 2, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(drop_small(labels, 0), [[3, 3, 3, 0], [2, 0, 1, 1]])
    assert drop_small(labels, 9).max() == 0
    assert drop_small(labels, 2).dtype == np.int32


def test_decoding_happens_on_the_finer_grid():
    seen = []

    def to_labels(maps):
        seen.append(maps.shape)
        return (maps[0] > 0.5).astype(np.int32)

    maps = np.ones((2, 10, 12), np.float32)
    for shape in ((20, 24), (5, 6), (10, 12)):
        labels = decode_on_finer_grid(maps, shape, to_labels, min_size=0)
        assert labels.shape == shape and labels.min() == 1
    assert seen == [(2, 20, 24), (2, 10, 12), (2, 10, 12)]


def test_min_size_counts_pixels_of_the_original_grid():
    maps = np.zeros((20, 20), np.float32)
    maps[4:12, 4:12] = 1
    for least, count in ((16, 1), (17, 0)):
        labels = decode_on_finer_grid(maps, (10, 10), lambda m: (m > 0) * 1, min_size=least)
        assert labels.max() == count
