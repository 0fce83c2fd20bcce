"""AnnotatorJ's zips: what goes out, and what a real AnnotatorJ made of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import InputError, RoiError
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import read_rois, read_sidecar, write_rois
from opsef_bridge.rois.annotatorj import (
    MAX_LABEL,
    check_objects,
    check_stems,
    find_annotations,
    passed_over,
    read_annotation,
    write_annotation,
)
from opsef_bridge.rois.objects import Objects

REAL = Path(__file__).parents[1] / "data" / "annotatorj" / "load_save"
PLAIN = tifffile.imread(REAL / "labels_plain.tif").astype(np.int32)
GAP = tifffile.imread(REAL / "labels_gap.tif").astype(np.int32)
CLASSES = {int(k): c for k, c in json.loads((REAL / "classes.json").read_text()).items() if c}
SMALL = np.array([[0, 7, 7, 0, 31], [9, 9, 0, 31, 31]], np.int32)


def saved(labels, path, groups=None):
    """Save as AnnotatorJ does after Load: names 1 to N by order, no properties."""
    rois = trace_rois(labels)
    for number, roi in enumerate(rois, 1):
        roi.group = (groups or {}).get(int(roi.name), 0)
        roi.name = f"{number:04d}"
    write_rois(path, rois)
    return path


# --- limits


def test_classes_beyond_the_palette_are_refused():
    labels = np.arange(1, 21).reshape(4, 5)
    check_objects(Objects(labels, {k: 1 + k % 8 for k in range(1, 21)}))
    for classes in ({3: 9}, {k: k for k in range(1, 10)}, {1: 255}):
        with pytest.raises(RoiError, match="classes 1 to 8"):
            check_objects(Objects(labels, classes))


def test_objects_beyond_16_bits_and_volumes_are_refused():
    many = np.arange(1, MAX_LABEL + 1, dtype=np.int32).reshape(255, 257)
    check_objects(Objects(many))
    with pytest.raises(RoiError, match="65536 objects"):
        check_objects(Objects(np.vstack([many, np.full((1, 257), MAX_LABEL + 1, np.int32)])))
    check_objects(Objects(np.array([[70_000]])))  # large ids are no matter: names are 1 to N
    with pytest.raises(RoiError, match="volume"):
        check_objects(Objects(np.ones((2, 3, 3), int)))


@pytest.mark.parametrize(
    ("stems", "word"),
    [
        (["a", "a"], "'a'"),
        (["Cell", "cell"], "'Cell'"),
        (["img_001", "x", "img_0010"], "'img_0010'"),
        (["x_img_001", "img_001"], "'x_img_001'"),
        (["", "b"], "empty"),
    ],
)
def test_names_that_annotatorj_mixes_up_are_refused(stems, word):
    with pytest.raises(InputError, match=word):
        check_stems(stems)


def test_names_of_one_length_are_taken():
    check_stems(f"i{k:05d}-cell" for k in range(20_000))
    check_stems(["other-cell-of-another-length", *(f"i{k:05d}-c" for k in range(5_000))])
    check_stems([])


# --- writing


def test_a_zip_has_names_without_gaps_and_the_ids_beside(tmp_path):
    objects = Objects(SMALL, {9: 2})
    path = write_annotation(
        tmp_path, "normal", "cell 1", objects, info={"image": "i00001-c"}, class_names={2: "dead"}
    )
    assert path == tmp_path / "normal" / "cell 1_ROIs.zip"
    rois = read_rois(path)
    assert [roi.name for roi in rois] == ["0001", "0002", "0003"]
    assert [int(roi.properties["label"]) for roi in rois] == [7, 9, 31]
    assert [(roi.group, roi.position, roi.version) for roi in rois] == [
        (0, 0, 228),
        (2, 0, 228),
        (0, 0, 228),
    ]
    told = read_sidecar(path)
    assert told["image"] == "i00001-c"
    assert told["rois"]["0002"] == {"label": 9, "class": 2, "class_name": "dead"}
    found, notes, sidecar = read_annotation(path, SMALL.shape)
    assert found.same_as(objects) and notes.lines() == [] and sidecar == told


def test_no_objects_no_file_and_an_edit_is_not_written_over(tmp_path):
    assert write_annotation(tmp_path, "normal", "a", Objects(np.zeros((3, 3), int))) is None
    assert not list(tmp_path.rglob("*.zip"))
    path = write_annotation(tmp_path, "normal", "a", Objects(SMALL))
    assert write_annotation(tmp_path, "normal", "a", Objects(SMALL)) == path
    edited = saved(SMALL[:, ::-1], path).read_bytes()
    for labels in (SMALL, np.zeros((3, 3), int)):
        with pytest.raises(RoiError, match="edited"):
            write_annotation(tmp_path, "normal", "a", Objects(labels))
    assert path.read_bytes() == edited


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "..\\b", "C:"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    for folder, stem in ((name, "a"), ("normal", name)):
        with pytest.raises(InputError, match="no name"):
            write_annotation(tmp_path, folder, stem, Objects(SMALL))
    assert list(tmp_path.iterdir()) == []


# --- what a real AnnotatorJ saved


@pytest.mark.parametrize(
    ("name", "folder"),
    [line.split(",") for line in (REAL / "folders.csv").read_text().split()],
)
def test_real_zips_come_back_with_the_pixels_and_ids_that_went_out(tmp_path, name, folder):
    labels = GAP if name == "gap" else PLAIN
    groups = CLASSES if name == "cls" else {}
    out = write_annotation(tmp_path, "normal", "cell", Objects(labels, groups))
    came = tmp_path / folder / "cell_ROIs.zip"
    came.parent.mkdir(exist_ok=True)
    shutil.copy(REAL / f"{name}.out.zip", came)
    assert find_annotations(tmp_path) == [(folder, "cell", came)]
    objects, notes, told = read_annotation(came, labels.shape)
    np.testing.assert_array_equal(objects.labels, labels)
    assert dict(objects.classes) == groups and notes.lines() == []
    assert told == read_sidecar(out)


def test_real_zips_without_a_json_have_the_names_as_ids(tmp_path):
    path = shutil.copy(REAL / "gap.out.zip", tmp_path / "cell_ROIs.zip")
    objects, _, told = read_annotation(path, GAP.shape)
    assert told == {} and objects.ids == list(range(1, 30))
    np.testing.assert_array_equal(objects.labels > 0, GAP > 0)
    path = shutil.copy(REAL / "dash.in.zip", tmp_path / "dash_ROIs.zip")
    objects, notes, _ = read_annotation(path, PLAIN.shape)
    assert len(objects.ids) == 32 and len(notes.renumbered) == 32
    np.testing.assert_array_equal(objects.labels > 0, PLAIN > 0)


def test_real_positions_do_not_matter():
    objects, notes, _ = read_annotation(REAL / "pos.in.zip", PLAIN.shape)
    assert {roi.position for roi in read_rois(REAL / "pos.in.zip")} != {0}
    np.testing.assert_array_equal(objects.labels > 0, PLAIN > 0)
    assert notes.lines() == []
    with pytest.raises(InputError, match="planes"):
        read_annotation(REAL / "pos.in.zip", (1, *PLAIN.shape))


@pytest.mark.parametrize("name", ["plain", "cls"])
def test_a_truncated_zip_is_an_error_and_no_part_of_it_is_read(tmp_path, name):
    data = (REAL / f"{name}.out.zip").read_bytes()
    path = tmp_path / "cell_ROIs.zip"
    for size in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(RoiError, match=r"cell_ROIs\.zip"):
            read_annotation(path, PLAIN.shape)


# --- finding


def test_the_save_with_the_highest_number_is_taken_and_the_others_are_named(tmp_path):
    out = write_annotation(tmp_path, "normal", "a_ROIs_2", Objects(SMALL))
    assert out.name == "a_ROIs_2_ROIs.zip"
    for number in (1, 2, 10):
        saved(SMALL, tmp_path / "normal" / f"a_ROIs_{number}.zip")
    saved(SMALL, tmp_path / "normal" / "a_ROIs.zip")
    (tmp_path / "normal" / "a_bboxes.zip").write_text("no ROIs")
    (tmp_path / "picture.tif").write_text("")
    assert find_annotations(tmp_path) == [
        ("normal", "a", tmp_path / "normal" / "a_ROIs_10.zip"),
        ("normal", "a_ROIs_2", out),
    ]
    said = passed_over(tmp_path)
    assert [text.split(" ")[0] for text in said] == [
        "normal/a_ROIs.zip",
        "normal/a_ROIs_1.zip",
        "normal/a_ROIs_2.zip",
    ]
    assert all("a_ROIs_10.zip was saved later" in text for text in said)


def test_a_renamed_save_has_the_ids_of_the_first(tmp_path):
    write_annotation(tmp_path, "normal", "a", Objects(SMALL), info={"image": "i00001-a"})
    write_annotation(tmp_path, "other", "a", Objects(SMALL * 2))
    path = saved(SMALL, tmp_path / "normal" / "a_ROIs_3.zip")
    objects, _, told = read_annotation(path, SMALL.shape)
    np.testing.assert_array_equal(objects.labels, SMALL)
    assert told["image"] == "i00001-a"


def test_an_edit_in_masks_hides_the_untouched_export_but_not_another_edit(tmp_path):
    out = write_annotation(tmp_path, "normal", "a", Objects(SMALL))
    other = write_annotation(tmp_path, "normal", "b", Objects(SMALL))
    masks = saved(SMALL, tmp_path / "masks" / "a_ROIs.zip", {7: 1, 9: 2})
    assert find_annotations(tmp_path) == [("masks", "a", masks), ("normal", "b", other)]
    [text] = passed_over(tmp_path)
    assert text.startswith("normal/a_ROIs.zip was passed over") and "masks" in text
    objects, _, _ = read_annotation(masks, SMALL.shape)
    assert objects.same_as(Objects(SMALL, {7: 1, 9: 2}))
    saved(SMALL[:, ::-1], out)
    assert [one[0] for one in find_annotations(tmp_path)] == ["masks", "normal", "normal"]
    assert passed_over(tmp_path) == []


def test_of_two_records_the_newer_one_counts(tmp_path):
    for age, folder, labels in ((50, "a", SMALL * 3), (10, "b", SMALL), (90, "c", SMALL * 2)):
        path = write_annotation(tmp_path, folder, "x", Objects(labels))
        os.utime(path.with_suffix(".json"), (1e9 - age, 1e9 - age))
    objects, _, _ = read_annotation(saved(SMALL, tmp_path / "masks" / "x_ROIs.zip"), SMALL.shape)
    np.testing.assert_array_equal(objects.labels, SMALL)


def test_an_image_folder_without_class_folders_has_none(tmp_path):
    assert find_annotations(tmp_path) == [] == passed_over(tmp_path)
    assert find_annotations(tmp_path / "gone") == []
    (tmp_path / ".hidden").mkdir()
    saved(SMALL, tmp_path / ".hidden" / "a_ROIs.zip")
    assert find_annotations(tmp_path) == []
