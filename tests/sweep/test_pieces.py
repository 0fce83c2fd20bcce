"""Into how many images a file falls."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.config import Images
from opsef_bridge.images import ImageInfo
from opsef_bridge.sweep.pieces import pieces_of, remarks, series_remarks


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


def said(axes: str, shape: tuple[int, ...], **how) -> list[str]:
    return remarks(ImageInfo(axes, shape, "uint8"), Images(source=["a.tif"], **how))


@pytest.mark.parametrize(
    ("axes", "depth", "how", "expected"),
    [
        ("ZYX", 17, {"substacks": {"size": 5}}, "17 planes in substacks of 5: the last has 2"),
        ("ZYX", 3, {"substacks": {"size": 5}}, "3 planes in substacks of 5: the only one has 3"),
        ("ZYX", 9, {"planes": (2, 7), "substacks": {"size": 3}}, "5 planes .* the last has 2"),
        ("ZYX", 8, {"substacks": {"size": 3, "step": 5}}, "of 3, one every 5: planes 3, 4 are in"),
        ("ZYX", 4, {"substacks": {"size": 3, "step": 9}}, "4 planes .* plane 3 is in none"),
        ("ZYX", 90, {"substacks": {"size": 1, "step": 80}}, "6, 7, 8 and 80 more are in none"),
        ("ZYX", 6, {"planes": (4, 9)}, r"\[4, 9\] are asked for, it has 6: \[4, 6\] is taken"),
        ("ZYX", 4, {"planes": (4, 9)}, "it has 4: nothing of it is taken"),
        ("CYX", 4, {"planes": (0, 2)}, "it has 1: it is taken whole"),
        ("TYX", 3, {"times": [0, 7, 5]}, "no time point 5, 7: it has 3, counted from 0$"),
        ("TYX", 3, {"times": [3]}, "no time point 3: .* nothing of it is taken"),
        ("ZYX", 3, {"times": [1]}, "times 1 are asked for, it has one: it is taken whole"),
    ],
)
def test_what_is_left_over_or_not_there_is_said(axes, depth, how, expected):
    [sentence] = said(axes, (depth, 64, 64), **how)
    assert re.search(expected, sentence), sentence


@pytest.mark.parametrize(
    ("axes", "shape", "how"),
    [
        ("TZYX", (3, 4, 64, 64), {}),
        ("TZYX", (3, 10, 64, 64), {"times": [0, 2], "planes": (0, 9), "substacks": {"size": 3}}),
        ("ZYX", (9, 64, 64), {"substacks": {"size": 3, "step": 2}}),
        ("YX", (64, 64), {"times": [0], "planes": (0, 1), "substacks": {"size": 3}}),
    ],
)
def test_where_all_is_there_nothing_is_said(axes, shape, how):
    assert said(axes, shape, **how) == []


def test_a_file_without_the_chosen_series():
    assert series_remarks(3, Images(source=["a.lif"], series=[0, 2])) == []
    assert series_remarks(3, Images(source=["a.lif"])) == []
    [some] = series_remarks(1, Images(source=["a.lif"], series=[0, 1]))
    [none] = series_remarks(1, Images(source=["a.lif"], series=[1]))
    assert "nothing" not in some and none.endswith("so nothing of it is taken")


@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 30))
def test_planes_are_lost_or_short_exactly_where_it_is_said(depth, size, step, first):
    how = {"substacks": {"size": size, "step": step}, "planes": (first, first + depth)}
    spans = [text[2:].split(":") for text in texts("ZYX", (depth, 64, 64), **how)]
    lengths = [int(stop) - int(start) for start, stop in spans]
    taken = {z for start, stop in spans for z in range(int(start), int(stop))}
    sentences = said("ZYX", (depth, 64, 64), **how)
    if not spans:
        assert [one for one in sentences if "nothing of it is taken" in one] == sentences != []
        return
    short = [one for one in sentences if one.endswith(f" has {lengths[-1]}")]
    assert bool(short) == (lengths[-1] < size)
    assert any("in none" in one for one in sentences) == (taken < set(range(first, depth)))
    assert all(length == size for length in lengths[:-1])
