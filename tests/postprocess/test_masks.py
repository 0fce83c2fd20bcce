import numpy as np
import pydantic
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import InputError
from opsef_bridge.postprocess import (
    ClassMask,
    auto_mask,
    classes_by_mask,
    labels_of_class,
    make_mask,
    split_by_mask,
)

images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=8),
    elements=st.sampled_from([0, 0, 1, 2, 5, 70000]),
)


@settings(max_examples=80, deadline=None)
@given(images, st.data(), st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6, 0.7, 1.0]))
def test_shares_are_counted_and_the_bound_is_inclusive(labels, data, fraction):
    mask = data.draw(hnp.arrays(np.uint8, labels.shape, elements=st.sampled_from([0, 1, 255])))
    hundredths = round(100 * fraction)
    expected = {
        int(label): 1
        if 100 * np.count_nonzero(mask[labels == label])
        >= hundredths * np.count_nonzero(labels == label)
        else 2
        for label in np.unique(labels[labels > 0])
    }
    classes = split_by_mask(labels, mask, fraction=fraction)
    assert classes == expected and list(classes) == sorted(classes)
    for kind in (bool, np.int64, np.float32):
        assert split_by_mask(labels, mask.astype(kind), fraction=fraction) == expected
    first, second = (labels_of_class(labels, classes, number) for number in (1, 2))
    assert not (first.astype(bool) & second.astype(bool)).any()
    np.testing.assert_array_equal(first + second, labels)


@settings(max_examples=60, deadline=None)
@given(images, st.data())
def test_centroids_are_cut_to_a_pixel(labels, data):
    mask = data.draw(hnp.arrays(bool, labels.shape))
    expected = {}
    for label in np.unique(labels[labels > 0]):
        total = np.argwhere(labels == label).sum(axis=0)  # whole numbers: no rounding
        centre = total // np.count_nonzero(labels == label)
        expected[int(label)] = 1 if mask[tuple(centre)] else 2
    assert split_by_mask(labels, mask, rule="centroid") == expected


def test_the_rules_differ_for_a_crescent():
    y, x = np.ogrid[:40, :40]
    labels = ((np.hypot(y - 20, x - 20) < 18) & (np.hypot(y - 20, x - 28) > 14)).astype(int)
    centre = np.array(ndi.center_of_mass(labels)).astype(int)
    mask = np.zeros((40, 40), bool)
    mask[centre[0] - 2 : centre[0] + 3, centre[1] - 2 : centre[1] + 3] = True
    assert split_by_mask(labels, mask) == {1: 2}
    assert split_by_mask(labels, mask, rule="centroid") == {1: 1}


def test_no_objects_are_no_classes():
    for rule in ("overlap", "centroid"):
        assert split_by_mask(np.zeros((4, 5), int), np.ones((4, 5)), rule=rule) == {}
    assert labels_of_class(np.ones((2, 2), int), {}, 1).max() == 0


def test_another_shape_names_both():
    with pytest.raises(InputError, match=r"\(4, 5\).*\(5, 4\)"):
        split_by_mask(np.ones((4, 5), int), np.ones((5, 4)))
    with pytest.raises(InputError, match=r"\(3, 4, 5\).*\(4, 5\)"):
        split_by_mask(np.ones((3, 4, 5), int), np.ones((4, 5)))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"rule": "box"}, "box"), ({"fraction": 0}, "0"), ({"fraction": 1.01}, "1.01"),
     ({"fraction": float("nan")}, "nan")],
)  # fmt: skip
def test_unknown_rules_and_shares_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        split_by_mask(np.ones((2, 2), int), np.ones((2, 2)), **options)


@pytest.mark.parametrize("labels", [np.ones((2, 2)), -np.ones((2, 2), int)])
def test_labels_must_be_labels(labels):
    with pytest.raises(InputError, match="label"):
        split_by_mask(labels, np.ones((2, 2)))


def test_a_block_with_a_channel_makes_a_mask_of_it():
    picture = np.full((30, 30), 50, np.uint16)
    picture[5:20, 5:20] = 4000
    picture[24, 24] = 4000
    labels = np.zeros((30, 30), np.int32)
    labels[15:25, 8:12] = 3  # half of it is inside
    labels[22:27, 22:27] = 8
    how = ClassMask(channel=1, filter="none", opening=1)
    mask = make_mask(picture, how)
    np.testing.assert_array_equal(mask, auto_mask(picture, filter="none", opening=1))
    assert classes_by_mask(labels, mask, how) == {3: 1, 8: 2}
    strict = ClassMask(channel=1, fraction=0.51)
    assert classes_by_mask(labels, mask, strict) == {3: 2, 8: 2}
    centre = ClassMask(channel=1, rule="centroid")
    assert classes_by_mask(labels, mask, centre) == {3: 1, 8: 2}
    assert classes_by_mask(labels[:, :20], mask[:, :20], how) == {3: 1}


def test_a_block_with_a_source_takes_what_is_above_0():
    how = ClassMask(source="masks/{stem}_tissue.tif")
    assert how.source_of("a{b}") == "masks/a{b}_tissue.tif"
    assert ClassMask(source="one.tif").source_of("x") == "one.tif"
    both = ClassMask(source="{stem}/{id}.tif")
    assert both.source_of("a", "i00001-a") == "a/i00001-a.tif"
    with pytest.raises(InputError, match="needs the id"):
        both.source_of("a")
    picture = np.array([[0, 7, 255, -1, np.nan]])
    assert make_mask(picture, how).tolist() == [[False, True, True, False, False]]
    with pytest.raises(InputError, match="channel"):
        ClassMask(channel=0).source_of("x")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({}, "source.*channel"),
        ({"source": "a.tif", "channel": 0}, "either"),
        ({"channel": -1}, "greater"),
        ({"channel": 0, "filter": "median", "radius": 21}, "21"),
        ({"channel": 0, "opening": -1}, "greater"),
        ({"channel": 0, "fraction": 0}, "greater"),
        ({"channel": 0, "rule": "box"}, "centroid"),
        ({"channel": 0, "rule": "centroid", "fraction": 0.7}, "fraction"),
        ({"channel": 0, "colour": 3}, "colour"),
        ({"channel": 0, "factor": float("nan")}, "factor"),
        ({"source": "a.tif", "factor": 0.9}, "factor"),
        ({"source": "{name}.tif"}, "name"),
        ({"source": "{}.tif"}, "braces"),
        ({"source": "{stem"}, "braces"),
        ({"source": "{stem.__class__}"}, "braces"),
        ({"source": "{stem:{stem}d}"}, "braces"),
    ],
)
def test_the_block_refuses(block, said):
    with pytest.raises(pydantic.ValidationError, match=said):
        ClassMask(**block)


@pytest.mark.parametrize("block", [{"channel": 2, "factor": 0.8}, {"source": "{stem}.tif"}])
def test_the_block_survives_its_record(block):
    how = ClassMask(**block)
    assert ClassMask(**how.model_dump(mode="json")) == how
    assert ClassMask.model_validate_json(how.model_dump_json()) == how
