"""Stitching onto a file: the labels of `stitch`, and what is told of the objects."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label

from opsef_bridge.errors import InputError
from opsef_bridge.measure.stitch import blocks, stitch, stitch_onto

module = sys.modules[stitch.__module__]


def cut(whole: np.ndarray, size: int, overlap: int, seed: int = 0) -> tuple[list, list]:
    """Tiles of `whole` in any order, each numbered anew by its connected parts."""
    starts = [range(0, max(length - overlap, 1), size - overlap) for length in whole.shape]
    places = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, whole.ndim)
    np.random.default_rng(seed).shuffle(places)
    boxes = [tuple(slice(p, p + size) for p in place) for place in places]
    return [label(whole[box], connectivity=1) for box in boxes], [tuple(p) for p in places]


shapes = st.tuples(st.integers(1, 20), st.integers(1, 20)) | st.tuples(
    st.integers(1, 5), st.integers(1, 12), st.integers(1, 12)
)


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(4, 9), st.integers(1, 3), st.integers(0, 2**32))
def test_a_canvas_in_a_file_gets_what_stitch_returns(shape, size, overlap, seed):
    whole = label(np.random.default_rng(seed).random(shape) < 0.4, connectivity=1)
    tiles, positions = cut(whole, size, overlap, seed)
    expected = stitch(tiles, positions, shape)
    assert expected.max() == whole.max()
    pairs = np.unique(expected * (whole.max() + 1) + whole)
    assert len(pairs) == len(np.unique(whole))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", (2, 5, 3))
        canvas = np.zeros(shape, np.int32)
        objects = stitch_onto(canvas, iter(tiles), positions)
    assert np.array_equal(canvas, expected)
    assert objects.areas.tolist() == np.bincount(expected.ravel())[1:].tolist()
    found = ndimage.find_objects(expected)
    assert objects.low.tolist() == [[side.start for side in box] for box in found]
    assert objects.high.tolist() == [[side.stop for side in box] for box in found]


def test_a_memmap_is_written_and_costs_the_memory_of_tiles(tmp_path, monkeypatch):
    # 12 MB of labels by tiles of 40 kB.
    monkeypatch.setattr(module, "BLOCK", (1, 100, 100))
    side, tile = 1750, 100
    ring = np.zeros((tile, tile), np.uint16)
    ring[20:80, 20:80] = 3
    positions = [(y, x) for y in range(0, side, 75) for x in range(0, side, 75)]
    positions = [place for place in positions if max(place) + tile <= side]
    canvas = np.memmap(tmp_path / "canvas", np.int32, "w+", shape=(side, side))
    stitch([ring, ring], [(0, 0), (0, 9)], (tile, tile + 9))  # compiles
    tracemalloc.start()
    objects = stitch_onto(canvas, (ring for _ in positions), positions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(objects) == len(positions) == np.fromfile(tmp_path / "canvas", np.int32).max()
    assert set(objects.areas.tolist()) <= {3600}
    assert peak < canvas.nbytes / 5


def test_objects_that_face_each_other_across_a_seam_are_joined():
    left, right = np.zeros((6, 3), int), np.zeros((6, 3), int)
    left[1:3, 1:] = 1
    left[4, 1:] = 2
    right[1:3, :2] = 5
    assert stitch([left, right], [(0, 0), (0, 3)], (6, 6)).max() == 3
    joined = stitch([left, right], [(0, 0), (0, 3)], (6, 6), touching=True)
    assert joined.max() == 2 and len(set(joined[1, 1:5])) == 1
    # In any order, and along every axis of a volume.
    for axis in range(3):
        cube = np.ones((3, 3, 3), int)
        places = [np.zeros(3, int), 3 * np.eye(3, dtype=int)[axis]]
        shape = 3 + 3 * np.eye(3, dtype=int)[axis]
        for order in (places, places[::-1]):
            found = stitch([cube, cube], [tuple(p) for p in order], tuple(shape), touching=True)
            assert found.max() == 1


def test_where_tiles_overlap_touching_changes_nothing():
    whole = label(np.random.default_rng(3).random((40, 50)) < 0.3, connectivity=1)
    tiles, positions = cut(whole, 12, 4)
    plain = stitch(tiles, positions, whole.shape)
    assert np.array_equal(plain, stitch(tiles, positions, whole.shape, touching=True))


@given(shapes)
def test_blocks_cover_all_once(shape):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", (2, 5, 3))
        seen = np.zeros(shape, int)
        for block in blocks(shape):
            seen[block] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(("tiles", "places"), [(1, 2), (3, 2), (0, 1)])
def test_a_count_that_does_not_fit_is_refused(tiles, places):
    with pytest.raises(InputError, match=f"{tiles} tiles have {places} positions"):
        stitch_onto(
            np.zeros((4, 4), np.int32), (np.ones((4, 4), int) for _ in range(tiles)),
            [(0, 0)] * places,
        )  # fmt: skip
