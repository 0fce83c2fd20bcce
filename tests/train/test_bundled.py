"""Rehearsal: bundled images beside what a person corrected, never twice, never on two sides."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.errors import InputError
from opsef_bridge.files import file_sha256
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.images.bundled import example_data
from opsef_bridge.project import Project
from opsef_bridge.rois.truth import Whole, add_truth
from opsef_bridge.sweep.importing import import_images
from opsef_bridge.train.data import Sample
from opsef_bridge.train.dataset import open_dataset, read_dataset, verify_dataset
from opsef_bridge.train.dataset_bundled import (
    as_one_kind,
    balanced,
    drawn_from,
    find_bundled,
    is_bundled,
    rehearsed_groups,
    split_apart,
)
from opsef_bridge.train.dataset_make import Made, Wish, make_dataset
from opsef_bridge.train.dataset_sources import Found, collect
from opsef_bridge.train.dataset_split import Shares
from tests.running import run_opsef
from tests.train.corrected_project import make_corrected
from tests.train.labelled_project import CONFIG, save

SMALL = ("small_8b77284d6f37", "small_9d429167633b", "small_fadeb0ab0928")


def rows() -> list[dict[str, str]]:
    with (example_data() / "origin.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def made_of(project: Project, *groups: str, wish: Wish | None = None) -> Made:
    found = collect(project)
    return make_dataset(project, [*found, *find_bundled(project, groups, found)], wish)


def sides(made: Made, *, bundled: bool) -> dict[str, str]:
    return {
        one["image"]: one["split"]
        for one in made.card["samples"]
        if (one["source"] == "bundled") == bundled
    }


@pytest.fixture
def copies(tmp_path: Path) -> Project:
    """A project of the three bundled images ``small``, the first vouched for, with other labels."""
    (tmp_path / "p" / "data").mkdir(parents=True)
    for name in SMALL:
        shutil.copy(example_data() / "images" / f"{name}.png", tmp_path / "p" / "data")
    (tmp_path / "p" / "opsef.yaml").write_text(CONFIG.replace("*.tif", "*.png"))
    project = Project(tmp_path / "p")
    import_images(project, project.config)
    first = project.images()[0].id
    add_truth(project, first, save(project, first, labels_of_mine()), Whole(), author="ada")
    return project


def labels_of_mine() -> np.ndarray:
    """The bundled labels, but for one object that this person did not want."""
    labels = read_labels(example_data() / "labels" / f"{SMALL[0]}.tif")
    return np.where(labels == labels.max(), 0, labels)


class TestGroups:
    def test_words_and_names(self):
        everything = {row["group"] for row in rows()}
        assert set(rehearsed_groups("all")) == everything
        grey = {row["group"] for row in rows() if row["kind"] == "fluo"}
        assert set(rehearsed_groups("fluorescence")) == grey < everything

    @pytest.mark.parametrize("text", ["", ",", "larg", "small,../tissue", "fluorescence,small"])
    def test_others_are_named_with_the_choices(self, text):
        with pytest.raises(InputError, match="no group") as error:
            rehearsed_groups(text)
        assert "small, large, u2os, tissue" in error.value.hint
        assert "fluorescence" in error.value.hint


class TestDataset:
    def test_they_are_samples_as_all_others(self, tmp_path):
        made = made_of(make_corrected(tmp_path / "p", 4, 4), "small", "u2os")
        theirs = {one["image"]: one for one in made.card["samples"] if one["source"] == "bundled"}
        wanted = {f"bundled/{r['image']}": r for r in rows() if r["group"] in ("small", "u2os")}
        assert theirs.keys() == wanted.keys()
        for image, row in wanted.items():
            one = theirs[image]
            assert one["kind"] == f"bundled-{row['group']}" and one["licence"] == "CC0-1.0"
            assert one["origin"] == row["origin"] and one["objects"] == int(row["instances"])
            assert one["group"] == f"image:{one['name']}"
            for name, sha256 in one["files"].items():
                assert file_sha256(made.folder / name) == sha256
            labels = read_labels(example_data() / "labels" / f"{Path(row['image']).stem}.tif")
            np.testing.assert_array_equal(
                read_labels(made.folder / "labels" / f"{one['name']}.tif"), labels
            )
        assert verify_dataset(made.folder) == []
        assert {one["kind"] for one in made.card["samples"]} == {
            "default", "bundled-small", "bundled-u2os",
        }  # fmt: skip

    def test_colour_stays_colour(self, tmp_path):
        made = made_of(make_corrected(tmp_path / "p", 3, 3), "tissue", wish=Wish(seed=1))
        one = next(
            o for o in made.card["samples"] if o["image"].endswith("tissue_0d3640c1f1b8.png")
        )
        assert one["colour"]
        samples = open_dataset(made.folder, "all", colour=True)
        [sample] = [s for s in samples if s.name == one["name"]]
        assert sample.image.shape == (256, 320, 3) and np.ptp(sample.image, axis=-1).max() > 0

    @pytest.mark.parametrize("seed", range(2))
    def test_the_own_images_stand_where_they_would_stand_alone(self, tmp_path, seed):
        project = make_corrected(tmp_path / "p", 6, 6)
        wish = Wish(seed=seed, shares=Shares(0.25, 0.25))
        alone = make_dataset(project, collect(project), wish)
        both = made_of(project, "small", "u2os", wish=wish)
        assert sides(both, bundled=False) == sides(alone, bundled=False)
        assert set(sides(both, bundled=True).values()) == {"train", "val", "test"}
        assert not any("No image of yours" in text for text in both.remarks)

    def test_columns_to_split_by_do_not_concern_them(self, tmp_path):
        project = make_corrected(tmp_path / "p", 4, 4)
        project.write_images(
            replace(entry, more={"well": f"A{n}", "cell": "x"})
            for n, entry in enumerate(project.images())
        )
        made = made_of(project, "small", wish=Wish(by="well", kind_by="cell"))
        groups = {one["group"] for one in made.card["samples"]}
        assert len(groups) == 7
        assert {one["kind"] for one in made.card["samples"]} == {"x", "bundled-small"}

    def test_nothing_but_bundled_images_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="nobody has vouched"):
            made_of(make_corrected(tmp_path / "p", 3, 0), "small", "large")

    def test_one_corrected_image_is_learned_from_and_that_is_said(self, tmp_path):
        made = made_of(make_corrected(tmp_path / "p", 3, 1), "small")
        assert list(sides(made, bundled=False).values()) == ["train"]
        assert sorted(sides(made, bundled=True).values()) == ["test", "train", "val"]
        said = " ".join(made.remarks)
        assert "No image of yours is in val" in said and "No image of yours is in test" in said

    def test_a_kept_test_set_stays_as_it_is(self, tmp_path):
        project = make_corrected(tmp_path / "p", 6, 6)
        first = made_of(project, "small", "u2os")
        tests = {one["name"] for one in first.card["samples"] if one["split"] == "test"}
        wish = Wish(seed=3, test_from=first.folder)
        second = made_of(project, "small", "u2os", "large", wish=wish)
        assert {o["name"] for o in second.card["samples"] if o["split"] == "test"} == tests
        assert len(second.card["samples"]) == 6 + 9


class TestTheSameImage:
    def test_the_version_of_the_person_wins(self, copies):
        said: list[str] = []
        found = collect(copies)
        bundled = find_bundled(copies, ["small", "u2os"], found, said.append)
        made = make_dataset(copies, [*found, *bundled], Wish(shares=Shares(0.3, 0.3)))
        first = copies.images()[0].id
        assert f"{SMALL[0]}.png of the bundled images is left out: it is {first}" in said[0]
        pixels = [one["pixels_sha256"] for one in made.card["samples"]]
        assert len(pixels) == len(set(pixels)) == 5
        [mine] = [s for s in read_dataset(made.folder, "all") if s.name == first]
        np.testing.assert_array_equal(mine.labels, labels_of_mine())

    def test_another_file_of_the_same_pixels(self, tmp_path):
        """Equal pixels in a file of another dtype and format; the file's sha256 says nothing."""
        from tests.train.labelled_project import project_of

        pixels = read_image(example_data() / "images" / f"{SMALL[1]}.png").data
        project = project_of(tmp_path / "p", {"mine.tif": pixels.astype(np.uint16)})
        image = project.images()[0].id
        labels = labels_of_mine()
        add_truth(project, image, save(project, image, labels), Whole(), author="ada")
        made = made_of(project, "small", "u2os")
        assert f"bundled/{SMALL[1]}.png" not in sides(made, bundled=True)
        assert f"{SMALL[1]}.png of the bundled images is left out: it is {image}" in made.remarks[0]

    def test_a_crop_of_it_is_the_same_field(self, copies):
        first, second, third = copies.images()
        copies.write_images([first, replace(second, crop="y=0:100"), third])
        crop = read_labels(example_data() / "labels" / f"{SMALL[1]}.tif")[:100]
        add_truth(copies, second.id, save(copies, second.id, crop), Whole(), author="ada")
        made = made_of(copies, "small", "u2os", wish=Wish(shares=Shares(0.3, 0.3)))
        shapes = {one["image"]: one["shape"] for one in made.card["samples"]}
        assert shapes[second.id] == [100, 256]
        assert {image for image in shapes if "small" in image and "bundled" in image} == {
            f"bundled/{SMALL[2]}.png"
        }

    def test_images_that_nobody_vouched_for_do_not_count(self, copies):
        made = made_of(copies, "small", "u2os", wish=Wish(shares=Shares(0.3, 0.3)))
        assert {f"bundled/{name}.png" for name in SMALL[1:]} <= set(sides(made, bundled=True))

    def test_the_image_of_a_kept_test_set_is_not_learned_from(self, copies):
        """As tests/train/test_dataset.py has it for images of the project."""
        for entry in copies.images()[1:]:
            stem = Path(entry.source).stem
            labels = read_labels(example_data() / "labels" / f"{stem}.tif")
            add_truth(copies, entry.id, save(copies, entry.id, labels), Whole(), author="ada")
        first = make_dataset(copies, collect(copies), Wish(shares=Shares(0.3, 0.3)))
        [test] = [one for one in first.card["samples"] if one["split"] == "test"]
        rest = [entry.id for entry in copies.images() if entry.id != test["image"]]
        found = collect(copies, images=rest)
        both: list[Found] = [*found, *find_bundled(copies, ["small", "u2os"], found)]
        made = make_dataset(copies, both, Wish(test_from=first.folder))
        assert [o["image"] for o in made.card["samples"] if o["split"] == "test"] == [test["image"]]
        assert sides(made, bundled=True).keys() == {
            "bundled/u2os_F12_s9.tif", "bundled/u2os_I23_s5.tif",
        }  # fmt: skip


class TestCommand:
    @pytest.mark.parametrize(
        "words, kinds",
        [
            (("--rehearse",), {"small", "large", "u2os"}),
            (("--rehearse", "--seed", 1), {"small", "large", "u2os"}),
            (("--rehearse", "small, tissue"), {"small", "tissue"}),
            (("--rehearse=all",), {"small", "large", "u2os", "tissue"}),
            (("--seed", 1), set()),
        ],
    )
    def test_it_may_stand_alone_or_with_groups(self, tmp_path, monkeypatch, capfd, words, kinds):
        project = make_corrected(tmp_path / "p", 3, 3)
        code, out, err = run_opsef(
            monkeypatch, capfd, "-p", project.root, "train", "dataset", *words, "--json"
        )
        assert code == 0, err
        found = {one["kind"] for one in json.loads(out)["samples"]}
        assert found == {"default"} | {f"bundled-{kind}" for kind in kinds}

    def test_one_of_them_is_left_out_by_its_file(self, tmp_path, monkeypatch, capfd):
        project = make_corrected(tmp_path / "p", 3, 3)
        code, out, err = run_opsef(
            monkeypatch, capfd, "-p", project.root, "train", "dataset",
            "--rehearse", "u2os", "--without", "u2os_F12_s9.tif", "--json",
        )  # fmt: skip
        assert code == 0, err
        theirs = {one["image"] for one in json.loads(out)["samples"] if is_bundled(one)}
        assert theirs == {"bundled/u2os_I23_s5.tif"}

    def test_what_is_no_group_is_refused(self, tmp_path, monkeypatch, capfd):
        project = make_corrected(tmp_path / "p", 3, 3)
        words = ("-p", project.root, "train", "dataset", "--rehearse", "cells")
        code, _, err = run_opsef(monkeypatch, capfd, *words)
        assert code == 2 and "'cells'" in err and "small, large, u2os, tissue" in err
        assert project.datasets() == []


@given(st.integers(1, 40), st.integers(0, 40))
def test_draws_are_at_least_a_third_of_what_was_corrected(own, bundled):
    mine, theirs = [object() for _ in range(own)], [object() for _ in range(bundled)]
    drawn = balanced(mine, theirs)
    assert {id(one) for one in drawn} == {id(one) for one in (*mine, *theirs)}
    times = {sum(one is other for other in drawn) for one in mine}
    assert len(times) == 1 and all(sum(o is t for o in drawn) == 1 for t in theirs)
    if 2 * own >= bundled:
        assert drawn == [*mine, *theirs]
    else:
        assert 1 / 3 <= times.pop() * own / len(drawn) <= 1 / 2


def sample(name: str, kind: str) -> Sample:
    return Sample(name, np.zeros((8, 8), np.float32), np.ones((8, 8), np.int32), name, kind)


def test_samples_are_repeated_only_where_bundled_ones_are():
    samples = [sample("mine", "a"), sample("s1", "bundled-small"), sample("s2", "bundled-u2os")]
    entries = [{"name": s.name, "source": "truth" if s.kind == "a" else "bundled"} for s in samples]
    drawn = drawn_from(samples, {"samples": entries})
    assert [one.name for one in drawn] == ["mine", "s1", "s2"]
    assert drawn[0] is samples[0]
    assert drawn_from(samples, {"samples": [{"name": "mine", "source": "truth"}]}) is samples
    assert [s.kind for s in as_one_kind(samples, {"samples": entries})] == [
        "a",
        "bundled",
        "bundled",
    ]


@given(
    st.integers(0, 6), st.integers(0, 6), st.integers(0, 99),
    st.sampled_from([Shares(), Shares(0.2, 0), Shares(0, 0.2), Shares(0, 0)]),
)  # fmt: skip
def test_every_split_has_something_or_it_is_said(own, bundled, seed, shares):
    entries = [
        {"name": f"{source}{n}", "tokens": [f"{source}{n}"], "kind": source, "objects": 1 + n,
         "source": source}
        for source, count in (("truth", own), ("bundled", bundled)) for n in range(count)
    ]  # fmt: skip
    wanted = set(shares.parts)
    try:
        split, group = split_apart(entries, shares, seed)
    except InputError:
        # Each part alone is too small.
        assert own < len(wanted) and bundled < len(wanted)
        return
    assert set(split.values()) == wanted
    assert split.keys() == group.keys() == {one["name"] for one in entries}
    mine = [side for name, side in split.items() if name.startswith("truth")]
    assert not mine or "train" in mine
