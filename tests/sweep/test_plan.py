"""The plan: what is computed, under which key. Pure: no file is read."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from opsef_bridge.config import Config, parse_config
from opsef_bridge.engines import Weights
from opsef_bridge.engines.watershed import Watershed
from opsef_bridge.errors import ConfigError, NotFoundError
from opsef_bridge.preprocess import STEPS
from opsef_bridge.project import ImageEntry
from opsef_bridge.sweep import plan as planning
from opsef_bridge.sweep import planned as pieces
from opsef_bridge.sweep.plan import make_batch_plan, make_plan
from opsef_bridge.sweep.planned import Plan, Variant, find_variant
from opsef_bridge.sweep.planned_units import PASSES_PER_UNIT
from opsef_bridge.sweep.sample import sample_images

TEXT = """\
opsef: 1
images: {source: data, segment: {channel: 0}}
preprocess: {raw: [], smooth: [{median: {radius: 1}}, invert]}
models:
  classic: {engine: watershed, scale: [0.5, 1.0], threshold: [otsu, 0.8]}
  unet: {engine: unet, threshold: [0.4, 0.6]}
"""
WEIGHTS = {
    "classic": Weights("", "watershed"),
    "unet": Weights("nuclei", "unet", sha256="aa"),
    "again": Weights("", "watershed"),
}
IMAGES = [
    ImageEntry(f"i{n:05d}-x", f"x{n}.tif", sha256=f"{n}", axes="YX", shape=(600, 700))
    for n in (1, 2)
]
BOXES = {"i00001-x": (44, 94, 512, 512), "i00002-x": None}


def planned(text: str = TEXT, images=IMAGES, weights=WEIGHTS, boxes=BOXES) -> Plan:
    return make_plan(parse_config(text), images, weights, boxes)


def label_keys(plan: Plan) -> dict[tuple[str, str], str]:
    """Label keys by image and slug."""
    return {(i.id, v.slug): v.label_key(i) for i in plan.images for v in plan.variants}


def pass_keys(plan: Plan) -> set[str]:
    return {v.pass_key(i) for i in plan.images for v in plan.variants}


def test_variants_multiply_in_the_order_of_the_file():
    plan = planned()
    assert [variant.id for variant in plan.variants] == [f"v{n:04d}" for n in range(1, 13)]
    assert [variant.slug for variant in plan.variants][:5] == [
        "raw_classic_scale-0.5_threshold-otsu",
        "raw_classic_scale-0.5_threshold-0.8",
        "raw_classic_scale-1_threshold-otsu",
        "raw_classic_scale-1_threshold-0.8",
        "smooth_classic_scale-0.5_threshold-otsu",
    ]
    assert plan.variants[-1].caption() == "smooth | unet | threshold 0.6"
    assert {v.family for v in plan.variants} == {"watershed", "unet:nuclei"}


def test_passes_are_shared_by_thresholds():
    plan = planned()
    assert plan.passes() == 2 * (2 * 2 + 2 * 1)
    assert len(pass_keys(plan)) == plan.passes()
    assert len(set(label_keys(plan).values())) == 2 * 12


def test_another_threshold_keeps_all_other_keys():
    before, after = planned(), planned(TEXT.replace("[0.4, 0.6]", "[0.5, 0.4, 0.6]"))
    old, new = label_keys(before), label_keys(after)
    assert old.items() < new.items()
    assert {slug for _, slug in new.keys() - old.keys()} == {
        "raw_unet_threshold-0.5", "smooth_unet_threshold-0.5",
    }  # fmt: skip
    assert pass_keys(after) == pass_keys(before)
    assert after.key != before.key


CHANGES = {
    "channel": ("channel: 0", "channel: 1"),
    "projection": ("source: data,", "source: data, projection: max,"),
    "axes": ("source: data,", "source: data, axes: XY,"),
}


@pytest.mark.parametrize("old_new", CHANGES.values(), ids=CHANGES)
def test_what_is_read_is_in_every_key(old_new):
    before, after = planned(), planned(TEXT.replace(*old_new))
    assert not set(label_keys(before).values()) & set(label_keys(after).values())
    assert not pass_keys(before) & pass_keys(after)


@pytest.mark.parametrize(
    "change",
    [{"sha256": "other"}, {"series": 1}, {"axes": "ZYX", "shape": (2, 3, 4)}],
    ids=lambda change: min(change),
)
def test_the_image_is_in_its_keys_and_in_no_others(change):
    before, after = planned(), planned(images=[replace(IMAGES[0], **change), IMAGES[1]])
    same = {key for key, value in label_keys(before).items() if label_keys(after)[key] == value}
    assert {image for image, _ in same} == {"i00002-x"}


def test_names_and_places_are_in_no_key():
    moved = [replace(e, source="elsewhere/" + e.source, mtime=5.0, unit="um") for e in IMAGES]
    moved = [replace(e, group="g", pixel_size_x=0.3, more={"dose": "1"}) for e in moved]
    renamed = planned(TEXT.replace("unet: {", "net: {"), moved, WEIGHTS | {"net": WEIGHTS["unet"]})
    assert set(label_keys(renamed).values()) == set(label_keys(planned()).values())
    assert pass_keys(renamed) == pass_keys(planned())


@pytest.mark.parametrize("box", [None, (44, 94, 512, 256), (45, 94, 512, 512)], ids=str)
def test_the_box_is_in_the_keys(box):
    before, after = planned(), planned(boxes=BOXES | {"i00001-x": box})
    changed = {k for k, v in label_keys(before).items() if label_keys(after)[k] != v}
    assert changed == {key for key in label_keys(before) if key[0] == "i00001-x"}
    assert len(pass_keys(before) & pass_keys(after)) == plan_passes_of_one()


def plan_passes_of_one() -> int:
    return planned(images=IMAGES[1:]).passes()


def test_the_recipe_is_in_its_keys_alone():
    before, after = planned(), planned(TEXT.replace("radius: 1", "radius: 2"))
    changed = {s for (i, s), v in label_keys(before).items() if label_keys(after)[i, s] != v}
    assert changed == {variant.slug for variant in before.variants if variant.recipe == "smooth"}


def test_the_order_of_steps_is_in_the_keys():
    swapped = TEXT.replace("[{median: {radius: 1}}, invert]", "[invert, {median: {radius: 1}}]")
    assert (
        len(set(label_keys(planned()).values()) & set(label_keys(planned(swapped)).values())) == 12
    )


def test_defaults_that_are_written_out_change_nothing():
    spelt = TEXT.replace("{median: {radius: 1}}", "median").replace(
        "engine: unet,", "engine: unet, min_size: 20,"
    )
    assert set(label_keys(planned(spelt)).values()) == set(label_keys(planned()).values())


def test_the_weights_are_in_the_keys_of_their_model_by_their_content():
    other = WEIGHTS | {"unet": replace(WEIGHTS["unet"], sha256="bb")}
    same = WEIGHTS | {"unet": replace(WEIGHTS["unet"], name="a copy")}
    before, after = label_keys(planned()), label_keys(planned(weights=other))
    changed = {slug for (i, slug), key in before.items() if after[i, slug] != key}
    assert {slug.split("_")[1] for slug in changed} == {"unet"} and len(changed) == 4
    assert label_keys(planned(weights=same)) == before


def test_postprocessing_is_in_the_label_keys_but_costs_no_pass():
    after = planned(TEXT + "postprocess: {fill_holes: true}\n")
    assert not set(label_keys(after).values()) & set(label_keys(planned()).values())
    assert pass_keys(after) == pass_keys(planned())


def test_versions_are_in_the_keys(monkeypatch):
    before = planned()
    with monkeypatch.context() as patch:
        patch.setattr(Watershed, "version", "next")
        after = planned()
        changed = {s for (i, s), v in label_keys(before).items() if label_keys(after)[i, s] != v}
        assert {slug.split("_")[1] for slug in changed} == {"classic"} and len(changed) == 8
    with monkeypatch.context() as patch:
        patch.setitem(STEPS, "median", replace(STEPS["median"], version=99))
        assert len(set(label_keys(planned()).values()) & set(label_keys(before).values())) == 12
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "STAGE", "next")
        assert not set(label_keys(planned()).values()) & set(label_keys(before).values())
    assert label_keys(planned()) == label_keys(before)


def test_settings_that_come_twice_count_once():
    twice = TEXT.replace("[0.5, 1.0]", "[0.5, 1.0, 0.5, 1]")
    assert planned(twice).variants == planned().variants
    again = planned(TEXT + "  again: {engine: watershed, scale: [1, 2]}\n")
    made = [v.slug for v in again.variants if v.model == "again"]
    assert made == ["raw_again_scale-2", "smooth_again_scale-2"]


def test_slugs_are_unique_where_short_numbers_are_equal():
    plan = planned(TEXT.replace("[0.4, 0.6]", "[0.4000001, 0.4000002]"))
    slugs = [variant.slug for variant in plan.variants]
    assert len(set(slugs)) == len(slugs) == 12


def test_units_make_every_label_once_and_needs_come_before():
    plan = planned(images=[replace(IMAGES[0], id=f"i{n:05d}-x", sha256=f"{n}") for n in range(40)])
    made = Counter(made for unit in plan.units for made in unit.makes)
    expected = {(i.id, v.id, v.label_key(i)) for i in plan.images for v in plan.variants}
    assert set(made) == expected and set(made.values()) == {1}
    assert [unit.id for unit in plan.units] == [f"u{n:04d}" for n in range(1, len(plan.units) + 1)]
    seen: set[str] = set()
    for unit in plan.units:
        assert set(unit.needs) <= seen
        seen.add(unit.id)
    assert next(unit.kind for unit in plan.units if not unit.makes) == "rank"
    turns = [unit.turn for unit in plan.units]
    assert turns == sorted(turns, key=list(dict.fromkeys(turns)).index), "a turn is one block"


def test_a_unit_is_of_one_model_and_of_minutes():
    plan = planned(images=[replace(IMAGES[0], id=f"i{n:05d}-x", sha256=f"{n}") for n in range(100)])
    models = {variant.id: variant.model for variant in plan.variants}
    for unit in (unit for unit in plan.units if unit.kind == "predict"):
        assert {models[v] for _, v, _ in unit.makes} == {unit.inputs["model"]}
        recipes_and_scales = {"classic": 4, "unet": 2}[unit.inputs["model"]]
        assert len({i for i, _, _ in unit.makes}) * recipes_and_scales <= PASSES_PER_UNIT


def test_a_plan_survives_json():
    plan = planned(TEXT + "groups: {a: 'x1*'}\npostprocess: {keep: [{area: [5, null]}]}\n")
    again = Plan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)))
    assert again.variants == plan.variants
    assert (again.images, again.units, again.key) == (plan.images, plan.units, plan.key)
    assert label_keys(again) == label_keys(plan) and pass_keys(again) == pass_keys(plan)
    assert Config(**again.config) == Config(**plan.config)
    assert again == plan


def test_equal_plans_have_equal_keys_and_others_have_not():
    keys = [
        planned().key,
        planned(images=IMAGES[::-1]).key,
        planned(images=IMAGES[:1]).key,
        planned(images=[replace(IMAGES[0], group="g"), IMAGES[1]]).key,
        planned(TEXT + "compare: {top: 3}\n").key,
    ]
    assert len(set(keys)) == len(keys)
    assert planned(TEXT.replace("opsef: 1", "# a comment\nopsef: 1")).key == keys[0]


def test_find_variant_by_id_and_slug():
    plan = planned()
    assert find_variant(plan, "v0003", "run-0001") is plan.variants[2]
    assert find_variant(plan, "raw_unet_threshold-0.4", "run-0001").model == "unet"
    with pytest.raises(NotFoundError, match=r"run-0001 has no variant 'v9'.*v0001 to v0012"):
        find_variant(plan, "v9", "run-0001")


def test_no_image_is_an_error():
    with pytest.raises(ConfigError, match="no image is left"):
        planned(images=[])


def entries(**groups: int) -> list[ImageEntry]:
    made = [group for group, count in groups.items() for _ in range(count)]
    return [ImageEntry(f"i{n:05d}-x", f"{n}", group=g) for n, g in enumerate(made, start=1)]


def drawn_of(images: list[ImageEntry], count, seed: int = 0) -> Counter:
    return Counter(entry.group for entry in sample_images(images, count, seed))


def test_images_are_drawn_evenly_from_the_groups():
    images = entries(a=20, b=20, c=2)
    assert drawn_of(images, 6) == {"a": 2, "b": 2, "c": 2}
    assert drawn_of(images, 10) == {"a": 4, "b": 4, "c": 2}
    assert drawn_of(images, 2) == {"a": 1, "b": 1}
    assert drawn_of(images, "all") == drawn_of(images, 99) == {"a": 20, "b": 20, "c": 2}


def test_the_draw_depends_on_the_seed_and_on_the_own_group_alone():
    images = entries(a=20, b=20)
    first = sample_images(images, 8, 0)
    assert first == sample_images(images, 8, 0) != sample_images(images, 8, 1)
    assert [e.id for e in first] == sorted(e.id for e in first)
    more = [*images, *(replace(e, id="z" + e.id, group="c") for e in images)]
    with_c = [e for e in sample_images(more, 12, 0) if e.group != "c"]
    assert with_c == first


def test_images_that_are_left_out_are_never_drawn():
    images = [replace(e, include=n % 2 == 0) for n, e in enumerate(entries(a=6, b=6))]
    assert all(entry.include for entry in sample_images(images, "all", 0))
    assert len(sample_images(images, "all", 0)) == 6
    assert all(entry.include for entry in sample_images(images, 4, 0))


def adopted_plan() -> tuple[Variant, Variant]:
    variants = planned().variants
    return variants[3], variants[-1]


def test_a_batch_runs_on_each_group_what_it_adopted():
    images = entries(a=2, b=1, none=1)
    first, second = adopted_plan()
    plan = make_batch_plan(parse_config(TEXT), images, {"a": first, "b": second})
    slugs = {variant.id: variant.slug for variant in plan.variants}
    made = {(i, slugs[v]) for unit in plan.units for i, v, _ in unit.makes}
    assert made == {
        ("i00001-x", first.slug), ("i00002-x", first.slug), ("i00003-x", second.slug),
    }  # fmt: skip
    assert [variant.id for variant in plan.variants] == ["v0001", "v0002"]
    assert {image.box for image in plan.images} == {None}
    assert plan.units[-1].kind == "batch"


def test_one_variant_for_all_groups_is_one_variant_of_the_batch():
    first, _ = adopted_plan()
    plan = make_batch_plan(parse_config(TEXT), entries(a=2, b=2), {"a": first, "b": first})
    assert len(plan.variants) == 1
    assert sum(len(unit.makes) for unit in plan.units) == 4


def test_whole_images_of_sweep_and_batch_share_their_keys():
    sweep = planned(boxes={})
    batch = make_batch_plan(parse_config(TEXT), IMAGES, {"default": sweep.variants[3]})
    swept = {key for unit in sweep.units for *_, key in unit.makes}
    assert {key for unit in batch.units for *_, key in unit.makes} < swept


def families(models: str, **weights: Weights) -> dict[str, str]:
    """The family of each model of a plan."""
    text = f"opsef: 1\nimages: {{source: data}}\nmodels: {{{models}}}\n"
    config = parse_config(text)
    plan = make_plan(config, IMAGES, weights, BOXES)
    return {variant.model: variant.family for variant in plan.variants}


def test_one_file_under_two_names_is_one_voice():
    models = "a: {engine: unet}, b: {engine: unet, scale: 0.5}, c: {engine: unet, scale: 2}"
    nuclei = Weights("nuclei", "unet", sha256="aa", card={"family": "unet:nuclei"})
    copy = Weights("mine", "unet", sha256="aa", card={"family": "unet:mine"})
    other = Weights("other", "unet", sha256="bb")
    assert families(models, a=nuclei, b=copy, c=other) == {
        "a": "unet:nuclei", "b": "unet:nuclei", "c": "unet:other"
    }  # fmt: skip
    assert set(families(models, a=copy, b=nuclei, c=other).values()) == {"unet:mine", "unet:other"}


def test_a_family_that_a_card_names_stays():
    models = "a: {engine: unet}, b: {engine: unet, scale: 0.5}, c: {engine: unet, scale: 2}"
    bare = Weights("bare", "unet", sha256="aa")
    made = Weights("made", "unet", sha256="aa", card={"family": "stardist:origin"})
    again = Weights("again", "unet", sha256="aa", card={"family": "unet:third"})
    assert families(models, a=bare, b=made, c=again) == {
        "a": "stardist:origin", "b": "stardist:origin", "c": "unet:third"
    }  # fmt: skip


def test_methods_without_weights_are_no_copies_of_each_other():
    models = "a: {engine: watershed}, b: {engine: watershed, scale: 0.5}"
    nothing = Weights("", "watershed")
    assert set(families(models, a=nothing, b=nothing).values()) == {"watershed"}


@pytest.mark.parametrize("correction", [{"time_step": 7.5}, {"channels": "DAPI|GFP"}])
def test_what_is_corrected_of_an_image_is_another_plan_of_the_same_labels(correction):
    before, after = planned(), planned(images=[replace(IMAGES[0], **correction), IMAGES[1]])
    assert after.key != before.key
    assert label_keys(after) == label_keys(before)
    other = {name: value * 2 for name, value in correction.items()}
    assert planned(images=[replace(IMAGES[0], **other), IMAGES[1]]).key != after.key


def test_a_calibration_alone_gives_the_key_that_it_always_gave(monkeypatch):
    """Of images without time step and channel names, which most are."""
    seen = []
    monkeypatch.setattr(planning, "key_of", lambda *parts: seen.append(parts) or "key")
    sized = replace(IMAGES[0], pixel_size_y=0.5, pixel_size_x=0.5, unit="um")
    planned(images=[sized, IMAGES[1]])
    assert seen[-1][0] == "plan"
    assert seen[-1][-1] == [["i00001-x", {"Y": 0.5, "X": 0.5}, "um"]]
