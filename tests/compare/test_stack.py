"""Planes of the comparison stack: what each view shows, and what is held meanwhile."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import find_boundaries

from opsef_bridge.compare.stack import (
    CHANNELS,
    OUTLINE,
    Frame,
    display_range,
    false_colours,
    source_dtype,
    stack_luts,
    stack_planes,
    to_8bit,
    with_outlines,
)

RNG = np.random.default_rng(0)


def frame(labels: np.ndarray, seen: np.ndarray, scale: float = 1.0, key: str = "raw") -> Frame:
    return Frame(labels, lambda: seen, scale, key)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
                  elements=st.integers(0, 3) | st.sampled_from([255, 256, 2**24])))  # fmt: skip
def test_outlines_are_those_of_scikit_image(labels):
    plane = np.resize(np.arange(256, dtype=np.uint8), labels.shape)
    drawn = with_outlines(plane, labels)
    edge = find_boundaries(labels, mode="inner", connectivity=1)
    np.testing.assert_array_equal(drawn == OUTLINE, edge)
    np.testing.assert_array_equal(drawn[~edge], np.minimum(plane, 250)[~edge])
    colours = false_colours(labels)
    np.testing.assert_array_equal(colours > 0, labels > 0)
    np.testing.assert_array_equal((colours[labels > 0] - 1) % 255, (labels[labels > 0] - 1) % 255)


@pytest.mark.parametrize("shape", [(24, 30), (3, 24, 30)])
def test_each_view_in_its_place(shape):
    base = RNG.integers(0, 4000, shape).astype(np.uint16)
    more = [RNG.random(shape).astype(np.float32) for _ in range(2)]
    labels = [np.zeros(shape, np.int32), RNG.integers(0, 4, shape).astype(np.int32)]
    frames = [frame(one, base) for one in labels]
    planes = np.stack(list(stack_planes(base, frames, more)))
    depth = shape[0] if len(shape) == 3 else 1
    planes = planes.reshape(2, depth, 6, *shape[-2:])
    assert planes.dtype == np.uint8
    grey = to_8bit(base, display_range(base)).reshape(depth, *shape[-2:])
    for number, one in enumerate(labels):
        np.testing.assert_array_equal(planes[number, :, 0], grey)
        np.testing.assert_array_equal(planes[number, :, 1], grey)  # it saw the base itself
        np.testing.assert_array_equal(planes[number, :, 3] > 0, one.reshape(grey.shape) > 0)
        for channel, array in enumerate(more, start=4):
            expected = to_8bit(array, display_range(array)).reshape(grey.shape)
            np.testing.assert_array_equal(planes[number, :, channel], expected)
    assert (planes[0, :, 2] != OUTLINE).all() and (planes[1, :, 2] == OUTLINE).any()


@pytest.mark.parametrize(
    ("kind", "held"),
    [("uint8", "uint8"), ("bool", "uint8"), ("uint16", "uint16"), ("int16", "float32"),
     ("int32", "float32"), ("float64", "float32")],
)  # fmt: skip
def test_values_are_kept_where_they_are_wanted(kind, held):
    base = RNG.integers(0, 2 if kind == "bool" else 200, (12, 14)).astype(kind)
    assert source_dtype(base) == held
    labels = np.zeros(base.shape, np.int32)
    labels[2:6, 2:6] = 7
    planes = list(stack_planes(base, [frame(labels, base)], values=held))
    assert {plane.dtype for plane in planes} == {np.dtype(held)}
    np.testing.assert_array_equal(planes[0], base)
    assert set(np.unique(planes[3])) == {0, 7} and planes[2].max() == OUTLINE


def test_what_the_network_saw_is_shown_in_its_blocks():
    base = RNG.integers(0, 255, (32, 32)).astype(np.uint8)
    labels = np.zeros(base.shape, np.int32)
    _, seen, *_ = stack_planes(base, [frame(labels, base, 0.25)])
    blocks = seen.reshape(8, 4, 8, 4).transpose(0, 2, 1, 3).reshape(64, 16)
    assert (blocks == blocks[:, :1]).all() and len(np.unique(seen)) > 3


def test_what_was_seen_is_made_once_for_all_that_saw_it():
    base, asked = RNG.integers(0, 255, (32, 32)).astype(np.uint8), []
    labels = np.zeros(base.shape, np.int32)

    def seen(name: str):
        return lambda: (asked.append(name), base)[1]

    order = [("raw", 1.0), ("raw", 0.5), ("smooth", 1.0), ("raw", 2.0), ("raw", 0.5)]
    frames = [Frame(labels, seen(key), scale, key) for key, scale in order]
    assert len(list(stack_planes(base, frames))) == 20
    assert asked == ["raw", "raw", "smooth"], "a network that enlarges loses nothing"
    asked.clear()
    list(stack_planes(base, [Frame(labels, seen("?"), 1.0) for _ in range(3)]))
    assert asked == ["?"] * 3, "without a key nothing is known of them"


def test_an_error_of_a_frame_comes_out_and_ends_the_thread():
    base = np.zeros((8, 8), np.uint8)

    def frames():
        yield frame(np.zeros((8, 8), np.int32), base)
        raise ValueError("a file is gone")

    with pytest.raises(ValueError, match="a file is gone"):
        list(stack_planes(base, frames()))


@pytest.mark.parametrize("base", [
    np.full((9, 9), np.nan, np.float32),
    np.array([[np.nan, 1.0], [np.inf, 3.0]], np.float32),
    np.zeros((5, 5), np.uint16),
])  # fmt: skip
def test_odd_pictures_have_a_display_range(base):
    low, high = display_range(base)
    assert np.isfinite([low, high]).all() and low < high
    shown = to_8bit(base, (low, high))
    assert (shown[np.isnan(base)] == 0).all()


def test_the_range_of_a_large_picture_is_that_of_a_sample():
    image = np.sort(RNG.integers(0, 60000, (1500, 1500)).astype(np.uint16), axis=None)
    image = RNG.permuted(image).reshape(1500, 1500)
    np.testing.assert_allclose(
        display_range(image), np.percentile(image, (0.1, 99.9)), rtol=0.2, atol=40
    )


def memory(count: int, shape: tuple[int, ...]) -> float:
    """Peak of what the planes of so many variants take, in planes of 8 bit."""
    base = np.resize(np.arange(4096, dtype=np.uint16), shape)

    def frames():
        for number in range(count):
            labels = np.full(shape, number + 1, np.int32)  # each is made when it is asked for
            yield Frame(labels, lambda: base, (0.5, 1.0)[number % 2], f"recipe {number}")

    list(zip(range(5), stack_planes(base, frames()), strict=False))  # numba compiles
    tracemalloc.start()
    for _ in stack_planes(base, frames()):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / np.prod(shape)


def test_memory_does_not_grow_with_the_number_of_variants():
    few, many = memory(16, (1200, 1200)), memory(40, (1200, 1200))
    assert many < few + 4, "planes of 8 bit; one of labels is four"
    assert many < 40, "kept views are 11 at most, labels 4, a picture on its way 16"


def test_there_is_a_table_for_each_channel():
    tables = stack_luts(3)
    assert len(tables) == len(CHANNELS) + 3
    assert all(table.shape == (3, 256) and table.dtype == np.uint8 for table in tables)
    assert tables[2][:, OUTLINE].tolist() == [255, 230, 0] and (tables[0][0] == tables[4]).all()
