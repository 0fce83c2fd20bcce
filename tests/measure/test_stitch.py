from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from opsef_bridge.errors import InputError
from opsef_bridge.measure.stitch import stitch


def same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to renumbering."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return (
        len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
        and not pairs[:, (pairs == 0).any(axis=0)].any()
    )


def cut(whole: np.ndarray, size: int, overlap: int) -> tuple[list, list]:
    """Tiles of `whole`, each numbered anew by its connected parts."""
    starts = [range(0, max(length - overlap, 1), size - overlap) for length in whole.shape]
    tiles, positions = [], []
    for position in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, whole.ndim):
        box = tuple(slice(p, p + size) for p in position)
        tiles.append(label(whole[box], connectivity=1))
        positions.append(tuple(position))
    return tiles, positions


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))),
    st.integers(4, 9),
    st.integers(1, 3),
)
def test_tiles_of_a_labelled_image_give_it_back(mask, size, overlap):
    whole = label(mask, connectivity=1)
    result = stitch(*cut(whole, size, overlap), whole.shape)
    assert result.dtype == np.int32
    assert same_objects(result, whole)
    assert set(np.unique(result)) - {0} == set(range(1, whole.max() + 1))


def test_volumes():
    whole = label(np.random.default_rng(0).random((12, 14, 16)) < 0.3, connectivity=1)
    assert same_objects(stitch(*cut(whole, 6, 2), whole.shape), whole)


def test_an_object_over_four_tiles_is_one():
    whole = np.zeros((20, 20), int)
    whole[5:15, 5:15] = 1
    assert stitch(*cut(whole, 12, 4), whole.shape).max() == 1


def tile(*spans: tuple[int, int]) -> np.ndarray:
    row = np.zeros((1, 10), np.uint16)
    for number, (start, stop) in enumerate(spans, 1):
        row[0, start:stop] = number
    return row


def test_half_of_the_smaller_part_joins():
    # Shared are columns 6 to 9; one pixel of parts of 2 and 3 pixels.
    labels = stitch([tile((2, 8)), tile((1, 5))], [(0, 0), (0, 6)], (1, 16))
    assert labels[0].tolist() == [0, 0] + [1] * 9 + [0] * 5


def test_less_than_half_of_the_smaller_part_does_not_join():
    # Shared are columns 4 to 9; one pixel of parts of 3 and 4 pixels. The first tile keeps it.
    labels = stitch([tile((0, 7)), tile((2, 8))], [(0, 0), (0, 4)], (1, 14))
    assert labels[0].tolist() == [1] * 7 + [2] * 5 + [0] * 2


def test_at_least_so_many_shared_pixels_join():
    # Shared are columns 4 to 9, of which both objects have columns 6 and 7: by half of the
    # smaller part (4 and 4 pixels) they are one.
    tiles, places = [tile((0, 8)), tile((2, 8))], [(0, 0), (0, 4)]
    one, two = [1] * 12 + [0] * 2, [1] * 8 + [2] * 4 + [0] * 2
    for least, expected in ((None, one), (1, one), (2, one), (3, two)):
        assert stitch(tiles, places, (1, 14), least=least)[0].tolist() == expected


def test_pixels_join_what_a_share_of_them_would_not():
    # 1 pixel of parts of 3 and 4 pixels, as above.
    tiles, places = [tile((0, 7)), tile((2, 8))], [(0, 0), (0, 4)]
    assert stitch(tiles, places, (1, 14), least=1)[0].tolist() == [1] * 12 + [0] * 2


def test_what_is_joined_by_pixels_goes_on_from_tile_to_tile():
    whole = np.zeros((20, 60), int)
    whole[5:15, 3:57] = 1
    assert stitch(*cut(whole, 20, 5), whole.shape, least=10).max() == 1
    assert stitch(*cut(whole, 20, 5), whole.shape, least=51).max() > 1


@pytest.mark.parametrize("least", [0, -1])
def test_no_shared_pixels_join_nothing(least):
    with pytest.raises(InputError, match=str(least)):
        stitch([np.ones((4, 4), int)], [(0, 0)], (4, 4), least=least)


def test_an_object_that_one_tile_missed_is_kept():
    for tiles in ([tile((7, 9)), tile()], [tile(), tile((1, 3))]):
        labels = stitch(tiles, [(0, 0), (0, 6)], (1, 16))
        assert labels[0].tolist() == [0] * 7 + [1] * 2 + [0] * 7


def test_objects_far_apart_in_number_and_dtype():
    one = np.array([[10**12, 0, 5]])
    two = np.array([[9, 200]], np.uint8)
    assert stitch([one, two], [(0, 0), (0, 2)], (1, 4)).tolist() == [[2, 0, 1, 3]]


def test_empty_tiles():
    assert not stitch([np.zeros((4, 4), int)], [(0, 0)], (4, 4)).any()


@pytest.mark.parametrize(
    ("tiles", "positions", "message"),
    [
        ([np.ones((2, 2), int)], [(0, 0)], r"12 pixels.*\(0, 2\)"),
        ([], [], r"16 pixels.*\(0, 0\)"),
        ([np.ones((4, 4), int)], [(0, 1)], r"tile 0.*\(0, 1\)"),
        ([np.ones((4, 4), int)], [(-1, 0)], "does not fit"),
        ([np.ones((4, 4), int)], [(0, 0, 0)], "does not fit"),
        ([np.ones((1, 4, 4), int)], [(0, 0, 0)], "does not fit"),
        ([np.ones((4, 4), int)], [], "1 tiles have 0"),
        ([np.ones((4, 4))], [(0, 0)], "float64"),
        ([-np.ones((4, 4), int)], [(0, 0)], "-1"),
    ],
)
def test_what_cannot_be_stitched_is_refused(tiles, positions, message):
    with pytest.raises(InputError, match=message):
        stitch(tiles, positions, (4, 4))
