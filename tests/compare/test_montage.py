"""The montage: a tile per variant, outlines where the objects are, captions that fit."""

from __future__ import annotations

import numpy as np
import pytest

from opsef_bridge.compare.montage import GAP, YELLOW, Tile, montage, tile_shape

PICTURE = np.tile(np.arange(100, dtype=np.uint8), (80, 1))


def labels_at(y: int, x: int) -> np.ndarray:
    labels = np.zeros(PICTURE.shape, np.int32)
    labels[y : y + 20, x : x + 30] = 1
    return labels


def yellow(drawn: np.ndarray) -> np.ndarray:
    return (drawn == YELLOW).all(axis=2)


def test_every_variant_has_a_tile_with_its_outlines():
    places = [(5, 5), (40, 60), (30, 20)]
    tiles = [Tile(labels_at(*place), f"#{n} v000{n}", "words") for n, place in enumerate(places)]
    drawn = montage(PICTURE, iter(tiles), 3, ["title"])
    height, width = tile_shape(PICTURE.shape, 3)
    factor = height // PICTURE.shape[0]
    assert factor == 4 and width == 400
    rows, columns = np.nonzero(yellow(drawn))
    tile = (columns - GAP) // (width + GAP) + 100 * (rows // (height + 60))
    assert len(np.unique(tile)) == 3
    for number in np.unique(tile):
        own = tile == number
        assert np.ptp(rows[own]) + 1 == 20 * factor and np.ptp(columns[own]) + 1 == 30 * factor
    offsets = {(rows[tile == n].min() % (height + 60), columns[tile == n].min()) for n in set(tile)}
    assert len(offsets) == 3


def test_outlines_of_a_large_picture_stay_visible():
    labels = np.zeros((1600, 1600), np.int32)
    labels[403:800, 403:800] = 5
    drawn = montage(np.zeros(labels.shape, np.uint8), [Tile(labels, "a", "b")], 1)
    assert drawn.shape[1] < 600
    rows, columns = np.nonzero(yellow(drawn))
    assert (np.ptp(rows), np.ptp(columns)) == (98, 98)
    assert len(rows) == 4 * 98


def test_captions_differ_and_never_leave_their_tile():
    blank = np.zeros((64, 64), np.int32)
    long = "a-word-without-any-blank-" * 40
    drawn = [
        montage(PICTURE[:64, :64], [Tile(blank, title, text)] * 2, 2)
        for title, text in (("#1 v0001", "a"), ("#2 v0002", "a"), (long, "x " * 900))
    ]
    assert drawn[0].shape == drawn[1].shape == drawn[2].shape
    assert not np.array_equal(drawn[0], drawn[1])
    paper = (drawn[2] == 255).all(axis=2)
    assert paper[:, : GAP - 2].all() and paper[:, -GAP // 2 :].all() and paper[-1].all()


@pytest.mark.parametrize("count", [1, 2, 5, 16, 400])
def test_a_montage_of_many_is_no_larger_than_a_screen_can_show(count):
    height, width = tile_shape((512, 700), count)
    assert 90 <= max(height, width) <= 400
    assert height * width * count < 45_000_000
