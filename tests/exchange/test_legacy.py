"""Run folders of the original OpSeF become projects: pictures, masks, classes, settings."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import InputError, ProjectError, RoiError
from opsef_bridge.exchange import legacy
from opsef_bridge.exchange.legacy import import_legacy
from opsef_bridge.exchange.legacy_folder import MaskName, background_label
from opsef_bridge.files import file_sha256
from opsef_bridge.images import read_image
from opsef_bridge.project import Project
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.sets import write_roi_set

VARIANT = "000_CP_Mask_0.4_RGBInput_000"
SHAPE = (40, 50)


def squares(*ids: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Objects by these numbers, 6 x 5 pixels each, in a row; 0 leaves a gap."""
    labels = np.zeros(shape, np.int32)
    for place, label in enumerate(ids):
        labels[10:16, 2 + 8 * place : 7 + 8 * place] = label
    return labels


MASK = squares(2, 5, 9, 12)
"""Numbers have gaps where OpSeF's filter deleted objects."""


class RunFolder:
    """A run folder as OpSeF and AnnotatorJ name things."""

    def __init__(self, root: Path, name: str = "Processed_004") -> None:
        self.root = root
        self.path = root / name
        for sub in ("00_InputRaw", "02_SegMasks", "07_ClassifiedSegMasks", "10_ImportExport"):
            (self.path / sub).mkdir(parents=True)

    def write(self, name: str, array: np.ndarray) -> Path:
        """Write a TIFF as OpSeF's tifffile does: no ImageJ, no axes."""
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        tifffile.imwrite(file, array)
        return file

    def image(
        self, image: str, mask: np.ndarray | None = MASK, variant: str = VARIANT, seed: int = 0
    ) -> np.ndarray:
        """Write the sums of an image (8 bits in) and a mask; return the picture in 8 bits."""
        shape = SHAPE if mask is None else mask.shape
        raw = np.random.default_rng(seed).integers(0, 200, shape, np.uint8)
        eight = (255.0 * raw / raw.max()).astype(np.uint8)
        self.write(f"00_InputRaw/Sum_{image}.tif", raw.astype(np.uint64))
        self.write(f"00_InputRaw/8bitSum_{image}.tif", eight)
        if mask is not None:
            self.write(f"02_SegMasks/{variant}_{image}.tif", mask)
        return eight

    def classes(self, sub: str, image: str, parts: Mapping[int, np.ndarray]) -> None:
        for number, labels in parts.items():
            name = f"{VARIANT}_{image}.tif".replace("_Mask_", f"_MaskClass{number:02d}_")
            self.write(f"{sub}/{name}", labels)

    def listed(self, name: str, *lines: str, windows: bool = False) -> None:
        text = "".join(f"{line}\n" for line in lines)
        text = text.replace("/", "\\").replace("\n", "\r\n") if windows else text
        (self.path / "10_ImportExport" / name).write_bytes(text.encode())

    def pair(self, image: str, sub: str = "02_SegMasks", variant: str = VARIANT) -> str:
        return f"/00_InputRaw/8bitSum_{image}.tif;/{sub}/{variant}_{image}.tif"

    def returned(self, edits: Mapping[str, np.ndarray]) -> None:
        """Write what AnnotatorJ on Windows exports, and the list that it had opened."""
        for image, labels in edits.items():
            self.write(f"11_SegMasksFromFiji/{VARIANT}_{image}.tif", labels.astype(np.uint16))
        self.listed("FilePairList_demo_004.txt", *(self.pair(image) for image in edits))
        lines = [self.pair(image, "11_SegMasksFromFiji") for image in edits]
        self.listed("FilePairList_fromFiji_Masks.txt", *lines, windows=True)

    def settings(self, place: Path | None = None, run: str = "004", **changes: Any) -> Path:
        run_def = {
            "run_ID": run,
            "pre_list": [["Median", np.int64(3), 50, "Max", False, [(18, 18), 3], "no", True]],
            "rescale_list": [np.float64(0.4)],
            "ModelType": ["CP_cyto", "UNet_CP001"],
        }
        settings = [
            {"batch_size": 2, "create_filter_mask_from_channel": changes.pop("mask", False)},
            {"dataset": "demo", "mydtype": np.uint8, "subset": ["All"]},
            run_def | changes,
            {"UNetShape": (80, 100)},
        ]
        file = (place or self.path) / f"Parameter_demo_Run_{run}.pkl"
        file.write_bytes(pickle.dumps(settings, 3))
        return file

    def state(self) -> dict[str, str]:
        """Every file with its sha256."""
        return {str(f): file_sha256(f) for f in sorted(self.root.rglob("*")) if f.is_file()}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "old")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "new")


def objects_of(project: Project, image: int = 0) -> Objects:
    history = History(project, project.images()[image].id)
    head = history.head()
    assert head is not None
    return history.objects(head.id)


def test_a_run_folder_becomes_a_project(run, project):
    pictures = [run.image(name, seed=k) for k, name in enumerate(("leaf_2", "leaf_10"))]
    run.settings()
    before = run.state()
    found = import_legacy(project, run.path, author="Anna")
    assert run.state() == before  # the run folder is only read
    assert [entry.source for entry in found.images] == ["data/leaf_2.tif", "data/leaf_10.tif"]
    assert project.images() == found.images
    for entry, picture in zip(found.images, pictures, strict=True):
        np.testing.assert_array_equal(read_image(project.source_file(entry)).data, picture)
    for k, revision in enumerate(found.revisions):
        assert (revision.id, revision.image) == ("r0001", found.images[k].id)
        assert (revision.author, revision.source.kind) == ("Anna", "legacy")
        assert revision.objects == 4 and not revision.changes
        np.testing.assert_array_equal(objects_of(project, k).labels, MASK)
    name = f"{VARIANT}_leaf_2.tif"
    mask = run.path / "02_SegMasks" / name
    assert found.revisions[0].source.file == name
    assert found.revisions[0].base.file == f"02_SegMasks/{name}"
    assert found.revisions[0].base.sha256 == file_sha256(mask)
    received = project.revisions_folder(found.images[0].id) / "r0001-received.tif"
    assert received.read_bytes() == mask.read_bytes()


def test_the_settings_become_the_configuration(run, project):
    run.image("a")
    run.settings()
    found = import_legacy(project, run.path)
    assert found.config_file == project.config_file
    config = project.config
    assert [name for name, _ in config.recipes()["p000"]] == ["median", "subtract", "invert"]
    cellpose, unet = config.model_settings()
    assert cellpose.axes["diameter"] == [75]
    assert unet.axes["scale"] == [2]  # the images have 40 x 50 px, its input had 80 x 100
    said = "\n".join(found.said)
    assert "Parameter_demo_Run_004.pkl" in said and "8bitSum_" in said
    assert "opsef models add cytotorch_0 --name cyto" in said


def test_settings_beside_the_run_folder_are_found_and_others_are_not(run, project, tmp_path):
    run.image("a")
    run.settings(run.root, "004", ModelType=["SD_2D_dsb2018"])
    run.settings(run.root, "005", ModelType=["UNet_CP001"])
    import_legacy(project, run.path)
    assert list(project.config.models) == ["SD_2D_dsb2018"]


def test_without_settings_it_is_said_and_the_rest_is_there(run, project):
    run.image("a")
    found = import_legacy(project, run.path)
    assert "There are no settings" in found.said[0]
    assert len(found.revisions) == 1 and project.config.recipes() == {"raw": ()}


def test_several_settings_are_told_apart_by_the_name_of_the_run(run, project):
    run.image("a")
    run.settings(ModelType=["SD_2D_dsb2018"])
    run.settings(run="006")
    import_legacy(project, run.path)
    assert list(project.config.models) == ["SD_2D_dsb2018"]


def test_several_settings_that_cannot_be_told_apart_are_refused(run, project):
    run.image("a")
    run.settings(run="007")
    run.settings(run="006")
    with pytest.raises(InputError, match=r"several settings: .*_006\.pkl, .*_007\.pkl"):
        import_legacy(project, run.path)


class Touch:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_settings_that_would_run_code_are_refused_and_nothing_is_written(run, project, tmp_path):
    run.image("a")
    evil = tmp_path / "evil"
    (run.path / "Parameter_demo_Run_004.pkl").write_bytes(pickle.dumps([{}, {}, Touch(evil), {}]))
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.system"):
        import_legacy(project, run.path)
    assert not evil.exists() and not project.root.exists()


def test_the_files_that_opsef_read_are_the_best_pictures(run, project):
    run.image("a")
    original = np.random.default_rng(5).integers(0, 60000, SHAPE, np.uint16)
    (run.root / "tiff").mkdir()
    tifffile.imwrite(run.root / "tiff" / "a.tif", original)
    found = import_legacy(project, run.path)
    np.testing.assert_array_equal(read_image(project.source_file(found.images[0])).data, original)
    assert any("the files that OpSeF read" in one for one in found.said)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_sums_that_imagej_reads_are_better_than_those_in_8_bits(run, project, dtype):
    run.image("a")
    total = np.random.default_rng(5).integers(0, 60000, SHAPE).astype(dtype)
    run.write("00_InputRaw/Sum_a.tif", total)
    found = import_legacy(project, run.path)
    np.testing.assert_array_equal(read_image(project.source_file(found.images[0])).data, total)
    assert any("00_InputRaw/Sum_" in one for one in found.said)


def test_stacks_are_not_the_picture_of_a_mask(run, project):
    picture = run.image("a")
    run.settings()
    (run.root / "tiff").mkdir()
    tifffile.imwrite(run.root / "tiff" / "a.tif", np.zeros((5, *SHAPE), np.uint8))
    found = import_legacy(project, run.path)
    np.testing.assert_array_equal(read_image(project.source_file(found.images[0])).data, picture)
    assert any("sums of the unfiltered planes" in one for one in found.said)


def test_another_file_of_the_same_name_is_not_the_picture(run, project):
    picture = run.image("a")
    (run.root / "tiff").mkdir()
    tifffile.imwrite(run.root / "tiff" / "a.tif", np.zeros((9, 9), np.uint8))
    found = import_legacy(project, run.path)
    np.testing.assert_array_equal(read_image(project.source_file(found.images[0])).data, picture)
    assert len(found.revisions) == 1


def test_edits_of_annotatorj_are_the_revision_and_say_what_a_person_did(run, project):
    run.image("a")
    edited = squares(2, 5, 0, 12, 13)  # 9 deleted, 13 drawn
    edited[16, 2:7] = 2  # a row more
    run.returned({"a": edited})
    found = import_legacy(project, run.path)
    [revision] = found.revisions
    changes = revision.changes
    assert (changes.added, changes.deleted, changes.changed) == ((13,), (9,), (2,))
    assert revision.source.file == f"{VARIANT}_a.tif"
    assert revision.source.sha256 == file_sha256(
        run.path / "11_SegMasksFromFiji" / revision.source.file
    )
    np.testing.assert_array_equal(objects_of(project).labels, edited)


def test_classes_of_annotatorj_are_told_by_the_name_of_the_file_not_the_column(run, project):
    run.image("a")
    run.returned({"a": MASK})
    run.classes("13_ClassifiedSegMasksFromFiji", "a", {3: squares(2), 1: squares(0, 5, 9)})
    sub = "13_ClassifiedSegMasksFromFiji"
    names = [f"/{sub}/000_CP_MaskClass{n}_0.4_RGBInput_000_a.tif;" for n in ("03", "01")]
    line = "/00_InputRaw/8bitSum_a.tif;" + "".join(names)
    run.listed("FilePairList_fromFiji_Classes.txt", line, windows=True)
    found = import_legacy(project, run.path)
    assert objects_of(project).classes == {2: 3, 5: 1, 9: 1}
    assert found.revisions[0].changes.reclassified == {2: (0, 3), 5: (0, 1), 9: (0, 1)}
    assert project.config.classes == {1: "Class_01", 3: "Class_03"}
    assert found.revisions[0].class_names == {1: "Class_01", 3: "Class_03"}


def test_classes_of_opsef_are_joined(run, project):
    run.image("a")
    run.settings(mask=True)
    parts = {1: squares(2, 0, 9), 2: squares(0, 5, 9)}  # 9 is in both
    run.classes("07_ClassifiedSegMasks", "a", parts)
    found = import_legacy(project, run.path)
    objects = objects_of(project)
    np.testing.assert_array_equal(objects.labels, MASK)
    assert objects.classes == {2: 1, 5: 2} and not found.revisions[0].changes
    assert project.config.classes == {1: "inside the mask", 2: "outside the mask"}


def test_class_masks_alone_are_enough(run, project):
    run.image("a", mask=None)
    run.classes("07_ClassifiedSegMasks", "a", {1: squares(2), 2: squares(0, 5)})
    found = import_legacy(project, run.path)
    np.testing.assert_array_equal(objects_of(project).labels, squares(2, 5))
    assert objects_of(project).classes == {2: 1, 5: 2}
    assert found.revisions[0].base.file.startswith("07_ClassifiedSegMasks/")


def test_edits_without_classes_keep_those_of_opsef(run, project):
    run.image("a")
    run.classes("07_ClassifiedSegMasks", "a", {1: squares(2, 0, 9), 2: squares(0, 5, 0, 12)})
    run.returned({"a": squares(1, 2, 0, 4, 5)})  # renumbered, 9 deleted, one drawn
    [revision] = import_legacy(project, run.path).revisions
    assert objects_of(project).classes == {2: 1, 5: 2, 12: 2}
    assert revision.changes.deleted == (9,) and len(revision.changes.added) == 1
    assert revision.changes.reclassified == {}


def test_what_annotatorj_did_not_return_comes_from_opsef_and_is_said(run, project):
    run.image("a")
    run.image("b")
    run.returned({"a": squares(2)})
    run.listed("FilePairList_demo_004.txt", run.pair("a"), run.pair("b"))
    found = import_legacy(project, run.path)
    assert [revision.objects for revision in found.revisions] == [1, 4]
    assert any("b: AnnotatorJ returned nothing" in one for one in found.said)


def test_a_zip_that_was_saved_but_not_exported_is_taken(run, project):
    run.image("a")
    run.listed("FilePairList_demo_004.txt", run.pair("a"))
    edited = squares(2, 5, 9)
    write_roi_set(run.path / "12_TmpRoisFromFiji" / f"{VARIANT}_a_ROIs.zip", edited)
    [revision] = import_legacy(project, run.path).revisions
    assert revision.changes.deleted == (12,) and revision.source.file.endswith("_ROIs.zip")
    np.testing.assert_array_equal(objects_of(project).labels, edited)


def test_returned_masks_are_found_by_their_names_where_the_lists_are_gone(run, project):
    run.image("a")
    run.returned({"a": squares(2, 5)})
    run.classes("13_ClassifiedSegMasksFromFiji", "a", {2: squares(0, 5)})
    for file in (run.path / "10_ImportExport").iterdir():
        file.unlink()
    found = import_legacy(project, run.path)
    assert found.revisions[0].changes.deleted == (9, 12)
    assert objects_of(project).classes == {5: 2}
    assert any("by their names" in one for one in found.said)


STARDIST = "001_SD_Mask_0_RGBInput_001"


def grid(run: RunFolder) -> None:
    """Two images, each with masks of three variants of 1, 2 and 3 objects."""
    for image in ("a", "b"):
        run.image(image, None)
        for k, variant in enumerate(
            (VARIANT, VARIANT.replace("0.4", "0.6"), "001_SD_Mask_0_RGBInput_001")
        ):
            run.write(f"02_SegMasks/{variant}_{image}.tif", squares(*range(1, k + 2)))


def test_several_masks_of_an_image_are_refused_with_the_choices(run, project):
    grid(run)
    with pytest.raises(InputError, match=r"2 images have several masks \(a has 3\)") as caught:
        import_legacy(project, run.path)
    assert "--masks" in caught.value.hint
    assert "001_SD_Mask_0_RGBInput_001 (2 images)" in caught.value.hint
    assert not project.root.exists()


@pytest.mark.parametrize(
    ("masks", "objects"),
    [(VARIANT, 1), ("000_CP_Mask_0.6", 2), ("*_SD_*", 3), ("001_SD_Mask_?_RGBInput_001", 3)],
)
def test_a_prefix_or_a_glob_chooses(run, project, masks, objects):
    grid(run)
    found = import_legacy(project, run.path, masks=masks)
    assert [revision.objects for revision in found.revisions] == [objects, objects]


@pytest.mark.parametrize(("masks", "word"), [("000", "several masks"), ("UN", "no mask is called")])
def test_a_choice_of_none_or_several_is_refused(run, project, masks, word):
    grid(run)
    with pytest.raises(InputError, match=word) as caught:
        import_legacy(project, run.path, masks=masks)
    assert "001_SD_Mask_0_RGBInput_001" in caught.value.hint


def test_the_list_of_opsef_chooses_and_images_outside_of_it_follow(run, project):
    grid(run)
    run.listed("FilePairList_demo_004.txt", run.pair("a", variant=STARDIST))
    found = import_legacy(project, run.path)
    assert [revision.objects for revision in found.revisions] == [3, 3]


def test_what_annotatorj_returned_chooses_before_the_list_of_opsef(run, project):
    grid(run)
    run.returned({"a": squares(1, 2), "b": squares(1)})
    lines = [run.pair(image, variant=STARDIST) for image in "ab"]
    run.listed("FilePairList_demo_004.txt", *lines)
    found = import_legacy(project, run.path)
    assert [r.base.file.split("/")[1][: len(VARIANT)] for r in found.revisions] == [VARIANT] * 2
    assert [r.objects for r in found.revisions] == [2, 1]


def test_a_background_with_a_number_is_pointed_out_and_kept(run, project):
    run.image("a", np.where(MASK == 0, 1, MASK))
    found = import_legacy(project, run.path)
    assert any("a: object 1 covers 94%" in one and "background" in one for one in found.said)
    assert found.revisions[0].objects == 5 and found.revisions[0].notes


def test_a_large_object_inside_is_no_background():
    labels = np.zeros((20, 20), int)
    labels[1:19, 1:19] = 3
    assert background_label(labels) is None
    labels[:] = 3
    assert background_label(labels) == 3
    assert background_label(np.zeros((4, 4), int)) is None
    assert background_label(np.ones((1, 1), int)) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16, np.uint32])
def test_masks_of_every_dtype_are_read(run, project, dtype):
    run.image("a", MASK.astype(dtype))
    import_legacy(project, run.path)
    np.testing.assert_array_equal(objects_of(project).labels, MASK)


def test_a_mask_without_objects_is_a_revision_without_objects(run, project):
    run.image("a", np.zeros(SHAPE, np.int32))
    [revision] = import_legacy(project, run.path).revisions
    assert (revision.objects, revision.sha256) == (0, None)


def test_masks_that_do_not_fit_or_are_damaged_are_said_and_others_come(run, project):
    for image in "abcd":
        run.image(image)
    run.write(f"02_SegMasks/{VARIANT}_a.tif", squares(1, shape=(40, 60)))
    run.write(f"02_SegMasks/{VARIANT}_c.tif", MASK + 0.5)
    file = run.path / "02_SegMasks" / f"{VARIANT}_d.tif"
    file.write_bytes(file.read_bytes()[:300])
    found = import_legacy(project, run.path)
    assert [revision.image[7:] for revision in found.revisions] == ["b"]
    assert len(found.images) == 4
    said = "\n".join(found.said)
    assert "a: no objects were taken" in said and "(40, 60)" in said
    assert "c: no objects were taken" in said and "d: no objects were taken" in said


def test_pictures_and_masks_without_partner_are_said(run, project):
    run.image("a")
    run.image("b", None)
    run.write(f"02_SegMasks/{VARIANT}_c.tif", MASK)
    found = import_legacy(project, run.path)
    said = "\n".join(found.said)
    assert len(found.images) == 2 and len(found.revisions) == 1
    assert "no mask of b" in said and f"no picture for {VARIANT}_c.tif" in said


def test_an_existing_project_is_not_touched(run, project):
    run.image("a")
    project.root.mkdir()
    project.config_file.write_text("mine")
    with pytest.raises(ProjectError, match=r"a project in .* already"):
        import_legacy(project, run.path)
    assert [file.name for file in project.root.iterdir()] == ["opsef.yaml"]
    assert project.config_file.read_text() == "mine"


def test_a_file_of_somebody_in_data_is_not_written_over(run, project):
    run.image("a")
    mine = project.root / "data" / "a.tif"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(ProjectError, match=r"a\.tif is there already"):
        import_legacy(project, run.path)
    assert mine.read_bytes() == b"mine" and not project.config_file.exists()


def test_an_import_that_was_cut_off_may_be_started_again(run, project, monkeypatch):
    run.image("a")
    run.image("b")

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(legacy, "write_text", full)
        with pytest.raises(OSError, match="no space"):
            import_legacy(project, run.path)
    found = import_legacy(project, run.path)
    assert [revision.id for revision in found.revisions] == ["r0001", "r0001"]
    for entry in found.images:
        assert len(History(project, entry.id).revisions()) == 1


def test_a_folder_of_something_else_is_refused(run, project, tmp_path):
    with pytest.raises(InputError, match="no run folder of OpSeF"):
        import_legacy(project, tmp_path)
    with pytest.raises(InputError, match="no run folder of OpSeF"):
        import_legacy(project, tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no masks of OpSeF"):
        import_legacy(project, run.path)
    run.write(f"02_SegMasks/{VARIANT}_a.tif", MASK)
    with pytest.raises(InputError, match="no picture that can be read"):
        import_legacy(project, run.path)
    (run.path / "opsef.json").write_text("{}")
    with pytest.raises(InputError, match="export of opsef_bridge") as caught:
        import_legacy(project, run.path)
    assert "annotatorj import" in caught.value.hint
    assert not project.root.exists()


def test_a_list_that_leads_out_of_the_folder_is_refused(run, project):
    run.image("a")
    run.returned({"a": MASK})
    run.listed("FilePairList_demo_004.txt", "/../../secret.tif;/02_SegMasks/x.tif")
    with pytest.raises(RoiError, match="leads out of"):
        import_legacy(project, run.path)
    assert not project.config_file.exists()


@pytest.mark.parametrize(
    ("name", "variant", "image"),
    [
        ("000_CP_Mask_0.4_RGBInput_000_x.tif", VARIANT, "x"),
        ("002_UN_Mask_0_RGBInput_011_a_Mask_b.tif", "002_UN_Mask_0_RGBInput_011", "a_Mask_b"),
        ("000_SD_MaskClass01_0_RGBInput_000_x.tif", "000_SD_Mask_0_RGBInput_000", "x"),
        (
            "000_CP_Mask_None_RGBInput_000_SubZ_000_003_Ch_000_y.tif",
            "000_CP_Mask_None_RGBInput_000",
            "SubZ_000_003_Ch_000_y",
        ),
        ("003_S2D_dsb_Mask_0_RGBInput_000_x.tif", "003_S2D_dsb_Mask_0_RGBInput_000", "x"),
    ],
)
def test_names_of_masks(name, variant, image):
    mask = MaskName.of(name)
    assert mask is not None and (mask.variant, mask.image) == (variant, image)


@pytest.mark.parametrize("name", ["a.tif", "000_CP_Mask_x.tif", "8bitSum_a.tif", "mask.png"])
def test_other_names_are_no_masks(name):
    assert MaskName.of(name) is None
