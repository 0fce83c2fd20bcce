"""Plans of trainings: what is shared, what is equal, what is refused, and where it stands."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from opsef_bridge.errors import ConfigError, InputError, NotFoundError, WeightsError
from opsef_bridge.train.dataset_make import Wish, make_dataset
from opsef_bridge.train.dataset_sources import collect, label_folders
from opsef_bridge.train.dataset_split import Shares
from opsef_bridge.train.foresight import (
    AT_CHECKPOINT,
    PER_REGION,
    Pace,
    foresee,
    unit_seconds,
)
from opsef_bridge.train.networks import Network, TrainPlan, nested
from opsef_bridge.train.planning import RunWish, plan_grid, plan_run, units_of
from tests.train.labelled_project import label_folder
from tests.train.training_project import dataset_project, write_train

HEAD = "train:\n  networks:\n    u: {engine: unet, width: [8, 16]}\n"


@pytest.fixture
def project(tmp_path):
    return dataset_project(tmp_path / "p")


def grid(project, more: str = "", head: str = HEAD) -> TrainPlan:
    write_train(project, head + more)
    return plan_grid(project)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 5))
def test_smaller_sets_are_parts_of_larger_ones_and_fair(kinds, seed):
    samples = [{"name": f"s{n}", "kind": kind} for n, kind in enumerate(kinds)]
    order = nested(samples, seed)
    assert sorted(order) == sorted(one["name"] for one in samples)
    kind_of = {one["name"]: one["kind"] for one in samples}
    few = len(set(kinds))
    assert {kind_of[name] for name in order[:few]} == set(kinds)
    assert nested(samples[::-1], seed) == order


def test_lists_are_axes(project):
    plan = grid(project, "  start: [random, shipped]\n  images: [all, 2]\n  steps: [3, 6]\n"
                "  seed: [0, 1]\n  order: [joint, sequential]\n")  # fmt: skip
    trained = [one for one in plan.networks if one.trained]
    assert len(trained) == 2 * 2 * 2 * 2 * 2 * 2
    assert [one.weights for one in plan.networks if not one.trained] == ["nuclei-unet"]
    assert len({one.key for one in plan.networks}) == len(plan.networks)
    sizes = {len(one.images) for one in trained}
    assert min(sizes) == 2 and len(sizes) == 2
    for one in trained:
        whole = next(o for o in trained if o.all_images and o.seed == one.seed)
        assert set(one.images) <= set(whole.images)


def test_equal_networks_are_trained_once(project):
    assert len(grid(project, "  images: [all, 4, 100]\n  start: random\n").networks) == 2


def test_regions_are_drawn_once_for_several_networks(project):
    plan = grid(project, "  augmentation: [opsef, zaki]\n  regions: 5\n")
    units = units_of(plan)
    assert [unit.kind for unit in units].count("train-augment") == 1
    (drawn,) = [unit.id for unit in units if unit.kind == "train-augment"]
    users = [unit for unit in units if unit.kind == "train" and drawn in unit.needs]
    assert {plan.network(unit.inputs["network"]).augmentation for unit in users} == {"zaki"}
    assert len(users) == 2
    known = {unit.id for unit in units}
    place = {unit.id: number for number, unit in enumerate(units)}
    for unit in units:
        assert all(need in known and place[need] < place[unit.id] for need in unit.needs)


def test_a_plan_is_equal_to_itself_and_survives_json(project):
    plan = grid(project)
    assert plan_grid(project) == plan
    assert grid(project, "  every: 50\n").key != plan.key
    assert grid(project, "  device: cpu\n").key == plan.key
    one = plan.networks[0]
    assert Network.from_json(asdict(one)) == one


def test_where_weights_are_from_is_no_part_of_their_key():
    one = Network("n0001", "u", "unet", "d0001", "c", settings={"width": 8})
    assert replace(one, id="n9", label="v", name="mine").key == one.key
    for name, value in {
        "engine": "fpn2ws",
        "content": "x",
        "seed": 1,
        "weights_key": "w",
        "settings": {"width": 9},
        "order": "sequential",
        "every": 7,
    }.items():
        assert replace(one, **{name: value}).key != one.key, name  # fmt: skip


def test_it_says_before_how_much_it_is(project):
    plan = grid(project, "  steps: 10\n")
    facts = foresee(project, plan, workers=1)
    assert facts["units"] == len(units_of(plan)) and facts["new"] == 2
    assert facts["steps"] == 20 and facts["measured"] is False
    assert facts["seconds"] > foresee(project, plan, workers=2)["seconds"]
    assert set(unit_seconds(project, plan)) == {
        unit.id for unit in units_of(plan) if "network" in unit.inputs
    }


def test_regions_that_are_drawn_take_time(project):
    few = foresee(project, grid(project, "  augmentation: zaki\n  regions: 10\n"), workers=1)
    many = foresee(project, grid(project, "  augmentation: zaki\n  regions: 1010\n"), workers=1)
    assert many["seconds"] == pytest.approx(few["seconds"] + 1000 * PER_REGION)


def test_the_time_that_is_left_does_not_grow_where_checkpoints_take_as_long_as_assumed():
    pace, now, left = Pace(every=10), 0.0, []
    for step in range(1, 36):
        now += AT_CHECKPOINT if step in (10, 20, 30, 35) else 1.0
        pace.add(step, 35, now)
        left.append((pace.left(step, 35), now))
    assert left[0][0] is None
    for told, at in left[1:]:
        assert told == pytest.approx(now - at)


def test_the_time_that_is_left_of_a_training_with_nothing_but_checkpoints():
    pace = Pace(every=1)
    for step in (7, 8, 9):  # resumed
        pace.add(step, 11, 3.0 * step)
    assert pace.left(9, 11) == pytest.approx(6)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("    w: {engine: unit}\n", r"line 7: train.networks.w.engine: .*unet, stardist"),
        ("    w: {engine: unet, widht: 8}\n", r"line 7: train.networks.w: .*'widht'.*width"),
        ("    w: {engine: unet, width: wide}\n", r"line 7: train.networks.w: width .*int"),
        ("    w: {engine: unet, predict: {scales: 2}}\n", r"train.networks.w.predict: .*'scales'"),
        ("    w: {engine: unet, start: nuclei-stardist}\n", r"train.networks.w.start: .*stardist"),
        ("  start: nuclei-nothing\n", r"line 7: train.start: .*nuclei-unet"),
        (
            "  start: [random, nuclei-stardist]\n",
            r"line 7: train.start.1: nuclei-stardist is for no",
        ),
        ("  augmentation: zacki\n", r"line 7: train.augmentation: .*'zacki'.*zaki"),
        ("  baselines: unet-x\n", r"line 7: train.baselines: .*unet-x"),
        (
            "    w: {engine: unet, crop: 30}\n",
            r"line 7: train.networks.w: crop 30 .*multiple of 16",
        ),
        ("  ordre: joint\n", r"line 7: train.ordre: unknown key 'ordre'. Choose of networks"),
        ("  order: both\n", r"line 7: train.order: .*'joint' or 'sequential'"),
        ("  steps: 3\n  minutes: 1\n", r"train.minutes: minutes and steps say the same"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_choices(project, text, told):
    with pytest.raises(ConfigError, match=told):
        grid(project, text)


def test_a_dataset_that_is_not_there_or_lacks_a_split_is_refused(project, tmp_path):
    with pytest.raises(NotFoundError, match="d0009"):
        plan_run(project, RunWish("unet", "d0009"))
    folder = label_folder(tmp_path / "more", 3, start=50)
    found = collect(project, label_folders([folder]), truth=False)
    made = make_dataset(project, found, Wish(shares=Shares(0.3, 0)))
    with pytest.raises(InputError, match=rf"{made.card['id']} has no object to judge by.*test"):
        plan_run(project, RunWish("unet"))


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (RunWish("unit"), NotFoundError),
        (RunWish("unet", start="nuclei-stardist"), WeightsError),
        (RunWish("unet", augmentation="more"), NotFoundError),
        (RunWish("unet", cycles={"steps": 3, "minutes": 1}), InputError),
        (RunWish("unet", cycles={"minutes": 0}), InputError),
        (RunWish("unet", settings={"seed": 3}), InputError),
        (RunWish("unet", settings={"batch": 0}), InputError),
        (RunWish("unet", settings={"bfloat16": 1}), InputError),
        (RunWish("unet", predict={"threshhold": 1}), InputError),
        (RunWish("unet", name="../x"), InputError),
        (RunWish("unet", seed=-1), InputError),
        (RunWish("unet", cycles={"steps": 3}, settings={"steps": 4}), InputError),
        (RunWish("unet", start="random", settings={"crop": 30}), InputError),
        (RunWish("stardist", start="random", settings={"crop": 30}), InputError),
    ],
)
def test_a_wish_that_cannot_be_is_refused(project, wish, error):
    with pytest.raises(error) as told:
        plan_run(project, wish)
    assert told.value.hint
