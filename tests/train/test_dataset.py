"""Datasets: only what somebody vouched for, no test image leaks, nothing damaged is read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from opsef_bridge.engines.unet import prepare
from opsef_bridge.errors import InputError, NotFoundError, ProjectError
from opsef_bridge.images import to_grey, write_labels
from opsef_bridge.project import Project
from opsef_bridge.rois.answers import Answer, add_answer
from opsef_bridge.rois.truth import Box, Touched, Whole, add_truth
from opsef_bridge.train.colour import prepare_colour
from opsef_bridge.train.data import UNKNOWN
from opsef_bridge.train.dataset import (
    content_key,
    list_datasets,
    open_dataset,
    read_card,
    read_dataset,
    verify_dataset,
)
from opsef_bridge.train.dataset_make import Wish, left_over, make_dataset
from opsef_bridge.train.dataset_sources import LabelFolder, collect, label_folders
from opsef_bridge.train.dataset_split import Shares
from tests.train.labelled_project import label_folder, project_of, save, squares

ALL = Wish(shares=Shares(0, 0))
HALF = Wish(shares=Shares(0.25, 0.25))


@pytest.fixture
def project(tmp_path) -> Project:
    """Eight images of four wells, nothing vouched for."""
    made = project_of(tmp_path / "p", {f"s{n}.tif": squares(n)[0] for n in range(8)})
    wells = ("A01", "A02", "B01", "B02")
    made.write_images(
        replace(entry, more={"well": wells[n // 2]}, group="ab"[n // 4])
        for n, entry in enumerate(made.images())
    )
    return made


def ids(project: Project) -> list[str]:
    return [entry.id for entry in project.images()]


def vouch(project: Project, *numbers: int, scope=None) -> None:
    for n in numbers:
        image = ids(project)[n]
        add_truth(project, image, save(project, image, squares(n)[1]), scope or Whole(),
                  author="ada")  # fmt: skip


def sides(card) -> dict[str, str]:
    return {one["image"]: one["split"] for one in card["samples"]}


class TestSparse:
    def labels_of(self, project, scope) -> np.ndarray:
        vouch(project, 0, scope=scope)
        made = make_dataset(project, collect(project), ALL)
        (sample,) = read_dataset(made.folder, "train")
        return sample.labels

    def test_a_whole_image_is_known_throughout(self, project):
        np.testing.assert_array_equal(self.labels_of(project, Whole()), squares(0)[1])

    def test_of_a_box_objects_are_whole_and_outside_nothing_is_known(self, project):
        found = self.labels_of(project, Box(0, 0, 10, 6))  # cuts the first square
        truth = squares(0)[1]
        wanted = np.full_like(truth, UNKNOWN)
        wanted[:10, :6] = truth[:10, :6]
        wanted[truth == 1] = 1
        np.testing.assert_array_equal(found, wanted)

    def test_around_single_objects_nothing_is_background(self, project):
        first, labels = ids(project)[0], squares(0)[1]
        save(project, first, labels)
        moved = np.where(labels == 2, 0, labels)
        moved[20:24, 40:46] = 99
        add_truth(project, first, save(project, first, moved), Touched(), author="ada")
        made = make_dataset(project, collect(project), ALL)
        (sample,) = read_dataset(made.folder, "train")
        known = sample.labels != UNKNOWN
        assert set(np.unique(sample.labels)) == {UNKNOWN, sample.labels.max()}
        np.testing.assert_array_equal(known, moved == 99)
        assert "Nowhere is background" in " ".join(made.remarks)

    def test_answers_count_too(self, project):
        first = ids(project)[0]
        where = np.flatnonzero(squares(0)[1] == 3)
        empty = np.arange(5)
        for what, pixels in (("right", where), ("nothing", empty)):
            answer = Answer(what, "run-0001", "v0001", int(pixels[0]), "bob", pixels)
            add_answer(project, first, answer, (40, 48))
        made = make_dataset(project, collect(project), ALL)
        (sample,) = read_dataset(made.folder, "train")
        assert np.flatnonzero(sample.labels > 0).tolist() == where.tolist()
        assert np.flatnonzero(sample.labels == 0).tolist() == empty.tolist()
        assert made.card["samples"][0]["author"] == "bob"

    def test_an_image_without_objects_is_kept(self, project):
        first = ids(project)[0]
        revision = save(project, first, np.zeros((40, 48), np.int32))
        add_truth(project, first, revision, Whole(), author="ada")
        vouch(project, 1)
        made = make_dataset(project, collect(project), ALL)
        samples = read_dataset(made.folder, "train")
        assert [len(np.unique(s.labels)) for s in samples] == [1, 13]


def test_what_is_read_is_normalised_and_labelled_as_the_project_has_it(project):
    vouch(project, *range(8))
    made = make_dataset(project, collect(project), HALF)
    assert made.new and made.folder == project.datasets_folder / "d0001"
    samples = read_dataset(made.folder, "all")
    assert [s.name for s in samples] == ids(project)
    for n, sample in enumerate(samples):
        image, labels = squares(n)
        np.testing.assert_array_equal(sample.image, prepare(image))
        np.testing.assert_array_equal(sample.labels, labels)
        assert (sample.image.dtype, sample.labels.dtype) == (np.float32, np.int32)
        assert sample.kind == "ab"[n // 4]
    card = read_card(made.folder)
    assert {one["objects"] for one in card["samples"]} == {12}
    assert sum(row["images"] for row in card["counts"]) == 8
    assert verify_dataset(made.folder) == []


def test_samples_are_read_one_by_one(project):
    vouch(project, *range(4))
    made = make_dataset(project, collect(project), ALL)
    opened = open_dataset(made.folder, "train")
    (made.folder / "images" / f"{ids(project)[3]}.tif").unlink()
    assert len(opened) == 4 and opened[1].name == ids(project)[1]
    assert [one.name for one in opened[:2]] == ids(project)[:2]
    with pytest.raises(ProjectError, match="is gone"):
        opened[3]


def test_the_same_content_is_the_same_dataset(project):
    vouch(project, *range(4))
    first = make_dataset(project, collect(project), HALF)
    again = make_dataset(project, collect(project), replace(HALF, author="bob", command="x"))
    assert (again.new, again.folder) == (False, first.folder)
    vouch(project, 4)
    other = make_dataset(project, collect(project), HALF)
    assert (other.new, other.card["id"]) == (True, "d0002")
    seeds = {make_dataset(project, collect(project), replace(HALF, seed=n)).card["key"]
             for n in range(6)}  # fmt: skip
    assert len(seeds) > 1


class TestSplit:
    @pytest.mark.parametrize("by, groups", [("well", 4), ("group", 2), ("group,well", 4)])
    def test_a_column_is_never_on_two_sides(self, project, by, groups):
        vouch(project, *range(8))
        wish = Wish(by=by, shares=Shares(0, 0.4))
        card = make_dataset(project, collect(project), wish).card
        rows = {entry.id: {**entry.more, "group": entry.group} for entry in project.images()}
        where = {}
        for image, side in sides(card).items():
            value = tuple(rows[image][name] for name in by.split(","))
            where.setdefault(value, set()).add(side)
        assert len(where) == groups and all(len(side) == 1 for side in where.values())
        assert set(sides(card).values()) == {"train", "test"}

    def test_tiles_of_a_parent_and_equal_pixels_stay_together(self, project):
        entries = project.images()
        project.write_images(
            replace(entry, parent="slide" if n in (0, 5) else "") for n, entry in enumerate(entries)
        )
        shutil.copyfile(project.source_file(entries[1]), project.source_file(entries[7]))
        vouch(project, *range(8))
        for seed in range(4):
            wish = replace(HALF, seed=seed)
            side = sides(make_dataset(project, collect(project), wish).card)
            names = ids(project)
            assert side[names[0]] == side[names[5]] and side[names[1]] == side[names[7]]

    def test_one_group_says_how_many_are_needed(self, project):
        vouch(project, 0, 1)
        with pytest.raises(InputError, match="3 groups are needed"):
            make_dataset(project, collect(project), Wish(by="well"))
        assert project.datasets() == []

    @pytest.mark.parametrize("wish", [Wish(by="donor"), Wish(kind_by="donor")])
    def test_a_column_that_is_not_there_is_named(self, project, wish):
        vouch(project, *range(4))
        with pytest.raises(InputError, match=r"no column 'donor'.*well"):
            make_dataset(project, collect(project), wish)

    def test_an_empty_cell_is_an_error(self, project):
        vouch(project, *range(4))
        first, *rest = project.images()
        project.write_images([replace(first, more={"well": ""}), *rest])
        with pytest.raises(InputError, match=r"'well'.*is empty"):
            make_dataset(project, collect(project), Wish(by="well"))

    def test_conditions_are_columns_too(self, project, tmp_path):
        vouch(project, *range(4))
        file = tmp_path / "donors.csv"
        file.write_text("well,donor\nA1,x\nA02,y\n")
        found = collect(project, conditions=file)
        wish = Wish(by="donor", kind_by="donor", shares=Shares(0, 0.5))
        card = make_dataset(project, found, wish).card
        assert {(one["kind"], one["group"]) for one in card["samples"]} == {
            ("x", "donor:x"),
            ("y", "donor:y"),
        }


class TestTestFrom:
    def test_more_corrections_are_judged_on_the_same_test_set(self, project):
        vouch(project, *range(5))
        first = make_dataset(project, collect(project), HALF)
        tests = {image for image, side in sides(first.card).items() if side == "test"}
        vouch(project, 5, 6, 7)
        wish = replace(HALF, test_from=first.folder, seed=5)
        second = make_dataset(project, collect(project), wish)
        assert {i for i, side in sides(second.card).items() if side == "test"} == tests
        assert len(second.card["samples"]) == 8
        for old, new in zip(
            read_dataset(first.folder, "test"), read_dataset(second.folder, "test"), strict=True
        ):
            np.testing.assert_array_equal(old.image, new.image)
            np.testing.assert_array_equal(old.labels, new.labels)
        assert verify_dataset(second.folder) == []

    def test_labels_of_the_test_set_stay_as_they_were(self, project):
        vouch(project, *range(5))
        first = make_dataset(project, collect(project), HALF)
        (old,) = read_dataset(first.folder, "test")
        changed = np.where(old.labels == 4, 0, old.labels)
        add_truth(project, old.name, save(project, old.name, changed), Whole(), author="ada")
        second = make_dataset(project, collect(project), replace(HALF, test_from=first.folder))
        assert sides(second.card)[old.name] == "test"
        np.testing.assert_array_equal(read_dataset(second.folder, "test")[0].labels, old.labels)

    def test_an_image_that_shares_something_with_it_is_refused(self, project):
        vouch(project, *range(5))
        first = make_dataset(project, collect(project), HALF)
        (test,) = read_dataset(first.folder, "test")
        source = project.source_file(project.image(test.name))
        shutil.copyfile(source, project.source_file(project.images()[7]))
        vouch(project, 7)
        wish = replace(HALF, test_from=first.folder)
        with pytest.raises(InputError, match=f"shares pixels with {test.name}"):
            make_dataset(project, collect(project), wish)
        left = left_over(collect(project), [ids(project)[7]])
        assert sides(make_dataset(project, left, wish).card).keys() == sides(first.card).keys()

    def test_it_must_be_split_by_the_same(self, project):
        vouch(project, *range(8))
        first = make_dataset(project, collect(project), HALF)
        with pytest.raises(InputError, match="was split by image"):
            make_dataset(project, collect(project), Wish(by="well", test_from=first.folder))


class TestRevisions:
    def test_the_newest_count_as_a_whole_where_somebody_says_so(self, project):
        images = ids(project)
        save(project, images[0], squares(0)[1])
        save(project, images[0], np.where(squares(0)[1] == 1, 0, squares(0)[1]))
        vouch(project, 1)
        with_them = collect(project, revisions=True)
        assert [one.source for one in with_them] == ["revision", "revision"]
        assert [one.source for one in collect(project)] == ["truth"]
        made = make_dataset(project, with_them, ALL)
        first = read_dataset(made.folder, "train")[0]
        assert 1 not in first.labels and first.labels.min() == 0
        assert made.card["samples"][0]["revision"] == "r0002"


class TestFolders:
    def test_folders_come_beside_the_project_or_alone(self, project, tmp_path):
        vouch(project, 0, 1)
        a, b = label_folder(tmp_path / "hela", 3, 50), label_folder(tmp_path / "u2os", 3, 60)
        found = collect(project, label_folders([a, b], kinds=["HeLa", "U2OS"]))
        card = make_dataset(project, found, ALL).card
        kinds = [one["kind"] for one in card["samples"]]
        assert sorted(kinds) == ["HeLa"] * 3 + ["U2OS"] * 3 + ["a"] * 2
        alone = Project(tmp_path / "nothing")
        made = make_dataset(alone, collect(alone, label_folders([a, b])), ALL)
        assert {one["kind"] for one in made.card["samples"]} == {"hela", "u2os"}
        np.testing.assert_array_equal(open_dataset(made.folder, "all")[0].labels, squares(50)[1])

    def test_equal_names_in_two_folders(self, tmp_path):
        folders = [label_folder(tmp_path / name / "x", 2, n) for n, name in enumerate("ab")]
        alone = Project(tmp_path / "p")
        made = make_dataset(alone, collect(alone, label_folders(folders)), ALL)
        assert len({one["name"] for one in made.card["samples"]}) == 4
        assert len(list((made.folder / "images").iterdir())) == 4
        # f1 of a and f0 of b are the same picture
        assert len({one["group"] for one in made.card["samples"]}) == 3

    @pytest.mark.parametrize("lost", ["images", "labels"])
    def test_names_that_do_not_match_are_listed(self, tmp_path, lost):
        folder = label_folder(tmp_path / "a", 3)
        (folder / lost / "f1.tif").unlink()
        with pytest.raises(InputError, match="f1 has not"):
            collect(Project(tmp_path), label_folders([folder]))

    def test_labels_of_another_shape(self, tmp_path):
        folder = label_folder(tmp_path / "a", 2)
        write_labels(folder / "labels" / "f1.tif", np.zeros((4, 5), int))
        alone = Project(tmp_path / "p")
        with pytest.raises(InputError, match=r"f1.tif are of shape \(4, 5\)"):
            make_dataset(alone, collect(alone, label_folders([folder])), ALL)
        assert alone.datasets() == [] and not list(alone.root.glob("datasets/*partial"))

    def test_other_names_of_the_folders(self, tmp_path):
        folder = label_folder(tmp_path / "a", 2)
        pair = LabelFolder.of(folder / "images", folder / "labels")
        assert pair.kind == "a"
        with pytest.raises(InputError, match="no folder"):
            LabelFolder.of(folder / "labels")
        with pytest.raises(InputError, match="1 --kind for 2"):
            label_folders([folder, folder], kinds=["x"])


class TestColourAndVolumes:
    def test_colour_is_kept_and_read_either_way(self, tmp_path):
        grey, labels = squares(3)
        picture = np.stack([(grey // 8).astype(np.uint8), labels.astype(np.uint8) * 3,
                            (255 - grey // 8).astype(np.uint8)], axis=-1)  # fmt: skip
        project = project_of(tmp_path / "p", {"c.tif": picture})
        (image,) = ids(project)
        add_truth(project, image, save(project, image, labels), Whole(), author="ada")
        made = make_dataset(project, collect(project), ALL)
        (sample,) = read_dataset(made.folder, "train", colour=True)
        np.testing.assert_array_equal(sample.image, prepare_colour(picture))
        (sample,) = read_dataset(made.folder, "train")
        np.testing.assert_array_equal(sample.image, prepare(to_grey(picture)))

    def test_the_channel_and_projection_of_the_project_are_taken(self, tmp_path):
        labels = squares(0)[1]
        stack = np.zeros((4, 2, 40, 48), np.uint16)
        stack[:, 0] = 7
        for z in range(4):
            stack[z, 1] = squares(z)[0]
        project = project_of(tmp_path / "p", {"s.tif": stack})
        config = project.config_file.read_text()
        project.config_file.write_text(
            config.replace("*.tif]", "*.tif], segment: {channel: 1}, projection: max")
        )
        (name,) = ids(project)
        add_truth(project, name, save(project, name, labels), Whole(), author="ada")
        (sample,) = read_dataset(make_dataset(project, collect(project), ALL).folder, "train")
        np.testing.assert_array_equal(sample.image, prepare(stack[:, 1].max(axis=0)))

    def test_grey_as_colour(self, project):
        vouch(project, 0)
        made = make_dataset(project, collect(project), ALL)
        (sample,) = read_dataset(made.folder, "train", colour=True)
        assert sample.image.shape == (40, 48, 3) and np.ptp(sample.image, axis=-1).max() == 0

    def test_volumes_whole_or_plane_by_plane(self, tmp_path):
        image = np.stack([squares(n)[0] for n in range(3)])
        labels = np.stack([squares(0)[1]] * 3)
        project = project_of(tmp_path / "p", {"v.tif": image})
        (name,) = ids(project)
        add_truth(project, name, save(project, name, labels), Whole(), author="ada")
        made = make_dataset(project, collect(project), ALL)
        with pytest.raises(InputError, match="volume of 3 planes"):
            read_dataset(made.folder, "train")
        (whole,) = read_dataset(made.folder, "train", planes=False)
        np.testing.assert_array_equal(whole.labels, labels)
        assert whole.image.shape == (3, 40, 48)
        planes = read_dataset(made.folder, "train", planes=True)
        assert [one.name for one in planes] == [f"{name}_z000{n}" for n in (1, 2, 3)]
        np.testing.assert_array_equal(planes[2].image, prepare(image[2]))
        np.testing.assert_array_equal(planes[2].labels, labels[2])
        assert {one.group for one in planes} == {whole.group}

    def test_planes_of_which_nothing_is_known_are_left_out(self, tmp_path):
        image = np.stack([squares(n)[0] for n in range(3)])
        labels = np.zeros((3, 40, 48), np.int32)
        labels[1, 4:9, 4:9] = 1
        project = project_of(tmp_path / "p", {"v.tif": image})
        (name,) = ids(project)
        add_truth(project, name, save(project, name, labels), Touched(), author="ada")
        made = make_dataset(project, collect(project), ALL)
        (plane,) = read_dataset(made.folder, "train", planes=True)
        assert plane.name == f"{name}_z0002"


class TestBadInput:
    def test_nothing_is_vouched_for(self, project):
        with pytest.raises(InputError, match="nobody has vouched"):
            make_dataset(project, collect(project), ALL)

    def test_a_crop_that_was_set_since(self, project):
        vouch(project, 0)
        first, *rest = project.images()
        project.write_images([replace(first, crop="y=0:20"), *rest])
        with pytest.raises(InputError, match=r"\(40, 48\), its pixels of shape \(20, 48\)"):
            make_dataset(project, collect(project), ALL)

    def test_an_image_that_cannot_be_left_out(self, project):
        vouch(project, 0)
        with pytest.raises(NotFoundError, match="i99999"):
            left_over(collect(project), ["i99999"])

    def test_an_unknown_dataset_and_split(self, project):
        with pytest.raises(NotFoundError, match="no dataset yet"):
            project.dataset_folder()
        vouch(project, 0)
        made = make_dataset(project, collect(project), ALL)
        with pytest.raises(NotFoundError, match="d0009"):
            project.dataset_folder("d0009")
        with pytest.raises(InputError, match="no split"):
            read_dataset(made.folder, "dev")
        with pytest.raises(ProjectError, match="no dataset"):
            read_dataset(project.root, "train")


def test_ids_go_on_and_are_never_given_twice(tmp_path):
    project = Project(tmp_path)
    for name in ("d0002", "d10000", "dx", "d3"):
        (tmp_path / "datasets" / name).mkdir(parents=True)
        (tmp_path / "datasets" / name / "dataset.json").write_text("{}")
    assert project.datasets() == ["d0002", "d10000"]
    assert project.dataset_folder().name == "d10000"
    (tmp_path / "datasets" / "d10001").mkdir()  # its card is gone
    assert project.new_dataset_folder().name == "d10002"


@pytest.fixture
def made(project):
    vouch(project, 0, 1, scope=Box(0, 0, 20, 20))
    return make_dataset(project, collect(project), ALL)


@pytest.mark.parametrize("part", ["images", "labels", "known"])
@pytest.mark.parametrize("damage", ["edit", "gone"])
def test_files_that_were_changed_are_not_read(made, part, damage):
    file = next((made.folder / part).iterdir())
    if damage == "edit":
        array = tifffile.imread(file)
        array[..., 0, 0] += 1
        tifffile.imwrite(file, array, compression="zlib")
    else:
        file.unlink()
    found = verify_dataset(made.folder)
    assert len(found) == 1 and file.name in found[0]
    with pytest.raises(ProjectError, match=file.name):
        read_dataset(made.folder, "train")


def test_files_that_are_not_on_the_card_are_told(made):
    (made.folder / "images" / "new.tif").write_bytes(b"")
    assert verify_dataset(made.folder) == ["images/new.tif is not on the card"]


def test_a_card_names_no_files_outside_of_its_folder(made):
    file = made.folder / "dataset.json"
    card = json.loads(file.read_text())
    first = card["samples"][0]
    first["files"]["../../opsef.yaml"] = "0" * 64
    card["key"] = content_key(card["samples"])
    file.write_text(json.dumps(card))
    with pytest.raises(ProjectError, match="files of other names"):
        read_card(made.folder)


@pytest.mark.parametrize("change", ["split", "files", "broken"])
def test_a_card_that_was_edited_is_not_read(made, change):
    file = made.folder / "dataset.json"
    card = json.loads(file.read_text())
    if change == "split":
        card["samples"][0]["split"] = "test"
    elif change == "files":
        first = next(iter(card["samples"][0]["files"]))
        card["samples"][0]["files"][first] = "0" * 64
    file.write_text(json.dumps(card) if change != "broken" else "{")
    with pytest.raises(ProjectError, match="cannot be understood"):
        read_dataset(made.folder, "train")


@pytest.mark.parametrize("field", ["created", "split", "by of split", "objects of sample"])
def test_a_card_that_lacks_a_field_is_named_with_it(made, project, field):
    file = made.folder / "dataset.json"
    card = json.loads(file.read_text())
    name, _, where = field.partition(" of ")
    del {"": card, "split": card["split"], "sample": card["samples"][0]}[where][name]
    file.write_text(json.dumps(card))
    with pytest.raises(ProjectError, match=rf"{made.folder.name}/dataset.json.*no field.*{name}"):
        read_card(made.folder)
    (row,) = list_datasets(project)
    assert row["id"] == "d0001" and name in row["damage"][0]
