"""A training that rehearses: what is drawn, what its card says, and what is told afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.files import file_sha256, write_json  # noqa: E402
from opsef_bridge.project import read_csv  # noqa: E402
from opsef_bridge.train.corrections import (  # noqa: E402
    CorrectionWish,
    dataset_of_corrections,
    summary,
)
from opsef_bridge.train.dataset import read_card  # noqa: E402
from opsef_bridge.train.places import plan_of, weights_of  # noqa: E402
from opsef_bridge.train.planning import RunWish, plan_run  # noqa: E402
from opsef_bridge.train.promote import promote  # noqa: E402
from opsef_bridge.train.region_files import read_regions, write_augmented  # noqa: E402
from opsef_bridge.train.seen import remarks_of_plan  # noqa: E402
from tests.train.corrected_project import make_corrected  # noqa: E402
from tests.train.training_project import TINY, carry_out, samples_given  # noqa: E402

WISH = CorrectionWish(author="ada", rehearse="small")
RUN = RunWish("unet", start="random", cycles={"steps": 2.0}, settings=TINY, every=2,
              train_images=1, name="mine")  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three images of which one is learned from, beside bundled ones; ``mine`` learned from it."""
    project = make_corrected(tmp_path_factory.mktemp("rehearsal") / "p", 3, 3)
    dataset_of_corrections(project, WISH)
    with pytest.MonkeyPatch.context() as patch:
        given = samples_given(patch)
        run = carry_out(project, plan_run(project, RUN))
    return project, run, given[0]


def test_half_of_what_is_drawn_is_of_the_person(trained):
    project, run, drawn = trained
    samples = read_card(project.dataset_folder("d0001"))["samples"]
    theirs = {one["name"] for one in samples if one["source"] == "bundled"}
    own = [sample for sample in drawn if sample.name not in theirs]
    assert theirs and 1 / 2 <= len(own) / len(drawn) <= 2 / 3
    learned = {one["name"] for one in samples if one["split"] == "train"}
    assert {sample.name for sample in drawn} == learned
    [one] = [one for one in plan_of(run).networks if one.trained]
    data = weights_of(run, one).card["data"]
    assert data["images"] == len(learned) and set(data["of_images"]) == learned


def test_going_on_from_it_on_another_split_is_told(trained):
    project, _, _ = trained
    kept = plan_run(project, replace(RUN, start="mine", name="next"))
    assert remarks_of_plan(project, kept) == []
    first = read_card(project.dataset_folder("d0001"))["samples"]
    tests = {one["name"] for one in first if one["split"] == "test"}
    for seed in range(1, 20):
        card = dataset_of_corrections(project, replace(WISH, seed=seed)).card
        if {one["name"] for one in card["samples"] if one["split"] == "test"} != tests:
            break
    plan = plan_run(project, replace(RUN, start="mine", name="next"))
    [said] = remarks_of_plan(project, plan)
    assert f"of {card['id']}" in said and "when mine was trained" in said
    run = carry_out(project, plan)
    assert said in run.report_file.read_text(encoding="utf-8")
    assert promote(project, "next", force=True, device="cpu").remarks == (said,)
    # The images of the person are told apart from those of the program.
    words = summary(project, run.id)["words"][-1]
    rows = read_csv(run.root / "tables" / "networks.csv")
    for kind, where in (("default", "on yours (1) next"), ("bundled-small", "ones (1) next")):
        [row] = [r for r in rows if (r["name"], r["split"], r["kind"]) == ("next", "test", kind)]
        assert f"{where} {float(row['f1_0.7']):.3f}, mine " in words, words
    # What its parent saw, it has seen.
    [one] = [one for one in plan.networks if one.trained]
    theirs = {one["pixels_sha256"][:16] for one in first if one["split"] != "test"}
    assert theirs <= set(weights_of(run, one).card["data"]["seen"])


def test_a_network_for_volumes_learns_no_planes(tmp_path):
    project = make_corrected(tmp_path / "p", 3, 3)
    folder = project.models_folder / "deep"
    folder.mkdir(parents=True)
    (folder / "deep.onnx").write_bytes(b"weights")
    card = {"name": "deep", "engine": "stardist", "file": "deep.onnx", "input": {"axes": "ZYX"},
            "sha256": file_sha256(folder / "deep.onnx")}  # fmt: skip
    write_json(folder / "deep.json", card)
    made = dataset_of_corrections(project, CorrectionWish(start="deep", rehearse="all"))
    assert len(made.card["samples"]) == 3
    assert any("deep is a network for volumes" in text for text in made.remarks)


def test_regions_of_bundled_images_are_one_kind_of_two(trained):
    project, _, _ = trained
    wish = replace(RUN, dataset="d0001", augmentation="elastic", regions=4, name="regions")
    run = carry_out(project, plan_run(project, wish))
    [folder] = (run.root / "regions").iterdir()
    found = [region.kind for region in read_regions(folder)]
    assert sorted(found) == ["bundled", "bundled", "default", "default"]


def test_regions_drawn_by_hand_take_bundled_images_as_one_kind_too(trained):
    project, _, _ = trained
    preview = project.root / "regions.tif"
    done = write_augmented(project.dataset_folder("d0001"), "elastic", 6, preview=preview)
    assert done["kinds"] == {"bundled": 3, "default": 3}
