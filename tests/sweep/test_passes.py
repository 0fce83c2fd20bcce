"""What a pass gets to see, what it needs, and what it chose: colour, memory, records."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from opsef_bridge.engines import find_weights
from opsef_bridge.engines.registry import SHIPPED
from opsef_bridge.errors import ConfigError
from opsef_bridge.files import read_json, write_json
from opsef_bridge.project import read_csv
from opsef_bridge.sweep import plan_sweep


def spots(count: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Bright squares on nothing."""
    plane = np.zeros(shape, np.uint8)
    for number in range(count):
        plane[8:20, 4 + 20 * number : 16 + 20 * number] = 200
    return plane


def red_and_green() -> np.ndarray:
    """Three spots in red, below a green light that leaves one spot of its own to see."""
    return np.stack([spots(3), np.maximum(spots(1), spots(0) + 60), spots(0)], axis=-1)


def counts(bench, project) -> dict[str, int]:
    """Objects by slug."""
    result = bench.sweep(project)
    run = project.run(result.run)
    return {row["slug"]: int(row["objects"]) for row in read_csv(run.variants_file)}


def probe(**parameters) -> dict:
    return {"probe": {"engine": "probe", "threshold": 0.6, **parameters}}


def test_colour_reaches_the_engine_that_wants_it_and_grey_the_others(bench):
    project = bench.project({"a.tif": red_and_green()}, models=probe(colour=[True, False]))
    found = counts(bench, project)
    assert found == {
        "raw_probe_colour-True_threshold-0.6": 3,
        "raw_probe_colour-False_threshold-0.6": 1,
    }


def test_recipes_work_on_each_sample_and_boxes_cut_planes(bench):
    colour = red_and_green()
    project = bench.project(
        {"a.tif": np.concatenate([colour, colour], axis=1)},  # the box is one half
        models=probe(colour=True),
        preprocess={"dark": [{"invert": {}}], "binned": [{"bin": {"factor": 2}}]},
        sweep={"crop": 64},
    )
    # Inverted, what lies around the spots is one object.
    assert counts(bench, project) == {
        "dark_probe_colour-True_threshold-0.6": 1,
        "binned_probe_colour-True_threshold-0.6": 3,
    }
    for variant in ("v0001", "v0002"):
        assert project.labels("run-0001", variant, project.images()[0].id).shape == (48, 64)


def test_channels_go_together_to_the_engine_that_wants_several(bench, tmp_path):
    file = tmp_path / "two.tif"
    channels = np.stack([spots(1), spots(2)])
    tifffile.imwrite(file, channels, imagej=True, metadata={"axes": "CYX"})
    images = {"segment": {"channel": [1, 0]}}
    project = bench.project({"a.tif": file}, models=probe(colour=[True, False]), images=images)
    assert set(counts(bench, project).values()) == {2}
    bench.configure(project.root, models=probe(), images={"segment": {"channel": [1, 2]}})
    with pytest.raises(ConfigError, match="channel is 2, the images have 2"):
        plan_sweep(project)


def test_a_pass_that_does_not_fit_is_made_lighter_and_the_record_says_so(bench):
    project = bench.project({"a.tif": spots(2)}, models=probe(hungry=2))
    assert set(counts(bench, project).values()) == {2}
    run = project.run("run-0001")
    record = read_json(run.unit_file("u0001"))
    assert record["lighter"] == ["batch 2", "batch 1"]
    assert read_json(run.root / "run.json")["lighter"] == ["batch 2", "batch 1"]


def test_a_pass_that_never_fits_fails_alone_and_says_what_was_tried(bench):
    project = bench.project({"a.tif": spots(2)}, models=probe(hungry=[3, 0]))
    result = bench.sweep(project)
    assert (result.ok, result.failed) == (1, 1)
    (failed,) = [o for o in project.run("run-0001").outcomes() if o["status"] == "failed"]
    assert failed["code"] == "out-of-memory"
    assert "batch 2, batch 1 on the cpu" in failed["message"]
    assert "MemoryError: batch 1 does not fit" in failed["message"]
    assert "scale" in failed["hint"]


def test_what_an_engine_chose_is_recorded_by_image(bench):
    project = bench.project({"a.tif": spots(1), "b.tif": spots(2) // 2}, models=probe())
    bench.sweep(project)
    rows = read_csv(project.run("run-0001").outcomes_file)
    assert [json.loads(row["chosen"]) for row in rows] == [{"top": 200.0}, {"top": 100.0}]


def test_the_median_of_what_was_chosen_is_shown(bench):
    """The scale that an image was really seen at counts, not the guess of the plan."""
    images = {"a.tif": spots(1), "b.tif": spots(2) // 2}
    project = bench.project(images, models=probe(zoom=0.0025))
    bench.sweep(project)
    run = project.run("run-0001")
    (row,) = read_csv(run.variants_file)
    assert float(row["scale"]) == 0.375
    found = {o["image"][:6]: o["diameter"] for o in run.outcomes()}
    seen = np.median([found["i00001"] * 0.5, found["i00002"] * 0.25])
    assert float(row["object_px"]) == round(seen, 1)
    text = run.report_file.read_text("utf-8")
    assert "top chosen (median) 150" in text and ">0.375</td>" in text
    with tifffile.TiffFile(run.compare_file("i00001-a")) as file:
        labels, planes = file.imagej_metadata["Labels"], file.asarray().reshape(4, *spots(1).shape)
    assert "| scale 0.5 chosen | top 200 chosen |" in labels[0]
    assert (planes[0] != planes[1]).any(), "what the network saw is coarser"


def test_another_card_is_another_variant_and_not_a_cached_one(bench):
    """What a card tells the engine decides labels as much as the file does."""
    project = bench.project(
        {"a.tif": spots(2)}, models={"unet": {"engine": "unet", "weights": "mine"}}
    )
    shipped = find_weights("unet", "nuclei-unet")
    folder = project.models_folder / "mine"
    folder.mkdir(parents=True)
    (folder / "nuclei-unet.onnx").write_bytes(shipped.path.read_bytes())
    card = read_json(SHIPPED / "nuclei-unet.json") | {"name": "mine"}
    write_json(folder / "mine.json", card)
    (before,) = plan_sweep(project).variants
    write_json(folder / "mine.json", card | {"input": card["input"] | {"percentiles": [5, 99]}})
    (after,) = plan_sweep(project).variants
    write_json(folder / "mine.json", card | {"note": "words decide nothing"})
    (again,) = plan_sweep(project).variants
    assert before.weights_sha256 == after.weights_sha256
    assert before.key != after.key
    assert before.key == again.key


def test_two_forms_of_one_network_are_one_voice(bench):
    project = bench.project({"a.tif": spots(2)}, models={
        "own": {"engine": "unet", "weights": "nuclei-unet"},
        "other": {"engine": "unet", "weights": "mine"},
    })  # fmt: skip
    shipped = find_weights("unet", "nuclei-unet")
    folder = project.models_folder / "mine"
    folder.mkdir(parents=True)
    (folder / "nuclei-unet.onnx").write_bytes(shipped.path.read_bytes())
    card = read_json(SHIPPED / "nuclei-unet.json") | {"name": "mine"}
    write_json(folder / "mine.json", card | {"input": card["input"] | {"percentiles": [5, 99]}})
    families = {v.model: v.family for v in plan_sweep(project).variants}
    assert families == {"own": "unet:nuclei-unet", "other": "unet:nuclei-unet"}
    write_json(folder / "mine.json", {**card, "family": "unet:other"})
    families = {v.model: v.family for v in plan_sweep(project).variants}
    assert families["other"] == "unet:other"
