"""Objects out as files, edited as a person would, and back: nothing is lost on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from roifile import ImagejRoi

from opsef_bridge.errors import InputError, NotFoundError, OpsefError, RoiError, StaleError
from opsef_bridge.exchange.files import clear_objects, export_objects, import_path
from opsef_bridge.exchange.saving import How
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.project import Project
from opsef_bridge.rois import read_rois, write_rois
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.truth import read_truth
from tests.exchange.conftest import discs, swept

A, B = "i00001-a", "i00002-b"
ADA, BOB = How("ada"), How("bob")


def square(name: str, y: int, x: int, side: int = 4) -> ImagejRoi:
    """A rectangle as ImageJ's rectangle tool makes it."""
    roi = ImagejRoi.frompoints([[x, y], [x + side, y], [x + side, y + side], [x, y + side]])
    roi.name = name
    return roi


def exported(project: Project, image: str = A, **how) -> Path:
    [file] = export_objects(project, how.pop("variants", ["v0001"]), images=[image], **how)
    return file


def edit(file: Path, *, drop=(), add=(), groups=None, move=()) -> None:
    """Change a zip as the ROI Manager does, and save it under its name."""
    rois = [roi for k, roi in enumerate(read_rois(file)) if k not in drop]
    for k in move:
        points = rois[k].integer_coordinates
        rois[k].integer_coordinates = points + np.array([[1, 0]])
        rois[k].right += 1
    for k, group in (groups or {}).items():
        rois[k].group = group
    write_rois(file, [*rois, *add])


def history(project: Project, image: str = A) -> History:
    return History(project, image)


def test_an_edit_comes_back_exactly_and_says_what_changed(project):
    file = exported(project)
    before = project.labels(None, "v0001", A)
    edit(file, drop=[0], groups={1: 2}, add=[square("0101-0202", 40, 60)])
    [done] = import_path(project, file, ADA)
    one = done.saved.revision
    rois = read_rois(file)
    names = {roi.name: int(roi.name) for roi in rois[:-1]}
    expected = before.copy()
    expected[before == 1] = 0
    new = max(before.max(), *names.values()) + 1
    square_ = np.s_[40:44, 60:64]
    expected[square_] = new
    np.testing.assert_array_equal(history(project).objects("r0001").labels, expected)
    assert one.changes.deleted == (1,) and one.changes.added == (new,)
    assert dict(one.changes.reclassified) == {int(rois[1].name): (0, 2)}
    assert (str(one.base), one.author, one.class_names) == (
        "v0001 of run-0001",
        "ada",
        {1: "resting", 2: "dividing"},
    )
    received = project.revisions_folder(A) / "r0001-received.zip"
    assert received.read_bytes() == file.read_bytes()


def test_the_same_file_twice_does_nothing(project):
    file = exported(project)
    edit(file, drop=[0])
    assert import_path(project, file, ADA)[0].saved.new
    again = import_path(project, file, ADA)[0].saved
    assert (again.new, again.revision.id) == (False, "r0001")
    assert [one.id for one in history(project).revisions()] == ["r0001"]


def test_who_goes_on_in_the_same_file_edits_the_own_revision(project):
    file = exported(project)
    edit(file, move=[2])
    import_path(project, file, ADA)
    edit(file, move=[2])
    [done] = import_path(project, file, ADA)
    assert str(done.saved.revision.base) == "r0001"
    assert done.saved.revision.changes.changed == (int(read_rois(file)[2].name),)


def test_two_people_are_joined_where_they_touch_different_objects(project, tmp_path):
    mine, theirs = (exported(project, to=tmp_path / name) for name in ("mine", "theirs"))
    edit(theirs, drop=[0])
    edit(mine, drop=[1])
    import_path(project, theirs, BOB)
    [done] = import_path(project, mine, ADA)
    gone = set(np.unique(project.labels(None, "v0001", A))) - set(done_ids(project, "r0002"))
    assert done.saved.revision.merged and gone == {0, 1, 2}
    # The file lacks what Bob did: importing it again must not undo that.
    edit(mine, drop=[2])
    import_path(project, mine, ADA)
    assert not {1, 2} & set(done_ids(project, "r0003"))


def done_ids(project: Project, revision: str) -> list[int]:
    return history(project).objects(revision).ids


def test_the_same_object_is_refused_until_somebody_decides(project, tmp_path):
    mine, theirs = (exported(project, to=tmp_path / name) for name in ("mine", "theirs"))
    edit(theirs, drop=[0])
    edit(mine, groups={0: 1}, move=[0])
    import_path(project, theirs, BOB)
    with pytest.raises(StaleError, match="r0001 by bob") as caught:
        import_path(project, mine, ADA)
    report = caught.value.report
    assert report["theirs"]["author"] == "bob" and report["ours"]["author"] == "ada"
    assert [conflict["id"] for conflict in report["conflicts"]] == [1]
    assert json.dumps(report)
    assert [one.id for one in history(project).revisions()] == ["r0001"]
    [done] = import_path(project, mine, How("ada", resolve="ours"))
    assert 1 in done_ids(project, done.saved.revision.id)


def test_a_file_without_its_json_needs_its_base_once_there_are_revisions(project, tmp_path):
    file = exported(project)
    alone = tmp_path / f"{A}_ROIs.zip"
    shutil.copy(file, alone)
    edit(alone, drop=[0])
    [first] = import_path(project, alone, ADA)
    assert str(first.saved.revision.base) == "nothing"
    edit(alone, drop=[0])
    with pytest.raises(StaleError, match="not known which one"):
        import_path(project, alone, ADA)
    [second] = import_path(project, alone, ADA, base="r0001")
    assert second.saved.revision.changes.deleted == (2,)


@pytest.mark.parametrize(
    ("base", "why"),
    [("r0009", "r0009"), ("v0099", "v0099"), ("run-0009/v0001", "run-0009"), ("run-0001/", "base")],
)
def test_a_base_that_is_none(project, base, why):
    with pytest.raises(OpsefError, match=why):
        import_path(project, exported(project), ADA, base=base)


def test_labels_of_another_program_keep_ids_and_classes(project):
    file = exported(project)
    edit(file, groups={0: 2, 3: 1})
    import_path(project, file, ADA)
    [labels] = export_objects(project, images=[A], format="labels")
    array = read_labels(labels)
    array[array == 2] = 0
    renumbered = np.where(array > 0, array + 100, 0)
    write_labels(labels, renumbered)
    [done] = import_path(project, labels, BOB)
    one = done.saved.revision
    assert (str(one.base), one.changes.deleted, one.changes.added) == ("r0001", (2,), ())
    assert not one.changes.changed and not one.changes.reclassified
    assert history(project).objects("r0002").classes == {1: 2, 4: 1}


def test_all_deleted_is_a_revision_and_a_missing_file_is_not(project, tmp_path):
    file = exported(project, image=A)
    file.unlink()
    [other] = import_path(project, exported(project, image=B, to=tmp_path / "out").parent, ADA)
    assert other.saved is None and history(project).head() is None
    done = clear_objects(project, A, ADA, base="v0001")
    assert done.saved.new and done.saved.revision.objects == 0
    assert history(project).objects("r0001").ids == []
    empty = tmp_path / f"{A}.tif"
    write_labels(empty, np.zeros((72, 80), np.uint16))
    history(project).restore("r0001", author="ada")
    [again] = import_path(project, empty, ADA, base="r0001")
    assert not again.saved.new, "nothing is still nothing"


def test_an_edited_file_is_never_written_over(project):
    for kind in ("imagej", "labels", "geojson"):
        files = export_objects(project, ["v0001"], format=kind)
        content = files[0].read_bytes() + b" "
        files[0].write_bytes(content)
        with pytest.raises(RoiError, match="left as they are") as caught:
            export_objects(project, ["v0001"], format=kind)
        assert "opsef rois import" in caught.value.hint
        assert files[0].read_bytes() == content


def test_after_the_import_the_file_may_be_written_anew(project):
    file = exported(project)
    edit(file, drop=[0])
    import_path(project, file, ADA)
    assert exported(project) == file
    assert len(read_rois(file)) == len(np.unique(project.labels(None, "v0001", A))) - 1


def test_of_a_folder_only_edited_files_are_saved_and_each_fails_alone(project, tmp_path):
    files = export_objects(project, ["v0001"], to=tmp_path / "out")
    edit(files[0], drop=[0])
    (tmp_path / "out" / "notes.tif").write_bytes(b"no image")
    done = {one.file: one for one in import_path(project, tmp_path / "out", ADA)}
    assert done[files[0].name].saved.new
    assert done[files[1].name].saved is None and "not changed" in done[files[1].name].said[0]
    assert done["notes.tif"].error is not None
    assert all(json.dumps(one.to_json()) for one in done.values())


def test_a_file_named_by_hand_is_looked_at_and_saved_though_nothing_changed(project):
    [done] = import_path(project, exported(project), How("ada", truth="whole"))
    assert done.saved.new and not done.saved.revision.changes
    truth = read_truth(project, A)
    assert truth.known.all()
    np.testing.assert_array_equal(truth.labels, project.labels(None, "v0001", A))


def test_blind_files_do_not_say_the_variant_and_the_revision_does(project):
    files = export_objects(project, ["v0001", "v0002"], blind=True)
    assert len(files) == 2
    for file in files:
        beside = file.with_suffix(".json").read_text()
        assert "v000" not in beside and "run-" not in beside and "watershed" not in beside
        edit(file, drop=[0])
        [done] = import_path(project, file, ADA)
        one = done.saved.revision
        assert one.blind and one.base.run == "run-0001"
        shape = project.labels(None, one.base.variant, done.image)
        assert one.changes.deleted == (np.unique(shape)[1],)


def test_a_blind_file_of_another_project_is_not_taken_for_ours(project, tmp_path):
    file = exported(project, variants=["v0001"], blind=True)
    project.blind_file.unlink()
    with pytest.raises(NotFoundError, match="token"):
        import_path(project, file, ADA)


@pytest.mark.parametrize(
    ("more", "kind", "why"),
    [
        ({"variants": ["v0001", "v0002"]}, InputError, "2 variants"),
        ({"variants": ["v0001"], "revision": "latest"}, InputError, "both"),
        ({"variants": ["v9"]}, NotFoundError, "v9"),
        ({"variants": ["v0001"], "images": ["i9"]}, NotFoundError, "i9"),
        ({"revision": "r0001"}, NotFoundError, "r0001"),
        ({}, NotFoundError, "no objects to export"),
    ],
    ids=str,
)
def test_exports_that_cannot_be(project, more, kind, why):
    with pytest.raises(kind, match=why) as caught:
        export_objects(project, **more)
    assert caught.value.hint


def test_imports_that_cannot_be(project, tmp_path):
    (tmp_path / "x.txt").write_text("no")
    other = tmp_path / "elsewhere_ROIs.zip"
    shutil.copy(exported(project), other)
    wrong = tmp_path / f"{A}.tif"
    write_labels(wrong, np.ones((5, 5), np.uint16))
    empty = tmp_path / "empty"
    empty.mkdir()
    torn = tmp_path / f"{B}_ROIs.zip"
    torn.write_bytes(other.read_bytes()[:-40])
    cases = [
        (tmp_path / "none.zip", "no file"),
        (tmp_path / "x.txt", "no ROI zip"),
        (other, "fits 0 images"),
        (wrong, r"\(5, 5\)"),
        (empty, "holds no ROI zip"),
        (torn, "truncated or damaged"),
    ]
    for path, why in cases:
        with pytest.raises(OpsefError, match=why) as caught:
            import_path(project, path, ADA, base="v0001")
        assert caught.value.hint
    assert history(project).head() is None and history(project, B).head() is None
    assert import_path(project, other, ADA, image=A)[0].saved.new


def test_a_crop_comes_back_in_the_pixels_of_the_source(tmp_path):
    project = swept(tmp_path / "p", {"a.tif": discs(3, (120, 130))}, crop="64")
    file = exported(project)
    assert read_rois(file), "the crop has objects"
    edit(file, drop=[0])
    [done] = import_path(project, file, ADA)
    one, found = done.saved.revision, history(project).objects("r0001")
    y, x, height, width = project.run().plan()["images"][0]["box"]
    assert (one.shape, one.base.box) == ((120, 130), (y, x, height, width))
    crop = project.labels(None, "v0001", A)
    crop[crop == 1] = 0
    np.testing.assert_array_equal(found.labels[y : y + height, x : x + width], crop)
    assert np.count_nonzero(found.labels) == np.count_nonzero(crop)
    assert (one.changes.deleted, one.changes.added, one.changes.changed) == ((1,), (), ())


def test_a_volume_goes_out_and_comes_back(tmp_path):
    volume = np.stack([discs(5)] * 3)
    project = swept(tmp_path / "p", {"v.tif": volume})
    [file] = export_objects(project, ["v0001"])
    labels = project.labels(None, "v0001", "i00001-v")
    assert labels.ndim == 3
    rois = read_rois(file)
    new = square("0002-0050-0060", 50, 60)
    new.position = 2
    write_rois(file, [*(roi for roi in rois if not roi.name.startswith("0001-")), new])
    [done] = import_path(project, file, ADA)
    expected = np.where(labels == 1, 0, labels)
    expected[1, 50:54, 60:64] = labels.max() + 1
    found = History(project, "i00001-v").objects("r0001").labels
    np.testing.assert_array_equal(found, expected)
    assert done.saved.revision.changes.deleted == (1,)


def test_what_is_exported_without_a_name_is_the_newest(project):
    file = exported(project)
    edit(file, drop=[0])
    import_path(project, file, ADA)
    [newest] = export_objects(project, images=[A])
    assert newest.parent.name == "imagej" and newest.parent.parent.name == "exchange"
    found = fill_rois(read_rois(newest), (72, 80))
    np.testing.assert_array_equal(found, history(project).objects("r0001").labels)
    old = export_objects(project, images=[A], revision="r0001", to=project.root / "old")
    assert len(read_rois(old[0])) == len(read_rois(newest))
