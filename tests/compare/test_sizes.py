from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.compare.sizes import object_size, size_bins
from opsef_bridge.errors import InputError


def disc(radius: float) -> np.ndarray:
    y, x = np.mgrid[-20:21, -20:21]
    return (y**2 + x**2 <= radius**2).astype(np.int32)


def test_the_size_of_discs_and_balls_is_their_diameter():
    assert object_size([disc(10)], [np.ones(1)]) == pytest.approx(20, rel=0.03)
    z, y, x = np.mgrid[-9:10, -9:10, -9:10]
    ball = (z**2 + y**2 + x**2 <= 64).astype(int)
    assert object_size([ball], [np.ones(1)]) == pytest.approx(16, rel=0.05)


def test_objects_without_support_do_not_count():
    small = np.zeros((41, 41), int)
    small[::4, ::4] = np.arange(1, 122).reshape(11, 11)
    sizes = object_size([disc(10), small, None], [np.ones(1), np.full(121, 0.01), np.zeros(0)])
    assert sizes == pytest.approx(20, rel=0.03)
    assert object_size([disc(10) * 0, None], [np.zeros(0), np.zeros(0)]) == 0


def test_supports_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="1 objects have 2 supports"):
        object_size([disc(3)], [np.ones(2)])


@given(st.lists(st.just(0.0) | st.floats(1, 1000), max_size=12), st.floats(0.3, 2))
def test_bins_hold_one_octave_and_follow_the_sizes(sizes, octave):
    bins = size_bins(sizes, octave)
    for size, number in zip(sizes, bins, strict=True):
        assert (number == -1) == (size == 0)
    for number in range(max(bins, default=-1) + 1):
        mine = [s for s, b in zip(sizes, bins, strict=True) if b == number]
        assert mine
        assert max(mine) < min(mine) * 2**octave
        assert all(s >= max(mine) for s, b in zip(sizes, bins, strict=True) if b > number)


def test_a_bin_without_width_is_refused():
    with pytest.raises(InputError, match="octave is 0"):
        size_bins([1], 0)
