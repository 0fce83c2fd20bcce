"""The loop of all trainings: checkpoints, curves, the early end, the best weights."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from opsef_bridge.errors import InputError  # noqa: E402
from opsef_bridge.testing.learners import discs  # noqa: E402
from opsef_bridge.train import training  # noqa: E402
from opsef_bridge.train.curves import COLUMNS, read_curves  # noqa: E402
from opsef_bridge.train.loop import Settings, UNetLearner  # noqa: E402
from opsef_bridge.train.training import train  # noqa: E402

TINY = Settings(steps=5, batch=1, crop=16, width=2, depth=1, warm_up=1, bfloat16=False)
SAMPLES = [discs(1), discs(2)]
VAL = [discs(3)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder, *, settings=TINY, stop=None, samples=SAMPLES, **how):
    def kill(step, loss):
        if step == stop:
            raise KeyboardInterrupt

    how = {"val": VAL, "every": 2, **how}
    return train(UNetLearner(), samples, settings, folder, report=kill, **how)


def same(one, other) -> bool:
    a, b = one.network.state_dict(), other.network.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(folder) -> list[dict[str, float | None]]:
    found = read_curves(folder / "curves.csv")
    assert all(tuple(row) == COLUMNS for row in found)
    seconds = [row.pop("seconds") for row in found]
    assert seconds == sorted(seconds)
    return found


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncut")
    return run(folder), folder


@pytest.mark.parametrize("stop", range(1, TINY.steps + 1))
def test_killed_at_any_step_it_ends_with_the_same_weights_and_curves(tmp_path, uncut, stop):
    whole, folder = uncut
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", stop=stop)
    steps = []
    on = train(
        UNetLearner(), SAMPLES, TINY, tmp_path / "killed", val=VAL, every=2,
        report=lambda step, loss: steps.append(step),
    )  # fmt: skip
    assert same(whole, on)
    assert rows(tmp_path / "killed") == rows(folder)
    # At most one interval is done again; the last step always has a checkpoint.
    done = TINY.steps if stop == TINY.steps else stop // 2 * 2
    assert steps == list(range(done + 1, TINY.steps + 1))
    assert (tmp_path / "killed" / "curves.png").stat().st_size > 1000
    assert not [file for file in (tmp_path / "killed").iterdir() if "partial" in file.name]


def test_killed_twice_and_without_validation(tmp_path):
    whole = run(tmp_path / "whole", val=())
    for stop in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", val=(), stop=stop)
    on = run(tmp_path / "killed", val=())
    assert same(whole, on)
    assert (on.val_loss, on.best_step, on.steps) == (None, TINY.steps, TINY.steps)
    assert {row["val_loss"] for row in rows(tmp_path / "killed")} == {None}


def test_threads_that_draw_ahead_change_nothing(tmp_path, uncut):
    one, folder = uncut
    many = run(tmp_path / "many", loaders=3)
    assert same(one, many)
    assert rows(folder) == rows(tmp_path / "many")


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_killed_with_threads_that_draw_ahead_it_ends_with_the_same(tmp_path, uncut, stop):
    whole, folder = uncut
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=stop, loaders=2)
    assert same(whole, run(tmp_path, loaders=2))
    assert rows(tmp_path) == rows(folder)


class Unlucky(UNetLearner):
    """A U-Net that cannot draw the crops of one step."""

    def __init__(self, step: int) -> None:
        self.state = np.random.default_rng([TINY.seed, step]).bit_generator.state

    def batch(self, rng, examples, settings):
        if rng.bit_generator.state == self.state:
            raise InputError("s3.tif cannot be read", hint="Look whether it is there")
        return super().batch(rng, examples, settings)


@pytest.mark.parametrize("loaders", [0, 1, 2])
def test_what_is_wrong_with_a_crop_is_told_at_its_step(tmp_path, uncut, loaders):
    before, steps = threading.active_count(), []
    with pytest.raises(InputError, match=r"s3\.tif cannot be read") as told:
        train(
            Unlucky(3), SAMPLES, TINY, tmp_path, val=VAL, every=2, loaders=loaders,
            report=lambda step, loss: steps.append(step),
        )  # fmt: skip
    assert told.value.hint == "Look whether it is there"
    assert steps == [1, 2, 3]
    assert threading.active_count() == before
    # What was learned until then stays, and it goes on from there.
    assert same(uncut[0], run(tmp_path, loaders=loaders))
    assert rows(tmp_path) == rows(uncut[1])


def test_validating_changes_nothing_of_the_training(tmp_path, uncut):
    run(tmp_path, val=())
    with_val, without = rows(uncut[1]), rows(tmp_path)
    assert [row["loss"] for row in with_val] == [row["loss"] for row in without]


@pytest.mark.parametrize(
    "other",
    [
        {"settings": replace(TINY, rate=0.1)},
        {"samples": SAMPLES[:1]},
        {"val": SAMPLES[:1]},
        {"origin": "other weights"},
    ],
)
def test_the_checkpoint_of_another_training_is_refused(tmp_path, other):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=3)
    with pytest.raises(InputError, match="other images, settings or first weights"):
        run(tmp_path, **other)


def test_a_training_that_began_on_a_gpu_goes_on_without(tmp_path, uncut):
    """Its checkpoint has the generator of the GPU besides."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=3)
    file = tmp_path / "checkpoint.pt"
    content = torch.load(file, weights_only=True)
    content["training"]["cuda"] = torch.zeros(16, dtype=torch.uint8)
    torch.save(content, file)
    assert same(uncut[0], run(tmp_path))


def test_a_damaged_checkpoint_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=3)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path)
    file.unlink()
    assert run(tmp_path).steps == TINY.steps


class Scripted(UNetLearner):
    """A U-Net whose validation losses are given, checkpoint by checkpoint."""

    def __init__(self, *losses: float) -> None:
        self.losses = list(losses)
        self.first = 0

    def loss(self, network, batch, settings):
        value = super().loss(network, batch, settings)
        if network.training:
            return value
        self.first += 1
        return value * 0 + self.losses[(self.first - 1) // training.VAL_BATCHES]


def test_the_weights_of_the_least_validation_loss_are_kept(tmp_path):
    settings = replace(TINY, steps=4)
    seen = {}

    def keep(step, loss):
        state = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)
        seen[step] = state["training"]["network"]

    how = {"val": VAL, "every": 1, "report": keep}
    found = train(Scripted(3, 1, 2, 1), SAMPLES, settings, tmp_path / "a", **how)
    assert (found.best_step, found.val_loss, found.steps, found.early) == (2, 1.0, 4, False)
    best = found.network.state_dict()
    assert all(torch.equal(best[name], seen[2][name]) for name in best)
    assert not all(torch.equal(best[name], seen[4][name]) for name in best)
    assert [row["val_loss"] for row in rows(tmp_path / "a")] == [3, 1, 2, 1]


def test_it_ends_early_and_stays_ended(tmp_path):
    how = {"val": VAL, "every": 1, "patience": 2}
    found = train(Scripted(3, 1, 2, 2, 0, 0, 0), SAMPLES, TINY, tmp_path, **how)
    assert (found.steps, found.best_step, found.early) == (4, 2, True)
    steps = []
    again = train(
        Scripted(0), SAMPLES, TINY, tmp_path, report=lambda step, loss: steps.append(step), **how
    )
    assert not steps
    assert same(found, again)
    assert again.early


def test_it_goes_on_from_a_network(tmp_path):
    first = run(tmp_path / "first")
    state = {name: value.clone() for name, value in first.network.state_dict().items()}

    def start():
        network = UNetLearner().network(TINY, ())
        network.load_state_dict(state)
        return network

    how = {"start": start, "origin": "first"}
    whole = run(tmp_path / "whole", **how)
    assert not same(first, whole)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", stop=3, **how)
    assert same(run(tmp_path / "killed", **how), whole)


@pytest.mark.parametrize(
    "how", [{"every": 0}, {"patience": 0}, {"patience": 2, "val": ()}, {"samples": []}]
)
def test_what_makes_no_sense_is_refused(tmp_path, how):
    with pytest.raises(InputError):
        run(tmp_path, **how)
    assert not list(tmp_path.iterdir())


def test_crops_depend_on_seed_and_step_only():
    batches = list(training._batches(UNetLearner(), SAMPLES, TINY, 0, 0))
    later = list(training._batches(UNetLearner(), SAMPLES, TINY, 3, 2))
    assert len(batches) == TINY.steps
    for one, other in zip(batches[3:], later, strict=True):
        assert torch.equal(one[0], other[0])
    assert not np.array_equal(batches[0][0], batches[1][0])


def test_a_loss_that_is_no_number_ends_it_and_says_how_to_go_on(tmp_path):
    wild = replace(TINY, rate=1e30, steps=6)
    with pytest.raises(InputError, match=r"loss of step \d is (nan|inf)") as raised:
        run(tmp_path, settings=wild)
    assert "smaller rate" in raised.value.hint
    with pytest.raises(InputError, match="loss of step"):
        training.fit(UNetLearner(), SAMPLES, wild)


def test_a_validation_loss_that_is_no_number_chooses_nothing(tmp_path):
    # One step: its own loss is that of the weights before it.
    with pytest.raises(InputError, match="validation loss of step 1 is"):
        run(tmp_path, settings=replace(TINY, rate=1e30, steps=1, warm_up=0))
    assert not (tmp_path / "checkpoint.pt").exists()
