"""Objects out as files, edited as a person would, and back: nothing is lost on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from roifile import ImagejRoi

from opsef_bridge.errors import InputError, NotFoundError, OpsefError, RoiError, StaleError
from opsef_bridge.exchange import files as files_module
from opsef_bridge.exchange.files import clear_objects, export_objects, import_path
from opsef_bridge.exchange.saving import How
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.project import Project
from opsef_bridge.rois import EditedError, read_rois, write_rois
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.truth import read_truth
from tests.small_projects import discs, swept

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
        assert ("opsef rois import" in caught.value.hint) == (kind != "geojson")
        assert "move" in caught.value.hint.lower()
        assert files[0].read_bytes() == content


def test_a_file_that_has_become_a_revision_is_not_replaced_by_the_variant(project, tmp_path):
    """It may be open in ImageJ still, and be saved again over whatever lies there then."""
    file = exported(project)
    edit(file, drop=[0])
    import_path(project, file, ADA)
    content = file.read_bytes()
    with pytest.raises(EditedError, match="revision r0001"):
        exported(project)
    assert file.read_bytes() == content
    assert len(read_rois(exported(project, to=tmp_path))) == len(read_rois(file)) + 1


def test_exports_of_different_revisions_lie_apart(project):
    file = exported(project)
    edit(file, drop=[0])
    import_path(project, file, ADA)
    [old] = export_objects(project, images=[A])
    edit(file, drop=[0])
    import_path(project, file, How("bob"))
    [new] = export_objects(project, images=[A])
    assert old != new and {old.parent.name, new.parent.name} == {"r0001", "r0002"}
    edit(old, drop=[3])  # open all the time, saved now
    [done] = import_path(project, old, ADA)
    assert done.saved.revision.merged, "Bob's deletion stays"
    gone = set(np.unique(project.labels(None, "v0001", A))) - {0} - set(done_ids(project, "r0003"))
    assert len(gone) == 3


def test_what_is_saved_during_the_import_is_not_taken_for_imported(project, monkeypatch):
    file = exported(project)
    edit(file, drop=[0])
    given = files_module.read_roi_set

    def while_she_saves(path, *more, **how):
        found = given(path, *more, **how)
        if len(history(project).revisions()) == 0:
            edit(file, drop=[0])
        return found

    monkeypatch.setattr(files_module, "read_roi_set", while_she_saves)
    import_path(project, file, ADA)
    assert history(project).head().changes.deleted == (1,)
    done = {one.file: one for one in import_path(project, file.parent, ADA)}[file.name]
    assert done.saved.new and done.saved.revision.changes.deleted == (2,)


def test_after_joining_an_own_edit_can_be_taken_back(project, tmp_path):
    mine, theirs = (exported(project, to=tmp_path / name) for name in ("mine", "theirs"))
    rois = read_rois(mine)
    edit(theirs, drop=[0])
    edit(mine, groups={2: 1}, add=[square("new", 40, 60)])
    import_path(project, theirs, BOB)
    [joined] = import_path(project, mine, ADA)
    assert joined.saved.revision.merged
    write_rois(mine, rois)
    [back] = import_path(project, mine, ADA)
    assert back.saved.new and len(back.saved.revision.changes.deleted) == 1
    np.testing.assert_array_equal(
        history(project).objects("r0003").labels, history(project).objects("r0001").labels
    )
    assert history(project).objects("r0003").classes == {}


def test_a_file_of_another_image_or_picture_is_refused(project):
    file = exported(project)
    with pytest.raises(InputError, match=f"from {A}, not from {B}"):
        import_path(project, file, ADA, image=B)
    entries = [replace(e, sha256="f" * 64) if e.id == A else e for e in project.images()]
    project.write_images(entries)
    with pytest.raises(InputError, match="another picture"):
        import_path(project, file, ADA)
    [done] = import_path(project, file, ADA, image=A, base="none")
    assert done.saved.new


def test_nobody_vouches_for_what_others_did(project, tmp_path):
    mine, theirs = (exported(project, to=tmp_path / name) for name in ("mine", "theirs"))
    edit(theirs, drop=[0])
    edit(mine, drop=[1])
    import_path(project, theirs, BOB)
    [done] = import_path(project, mine, How("ada", truth="whole"))
    assert any("Not vouched for" in line for line in done.saved.said)
    with pytest.raises(NotFoundError):
        read_truth(project, A)
    [again] = import_path(project, mine, How("ada", truth="touched"))
    assert not again.saved.new and any("nothing was touched" in line for line in again.saved.said)
    with pytest.raises(InputError, match="no pixel"):
        edit(mine, drop=[1])
        import_path(project, mine, How("ada", truth="500,500,5,5"))
    assert history(project).head().id == "r0002", "checked before anything is saved"


def test_deleted_runs_lose_no_work(project, tmp_path):
    mine, theirs = (exported(project, to=tmp_path / name) for name in ("mine", "theirs"))
    edit(theirs, drop=[0])
    edit(mine, drop=[1])
    import_path(project, theirs, BOB)
    shutil.rmtree(project.runs_folder)
    [done] = import_path(project, mine, ADA)
    assert done.saved.revision.merged and done.saved.revision.changes.deleted == (2,)
    other = tmp_path / "alone"
    shutil.copytree(tmp_path / "mine", other)
    shutil.rmtree(project.annotations_folder)
    record = json.loads((other / f"{A}_ROIs.json").read_text())
    (other / f"{A}_ROIs.json").write_text(json.dumps(record | {"run": "run-0001"}))
    with pytest.raises(NotFoundError):
        import_path(project, other / f"{A}_ROIs.zip", ADA)


def test_a_run_that_was_made_anew_is_not_taken_for_the_old_one(project):
    file = exported(project)
    label_file = project.run("run-0001").label_file("v0001", A)
    labels = read_labels(label_file)
    write_labels(label_file, np.where(labels == 1, 0, labels))
    edit(file, drop=[1])
    with pytest.raises(NotFoundError, match="are gone"):
        import_path(project, file, ADA)


def test_a_damaged_json_stops_only_its_own_file(project, tmp_path):
    files = export_objects(project, ["v0001"], to=tmp_path)
    for file in files:
        edit(file, drop=[0])
    files[0].with_suffix(".json").write_text("{")
    done = {one.file: one for one in import_path(project, tmp_path, ADA)}
    assert done[files[0].name].error is not None and done[files[1].name].saved.new


def test_what_loses_a_conflict_stays_an_edit(project, tmp_path):
    mine, theirs = (exported(project, to=tmp_path / name) for name in ("mine", "theirs"))
    edit(theirs, drop=[0])
    edit(mine, groups={0: 1})
    import_path(project, theirs, BOB)
    [lost] = import_path(project, mine, How("ada", resolve="theirs"))
    assert not lost.saved.new
    with pytest.raises(EditedError):
        exported(project, to=tmp_path / "mine")


def test_the_name_that_annotatorj_gives_a_second_file(project, tmp_path):
    second = tmp_path / f"{A}_ROIs_1.zip"
    shutil.copy(exported(project), second)
    assert import_path(project, second, ADA)[0].image == A


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
    image = discs(3, (120, 130))
    image[:50, :60] = 200  # nothing to see there, so the crop is taken elsewhere
    project = swept(tmp_path / "p", {"a.tif": image}, crop="64")
    file = exported(project)
    assert read_rois(file), "the crop has objects"
    edit(file, drop=[0])
    [done] = import_path(project, file, ADA)
    one, found = done.saved.revision, history(project).objects("r0001")
    y, x, height, width = project.run().plan()["images"][0]["box"]
    assert (one.shape, one.base.box) == ((120, 130), (y, x, height, width)) and (y, x) != (0, 0)
    kept = history(project).kept_base(one.base).labels
    np.testing.assert_array_equal(
        kept[y : y + height, x : x + width], project.labels(None, "v0001", A)
    )
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
    assert newest.parts[-4:-1] == ("exchange", "imagej", "r0001")
    found = fill_rois(read_rois(newest), (72, 80))
    np.testing.assert_array_equal(found, history(project).objects("r0001").labels)
    old = export_objects(project, images=[A], revision="r0001", to=project.root / "old")
    assert len(read_rois(old[0])) == len(read_rois(newest))
