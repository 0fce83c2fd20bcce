"""Parts of images: text and JSON come back, cuts compose, limits are said."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images import Image, Reader, Region, read_image, register_reader
from opsef_bridge.images.axes import arrange, arrange_part
from opsef_bridge.images.read import _READERS

SHAPE = {"T": 3, "Z": 4, "C": 3, "Y": 5, "X": 6}


@st.composite
def regions(draw, sizes=SHAPE):
    """Return regions that fit into an image of these sizes."""
    found = {}
    for axis, size in sizes.items():
        if draw(st.booleans()):
            continue
        if axis == "T":
            found["t"] = draw(st.integers(0, size - 1))
        elif axis == "C":
            found["c"] = tuple(draw(st.permutations(range(size)))[: draw(st.integers(1, size))])
        else:
            start = draw(st.integers(0, size - 1))
            found[axis.lower()] = (start, draw(st.integers(start + 1, size)))
    return Region(**found)


@st.composite
def images(draw):
    axes = "".join(axis for axis in "TZC" if draw(st.booleans())) + "YX"
    shape = [SHAPE[axis] for axis in axes]
    data = np.arange(np.prod(shape)).reshape(shape)
    channels = ("a", "b", "c") if "C" in axes else ()
    return Image(
        data, axes, {"Z": 2.0, "X": 0.5} if "Z" in axes else {"X": 0.5}, "um", channels, 7.0
    )


@given(regions())
def test_text_and_json_come_back(region):
    assert Region.from_text(region.text) == region
    assert Region.from_json(json.loads(json.dumps(region.to_json()))) == region
    assert (region.text == "") == (region == Region())


@given(images(), st.data())
def test_a_part_of_a_part_is_one_part(image, data):
    sizes = {axis: image.data.shape[image.axes.index(axis)] for axis in image.axes}
    outer = data.draw(regions(sizes))
    part = outer.cut(image)
    # An axis that the first cut left with one pixel is gone from the image, not from the region.
    left = {axis: 1 for axis in sizes} | dict(zip(part.axes, part.data.shape, strict=True))
    inner = data.draw(regions(left))
    twice, once = inner.cut(part), inner.within(outer).cut(image)
    np.testing.assert_array_equal(twice.data, once.data)
    assert (twice.axes, twice.channels, twice.spacing) == (once.axes, once.channels, once.spacing)
    assert (once.axes, once.data.shape) == inner.shape(part.axes, part.data.shape)


@given(images(), regions())
def test_readers_get_the_same_part_without_the_whole(image, region):
    sizes = {axis: 1 for axis in SHAPE} | dict(zip(image.axes, image.data.shape, strict=True))
    fits = all(
        (region.t or 0) < size if axis == "T" else _end(region, axis) <= size
        for axis, size in sizes.items()
    )
    letters = image.axes[::-1]

    def load(index):
        data = image.data.transpose()
        for i, taken in enumerate(index):
            data = data[(slice(None),) * i + (taken,)]
        return data

    if not fits:
        with pytest.raises(ImageError, match="outside"):
            arrange_part(load, letters, image.data.shape[::-1], region)
        return
    data, axes = arrange_part(load, letters, image.data.shape[::-1], region)
    part = region.cut(image)
    np.testing.assert_array_equal(data, part.data)
    assert axes == part.axes


def _end(region, axis):
    given = getattr(region, axis.lower())
    if given is None:
        return 0
    return max(given) + 1 if axis == "C" else given[1]


def test_channels_chosen_of_many_samples_are_never_colours():
    data = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    for c in ((0, 1, 2), (3, 1, 0, 5), (2,)):
        part, axes = arrange_part(lambda i: data[i], "YXS", (4, 5, 6), Region(c=c), colour=True)
        assert axes == ("CYX" if len(c) > 1 else "YX")
        np.testing.assert_array_equal(part, np.squeeze(np.moveaxis(data, -1, 0)[list(c)]))
    whole, axes = arrange(data[..., :4], "YXS", colour=True)
    assert (whole.shape, axes) == ((4, 5, 3), "YXS")  # the fourth sample of colours is alpha


def test_numbers_from_numpy_and_lists_are_fine():
    region = Region(t=np.int64(2), z=[np.int32(0), 3], c=np.array([1, 0]))
    assert region == Region(t=2, z=(0, 3), c=(1, 0))
    assert json.dumps(region.to_json()) == '{"t": 2, "z": [0, 3], "c": [1, 0]}'


@pytest.mark.parametrize(
    "wrong",
    [
        {"t": -1},
        {"t": 1.0},
        {"t": "1"},
        {"z": (3, 3)},
        {"y": (5, 2)},
        {"x": (0,)},
        {"x": (0, 1, 2)},
        {"y": 4},
        {"c": ()},
        {"c": (1, 1)},
        {"c": 0},
        {"c": "01"},
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(InputError) as caught:
        Region(**wrong)
    assert caught.value.hint
    with pytest.raises(InputError):
        Region.from_json(wrong)


@pytest.mark.parametrize(
    "text",
    ["t", "t=", "t=-1", "z=1", "z=2:1", "c=", "c=,", "y=0:5 y=0:6", "q=1", "t=1,x=0:2", "s=0:1"],
)
def test_wrong_text_is_refused(text):
    with pytest.raises(InputError):
        Region.from_text(text)


def test_json_of_something_else_is_refused():
    with pytest.raises(InputError, match="tiles"):
        Region.from_json({"tiles": 3})
    assert {field.name for field in fields(Region)} == set("tzcyx")


def test_limits_are_said():
    image = Image(np.zeros((3, 8, 9)), "CYX")
    for region, said in [
        (Region(y=(0, 9)), "y=0:9 is outside of the image, which has y=0:8"),
        (Region(c=(0, 3)), "c=0,3 is outside of the image, which has c=0:3"),
        (Region(t=1), "t=1 is outside of the image, which has t=0:1"),
        (Region(z=(0, 2)), "z=0:2 is outside"),
    ]:
        with pytest.raises(ImageError, match=said):
            region.cut(image)
        with pytest.raises(ImageError, match=said):
            region.shape("CYX", (3, 8, 9))
    with pytest.raises(ImageError):
        Region(c=(2,)).within(Region(c=(0, 1)))


def test_a_reader_that_knows_no_regions_is_cut_afterwards(tmp_path):
    image = Image(np.arange(60).reshape(3, 4, 5).astype(np.uint8), "CYX", channels=("a", "b", "c"))
    (tmp_path / "a.raw").write_bytes(b"x")
    try:
        for read in (lambda path, series, axes: image, lambda *all: all[3].cut(image)):
            register_reader(Reader("raw", (".raw",), read, None))
            part = read_image(tmp_path / "a.raw", region=Region(c=(2, 0), x=(1, 3)))
            np.testing.assert_array_equal(part.data, image.data[[2, 0], :, 1:3])
            assert part.channels == ("c", "a")
    finally:
        _READERS.pop(".raw")
