"""The review map: colours by support, outlines, what is missing."""

from __future__ import annotations

import itertools

import numpy as np

from opsef_bridge.compare.review_map import (
    CLASSES,
    MISSING,
    class_of,
    legend,
    map_lut,
    map_plane,
    support_image,
    support_lut,
)


def lightness(rgb: tuple[int, int, int]) -> float:
    """Relative luminance (sRGB, IEC 61966-2-1)."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
              for v in (value / 255 for value in rgb)]  # fmt: skip
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_classes_cover_all_supports_and_get_darker():
    assert CLASSES[0].low == 0 and CLASSES[-1].high == 1
    assert all(a.high == b.low for a, b in itertools.pairwise(CLASSES))
    shades = [lightness(one.rgb) for one in CLASSES]
    assert all(a > 1.4 * b for a, b in itertools.pairwise(shades))
    assert class_of(np.linspace(0, 1, 11)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]


def test_every_object_has_its_support_and_its_colour():
    labels = np.zeros((3, 9), np.int32)
    labels[:, 0], labels[:, 2], labels[:, 4] = 70000, 3, 12
    image = support_image(labels, {70000: 1.0, 3: 0.0, 12: 0.5})
    assert image[0].tolist() == [255, 0, 1, 0, 128, 0, 0, 0, 0]
    colours = support_lut()[:, image[0]].T.tolist()
    assert colours[:5:2] == [list(CLASSES[i].rgb) for i in (4, 0, 2)]
    assert colours[1] == [0, 0, 0]
    volume = np.stack([labels, labels[::-1]])
    assert (support_image(volume, {70000: 1.0, 3: 0.0, 12: 0.5})[1] == image).all()


def test_outlines_lie_on_the_picture():
    labels = np.zeros((12, 12), np.int32)
    labels[2:8, 2:8] = 5
    drawn = map_plane(np.full((12, 12), 255, np.uint8), labels, {5: 0.1})
    colours = map_lut()[:, drawn].transpose(1, 2, 0)
    assert tuple(colours[2, 4]) == CLASSES[0].rgb
    inside, outside = colours[4, 4], colours[10, 10]
    assert (inside == outside).all() and inside[0] == inside[1] == inside[2] < 200
    assert (drawn == MISSING).sum() == 0
    loop = [(8, 8), (11, 8), (11, 11), (8, 11)]
    drawn = map_plane(np.zeros((12, 12), np.uint8), labels, {5: 0.1}, [[loop]], zoom=3)
    assert drawn.shape == (36, 36) and drawn[24, 26] == MISSING and drawn[28, 28] == 0


def test_nothing_found_is_the_picture_alone():
    empty = np.zeros((4, 5), np.int32)
    assert support_image(empty, {}).max() == 0
    assert map_plane(np.full((4, 5), 7, np.uint8), empty, {}).tolist() == [[7] * 5] * 4


def test_the_legend_is_as_wide_as_its_words():
    narrow = legend(10, "i00001: v0001 of run-0001")
    assert narrow.shape[1] > 300 and legend(900, "x").shape[1] == 900
    colours = {tuple(pixel) for pixel in narrow.reshape(-1, 3).tolist()}
    assert {one.rgb for one in CLASSES} <= colours
