import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import InputError
from opsef_bridge.measure.moments import boxes
from opsef_bridge.measure.overlap import label_runs
from opsef_bridge.measure.regions import object_columns, region_table
from opsef_bridge.measure.stitch import Objects
from opsef_bridge.postprocess import Postprocess, clean
from opsef_bridge.postprocess.large import clean_large

images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=9),
    elements=st.sampled_from([0, 0, 1, 2, 5, 9, 70000]),
)


def draw(*rows):
    return np.array([[int(c) for c in row] for row in rows])


@settings(max_examples=60, deadline=None)
@given(images)
def test_without_options_it_only_renumbers(labels):
    before = labels.copy()
    result = clean(labels)
    ids = np.unique(labels[labels > 0])
    assert result.dtype == np.int32
    np.testing.assert_array_equal(
        result, np.searchsorted(ids, labels) * (labels > 0) + (labels > 0)
    )
    np.testing.assert_array_equal(labels, before)


@settings(max_examples=60, deadline=None)
@given(images, st.integers(0, 6), st.integers(0, 12))
def test_area_bounds_are_inclusive(labels, low, more):
    result = clean(labels, keep=[{"area": (low, low + more)}])
    for label in np.unique(labels[labels > 0]):
        area = (labels == label).sum()
        kept = result[labels == label] > 0
        assert kept.all() == kept.any() == (low <= area <= low + more)


def test_the_inner_of_two_rings_keeps_its_hole():
    rings = draw("1111111", "1000001", "1022201", "1020201", "1022201", "1000001", "1111111")
    expected = draw("1111111", "1111111", "1122211", "1122211", "1122211", "1111111", "1111111")
    for numbers in ((0, 1, 2), (0, 2, 1)):
        swap = np.array(numbers)
        np.testing.assert_array_equal(clean(swap[rings], fill_holes=True), swap[expected])


def test_objects_at_the_border_go():
    labels = draw("10000", "10220", "00200", "03000", "03044")
    np.testing.assert_array_equal(clean(labels, clear_border=True) > 0, labels == 2)
    volume = np.stack([labels] * 2)
    np.testing.assert_array_equal(clean(volume, clear_border=True) > 0, volume == 2)


def test_solidity_and_area_together():
    labels = np.zeros((40, 80), int)
    labels[5:25, 5:25] = 4
    labels[5:25, 40:60] = 8
    labels[8:25, 43:57] = 0  # a U: solidity about a third
    labels[30:33, 30:33] = 6
    result = clean(labels, keep=[{"area": [30, None]}, {"solidity": [0.8, None]}])
    np.testing.assert_array_equal(result, labels == 4)


def test_round_objects_are_kept_in_memory_and_in_pieces():
    y, x = np.indices((60, 200))
    labels = np.zeros((60, 200), int)
    labels[np.hypot(y - 30, x - 30) < 20] = 1
    labels[np.hypot(y - 30, (x - 120) / 3) < 20] = 2
    labels[30, 190] = 3  # one pixel counts as round
    keep = [{"circularity": [0.7, None]}]
    np.testing.assert_array_equal(clean(labels, keep=keep), labels % 2 + (labels == 3))
    flat = clean(labels, keep=[{"circularity": [None, 0.7]}])
    np.testing.assert_array_equal(flat, labels == 2)
    low, high, _ = boxes(label_runs(labels))
    objects = Objects(np.bincount(labels.ravel())[1:], low.T, high.T)
    number, _ = clean_large(labels.astype(np.int32), objects, keep=keep)
    assert number.tolist() == [0, 1, 0, 2]


@settings(max_examples=40, deadline=None)
@given(
    images.filter(lambda labels: labels.ndim == 2),
    st.sampled_from(object_columns("yx")),
    st.none() | st.floats(0, 4),
    st.none() | st.floats(4, 9),
)
def test_bounds_of_any_property_are_those_of_its_column(labels, name, low, high):
    table = region_table(labels, properties=[name])
    values = table[name].to_numpy(float)
    inside = (values >= (-np.inf if low is None else low)) & (
        values <= (np.inf if high is None else high)
    )
    kept = clean(labels, keep=[{name: (low, high)}]) > 0
    np.testing.assert_array_equal(kept, np.isin(labels, table.label[inside]))


def test_an_open_range_keeps_all_and_an_empty_image_stays():
    labels = draw("0110", "2200")
    np.testing.assert_array_equal(clean(labels, keep=[{"area": (None, None)}]), labels)
    for options in ({"fill_holes": True}, {"clear_border": True}, {"keep": [{"area": (1, 2)}]}):
        assert not clean(np.zeros((5, 6), int), **options).any()


def test_what_opening_parts_becomes_objects_or_the_largest_of_them():
    labels = np.zeros((9, 20), int)
    labels[1:8, 1:8] = 5
    labels[4, 8:12] = 5  # a bridge
    labels[2:7, 12:17] = 5
    labels[4, 17:] = 9  # nothing of it is as wide as the disk
    parted = clean(labels, open=1)
    expected = np.zeros_like(labels)
    expected[1:8, 1:8] = 1
    expected[2:7, 12:17] = 2
    np.testing.assert_array_equal(parted, expected)
    largest = clean(labels, open=1, largest_component=True)
    np.testing.assert_array_equal(largest, expected == 1)
    np.testing.assert_array_equal(clean(labels, open=0), labels // 9 + labels.clip(0, 1))


def test_only_an_opening_parts_objects():
    labels = draw("1101", "0000", "2022")
    np.testing.assert_array_equal(clean(labels), labels)
    largest = clean(labels, largest_component=True)
    np.testing.assert_array_equal(largest, draw("1100", "0000", "0022"))


def test_steps_come_in_their_order():
    labels = np.zeros((9, 12), int)
    labels[1:8, 3:10] = 7
    labels[3:6, 5:8] = 0  # a hole: opening would make it larger
    labels[4, :3] = 7  # a whisker to the border: without opening, clear_border takes all
    whole = clean(labels, fill_holes=True, open=2, clear_border=True, keep=[{"area": [45, 49]}])
    assert whole.sum() == 45  # a square of 7 without its corners
    assert not clean(labels, open=2).any()
    assert not clean(labels, fill_holes=True, clear_border=True).any()


def test_objects_are_kept_by_intensity():
    labels = draw("1100", "0022", "3300")
    image = np.array([[80, 100, 0, 0], [0, 0, 90, 91], [65535, 65535, 0, 0]], np.uint16)
    bright = clean(labels, keep=[{"intensity_mean": (90, None)}], intensity=image)
    np.testing.assert_array_equal(bright, draw("1100", "0022", "3300"))
    some = clean(labels, keep=[{"intensity_mean": (90.5, 65534)}], intensity=image)
    np.testing.assert_array_equal(some, draw("0000", "0011", "0000"))
    channels = np.stack([image, 65535 - image])
    second = [{"area": (2, 2), "intensity_max_1": (None, 65444)}]
    np.testing.assert_array_equal(
        clean(labels, keep=second, intensity=channels), draw("0000", "0000", "1100")
    )
    second[0]["area"] = (4, 4)
    volume = clean(np.stack([labels] * 2), keep=second, intensity=np.stack([channels] * 2, 1))
    np.testing.assert_array_equal(volume[1], draw("0000", "0000", "1100"))


@settings(max_examples=40, deadline=None)
@given(images, st.data())
def test_many_bounds_are_all_of_them(labels, data):
    bounds = st.tuples(st.none() | st.integers(0, 5), st.none() | st.integers(5, 30))
    names = ["area", "extent", "bbox_y0", "intensity_sum"]
    keep = data.draw(st.lists(st.dictionaries(st.sampled_from(names), bounds), max_size=4))
    image = np.arange(labels.size).reshape(labels.shape) % 7
    result = clean(labels, keep=keep, intensity=image)
    one_by_one = labels
    for entry in keep:
        for name, ends in entry.items():
            one_by_one = clean(one_by_one, keep=[{name: ends}], intensity=image)
    np.testing.assert_array_equal(result, clean(one_by_one))


def test_intensities_need_an_image_of_the_same_shape():
    keep = [{"intensity_mean": (0, 1)}]
    with pytest.raises(InputError, match="there is none") as caught:
        clean(draw("011"), keep=keep)
    assert "intensity" in caught.value.hint
    with pytest.raises(InputError, match="shape"):
        clean(draw("011"), keep=keep, intensity=np.zeros((5, 7)))
    with pytest.raises(InputError, match="one number"):
        clean(draw("011"), keep=keep, intensity=np.zeros((2, 1, 3)))
    assert Postprocess(keep=[{"area": [1, 2]}, *keep]).needs_intensity()
    assert not Postprocess(keep=[{"area": [1, 2]}]).needs_intensity()


@pytest.mark.parametrize("radius", [-1, 51])
def test_an_opening_out_of_range_is_refused(radius):
    with pytest.raises(InputError, match=str(radius)):
        clean(draw("011"), open=radius)


@pytest.mark.parametrize("name", ["roundness", "centroid", "intensity_mean"])
def test_unknown_properties_are_named(name):
    with pytest.raises(InputError, match=name):
        clean(draw("011"), keep=[{name: (0, 1)}])


@pytest.mark.parametrize(
    "labels", [draw("01") - 1, np.zeros((3, 3)), np.zeros(3, int), np.zeros((0, 3), int)]
)
def test_what_is_no_label_image_is_refused(labels):
    with pytest.raises(InputError):
        clean(labels)


@pytest.mark.parametrize(
    "block",
    [
        {"fill": True},
        {"keep": [{"area": [5, 3]}]},
        {"keep": [{"area": 5}]},
        {"keep": {"area": [5, 9]}},
        {"fill_holes": "maybe"},
        {"open": -1},
        {"open": 51},
        {"open": 1.5},
        {"keep": [{"area": [float("nan"), None]}]},
    ],
)
def test_the_model_refuses(block):
    with pytest.raises(pydantic.ValidationError):
        Postprocess(**block)


def test_the_model_fits_the_function():
    block = Postprocess(fill_holes=True, largest_component=True, keep=[{"area": [2, None]}])
    assert clean(draw("0110", "0102"), **block.model_dump()).max() == 1
    assert Postprocess.model_validate_json(block.model_dump_json()) == block
