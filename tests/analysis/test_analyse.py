"""The tables of a project: from the command line to the files, on real sweeps and edits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from opsef_bridge.analysis.analyse import Wish, analyse
from opsef_bridge.analysis.classes import save_classes
from opsef_bridge.analysis.gather import gather_tables, joined
from opsef_bridge.errors import ImageError, InputError, NotFoundError
from opsef_bridge.exchange.saving import How, save_objects
from opsef_bridge.exchange.sources import variant_of
from opsef_bridge.images import read_labels
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base, Source
from tests.running import run_opsef
from tests.small_projects import discs, swept

FILES = {f"{name}.tif": discs(seed) for seed, name in enumerate("abcd")}
KEYS = ["image", "label", "run", "variant", "revision", "class"]


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("analyse") / "project", FILES)


def configured(project, more: str) -> None:
    file = project.root / "opsef.yaml"
    file.write_text(file.read_text("utf-8") + f"analyse: {{{more}}}\n", "utf-8")


def edited(project, image: str) -> None:
    """Save a revision of the first variant without its object 1, the next one of class 2."""
    run, variant = variant_of(project, "v0001")
    labels = read_labels(run.label_file(variant, image))
    labels[labels == 1] = 0
    save_objects(
        project, project.image(image), Objects(labels, {2: 2}), How(author="Ada"),
        base=Base(run=run.id, variant=variant), source=Source("x.zip", "0" * 64, "imagej-zip"),
    )  # fmt: skip


def test_a_row_is_an_object_and_says_what_it_is_of(project):
    edited(project, "i00002-b")
    found = gather_tables(project, ["i00002-b"])
    assert list(found.objects)[: len(KEYS)] == KEYS
    assert set(found.objects["revision"]) == {"r0001"} and set(found.objects["run"]) == {"run-0001"}
    assert set(found.objects["variant"]) == {"v0001"}
    assert 1 not in found.objects["label"].tolist()
    assert found.objects.set_index("label")["class"][2] == 2
    of = variant_of(project, "v0002")
    whole = gather_tables(project, variant=of)
    assert whole.objects.groupby("image").size().to_dict() == {
        entry.id: len(np.unique(read_labels(of[0].label_file("v0002", entry.id)))) - 1
        for entry in project.images()
    }
    assert not whole.objects.duplicated(["image", "label"]).any()
    assert set(whole.objects["revision"]) == {""} and not whole.said and not whole.failed


def test_images_without_objects_are_rows_of_the_summary(project):
    run, _ = variant_of(project, "v0001")
    from opsef_bridge.images import write_labels

    file = run.label_file("v0001", "i00001-a")
    write_labels(file, np.zeros_like(read_labels(file)))
    found = gather_tables(project, variant=(run, "v0001"))
    first = found.images.iloc[0]
    assert first["image"] == "i00001-a" and first["objects"] == 0 and first["covered"] == 0
    assert np.isnan(first["area_median"]) and len(found.images) == 4
    assert "i00001-a" not in set(found.objects["image"])
    labels = read_labels(run.label_file("v0001", "i00002-b"))
    second = found.images.iloc[1]
    assert second["covered"] == pytest.approx((labels > 0).mean())
    assert second["density"] == pytest.approx(second["objects"] / labels.size)


def test_of_a_crop_density_and_border_are_those_of_the_crop(tmp_path):
    project = swept(tmp_path / "crop", {"a.tif": discs(1, (120, 150))}, crop="64")
    found = gather_tables(project, variant=variant_of(project, "v0001"))
    [image] = found.images.to_dict("records")
    assert image["density"] == pytest.approx(image["objects"] / 64**2)
    run, variant = variant_of(project, "v0001")
    inside = read_labels(run.label_file(variant, "i00001-a"))
    edge = np.concatenate([inside[[0, -1]].ravel(), inside[:, [0, -1]].ravel()])
    cut = set(np.unique(edge)) - {0}
    touching = found.objects.loc[found.objects["touches_border"], "label"]
    assert cut and set(touching) == cut
    assert "only 64 x 64 px" in found.said[0]
    of_one = found.objects.head(1).assign(**{"class": 1})
    [saved] = save_classes(project, of_one, author="Ada", why="this test")
    assert saved.saved  # the crop is that of the revision too
    [after] = gather_tables(project).images.to_dict("records")
    assert after["density"] == pytest.approx(after["objects"] / 64**2)
    assert after["touching_border"] == len(cut) and after["covered"] == image["covered"]


def test_one_bad_image_costs_only_itself(project):
    (project.root / "data" / "c.tif").write_bytes(b"no image")
    found = gather_tables(project, variant=variant_of(project, "v0001"))
    assert found.failed == ("i00003-c",) and "i00003-c: not measured" in found.said[0]
    assert set(found.images["image"]) == {"i00001-a", "i00002-b", "i00004-d"}
    with pytest.raises(ImageError, match="no image could be measured"):
        gather_tables(project, ["i00003-c"], variant=variant_of(project, "v0001"))


def test_without_objects_the_way_out_is_said(project):
    with pytest.raises(NotFoundError, match="opsef batch"):
        gather_tables(project)


def test_tables_of_images_of_other_kinds_go_together():
    one = pd.DataFrame({"label": [1], "z": [1], "well": ["A1"], "yes": [True]})
    two = pd.DataFrame({"label": [2], "more": [0.5], "yes": [False]})
    found = joined([one, two, two[:0]])
    assert list(found) == ["label", "z", "well", "yes", "more"]
    assert found["well"].tolist() == ["A1", ""] and found["yes"].dtype == bool
    assert found["label"].dtype == np.int64 and np.isnan(found["z"][1]) and len(found) == 2


def test_the_command_writes_tables_that_say_what_they_hold(project, monkeypatch, capfd):
    configured(project, "conditions: conditions.csv, decimal: ','")
    (project.root / "conditions.csv").write_text(
        "image;drug\na;none\nb;none\nc;taxol\nd;taxol\n", "utf-8"
    )
    code, out, _ = run_opsef(monkeypatch, capfd, "-p", project.root, "analyse", "v0001")
    assert code == 0 and "taxol is " in out and "2 and 2 images" in out
    tables = project.tables_folder
    text = (tables / "objects.csv").read_text("utf-8").splitlines()
    assert text[0].startswith("image;label;run;variant;revision;class;")
    objects = pd.read_csv(tables / "objects.csv", sep=";", decimal=",")
    parquet = pd.read_parquet(tables / "objects.parquet")
    assert list(objects) == list(parquet) and len(objects) == len(parquet) > 20
    np.testing.assert_allclose(objects["solidity"], parquet["solidity"])
    assert set(parquet.groupby("image")["drug"].first()) == {"none", "taxol"}
    import pyarrow.parquet as pq

    metadata = pq.read_schema(tables / "objects.parquet").field("perimeter").metadata
    assert metadata[b"unit"] == b"pixel" and b"scikit-image" in metadata[b"meaning"]
    said = (tables / "columns.md").read_text("utf-8")
    for name in ("objects", "images", "conditions", "comparison"):
        table = pd.read_csv(tables / f"{name}.csv", sep=";", decimal=",")
        part = said.partition(f"## {name}.csv")[2]
        assert all(f"\n| {column} | " in part for column in table), name
    summary = pd.read_csv(tables / "conditions.csv", sep=";", decimal=",")
    of_area = summary[summary["column"] == "area"].set_index("condition")
    means = parquet.groupby(["drug", "image"])["area"].mean().groupby("drug").mean()
    np.testing.assert_allclose(of_area["mean"], means)
    plots = {file.name for file in (project.root / "plots").iterdir()}
    assert {"histogram_area.png", "box_area_by_drug.png", "pca.png"} <= plots


def test_the_command_for_machines_and_its_wishes(project, monkeypatch, capfd):
    words = ["--json", "analyse", "v0001", "--image", "i00001-a", "--image", "i00002-b",
             "--embed", "tsne", "--cluster", "ward", "--clusters", "2", "--plots", "svg",
             "--feature", "area", "--feature", "solidity", "--column", "area", "--by", "image",
             "--violin", "--no-page"]  # fmt: skip
    code, out, _ = run_opsef(monkeypatch, capfd, "-p", project.root, *words)
    told = json.loads(out)
    assert code == 0 and told["images"] == 2 and told["failed"] == []
    objects = pd.read_parquet(project.tables_folder / "objects.parquet")
    assert len(objects) == told["objects"] and set(objects["cluster"]) == {1, 2}
    assert objects[["tsne_1", "tsne_2"]].notna().all(axis=None)
    assert (project.root / "plots" / "violin_area_by_image.svg").is_file()
    assert not (project.root / "plots" / "objects.html").exists()
    drawn = (project.root / "plots" / "tsne.svg").read_text("utf-8")
    assert ">cluster</text>" in drawn and "<!-- Date" not in drawn


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--by", "drug"], "no column 'drug'"),
        (["--column", "image"], "no numbers"),
        (["--clusters", "2", "--cluster", "hdbscan"], "HDBSCAN finds"),
        (["--revision", "r0001"], "Name one of them"),
        (["--image", "i00009-x"], "i00009-x"),
    ],
)
def test_wishes_that_cannot_be_are_refused(project, monkeypatch, capfd, words, told):
    code, _, err = run_opsef(monkeypatch, capfd, "-p", project.root, "analyse", "v0001", *words)
    assert code == 2 and told in err


def test_a_run_without_its_variant_is_refused(project, monkeypatch, capfd):
    code, _, err = run_opsef(monkeypatch, capfd, "-p", project.root, "analyse", "--run", "run-0001")
    assert code == 2 and "without a variant" in err


@pytest.mark.parametrize("name", ["group", "class", "area", "class_name", "cluster"])
def test_a_condition_may_have_any_name(project, name):
    rows = "".join(f"{image},{kind}\n" for image, kind in zip("abcd", "ccdd", strict=True))
    (project.root / "conditions.csv").write_text(f"image,{name}\n{rows}", "utf-8")
    configured(project, "conditions: conditions.csv")
    wish = Wish(plots=None, page=False, cluster="ward", count=2)
    done = analyse(project, wish, variant=variant_of(project, "v0001"))
    assert set(done.objects[f"condition_{name}"]) == {"c", "d"}
    assert set(done.compared["condition"]) == {"d"} and set(done.compared["units"]) == {2}
    assert done.objects["cluster"].dtype == np.int64


def test_a_dose_is_a_number_in_tables_gates_and_comparisons(project, monkeypatch, capfd):
    configured(project, "conditions: conditions.csv")
    (project.root / "conditions.csv").write_text("image,dose\na,0\nb,10\nc,2\nd,10\n", "utf-8")
    words = ("-p", project.root)
    code, out, _ = run_opsef(monkeypatch, capfd, *words, "analyse", "v0001", "--no-page")
    assert code == 0 and "area: 2 is " in out and "area: 10 is " in out and " from 0" in out
    objects = pd.read_parquet(project.tables_folder / "objects.parquet")
    assert objects["dose"].dtype == np.int64
    found = pd.read_csv(project.tables_folder / "comparison.csv")
    assert found.loc[found["column"] == "area", "condition"].tolist() == [2, 10]
    gate = ("classify", "v0001", "--where", "dose > 2", "--class", "1", "--dry-run")
    code, out, _ = run_opsef(monkeypatch, capfd, *words, *gate)
    assert code == 0 and f"{(objects['dose'] > 2).sum()} of {len(objects)} objects" in out
    learn = ("classify", "v0001", "--cluster", "ward", "--clusters", "2")
    code, out, _ = run_opsef(monkeypatch, capfd, *words, "--json", *learn)
    images = json.loads(out)["images"]
    assert code == 0 and len(images) == 4
    notes = (project.revisions_folder(images[0]["image"]) / "r0001.json").read_text("utf-8")
    assert "area" in notes and "dose" not in notes
    code, _, _ = run_opsef(monkeypatch, capfd, *words, "classify", "--learn")
    importance = pd.read_csv(project.tables_folder / "importance.csv")
    assert code == 0 and "area" in set(importance["feature"])
    assert "dose" not in set(importance["feature"])


def test_what_has_other_units_is_not_compared_and_it_is_said(project):
    sized = {"pixel_size_x": 0.5, "pixel_size_y": 0.5, "unit": "um"}
    entries = [replace(e, **sized) if n < 2 else e for n, e in enumerate(project.images())]
    project.write_images(replace(e, group="ab"[n // 2]) for n, e in enumerate(entries))
    wish = Wish(plots=None, page=False, by="group", columns=["area", "solidity"])
    done = analyse(project, wish, variant=variant_of(project, "v0001"))
    assert set(done.compared["column"]) == {"solidity"}
    assert any("Not compared, since images are in pixel and in um: area" in s for s in done.said)


def test_the_tables_are_written_before_what_cannot_be_compared(project):
    for wish in (Wish(by="nonsense"), Wish(by="area", columns=["area"]), Wish(reference="zzz")):
        shutil.rmtree(project.tables_folder, ignore_errors=True)
        project.write_images(replace(e, group="ab"[n // 2]) for n, e in enumerate(project.images()))
        with pytest.raises(InputError):
            analyse(project, wish, variant=variant_of(project, "v0001"))
        assert (project.tables_folder / "objects.csv").is_file()


def test_a_plate_is_drawn_where_wells_are_known(project):
    wells = ["A01", "A02", "B01", "B02"]
    project.write_images(
        replace(entry, more={"plate": "P1", "well": well})
        for entry, well in zip(project.images(), wells, strict=True)
    )
    done = analyse(project, Wish(columns=["area"]), variant=variant_of(project, "v0001"))
    names = {file.name for file in done.files}
    assert {"plate_P1_objects.png", "plate_P1_area_median.png"} <= names
    found = pd.read_csv(project.tables_folder / "wells.csv")
    assert found["well"].tolist() == wells and set(found["images"]) == {1}
    assert found["objects"].sum() == len(done.objects)
    np.testing.assert_allclose(found["area_median"], done.images["area_median"])


def test_too_few_objects_for_an_embedding_cost_only_that(project):
    run, _ = variant_of(project, "v0001")
    from opsef_bridge.images import write_labels

    for entry in project.images():
        file = run.label_file("v0001", entry.id)
        labels = read_labels(file)
        write_labels(file, np.where(labels == 1, labels, 0) * (entry.id == "i00001-a"))
    done = analyse(project, variant=(run, "v0001"))
    assert len(done.objects) == 1 and any("No embedding" in line for line in done.said)
    shutil.rmtree(project.tables_folder)
    with pytest.raises(InputError, match="too few"):
        analyse(project, Wish(embed=["umap"]), variant=(run, "v0001"))
    assert (project.tables_folder / "objects.csv").is_file()
