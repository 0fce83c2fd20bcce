"""Learned classes are no person's: learning again learns from the same objects."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from opsef_bridge.analysis.classes import learned_labels
from opsef_bridge.errors import NotFoundError
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.zips import read_rois, write_rois
from tests.analysis.test_classify import IMAGES, areas, classes
from tests.small_projects import discs, swept

FILES = {f"{name}.tif": discs(seed) for seed, name in enumerate("abc")}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("learning") / "project", FILES)


def taught_in_fiji(project, opsef, folder) -> None:
    """Give some objects groups in their ROIs, as a person does in Fiji, and import them."""
    opsef("classify", "v0001", "--where", "label == 1", "--class", "9")
    opsef("classify", "--where", "label == 1", "--class", "0")
    opsef("rois", "export", "--to", folder)
    for file in sorted(folder.rglob("i0*.zip")):
        rois = read_rois(file)
        of = areas(project, next(image for image in IMAGES if file.name.startswith(image)))
        for roi in rois:
            area = of[int(roi.name)]
            if int(roi.name) < 9:
                roi.group = 2 if area > 115 else 1 if area < 105 else 0
        write_rois(file, rois)
    code, out, err = opsef("rois", "import", folder, "--author", "Ada")
    assert code == 0, out + err


def learned(project, opsef, *words: object) -> tuple[str, dict[str, int]]:
    code, out, err = opsef("--json", "classify", "--learn", "--feature", "area", *words)
    assert code == 0, out + err
    report = (project.tables_folder / "learned.csv").read_text("utf-8")
    objects = {
        f"{row['class']:g}": row["objects"]
        for row in pd.read_csv(project.tables_folder / "learned.csv").to_dict("records")
    }
    return report, objects


def test_what_was_learned_teaches_nothing_when_learning_again(project, opsef, tmp_path):
    taught_in_fiji(project, opsef, tmp_path / "out")
    by_ada = {image: classes(project, image) for image in IMAGES}
    first, counts = learned(project, opsef, "--least", "0.6")
    after = {image: classes(project, image) for image in IMAGES}
    heads = [History(project, image).head() for image in IMAGES]
    assert {one.source.kind for one in heads} == {"learned"}
    assert {label for one in IMAGES for label in set(after[one]) - set(by_ada[one])}
    again, _ = learned(project, opsef, "--least", "0.6")
    assert again == first and {image: classes(project, image) for image in IMAGES} == after

    image = IMAGES[0]
    label = min(set(after[image]) - set(by_ada[image]))
    other = 3 - after[image][label]
    file = tmp_path / "hand.csv"
    file.write_text(f"image,label,class\n{image},{label},{other}\n", "utf-8")
    assert opsef("classify", "--from", file)[0] == 0
    corrected = dict(counts)
    corrected[str(other)] += 1
    assert learned(project, opsef)[1] == corrected  # what a person changed is the person's


def test_which_classes_were_learned(project, opsef, tmp_path):
    taught_in_fiji(project, opsef, tmp_path / "out")
    image = IMAGES[0]
    by_ada = set(classes(project, image))
    learned(project, opsef, "--least", "0.6")
    head = History(project, image).head().id
    gained = set(classes(project, image)) - by_ada
    assert gained and learned_labels(project, image, head) == gained
    assert learned_labels(project, image, "r0001") == frozenset()

    file = project.revisions_folder(image) / f"{head}.json"
    record = json.loads(file.read_text("utf-8"))
    record["source"]["kind"] = "classes"  # as records were before
    file.write_text(json.dumps(record), "utf-8")
    assert learned_labels(project, image, head) == gained

    one = min(gained)
    opsef("classify", "--image", image, "--where", f"label == {one}", "--class", "9")
    assert learned_labels(project, image, History(project, image).head().id) == gained - {one}
    opsef("classify", "--image", image, "--where", "label > 0", "--class", "0")
    assert learned_labels(project, image, History(project, image).head().id) == frozenset()
    assert opsef("rois", "restore", image, head)[0] == 0
    assert learned_labels(project, image, History(project, image).head().id) == gained
    with pytest.raises(NotFoundError, match="r0099"):
        learned_labels(project, image, "r0099")
