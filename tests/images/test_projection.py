import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import InputError
from opsef_bridge.images import projection
from opsef_bridge.images.projection import PROJECTIONS, project_volume, substacks

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8", ">u2", ">f4"]


@st.composite
def volumes(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
    elements = st.floats(-60000, 60000, width=16) if dtype.kind == "f" else None
    return draw(hnp.arrays(dtype, shape, elements=elements))


@settings(max_examples=150, deadline=None)
@given(volumes())
def test_projections_are_numpys(volume):
    before = volume.copy()
    high = project_volume(volume, "max")
    assert high.dtype == volume.dtype
    np.testing.assert_array_equal(high, volume.max(axis=0))
    total = project_volume(volume, "sum")
    real = volume.dtype.kind == "f"
    assert total.dtype == (np.float64 if real else np.int64)
    np.testing.assert_array_equal(total, volume.astype(float).sum(axis=0))
    fine = np.float32 if volume.dtype.itemsize <= (4 if real else 2) else np.float64
    exact = volume.astype(np.float64)
    for how, expected in (("median", np.median(exact, axis=0)), ("mean", exact.mean(axis=0))):
        result = project_volume(volume, how)
        assert result.dtype == fine
        np.testing.assert_array_equal(result, expected.astype(fine))
    assert project_volume(volume, "none") is volume
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize("depth", [4, 5])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_16_bit_is_exact_at_its_ends(depth, dtype):
    limits = np.iinfo(dtype)
    random = np.random.default_rng(depth)
    volume = random.integers(limits.min, limits.max, (depth, 40, 50), dtype, endpoint=True)
    volume[:, 0] = limits.max
    volume[:, 1] = limits.min
    np.testing.assert_array_equal(project_volume(volume, "max"), np.max(volume, axis=0))
    np.testing.assert_array_equal(project_volume(volume, "sum"), np.sum(volume, axis=0))
    np.testing.assert_array_equal(project_volume(volume, "median"), np.median(volume, axis=0))
    assert project_volume(volume, "sum")[0, 0] == depth * int(limits.max)


def test_halves_of_large_values_are_kept():
    for pair, middle in (((1024, 1025), 1024.5), ((60000, 60032), 60016)):
        halves = np.array(pair, np.float16).reshape(2, 1, 1)
        assert project_volume(halves, "median").item() == middle
        assert project_volume(halves, "mean").item() == middle
    volume = np.array([[[2**30]], [[2**30 + 1]]], np.int32)
    assert project_volume(volume, "median").item() == 2**30 + 0.5
    assert project_volume(volume, "mean").item() == 2**30 + 0.5


def test_not_a_number_stays():
    volume = np.ones((3, 2, 2), np.float32)
    volume[1, 0, 0] = np.nan
    for how in ("max", "sum", "median", "mean"):
        np.testing.assert_array_equal(np.isnan(project_volume(volume, how)), [[1, 0], [0, 0]])


class Counting:
    """An array that is read when it is sliced, and keeps the largest part that was read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, 3
        self.most = 0

    def __getitem__(self, where):
        part = self.array[where]
        self.most = max(self.most, part.size)
        return part


@pytest.mark.parametrize("how", ["max", "sum", "median", "mean"])
def test_no_more_is_read_at_once_than_needed(how, monkeypatch):
    monkeypatch.setattr(projection, "STRIP", 6 * 30 * 4)
    volume = np.random.default_rng(1).integers(0, 9, (6, 25, 30)).astype(np.uint8)
    lazy = Counting(volume)
    np.testing.assert_array_equal(project_volume(lazy, how), project_volume(volume, how))
    assert lazy.most <= (6 * 30 * 4 if how == "median" else 25 * 30)


def test_a_plane_is_returned_as_it_is():
    plane = np.zeros((3, 4), np.uint8)
    for how in PROJECTIONS:
        assert project_volume(plane, how) is plane


def test_sums_of_64_bits_do_not_wrap():
    volume = np.full((2, 1, 1), 2**62 - 1, np.uint64)
    assert project_volume(volume, "sum").item() == 2**63 - 2
    for values in ([2**62, 0], [0, 2**63]):
        volume[:, 0, 0] = values
        with pytest.raises(InputError, match="64 bits"):
            project_volume(volume, "sum")


@pytest.mark.parametrize(
    ("volume", "how", "said"),
    [
        (np.zeros((2, 3, 4)), "minimum", "minimum"),
        (np.zeros((2, 2, 3, 4)), "max", "2, 2, 3, 4"),
        (np.zeros(4), "none", "4,"),
        (np.zeros((0, 3, 4)), "max", "0, 3, 4"),
        (np.zeros((2, 3, 4), complex), "max", "complex"),
    ],
)
def test_what_cannot_be_projected_is_refused(volume, how, said):
    with pytest.raises(InputError, match=said):
        project_volume(volume, how)


@given(st.integers(1, 40), st.integers(1, 12), st.none() | st.integers(1, 15))
def test_substacks_lose_no_plane(depth, size, step):
    parts = substacks(depth, size, step)
    stride = step or size
    assert [start for start, _ in parts] == list(range(0, stride * len(parts), stride))
    assert all(0 <= start < stop <= depth for start, stop in parts)
    assert all(stop - start == size for start, stop in parts[:-1])
    assert 1 <= parts[-1][1] - parts[-1][0] <= size
    for (_, first), (_, second) in itertools.pairwise(parts):
        assert first < second  # none lies within another
    if stride <= size:
        covered = set().union(*(range(*part) for part in parts))
        assert covered == set(range(depth))
    else:
        assert len(parts) == -(-depth // stride)


def test_the_last_substack_is_kept_where_planes_divide_evenly():
    assert substacks(9, 3) == [(0, 3), (3, 6), (6, 9)]
    assert substacks(2, 5) == [(0, 2)]
    assert substacks(10, 3) == [(0, 3), (3, 6), (6, 9), (9, 10)]


@pytest.mark.parametrize("numbers", [(0, 3), (9, 0), (9, 3, 0), (9, -1, 2)])
def test_numbers_below_1_are_refused(numbers):
    with pytest.raises(InputError, match=r"is (0|-1)"):
        substacks(*numbers)
