"""Into how many images a file falls."""

from __future__ import annotations

import pytest

from opsef_bridge.config import Images
from opsef_bridge.images import ImageInfo
from opsef_bridge.sweep.pieces import pieces_of


def texts(axes: str, shape: tuple[int, ...], **how) -> list[str]:
    info = ImageInfo(axes=axes, shape=shape, dtype="uint8")
    return [piece.region.text for piece in pieces_of(info, Images(source=["a.tif"], **how))]


def test_what_is_one_image_stays_whole():
    assert texts("ZCYX", (9, 2, 70, 80)) == [""]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, ["t=0", "t=1", "t=2"]),
        ({"times": [2, 0, 7]}, ["t=0", "t=2"]),
        ({"times": [0], "planes": [1, 3]}, ["t=0 z=1:3"]),
    ],
)
def test_time_points_are_images(how, expected):
    assert texts("TZYX", (3, 4, 70, 80), **how) == expected


@pytest.mark.parametrize(
    ("size", "step", "expected"),
    [
        # The original lost the last one where the planes divide evenly, and the remainder.
        (3, None, ["z=0:3", "z=3:6", "z=6:9"]),
        (4, None, ["z=0:4", "z=4:8", "z=8:9"]),
        (3, 2, ["z=0:3", "z=2:5", "z=4:7", "z=6:9"]),
        (20, None, ["z=0:9"]),
    ],
)
def test_substacks_lose_no_plane(size, step, expected):
    assert texts("ZYX", (9, 70, 80), substacks={"size": size, "step": step}) == expected


def test_substacks_of_chosen_planes_count_from_the_first_of_the_file():
    how = {"planes": (2, 7), "substacks": {"size": 3}}
    assert texts("ZYX", (9, 70, 80), **how) == ["z=2:5", "z=5:7"]


def test_planes_beyond_the_volume_give_no_image():
    assert texts("ZYX", (4, 70, 80), planes=(4, 9)) == []


def test_separate_tiles_cover_every_pixel():
    tiles = {"size": 64, "overlap": 0, "separate": True}
    found = texts("YX", (130, 64), tiles=tiles)
    assert len(found) == 3 and found[0] == "y=0:64 x=0:64"
    rows = set()
    for text in found:
        start, stop = text.split()[0][2:].split(":")
        rows |= set(range(int(start), int(stop)))
    assert rows == set(range(130))


def test_tiles_that_are_stitched_are_no_images():
    assert texts("YX", (500, 500), tiles={"size": 64, "overlap": 8}) == [""]
