import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.postprocess.shapes import (
    fill_holes,
    largest_pieces,
    open_objects,
    part_pieces,
)
from opsef_bridge.preprocess.disk import disk

images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7),
    elements=st.sampled_from([0, 0, 0, 1, 1, 2, 9]),
)


def draw(*rows):
    return np.array([[int(c) for c in row] for row in rows], np.int32)


def touching(labels):
    """The pieces of a label image, by id, then by first pixel: 3^n neighbours of one value."""
    everywhere = np.ones((3,) * labels.ndim)
    for value in np.unique(labels[labels > 0]):
        pieces, count = ndi.label(labels == value, everywhere)
        parts = [pieces == number for number in range(1, count + 1)]
        yield from ((int(value), part) for part in sorted(parts, key=np.argmax))


def enclosed(labels, value):
    """Background that has no way out around the object `value`, by flooding from outside."""
    wide = np.pad(labels, 1)
    free = wide != value
    others = [np.pad(piece, 1) for label, piece in touching(labels) if label != value]
    reached = np.ones(wide.shape, bool)
    reached[(slice(1, -1),) * labels.ndim] = False
    for _ in range(wide.size):
        more = ndi.binary_dilation(reached) & free
        for piece in others:
            if (more & piece).any():
                more |= piece
        if (more == reached).all():
            break
        reached = more
    return (~reached & (wide == 0))[(slice(1, -1),) * labels.ndim]


@settings(max_examples=150, deadline=None)
@given(images)
def test_holes_are_what_has_no_way_out(labels):
    before = labels.copy()
    filled = fill_holes(labels)
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(filled[labels > 0], labels[labels > 0])
    holes = {value: enclosed(labels, value) for value in np.unique(labels[labels > 0])}
    hole = np.any(list(holes.values()), axis=0) if holes else np.zeros(labels.shape, bool)
    np.testing.assert_array_equal(filled > 0, (labels > 0) | hole)
    for value, inside in holes.items():
        assert inside[(filled == value) & (labels == 0)].all()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, max_side=8)))
def test_one_object_is_filled_as_scipy_does(mask):
    np.testing.assert_array_equal(fill_holes(mask.astype(np.int32)), ndi.binary_fill_holes(mask))


def test_the_innermost_ring_gets_the_hole_however_thick_it_is():
    labels = np.zeros((40, 40), np.int32)
    labels[1:39, 1:39] = 5
    labels[2:38, 2:38] = 0  # a thin ring around ...
    labels[4:36, 4:36] = 3
    labels[15:25, 15:25] = 0  # ... a thick one of more pixels
    labels[18:20, 18:20] = 8
    filled = fill_holes(labels)
    assert (filled[15:25, 15:25] == np.where(labels[15:25, 15:25] == 8, 8, 3)).all()
    assert (filled[2:4, 2:38] == 5).all()


def test_gaps_between_cells_inside_of_a_ring_belong_to_the_ring():
    labels = draw("7777777", "7112207", "7120207", "7111207", "7777777")
    filled = fill_holes(labels)
    assert filled[2, 3] == 7 and (filled > 0).all()
    gap = labels[1:4, 1:6].copy()
    np.testing.assert_array_equal(fill_holes(gap), gap)


def test_a_tube_is_open_and_a_box_is_not():
    box = np.ones((5, 5, 5), np.int32)
    box[1:4, 1:4, 1:4] = 0
    assert fill_holes(box).all()
    np.testing.assert_array_equal(fill_holes(box[1:4]), box[1:4])


def test_long_chains_of_rings_are_filled():
    side = 801
    y, x = np.ogrid[:side, :side]
    ring = np.maximum(abs(y - 400), abs(x - 400))
    labels = np.where(ring % 4 == 0, 101 - ring // 4, 0).astype(np.int32)
    expected = 101 - (ring + 3) // 4
    np.testing.assert_array_equal(fill_holes(labels), expected)


def opened_one_by_one(labels, radius):
    result = np.zeros_like(labels)
    for value in np.unique(labels[labels > 0]):
        wide = np.pad(labels == value, radius, mode="edge")
        small = ndi.binary_erosion(wide, disk(radius))[radius:-radius, radius:-radius]
        # Beyond the border nothing counts: no centre of a disk lies there.
        result[ndi.binary_dilation(small, disk(radius))] = value
    return result


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.int32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
        elements=st.sampled_from([1] * 12 + [0, 2, 3]),
    ),
    st.integers(1, 3),
)
def test_opening_is_that_of_each_object(labels, radius):
    opened = open_objects(labels, radius)
    np.testing.assert_array_equal(opened, opened_one_by_one(labels, radius))
    assert set(np.unique(opened[opened != labels])) <= {0}
    volume = np.stack([labels, labels.clip(0, 1)])
    np.testing.assert_array_equal(open_objects(volume, radius)[0], opened)


def test_opening_cuts_whiskers_and_keeps_touching_squares_apart():
    labels = np.zeros((12, 24), np.int32)
    labels[3:9, 2:10] = 4
    labels[3:9, 10:18] = 6
    labels[5, 18:23] = 6  # a whisker
    labels[11, 0:9] = 4  # a thin piece on its own
    expected = labels.copy()
    expected[:, 18:] = expected[11] = 0
    np.testing.assert_array_equal(open_objects(labels, 1), expected)


@settings(max_examples=80, deadline=None)
@given(images)
def test_pieces_are_what_touches(labels):
    parted = part_pieces(labels)
    pieces = list(touching(labels))  # in the order of the ids, then of place
    expected = np.zeros_like(labels)
    for number, (_, piece) in enumerate(pieces, 1):
        expected[piece] = number
    np.testing.assert_array_equal(parted, expected)
    largest = largest_pieces(labels)
    expected[:] = 0
    for value in np.unique(labels[labels > 0]):
        mine = [piece for label, piece in pieces if label == value]
        expected[max(mine, key=np.sum)] = value
    np.testing.assert_array_equal(largest, expected)


@pytest.mark.parametrize("function", [fill_holes, part_pieces, largest_pieces])
@pytest.mark.parametrize("labels", [np.zeros((4, 5), np.int32), np.full((3, 4, 5), 2, np.int32)])
def test_nothing_and_one_object_stay(function, labels):
    np.testing.assert_array_equal(function(labels) > 0, labels > 0)
