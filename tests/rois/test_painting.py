"""ROIs of any names -> objects and notes."""

from __future__ import annotations

import json
from copy import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import Notes, Objects, paint, read_rois, write_rois
from opsef_bridge.rois.palette import stroke_of


def rectangle(left, top, right, bottom, name="0001", **other):
    other = {"roitype": ROI_TYPE.RECT, "version": 228, **other}
    return ImagejRoi(name=name, left=left, top=top, right=right, bottom=bottom, **other)


def strip(*names, **other):
    """ROIs of one pixel each, side by side in one row."""
    return [rectangle(k, 0, k + 1, 1, name, **other) for k, name in enumerate(names)]


def ids_of(rois, **more):
    objects, notes = paint(rois, (1, len(rois)), **more)
    return objects.labels[0].tolist(), notes.renumbered


def test_clean_rois_are_as_the_strict_reader_has_them():
    labels = np.kron([[1, 0, 3], [0, 70_000, 3]], np.ones((4, 4), int))
    labels[9:, 9:] = 0
    rois = trace_rois(labels, offset=(5, 9))
    for roi in rois:
        roi.position, roi.stroke_color = 4, stroke_of(2)
    rois[1].group = 255
    objects, notes = paint(rois, labels.shape, offset=(5, 9))
    assert objects.same_as(Objects(labels, {3: 255}))
    assert notes == Notes() and notes.lines() == [] and notes.to_json() == {}


@pytest.mark.parametrize(
    ("names", "ids", "renumbered"),
    [
        (["0007", "12", "0003"], [7, 12, 3], {}),
        (["0007", "nucleus", "0007", "7"], [7, 8, 9, 10], {"nucleus": [8], "0007": [9], "7": [10]}),
        (["0123-0456", "0003-0123-0456", ""], [1, 2, 3], None),
        (["0", "-5", "1.5", "4 ", "1_0", "٣"], [1, 2, 3, 4, 5, 6], None),
        (["2147483648", "2147483646"], [2147483647, 2147483646], {"2147483648": [2147483647]}),
        (["x", "x", "0002"], [3, 4, 2], {"x": [3, 4]}),
    ],
)
def test_names_without_a_sidecar(names, ids, renumbered):
    painted, new = ids_of(strip(*names))
    assert painted == ids
    assert new == ({n: [i] for n, i in zip(names, ids, strict=True)} if renumbered is None
                   else renumbered)  # fmt: skip


def test_names_of_a_sidecar():
    known = {"0001": 40, "0002": 50, "0009": 90}
    # 0003 is new; 0002 comes twice; 0009 was deleted, and its id is not used again.
    painted, new = ids_of(strip("0002", "0003", "0001", "0002"), ids=known)
    assert painted == [50, 91, 40, 92]
    assert new == {"0003": [91], "0002": [92]}
    assert ids_of(strip("0001"), ids={}) == ([1], {"0001": [1]})


def test_the_label_property_comes_first():
    rois = strip("0001", "0002", "0003", "0004")
    rois[3].properties = {"score": 0.5, "label": 1}
    painted, new = ids_of(rois)
    assert painted == [5, 2, 3, 1] and new == {"0001": [5]}
    rois[1].properties = {"label": 1}  # the first one has it
    assert ids_of(rois)[0] == [5, 1, 3, 4]
    assert ids_of(rois, ids={"0001": 1, "0003": 30, "0004": 40})[0] == [41, 1, 30, 40]


@pytest.mark.parametrize(
    "props",
    ["label", "label: x", "label: 0", "label: 2147483648", "label: -1", "label: 1.5", "a label: 5"],
)
def test_properties_that_are_no_label(props):
    (roi,) = strip("0003")
    roi.props = props
    assert ids_of([roi]) == ([3], {})


def test_no_ids_are_left():
    with pytest.raises(RoiError, match=r"1 ROIs need new ids.*2147483647"):
        paint(strip("2147483647", "x"), (1, 2))


def test_later_wins_and_overlaps_are_counted_once():
    rois = [rectangle(0, 0, 4, 2, "0005"), rectangle(2, 0, 6, 1, "0002"),
            rectangle(3, 0, 5, 1, "0008")]  # fmt: skip
    objects, notes = paint(rois, (2, 6))
    assert objects.labels.tolist() == [[5, 5, 2, 8, 8, 2], [5, 5, 5, 5, 0, 0]]
    assert notes == Notes(overlapped=3)  # columns 2, 3 and 4; column 3 is claimed three times
    assert notes.lines() == ["3 pixels are claimed twice; the later ROI has them"]


def test_what_has_no_pixels_is_named_and_has_no_class():
    flat = ImagejRoi.frompoints([[1, 1], [3, 1], [2, 1]], name="flat")
    rois = [
        rectangle(0, 0, 2, 2, "under", group=1),
        rectangle(-9, 0, 0, 2, "left", group=2),
        rectangle(0, 3, 2, 9, "below", group=3),
        rectangle(3, 2, 9, 9, "corner", group=4),
        flat,
        rectangle(0, 0, 2, 3, "over", group=5),
    ]
    objects, notes = paint(rois, (3, 4))
    assert objects.labels.tolist() == [[6, 6, 0, 0], [6, 6, 0, 0], [6, 6, 0, 4]]
    assert objects.classes == {4: 4, 6: 5}
    assert (notes.hidden, notes.outside) == (("under",), ("left", "below"))
    assert (notes.clipped, notes.empty, notes.overlapped) == (("corner",), ("flat",), 4)
    assert len(notes.lines()) == 6
    assert "2 ROIs lie outside the image: 'left', 'below'" in notes.lines()
    assert json.loads(json.dumps(notes.to_json()))["clipped"] == ["corner"]


def test_an_edge_on_the_border_is_not_cut():
    exact = ImagejRoi.frompoints(np.array([[0, 0], [4.49, 0], [4.4, 3.4], [-0.5, 3]]), name="1")
    assert paint([exact, rectangle(0, 0, 4, 3, "2")], (3, 4))[1].clipped == ()
    over = ImagejRoi.frompoints(np.array([[0, 0], [4.6, 0], [4.6, 3.4], [0, 3]]), name="1")
    assert paint([over], (3, 4))[1].clipped == ("1",)
    assert paint([over], (3, 3), offset=(0, 2))[1].clipped == ("1",)


def test_many_names_are_shortened():
    (line,) = paint(strip(*"abcdefg"), (1, 7))[1].lines()
    assert line == "7 ROIs got new ids: 'a' -> 1, 'b' -> 2, 'c' -> 3, 'd' -> 4, 'e' -> 5, ..."


def test_volumes():
    labels = np.array([[[1, 1, 0]], [[1, 0, 0]], [[0, 0, 7]]])
    for hyperstack in (False, True):
        rois = trace_rois(labels, hyperstack=hyperstack)
        rois[0].group, rois[1].group = 2, 2
        objects, notes = paint(rois, labels.shape)
        assert objects.same_as(Objects(labels, {1: 2})) and notes == Notes()
    for roi in rois:  # the names alone say it too
        roi.z_position = roi.position = 0
    assert paint(rois, labels.shape)[0].same_as(Objects(labels, {1: 2}))
    renamed = {roi.name: 10 * int(roi.name[:4]) for roi in rois}
    np.testing.assert_array_equal(paint(rois, labels.shape, ids=renamed)[0].labels, labels * 10)


def test_planes_by_position_and_by_the_names_of_imagej():
    rois = [
        rectangle(0, 0, 1, 1, "0005", position=2),
        rectangle(1, 0, 2, 1, "0005", z_position=3, group=3),
        rectangle(0, 0, 1, 1, "0003-0123-0456"),
        rectangle(1, 0, 2, 1, "0001-0456", position=2),  # ImageJ's: row and column
        rectangle(0, 0, 1, 1, "0009", position=4),
    ]
    objects, notes = paint(rois, (3, 1, 2))
    assert objects.labels[:, 0].tolist() == [[0, 0], [5, 11], [10, 5]]
    assert objects.classes == {5: 3}
    assert notes == Notes({"0003-0123-0456": [10], "0001-0456": [11]}, outside=("0009",))
    with pytest.raises(RoiError, match="'0123-0456' does not say in which of 3 planes"):
        paint([rectangle(0, 0, 1, 1, "0123-0456")], (3, 1, 1))
    assert paint([rectangle(0, 0, 1, 1, "0004")], (1, 1, 1))[0].ids == [4]


def test_planes_that_disagree_about_the_class():
    planes = [strip(f"0001-{z:04d}", group=group)[0] for z, group in enumerate([4, 2, 0, 4], 1)]
    objects, notes = paint(planes, (4, 1, 1))
    assert objects.classes == {1: 4} and notes.disagreed == {1: 4}
    assert notes.lines() == ["1 object has several classes: object 1: 4"]
    objects, _ = paint(planes[:2], (4, 1, 1))
    assert objects.classes == {1: 2}  # of equals the lowest


def test_one_id_twice_in_a_plane():
    rois = [rectangle(x, 0, x + 1, 1, "0001", position=z) for x, z in [(0, 1), (1, 1), (0, 2)]]
    objects, notes = paint(rois, (2, 1, 2))
    assert objects.labels[:, 0].tolist() == [[1, 2], [1, 0]]
    assert notes.renumbered == {"0001": [2]}


def test_groups_that_are_no_class():
    with pytest.raises(RoiError, match="'0001' has group 256"):
        paint(strip("0001", group=256), (1, 1))


@pytest.mark.parametrize("roitype", [ROI_TYPE.LINE, ROI_TYPE.POINT, ROI_TYPE.POLYLINE])
def test_what_is_no_area_is_refused_by_name(roitype):
    with pytest.raises(RoiError, match=f"ROI 'my cell' is a {roitype.name.lower()}"):
        paint([*strip("0001"), ImagejRoi(roitype=roitype, name="my cell")], (3, 3))


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3, 4), (-1, 3)])
def test_shapes_that_are_none(shape):
    with pytest.raises(InputError, match="not that of an image"):
        paint([], shape)


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 3, 4), (0, 3, 4)])
def test_no_rois_no_objects(shape):
    objects, notes = paint([], shape)
    assert objects.labels.shape == shape and objects.ids == [] and notes == Notes()


def test_kinds_of_areas_are_filled_as_by_the_strict_reader():
    composite = trace_rois([[1, 1, 1], [1, 0, 1], [1, 1, 1]])[0]
    composite.name = "0002"
    freehand = ImagejRoi.frompoints(np.array([[4.2, 0.1], [8.9, 1.3], [5.5, 4.8]]), name="0003")
    rois = [
        rectangle(0, 4, 3, 8, "0001"),
        composite,
        freehand,
        rectangle(4, 5, 9, 9, "0004", roitype=ROI_TYPE.OVAL),
        ImagejRoi.frompoints([[9, 0], [12, 0], [10, 3]], name="0005"),
    ]
    objects, notes = paint(rois, (9, 12))
    np.testing.assert_array_equal(objects.labels, fill_rois(rois, (9, 12)))
    assert objects.ids == [1, 2, 3, 4, 5] and notes == Notes()


def test_zips_of_napari_annotatorj(tmp_path):
    """Freehand with sub-pixel corners, made by roifile, with group, colour and version 229."""
    corners = np.array([[0.5, 0.5], [4.5, 0.5], [4.5, 3.5], [0.5, 3.5]])
    rois = []
    for number, group in [(1, 1), (2, 9)]:
        roi = ImagejRoi.frompoints(corners + 5 * (number - 1), name=f"{number:04d}")
        roi.group, roi.stroke_color = group, stroke_of(group)
        rois.append(roi)
    assert rois[0].roitype == ROI_TYPE.FREEHAND and rois[0].version >= 228
    assert rois[0].options & ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    write_rois(tmp_path / "x_ROIs.zip", rois)
    objects, notes = paint(read_rois(tmp_path / "x_ROIs.zip"), (10, 10))
    assert objects.classes == {1: 1, 2: 9} and notes == Notes()
    expected = np.zeros((10, 10), int)
    expected[1:4, 1:5] = 1  # a centre on the left or upper edge is out, on the others in
    expected[6:9, 6:10] = 2
    np.testing.assert_array_equal(objects.labels, expected)


boxes = st.tuples(*[st.integers(-3, 8)] * 2, *[st.integers(1, 6)] * 2)
kinds = st.sampled_from([ROI_TYPE.RECT, ROI_TYPE.OVAL])
names = st.sampled_from(["0001", "1", "0002", "0007", "x", "0123-0456", ""])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(boxes, kinds, names, st.integers(0, 3)), max_size=7))
def test_against_painting_one_roi_at_a_time(drawn):
    shape = (6, 7)
    rois = [
        rectangle(x, y, x + w, y + h, name, roitype=kind, group=group)
        for (x, y, w, h), kind, name, group in drawn
    ]
    objects, notes = paint(rois, shape)
    alone, whole = [], []
    for roi in rois:
        one = copy(roi)
        one.name = "1"
        alone.append(fill_rois([one], shape) > 0)
        # In an image with room on all sides it is never cut.
        whole.append(int(fill_rois([one], (30, 30), offset=(-10, -10)).sum()))
    claims = np.sum(alone, axis=0, initial=0) if rois else np.zeros(shape)
    assert notes.overlapped == np.count_nonzero(claims > 1)
    left = [mask & ~np.any(alone[k + 1 :], axis=0) if k + 1 < len(alone) else mask
            for k, mask in enumerate(alone)]  # fmt: skip
    told = {"hidden": [], "outside": [], "clipped": []}
    for roi, mask, rest, area in zip(rois, alone, left, whole, strict=True):
        (value,) = set(objects.labels[rest].tolist()) or {None}
        if value is None:
            told["hidden" if mask.any() else "outside"].append(roi.name)
        else:
            assert objects.classes.get(value, 0) == roi.group
            assert np.array_equal(objects.labels == value, rest)
        if 0 < np.count_nonzero(mask) < area:
            told["clipped"].append(roi.name)
    assert notes.empty == ()
    assert {name: list(getattr(notes, name)) for name in told} == told
