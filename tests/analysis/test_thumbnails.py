"""Thumbnails: the right object, its outline, planes of volumes, borders, sheets, the budget."""

from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.analysis.thumbnails import (
    ON_A_SHEET,
    STEPS,
    Sheet,
    cut_tiles,
    make_sheets,
    outlines_of,
    packed,
)
from opsef_bridge.errors import InputError


def opened(uri: str) -> np.ndarray:
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    return np.asarray(picture.convert("RGBA" if picture.mode == "P" else picture.mode))


def tile(sheet: Sheet, number: int, picture: np.ndarray) -> np.ndarray:
    y, x = (k * sheet.size for k in divmod(number, sheet.columns))
    return picture[y : y + sheet.size, x : x + sheet.size]


def squares(count: int, side: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Objects 1.. in a row, each brighter than the one before."""
    labels = np.zeros((3 * side, 3 * side * count), np.int32)
    for k in range(count):
        labels[side : 2 * side, side * (3 * k + 1) : side * (3 * k + 2)] = k + 1
    return labels.astype(np.float32) * 10, labels


def test_each_tile_shows_its_object_in_the_middle():
    image, labels = squares(4)
    tiles = cut_tiles(image, labels, [3, 1], size=18)
    assert tiles.pictures.shape == (2, 18, 18) and tiles.masks.shape == (2, 18, 18)
    for picture, mask, label in zip(tiles.pictures, tiles.masks, (3, 1), strict=True):
        assert abs(int(picture[9, 9]) - label * 255 / 4) < 8
        rows, columns = np.nonzero(mask)
        assert abs(rows.mean() - 8.5) <= 1 and abs(columns.mean() - 8.5) <= 1
        # The object has two thirds of the side.
        assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 12


def test_objects_keep_their_size_beside_each_other():
    labels = np.zeros((90, 200), int)
    labels[40:50, 40:50], labels[40:50, 80:90], labels[43:48, 120:125] = 1, 2, 3
    labels[20:70, 145:195] = 4
    area = cut_tiles(np.ones(labels.shape), labels, [1, 2, 3, 4], size=30).masks.sum(axis=(1, 2))
    assert area[0] == area[1] and area[2] < area[0] / 2  # smaller stays smaller
    assert area[3] == 20 * 20  # what does not fit is made to fit


def test_at_the_border_the_cut_is_moved_inside_and_small_images_are_padded():
    labels = np.zeros((40, 40), int)
    labels[:8, :8] = 1
    tiles = cut_tiles(np.full(labels.shape, 5.0), labels, [1], size=12)
    assert tiles.masks[0, 0, 0] and not tiles.masks[0, -1].any()
    whole = np.ones((6, 9), int)
    tiles = cut_tiles(whole * 3.0, whole, [1], size=14)
    assert tiles.masks[0].any() and not tiles.masks[0, 0].any() and not tiles.masks[0, -1].any()
    line = np.ones((1, 1), int)
    assert cut_tiles(line * 1.0, line, [1], size=8).masks.any()


def test_of_a_volume_the_plane_with_most_of_the_object():
    labels = np.zeros((5, 30, 30), int)
    labels[1, 10:12, 10:12] = labels[3, 8:16, 8:16] = 2
    image = np.zeros(labels.shape, np.uint16)
    image[3] = 1000
    tiles = cut_tiles(image, labels, [2], size=12)
    assert tiles.pictures.min() == 255
    assert tiles.masks.sum() == 64


def test_colours_stay_and_colours_of_16_bits_are_scaled():
    labels = np.zeros((20, 20), int)
    labels[6:14, 6:14] = 1
    image = np.zeros((20, 20, 3), np.uint8)
    image[6:14, 6:14] = 200, 30, 90
    assert cut_tiles(image, labels, [1], size=12).pictures[0, 6, 6].tolist() == [200, 30, 90]
    deep = cut_tiles(image.astype(np.uint16) * 100, labels, [1], size=12).pictures[0, 6, 6]
    assert deep.tolist() == pytest.approx([255, 38, 115], abs=2)


def test_what_does_not_fit_is_refused():
    labels = np.ones((4, 4), int)
    with pytest.raises(InputError, match="shape"):
        cut_tiles(np.zeros((4, 5)), labels, [1])
    for shape in ((4, 4, 1), (4, 4, 2), (4, 4, 4), (4, 4, 3, 1), (4,)):
        with pytest.raises(InputError, match="shape"):
            cut_tiles(np.zeros(shape, np.uint8), labels, [1])
    with pytest.raises(InputError, match="no object 9"):
        cut_tiles(np.zeros((4, 4)), labels, [1, 9])
    assert cut_tiles(np.zeros((4, 4)), labels, []).pictures.shape == (0, 48, 48)
    nothing = cut_tiles(np.full((4, 4), np.nan), labels, [1], size=8)
    assert nothing.pictures.max() == 0


@given(
    tiles=st.integers(1, 30), size=st.integers(1, 4), columns=st.integers(1, 9), seed=st.integers(0)
)
@settings(max_examples=40, deadline=None)
def test_packed_tiles_are_found_again(tiles, size, columns, seed):
    of = np.random.default_rng(seed).integers(0, 255, (tiles, size, size))
    sheet = packed(of, columns)
    for k in range(tiles):
        y, x = (n * size for n in divmod(k, columns))
        np.testing.assert_array_equal(sheet[y : y + size, x : x + size], of[k])


def test_outlines_are_outside_and_have_a_halo():
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 4, 4] = True
    found = outlines_of(mask)[0]
    assert found[4].tolist() == [0, 0, 2, 1, 0, 1, 2, 0, 0]
    assert (found == 1).sum() == 4 and (found == 2).sum() == 8


def test_sheets_have_pictures_and_outlines_at_the_same_place():
    image, labels = squares(7)
    [sheet], step = make_sheets(image, labels, range(1, 8))
    assert step == 0 and sheet.size == STEPS[0][0] and sheet.columns == 3
    pictures, outlines = opened(sheet.picture), opened(sheet.outlines)
    assert pictures.shape == outlines.shape[:2] == (3 * 96, 3 * 96)
    for k in range(7):
        grey, layer = tile(sheet, k, pictures), tile(sheet, k, outlines)
        assert abs(int(grey[48, 48]) - (k + 1) * 255 / 7) < 8
        assert (
            layer[48, 48, 3] == 0 and (layer[..., :3][layer[..., 3] == 255] == (255, 225, 0)).all()
        )
        assert 200 < (layer[..., 3] == 255).sum() < 400
    assert tile(sheet, 8, outlines)[..., 3].max() == 0


def test_a_budget_makes_thumbnails_smaller():
    noise = np.random.default_rng(0).normal(500, 90, (220, 220))
    rows, columns = np.indices(noise.shape) // 10
    labels = 1 + rows * 22 + columns
    ids = np.arange(1, 485)
    full, first = make_sheets(noise, labels, ids, step=2)
    small, step = make_sheets(noise, labels, ids, budget=600, step=2)
    assert len(full) == -(-484 // ON_A_SHEET) and first == 2 < step
    assert sum(sheet.characters for sheet in small) <= 600 * 484
    # What 20,000 objects of pure noise may have: 12 MB.
    least, step = make_sheets(noise, labels, ids, budget=1, step=5)
    assert step == len(STEPS) - 1
    assert sum(sheet.characters for sheet in least) / 484 < 600
