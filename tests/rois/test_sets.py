"""The zip and the JSON beside it."""

from __future__ import annotations

import numpy as np
import pytest
from roifile import ImagejRoi

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.files import file_sha256, read_json, write_json
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import (
    EditedError,
    Objects,
    read_roi_set,
    read_rois,
    read_sidecar,
    sets,
    sidecar_path,
    write_roi_set,
    write_rois,
)

CROP = np.array([[0, 7], [9, 9]], np.uint16)
VOLUME = np.stack([CROP, np.zeros_like(CROP), CROP * 2])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def path(tmp_path):
    """A zip as it was written."""
    path = tmp_path / "my set" / "a_ROIs.zip"
    assert write_roi_set(path, CROP, info={"image": "a"})
    return path


def by_hand(path):
    """Do what a person does in ImageJ: open, take one ROI away, save."""
    write_rois(path, read_rois(path)[1:])


def test_crop_lies_in_the_pixels_of_the_source(tmp_path):
    path = tmp_path / "v0001" / "i00001-cell_ROIs.zip"
    assert write_roi_set(path, CROP, offset=(30, 50), info={"image": "i00001-cell"})
    whole = fill_rois(read_rois(path), (40, 60))
    np.testing.assert_array_equal(whole[30:32, 50:52], CROP)
    assert np.count_nonzero(whole) == 3
    assert read_sidecar(path) == {
        "image": "i00001-cell",
        "shape": [2, 2],
        "offset": [30, 50],
        "sha256": file_sha256(path),
        "rois": {"0007": {"label": 7, "class": None}, "0009": {"label": 9, "class": None}},
    }


def test_no_objects_no_files_also_none_from_before(path):
    assert not write_roi_set(path, np.zeros_like(CROP))
    assert list(path.parent.iterdir()) == []


def test_a_volume_has_rois_in_its_planes(tmp_path):
    path = tmp_path / "a_ROIs.zip"
    for hyperstack in (False, True):
        assert write_roi_set(path, VOLUME, offset=(3, 5), hyperstack=hyperstack)
        rois = read_rois(path)
        assert [roi.name for roi in rois] == ["0007-0001", "0009-0001", "0014-0003", "0018-0003"]
        shown = [(roi.position, roi.z_position) for roi in rois]
        planes = [1, 1, 3, 3]
        assert shown == [(0, z) if hyperstack else (z, 0) for z in planes]
    np.testing.assert_array_equal(fill_rois(rois, (3, 9, 9))[:, 3:5, 5:7], VOLUME)
    np.testing.assert_array_equal(fill_rois(rois, VOLUME.shape, offset=(3, 5)), VOLUME)
    assert read_sidecar(path)["rois"]["0014-0003"] == {"label": 14, "class": None}
    for shape in ((2, 9, 9), (9, 9)):
        with pytest.raises(RoiError, match="0014-0003" if len(shape) == 3 else "no integers"):
            fill_rois(rois, shape)


def test_more_axes_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="plane"):
        write_roi_set(tmp_path / "a_ROIs.zip", CROP[None, None])
    assert list(tmp_path.iterdir()) == []


def test_classes_are_groups_with_colours_and_names(path):
    objects = Objects(CROP, {9: 7})
    assert write_roi_set(path, objects, class_names={7: "mitotic", 8: "dead"})
    plain, classified = read_rois(path)
    assert (plain.group, plain.stroke_color) == (0, bytes(4))
    assert (classified.group, classified.stroke_color) == (7, bytes((255, 255, 200, 0)))
    assert read_sidecar(path)["rois"] == {
        "0007": {"label": 7, "class": None},
        "0009": {"label": 9, "class": 7, "class_name": "mitotic"},
    }
    back, notes, record = read_roi_set(path)
    assert back.same_as(objects) and not notes.lines()
    assert record == read_sidecar(path)


@pytest.mark.parametrize("labels", [CROP, VOLUME, np.array([[2**31 - 1, 1]])])
def test_consecutive_names_keep_the_ids(path, labels):
    objects = Objects(labels, {int(labels.max()): 3})
    write_roi_set(path, objects, consecutive=True)
    rois = read_rois(path)
    ids = [roi.properties["label"] for roi in rois]
    assert sorted(set(ids)) == objects.ids
    places = [int(roi.name[:4]) for roi in rois]
    assert [objects.ids[place - 1] for place in places] == ids
    assert list(read_sidecar(path)["rois"]) == [roi.name for roi in rois]
    for roi in rois:
        assert roi.version == 228  # ImageJ 1.54p and the real AnnotatorJ read it
        roi.props = ""  # AnnotatorJ drops the properties of what it edits
    write_rois(path, rois)
    back, notes, _ = read_roi_set(path)
    assert back.same_as(objects) and not notes.lines()
    back, *_ = read_roi_set(path, labels.shape, sidecar=False)
    assert max(back.ids) == len(objects.ids)  # the names alone


def test_an_added_roi_gets_an_id_above_all_of_the_sidecar(path):
    write_roi_set(path, CROP, consecutive=True)
    (new,) = trace_rois([[3]])  # covers no object
    write_rois(path, [*read_rois(path), new])
    back, notes, _ = read_roi_set(path)
    assert back.labels.tolist() == [[10, 7], [9, 9]]
    assert notes.renumbered == {"0003": [10]}


def test_where_the_shape_comes_from(path):
    for info, offset, shape in [
        ({}, (0, 0), (2, 2)),
        ({}, (3, 5), (5, 7)),
        ({"source_shape": [20, 30]}, (3, 5), (20, 30)),
    ]:
        write_roi_set(path, CROP, offset=offset, info=info)
        back, notes, _ = read_roi_set(path)
        y, x = offset
        assert back.labels.shape == shape and not notes.lines()
        np.testing.assert_array_equal(back.labels[y : y + 2, x : x + 2], CROP)
        assert read_roi_set(path, (9, 9))[0].labels.shape == (9, 9)
        with pytest.raises(InputError, match="how large"):
            read_roi_set(path, sidecar=False)
    write_roi_set(path, VOLUME, offset=(1, 2))
    assert read_roi_set(path)[0].labels.shape == (3, 3, 4)


def test_another_sidecar(path, tmp_path):
    other = tmp_path / "b.json"
    write_json(other, {"shape": [4, 4], "rois": {"0007": {"label": 70}, "0009": {"label": 90}}})
    assert read_roi_set(path, sidecar=other)[0].ids == [70, 90]
    with pytest.raises(FileNotFoundError):
        read_roi_set(path, sidecar=tmp_path / "none.json")
    # Without names, they are those of the file.
    write_json(other, {"shape": [4, 4]})
    assert read_roi_set(path, sidecar=other)[0].ids == [7, 9]


@pytest.mark.parametrize(
    "text",
    [
        "", "[1]", '"x"', "{", '{"rois": [1]}', '{"rois": {"a": 1}}', '{"rois": {"a": {}}}',
        '{"rois": {"a": {"label": "1"}}}', '{"rois": {"a": {"label": 0}}}',
        '{"rois": {"a": {"label": true}}}', '{"rois": {"a": {"label": 2147483648}}}',
        '{"rois": {}, "shape": 3}', '{"rois": {}, "shape": [2, "x"]}', '{"rois": {}, "shape": [2]}',
        '{"rois": {}, "shape": [2, 2], "offset": [1]}',
    ],
)  # fmt: skip
def test_damaged_sidecars(path, text):
    sidecar_path(path).write_text(text)
    with pytest.raises(RoiError, match=r"a_ROIs.json is not .*Move it away"):
        read_roi_set(path)
    if "rois" not in text:
        with pytest.raises(EditedError):
            write_roi_set(path, CROP + 1)


@pytest.mark.parametrize("labels", [CROP, CROP * 0])
@pytest.mark.parametrize("what", ["edited", "no sidecar", "foreign sidecar", "appended"])
def test_what_a_person_did_is_not_written_over(path, labels, what):
    by_hand(path)
    if what == "appended":
        write_rois(path, [*trace_rois([[1]]), *read_rois(path)])
    if what == "no sidecar":
        sidecar_path(path).unlink()
    if what == "foreign sidecar":
        write_json(sidecar_path(path), {"shape": [2, 2]})
    before = files(path.parent)
    with pytest.raises(EditedError, match=r"opsef rois import '.*my set/a_ROIs.zip'") as caught:
        write_roi_set(path, labels)
    assert ("was edited" in str(caught.value)) == (what in ("edited", "appended"))
    assert isinstance(caught.value, RoiError)
    assert files(path.parent) == before
    assert write_roi_set(path, labels, overwrite=True) == bool(labels.any())
    assert files(path.parent) != before


def test_what_is_ours_is_replaced(path):
    write_roi_set(path, CROP + 1)
    assert list(read_sidecar(path)["rois"]) == ["0001", "0008", "0010"]
    # Sidecars had no checksum once.
    record = read_json(sidecar_path(path))
    del record["sha256"]
    write_json(sidecar_path(path), record)
    by_hand(path)
    assert write_roi_set(path, CROP)


@pytest.mark.parametrize("first", [True, False])
def test_writing_that_was_cut_off_goes_on(path, first, monkeypatch):
    """The zip is in place and its JSON is not, or is the one of the zip before."""
    if first:
        path.unlink()
        sidecar_path(path).unlink()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(sets, "write_json", full)
    with pytest.raises(OSError):
        write_roi_set(path, CROP + 1)
    monkeypatch.undo()
    assert write_roi_set(path, CROP + 1)
    assert read_sidecar(path)["sha256"] == file_sha256(path)


def test_refused_objects_leave_both_files(path):
    before = files(path.parent)
    with pytest.raises(RoiError, match="60535"):
        write_roi_set(path, CROP, offset=(0, 60535))
    assert files(path.parent) == before


def test_a_single_roi_file(tmp_path):
    roi = ImagejRoi.frompoints([[0, 0], [2, 0], [2, 2], [0, 2]], name="x")
    roi.group = 4
    roi.tofile(tmp_path / "0012.roi")
    objects, notes, record = read_roi_set(tmp_path / "0012.roi", (2, 3))
    assert objects.labels.tolist() == [[12, 12, 0]] * 2
    assert objects.classes == {12: 4} and record == {} and not notes.lines()
