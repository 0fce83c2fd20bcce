"""Pieces of one field are told, whatever their offset; even ground and other fields are not."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from opsef_bridge.images import write_labels
from opsef_bridge.project import Project
from opsef_bridge.train.dataset_make import Wish, make_dataset
from opsef_bridge.train.dataset_sources import collect, label_folders
from opsef_bridge.train.dataset_split import Shares
from opsef_bridge.train.overlap import landmarks, overlap_remarks, same_places, turned_key

FIELD = np.random.default_rng(5).poisson(130, (260, 300)).astype(np.uint16)


def marked(**pictures: np.ndarray) -> dict[str, np.ndarray]:
    return {name: landmarks(picture) for name, picture in pictures.items()}


@settings(max_examples=20, deadline=None)
@given(top=st.integers(0, 100), left=st.integers(0, 100), dtype=st.sampled_from("BHid"))
def test_pieces_that_overlap_by_half(top, left, dtype):
    field = FIELD.clip(0, 255)  # for bytes
    one = field[top : top + 160, left : left + 200]
    other = field[max(0, top - 20) :, left + 100 :].astype(dtype)
    assert same_places(marked(a=one, b=other)) == [("a", "b")]


def test_a_strip_of_40_px_is_enough_and_touching_is_not():
    assert same_places(marked(a=FIELD[:, :170], b=FIELD[:, 130:])) == [("a", "b")]
    assert same_places(marked(a=FIELD[:, :150], b=FIELD[:, 150:])) == []


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_even_ground_with_specks_shows_no_place(levels):
    """As in 8-bit pictures: nothing but 0, and now and then a 1."""
    pictures = {}
    for n in range(6):
        rng = np.random.default_rng(n)
        specks = rng.random((200, 200)) < 0.02
        pictures[f"p{n}"] = (specks * rng.integers(0, levels, (200, 200))).astype(np.uint8)
        pictures[f"p{n}"][60:100, 60:100] = rng.integers(100, 255, (40, 40))
    assert same_places(marked(**pictures)) == []


def test_other_noise_is_another_place():
    pictures = {f"p{n}": np.random.default_rng(n).normal(size=(200, 200)) for n in range(8)}
    assert same_places(marked(**pictures)) == []
    quantised = {name: np.rint(one).astype(np.int32) for name, one in pictures.items()}
    assert same_places(marked(**quantised)) == []


@pytest.mark.parametrize("shape", [(15, 300), (1, 1), (16, 15)])
def test_images_smaller_than_a_window(shape):
    assert len(landmarks(np.random.default_rng(0).random(shape))) == 0


def test_colour_and_volumes():
    colour = np.stack([FIELD, FIELD[::-1], FIELD[:, ::-1]], axis=-1)
    volume = np.stack([FIELD * 0, FIELD, FIELD * 0])
    pairs = same_places(marked(a=colour[:, :200], b=colour[:, 100:], c=volume, d=FIELD))
    assert pairs == [("a", "b"), ("c", "d")]


def test_many_pairs_are_counted():
    marks = marked(**{f"p{n}": FIELD for n in range(5)})
    samples = [
        {"name": name, "image": name, "split": ("train", "val")[n % 2]}
        for n, name in enumerate(marks)
    ]
    said = overlap_remarks(samples, marks)
    assert said[0].startswith("p0 (train) and p1 (val) show the same place: ")
    assert len(said) == 6 and said[-1].startswith("1 more")
    one_side = [{**sample, "split": "val"} for sample in samples]
    assert overlap_remarks(one_side, marks) == []


@given(quarters=st.integers(0, 3), flip=st.booleans(), colour=st.booleans())
def test_a_turned_picture_has_the_same_key(quarters, flip, colour):
    shape = (5, 7, 3) if colour else (5, 7)
    one = np.random.default_rng(1).integers(0, 99, shape)
    other = np.rot90(one[::-1] if flip else one, quarters)
    assert turned_key(one, colour) == turned_key(other, colour)
    assert turned_key(one, colour) != turned_key(one + 1, colour)


def folder_of(place, pictures: dict[str, np.ndarray]):
    for name, picture in pictures.items():
        labels = np.zeros(picture.shape, np.int32)
        labels[5:15, 5:15] = 1
        (place / "images").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(place / "images" / f"{name}.tif", picture)
        write_labels(place / "labels" / f"{name}.tif", labels)
    return place


def made(tmp_path, place, **wish):
    project = Project(tmp_path / "p")
    found = collect(project, label_folders([place]), truth=False)
    return make_dataset(project, found, Wish(shares=Shares(0.3, 0.3), **wish))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (120, 120)).astype(np.uint8)


class TestDatasets:
    def test_pieces_on_two_sides_are_told(self, tmp_path):
        pictures = {f"n{n}": noise(n) for n in range(4)}
        pieces = {"left": FIELD[:, :180], "right": FIELD[:, 120:]}
        found = made(tmp_path, folder_of(tmp_path / "f", pictures | pieces))
        sides = {one["name"]: one["split"] for one in found.card["samples"]}
        told = [one for one in found.remarks if "same place" in one]
        assert len(told) == (sides["f-left"] != sides["f-right"])
        apart = folder_of(tmp_path / "g", pieces | {"n": noise(0)})  # three sides for three
        (said,) = made(tmp_path, apart).remarks
        assert "left.tif" in said and "right.tif" in said and "--" not in said
        assert "marks" not in found.card["samples"][0]

    def test_a_piece_of_a_test_image_that_is_kept_is_told(self, tmp_path):
        wide = np.random.default_rng(9).integers(0, 255, (120, 500)).astype(np.uint8)
        pictures = {f"n{n}": wide[:, 100 * n : 100 * n + 100] for n in range(4)}
        first = made(tmp_path, folder_of(tmp_path / "f", pictures))
        (kept,) = [one["name"] for one in first.card["samples"] if one["split"] == "test"]
        at = 100 * int(kept[-1])
        more = {"piece": wide[:, at + 40 : at + 140], "n8": noise(8)}
        again = made(tmp_path, folder_of(tmp_path / "f", more), test_from=first.folder)
        assert any("piece.tif" in one and "same place" in one for one in again.remarks)

    def test_turned_copies_stand_on_one_side(self, tmp_path):
        pictures = {"a": noise(1), "b": np.rot90(noise(1)), "c": noise(1)[:, ::-1]}
        pictures |= {f"n{n}": noise(n + 5) for n in range(5)}
        found = made(tmp_path, folder_of(tmp_path / "f", pictures))
        groups = {one["name"]: one["group"] for one in found.card["samples"]}
        assert groups["f-a"] == groups["f-b"] == groups["f-c"]
        assert len(set(groups.values())) == 6

    def test_empty_pictures_join_nothing(self, tmp_path):
        pictures = {f"n{n}": noise(n) for n in range(3)}
        pictures |= {f"e{n}": np.zeros((120, 120), np.uint8) for n in range(3)}
        found = made(tmp_path, folder_of(tmp_path / "f", pictures))
        assert len({one["group"] for one in found.card["samples"]}) == 6

    def test_it_does_not_matter_where_a_folder_lies(self, tmp_path, monkeypatch):
        folder = folder_of(tmp_path / "f", {f"n{n}": noise(n) for n in range(6)})
        first = made(tmp_path, folder)
        monkeypatch.chdir(tmp_path)
        again = made(tmp_path, folder.relative_to(tmp_path))
        assert not again.new and again.folder == first.folder
        on = made(tmp_path, folder.relative_to(tmp_path), test_from=first.folder)
        tests = [
            {one["name"] for one in card["samples"] if one["split"] == "test"}
            for card in (first.card, on.card)
        ]
        assert tests[0] == tests[1]

    def test_a_well_is_one_however_it_is_spelled_and_a_plate_as_it_is(self, tmp_path):
        folder = folder_of(tmp_path / "f", {f"n{n}": noise(n) for n in range(6)})
        rows = ["n0,007,a1", "n1,007,A01", "n2,7,A1", "n3,7,B12", "n4,7.0,x y", "n5,7.0,B2"]
        conditions = tmp_path / "c.csv"
        conditions.write_text("\n".join(["file,plate,well", *rows]))
        project = Project(tmp_path / "p")
        found = collect(project, label_folders([folder]), truth=False, conditions=conditions)
        by = Wish(by="plate,well", shares=Shares(0.2, 0.2))
        samples = make_dataset(project, found, by).card["samples"]
        groups = [one["group"].partition(":")[2] for one in samples]
        assert groups == ["007,A01", "007,A01", "7,A01", "7,B12", "7.0,x y", "7.0,B02"]
