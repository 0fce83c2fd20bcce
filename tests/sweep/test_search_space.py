"""The region that is searched: around the leaders, and never beyond what an engine takes."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from opsef_bridge.config import parse_config
from opsef_bridge.engines import Weights
from opsef_bridge.project import ImageEntry
from opsef_bridge.sweep.plan import make_plan
from opsef_bridge.sweep.ranges import clipped, limits, neighbours
from opsef_bridge.sweep.search_space import make_space
from opsef_bridge.sweep.trials import open_search, pass_key, propose

TEXT = """\
opsef: 1
images: {source: data, scale: 0.5}
preprocess:
  raw: []
  even: [{white_tophat: {radius: 20}}, clahe, {gaussian: {sigma: 1.5, z_sigma: 0}}]
models:
  classic: {engine: watershed, scale: [0.5, 1.0], threshold: [otsu, 0.8, 1.2], min_distance: [3, 9]}
  unet: {engine: unet, scale: 0.7, threshold: [0.1, 0.5, 0.9], tile: [256, 512]}
  cyto: {engine: cellpose, diameter: [auto, 15, 30], cellprob: 0}
  star: {engine: stardist, prob: [0.4, 0.6]}
"""
ENGINES = {"classic": "watershed", "unet": "unet", "cyto": "cellpose", "star": "stardist"}
WEIGHTS = {name: Weights(f"w-{name}", engine, sha256=name) for name, engine in ENGINES.items()}


def planned(text=TEXT):
    image = ImageEntry("i00001-x", "x.tif", sha256="1", axes="YX", shape=(60, 70))
    return make_plan(parse_config(text), [image], WEIGHTS, {})


PLAN = planned()
BY_SLUG = {variant.slug: variant for variant in PLAN.variants}


def space_of(leaders):
    return make_space(PLAN.variants, leaders, PLAN.config["preprocess"], list(WEIGHTS.values()))


def drawn(space, seed):
    """Return a random point."""
    rng = np.random.default_rng(seed)

    def choose(knob):
        if knob.choices:
            return knob.choices[rng.integers(len(knob.choices))]
        if knob.integer:
            return int(rng.integers(knob.low, knob.high + 1))
        return float(rng.uniform(knob.low, knob.high))

    return space.point(choose)


@given(st.lists(st.sampled_from(PLAN.variants), min_size=1, max_size=5), st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_every_point_is_a_variant(leaders, seed):
    space = space_of(leaders)
    point = drawn(space, seed)
    made = space.variant(point)  # the engine takes the values
    assert made.key == made.current_key()
    assert set(space.knobs(point)) == set(point)
    leader = next(one for one in leaders if one.model == made.model)
    same = ("engine", "weights", "weights_sha256", "weights_key", "family", "postprocess", "named")
    assert all(getattr(made, name) == getattr(leader, name) for name in same)
    for part in ("predict", "decode"):
        values, before = getattr(made, part), getattr(leader, part)
        assert all(values[key] == before[key] for key in before if key not in made.named)
    # One that has the same pass by its point has the same pass.
    other = drawn(space, seed + 1)
    if space.pass_part(other) == space.pass_part(point):
        assert pass_key(space.variant(other)) == pass_key(made)


@given(st.lists(st.sampled_from(PLAN.variants), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_leaders_lie_inside(leaders):
    space = space_of(leaders)
    for leader in leaders:
        point = space.of_variant(leader)
        assert point is not None
        assert space.variant(point).key == leader.key
        assert space.variant(point).slug == leader.slug


def test_ranges_end_at_the_neighbours():
    leader = BY_SLUG["raw_classic_scale-1_threshold-0.8_min_distance-9"]
    knobs = {t.key: t for t in space_of([leader]).models["classic"].turned}
    scale, threshold, distance = (
        knobs[key].number for key in ("scale", "threshold", "min_distance")
    )
    assert (scale.low, scale.high, scale.log) == (0.5, 2.0, True)
    assert (threshold.low, threshold.high) == (pytest.approx(0.4), 1.2)
    assert (distance.low, distance.high, distance.integer) == (3, 15, True)
    assert not knobs["threshold"].words.free


def test_words_are_those_of_the_leaders():
    names = ("otsu", "0.8")
    leaders = [BY_SLUG[f"raw_classic_scale-1_threshold-{n}_min_distance-9"] for n in names]
    (words,) = (t.words for t in space_of(leaders).models["classic"].turned if t.key == "threshold")
    assert set(words.choices) == {"otsu", "a number"}


def test_tiles_are_no_knob():
    leaders = [v for v in PLAN.variants if v.model == "unet" and v.recipe == "raw"]
    (tile,) = (t for t in space_of(leaders).models["unet"].turned if t.key == "tile")
    assert tile.number is None and tile.words.choices == (256, 512)


def test_numbers_of_steps_that_the_configuration_names():
    space = space_of([BY_SLUG["even_star_prob-0.4"]])
    turned = {key: knob for _, key, knob in space.recipes["even"].turned}
    assert set(turned) == {"radius", "sigma"}  # no default, no zero, not the bin of images.scale
    assert (turned["radius"].low, turned["radius"].high) == (10, 30)
    made = space.variant({"even: 1 radius": 12, "even: 3 sigma": 1.5, "star: prob": 0.5})
    assert made.recipe == "even-white_tophat.radius-12"
    assert [name for name, _ in made.steps] == ["bin", "white_tophat", "clahe", "gaussian"]
    assert made.steps[1][1]["radius"] == 12


def test_the_scale_that_the_network_sees():
    leader = BY_SLUG["raw_cyto_diameter-15_cellprob-0"]
    made = space_of([leader]).variant({"cyto: diameter": 20.0, "cyto: cellprob": 0.0})
    assert made.scale == pytest.approx(leader.scale * 15 / 20)


def test_outside_is_outside():
    space = space_of([BY_SLUG["raw_star_prob-0.4"]])
    assert space.of_variant(BY_SLUG["even_star_prob-0.4"]) is None
    assert space.of_variant(BY_SLUG["raw_unet_scale-0.7_threshold-0.5_tile-256"]) is None
    narrow = space_of([BY_SLUG["raw_unet_scale-0.7_threshold-0.1_tile-256"]])
    assert narrow.of_variant(BY_SLUG["raw_unet_scale-0.7_threshold-0.9_tile-256"]) is None
    assert narrow.of_variant(BY_SLUG["raw_unet_scale-0.7_threshold-0.5_tile-512"]) is None


@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6, unique=True).map(sorted),
    st.data(),
)
def test_ranges_hold_the_best_and_keep_the_limits(ladder, data):
    best = data.draw(st.lists(st.sampled_from(ladder), min_size=1))
    for log in (False, True):
        low, high = clipped(
            neighbours(ladder, best, log=log), (0.0, 1.0, True, True), best, integer=False
        )
        assert 0 < low <= min(best) and max(best) <= high < 1


def test_limits_of_fields():
    class Some(BaseModel):
        plain: float = Field(1.0, ge=0.05, le=20)
        mixed: Literal["auto"] | Annotated[float, Field(gt=1, lt=100)] = "auto"
        none: float | None = Field(None, gt=0, lt=1)
        free: int = 3

    fields = Some.model_fields
    assert limits(fields["plain"]) == (0.05, 20, False, False)
    assert limits(fields["mixed"]) == (1, 100, True, True)
    assert limits(fields["none"]) == (0, 1, True, True)
    assert limits(fields["free"]) == (-math.inf, math.inf, False, False)


def test_a_space_that_is_used_up_proposes_no_more():
    plan = planned(TEXT[: TEXT.index("models:")] + "models: {unet: {engine: unet, tile: [64, 96]}}")
    leaders = [v for v in plan.variants if v.recipe == "raw"]
    space = space_of(leaders)
    assert space.free()
    half = open_search(space, leaders[:1], {leaders[0].key: 0.5}, seed=0)
    assert [t.variant.key for t in propose(half, 8, 8)] == [leaders[1].key]
    all_known = open_search(space, leaders, dict.fromkeys((v.key for v in leaders), 0.5), seed=0)
    assert propose(all_known, 8, 8) == []
    assert not space_of(leaders[:1]).free()


def test_what_is_not_allowed_takes_the_nearest_pass():
    leaders = [BY_SLUG["raw_classic_scale-1_threshold-0.8_min_distance-9"]]
    values = dict.fromkeys((v.key for v in PLAN.variants), 0.5)
    for allowed in (0, 1, 2):
        search = open_search(space_of(leaders), PLAN.variants, values, seed=allowed)
        known = {pass_key(v) for v in PLAN.variants}
        trials = propose(search, 8, allowed)
        assert len({pass_key(t.variant) for t in trials} - known) == allowed
        assert len({t.variant.key for t in trials} - set(values)) == 8
        assert any(t.snapped for t in trials)
