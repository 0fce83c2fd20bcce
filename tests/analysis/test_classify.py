"""Classes from gates, clusters, a learned classifier and files, back to the objects."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from opsef_bridge.analysis.classes import class_number, read_classes
from opsef_bridge.errors import InputError
from opsef_bridge.exchange.sources import subject_of, variant_of
from opsef_bridge.images import read_labels
from opsef_bridge.measure import region_table
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.zips import read_rois
from tests.small_projects import discs, swept

FILES = {f"{name}.tif": discs(seed) for seed, name in enumerate("abc")}
IMAGES = ("i00001-a", "i00002-b", "i00003-c")


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("classify") / "project", FILES)


def areas(project, image: str) -> dict[int, int]:
    run, variant = variant_of(project, "v0001")
    table = region_table(read_labels(run.label_file(variant, image)), properties=["area"])
    return dict(zip(table["label"].tolist(), table["area"].tolist(), strict=True))


def classes(project, image: str) -> dict[int, int]:
    subject = subject_of(project, project.image(image))
    return dict(subject.objects.classes) if subject else {}


def test_a_gate_gives_a_class_that_imagej_shows_as_a_group(project, opsef, tmp_path):
    code, out, _ = opsef("classify", "v0001", "--where", "area > 120", "--class", "dividing")
    assert code == 0 and "gate area > 120" in out
    for image in IMAGES:
        large = {label for label, area in areas(project, image).items() if area > 120}
        assert large and classes(project, image) == dict.fromkeys(large, 2)
    head = History(project, IMAGES[0]).head()
    assert head.source.kind == "classes" and head.notes == ["Classes by gate area > 120"]
    opsef("rois", "export", "--to", tmp_path / "out")
    [file] = (tmp_path / "out").rglob(f"{IMAGES[0]}*.zip")
    groups = {int(roi.name): roi.group for roi in read_rois(file)}
    assert {label for label, group in groups.items() if group == 2} == set(
        classes(project, IMAGES[0])
    )


def test_classes_are_added_taken_away_and_saved_once(project, opsef):
    opsef("classify", "v0001", "--where", "area > 120", "--class", "2")
    opsef("classify", "--where", "area <= 120", "--class", "1")
    assert set(classes(project, IMAGES[0])) == set(areas(project, IMAGES[0]))
    code, _, _ = opsef("classify", "--where", "area <= 120", "--class", "1")
    assert code == 0 and History(project, IMAGES[0]).head().id == "r0002"
    opsef("classify", "--where", "class == 1", "--class", "0")
    assert set(classes(project, IMAGES[0]).values()) == {2}


def test_a_dry_run_saves_nothing(project, opsef):
    code, out, _ = opsef("classify", "v0001", "--where", "area > 0", "--class", "1", "--dry-run")
    total = sum(len(areas(project, image)) for image in IMAGES)
    assert code == 0 and f"{total} objects would get a class" in out
    assert not project.annotations_folder.exists() or not any(project.annotations_folder.iterdir())


def test_clusters_are_classes(project, opsef):
    words = ("--cluster", "kmeans", "--clusters", "2", "--feature", "area")
    code, out, _ = opsef("classify", "v0001", *words)
    assert code == 0 and "Silhouette" in out
    sizes = {1: [], 2: []}
    for image in IMAGES:
        of = areas(project, image)
        for label, number in classes(project, image).items():
            sizes[number].append(of[label])
    assert len(sizes[1]) >= len(sizes[2]) > 0
    low, high = sorted(sizes.values(), key=np.mean)
    assert max(low) < min(high)


def test_a_few_classes_teach_the_rest(project, opsef):
    opsef("classify", "v0001", "--where", "label > 0", "--class", "9")  # all images get a revision
    opsef("classify", "--where", "label > 0", "--class", "0")
    opsef("classify", "--where", "area > 115 and label != 9", "--class", "2")
    opsef("classify", "--where", "area < 105 and label < 9", "--class", "1")
    before = {image: classes(project, image) for image in IMAGES}
    code, out, _ = opsef("--json", "classify", "--learn", "--feature", "area")
    told = json.loads(out)
    assert code == 0 and told["objects"] == 0 and told["images"] == []
    assert {image: classes(project, image) for image in IMAGES} == before
    report = pd.read_csv(project.tables_folder / "learned.csv")
    assert report["class"].tolist() == [1, 2] and (report["recall"] > 0.9).all()
    uncertain = pd.read_csv(project.tables_folder / "uncertain.csv")
    assert uncertain["probability"].iloc[0] <= uncertain["probability"].iloc[-1]
    assert not any(row.label in before[row.image] for row in uncertain.itertuples())
    code, _, _ = opsef("classify", "--learn", "--least", "0.9", "--feature", "area")
    after = {image: classes(project, image) for image in IMAGES}
    gained = [
        (areas(project, image)[label], number)
        for image in IMAGES
        for label, number in after[image].items()
        if label not in before[image]
    ]
    assert gained and all((area > 110) == (number == 2) for area, number in gained)
    assert all(after[image].items() >= before[image].items() for image in IMAGES)


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_file_gives_classes(project, opsef, tmp_path, sign):
    file = tmp_path / "classes.csv"
    rows = [["image", "class", "label", "run", "variant", "more"],
            ["i00001-a", "3", "2", "run-0001", "v0001", "x"],
            ["i00002-b", "4.0", "1", "run-0001", "v0001", ""]]  # fmt: skip
    file.write_text("\ufeff" + "\r\n".join(sign.join(row) for row in rows), "utf-8")
    code, _, _ = opsef("classify", "--from", file)
    assert code == 0
    assert classes(project, "i00001-a") == {2: 3} and classes(project, "i00002-b") == {1: 4}


def test_a_file_of_a_spreadsheet_gives_classes(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text(" image\tlabel\tclass\r\n\t\t\r\na\t1\t2\r\nb\t9\tx\r\n", "utf-16")
    with pytest.raises(InputError, match="line 4: class is 'x'"):
        read_classes(file)
    file.write_text(file.read_text("utf-16").replace("x", "0"), "utf-16")
    assert read_classes(file)[["image", "label", "class"]].to_numpy().tolist() == [
        ["a", 1, 2], ["b", 9, 0],
    ]  # fmt: skip


def test_classes_of_an_old_revision_join_what_was_edited_since(project, opsef, tmp_path):
    opsef("classify", "v0001", "--where", "label == 1", "--class", "1")
    opsef("classify", "--where", "label == 2", "--class", "2")
    file = tmp_path / "classes.csv"
    file.write_text("image,label,class,revision\ni00001-a,3,5,r0001\n", "utf-8")
    code, _, _ = opsef("classify", "--from", file)
    assert code == 0 and classes(project, "i00001-a") == {1: 1, 2: 2, 3: 5}


def test_one_bad_image_costs_only_itself(project, opsef, tmp_path):
    file = tmp_path / "classes.csv"
    head = "image,label,class,run,variant\n"
    of = ",run-0001,v0001\n"
    file.write_text(f"{head}i00001-a,999,1{of}i00002-b,1,1{of}i00009-x,1,1{of}", "utf-8")
    code, out, _ = opsef("classify", "--from", file)
    assert code == 1 and "i00001-a has no object 999" in out and "i00009-x" in out
    assert classes(project, "i00002-b") == {1: 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,label\na,1\n", "no column class"),
        ("image,label,class\na,x,1\n", "line 2: label is 'x'"),
        ("image,label,class\na,1,1\na,1,-2\n", "line 3: class is '-2'"),
        ("", "no column image, label, class"),
        ("image,label,class\na,1,7\na,1,7\na,1,8\n", "line 4 gives object 1 of a the class 8"),
        ("image,label,class\na,99999999999999999999,1\n", "line 2: label is '99999"),
    ],
)
def test_files_that_cannot_be_understood_are_refused(tmp_path, text, told):
    file = tmp_path / "classes.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=told):
        read_classes(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_classes(tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing says"),
        (["--where", "area > 1"], "go together"),
        (["--class", "1", "--learn"], "go together"),
        (["--learn", "--cluster", "ward"], "--cluster and --learn"),
        (["--where", "area >", "--class", "1"], "ends where"),
        (["--where", "area > 1", "--class", "256"], "no class"),
        (["--where", "area > 1", "--class", "large"], "resting, dividing"),
        (["--learn"], "0 classes have objects"),
    ],
)
def test_what_cannot_be_classified_is_refused(opsef, words, told):
    code, _, err = opsef("classify", "v0001", *words)
    assert code == 2 and told in err


def test_classes_have_numbers_and_names():
    assert class_number({2: "dividing"}, "dividing") == 2 and class_number({}, "0") == 0
    with pytest.raises(InputError, match="255"):
        class_number({}, "256")


def test_a_file_names_its_objects_itself(opsef, tmp_path):
    file = tmp_path / "classes.csv"
    file.write_text("image,label,class\ni00001-a,1,1\n", "utf-8")
    for words in (["v0001"], ["--image", "i00001-a"]):
        code, _, err = opsef("classify", *words, "--from", file)
        assert code == 2 and "Leave the variant and --image out" in err
    code, _, err = opsef("classify", "--run", "run-0001", "--where", "area > 1", "--class", "1")
    assert code == 2 and "without a variant" in err


def test_a_variant_that_was_edited_since_is_refused_with_the_way_out(project, opsef):
    opsef("classify", "v0001", "--where", "area > 120", "--class", "1")
    code, out, _ = opsef("classify", "v0001", "--where", "area > 100", "--class", "2")
    assert code == 1 and "leave the variant out" in out
    code, _, _ = opsef("classify", "--where", "area > 100", "--class", "2")
    assert code == 0 and set(classes(project, IMAGES[0]).values()) == {2}
