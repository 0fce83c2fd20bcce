"""Tiles: nothing is lost, neighbours share what they should, and names lead back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from opsef_bridge.errors import InputError
from opsef_bridge.images.tiles import (
    grow_box,
    stitch_images,
    tile_boxes,
    tile_name,
    tile_origin,
)


@st.composite
def cuts(draw):
    size = draw(st.integers(1, 12))
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    return shape, size, draw(st.integers(0, size - 1)), draw(st.booleans())


@given(cuts())
def test_every_pixel_is_in_a_tile_and_neighbours_share_the_overlap(cut):
    shape, size, overlap, shift = cut
    boxes = tile_boxes(shape, size, overlap, shift=shift)
    seen = np.zeros(shape, int)
    for y, x, height, width in boxes:
        assert y >= 0 and x >= 0 and y + height <= shape[0] and x + width <= shape[1]
        assert 1 <= height <= size and 1 <= width <= size
        seen[y : y + height, x : x + width] += 1
    assert (seen > 0).all()
    assert len(set(boxes)) == len(boxes)
    if shift:
        assert {box[2:] for box in boxes} == {tuple(min(size, side) for side in shape)}
    elif not overlap:
        assert (seen == 1).all()
    for axis in (0, 1):
        spans = sorted({(box[axis], box[axis + 2]) for box in boxes})
        for (start, length), (after, _) in itertools.pairwise(spans):
            assert start + length - after >= overlap
            if not shift:
                assert start + length - after == overlap


def test_volumes_are_cut_in_y_and_x():
    assert tile_boxes((7, 100, 60), 50, 10) == tile_boxes((100, 60), 50, 10)


@pytest.mark.parametrize(
    ("shape", "size", "overlap"),
    [((10, 10), 0, 0), ((10, 10), 5, 5), ((10, 10), 5, -1), ((0, 10), 5, 1), ((10,), 5, 1)],
)
def test_impossible_tiles_are_refused(shape, size, overlap):
    with pytest.raises(InputError):
        tile_boxes(shape, size, overlap)


@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)), st.integers(0, 20), st.integers(1, 5),
    st.data(),
)  # fmt: skip
def test_grown_boxes_hold_the_box_and_lie_on_the_grid(shape, margin, grid, data):
    y, x = (data.draw(st.integers(0, side - 1)) for side in shape)
    box = (y, x, data.draw(st.integers(1, shape[0] - y)), data.draw(st.integers(1, shape[1] - x)))
    grown = grow_box(box, margin, shape, grid=grid)
    for axis in (0, 1):
        start, stop = grown[axis], grown[axis] + grown[axis + 2]
        assert start % grid == 0 and (stop % grid == 0 or stop == shape[axis])
        assert 0 <= start <= max(box[axis] - margin, 0)
        assert min(box[axis] + box[axis + 2] + margin, shape[axis]) <= stop <= shape[axis]


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_names_lead_back(y, x):
    assert tile_origin(tile_name("i00001-my-y00001-x00002", (y, x))) == (
        "i00001-my-y00001-x00002", y, x,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["", "kidney", "kidney-y1-x2", "-y00000-x00000", "a-x00000-y00000"]
)
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="name"):
        tile_origin(name)


def test_the_kidneys_of_the_original_give_its_tiles_and_the_remainder():
    # 432 = 18 x 24 and 440 = 20 x 22 tiles of 512 px; the original dropped what is left over.
    for rows, columns in ((18, 24), (20, 22)):
        shape = (rows * 512 + 100, columns * 512 + 7)
        boxes = tile_boxes(shape, 512, shift=False)
        assert sum(box[2:] == (512, 512) for box in boxes) == rows * columns
        assert len(boxes) == (rows + 1) * (columns + 1)
        exact = tile_boxes((rows * 512, columns * 512), 512, shift=False)
        assert len(exact) == rows * columns in (432, 440)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(23, 31), (3, 23, 31)]), st.integers(0, 2))
def test_tiles_that_were_images_become_one_again(seed, shape, overlap):
    # Blocks of 3 x 3 pixels, so that a seam cuts each object by all of its width.
    grid = np.random.default_rng(seed).random([-(-side // 6) for side in shape[-2:]]) < 0.5
    mask = np.kron(grid, np.pad(np.ones((3, 3), bool), ((0, 3), (0, 3))))
    mask = np.broadcast_to(mask[: shape[-2], : shape[-1]], shape)
    whole = label(mask, connectivity=1)
    tiles = {
        tile_name("a", (y, x)): label(whole[..., y : y + h, x : x + w], connectivity=1)
        for y, x, h, w in tile_boxes(shape, 8, overlap, shift=False)
    }
    found = stitch_images(tiles, shape)
    assert found.shape == shape and found.max() == whole.max()
    assert len(np.unique(found * 10_000 + whole)) == whole.max() + 1


def test_the_shape_of_the_parent_is_as_far_as_the_tiles_reach():
    tiles = {tile_name("a", (0, x)): np.ones((4, 3), int) for x in (0, 3)}
    assert stitch_images(tiles).tolist() == [[1] * 6] * 4


def test_neighbours_across_a_seam_that_hardly_touch_stay_two():
    above, below = np.zeros((2, 8), int), np.zeros((2, 8), int)
    above[1, :4] = 1
    below[0, 3:7] = 1
    found = stitch_images({"a-y00000-x00000": above, "a-y00002-x00000": below})
    assert found.max() == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no image"),
        (["a-y00000-x00000", "b-y00000-x00004"], "a, b"),
        (["a-y00000-x00000", "a-y00000-x00008"], "no tile"),
        (["a"], "'a'"),
    ],
)
def test_what_is_no_set_of_tiles_is_refused(names, message):
    with pytest.raises(InputError, match=message):
        stitch_images({name: np.ones((4, 4), int) for name in names})
