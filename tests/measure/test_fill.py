"""ROIs -> label image: ImageJ's rule (checked against the real one in tests/imagej)."""

from __future__ import annotations

import numpy as np
import pytest
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure import fill
from opsef_bridge.measure.fill import fill_loops, fill_rois
from opsef_bridge.measure.loops import roi_loops
from opsef_bridge.measure.trace import trace_rois


def polygon(points, name="0001", roitype=ROI_TYPE.POLYGON):
    roi = ImagejRoi.frompoints(points, name=name)
    roi.roitype, roi.version, roi.options = (
        roitype,
        228,
        roi.options & ROI_OPTIONS.SUB_PIXEL_RESOLUTION,
    )
    return roi


def rectangle(left, top, right, bottom, name="0001", **other):
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        name=name,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        version=228,
        **other,
    )


def test_centre_on_the_left_boundary_is_out_on_the_right_in():
    square = [[0.5, 0.0], [2.5, 0.0], [2.5, 1.0], [0.5, 1.0]]
    assert fill_rois([polygon(square)], (1, 4)).tolist() == [[0, 1, 1, 0]]


def test_centre_on_the_upper_boundary_is_out_on_the_lower_in():
    square = [[0.0, 0.5], [1.0, 0.5], [1.0, 2.5], [0.0, 2.5]]
    assert fill_rois([polygon(square)], (4, 1)).ravel().tolist() == [0, 1, 1, 0]


def test_later_roi_wins():
    rois = [rectangle(0, 0, 3, 1, "0009"), rectangle(1, 0, 4, 1, "0004")]
    assert fill_rois(rois, (1, 5)).tolist() == [[9, 4, 4, 4, 0]]
    assert fill_rois(rois[::-1], (1, 5)).tolist() == [[9, 9, 9, 4, 0]]


def test_clipped_on_all_sides():
    assert fill_rois([rectangle(-5, -5, 9, 9)], (2, 3)).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert not fill_rois([rectangle(5, 5, 9, 9)], (2, 3)).any()
    for sides in [(-9, -9, -5, -5), (-9, 0, -5, 2), (0, -9, 2, -5)]:
        assert not fill_rois([rectangle(*sides)], (2, 3)).any()


def test_far_coordinates_cost_nothing():
    corners = [[-1e30, -1e30], [1e30, -1e30], [1e30, 1e30], [-1e30, 1e30]]
    assert fill_loops(corners, [0, 4], [0], [1], (2, 2)).all()


@pytest.mark.parametrize("roitype", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_kinds_of_polygon_are_one(roitype):
    triangle = [[0, 0], [4, 0], [0, 4]]
    expected = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    assert fill_rois([polygon(triangle, roitype=roitype)], (4, 4)).tolist() == expected


def test_damaged_boxes_need_no_memory():
    for kind in (ROI_TYPE.OVAL, ROI_TYPE.RECT):
        roi = rectangle(0, 0, 1, 1, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
        roi.roitype, roi.widthd, roi.heightd = kind, 1e30, 1e30
        assert fill_rois([roi], (2, 2)).shape == (2, 2)


def test_ovals_of_all_sizes_follow_the_comparison_of_imagej():
    """Against the plain form of the rule, pixel by pixel (ImageJ itself: tests/imagej)."""
    for width in range(1, 40):
        for height in range(1, 40):
            y, x = np.mgrid[:height, :width]
            dx, dy = x - (width / 2 - 0.5), y - (height / 2 - 0.5)
            inside = dx**2 / (width / 2) ** 2 + dy**2 / (height / 2) ** 2 <= 1
            roi = rectangle(0, 0, width, height)
            roi.roitype = ROI_TYPE.OVAL
            np.testing.assert_array_equal(fill_rois([roi], (height, width)), inside)


def test_position_and_group_are_ignored():
    roi = rectangle(0, 0, 1, 1, position=7, group=3)
    assert fill_rois([roi], (1, 1)) == 1


def test_no_rois_no_pixels():
    assert not fill_rois([], (2, 3)).any()
    assert fill_rois([], (0, 3)).shape == (0, 3)
    assert fill_rois([rectangle(0, 0, 2, 2)], (0, 3)).shape == (0, 3)
    empty = polygon([[0, 0]])
    empty.integer_coordinates, empty.n_coordinates = np.empty((0, 2), np.int32), 0
    assert fill_rois([empty, rectangle(0, 0, 1, 1, "0002")], (1, 1)) == 2


def test_composite_without_close_and_with_an_empty_part():
    (roi,) = trace_rois([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    path = roi.multi_coordinates
    roi.multi_coordinates = np.append(path[path != 4], np.float32(4))
    assert fill_rois([roi], (3, 3)).tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("name", ["nucleus_7", "", "0", "0000", "-3", "1_0", " 1", "2147483648"])
def test_names_that_are_no_label(name):
    with pytest.raises(RoiError, match=r"no integers.*Rename"):
        fill_rois([rectangle(0, 0, 1, 1, name)], (1, 1))


def test_names_that_mean_the_same():
    rois = [rectangle(0, 0, 1, 1, name) for name in ("7", "0007", "0008")]
    with pytest.raises(RoiError, match=r"'0007'.*Rename"):
        fill_rois(rois, (1, 1))


@pytest.mark.parametrize(
    ("roi", "kind"),
    [
        (ImagejRoi(roitype=ROI_TYPE.LINE, name="0001"), "line"),
        (ImagejRoi(roitype=ROI_TYPE.POINT, name="0001"), "point"),
        (rectangle(0, 0, 9, 9, rounded_rect_arc_size=4), "rounded rectangle"),
        (rectangle(0, 0, 9, 9, subtype=ROI_SUBTYPE.TEXT), "text"),
        (ImagejRoi(roitype=ROI_TYPE.FREEHAND, subtype=ROI_SUBTYPE.ELLIPSE, name="1"), "ellipse"),
        (ImagejRoi(options=ROI_OPTIONS.SPLINE_FIT, name="0001"), "spline"),
    ],
)
def test_what_is_no_plain_area_is_named(roi, kind):
    with pytest.raises(RoiError, match=f"is a {kind},.*ImageJ"):
        fill_rois([roi], (3, 3))


@pytest.mark.parametrize(
    "path",
    [
        [0, 1, 1, 2, 1, 1, 2, 2, 4],
        [0, 1, 1, 3, 1, 1, 2, 2, 3, 3, 4],
        [1, 1, 1, 4],
        [0, 1],
        [9, 1, 1],
        [np.nan, 1, 1],
    ],
)
def test_curves_and_damaged_paths(path):
    path = np.array(path, np.float32)
    roi = rectangle(0, 0, 3, 3, shape_roi_size=len(path), multi_coordinates=path)
    with pytest.raises(RoiError, match="curves, or its path is damaged"):
        fill_rois([roi], (3, 3))


def test_coordinates_that_are_not_finite():
    with pytest.raises(RoiError, match="not finite"):
        roi = polygon(np.array([[0, 0], [1, 0], [1, 1]], np.float32))
        roi.subpixel_coordinates[1] = np.nan
        fill_rois([roi], (3, 3))


@pytest.mark.parametrize("far", [1e30, -3e38, np.inf])
def test_coordinates_that_leave_float32(far):
    points = np.array([[0, 0], [far, -far], [1, 1]], np.float32)
    with pytest.raises(RoiError, match="not finite, or beyond"):
        fill_rois([polygon(points)], (3, 3))
    path = np.array([0, 0, 0, 1, far, -far, 1, 1, 1, 4], np.float32)
    roi = rectangle(0, 0, 3, 3, shape_roi_size=len(path), multi_coordinates=path)
    with pytest.raises(RoiError, match="not finite, or beyond"):
        fill_rois([roi], (3, 3))


def test_an_outline_that_would_fill_the_memory(monkeypatch):
    zigzag = polygon(np.array([[k, 9 * (k % 2)] for k in range(100)]))
    assert fill_rois([zigzag], (9, 100)).any()
    monkeypatch.setattr(fill, "MAX_CROSSINGS", 890)
    with pytest.raises(RoiError, match="cross rows 900 times; the limit is 890"):
        fill_rois([zigzag], (9, 100))


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5), (-1, 3)])
def test_shapes_that_are_none(shape):
    with pytest.raises(InputError, match="not that of an image"):
        fill_loops(np.empty((0, 2)), [0], [], [], shape)


@pytest.mark.parametrize("portion", [1, 7, 40])
def test_portions_change_nothing(monkeypatch, portion):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 9, (40, 37))  # holes and parts: many loops of one object
    rois = trace_rois(labels)
    whole = fill_rois(rois, labels.shape)
    monkeypatch.setattr(fill, "PORTION", portion)
    _, starts, owners = roi_loops(rois)
    cuts = fill._portions(starts, np.array(owners))
    assert len(cuts) > 4 and (np.diff(cuts) > 0).all()
    np.testing.assert_array_equal(fill_rois(rois, labels.shape), whole)
    np.testing.assert_array_equal(whole, labels)


def test_the_limit_of_crossings_holds_over_all_portions(monkeypatch):
    rois = trace_rois(np.arange(1, 401).reshape(20, 20))
    monkeypatch.setattr(fill, "PORTION", 16)
    monkeypatch.setattr(fill, "MAX_CROSSINGS", 799)
    with pytest.raises(RoiError, match="800 times; the limit is 799"):
        fill_rois(rois, (20, 20))
    monkeypatch.setattr(fill, "MAX_CROSSINGS", 800)
    assert fill_rois(rois, (20, 20)).max() == 400
