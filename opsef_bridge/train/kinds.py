"""The units in which networks are made: check the dataset, draw regions, train.

Importing this module registers all kinds of units of a training. What a unit makes lies in the
folder of the training; what another training has made by the same key is taken over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import InputError, ProjectError
from opsef_bridge.execute import Job, Outcome, run_unit, unit_kind
from opsef_bridge.files import file_sha256, key_of, read_json, write_json
from opsef_bridge.train import judging, reporting  # noqa: F401  (register their kinds)
from opsef_bridge.train.bench import items_of, read_item
from opsef_bridge.train.choices import learner_of
from opsef_bridge.train.data import Sample
from opsef_bridge.train.dataset import DatasetSamples, verify_dataset
from opsef_bridge.train.dataset_bundled import as_one_kind, drawn_from, is_rehearsed
from opsef_bridge.train.events import tell_tensorboard
from opsef_bridge.train.foresight import Pace
from opsef_bridge.train.networks import VERSION, Network, TrainPlan
from opsef_bridge.train.places import (
    MADE,
    dataset_planned,
    network_folder,
    regions_folder,
    weights_planned,
)
from opsef_bridge.train.seen import seen_by
from opsef_bridge.train.takeover import copy_folder, take_over
from opsef_bridge.train.tuning import Looked, among_objects, tune

__all__ = ["run_unit", "shared_steps"]

FIRST_STEPS = 4
"""That are timed where a training is by minutes; one goes before them."""

TOLD_EVERY = 1.0
"""Seconds between two reports of a training."""


@unit_kind("train-dataset")
def dataset(job: Job) -> Iterator[list[Outcome]]:
    """Check that every file of a dataset is as its card says."""
    name = job.unit.inputs["dataset"]
    job.report(name)
    damaged = verify_dataset(job.project.dataset_folder(name))
    if damaged:
        raise ProjectError(
            f"{name} is damaged: {damaged[0]}",
            hint="Copy it again from where it is whole, or make it again",
        )
    yield []


@unit_kind("train-augment")
def augment(job: Job) -> Iterator[list[Outcome]]:
    """Draw the regions that one or several networks learn from.

    Kinds take turns; all bundled images are one of them.
    """
    from opsef_bridge.train.region_files import write_regions
    from opsef_bridge.train.region_presets import preset_of
    from opsef_bridge.train.regions import Regions

    one = TrainPlan.from_json(job.plan).network(job.unit.inputs["network"])
    key = one.regions_key()
    folder = regions_folder(job.run, key)
    if not folder.is_dir():
        for name in job.project.trainings():
            earlier = regions_folder(job.project.training(name), key)
            if earlier.is_dir():
                copy_folder(earlier, folder)
                break
    if not folder.is_dir():
        preset = preset_of(one.augmentation)
        place, card = dataset_planned(job.project, one)
        samples = as_one_kind(_samples(place, card, one, "train"), card)
        regions = Regions(samples, one.regions, preset, one.seed)
        origin = {"dataset": one.dataset, "key": one.content, "images": list(one.images)}
        # A report is where a unit can be stopped.
        write_regions(
            folder, regions, preset, one.seed, origin,
            lambda done: job.report(f"region {done} of {one.regions}"),
        )  # fmt: skip
    yield []


@unit_kind("train")
def train_network(job: Job) -> Iterator[list[Outcome]]:
    """Train a network, choose its thresholds, write weights and card as a candidate."""
    plan = TrainPlan.from_json(job.plan)
    one = plan.network(job.unit.inputs["network"])
    folder = network_folder(job.run, one.id)
    if not (folder / MADE).is_file() and not take_over(job.project, job.run, one):
        _train(job, one, plan.tensorboard)
    if plan.tensorboard:
        tell_tensorboard(folder)
    yield []


def _train(job: Job, one: Network, tensorboard: bool) -> None:
    made = learner_of(one.engine, one.volumes)
    folder = network_folder(job.run, one.id)
    place, card = dataset_planned(job.project, one)
    settings = replace(_settings(made, one), device=_device(str(job.plan["device"])))
    weights = weights_planned(job.project, one) if one.weights else None
    if weights is not None:
        settings = made.load(weights, settings)[1]
    settings = replace(settings, augmentation=_light(settings.augmentation, one))
    colour = getattr(settings, "channels", 1) == 3  # of H&E; tuples are widths
    if colour and one.regions:
        raise InputError(
            f"the weights {one.weights} are of colour images, regions of {one.augmentation} are "
            "grey",
            hint="Take the augmentation opsef or none, or weights of grey images",
        )
    samples = _samples(place, card, one, "train", colour)
    if one.regions:
        from opsef_bridge.train.region_files import read_regions

        samples = read_regions(regions_folder(job.run, one.regions_key()))
    val = _samples(place, card, one, "val", colour)
    settings = made.suited(settings, samples)
    settings = replace(settings, steps=_steps(made, one, settings, samples, folder))
    start = (lambda: made.load(weights, settings)[0]) if weights is not None else None
    trained = _stages(made, one, samples, card, val, settings, folder, start,
                      _teller(job, folder, one.every), tensorboard)  # fmt: skip
    told = _card(job, one, trained, samples, weights, card)
    items = items_of(card, "val", volumes=one.volumes)
    looked = (read_item(place, item, colour) for item in items)
    _write_candidate(job, one, made, trained, told, looked)


def _settings(made: Any, one: Network) -> Any:
    """Return the settings of the learner for this network; what the user names stays."""
    settings, named = made.Settings(), _tuples(made, one.settings)
    if one.weights:
        from opsef_bridge.train.transfer import fine_tuned

        settings = fine_tuned(settings)
    return replace(settings, **named, seed=one.seed)


def _light(how: Any, one: Network) -> Any:
    """Return the augmentation of crops; without one, or of regions, only places and turns."""
    if one.augmentation == "opsef":
        return how
    return replace(how, **{
        part.name: 0.0 if part.name in ("blur", "noise") else (1.0, 1.0) for part in fields(how)
    })  # fmt: skip


def _tuples(made: Any, values: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where settings have tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _device(wanted: str) -> str:
    """Return the device of torch that ``auto`` is here."""
    from opsef_bridge.engines.devices import torch_devices

    return torch_devices()[0] if wanted == "auto" else wanted


def _samples(
    place: Path, card: Mapping[str, Any], one: Network, split: str, colour: bool = False
) -> list[Sample]:
    """Return the samples of a split; of those to learn from only the network's."""
    names = one.images if split == "train" else None
    items = items_of(card, split, names, volumes=one.volumes)
    return list(DatasetSamples(place, [(item.entry, item.plane) for item in items], colour))


def _steps(made: Any, one: Network, settings: Any, samples: Sequence[Sample], folder: Path) -> int:
    """Return how many steps there are; of minutes they are measured once and then kept."""
    (measure, amount), file = next(iter(one.cycles.items())), folder / "steps.json"
    if measure == "steps":
        return int(amount)
    if measure == "passes":
        return max(1, math.ceil(amount * len(samples) / settings.batch))
    if not file.is_file():
        seconds = _seconds_per_step(made, settings, samples)
        steps = max(1, int(60 * amount / seconds))
        write_json(file, {"steps": steps, "minutes": amount, "seconds_per_step": seconds})
    return int(read_json(file)["steps"])


def _seconds_per_step(made: Any, settings: Any, samples: Sequence[Sample]) -> float:
    """Measure the first steps of a network that is then thrown away."""
    from opsef_bridge.train.training import fit

    ends: list[float] = []
    short = replace(settings, steps=FIRST_STEPS + 1)
    fit(made, samples, short, lambda step, loss: ends.append(time.perf_counter()))
    return max((ends[-1] - ends[0]) / FIRST_STEPS, 1e-4)


def _stages(
    made: Any,
    one: Network,
    samples: Sequence[Sample],
    card: Mapping[str, Any],
    val: Sequence[Sample],
    settings: Any,
    folder: Path,
    start: Callable[[], Any] | None,
    report: Callable[[int, int, float], None],
    tensorboard: bool,
) -> Any:
    """Train on all kinds at once, or on one after the other, each for its share of the steps.

    Bundled images are no kind of their own in that order: they are rehearsed beside each.
    """
    from opsef_bridge.train.training import train

    # Of a kind without an object nothing can be learned alone: it goes with all others.
    kinds = sorted({s.kind for s in samples if _has_object(s) and not is_rehearsed(s.kind)})
    kinds = kinds if kinds and one.order == "sequential" else [""]
    shares = shared_steps(settings.steps, len(kinds))
    origin, seconds, steps, early, trained = one.weights_key, 0.0, 0, False, None
    for number, kind in enumerate(kinds):
        mine, judges = samples, val
        if one.order == "sequential":
            mine = [s for s in samples if s.kind == kind or s.kind not in kinds]
            judges = [sample for sample in val if sample.kind == kind]
            judges = judges if any(map(_has_object, judges)) else val
        mine = mine if one.regions else drawn_from(mine, card)
        before = sum(shares[:number])
        trained = train(
            made, mine, _of_length(shares[number], settings, one),
            folder / f"stage-{number + 1}" if len(kinds) > 1 else folder, val=judges, start=start,
            origin=origin, every=one.every, patience=one.patience, tensorboard=tensorboard,
            loaders=2 if settings.device == "cuda" else 0,
            report=lambda step, loss, before=before: report(before + step, sum(shares), loss),
        )  # fmt: skip
        best = steps + trained.best_step
        seconds, steps = seconds + trained.seconds, steps + trained.steps
        early |= trained.early
        network = trained.network
        start, origin = (lambda network=network: network), key_of(origin, kind)
    return replace(trained, seconds=seconds, steps=steps, best_step=best, early=early)


def _has_object(sample: Sample) -> bool:
    return bool((sample.labels > 0).any())


def shared_steps(steps: int, kinds: int) -> list[int]:
    """Return the steps of each of several kinds: the first have one more where it does not fit.

    Every kind has at least one, also if there are fewer steps than kinds.

    Examples
    --------
    >>> shared_steps(11, 4)
    [3, 3, 3, 2]
    """
    each, left = divmod(max(steps, kinds), kinds)
    return [each + (number < left) for number in range(kinds)]


def _of_length(steps: int, settings: Any, one: Network) -> Any:
    """Return settings of so many steps; a short training would be over before it is warm."""
    settings = replace(settings, steps=steps)
    if type(getattr(settings, "warm_up", None)) is int and "warm_up" not in one.settings:
        settings = replace(settings, warm_up=min(settings.warm_up, steps // 10))
    return settings


def _teller(job: Job, folder: Path, every: int) -> Callable[[int, int, float], None]:
    """Return what tells of steps, now and then: to the executor, and in ``progress.json``."""
    last, pace = 0.0, Pace(every)

    def tell(step: int, of: int, loss: float) -> None:
        nonlocal last
        now = time.monotonic()
        pace.add(step, of, now)
        if now - last < TOLD_EVERY and step < of:
            return
        last = now
        told = {"step": step, "steps": of, "loss": loss, "seconds_left": pace.left(step, of)}
        if math.isfinite(loss):  # JSON has neither NaN nor infinity
            write_json(folder / "progress.json", told)
        job.report(f"{job.unit.inputs['network']} step {step} of {of}, loss {loss:.4g}")

    return tell


def _card(
    job: Job,
    one: Network,
    trained: Any,
    samples: Sequence[Sample],
    start: Weights | None,
    card: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what the card of the weights says of where they come from; `card` is the dataset's."""
    from opsef_bridge.train.card import describe_data

    config = asdict(one)
    del config["images"], config["file"]  # long, and a place on this machine
    return {
        "data": {
            **describe_data(samples),
            **({"images": len(one.images), "regions": len(samples)} if one.regions else {}),
            "dataset": one.dataset,
            "dataset_key": one.content,
            "licence": card.get("licence", ""),
            "split": card["split"],
            "of_images": list(one.images),
            "seen": seen_by(card, one.images, start.card if start else None),
        },
        "parent": {"name": start.name, "key": start.key, "sha256": start.sha256} if start else None,
        "training": {
            "id": job.run.id,
            "key": one.key,
            "version": VERSION,
            "steps": trained.steps,
            "best_step": trained.best_step,
            "val_loss": trained.val_loss,
            "ended_early": trained.early,
            "seconds": round(trained.seconds, 1),
            "device": trained.settings.device,
            "config": config,
        },
    }


def _write_candidate(
    job: Job, one: Network, made: Any, trained: Any, told: dict[str, Any], val: Iterable[Looked]
) -> None:
    """Write weights and card, with thresholds tuned on `val`."""
    job.report(f"{one.id} writes its weights")
    models = job.run.root / "models"
    models.mkdir(parents=True, exist_ok=True)
    path = made.save(trained.network, trained.settings, models, one.candidate)
    told = made.card(one.candidate, trained.settings, told["data"], file_sha256(path)) | told
    weights = Weights(one.candidate, one.engine, path, told["sha256"], told)
    tuned = tune(
        weights, [among_objects(one) if one.labels.ndim == 3 else one for one in val],
        predict=one.predict, device=str(job.plan["device"]),
        report=lambda message: job.report(f"{one.id} tunes on val: {message}"),
    )  # fmt: skip
    told["thresholds"] = tuned.values
    told["tuned"] = {"on": f"val of {one.dataset}", "f1": tuned.f1, "before": tuned.before}
    write_json(models / f"{one.candidate}.json", told)
    made_file = network_folder(job.run, one.id) / MADE
    write_json(made_file, {"key": one.key, "name": one.candidate, "file": path.name})
