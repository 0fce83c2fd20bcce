"""Label image -> ROIs: exact outlines, whatever the objects look like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from roifile import ROI_TYPE, ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.trace import trace_loops, trace_rois

DTYPES = ["?", "i1", "u1", ">i2", "<u2", ">u4", "i4", "u4", "i8", ">u8"]

# Few values on few pixels: holes, diagonal necks, several parts, border contact and
# single pixels all turn up within the first examples.
label_images = st.tuples(st.integers(0, 12), st.integers(0, 12)).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.sampled_from([0, 0, 1, 1, 2, 3, 12345]))
)


@settings(max_examples=300, deadline=None)
@given(label_images)
def test_round_trip_is_bit_identical(labels):
    back = fill_rois(trace_rois(labels), labels.shape)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, labels)


@settings(max_examples=100, deadline=None)
@given(label_images, st.tuples(st.integers(-4000, 50000), st.integers(-4000, 50000)))
def test_round_trip_through_bytes_and_offset(labels, offset):
    rois = [ImagejRoi.frombytes(roi.tobytes()) for roi in trace_rois(labels, offset=offset)]
    np.testing.assert_array_equal(fill_rois(rois, labels.shape, offset=offset), labels)


@settings(max_examples=100, deadline=None)
@given(label_images)
def test_area_from_corners_is_the_pixel_count(labels):
    """The shoelace formula, which knows nothing of the filler: holes count as negative."""
    loops = trace_loops(labels)
    areas: dict[int, float] = {}
    for k, value in enumerate(loops.labels.tolist()):
        x, y = loops.vertices[loops.starts[k] : loops.starts[k + 1]].T.astype(float)
        area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
        assert value in areas or area > 0, "the first loop of a label is an outer one"
        areas[value] = areas.get(value, 0) + area
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    assert areas == dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_names_types_and_bounds():
    labels = np.zeros((9, 9), np.uint16)
    labels[1:4, 2:7] = 12000
    labels[2, 4] = 0  # a hole
    labels[6, 0] = labels[8, 8] = 3  # two parts
    labels[5:7, 4:6] = 41
    small, plain, holed = trace_rois(labels)
    assert [roi.name for roi in (small, plain, holed)] == ["0003", "0041", "12000"]
    assert [roi.roitype for roi in (small, plain, holed)] == [
        ROI_TYPE.RECT,
        ROI_TYPE.TRACED,
        ROI_TYPE.RECT,
    ]
    assert (plain.left, plain.top, plain.right, plain.bottom) == (4, 5, 6, 7)
    assert plain.integer_coordinates.tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]
    path = [0, 2, 1, 1, 7, 1, 1, 7, 4, 1, 2, 4, 4]
    assert holed.multi_coordinates[:13].tolist() == path
    assert holed.shape_roi_size == len(holed.multi_coordinates) == 26
    assert (small.left, small.top, small.right, small.bottom) == (0, 6, 9, 9)
    assert {(roi.version, roi.group, roi.position, roi.options) for roi in (small, plain)} == {
        (228, 0, 0, 0)
    }


def test_diagonal_neck_is_one_loop():
    assert trace_rois(np.eye(3, dtype=int))[0].roitype == ROI_TYPE.TRACED


@pytest.mark.parametrize("dtype", DTYPES)
def test_integer_dtypes(dtype):
    labels = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
    np.testing.assert_array_equal(fill_rois(trace_rois(labels), (2, 3)), labels)


def test_views_are_traced_and_left_alone():
    base = np.arange(48).reshape(6, 8) % 5
    for view in (base[::2, ::-1], base.T, np.asfortranarray(base)):
        view.flags.writeable = False
        before = view.copy()
        np.testing.assert_array_equal(fill_rois(trace_rois(view), view.shape), before)
        np.testing.assert_array_equal(view, before)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (3, 3)])
def test_nothing_to_trace(shape):
    assert trace_rois(np.zeros(shape, np.uint8)) == []


def test_more_corners_than_16_bits_count():
    labels = np.zeros((2, 40001), np.uint8)
    labels[0] = 1
    labels[1, ::2] = 1
    (roi,) = trace_rois(labels)
    assert roi.n_coordinates == 4 * 20001
    back = ImagejRoi.frombytes(roi.tobytes())
    np.testing.assert_array_equal(fill_rois([back], labels.shape), labels)


def test_more_than_16_bits_of_labels_do_not_wrap():
    labels = np.arange(1, 70_001, dtype=np.uint32).reshape(250, 280)
    rois = trace_rois(labels)
    assert rois[-1].name == "70000"
    np.testing.assert_array_equal(fill_rois(rois, labels.shape), labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2, 3, 4), int), r"shape \(2, 2, 3, 4\).*one \(Y, X\) plane"),
        (np.zeros(3, int), "1 dimensions"),
        (np.zeros((2, 2)), r"float64.*astype"),
        (np.array([[0, -3]]), "-3"),
        (np.array([[2**31]]), "2147483648"),
    ],
)
def test_refused_labels(labels, message):
    with pytest.raises(InputError, match=message):
        trace_rois(labels)


@pytest.mark.parametrize("offset", [(60_535, 0), (0, 60_535), (-5_001, 0), (0, -5_001)])
def test_outside_the_range_of_imagej(offset):
    with pytest.raises(RoiError, match=r"range -5000\.\.60535.*tiles"):
        trace_rois([[1]], offset=offset)


def test_the_ends_of_the_range_of_imagej():
    for offset in ((60_534, 60_534), (-5_000, -5_000)):
        (roi,) = trace_rois([[1]], offset=offset)
        assert fill_rois([ImagejRoi.frombytes(roi.tobytes())], (1, 1), offset=offset) == 1
