"""Run folders: what AnnotatorJ gets, and what is made of what it leaves there.

The folders in ``tests/data/annotatorj`` were written by a real AnnotatorJ; the other tests
mimic what it was seen to do.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import ImageError, InputError, NotFoundError, OpsefError, RoiError
from opsef_bridge.files import file_sha256
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import read_rois, write_rois
from opsef_bridge.rois.file_pairs import Pair, inside, pairs_text, read_pairs
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.run_folder import Item, read_run_folder, write_run_folder
from opsef_bridge.rois.zip_and_mask import compare, fingerprint, fitted

REAL = Path(__file__).parents[1] / "data" / "annotatorj"
MASK = "000_OB_Mask_0_RGBInput_000_{}.tif"
A, B = "i00001-a", "i00002-b"


def squares(*ids, shape=(40, 60), start=(2, 3), size=5, step=9):
    """Return squares from left to right."""
    labels = np.zeros(shape, np.int32)
    for k, label in enumerate(ids):
        y, x = start[0], start[1] + step * k
        labels[y : y + size, x : x + size] = label
    return labels


def item(key, labels, classes=None, **record):
    picture = np.arange(labels.size, dtype=np.uint8).reshape(labels.shape)
    return Item(key, picture, Objects(labels, classes or {}), record)


@pytest.fixture
def folder(tmp_path):
    """Two images of one size, ids with gaps; in the second the squares lie elsewhere."""
    items = [
        item(A, squares(4, 7, 31), {7: 2}, image=A, base="v0001"),
        item(B, squares(1, 9, start=(20, 30)), image=B, base="v0001"),
    ]
    write_run_folder(tmp_path / "x", items, name="x")
    return tmp_path / "x"


def export(folder, key, labels, classes=None, *, listed=True):
    """Do what AnnotatorJ's Export does for one image; ids and classes are by mask number."""
    name = MASK.format(key)
    tifffile.imwrite(folder / "11_SegMasksFromFiji" / name, labels.astype(">u2"), byteorder=">")
    picture = f"/00_InputRaw/8bitSum_{key}.tif"
    files = []
    for number in sorted(set((classes or {}).values())):
        those = [label for label, c in classes.items() if c == number]
        file = name.replace("_Mask_", f"_MaskClass{number:02d}_")
        part = np.where(np.isin(labels, those), labels, 0).astype(np.uint16)
        tifffile.imwrite(folder / "13_ClassifiedSegMasksFromFiji" / file, part)
        files.append(f"\\13_ClassifiedSegMasksFromFiji\\{file}")
    if listed:
        add_line(folder, "Masks", f"{picture};\\11_SegMasksFromFiji\\{name}")
        add_line(folder, "Classes", ";".join([picture, *files]) + ";")


def add_line(folder, kind, line):
    path = folder / "10_ImportExport" / f"FilePairList_fromFiji_{kind}.txt"
    with path.open("ab") as file:
        file.write(line.encode() + b"\r\n")


def zip_of(folder, key):
    return folder / "12_TmpRoisFromFiji" / MASK.format(key).replace(".tif", "_ROIs.zip")


def save(folder, key, labels, groups=None):
    """Do what AnnotatorJ's Save does: names are mask numbers, properties are gone."""
    rois = trace_rois(labels)
    for roi in rois:
        roi.group = (groups or {}).get(int(roi.name), 0)
    write_rois(zip_of(folder, key), rois)


def only(returned, key):
    [one] = [one for one in returned if one.key == key]
    return one


# --- what a real AnnotatorJ wrote


def real(folder, kind, image):
    [path] = (REAL / folder).glob(f"{kind}*/*_{image}.tif")
    return tifffile.imread(path).astype(np.int32)


@pytest.mark.parametrize("prefer", ["mask", "zip"])
@pytest.mark.parametrize(
    "name", ["opsef_masks", "opsef_classes", "opsef_preplaced", "opsef_edit_lost"]
)
def test_real_folders_where_no_edit_arrived_give_what_went_in(name, prefer):
    returned, said = read_run_folder(REAL / name, prefer=prefer)
    assert said == []
    assert [one.key for one in returned] == ["Sample_0", "Sample_1"]
    for one in returned:
        went_in = real(name, "02_", one.key)
        assert one.how == prefer and one.differences == [] and dict(one.record) == {}
        assert fingerprint(one.objects.labels) == fingerprint(went_in)
        if prefer == "mask" or one.key == "Sample_0":
            np.testing.assert_array_equal(one.objects.labels, went_in)
            assert any("as they went out" in note for note in one.notes)
    last = "the zip has other numbers for the same objects (31 is 32 in the mask)"
    assert [any(last in note for note in one.notes) for one in returned] == [False, True]


@pytest.mark.parametrize("prefer", ["mask", "zip"])
def test_real_classes_come_by_the_name_of_the_mask(prefer):
    told = json.loads((REAL / "load_save" / "classes.json").read_text())
    first, second = read_run_folder(REAL / "opsef_preplaced", prefer=prefer)[0]
    assert dict(first.objects.classes) == {int(k): c for k, c in told.items() if c}
    assert not second.objects.classes
    for one in read_run_folder(REAL / "opsef_classes", prefer=prefer)[0]:
        for number in (1, 2):
            folder = REAL / "opsef_classes" / "07_ClassifiedSegMasks"
            [path] = folder.glob(f"*MaskClass0{number}*{one.key}.tif")
            those = [label for label, c in one.objects.classes.items() if c == number]
            part = np.isin(one.objects.labels, those)
            np.testing.assert_array_equal(part, tifffile.imread(path) > 0)


def test_the_real_zip_with_the_rois_of_another_image_is_found_out():
    (first, second), said = read_run_folder(REAL / "opsef_edit_classmode")
    assert said == []
    came = first.objects.labels
    differ = came != real("opsef_edit_classmode", "02_", "Sample_0")
    assert first.how == "mask" and differ.sum() == 154
    assert set(np.unique(came[differ])) == {3}
    np.testing.assert_array_equal(came, real("opsef_edit_classmode", "11_", "Sample_0"))
    assert not any("as they went out" in note for note in first.notes)
    words, twin = first.differences
    # Objects 4, 7 and 31 are those that the second image lacks.
    assert words == "zip and mask differ in 955 pixels of objects 2, 3, 4, 7, 31"
    assert twin == "the zip of this image equals the objects of image Sample_1"
    assert second.differences == [] and len(second.objects.ids) == 29
    zips, _ = read_run_folder(REAL / "opsef_edit_classmode", prefer="zip")
    assert [one.how for one in zips] == ["zip", "zip"]
    assert zips[0].differences == first.differences
    assert fingerprint(zips[0].objects.labels) == fingerprint(zips[1].objects.labels)


# --- what goes out


def test_the_folder_has_what_annotatorj_opens_and_nothing_it_dies_of(folder):
    assert [path.name[:2] for path in sorted(folder.iterdir()) if path.is_dir()] == [
        f"{k:02d}" for k in range(14)
    ]
    text = (folder / "10_ImportExport" / "FilePairList_x_40x60.txt").read_bytes()
    assert text == b"".join(
        f"/00_InputRaw/8bitSum_{key}.tif;/02_SegMasks/{MASK.format(key)}\n".encode()
        for key in (A, B)
    )
    for line in text.decode().splitlines():
        assert all((folder / name.lstrip("/")).is_file() for name in line.split(";"))
        assert line.count("_Mask_") == 1
    mask = tifffile.imread(folder / "02_SegMasks" / MASK.format(A))
    assert mask.dtype == np.uint16
    np.testing.assert_array_equal(mask, squares(1, 2, 3))
    rois = read_rois(zip_of(folder, A))
    assert [roi.name for roi in rois] == ["0001", "0002", "0003"]
    assert [int(roi.properties["label"]) for roi in rois] == [4, 7, 31]
    assert [roi.group for roi in rois] == [0, 2, 0]
    picture = tifffile.imread(folder / "00_InputRaw" / f"8bitSum_{A}.tif")
    np.testing.assert_array_equal(picture, item(A, squares(1)).picture)
    told = json.loads((folder / "opsef.json").read_text())["items"][A]
    assert told["ids"] == [4, 7, 31] and told["record"] == {"image": A, "base": "v0001"}
    assert told["zip_sha256"] == file_sha256(zip_of(folder, A))
    assert not list(folder.parent.glob(".*"))


def test_one_list_for_each_size_and_none_for_images_without_objects(tmp_path):
    items = [
        item("a", squares(1)),
        item("b", np.zeros((40, 60), int)),
        item("c", squares(1, shape=(30, 30))),
        item("d", squares(3)),
    ]
    written = write_run_folder(tmp_path / "x", iter(items), name="day1")
    assert [path.name for path in written.lists] == [
        "FilePairList_day1_40x60.txt",
        "FilePairList_day1_30x30.txt",
    ]
    assert [len(read_pairs(path)) for path in written.lists] == [2, 1]
    assert written.left_out == ["b"] and any(note.startswith("b ") for note in written.notes)
    readme = (tmp_path / "x" / "10_ImportExport" / "README.txt").read_text()
    assert "mouse wheel" in readme and "     b\n" in readme
    assert not list((tmp_path / "x").rglob("*_b.tif"))
    _, said = read_run_folder(tmp_path / "x")
    assert [text[:1] for text in said] == ["a", "c", "d"]


@pytest.mark.parametrize("side", [(7, 1), (1, 7), (3, 4), (4, 3)])
def test_narrow_images_keep_their_shape(tmp_path, side):
    write_run_folder(tmp_path / "x", [item("a", np.ones(side, int))], name="x")
    for path in (tmp_path / "x").rglob("*.tif"):
        assert tifffile.imread(path).shape == side
    export(tmp_path / "x", "a", np.ones(side, int))
    [one], _ = read_run_folder(tmp_path / "x")
    assert one.objects.labels.shape == side


def test_a_key_with_the_word_mask_leaves_it_once_in_the_file_name(tmp_path):
    key = "i00001-my_Mask_of_MaskClass01_x"
    write_run_folder(tmp_path / "x", [item(key, squares(5))], name="x")
    [path] = (tmp_path / "x" / "02_SegMasks").iterdir()
    assert path.name.count("_Mask") == 1 and "_Mask_" in path.name
    back = tmp_path / "x" / "11_SegMasksFromFiji" / path.name
    tifffile.imwrite(back, squares(1).astype(np.uint16))
    [one], said = read_run_folder(tmp_path / "x")
    assert one.key == key and one.objects.ids == [5] and said == []


@pytest.mark.parametrize(
    ("items", "error", "word"),
    [
        ([], RoiError, "none of the 0 images"),
        ([item("a", np.zeros((4, 4), int))], RoiError, "none of the 1 images"),
        ([item("a", squares(1)), item("A", squares(1))], InputError, "key 'A'"),
        ([item("a_Mask_b", squares(1)), item("a-Mask_b", squares(1))], InputError, "key 'a-Mask"),
        ([item("../a", squares(1))], InputError, "../a"),
        ([item("a;b", squares(1))], InputError, "a;b"),
        ([item("a", squares(1), {1: 9})], RoiError, "largest is 9"),
        ([Item("a", np.zeros((4, 4)), Objects(np.ones((4, 4), int)))], InputError, "float64"),
        ([Item("a", np.zeros((4, 5), "u1"), Objects(np.ones((4, 4), int)))], InputError, "(4, 5)"),
    ],
)
def test_what_annotatorj_cannot_open_is_refused_and_leaves_nothing(tmp_path, items, error, word):
    with pytest.raises(error) as caught:
        write_run_folder(tmp_path / "x", items, name="x")
    assert word in str(caught.value) and caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_never_written_over(folder, tmp_path):
    before = {path: file_sha256(path) for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RoiError, match="import"):
        write_run_folder(folder, [item("z", squares(1))], name="x")
    assert before == {path: file_sha256(path) for path in folder.rglob("*") if path.is_file()}
    (tmp_path / "empty").mkdir()
    assert (
        write_run_folder(tmp_path / "empty", [item("z", squares(1))], name="x").lists[0].is_file()
    )
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RoiError):
        write_run_folder(tmp_path / "file", [item("z", squares(1))], name="x")


# --- what comes back


def test_nothing_done_nothing_returned(folder):
    returned, said = read_run_folder(folder)
    assert returned == [] and [text.split(":")[0] for text in said] == [A, B]
    assert all("did not come back" in text for text in said)


def test_ids_come_back_and_new_objects_lie_above_them(folder):
    labels = squares(1, 0, 3, 9)  # the second deleted, one drawn
    export(folder, A, labels, {1: 3, 9: 1})
    returned, said = read_run_folder(folder)
    one = only(returned, A)
    np.testing.assert_array_equal(one.objects.labels, squares(4, 0, 31, 32))
    assert dict(one.objects.classes) == {4: 3, 32: 1}
    assert one.record == {"image": A, "base": "v0001"} and one.how == "mask"
    assert one.source.parent.name == "11_SegMasksFromFiji"
    assert one.differences == []  # the zip is as it was placed there: nobody saved it
    assert len(said) == 1 and said[0].startswith(B)


def test_saved_and_exported_alike_is_no_difference_also_by_another_number(folder):
    export(folder, A, squares(1, 2, 5), {2: 2})
    save(folder, A, squares(1, 2, 3), {2: 2})
    one = only(read_run_folder(folder)[0], A)
    assert one.differences == []
    assert any("other numbers" in note for note in one.notes)
    save(folder, A, squares(1, 2, 3), {2: 1})
    one = only(read_run_folder(folder)[0], A)
    assert one.differences == ["zip and mask differ in the class of objects 7"]
    assert dict(one.objects.classes) == {7: 2}
    other = only(read_run_folder(folder, prefer="zip")[0], A)
    assert dict(other.objects.classes) == {7: 1} and other.how == "zip"


def test_classes_go_by_the_name_and_never_by_the_column(folder):
    export(folder, A, squares(1, 2, 3), {1: 1, 3: 2})
    path = folder / "10_ImportExport" / "FilePairList_fromFiji_Classes.txt"
    picture, one, two = path.read_text().strip().rstrip(";").split(";")
    for text in (
        f"{picture};{two};{one};\r\n",
        f"\ufeffroot;C:\\data\r\n\r\n{picture[1:]};{one};;{two}",
        f"{picture};{one};{two}\n".replace("/", "\\"),
    ):
        path.write_text(text, "utf-8", newline="")
        returned, said = read_run_folder(folder)
        assert dict(only(returned, A).objects.classes) == {4: 1, 31: 2}
        assert [line for line in said if not line.startswith(B)] == []


def test_class_masks_of_an_earlier_export_do_not_count(folder):
    export(folder, A, squares(1, 2, 3), {1: 1, 3: 2})
    (folder / "10_ImportExport" / "FilePairList_fromFiji_Classes.txt").unlink()
    assert dict(only(read_run_folder(folder)[0], A).objects.classes) == {4: 1, 31: 2}
    add_line(folder, "Classes", f"/00_InputRaw/8bitSum_{A}.tif;")
    one = only(read_run_folder(folder)[0], A)
    assert not one.objects.classes
    assert sum("earlier export" in note for note in one.notes) == 2


def test_a_class_mask_whose_object_lies_elsewhere_does_not_count(folder):
    export(folder, A, squares(1, 2, 3, start=(30, 3)), {1: 1, 3: 1}, listed=False)
    labels = squares(1, 2)
    labels[30:35, 21:26] = 3
    export(folder, A, labels, listed=False)
    assert dict(only(read_run_folder(folder)[0], A).objects.classes) == {31: 1}


@pytest.mark.parametrize(("classes", "alike"), [({2: 2}, True), ({2: 1}, False), ({}, False)])
def test_what_is_as_it_went_out_is_said(folder, classes, alike):
    export(folder, A, squares(1, 2, 3), classes)
    notes = only(read_run_folder(folder)[0], A).notes
    assert any("as they went out" in note for note in notes) is alike


def test_an_unsaved_zip_is_never_preferred(folder):
    export(folder, A, squares(1, 3), {})
    one = only(read_run_folder(folder, prefer="zip")[0], A)
    assert one.how == "mask" and one.differences == []
    assert any("no zip was saved" in note for note in one.notes)


def test_a_zip_with_the_edited_rois_of_another_image_is_known_by_that_one(folder):
    edited = squares(1, 2, 3, start=(20, 21))
    for key in (A, B):
        save(folder, key, edited)
    export(folder, A, squares(1, 2, 3))
    export(folder, B, edited)
    returned, _ = read_run_folder(folder)
    assert f"the zip of this image equals the objects of image {B}" in only(returned, A).differences
    assert only(returned, B).differences == []


def test_an_object_in_two_class_masks_has_no_class_and_is_named(folder):
    export(folder, A, squares(1, 2, 3), {1: 1}, listed=False)
    export(folder, A, squares(1, 2, 3), {1: 5, 2: 5}, listed=False)
    one = only(read_run_folder(folder)[0], A)
    assert dict(one.objects.classes) == {7: 5}
    assert any("two classes" in note and "numbers 1 " in note for note in one.notes)


def test_without_class_masks_the_groups_of_equal_rois_count(folder):
    export(folder, A, squares(1, 2, 3), listed=False)
    changed = squares(1, 2, 3)
    changed[2, 3] = 0
    save(folder, A, changed, {1: 4, 2: 5})
    one = only(read_run_folder(folder)[0], A)
    assert dict(one.objects.classes) == {7: 5}
    assert any("objects 4 have no class" in note for note in one.notes)
    assert one.differences[0] == "zip and mask differ in 1 pixels of objects 4"


def test_the_lists_of_the_last_export_hide_no_image_of_another_list(tmp_path):
    items = [item("a", squares(1, 2)), item("b", squares(1, 2, shape=(30, 30)))]
    write_run_folder(tmp_path / "x", items, name="x")
    export(tmp_path / "x", "a", squares(2), listed=False)
    export(tmp_path / "x", "b", squares(1, 2, shape=(30, 30)))
    returned, said = read_run_folder(tmp_path / "x")
    assert [one.key for one in returned] == ["a", "b"] and said == []
    assert [one.differences for one in returned] == [[], []]


@pytest.mark.parametrize("manifest", [True, False])
def test_a_mask_that_the_last_export_of_its_list_left_out_is_suspect(folder, manifest):
    export(folder, A, squares(1, 2), listed=False)
    export(folder, B, squares(1, 2, start=(20, 30)))
    if not manifest:
        (folder / "opsef.json").unlink()
    returned, _ = read_run_folder(folder)
    [text] = [text for text in only(returned, A).differences if "earlier export" in text]
    assert "deleted all" in text
    assert only(returned, B).differences == []


def test_many_images_that_did_not_come_back_are_one_sentence(tmp_path):
    items = [item(f"i{k:05d}", squares(1)) for k in range(12)]
    write_run_folder(tmp_path / "x", items, name="x")
    export(tmp_path / "x", "i00003", squares(1))
    returned, [text] = read_run_folder(tmp_path / "x")
    assert [one.key for one in returned] == ["i00003"]
    assert text.startswith("11 images did not come back") and "i00002" in text


def test_an_empty_mask_is_all_objects_deleted(folder):
    export(folder, A, squares())
    one = only(read_run_folder(folder)[0], A)
    assert one.objects.ids == [] and one.how == "mask"


def test_a_zip_that_was_saved_but_not_exported_is_taken(folder):
    save(folder, A, squares(1, 2, 3, 4))
    returned, _ = read_run_folder(folder)
    one = only(returned, A)
    assert one.how == "zip" and one.source == zip_of(folder, A)
    np.testing.assert_array_equal(one.objects.labels, squares(4, 7, 31, 32))
    assert any("not exported" in note for note in one.notes)


@pytest.mark.parametrize("moved", [False, True])
def test_a_zip_that_looks_like_that_of_another_image_is_not_taken_without_a_mask(folder, moved):
    other = squares(1, 2, start=(20, 30))
    save(folder, A, np.roll(other, 1, 0) if moved else other)
    returned, said = read_run_folder(folder)
    assert returned == []
    told = " ".join(text for text in said if text.startswith(A))
    assert "2 of its 2 ROIs lie where" in told and "preferring zips" in told
    assert (f"equals the objects of image {B}" in told) is not moved
    one = only(read_run_folder(folder, prefer="zip")[0], A)
    assert fingerprint(one.objects.labels) == fingerprint(np.roll(other, moved, 0))


@pytest.mark.parametrize(("far", "taken"), [(2, True), (3, False)])
def test_half_of_the_rois_off_the_objects_is_too_much(folder, far, taken):
    labels = squares(1, 2, 3)
    for k in range(far):
        labels[30:33, 3 + 6 * k : 6 + 6 * k] = 4 + k
    save(folder, A, labels)
    assert [one.key for one in read_run_folder(folder)[0]] == [A] * taken


def test_a_padded_mask_gets_its_size_back(folder):
    export(folder, A, squares(1, 2, 3, shape=(50, 70)), {2: 1})
    one = only(read_run_folder(folder)[0], A)
    np.testing.assert_array_equal(one.objects.labels, squares(4, 7, 31))
    assert dict(one.objects.classes) == {7: 1}
    assert any("50 x 70" in note and "40 x 60" in note for note in one.notes)
    beyond = squares(1, 2, 3, shape=(50, 70))
    beyond[38:44, 0:4] = 4
    export(folder, A, beyond)
    one = only(read_run_folder(folder)[0], A)
    assert one.objects.labels.shape == (40, 60) and 32 in one.objects.ids
    assert any("objects 4 lie outside it" in note for note in one.notes)


def test_a_mask_that_was_cut_is_taken_only_if_no_object_was(folder):
    export(folder, A, squares(1, 2, 3)[:10, :30])
    one = only(read_run_folder(folder)[0], A)
    np.testing.assert_array_equal(one.objects.labels, squares(4, 7, 31))
    export(folder, A, squares(1, 2, 3)[:5])
    assert read_run_folder(folder)[0] == []
    export(folder, A, squares(1, 2, 3)[:, :22])
    returned, said = read_run_folder(folder)
    assert returned == []
    assert any("objects 31 were cut off" in text and text.startswith(A) for text in said)
    save(folder, A, squares(1, 2, 3))
    assert read_run_folder(folder)[0] == []
    one = only(read_run_folder(folder, prefer="zip")[0], A)
    np.testing.assert_array_equal(one.objects.labels, squares(4, 7, 31))


def test_lists_that_lie_and_files_that_fit_nothing_are_named(folder):
    export(folder, A, squares(1, 2, 3), listed=False)
    add_line(folder, "Masks", f"/00_InputRaw/8bitSum_{B}.tif;/11_SegMasksFromFiji/{MASK.format(A)}")
    add_line(folder, "Masks", f"/00_InputRaw/8bitSum_{A}.tif;/11_SegMasksFromFiji/gone.tif")
    add_line(folder, "Masks", f"/00_InputRaw/8bitSum_{A}.tif")
    add_line(folder, "Masks", "/00_InputRaw/other.tif;/11_SegMasksFromFiji/other.tif")
    tifffile.imwrite(folder / "11_SegMasksFromFiji" / "stray.tif", np.zeros((2, 2), np.uint16))
    returned, said = read_run_folder(folder)
    assert [one.key for one in returned] == [A]
    for word in ("mask of another", "gone.tif, which is not there", "no mask for", "other.tif"):
        assert any(word in text for text in said), word
    assert any("stray.tif belongs to no image" in text for text in said)


@pytest.mark.parametrize(
    "name",
    ["/../secret.tif", "..\\..\\secret.tif", "C:\\secret.tif", "/11_SegMasksFromFiji/l/s.tif"],
)
def test_paths_that_leave_the_folder_are_refused(folder, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "11_SegMasksFromFiji" / "l").symlink_to(outside)
    add_line(folder, "Masks", f"/00_InputRaw/8bitSum_{A}.tif;{name}")
    with pytest.raises(RoiError, match="leads out of the folder"):
        read_run_folder(folder)


def test_a_mask_that_is_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    tifffile.imwrite(tmp_path / "secret.tif", squares(1).astype(np.uint16))
    (folder / "11_SegMasksFromFiji" / MASK.format(A)).symlink_to(tmp_path / "secret.tif")
    with pytest.raises(RoiError, match="leads out of the folder"):
        read_run_folder(folder)


def test_damaged_files_are_errors_that_name_them(folder):
    export(folder, A, squares(1, 2, 3))
    save(folder, A, squares(1, 2, 3))
    for path, error in (
        (zip_of(folder, A), RoiError),
        (folder / "11_SegMasksFromFiji" / MASK.format(A), ImageError),
    ):
        whole = path.read_bytes()
        for size in (len(whole) // 2, len(whole) - 60):
            path.write_bytes(whole[:size])
            with pytest.raises(error) as caught:
                read_run_folder(folder)
            assert path.name in str(caught.value)
        path.write_bytes(whole)
    assert only(read_run_folder(folder)[0], A)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"version": 1}', '{"version": 99, "items": {}}', '{"layout": "zips"}']
)
def test_a_damaged_manifest_is_an_error_with_a_way_out(folder, text):
    (folder / "opsef.json").write_text(text)
    with pytest.raises(RoiError) as caught:
        read_run_folder(folder)
    assert "opsef.json" in str(caught.value) and caught.value.hint


@pytest.mark.parametrize("key", ["picture", "mask"])
def test_a_manifest_that_points_out_of_the_folder_is_refused(folder, key):
    told = json.loads((folder / "opsef.json").read_text())
    told["items"][A][key] = "../x.tif"
    (folder / "opsef.json").write_text(json.dumps(told))
    with pytest.raises(RoiError, match="leads out"):
        read_run_folder(folder)


def test_an_absolute_path_in_a_manifest_is_one_inside(folder, tmp_path):
    export(folder, A, squares(1, 2, 3), {2: 2})
    assert any("as they went out" in note for note in only(read_run_folder(folder)[0], A).notes)
    outside = (folder / "02_SegMasks" / MASK.format(A)).rename(tmp_path / MASK.format(A))
    told = json.loads((folder / "opsef.json").read_text())
    told["items"][A]["mask"] = str(outside)
    (folder / "opsef.json").write_text(json.dumps(told))
    assert only(read_run_folder(folder)[0], A).notes == []


def test_without_its_manifest_a_folder_is_one_of_another_program(folder):
    export(folder, A, squares(1, 2, 3), {1: 3})
    (folder / "opsef.json").unlink()
    returned, _ = read_run_folder(folder)
    one = only(returned, A)
    assert dict(one.record) == {} and dict(one.objects.classes) == {1: 3}
    np.testing.assert_array_equal(one.objects.labels, squares(1, 2, 3))


def test_a_list_that_lies_makes_no_image_of_another_programs_folder(folder):
    (folder / "opsef.json").unlink()
    export(folder, A, squares(1, 2, 3), listed=False)
    add_line(folder, "Masks", f"/00_InputRaw/8bitSum_{B}.tif;/11_SegMasksFromFiji/{MASK.format(A)}")
    returned, said = read_run_folder(folder)
    one = only(returned, A)
    assert one.objects.ids == [1, 2, 3] and any("mask of another" in text for text in said)


def test_a_mask_changed_after_the_export_is_no_base(folder):
    path = folder / "02_SegMasks" / MASK.format(A)
    tifffile.imwrite(path, np.zeros((40, 60), np.uint16))
    export(folder, A, squares(1, 2, 3))
    returned, said = read_run_folder(folder)
    assert only(returned, A).objects.ids == [4, 7, 31]
    assert any("changed since the export" in text for text in said)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(NotFoundError, match="no folder"):
        read_run_folder(tmp_path / "gone")
    with pytest.raises(NotFoundError, match="neither"):
        read_run_folder(tmp_path)
    with pytest.raises(InputError, match="tif"):
        read_run_folder(tmp_path, prefer="tif")


# --- parts


def test_lists_of_any_system_are_read_alike(tmp_path):
    path = tmp_path / "FilePairList_fromFiji_Masks.txt"
    pairs = [Pair("00_InputRaw/ä b.tif", ("11/a.tif", "11/b.tif")), Pair("00_InputRaw/c.tif", ())]
    text = pairs_text(pairs)
    assert text.endswith("/00_InputRaw/c.tif\n") and "\n\n" not in text
    for data in (
        text.encode(),
        text.encode("utf-8-sig"),
        text.encode("utf-16"),
        text.encode("latin-1"),
        text.replace("\n", ";\r\n\r\n").replace("/", "\\\\").encode(),
        b"root;/somewhere\n" + text.encode(),
    ):
        path.write_bytes(data)
        assert read_pairs(path) == pairs
    path.write_bytes(b"")
    assert read_pairs(path) == []


@pytest.mark.parametrize("name", ["", "/", "..", "a/../../b", "C:/x", "c:x", "a\0b", "\\..\\x"])
def test_inside_refuses_what_is_not(tmp_path, name):
    with pytest.raises(OpsefError):
        inside(tmp_path, name)
    assert inside(tmp_path, "\\\\server\\x.tif") == tmp_path / "server" / "x.tif"


@pytest.mark.parametrize("seed", range(5))
def test_numbers_do_not_make_a_difference_and_pixels_do(seed):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 30, (12, 15)), np.ones((3, 3), int)).astype(np.int32)
    ids = np.unique(labels)[1:]
    table = np.zeros(labels.max() + 1, np.int32)
    table[ids] = rng.permutation(np.arange(50, 50 + len(ids)))
    classes = {int(label): int(rng.integers(1, 9)) for label in ids}
    one = Objects(labels, classes)
    other = Objects(table[labels], {int(table[label]): c for label, c in classes.items()})
    same = compare(one, other)
    assert same.lines() == [] and len(same.renamed) == len(ids)
    assert fingerprint(one.labels) == fingerprint(other.labels)
    added = compare(Objects(labels * (labels != ids[0])), one)
    assert added.renamed == {} and added.pixels == np.count_nonzero(labels == ids[0])
    changed = other.labels.copy()
    y, x = np.argwhere(labels > 0)[rng.integers(np.count_nonzero(labels))]
    changed[y, x] = 0
    assert compare(one, Objects(changed)).pixels == 1
    assert fingerprint(one.labels) != fingerprint(changed)


def test_a_smaller_mask_of_which_nothing_is_known_is_not_believed():
    labels, note = fitted(squares(1)[:20], (40, 60), None)
    assert labels is None and "cannot be known" in note
