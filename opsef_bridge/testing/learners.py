"""What every learner keeps, as tests to inherit.

Give small settings and what counts in a batch, and run pytest::

    from opsef_bridge.testing.learners import LearnerSuite

    class TestMine(LearnerSuite):
        engine = "mine"
        settings = Settings(steps=3, crop=32)

        def known(self, batch):
            return batch[1] >= 0
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opsef_bridge.engines import engine_class, list_weights
from opsef_bridge.errors import InputError, WeightsError
from opsef_bridge.files import file_sha256, write_json
from opsef_bridge.train import training
from opsef_bridge.train.card import describe_data
from opsef_bridge.train.data import UNKNOWN, Sample
from opsef_bridge.train.learner import Learner, learner
from opsef_bridge.train.transfer import fine_tuned

__all__ = ["LearnerSuite", "balls", "discs"]

BEYOND = 9.0
"""Value of the pixels of `discs` and `balls` for which nobody vouched: far above all others."""


def discs(seed: int, *, side: int = 80, unknown: int = 0, colour: bool = False) -> Sample:
    """Return bright discs on a dark ground; nobody vouched for the first columns."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((side, side))
    labels = np.zeros((side, side), np.int32)
    for number in range(1, 6):
        cy, cx, radius = *rng.integers(8, side - 8, 2), rng.integers(5, 10)
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    image = ((labels > 0) + rng.normal(0, 0.1, labels.shape)).astype(np.float32)
    labels[:, :unknown] = UNKNOWN
    image[:, :unknown] = BEYOND
    if colour:
        image = np.stack([image] * 3, axis=-1)
    return Sample(f"discs{seed}", image, labels, f"discs{seed}")


def balls(
    seed: int, *, shape: tuple[int, int, int] = (12, 40, 40), unknown: int = 0, count: int = 5
) -> Sample:
    """Return a volume of bright balls, half as deep as wide in voxels, like `discs`."""
    rng = np.random.default_rng(seed)
    places = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number in range(1, count + 1):
        centre = [rng.integers(2, side - 2) for side in shape]
        away = [one - c for one, c in zip(places, centre, strict=True)]
        radius = rng.integers(4, 7)
        labels[(2 * away[0]) ** 2 + away[1] ** 2 + away[2] ** 2 <= radius**2] = number
    image = ((labels > 0) + rng.normal(0, 0.1, shape)).astype(np.float32)
    labels[..., :unknown] = UNKNOWN
    image[..., :unknown] = BEYOND
    return Sample(f"balls{seed}", image, labels, f"balls{seed}")


class LearnerSuite:
    """Tests of one learner.

    Attributes
    ----------
    engine : str
    settings
        Of the learner: small, a few steps, on the CPU.
    colour : bool
        Whether it learns colour images.
    volumes : bool
        Whether it learns volumes.
    grid : int or tuple of int
        Pixels of the image for one of what it says, along each axis.
    rounding : float
        Largest difference of what a network says before and after it lay in a file.
    """

    engine: ClassVar[str]
    settings: ClassVar[Any]
    colour = False
    volumes = False
    grid: int | tuple[int, ...] = 1
    rounding = 2e-2

    def known(self, batch: tuple[Any, ...]) -> Tensor:
        """Return where a batch counts: bool (N, [Z,] Y, X)."""
        raise NotImplementedError

    def output(self, network: nn.Module) -> list[Tensor]:
        """Return what a network says of a picture that is always the same."""
        rng, sides = np.random.default_rng(0), (16, 32, 32) if self.volumes else (64, 64)
        batch = torch.from_numpy(rng.random((1, self.channels, *sides), np.float32))
        with torch.no_grad():
            found = network(batch)
        return list(found) if isinstance(found, tuple) else [found]

    @property
    def channels(self) -> int:
        """Of the images of a batch."""
        return 3 if self.colour else 1

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    @pytest.fixture
    def made(self) -> Learner:
        return learner(self.engine, volumes=self.volumes)

    def samples(self, **how: Any) -> list[Sample]:
        """Return two samples."""
        if self.volumes:
            return [balls(seed, **how) for seed in (1, 2)]
        return [discs(seed, colour=self.colour, **how) for seed in (1, 2)]

    def trained(self, made: Learner) -> nn.Module:
        return training.fit(made, self.samples(), self.settings)

    def stored(self, made: Learner, network: nn.Module, folder: Path) -> Any:
        """Save a network with its card; return the weights as they are found again."""
        path = made.save(network, self.settings, folder, "mine")
        sha256 = file_sha256(path)
        card = made.card("mine", self.settings, describe_data(self.samples()), sha256)
        write_json(folder / "mine.json", card)
        [found] = [w for w in list_weights([folder]) if w.name == "mine"]
        assert (found.engine, found.path, found.sha256) == (self.engine, path, sha256)
        return found

    def test_a_seed_gives_the_same_weights(self, made: Learner) -> None:
        one, again = self.trained(made).state_dict(), self.trained(made).state_dict()
        assert all(torch.equal(one[name], again[name]) for name in one)
        other = training.fit(made, self.samples(), replace(self.settings, seed=1)).state_dict()
        assert not all(torch.equal(one[name], other[name]) for name in one)

    def test_killed_after_any_step_it_ends_with_the_same_weights(
        self, made: Learner, tmp_path: Path
    ) -> None:
        how = {"val": self.samples()[:1], "every": 1}
        whole = training.train(made, self.samples(), self.settings, tmp_path / "whole", **how)
        for last in range(1, self.settings.steps):

            def kill(step: int, loss: float, last: int = last) -> None:
                if step == last:
                    raise KeyboardInterrupt

            folder = tmp_path / str(last)
            with pytest.raises(KeyboardInterrupt):
                training.train(made, self.samples(), self.settings, folder, report=kill, **how)
            on = training.train(made, self.samples(), self.settings, folder, **how)
            one, other = whole.network.state_dict(), on.network.state_dict()
            assert all(torch.equal(one[name], other[name]) for name in one)
            assert (on.val_loss, on.best_step) == (whole.val_loss, whole.best_step)

    def test_to_validate_changes_nothing(self, made: Learner) -> None:
        samples = self.samples()
        network = self.trained(made)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        batch = made.batch(np.random.default_rng(0), made.examples(samples), self.settings)
        with torch.no_grad():
            assert torch.isfinite(made.loss(network, batch, self.settings))
        after = network.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert not any(part.training for part in network.modules())

    @pytest.mark.parametrize("half", [False, True])
    def test_half_the_precision_is_used_where_the_settings_say_so(
        self, made: Learner, half: bool
    ) -> None:
        settings = replace(self.settings, bfloat16=half)
        examples = made.examples(self.samples())
        network = made.network(settings, examples).train()
        batch = made.batch(np.random.default_rng(0), examples, settings)
        seen: set[torch.dtype] = set()
        for part in network.modules():
            if isinstance(part, nn.Conv2d | nn.Conv3d):
                part.register_forward_hook(lambda _, __, out: seen.add(out.dtype))
        loss = made.loss(network, batch, settings)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.bfloat16 in seen if half else seen == {torch.float32}
        # Weights, their gradients and the loss stay whole.
        assert loss.dtype == torch.float32 and torch.isfinite(loss)
        grads = [one.grad for one in network.parameters() if one.grad is not None]
        assert {one.dtype for one in [*network.parameters(), *grads]} == {torch.float32}

    def test_what_nobody_vouched_for_has_no_gradient(self, made: Learner) -> None:
        samples = self.samples(unknown=16 if self.volumes else 32)
        if not made.masks_loss:
            with pytest.raises(InputError, match="only a part"):
                made.check(samples, self.settings)
            return
        made.check(samples, self.settings)
        plain = {"scale": (1, 1), "gamma": (1, 1), "gain": (1, 1), "blur": 0, "noise": 0}
        plain |= {"stain": (1, 1), "tint": (1, 1)} if self.colour else {}
        settings = replace(
            self.settings, batch=6, augmentation=replace(self.settings.augmentation, **plain)
        )
        batch = made.batch(np.random.default_rng(0), made.examples(samples), settings)
        known = self.known(batch)
        marked = batch[0][:, 0] > 0.9 * batch[0].max()
        assert 0.02 < known.float().mean() < 0.98
        grid = self.grid if isinstance(self.grid, tuple) else (self.grid,) * (known.ndim - 1)
        places = (slice(None), *(slice(None, None, step) for step in grid))
        assert not (known & marked[places]).any()
        network = made.network(settings, made.examples(samples)).train()
        said: list[Tensor] = []
        network.register_forward_hook(lambda _, __, out: said.extend(_maps(out)))
        made.loss(network, batch, settings).backward()  # type: ignore[no-untyped-call]
        felt = torch.stack([(one.grad != 0).any(1) for one in said if one.grad is not None]).any(0)
        assert not felt[~known].any()
        assert felt[known].float().mean() > 0.9

    def test_a_batch_without_anything_known_teaches_nothing(self, made: Learner) -> None:
        if not made.masks_loss:
            return
        samples = self.samples()
        for sample in samples:
            sample.labels[:] = UNKNOWN
            sample.labels.flat[-1] = 1  # Cellpose needs an object
        settings = replace(self.settings, batch=1)
        examples = made.examples(samples)
        network = made.network(settings, examples).train()
        for seed in range(50):
            batch = made.batch(np.random.default_rng(seed), examples, settings)
            if not self.known(batch).any():
                break
        else:
            pytest.fail("every crop shows something known")
        loss = made.loss(network, batch, settings)
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == 0
        grads = [part.grad for part in network.parameters() if part.grad is not None]
        assert not any(grad.any() for grad in grads)

    def test_the_numbers_of_objects_do_not_matter(self, made: Learner) -> None:
        # Large images have objects beyond what 16 bits hold.
        samples = self.samples()
        far = [
            replace(one, labels=np.where(one.labels > 0, one.labels << 16, 0)) for one in samples
        ]
        batches = [
            made.batch(np.random.default_rng(0), made.examples(which), self.settings)
            for which in (samples, far)
        ]
        near, beyond = (list(_tensors(batch)) for batch in batches)
        assert near and all(torch.equal(*pair) for pair in zip(near, beyond, strict=True))

    def test_the_engine_takes_what_was_trained(self, made: Learner, tmp_path: Path) -> None:
        weights = self.stored(made, self.trained(made), tmp_path)
        engine = engine_class(self.engine)()
        engine.load(weights)
        sample = self.samples()[0]
        labels = engine.decode(engine.predict(sample.image, engine.Predict()), engine.Decode())
        assert (labels.dtype, labels.shape) == (np.int32, sample.labels.shape)

    def test_training_goes_on_from_what_was_stored(self, made: Learner, tmp_path: Path) -> None:
        network = self.trained(made)
        weights = self.stored(made, network, tmp_path)
        usual = made.Settings()
        same = {name: getattr(self.settings, name) for name in ("steps", "batch", "crop")}
        loaded, settings = made.load(weights, replace(usual, **same))
        assert not loaded.training
        for one, other in zip(self.output(network), self.output(loaded), strict=True):
            scale = max(1.0, float(one.abs().max()))
            assert float((one - other).abs().max()) <= self.rounding * scale
        on = training.fit(made, self.samples(), fine_tuned(settings), start=loaded)
        again, _ = made.load(self.stored(made, on, tmp_path), settings)
        for one, other in zip(self.output(on), self.output(again), strict=True):
            scale = max(1.0, float(one.abs().max()))
            assert float((one - other).abs().max()) <= self.rounding * scale

    def test_files_of_something_else_are_refused(self, made: Learner, tmp_path: Path) -> None:
        weights = self.stored(made, self.trained(made), tmp_path)
        assert weights.path is not None
        weights.path.write_bytes(b"nothing of the kind")
        with pytest.raises(WeightsError):
            made.load(weights, self.settings)
        weights.path.unlink()
        with pytest.raises(WeightsError):
            made.load(weights, self.settings)

    def test_no_samples_are_refused(self, made: Learner) -> None:
        with pytest.raises(InputError, match="nothing to learn"):
            made.check([], self.settings)


def _tensors(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch, also those in lists and dicts in it."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, dict | list | tuple):
        for part in batch.values() if isinstance(batch, dict) else batch:
            yield from _tensors(part)


def _maps(found: Any) -> list[Tensor]:
    """Return the maps among what a network says, ready to hold their gradients."""
    parts = found if isinstance(found, tuple) else (found,)
    maps = [one for one in parts if isinstance(one, Tensor) and one.ndim in (4, 5)]
    for one in maps:
        one.retain_grad()
    return maps
