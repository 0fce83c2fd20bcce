"""To AnnotatorJ and back, in both layouts; what it does is done here as it was seen to do it."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import InputError, NotFoundError, RoiError, StaleError
from opsef_bridge.exchange.annotatorj import export_annotatorj
from opsef_bridge.exchange.annotatorj_import import import_annotatorj
from opsef_bridge.exchange.files import export_objects, import_path
from opsef_bridge.exchange.saving import How
from opsef_bridge.project import Project
from opsef_bridge.rois import read_rois, write_rois
from opsef_bridge.rois.revisions import History
from tests.small_projects import discs, swept

A, B = "i00001-a", "i00002-b"
ADA = How("ada")


def load_and_save(zip_: Path, target: Path, *, drop=(), groups=None) -> None:
    """Load renames ROIs 0001, 0002, ...; edits; Save writes them without our JSON."""
    rois = read_rois(zip_)
    for k, roi in enumerate(rois, 1):
        roi.name = f"{k:04d}"
    for k, group in (groups or {}).items():
        rois[k].group = group
    target.parent.mkdir(exist_ok=True)
    write_rois(target, [roi for k, roi in enumerate(rois) if k not in drop])


def run_export(folder: Path, edits: dict[str, np.ndarray]) -> None:
    """Export writes 11_ (16 bit) and its lists with back-slashes and CRLF, as on Windows."""
    lines = []
    for line in sorted((folder / "10_ImportExport").glob("FilePairList_*.txt")):
        for pair in line.read_text().splitlines():
            picture, mask = pair.strip("\n").split(";")[:2]
            name = Path(mask).name
            key = next((key for key in edits if key in name), None)
            array = tifffile.imread(folder / mask.lstrip("/")) if key is None else edits[key]
            tifffile.imwrite(folder / "11_SegMasksFromFiji" / name, array.astype(np.uint16))
            lines.append(f"{picture};\\11_SegMasksFromFiji\\{name}")
    text = "".join(f"{line}\r\n" for line in lines)
    (folder / "10_ImportExport" / "FilePairList_fromFiji_Masks.txt").write_bytes(text.encode())


def mask_of(folder: Path, image: str) -> np.ndarray:
    [file] = (folder / "02_SegMasks").glob(f"*{image}*.tif")
    return tifffile.imread(file).astype(np.int32)


def ids(project: Project, image: str = A) -> list[int]:
    history = History(project, image)
    return history.objects(history.head().id).ids


def test_an_edited_run_folder_comes_back_by_its_old_ids(project):
    file = export_objects(project, ["v0001"], images=[A])[0]
    rois = read_rois(file)
    write_rois(file, [roi for k, roi in enumerate(rois) if k not in (1, 3)])  # gaps in the ids
    import_path(project, file, ADA)
    known = ids(project)
    done = export_annotatorj(project, "round1")
    assert done.open == () or all(path.is_file() for path in done.open)
    mask = mask_of(done.folder, A)
    assert np.array_equal(np.unique(mask), np.arange(len(known) + 1)), "1..N for AnnotatorJ"
    mask[mask == 2] = 0
    run_export(done.folder, {A: mask})
    [came], _ = import_annotatorj(project, "round1", ADA)
    assert came.error is None, came.error
    assert came.saved.revision.changes.deleted == (known[1],)
    assert ids(project) == [id_ for id_ in known if id_ != known[1]]
    again, said = import_annotatorj(project, "round1", ADA)
    assert again == [] and "nothing new" in " ".join(said)
    assert len(History(project, A).revisions()) == 2


def test_several_images_and_one_that_cannot_be_saved(project, tmp_path):
    done = export_annotatorj(project, "round1", ["v0001"])
    stale = export_objects(project, ["v0001"], images=[A], to=tmp_path / "bob")[0]
    rois = read_rois(stale)
    write_rois(stale, rois[1:])
    import_path(project, stale, How("bob"))
    first, second = mask_of(done.folder, A), mask_of(done.folder, B)
    first[first == 1] = 0
    first[np.nonzero(mask_of(done.folder, A) == 1)[0][:3], np.nonzero(first == 0)[1][:3]] = 1
    second[second == 2] = 0
    run_export(done.folder, {A: first, B: second})
    found = {one.image: one for one in import_annotatorj(project, "round1", ADA)[0]}
    assert isinstance(found[A].error, StaleError) and found[A].to_json()["report"]["conflicts"]
    assert found[B].saved.revision.changes.deleted == (2,)
    assert History(project, A).head().author == "bob"


def test_the_way_of_zips_finds_objects_again_that_were_renumbered(project):
    done = export_annotatorj(project, "careful", ["v0001"], layout="zips", images=[A])
    [given] = (done.folder / "normal").glob("*.zip")
    picture = tifffile.imread(done.folder / f"{A}.tif")
    assert picture.dtype == np.uint8 and picture.shape == (72, 80)
    nothing, said = import_annotatorj(project, "careful", ADA)
    assert nothing == [] and "as it was exported" in said[0]
    # Once classes are given AnnotatorJ saves to `masks`; the second deletion is of a
    # renumbered list, so names alone would point at the wrong objects.
    target = done.folder / "masks" / given.name
    load_and_save(given, target, drop=[0], groups={1: 2})
    load_and_save(target, target, drop=[3])
    [came], _ = import_annotatorj(project, "careful", ADA)
    one = came.saved.revision
    before = np.unique(project.labels(None, "v0001", A))[1:].tolist()
    assert one.changes.deleted == (before[0], before[4]) and not one.changes.changed
    assert dict(one.changes.reclassified) == {before[1]: (0, 2)}
    again, said = import_annotatorj(project, "careful", ADA)
    assert again == [] and "nothing to import" in " ".join(said)
    # Whoever goes on edits the revision that the zip has become.
    load_and_save(target, target, drop=[0])
    [more], _ = import_annotatorj(project, "careful", ADA)
    assert str(more.saved.revision.base) == "r0001"
    assert more.saved.revision.changes.deleted == (before[1],)


def test_two_edited_zips_of_one_image_are_a_question(project):
    done = export_annotatorj(project, "careful", ["v0001"], layout="zips", images=[A])
    [given] = (done.folder / "normal").glob("*.zip")
    load_and_save(given, done.folder / "masks" / given.name, drop=[0])
    load_and_save(given, given, drop=[1])
    [came], _ = import_annotatorj(project, "careful", ADA)
    assert "2 edited zips" in str(came.error) and "move the others away" in str(came.error)
    assert History(project, A).head() is None


def test_zip_and_mask_are_compared_and_the_mask_is_taken(project):
    done = export_annotatorj(project, "round1", ["v0001"])
    mask = mask_of(done.folder, A)
    mask[mask == 3] = 0
    run_export(done.folder, {A: mask})
    rois = {image: next(done.folder.glob(f"12_*/*{image}*.zip")) for image in (A, B)}
    shutil.copy(rois[B], rois[A])  # seen once: the ROIs of the second image in the first's zip
    found = {one.image: one for one in import_annotatorj(project, "round1", ADA)[0]}
    assert found[A].saved.revision.changes.deleted == (3,)
    assert any(B in line for line in found[A].said), found[A].said
    assert found[A].saved.revision.notes


def test_what_was_imported_is_never_taken_for_news(project):
    """An old mask that still lies there must not undo what was taken from the zip since."""
    done = export_annotatorj(project, "round1", ["v0001"], images=[A])
    mask = mask_of(done.folder, A)
    mask[mask == 3] = 0
    run_export(done.folder, {A: mask})
    [zip_] = done.folder.glob(f"12_*/*{A}*.zip")
    rois = read_rois(zip_)
    write_rois(zip_, [roi for k, roi in enumerate(rois) if k not in (2, 4)])
    [came], _ = import_annotatorj(project, "round1", ADA, prefer="zip")
    assert came.saved.revision.changes.deleted == (3, 5)
    again, said = import_annotatorj(project, "round1", ADA)
    assert again == [] and "nothing new" in " ".join(said)
    # Save without Export in a later session: the zip is the news.
    write_rois(zip_, [roi for k, roi in enumerate(rois) if k not in (0, 2, 4)])
    [more], _ = import_annotatorj(project, "round1", ADA)
    assert more.saved.revision.changes.deleted == (1,)
    assert any("not exported" in note for note in more.said)
    # And an export after that is news too.
    mask[mask == 6] = 0
    mask[(mask == 1) | (mask == 5)] = 0
    run_export(done.folder, {A: mask})
    [last], _ = import_annotatorj(project, "round1", ADA)
    assert last.saved.revision.changes.deleted == (6,)


def test_a_zip_of_the_export_that_was_imported_by_itself(project):
    done = export_annotatorj(project, "careful", ["v0001"], layout="zips", images=[A])
    [file] = (done.folder / "normal").glob("*.zip")
    write_rois(file, read_rois(file)[1:])
    import_path(project, file, ADA)
    write_rois(file, read_rois(file)[1:])
    [came], _ = import_annotatorj(project, "careful", ADA)
    assert str(came.saved.revision.base) == "r0001"
    assert came.saved.revision.changes.deleted == (2,)


def test_all_files_that_came_are_kept(project):
    done = export_annotatorj(project, "round1", ["v0001"], images=[A])
    mask = mask_of(done.folder, A)
    mask[mask == 3] = 0
    run_export(done.folder, {A: mask})
    import_annotatorj(project, "round1", ADA)
    with zipfile.ZipFile(project.revisions_folder(A) / "r0001-received.zip") as kept:
        assert {name.partition("/")[0] for name in kept.namelist()} == {
            "11_SegMasksFromFiji",
            "12_TmpRoisFromFiji",
        }


def test_in_a_volume_renumbered_outlines_stay_with_their_objects(tmp_path):
    project = swept(tmp_path / "p", {"v.tif": np.stack([discs(5)] * 2)})
    image = project.images()[0].id
    before = project.labels(None, "v0001", image)
    done = export_annotatorj(project, "planes", ["v0001"], layout="zips")
    [file] = (done.folder / "normal").glob("*z0001*.zip")
    load_and_save(file, file, drop=[0])  # renumbered by the next Load
    load_and_save(file, file)
    rois = read_rois(file)
    rois[0].properties = {}  # as of an edited ROI
    rois[1].group = 2
    write_rois(file, rois)
    import_annotatorj(project, "planes", ADA)
    classes = History(project, image).objects("r0001").classes
    assert classes == {int(np.unique(before[0])[3]): 2}
    expected = before.copy()
    expected[0][before[0] == np.unique(before[0])[1]] = 0
    np.testing.assert_array_equal(History(project, image).objects("r0001").labels, expected)


def test_planes_of_a_volume_come_back_into_their_places(tmp_path):
    volume = np.stack([discs(5), discs(6), discs(5)])
    project = swept(tmp_path / "p", {"v.tif": volume})
    image = project.images()[0].id
    before = project.labels(None, "v0001", image)
    done = export_annotatorj(project, "planes", ["v0001"])
    masks = {f"z{k + 1:04d}": mask_of(done.folder, f"z{k + 1:04d}") for k in range(3)}
    local = np.unique(masks["z0002"][before[1] == np.unique(before[1])[1]])[0]
    masks["z0002"][masks["z0002"] == local] = 0
    for key in ("z0001", "z0003"):  # one new object in each: two objects, not one
        masks[key][60:64, 70:74] = masks[key].max() + 1
    run_export(done.folder, masks)
    [came], _ = import_annotatorj(project, "planes", ADA)
    assert came.error is None, came.error
    after = History(project, image).objects("r0001").labels
    expected = before.copy()
    expected[1][before[1] == np.unique(before[1])[1]] = 0
    expected[0, 60:64, 70:74] = before.max() + 1
    expected[2, 60:64, 70:74] = before.max() + 2
    np.testing.assert_array_equal(after, expected)


def test_blind_exports_say_nothing_of_the_variant(project):
    done = export_annotatorj(project, "blind1", ["v0001", "v0002"], blind=True)
    for file in done.folder.rglob("*"):
        if file.suffix in (".json", ".txt"):
            assert "v000" not in file.read_text() and "run-0001" not in file.read_text()
    mask = mask_of(done.folder, A)
    mask[mask == 1] = 0
    run_export(done.folder, {A: mask})
    found = {one.image: one for one in import_annotatorj(project, "blind1", ADA)[0]}
    one = found[A].saved.revision
    assert one.blind and one.base.variant in ("v0001", "v0002")


def test_an_export_is_never_written_over(project):
    done = export_annotatorj(project, "round1", ["v0001"])
    kept = {p: p.read_bytes() for p in done.folder.rglob("*") if p.is_file()}
    for layout in ("opsef", "zips"):
        with pytest.raises(RoiError, match="already"):
            export_annotatorj(project, "round1", ["v0002"], layout=layout)
    assert {p: p.read_bytes() for p in done.folder.rglob("*") if p.is_file()} == kept


def test_what_annotatorj_cannot_hold_is_refused_and_leaves_nothing(project):
    file = export_objects(project, ["v0001"], images=[A])[0]
    rois = read_rois(file)
    rois[0].group = 9
    write_rois(file, rois)
    import_path(project, file, ADA)
    for layout in ("opsef", "zips"):
        with pytest.raises(RoiError, match="classes 1 to 8"):
            export_annotatorj(project, "nine", layout=layout)
        assert not project.exchange_folder("nine").exists()


@pytest.mark.parametrize(
    ("name", "more", "kind"),
    [
        ("../x", {"variants": ["v0001"]}, InputError),
        ("x", {}, NotFoundError),
        ("x", {"variants": ["v0001", "v0002"]}, InputError),
        ("x", {"variants": ["v7"]}, NotFoundError),
        ("x", {"variants": ["v0001"], "layout": "zips", "class_folder": "../y"}, InputError),
    ],
    ids=str,
)
def test_exports_that_cannot_be(project, name, more, kind):
    with pytest.raises(kind) as caught:
        export_annotatorj(project, name, **more)
    assert caught.value.hint
    assert not (project.root / "exchange" / "x").exists()


def test_imports_that_cannot_be(project):
    with pytest.raises(NotFoundError, match="no export"):
        import_annotatorj(project, "never", ADA)
    with pytest.raises(InputError):
        import_annotatorj(project, "../data", ADA)
    done = export_annotatorj(project, "round1", ["v0001"])
    (done.folder / "opsef.json").write_text("{")
    with pytest.raises(RoiError, match=r"opsef\.json"):
        import_annotatorj(project, "round1", ADA)


def test_the_note_tells_the_trap(project):
    done = export_annotatorj(project, "round1", ["v0001"])
    note = (done.folder / "10_ImportExport" / "README.txt").read_text()
    assert "mouse wheel" in note and "class mode" in note
    told = json.loads((done.folder / "opsef.json").read_text())
    assert told["class_names"] == {"1": "resting", "2": "dividing"}
