"""What to correct first: places of an image, the order of images, and the review map."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
import yaml
from scipy.ndimage import label

from opsef_bridge.compare.votes import SILENT
from opsef_bridge.errors import ImageError, InputError, NotFoundError
from opsef_bridge.files import read_json, write_json
from opsef_bridge.images import read_labels, write_labels
from opsef_bridge.measure.match import match
from opsef_bridge.project import Project
from opsef_bridge.sweep import adopt, plan_batch, plan_sweep, run_plan
from opsef_bridge.sweep.asking import answer, questions
from opsef_bridge.sweep.consensus import consensus
from opsef_bridge.sweep.review import review, review_order, review_words
from opsef_bridge.sweep.review_files import CHANNELS, write_map
from opsef_bridge.sweep.run import variant_rows
from tests.small_projects import Here, discs

TWO = {
    "classic": {"engine": "watershed", "threshold": [0.05, 0.1, 0.8, "otsu"]},
    "local": {"engine": "watershed", "threshold": ["local"]},
}


def made(folder: Path, files: dict[str, np.ndarray], **sections) -> Project:
    (folder / "data").mkdir(parents=True)
    for name, image in files.items():
        metadata = {"axes": "ZYX"[-image.ndim :], "unit": "um"}
        tifffile.imwrite(folder / "data" / name, image, imagej=True, resolution=(2, 2),
                         metadata=metadata)  # fmt: skip
    settings = {
        "opsef": 1, "images": {"source": ["data/*"]}, "models": TWO, "sweep": {"crop": "none"},
    } | sections  # fmt: skip
    (folder / "opsef.yaml").write_text(yaml.safe_dump(settings))
    project = Project(folder)
    assert run_plan(project, plan_sweep(project), Here()).failed == 0
    return project


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("review") / "project"
    return made(folder, {"a.tif": discs(0), "b.tif": discs(1)}).root


@pytest.fixture
def project(made_once, tmp_path) -> Project:
    return Project(shutil.copytree(made_once, tmp_path / "project"))


@pytest.fixture
def image(project) -> str:
    return project.images()[0].id


def noisy(project: Project) -> str:
    """The variant with most objects: most of them are noise."""
    run = project.run()
    counts = {}
    for one in run.outcomes():
        counts[one["variant"]] = counts.get(one["variant"], 0) + one["objects"]
    return max(counts, key=counts.get)


def mask_of(project: Project, image: str, one) -> np.ndarray:
    return read_labels(project.run("run-0001").label_file(one.variant, image)) == one.label


class TestReview:
    def test_all_objects_have_a_support_and_wrong_ones_are_doubtful(self, project, image):
        variant = noisy(project)
        found = review(project, image, variant=variant)
        labels = read_labels(project.run().label_file(variant, image))
        assert list(found.support) == np.unique(labels[labels > 0]).tolist()
        assert all(0 <= value <= 1 for value in found.support.values())
        doubtful = [one for one in found.work if one.what == "doubtful"]
        assert {one.label for one in doubtful} == {
            number for number, value in found.support.items() if value < 0.5
        }
        assert doubtful and [one.support for one in doubtful] == sorted(
            found.support[one.label] for one in doubtful
        )
        assert found.left["doubtful"] == len(doubtful)
        truth = label(tifffile.imread(project.root / "data" / "a.tif") > 900)[0]
        share = match(truth, labels, (0.5,)).precision[0]
        kept = np.where(np.isin(labels, [one.label for one in doubtful]), 0, labels)
        assert match(truth, kept, (0.5,)).precision[0] > share  # doubtful ones are more often wrong

    def test_places_are_where_their_objects_are(self, project, image):
        for one in review(project, image, variant=noisy(project)).work:
            rows, columns = np.nonzero(mask_of(project, image, one))
            y, x, height, width = one.box
            assert (rows.min(), rows.max() + 1) == (y, y + height)
            assert (columns.min(), columns.max() + 1) == (x, x + width)
            assert one.plane is None and one.outline[0]

    def test_what_others_have_is_missing(self, project, image):
        run = project.run("run-0001")
        first = review(project, image)
        kept = first.support
        gone = max(kept, key=kept.get)
        labels = read_labels(run.label_file(first.variant, image))
        place = labels == gone
        for name in {row["variant"] for row in run.outcomes()}:
            here = read_labels(run.label_file(name, image))
            if (here == labels).all():
                victim = name
        write_labels(run.label_file(victim, image), np.where(place, 0, labels))
        shutil.rmtree(project.cache_folder)  # labels of a key do not change by themselves
        found = review(project, image, variant=victim)
        missing = [one for one in found.work if one.what == "missing"]
        assert len(missing) == found.left["missing"] == 1
        shared = mask_of(project, image, missing[0]) & place
        assert shared.sum() / place.sum() > 0.5 and missing[0].variant != victim
        assert missing[0].support >= 0.5

    def test_a_limit_cuts_the_list_and_not_the_counts(self, project, image):
        whole = review(project, image, variant=noisy(project))
        cut = review(project, image, variant=noisy(project), limit=3)
        assert cut.work == whole.work[:3] and cut.left == whole.left
        with pytest.raises(InputError, match="0 places"):
            review(project, image, limit=0)

    def test_what_is_answered_is_not_listed_again(self, project, image):
        variant = noisy(project)
        before = review(project, image, variant=variant)
        order = {one.image: one for one in review_order(project, variant=variant)}
        one = before.work[0]
        answer(project, image, one.variant, one.label, "nothing", author="ada", asked=False)
        after = review(project, image, variant=variant)
        assert (one.variant, one.label) not in [(a.variant, a.label) for a in after.work]
        assert after.left["doubtful"] < before.left["doubtful"]
        now = {one.image: one for one in review_order(project, variant=variant)}
        assert now[image].doubt < order[image].doubt
        assert now[image].doubtful == after.left["doubtful"]
        (other,) = set(now) - {image}
        assert now[other] == order[other]

    def test_the_adopted_variant_is_meant(self, project, image):
        first = review(project, image).variant
        other = next(v["id"] for v in project.run().plan()["variants"] if v["id"] != first)
        adopt(project, other)
        assert review(project, image).variant == other
        assert review(project, image, variant=first).variant == first

    def test_the_cache_gives_the_same(self, project, image):
        once = review(project, image, variant=noisy(project))
        assert review(project, image, variant=noisy(project)) == once
        shutil.rmtree(project.cache_folder)
        assert review(project, image, variant=noisy(project)) == once

    def test_one_family_is_for_order_only(self, project, image):
        (words,) = review(project, image).words
        assert "order only" in words
        assert review_words(project) == [words]


class TestOrder:
    def test_most_expected_errors_come_first(self, project):
        variant = noisy(project)
        order = review_order(project, variant=variant)
        assert [one.doubt for one in order] == sorted((o.doubt for o in order), reverse=True)
        for row in order:
            found = review(project, row.image, variant=variant)
            missing = sum(one.support for one in found.work if one.what == "missing")
            expected = sum(1 - value for value in found.support.values()) + missing
            assert row.doubt == pytest.approx(expected, abs=1e-3)
            assert (row.objects, row.edited) == (len(found.support), None)

    def test_unknown_group(self, project):
        with pytest.raises(NotFoundError, match="no group 'x'"):
            review_order(project, group="x")


def test_a_consensus_is_reviewed_like_any(project, image):
    run = consensus(project, executor=Here()).run
    plan = project.run(run).plan()
    (name,) = (v["id"] for v in plan["variants"] if v["family"] == SILENT)
    found = review(project, image, variant=name, run=run)
    assert found.support and min(found.support.values()) > 0.3
    assert not [one for one in found.work if one.what == "missing"]


def test_a_batch_has_nobody_to_ask(project, image):
    adopt(project, project.run().plan()["variants"][0]["id"])
    batch = run_plan(project, plan_batch(project), Here()).run
    for call in (
        lambda: review(project, image, run=batch),
        lambda: review_order(project, run=batch),
        lambda: questions(project, batch),
    ):
        with pytest.raises(InputError, match="is a batch") as caught:
            call()
        assert "--run run-0001" in caught.value.hint


def test_a_single_variant_has_nobody_to_support_it(tmp_path):
    models = {"classic": {"engine": "watershed", "threshold": 0.8}}
    project = made(tmp_path / "one", {"a.tif": discs(0)}, models=models)
    for call in (lambda: review(project, project.images()[0].id), lambda: review_order(project)):
        with pytest.raises(InputError, match="no other variant of run-0001"):
            call()


def test_what_is_not_there(project, image):
    for how in ({"variant": "v0099"}, {"run": "run-0042"}):
        with pytest.raises(NotFoundError):
            review(project, image, **how)
    with pytest.raises(NotFoundError):
        review(project, "i00099-x")


def test_a_crop_is_told_in_pixels_of_the_whole_image(tmp_path):
    project = made(tmp_path / "crop", {"a.tif": discs(3, (150, 160))}, sweep={"crop": 64})
    (planned,) = project.run().plan()["images"]
    top, left, *_ = planned["box"]
    assert top or left
    found = review(project, planned["id"], variant=noisy(project))
    assert found.work
    for one in found.work:
        rows, columns = np.nonzero(mask_of(project, planned["id"], one))
        assert one.box[:2] == (rows.min() + top, columns.min() + left)
    file = write_map(project, found, tmp_path / "map.tif")
    with tifffile.TiffFile(file) as tif:
        assert tif.asarray().shape == (4, 64, 64)
        assert ", ".join(map(str, planned["box"])) in tif.imagej_metadata["Info"]


def test_a_volume_has_planes(tmp_path):
    volume = np.stack([discs(4, (48, 56))] * 3)
    project = made(tmp_path / "volume", {"a.tif": volume})
    image = project.images()[0].id
    found = review(project, image, variant=noisy(project))
    assert found.work and all(0 <= one.plane < 3 for one in found.work)
    for one in found.work:
        mask = mask_of(project, image, one)
        assert mask[one.plane].sum() == mask.sum(axis=(1, 2)).max()
    file = write_map(project, found, tmp_path / "map.tif")
    assert tifffile.imread(file).shape == (3, 4, 48, 56)
    with pytest.raises(InputError, match="a volume of 3 planes"):
        write_map(project, found, tmp_path / "map.png")


class TestMap:
    def test_a_calibrated_hyperstack(self, project, image, tmp_path):
        found = review(project, image, variant=noisy(project))
        file = write_map(project, found, tmp_path / "new" / "map.tif")
        with tifffile.TiffFile(file) as tif:
            drawn, base, support, labels = tif.asarray()
            told = tif.imagej_metadata
            assert tif.pages[0].tags["XResolution"].value == (2, 1)
        assert tuple(told["Labels"]) == CHANNELS and told["unit"] == "um"
        np.testing.assert_array_equal(base, tifffile.imread(project.root / "data" / "a.tif"))
        truth = read_labels(project.run().label_file(found.variant, image))
        np.testing.assert_array_equal(labels, truth)
        for number, value in found.support.items():
            assert set(support[truth == number].tolist()) == {1 + round(254 * value)}
        assert support[truth == 0].max() == 0 and (drawn >= 250).any()
        again = file.read_bytes()
        assert write_map(project, found, file).read_bytes() == again

    def test_a_png_with_a_legend(self, project, image, tmp_path):
        found = review(project, image, variant=noisy(project))
        picture = PIL.Image.open(write_map(project, found, tmp_path / "map.png"))
        assert picture.mode == "RGB" and picture.width >= 600

    @pytest.mark.parametrize("name", ["", "map.jpg", "file/map.tif", "folder.tif"])
    def test_names_that_are_no_place_for_it(self, project, image, tmp_path, name):
        (tmp_path / "file").write_text("mine")
        (tmp_path / "folder.tif").mkdir()
        with pytest.raises(InputError):
            write_map(project, review(project, image), tmp_path / name)
        assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "folder.tif").is_dir()


def test_the_variant_that_is_adopted_for_the_image_today_is_reviewed(project, image):
    """`adopt --by-size` puts images into groups that the run did not know."""
    from dataclasses import replace

    other = project.images()[1].id
    first = review(project, image).variant
    chosen = next(row["id"] for row in variant_rows(project.run()) if row["id"] != first)
    entries = [replace(e, group="large" if e.id == image else e.group) for e in project.images()]
    project.write_images(entries)
    project.write_adopted({"large": {"run": "run-0001", "id": chosen}})
    assert review(project, image).variant == chosen and review(project, other).variant == first
    assert {one.image: one.variant for one in review_order(project)} == {
        image: chosen, other: first,
    }  # fmt: skip


def test_a_variant_that_failed_on_an_image_is_not_what_to_look_at(project, image):
    first = review(project, image).variant
    run = project.run()
    for file in (run.root / "units").glob("*.json"):
        record = read_json(file)
        for outcome in record.get("outcomes", ()):
            if (outcome["image"], outcome["variant"]) == (image, first):
                outcome |= {"status": "failed", "message": "out of memory", "objects": 0}
        write_json(file, record)
    assert [o["status"] for o in run.outcomes()].count("failed") == 1
    found = review(project, image)
    assert found.variant != first and found.support
    assert {one.image: one.variant for one in review_order(project)}[image] == found.variant
    assert image not in {one.image for one in review_order(project, variant=first)}
    with pytest.raises(NotFoundError, match="failed on"):
        review(project, image, variant=first)


def test_a_map_of_another_picture_is_refused(project, image, tmp_path):
    found = review(project, image)
    source = project.source_file(project.image(image))
    tifffile.imwrite(source, 5000 - tifffile.imread(source))
    for name in ("map.png", "map.tif"):
        with pytest.raises(ImageError, match="changed"):
            write_map(project, found, tmp_path / name)
        assert not (tmp_path / name).exists()
