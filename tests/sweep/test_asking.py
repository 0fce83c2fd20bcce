"""Questions to a person about a sweep: which places, where they lie, and what answers do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
import yaml
from skimage.draw import polygon2mask

from opsef_bridge.errors import InputError, NotFoundError, ProjectError
from opsef_bridge.images import read_labels
from opsef_bridge.measure.match import match
from opsef_bridge.project import Project, read_csv
from opsef_bridge.rois import write_roi_set
from opsef_bridge.rois.answers import read_answers, vouched
from opsef_bridge.rois.revisions import Base, History, Objects, Source
from opsef_bridge.rois.truth import Whole, add_truth
from opsef_bridge.sweep import plan_sweep, run_plan
from opsef_bridge.sweep.asking import Asked, answer, questions
from opsef_bridge.sweep.asking_pictures import around, write_pictures
from tests.small_projects import Here

SHAPE = (112, 128)


def scene(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Discs of all brightness, some in touch, and smears that are none: image and truth."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    image = rng.normal(100, 6, shape)
    labels = np.zeros(shape, np.uint16)
    number = 0
    for y in range(14, shape[0] - 8, 26):
        for x in range(14, shape[1] - 8, 26):
            bright = rng.uniform(80, 900)
            if number % 7 == 6:  # a smear, no object
                image += bright / 3 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 40)
                number += 1
                continue
            number += 1
            disc = np.hypot(rows - y, columns - x) < rng.integers(6, 10)
            labels[disc] = number
            image[disc] += bright
            if number % 3 == 0:  # with a neighbour that touches it
                number += 1
                other = (np.hypot(rows - y, columns - x - 13) < 6) & (labels == 0)
                labels[other] = number
                image[other] += bright
    return image.clip(0).astype(np.uint16), labels


def swept(folder: Path, **sections) -> Project:
    (folder / "data").mkdir(parents=True)
    for number, name in enumerate("ab"):
        tifffile.imwrite(folder / "data" / f"{name}.tif", scene(number)[0])
    models = {
        "classic": {
            "engine": "watershed",
            "threshold": ["otsu", 0.2, 0.5, 0.8, 1.2, 1.6],
            "min_distance": [2, 6],
        }
    }
    settings = {
        "opsef": 1, "images": {"source": ["data/*"]}, "models": models,
        "sweep": {"crop": "none"}, **sections,
    }  # fmt: skip
    (folder / "opsef.yaml").write_text(yaml.safe_dump(settings))
    project = Project(folder)
    assert run_plan(project, plan_sweep(project), Here()).failed == 0
    return project


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    return swept(tmp_path_factory.mktemp("asking") / "whole").root


@pytest.fixture(scope="module")
def cropped_once(tmp_path_factory) -> Path:
    return swept(tmp_path_factory.mktemp("asking") / "crop", sweep={"crop": 64}).root


@pytest.fixture
def project(made_once, tmp_path) -> Project:
    return Project(shutil.copytree(made_once, tmp_path / "project"))


@pytest.fixture
def cropped(cropped_once, tmp_path) -> Project:
    return Project(shutil.copytree(cropped_once, tmp_path / "cropped"))


def truth_of(image: str) -> np.ndarray:
    return scene("ab".index(image[-1]))[1]


def shown(project: Project, asked: Asked) -> np.ndarray:
    """The outline as a mask of the whole image, read from the run and moved to its box."""
    run = project.run(asked.run)
    labels = read_labels(run.label_file(asked.variant, asked.image))
    (planned,) = (one for one in run.plan()["images"] if one["id"] == asked.image)
    top, left = planned["box"][:2] if planned["box"] else (0, 0)
    whole = np.zeros(SHAPE, bool)
    whole[top : top + labels.shape[0], left : left + labels.shape[1]] = labels == asked.label
    return whole


def oracle(project: Project, asked: Asked) -> dict:
    """Answer as somebody does who sees the truth."""
    mask, truth = shown(project, asked), truth_of(asked.image)
    numbers, counts = np.unique(truth[mask], return_counts=True)
    touched = [(c, n) for n, c in zip(numbers, counts, strict=True) if n]
    how = {"what": "nothing"}
    if touched:
        right = truth == max(touched)[1]
        iou = (mask & right).sum() / (mask | right).sum()
        how = {"what": "right"} if iou >= 0.8 else {"what": "drawn", "drawn": right}
    return answer(
        project, asked.image, asked.variant, asked.label, run=asked.run, author="ada", **how
    )


def judged(project: Project) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Agreement and score of variants.csv, and the real F1, by variant."""
    run = project.run()
    rows = sorted(read_csv(run.variants_file), key=lambda row: row["id"])
    found = []
    for row in rows:
        hits = total = 0
        for entry in project.images():
            truth, labels = truth_of(entry.id), read_labels(run.label_file(row["id"], entry.id))
            hits += 2 * match(truth, labels, (0.5,)).tp[0]
            total += len(np.unique(truth)) + len(np.unique(labels)) - 2
        found.append((float(row["agreement"]), float(row["score"]), hits / total))
    return tuple(np.array(found).T)


class TestQuestions:
    def test_they_are_about_disputed_objects(self, project):
        found = questions(project)
        assert len(found) == 5
        doubts = [one.share * (1 - one.share) for one in found]
        assert doubts == sorted(doubts, reverse=True) and doubts[-1] > 0
        for one in found:
            mask = shown(project, one)
            rows, columns = np.nonzero(mask)
            top, left, height, width = one.box
            assert (rows.min(), columns.min()) == (top, left)
            assert (rows.max() + 1, columns.max() + 1) == (top + height, left + width)
            assert one.plane is None and 0 < one.support < 1 and one.run == "run-0001"

    def test_the_outline_runs_along_the_edges_of_the_pixels(self, project):
        for one in questions(project, count=3):
            drawn = np.zeros(SHAPE, bool)
            for loop in one.outline:
                corners = np.array(loop)[:, ::-1] - 0.5
                drawn ^= polygon2mask(SHAPE, corners)
            np.testing.assert_array_equal(drawn, shown(project, one))

    def test_places_are_those_of_the_whole_image_where_the_sweep_saw_a_crop(self, cropped):
        assert all(image["box"] for image in cropped.run().plan()["images"])
        boxes = {image["id"]: image["box"] for image in cropped.run().plan()["images"]}
        assert any(box[0] or box[1] for box in boxes.values())
        found = questions(cropped, count=8)
        assert found
        for one in found:
            rows, columns = np.nonzero(shown(cropped, one))
            assert (rows.min(), columns.min()) == one.box[:2]
            oracle(cropped, one)
            stored = read_answers(cropped, one.image)[1][-1]
            np.testing.assert_array_equal(stored.outline, np.flatnonzero(shown(cropped, one)))
        assert all(read_answers(cropped, one.image)[0] == SHAPE for one in found)

    def test_what_is_answered_is_not_asked_again(self, project):
        asked: list[Asked] = []
        for _ in range(3):
            new = questions(project, count=3)
            for one in new:
                mask = shown(project, one)
                for old in asked:
                    both = mask & shown(project, old) if one.image == old.image else mask & False
                    union = mask | shown(project, old)
                    assert both.sum() / union.sum() < 0.5
            asked += new
            for one in new:
                oracle(project, one)
        assert len({(one.image, one.variant, one.label) for one in asked}) == 9

    def test_questions_end(self, project, monkeypatch):
        monkeypatch.setattr("opsef_bridge.sweep.asking.rerank", lambda *_: {})  # it takes time
        for _ in range(60):
            left = questions(project, count=10)
            if not left:
                break
            for one in left:
                oracle(project, one)
        assert left == []

    def test_no_two_are_about_the_same_pixels(self, project):
        found = questions(project, count=40)
        for number, one in enumerate(found):
            for other in found[:number]:
                if one.image == other.image:
                    a, b = shown(project, one), shown(project, other)
                    assert (a & b).sum() < 0.5 * min(a.sum(), b.sum())

    def test_what_is_true_by_a_revision_is_not_asked(self, project):
        before = {one.image for one in questions(project, count=40)}
        image = project.images()[0].id
        assert image in before and len(before) == 2
        saved = History(project, image).save(
            Objects(truth_of(image).astype(np.int32)),
            base=Base(run="run-0001", variant="v0001"),
            base_objects=Objects(np.zeros(SHAPE, np.int32)),
            author="ada",
            source=Source("a.zip", "0" * 64, "imagej-zip"),
        )
        add_truth(project, image, saved.revision.id, Whole(), author="ada")
        assert {one.image for one in questions(project, count=40)} == before - {image}

    def test_the_second_time_no_label_image_of_the_others_is_read(self, project, monkeypatch):
        first = questions(project)
        read = []
        monkeypatch.setattr(
            "opsef_bridge.project.runs.read_labels",
            lambda file: read.append(file) or read_labels(file),
        )
        assert questions(project) == first
        assert 0 < len(set(read)) <= 5
        shutil.rmtree(project.cache_folder)
        read.clear()
        assert questions(project) == first
        assert len(set(read)) == 2 * len(project.run().plan()["variants"])

    def test_progress_is_told(self, project):
        events = []
        questions(project, tell=events.append)
        assert [event.done for event in events] == [0, 1, 2]
        assert events[0].message == project.images()[0].id

    def test_what_cannot_be_asked(self, project, tmp_path):
        with pytest.raises(InputError, match="0 questions"):
            questions(project, count=0)
        with pytest.raises(NotFoundError, match="no run"):
            questions(project, "run-0009")
        with pytest.raises(NotFoundError, match="no group 'x'"):
            questions(project, group="x")
        project.run().variants_file.unlink()
        with pytest.raises(NotFoundError, match="not ranked"):
            questions(project)
        empty = tmp_path / "empty"
        empty.mkdir()
        (empty / "opsef.yaml").write_text("opsef: 1\nimages: {source: [data/*]}\n")
        with pytest.raises(NotFoundError, match="no sweep"):
            questions(Project(empty))

    def test_an_image_on_which_all_variants_failed_is_not_asked_about(self, tmp_path):
        (tmp_path / "data").mkdir()
        for number, name in enumerate("ab"):
            tifffile.imwrite(tmp_path / "data" / f"{name}.tif", scene(number)[0])
        model = {"engine": "watershed", "threshold": ["otsu", 0.2, 0.5]}
        settings = {"opsef": 1, "images": {"source": ["data/*"]}, "models": {"c": model}}
        (tmp_path / "opsef.yaml").write_text(yaml.safe_dump(settings))
        project = Project(tmp_path)
        plan = plan_sweep(project)
        (tmp_path / "data" / "a.tif").write_bytes(b"II*\0")
        assert run_plan(project, plan, Here()).failed == 3
        for _ in range(2):  # the second time from the cache
            assert {one.image[-1] for one in questions(project)} == {"b"}

    def test_labels_that_are_gone_are_named(self, project):
        file = project.run().label_file("v0001", project.images()[0].id)
        file.unlink()
        with pytest.raises(ProjectError, match=file.name):
            questions(project)


class TestAnswers:
    def test_answers_move_the_score_towards_the_truth(self, project):
        agreement, score, f1 = judged(project)
        np.testing.assert_allclose(score, agreement)
        for _ in range(2):
            for one in questions(project):
                oracle(project, one)
        _, score, _ = judged(project)
        assert not np.allclose(score, agreement)
        rows = read_csv(project.run().variants_file)
        assert max(score) == float(rows[0]["score"]) and rows[0]["rank"] == "1"
        assert np.corrcoef(score, f1)[0, 1] > np.corrcoef(agreement, f1)[0, 1]

    def test_what_is_told_and_kept(self, project):
        one, two = questions(project, count=2)
        told = answer(project, one.image, one.variant, one.label, "nothing", author="ada")
        rows = read_csv(project.run().variants_file)
        assert told["words"] and all(told.pop("words"))
        assert told == {
            "image": one.image, "run": "run-0001", "variant": one.variant, "label": one.label,
            "answer": "nothing", "asked": True, "replaced": 0, "answers": 1,
            "first": rows[0]["id"],
        }  # fmt: skip
        told = answer(
            project, one.image, one.variant, one.label, "right", author="bob", asked=False
        )
        assert (told["replaced"], told["answers"]) == (1, 1)
        told = answer(project, two.image, two.variant, two.label, "right", author="bob")
        assert told["answers"] == 2
        kept = read_answers(project, one.image)[1]
        assert [(a.author, a.asked, a.replaced) for a in kept][:2] == [
            ("ada", True, True), ("bob", False, False),
        ]  # fmt: skip

    def test_without_the_run_the_answers_stand(self, project):
        (one,) = questions(project, count=1)
        mask = shown(project, one)
        answer(project, one.image, one.variant, one.label, "right", author="ada")
        shutil.rmtree(project.runs_folder)
        np.testing.assert_array_equal(vouched(project, one.image).labels > 0, mask)

    def test_a_slug_and_a_file_of_one_roi(self, project, tmp_path):
        (one,) = questions(project, count=1)
        mask = shown(project, one)
        mask[one.box[0] :, one.box[1]] = False
        write_roi_set(tmp_path / "x.zip", mask.astype(np.int32))
        slug = {v["id"]: v["slug"] for v in project.run().plan()["variants"]}[one.variant]
        answer(project, one.image, slug, one.label, "drawn", drawn=tmp_path / "x.zip", author="ada")
        (kept,) = read_answers(project, one.image)[1]
        np.testing.assert_array_equal(kept.drawn, np.flatnonzero(mask))
        assert kept.variant == one.variant

    def test_a_ranking_that_cannot_follow_loses_no_answer(self, project):
        (one,) = questions(project, count=1)
        other = next(e.id for e in project.images() if e.id != one.image)
        shutil.rmtree(project.cache_folder)
        project.run().label_file("v0001", other).unlink()
        told = answer(project, one.image, one.variant, one.label, "right", author="ada")
        assert told["first"] is None and "could not be ranked" in told["words"][0]
        assert vouched(project, one.image).answers == 1

    def test_refusals_write_nothing(self, project):
        (one,) = questions(project, count=1)
        place = (project, one.image, one.variant, one.label)
        mask = shown(project, one)
        two = mask.astype(np.int32)
        two[0, 0] = 5
        far = np.zeros(SHAPE, bool)
        far[-1, -1] = far[0, 0] = True
        for how, words in (
            ({"what": "perhaps"}, "perhaps"),
            ({"what": "drawn"}, "nothing is drawn"),
            ({"what": "right", "drawn": mask}, "draws"),
            ({"what": "drawn", "drawn": two}, "2 objects"),
            ({"what": "drawn", "drawn": mask & False}, "0 objects"),
            ({"what": "drawn", "drawn": far & ~mask}, "no pixel"),
            ({"what": "drawn", "drawn": mask[1:]}, "shape"),
            ({"what": "right", "author": " "}, "nobody"),
        ):
            with pytest.raises(InputError, match=words):
                answer(*place, **{"author": "ada", **how})
        for wrong in (
            (project, "i00009-x", one.variant, one.label),
            (project, one.image, "v9999", one.label),
            (project, one.image, one.variant, 99999),
            (project, one.image, one.variant, 0),
            (project, one.image, one.variant, -1),
        ):
            with pytest.raises(NotFoundError):
                answer(*wrong, "right", author="ada")
        with pytest.raises(NotFoundError, match="run-0009"):
            answer(*place, "right", run="run-0009", author="ada")
        assert not project.answers_file(one.image).exists()

    def test_an_image_that_the_sweep_left_out(self, project):
        entries = project.images()
        project.write_images([*entries, entries[0].__class__("i00003-c", "data/c.tif")])
        with pytest.raises(NotFoundError, match="i00003-c"):
            answer(project, "i00003-c", "v0001", 1, "right", author="ada")


class TestVolumes:
    def test_the_plane_is_that_where_the_object_is_largest(self, tmp_path):
        (tmp_path / "data").mkdir()
        volume = np.full((5, 48, 48), 100, np.uint16)
        z, y, x = np.indices(volume.shape)
        for centre, bright in ((14, 900), (34, 700)):  # soft: each threshold sees other sizes
            far = (3 * (z - 3)) ** 2 + (y - centre) ** 2 + (x - centre) ** 2
            volume += (bright * np.exp(-far / 60)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "data" / "v.tif", volume, imagej=True, metadata={"axes": "ZYX"})
        model = {"engine": "watershed", "threshold": [0.1, 0.15, 2.0, 2.2]}
        settings = {"opsef": 1, "images": {"source": ["data/*"]}, "models": {"c": model}}
        (tmp_path / "opsef.yaml").write_text(yaml.safe_dump(settings))
        project = Project(tmp_path)
        assert run_plan(project, plan_sweep(project), Here()).failed == 0
        found = questions(project)
        assert [one.plane for one in found] == [3] * len(found) and found
        one = found[0]
        answer(project, one.image, one.variant, one.label, "right", author="ada")
        labels = read_labels(project.run().label_file(one.variant, one.image))
        np.testing.assert_array_equal(vouched(project, one.image).labels > 0, labels == one.label)
        (file, *_) = write_pictures(project, found, tmp_path / "pictures")
        assert PIL.Image.open(file).size == (48 * 4, 48 * 4)


class TestPictures:
    def test_the_outline_lies_around_the_object(self, cropped, tmp_path):
        found = questions(cropped, count=3)
        files = write_pictures(cropped, found, tmp_path / "new" / "pictures")
        assert [file.name[:2] for file in files] == ["01", "02", "03"]
        for file, one in zip(files, found, strict=True):
            picture = np.asarray(PIL.Image.open(file))
            top, left, height, width = around(one.box, SHAPE)
            assert picture.shape == (4 * height, 4 * width, 3)
            yellow = (picture == (255, 230, 0)).all(axis=2)
            rows, columns = np.nonzero(yellow)
            y, x, h, w = one.box
            edges = (rows.min(), rows.max(), columns.min(), columns.max())
            wanted = [4 * (y - top), 4 * (y + h - top), 4 * (x - left), 4 * (x + w - left)]
            np.testing.assert_allclose(edges, wanted, atol=2)
            grey = picture[~yellow]
            assert (grey[:, 0] == grey[:, 2]).all() and np.ptp(grey[:, 0]) > 100

    @pytest.mark.parametrize(
        ("box", "window"),
        [
            ((0, 0, 10, 10), (0, 0, 64, 64)),
            ((100, 50, 40, 20), (60, 28, 120, 64)),
            ((190, 290, 10, 10), (136, 236, 64, 64)),
            ((10, 10, 150, 20), (0, 0, 200, 64)),
        ],
    )
    def test_the_window(self, box, window):
        assert around(box, (200, 300)) == window
