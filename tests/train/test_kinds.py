"""Units of a training: regions, kinds one after the other, time, sparse truth, damage."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.errors import InputError, ProjectError, WeightsError, WorkerError  # noqa: E402
from opsef_bridge.files import file_sha256, read_json, write_json  # noqa: E402
from opsef_bridge.project import read_csv  # noqa: E402
from opsef_bridge.rois.truth import Box, Whole, add_truth  # noqa: E402
from opsef_bridge.sweep import Executor  # noqa: E402
from opsef_bridge.train import judging, kinds, takeover  # noqa: E402
from opsef_bridge.train.colour import StainAugmentation, restain  # noqa: E402
from opsef_bridge.train.corrections import (  # noqa: E402
    CorrectionWish,
    dataset_of_corrections,
    summary,
)
from opsef_bridge.train.data import Sample  # noqa: E402
from opsef_bridge.train.dataset import CARD, content_key, read_card  # noqa: E402
from opsef_bridge.train.loop import UNetLearner  # noqa: E402
from opsef_bridge.train.networks import Network  # noqa: E402
from opsef_bridge.train.places import network_folder, weights_of  # noqa: E402
from opsef_bridge.train.planning import RunWish, plan_grid, plan_run  # noqa: E402
from opsef_bridge.train.promote import promote  # noqa: E402
from opsef_bridge.train.running import run_training, training_status  # noqa: E402
from opsef_bridge.train.transfer import fine_tuned  # noqa: E402
from tests.train.labelled_project import project_of, save, squares  # noqa: E402
from tests.train.training_project import (  # noqa: E402
    TINY,
    carry_out,
    dataset_project,
    samples_given,
    write_train,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def project(tmp_path):
    return dataset_project(tmp_path / "p")


def wish(**more) -> RunWish:
    return RunWish("unet", start="random", settings=TINY, every=2, train_images=1, **more)


def test_regions_and_kinds_one_after_the_other(project):
    write_train(
        project,
        "train:\n  networks:\n    u: {engine: unet, batch: 2, crop: 64, width: 8, depth: 2}\n"
        "  augmentation: elastic\n  regions: 4\n  passes: 2\n  order: sequential\n"
        "  train_images: 1\n",
    )
    plan = plan_grid(project)
    run = carry_out(project, plan)
    (one,) = plan.networks
    folder = network_folder(run, one.id)
    assert sorted(file.name for file in folder.glob("stage-*")) == ["stage-1", "stage-2"]
    card = weights_of(run, one).card
    # Four regions twice, two at a time, are four steps: two for each kind.
    assert card["training"]["steps"] == 4 and card["data"]["images"] == 4
    assert card["data"]["regions"] == 4 and "opsef_bridge" in card["versions"]
    steps = [float(row["step"]) for row in read_csv(run.root / "tables" / "curves.csv")]
    assert steps == sorted(steps) and steps[-1] == 4
    assert card["recipe"]["augmentation"]["blur"] == 0


@given(st.integers(1, 10_000), st.integers(1, 30))
def test_kinds_share_all_steps(steps, number):
    shares = kinds.shared_steps(steps, number)
    assert len(shares) == number and min(shares) >= 1
    assert sum(shares) == max(steps, number)
    assert shares == sorted(shares, reverse=True) and shares[0] - shares[-1] <= 1


def test_a_sequence_of_kinds_does_every_step(project):
    write_train(
        project,
        "train:\n  networks:\n    u: {engine: unet, batch: 2, crop: 64, width: 8, depth: 2}\n"
        "  steps: 5\n  order: sequential\n  train_images: 1\n",
    )
    plan = plan_grid(project)
    run = carry_out(project, plan)
    (one,) = plan.networks
    folder = network_folder(run, one.id)
    assert weights_of(run, one).card["training"]["steps"] == 5
    assert read_json(folder / "progress.json") | {"loss": 0} == {
        "step": 5, "steps": 5, "loss": 0, "seconds_left": 0.0
    }  # fmt: skip
    ends = [read_csv(folder / f"stage-{n}" / "curves.csv")[-1]["step"] for n in (1, 2)]
    assert ends == ["3", "2"]


@pytest.mark.parametrize("engine", ["unet", "stardist", "fpn2ws"])
def test_a_network_from_weights_learns_more_gently(engine):
    made = kinds.learner_of(engine)
    usual, gentle = made.Settings(), fine_tuned(made.Settings())

    def found(weights, **settings):
        return kinds._settings(made, Network("", "", engine, "", "", weights=weights,
                               weights_key=weights, settings=settings))  # fmt: skip

    assert 0 < gentle.rate < usual.rate
    assert (found("w").rate, found("w").warm_up) == (gentle.rate, gentle.warm_up)
    assert (found("").rate, found("").warm_up) == (usual.rate, usual.warm_up)
    # What the user says counts.
    assert found("w", rate=0.5).rate == 0.5
    assert found("w", rate=0.5).warm_up == gentle.warm_up
    assert found("w", warm_up=45).warm_up == 45


@pytest.mark.parametrize(("settings", "steps", "expected"), [
    ({}, 1000, 50), ({}, 45, 4), ({"warm_up": 30}, 45, 30),
])  # fmt: skip
def test_a_short_training_is_warm_before_it_is_over(settings, steps, expected):
    made = kinds.learner_of("unet")
    one = Network("", "", "unet", "", "", settings=settings)
    found = kinds._of_length(steps, kinds._settings(made, one), one)
    assert (found.steps, found.warm_up) == (steps, expected)


def test_minutes_are_measured_once(project):
    plan = plan_run(project, wish(cycles={"minutes": 0.002}))
    run = carry_out(project, plan)
    (one,) = plan.networks
    told = read_json(network_folder(run, one.id) / "steps.json")
    assert told["minutes"] == 0.002 and told["steps"] >= 1
    assert weights_of(run, one).card["recipe"]["steps"] == told["steps"]


def test_a_damaged_dataset_stops_before_the_first_step(project):
    file = next((project.dataset_folder() / "images").glob("*.tif"))
    pixels = tifffile.imread(file)
    tifffile.imwrite(file, pixels + 1)
    with pytest.raises(ProjectError, match="is damaged"):
        carry_out(project, plan_run(project, wish(cycles={"steps": 2})))


class Stop(Exception):
    """What ends a unit in its middle."""


def test_status_of_a_training_that_was_stopped(project):
    def stop(message: str, *_: int) -> None:
        if "infers" in message:
            raise Stop

    with pytest.raises(Stop):
        carry_out(project, plan_run(project, wish(cycles={"steps": 2})), stop)
    status = training_status(project.training())
    assert status.exit_code == 1
    assert {row["kind"]: row["state"] for row in status.units} == {
        "dataset": "done", "train": "done", "infer": "waiting", "score": "waiting",
        "report": "waiting",
    }  # fmt: skip
    train = next(row for row in status.units if row["kind"] == "train")
    assert (train["step"], train["steps"], train["seconds_left"]) == (2, 2, 0)


def test_an_image_that_fails_counts_as_if_nothing_were_found(project, monkeypatch):
    real = judging.segment

    def fail_once(loaded, place, item, *parameters):
        if item.name == tests[0]:
            raise WorkerError("no memory")
        return real(loaded, place, item, *parameters)

    card = read_card(project.dataset_folder())
    tests = sorted(one["name"] for one in card["samples"] if one["split"] == "test")
    monkeypatch.setattr(judging, "segment", fail_once)
    run = carry_out(project, plan_run(project, wish(cycles={"steps": 2})))
    rows = [row for row in read_csv(run.root / "tables" / "scores.csv")
            if row["image"] == tests[0] and row["threshold"] == "0.5"]  # fmt: skip
    assert [(row["tp"], row["fp"], row["fn"]) for row in rows] == [("0", "0", "12")]
    assert f"n0001 on {tests[0]}: no memory" in run.report_file.read_text()
    assert training_status(run).failed == 1


def test_weights_that_changed_since_are_refused(project):
    run = carry_out(project, plan_run(project, wish(cycles={"steps": 2}, name="first")))
    shutil.copytree(run.root / "models", project.models_folder / "first")
    plan = plan_run(project, RunWish("unet", start="first", settings=TINY, cycles={"steps": 2}))
    card = project.models_folder / "first" / "first.json"
    card.write_text(card.read_text().replace('"input": {', '"input": {"more": 1,'))
    with pytest.raises(WeightsError, match="planned with"):
        carry_out(project, plan)


def test_a_training_starts_from_a_file_outside_of_the_project(project, tmp_path):
    first = carry_out(project, plan_run(project, wish(cycles={"steps": 2}, name="first")))
    shutil.move(first.root / "models", tmp_path / "outside")
    shutil.rmtree(first.root)
    file = tmp_path / "outside" / "first.onnx"
    plan = plan_run(project, RunWish("unet", start=str(file), settings={"batch": 2, "crop": 64},
                    cycles={"steps": 1}, every=2, train_images=1, name="second"))  # fmt: skip
    run = carry_out(project, plan)
    card = weights_of(run, plan.networks[-1]).card
    assert card["parent"]["sha256"] == file_sha256(file)
    assert str(tmp_path) not in str(card)
    assert training_status(run).exit_code == 0
    file.unlink()
    with pytest.raises(WeightsError, match="compared with first, which it started from") as error:
        promote(project, "second", device="cpu")
    assert "--force" in error.value.hint
    assert promote(project, "second", force=True, device="cpu").rows == []


@pytest.mark.parametrize("unit", ["train", "train-infer", "train-score"])
def test_a_dataset_that_was_exchanged_since_is_refused(project, unit):
    def stop(message: str, *_: int) -> None:
        if {"train": "n0001 step", "train-infer": "infers", "train-score": "scores"}[unit] in (
            message
        ):
            raise Stop

    plan = plan_run(project, wish(cycles={"steps": 2}))
    with pytest.raises(Stop):
        carry_out(project, plan, stop)
    file = project.dataset_folder() / CARD
    card = read_json(file)
    card["samples"] = card["samples"][1:]
    write_json(file, card | {"key": content_key(card["samples"])})
    with pytest.raises(InputError, match="d0001 is another dataset"):
        carry_out(project, plan)


def test_a_sample_whose_name_looks_like_a_plane_is_not_learned_from_unasked(project):
    folder = project.dataset_folder()
    card = read_card(folder)
    mine, other = [one for one in card["samples"] if one["split"] == "train"][:2]
    for part in ("images", "labels"):
        (folder / part / f"{other['name']}.tif").rename(folder / part / f"{mine['name']}_z2.tif")
    other["files"] = {k.replace(other["name"], f"{mine['name']}_z2"): v
                      for k, v in other["files"].items()}  # fmt: skip
    other["name"] = f"{mine['name']}_z2"
    one = Network("n1", "u", "unet", "d0001", "", images=(mine["name"],))
    found = kinds._samples(folder, card, one, "train")
    assert [sample.name for sample in found] == [mine["name"]]


def test_weights_that_were_deleted_are_made_again(project):
    plan = plan_run(project, wish(cycles={"steps": 2}, name="first"))
    executor = Executor(workers=1)
    run = project.training(run_training(project, plan, executor).training)
    file = run.root / "models" / "first.onnx"
    before = file.read_bytes()
    file.unlink()
    # Another name is another training: it goes on with the checkpoint of the first.
    other = carry_out(project, plan_run(project, wish(cycles={"steps": 2}, name="second")))
    assert weights_of(
        other, plan_run(project, wish(cycles={"steps": 2}, name="second")).networks[0]
    )
    done = run_training(project, plan, executor)
    assert (done.training, done.new, done.exit_code) == (run.id, True, 0)
    assert file.read_bytes() == before
    assert weights_of(run, plan.networks[0]).card["evaluations"]


@pytest.fixture
def corrected(tmp_path):
    """Six images; three are vouched for in a box only, the others as a whole."""
    made = project_of(tmp_path / "c", {f"s{n}.tif": squares(n)[0] for n in range(6)})
    for number, entry in enumerate(made.images()):
        revision = save(made, entry.id, squares(number)[1])
        scope = Box(0, 0, 40, 24) if number < 3 else Whole()
        add_truth(made, entry.id, revision, scope, author="ada")
    return made


def test_corrections_become_a_candidate_that_is_judged_beside_its_parent(corrected):
    wished = CorrectionWish(author="ada", rehearse="none")
    made = dataset_of_corrections(corrected, wished)
    assert dataset_of_corrections(corrected, wished).new is False
    plan = plan_run(
        corrected,
        RunWish("unet", made.card["id"], "nuclei-unet", {"steps": 2}, settings={"batch": 1,
                "crop": 64}, every=2, train_images=1),
    )  # fmt: skip
    run = carry_out(corrected, plan)
    told = summary(corrected, run.id)
    assert told["parent"] == "nuclei-unet" and told["dataset"] == made.card["id"]
    value = told["scores"]["candidate"]["0.7"]["value"] - told["scores"]["parent"]["0.7"]["value"]
    assert told["gain"]["0.7"]["value"] == pytest.approx(value, abs=2e-4)
    assert told["words"] and told["candidate"] in told["words"][0]


def test_sparse_truth_and_a_network_that_cannot_mask_it(corrected, monkeypatch):
    made = dataset_of_corrections(corrected, CorrectionWish(author="ada", rehearse="none"))
    part = {one["name"] for one in made.card["samples"]
            if one["known_pixels"] < np.prod(one["shape"]) and one["split"] == "train"}  # fmt: skip
    assert part
    monkeypatch.setattr(type(kinds.learner_of("unet")), "masks_loss", False)
    with pytest.raises(InputError, match="only a part"):
        carry_out(corrected, plan_run(corrected, wish(cycles={"steps": 2})))


def test_nothing_is_vouched_for(tmp_path):
    empty = project_of(tmp_path / "e", {"s.tif": squares(0)[0]})
    with pytest.raises(InputError, match="vouched"):
        dataset_of_corrections(empty)


def test_a_folder_whose_copy_was_killed_is_not_taken_for_whole(tmp_path, monkeypatch):
    source, target = tmp_path / "earlier", tmp_path / "now" / "regions"
    source.mkdir()
    for name in ("a.npy", "b.npy"):
        (source / name).write_text(name)
    copied: list[str] = []

    def copy(file, place):
        if copied:
            raise KeyboardInterrupt
        copied.append(file.name)
        place.write_bytes(file.read_bytes())

    monkeypatch.setattr(takeover.shutil, "copyfile", copy)
    with pytest.raises(KeyboardInterrupt):
        takeover.copy_folder(source, target)
    assert copied == ["a.npy"]
    assert not target.exists()
    monkeypatch.undo()
    takeover.copy_folder(source, target)
    assert sorted(file.name for file in target.iterdir()) == ["a.npy", "b.npy"]


class NeedsObjects(UNetLearner):
    """A learner that refuses what has no object, as that of Cellpose does."""

    def check(self, samples, settings):
        super().check(samples, settings)
        if not any((sample.labels > 0).any() for sample in samples):
            raise InputError("no sample has an object")


@pytest.mark.parametrize("order, stages", [("sequential", 2), ("joint", 0)])
def test_a_kind_without_an_object_goes_with_the_others(tmp_path, order, stages):
    def sample(kind: str, number: int) -> Sample:
        image, labels = squares(number, (64, 64))
        labels = labels * (kind != "empty")
        return Sample(f"{kind}{number}", image.astype(np.float32) / 1300, labels, "", kind)

    some = [sample(kind, n) for kind in ("round", "empty", "flat") for n in range(2)]
    one = Network("", "", "unet", "", "", order=order, every=2)
    settings = replace(UNetLearner.Settings(), steps=2, **TINY)
    # Of round objects nothing is in val, of flat ones only what is empty.
    val = [sample("flat", 7), sample("empty", 8)]
    val[0].labels[:] = 0
    val.append(sample("other", 9))
    trained = kinds._stages(NeedsObjects(), one, some, {"samples": []}, val, settings, tmp_path,
                            None, lambda step, of, loss: None, False)  # fmt: skip
    assert trained.steps == 2 and trained.val_loss is not None
    assert len(list(tmp_path.glob("stage-*"))) == stages


@pytest.mark.parametrize("regions", [0, 8])
def test_bundled_images_are_rehearsed_beside_each_kind(tmp_path, monkeypatch, regions):
    given = samples_given(monkeypatch)
    image, labels = squares(0, (64, 64))
    some = [
        Sample(name, image.astype(np.float32) / 1300, labels, "", kind)
        for name, kind in [
            ("a", "round"), ("b", "flat"), *((f"x{n}", "bundled-small") for n in range(4)),
        ]
    ]  # fmt: skip
    card = {"samples": [{"name": f"x{n}", "source": "bundled"} for n in range(4)]}
    one = Network("", "", "unet", "", "", order="sequential", every=2, regions=regions)
    settings = replace(UNetLearner.Settings(), steps=2, **TINY)
    kinds._stages(UNetLearner(), one, some, card, [], settings, tmp_path, None,
                  lambda step, of, loss: None, False)  # fmt: skip
    theirs = [f"x{n}" for n in range(4)]
    times = 1 if regions else 2  # regions of all kinds are as many already
    names = [[sample.name for sample in samples] for samples in given]
    assert names == [["b"] * times + theirs, ["a"] * times + theirs]


def test_without_an_augmentation_colours_stay():
    still = Network("", "", "stardist", "", "", augmentation="none")
    light = kinds._light(StainAugmentation(), still)
    image = np.random.default_rng(0).random((9, 9, 3)).astype(np.float32)
    np.testing.assert_array_equal(restain(np.random.default_rng(1), image, light), image)
    assert kinds._light(StainAugmentation(), replace(still, augmentation="opsef")).blur > 0


def test_weights_of_colour_images_and_grey_regions(project):
    of_colour = RunWish(
        "stardist", start="he-stardist", augmentation="zaki", regions=2, cycles={"steps": 1}
    )
    with pytest.raises(InputError, match="he-stardist are of colour images"):
        carry_out(project, plan_run(project, of_colour))
