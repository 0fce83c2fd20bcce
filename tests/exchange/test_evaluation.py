"""Labels and truth in folders, files and projects: found, paired, cut, evaluated, written."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.exchange.evaluation import (
    evaluate_sets,
    parse_thresholds,
    shown_thresholds,
    write_evaluation,
)
from opsef_bridge.exchange.files import import_path
from opsef_bridge.exchange.label_sets import LabelSet, open_labels
from opsef_bridge.exchange.saving import How
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.measure.match import match
from opsef_bridge.project import Project, read_csv
from opsef_bridge.sweep.planned import Plan
from tests.measure.test_match import blobs
from tests.small_projects import discs, swept

A, B = "i00001-a", "i00002-b"
NOWHERE = Project("there-is-no-project-here")


def folder_of(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, image in labels.items():
        if name.endswith(".png"):
            Image.fromarray(image.astype(np.uint8)).save(folder / name)
        else:
            write_labels(folder / name, image)
    return folder


def evaluated(pred: object, truth: object, *others: object, project: Project = NOWHERE, **how):
    given = [open_labels(str(place), project, **how) for place in (pred, truth, *others)]
    return evaluate_sets([given[0], *given[2:]], given[1], (0.5,))


def counts(done, model: int = 0) -> dict[str, tuple[int, int, int]]:
    table = list(done.models.values())[model].images
    return {row.image: (row.tp, row.fp, row.fn) for row in table.itertuples()}


def expected(truth: np.ndarray, labels: np.ndarray) -> tuple[int, int, int]:
    return tuple(match(truth, labels)[["tp", "fp", "fn"]].to_numpy()[0].tolist())


def test_folders_are_paired_by_name(tmp_path):
    (a, a2), (b, b2) = blobs(1, 1), blobs(2, 1)
    truth = folder_of(tmp_path / "truth", {"a.tif": a, "b.png": b, "c.tif": a, "d.tif": a})
    pred = folder_of(tmp_path / "pred", {"a.ome.tif": a2, "b.tif": b2, "c.tif": a, "e.tif": a})
    (pred / ".hidden.tif").write_bytes(b"")
    (pred / "notes.txt").write_text("")
    done = evaluated(pred, truth)
    assert list(done.models) == ["pred"] and done.comparison is None
    assert counts(done) == {"a": expected(a, a2), "b": expected(b, b2), "c": expected(a, a)}
    assert done.notes == (
        "images with truth but without labels: 1 by pred",
        "images of pred left out, without truth or other labels: 1",
    )


def test_several_models_are_compared_on_the_images_that_all_have(tmp_path):
    (a, a2), (b, b2) = blobs(1, 1), blobs(2, 1)
    truth = folder_of(tmp_path / "truth", {"a.tif": a, "b.tif": b})
    one = folder_of(tmp_path / "one", {"a.tif": a2, "b.tif": b2})
    (tmp_path / "again").mkdir()
    two = folder_of(tmp_path / "again" / "one", {"a.tif": a})
    done = evaluated(one, truth, two)
    assert list(done.models) == ["one", "one (2)"]
    assert counts(done) == {"a": expected(a, a2)} and counts(done, 1) == {"a": expected(a, a)}
    assert done.notes[0] == "images with truth but without labels: 1 by one (2)"
    row = done.comparison.iloc[0]
    assert (row["a"], row["b"]) == ("one", "one (2)") and row["difference"] < 0
    assert done.table("images")["model"].tolist() == ["one", "one (2)"]


def test_two_files_need_no_common_name(tmp_path):
    a, a2 = blobs(1, 1)
    write_labels(tmp_path / "mine.tif", a2)
    write_labels(tmp_path / "true.tif", a)
    done = evaluated(tmp_path / "mine.tif", tmp_path / "true.tif")
    assert counts(done) == {"true": expected(a, a2)} and list(done.models) == ["mine"]


def test_a_file_finds_its_partner_in_a_folder_by_name(tmp_path):
    a, a2 = blobs(1, 1)
    truth = folder_of(tmp_path / "truth", {"a.tif": a, "b.tif": a})
    write_labels(tmp_path / "a.tif", a2)
    assert counts(evaluated(tmp_path / "a.tif", truth)) == {"a": expected(a, a2)}


@pytest.mark.parametrize("named", [True, False])
def test_a_stack_is_a_volume_unless_its_planes_are_images(tmp_path, named):
    pairs = [blobs(seed, 1) for seed in range(3)]
    for name, side in (("truth", 0), ("pred", 1)):
        stack = np.stack([pair[side] for pair in pairs]).astype(np.uint16)
        kind = {"imagej": True, "metadata": {"axes": "ZYX"}} if named else {}
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack", **kind)
    volumes = [np.stack(side) for side in zip(*pairs, strict=True)]
    places = (tmp_path / "pred.tif", tmp_path / "truth.tif")
    assert counts(evaluated(*places)) == {"truth": expected(*volumes)}
    done = counts(evaluated(*places, planes=True))
    assert done == {f"truth_z000{n}": expected(*pair) for n, pair in enumerate(pairs, 1)}


def test_time_points_are_images(tmp_path):
    pairs = [blobs(seed, 1) for seed in range(2)]
    for name, side in (("truth", 0), ("pred", 1)):
        stack = np.stack([pair[side] for pair in pairs]).astype(np.uint16)
        axes = {"imagej": True, "metadata": {"axes": "TYX"}}
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, **axes)
    done = counts(evaluated(tmp_path / "pred.tif", tmp_path / "truth.tif"))
    assert done == {f"truth_t000{n}": expected(*pair) for n, pair in enumerate(pairs, 1)}
    write_labels(tmp_path / "one.tif", pairs[0][0])
    with pytest.raises(InputError, match="one has 1 images, truth has 2"):
        evaluated(tmp_path / "one.tif", tmp_path / "truth.tif")


def test_variants_are_paired_with_files_named_as_the_images(project, tmp_path):
    labels = {
        variant: [project.labels("run-0001", variant, image) for image in (A, B)]
        for variant in ("v0001", "v0002")
    }
    truth = folder_of(
        tmp_path / "truth", dict(zip(("a.tif", "b.tif"), labels["v0002"], strict=True))
    )
    wanted = dict(zip("ab", map(expected, labels["v0002"], labels["v0001"]), strict=True))
    slug = Plan.from_json(project.run().plan()).variants[0].slug
    for pred in ("v0001", slug):
        done = evaluated(pred, truth, "v0002", project=project)
        assert list(done.models) == ["v0001", "v0002"] and counts(done) == wanted
        assert all(fp == fn == 0 for _, fp, fn in counts(done, 1).values())
    # The folder of a variant knows its project without being told.
    done = evaluated(project.root / "runs/run-0001/labels/v0001", truth)
    assert list(done.models) == ["v0001"] and counts(done) == wanted


def test_exported_labels_are_known_by_the_id_of_their_image(project, tmp_path):
    labels = project.labels("run-0001", "v0001", A)
    by_id = folder_of(tmp_path / "by_id", {f"{A}.tif": labels})
    by_file = folder_of(tmp_path / "by_file", {"a.tif": labels})
    assert list(counts(evaluated("v0001", by_id, project=project))) == [A]
    assert list(counts(evaluated(by_id, by_file, project=project))) == ["a"]
    with pytest.raises(InputError, match="no image has labels in all"):
        evaluated(by_id, by_file)
    # Two images of one file: its name says nothing any more.
    project.write_images([replace(one, source="data/a.tif") for one in project.images()])
    with pytest.raises(InputError, match="no image has labels in all"):
        evaluated("v0001", by_file, project=project)


def vouch(project: Project, image: str, labels: np.ndarray, scope: str) -> None:
    file = project.root / "edited.tif"
    write_labels(file, labels)
    [done] = import_path(project, file, How(author="ada", truth=scope), image=image, base="v0001")
    assert done.error is None


def test_truth_of_a_project_counts_only_where_it_is_vouched_for(project):
    labels = project.labels("run-0001", "v0001", A)
    numbers = [n for n in np.unique(labels) if n]
    truth = np.where(labels == numbers[0], 0, labels)
    vouch(project, A, truth, "whole")
    vouch(project, B, project.labels("run-0001", "v0001", B), "0,0,40,72")
    done = evaluated("v0001", "truth", project=project)
    assert counts(done)[A] == (len(numbers) - 1, 1, 0)
    other = project.labels("run-0001", "v0001", B)
    boxed = {n for n in np.unique(other[:40, :72]) if n}
    assert counts(done)[B] == (len(boxed), 0, 0)
    assert len(boxed) < len(np.unique(other)) - 1


def test_truth_of_a_picture_that_was_replaced_is_noticed(project):
    labels = project.labels("run-0001", "v0001", A)
    vouch(project, A, labels, "whole")
    assert evaluated("v0001", "truth", project=project).notes == (
        "images of v0001 left out, without truth or other labels: 1",
    )
    changed = [replace(one, sha256="0" * 64) if one.id == A else one for one in project.images()]
    project.write_images(changed)
    notes = evaluated("v0001", "truth", project=project).notes
    assert "data/a.tif is another picture than when r0001 was saved" in notes[0]


def test_touched_objects_are_truth_and_what_lies_around_them_is_open(project):
    labels = project.labels("run-0001", "v0001", A)
    last = labels == labels.max()
    edited = labels.copy()
    first_row = np.arange(len(labels)) == np.flatnonzero(last.any(axis=1))[0]
    edited[first_row[:, np.newaxis] & last] = 0
    vouch(project, A, edited, "touched")
    done = evaluated("v0001", "truth", project=project)
    assert counts(done) == {A: (1, 0, 0)} and len(np.unique(labels)) > 3
    assert done.models["v0001"].images["mean_iou"].item() < 1


def test_a_crop_is_compared_with_the_part_of_truth_that_it_saw(tmp_path):
    picture = discs(3, (96, 96))
    project = swept(tmp_path / "p", {"a.tif": picture}, crop="48")
    part = project.labels(None, "v0001", A)
    assert part.shape == (48, 48)
    [planned] = Plan.from_json(project.run(None).plan()).images
    top, left, height, width = planned.box
    whole = np.zeros((96, 96), np.int32)
    whole[top : top + height, left : left + width] = part
    # One object of truth has its larger half outside of the crop, and is found there.
    rows = slice(top, top + height)
    outside = np.count_nonzero(whole == whole.max()) + 1
    columns = left + width if left + width <= 48 else 0
    free = np.argwhere(whole[rows, columns : columns + 8] == 0)[:outside]
    whole[free[:, 0] + top, free[:, 1] + columns] = whole.max()
    truth = folder_of(tmp_path / "truth", {"a.tif": whole})
    done = evaluated("v0001", truth, project=project)
    objects = len(np.unique(part)) - 1
    assert counts(done) == {"a": (objects - 1, 0, 0)}
    again = folder_of(tmp_path / "whole", {"a.tif": whole})
    done = evaluated(again, truth, "v0001", project=project)
    assert counts(done) == {"a": (objects - 1, 0, 0)} == counts(done, 1)


@pytest.mark.parametrize("shape", [(96, 95), (120, 130), (48, 48), (2, 96, 96)])
def test_what_is_to_be_cut_to_a_crop_has_the_shape_of_the_image(tmp_path, shape):
    project = swept(tmp_path / "p", {"a.tif": discs(3, (96, 96))}, crop="48")
    fitting = folder_of(tmp_path / "fitting", {"a.tif": np.ones((96, 96), np.int32)})
    other = folder_of(tmp_path / "other", {"a.tif": np.ones(shape, np.int32)})
    told = re.escape(f"is of shape {shape}, the image whose crop was swept of (96, 96)")
    with pytest.raises(InputError, match=f"a: truth {told}.*whole image"):
        evaluated("v0001", other, project=project)
    with pytest.raises(InputError, match=f"a: the labels of other {told}"):
        evaluated(other, fitting, "v0001", project=project)


def test_truth_of_a_crop_alone_is_compared_as_the_error_says(tmp_path):
    project = swept(tmp_path / "p", {"a.tif": discs(3, (96, 96))}, crop="48")
    part = project.labels(None, "v0001", A)
    truth = folder_of(tmp_path / "truth", {f"{A}.tif": part})
    with pytest.raises(InputError, match="copy the label files"):
        evaluated("v0001", truth, project=project)
    shutil.copytree(project.run().root / "labels" / "v0001", tmp_path / "copied")
    done = evaluated(tmp_path / "copied", truth, project=project)
    assert counts(done) == {A: (len(np.unique(part)) - 1, 0, 0)}


def test_what_cannot_be_evaluated_is_said(project, tmp_path):
    a = blobs(1)[0]
    truth = folder_of(tmp_path / "truth", {"a.tif": a, "b.tif": a})
    with pytest.raises(InputError, match="no image has labels in all: truth has a, b; other has x"):
        evaluated(folder_of(tmp_path / "other", {"x.tif": a}), truth)
    small = folder_of(tmp_path / "small", {"a.tif": a[:20]})
    with pytest.raises(InputError, match=r"a: truth is of shape \(60, 60\), the labels are of"):
        evaluated(small, truth)
    empty = folder_of(tmp_path / "empty", {"a.tif": a * 0})
    with pytest.raises(InputError, match="no object that counts in any of 1"):
        evaluated(truth, empty)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no label image in"):
        evaluated(tmp_path / "nothing", truth)
    twice = folder_of(tmp_path / "twice", {"a.tif": a, "a.png": a})
    with pytest.raises(InputError, match=r"a\.png and a\.tif"):
        evaluated(twice, truth)
    for place, where, said in (
        (tmp_path / "gone", NOWHERE, "no file or folder"),
        ("v0001", NOWHERE, "no file or folder v0001"),
        ("truth", project, "nobody has vouched for anything"),
        ("v0099", project, "no variant 'v0099'"),
        ("stardust", project, "no variant 'stardust'"),
    ):
        with pytest.raises(NotFoundError, match=said):
            open_labels(str(place), where)
    with pytest.raises(NotFoundError, match="no run 'run-0009'"):
        open_labels("v0001", project, run="run-0009")


def test_variants_without_labels_and_other_crops_are_refused(project, tmp_path):
    for file in (project.root / "runs/run-0001/labels/v0001").glob("*.tif"):
        file.unlink()
    with pytest.raises(NotFoundError, match="run-0001 has no labels of v0001"):
        open_labels("v0001", project)
    other = open_labels("v0002", project)
    first, second = (
        LabelSet(name, (replace(other.items[0], box=box),))
        for name, box in (("x", (0, 0, 9, 9)), ("y", (1, 0, 9, 9)))
    )
    with pytest.raises(InputError, match=f"labels of {A} are of different crops"):
        evaluate_sets([first, second], other, (0.5,))


def test_tables_and_plots_are_written(tmp_path):
    pairs = {f"{name}.tif": blobs(seed, 1) for seed, name in enumerate("abc")}
    truth, one, two = (
        folder_of(tmp_path / name, {file: pair[side] for file, pair in pairs.items()})
        for name, side in (("truth", 0), ("one", 1), ("two", 1))
    )
    given = [open_labels(str(place), NOWHERE) for place in (one, two, truth)]
    events = []
    done = evaluate_sets(given[:2], given[2], (0.5, 0.99), report=events.append)
    assert (events[-1].done, events[-1].total) == (6, 6) and "one, a" in events[0].message
    files = write_evaluation(tmp_path / "new" / "out", done)
    assert {file.name for file in files} == {
        "evaluation.csv", "pooled.csv", "strata.csv", "compare.csv",
        "f1_against_iou.svg", "errors.svg",
    }  # fmt: skip
    assert all(file.is_file() for file in files)
    rows = read_csv(tmp_path / "new" / "out" / "evaluation.csv")
    assert [(r["model"], r["image"], float(r["threshold"])) for r in rows[:3]] == [
        ("one", "a", 0.5), ("one", "a", 0.99), ("one", "b", 0.5),
    ]  # fmt: skip
    table = done.table("images")
    assert [int(row["tp"]) for row in rows] == table["tp"].tolist()
    assert [float(row["pq"]) for row in rows] == table["pq"].tolist()
    assert rows[1]["tp"] == "0" and rows[1]["boundary_mean"] == ""
    assert done.to_json()["evaluation"][1]["boundary_mean"] is None
    alone = evaluate_sets(given[:1], given[2], (0.5,))
    names = [file.name for file in write_evaluation(tmp_path / "alone", alone)]
    assert "compare.csv" not in names and len(names) == 5


def test_thresholds_as_people_write_them():
    assert parse_thresholds("0.5, 0.75,0.5") == (0.5, 0.75)
    assert parse_thresholds(None)[0] == 0.5 and len(parse_thresholds(None)) == 10
    with pytest.raises(InputError, match="'half' are no IoU thresholds"):
        parse_thresholds("half")
    assert shown_thresholds([0.1, 0.2, 0.3, 0.4]) == [0.1, 0.2, 0.3]
    assert shown_thresholds([0.3, 0.5, 0.55, 0.6]) == [0.5]


def test_labels_are_read_when_they_are_needed_and_not_before(tmp_path):
    folder = folder_of(tmp_path / "broken", {"a.tif": blobs(1)[0]})
    (folder / "b.png").write_bytes(b"no picture")
    found = open_labels(str(folder), NOWHERE)
    assert [item.name for item in found.items] == ["a", "b"]
    np.testing.assert_array_equal(found.items[0].read().labels, read_labels(folder / "a.tif"))
