"""Plan a training: ``opsef train run`` is one network and its parent, a grid is many."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from opsef_bridge.config import Train, line_in
from opsef_bridge.engines import engine_class
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.parameters import split_parameters
from opsef_bridge.errors import ConfigError, InputError, OpsefError, WorkerError
from opsef_bridge.execute import Unit
from opsef_bridge.files import key_of
from opsef_bridge.project import Project
from opsef_bridge.train.choices import (
    RANDOM,
    SHIPPED,
    any_weights,
    as_axes,
    check_candidate,
    chosen_settings,
    cycles_of,
    known_preset,
    learner_of,
    learns_volumes,
    takes_volumes,
    weights_named,
)
from opsef_bridge.train.dataset import read_card
from opsef_bridge.train.events import check_tensorboard
from opsef_bridge.train.networks import ON_THE_FLY, Network, TrainPlan, nested
from opsef_bridge.train.places import file_outside

__all__ = ["RunWish", "plan_grid", "plan_run", "test_key", "units_of"]

NEWEST = "newest"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RunWish:
    """What ``opsef train run`` is asked for.

    Parameters
    ----------
    engine : str
    dataset : str
        Id, or ``newest``.
    start : str
        ``shipped``, ``random``, a name or a file.
    cycles : dict
        ``steps``, ``minutes`` or ``passes``; empty for the steps of the engine.
    augmentation : str
    settings : dict
        Of the learner.
    name : str
        Of the candidate.
    """

    engine: str
    dataset: str = NEWEST
    start: str = SHIPPED
    cycles: dict[str, float] = field(default_factory=dict)
    augmentation: str = "opsef"
    regions: int = 512
    settings: dict[str, Any] = field(default_factory=dict)
    predict: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    every: int = 100
    patience: int | None = None
    train_images: int = 16
    device: str = "auto"
    name: str = ""
    tensorboard: bool = False


def plan_run(project: Project, wish: RunWish) -> TrainPlan:
    """Plan the training of one network; what it starts from is judged beside it.

    Raises
    ------
    NotFoundError, WeightsError
        There is no such engine, dataset, preset or weights.
    InputError
        The dataset lacks a split, or a setting is unknown or of the wrong type.
    WorkerError
        torch is not installed; or ``tensorboard`` is not, and is asked for.
    """
    learner_of(wish.engine)
    weights = weights_named(project, wish.engine, wish.start)
    volumes = learns_volumes(
        wish.engine, wish.settings.get("volumes"), [weights], [_dataset(project, wish.dataset)],
        [known_preset(wish.augmentation)],
    )  # fmt: skip
    made = learner_of(wish.engine, volumes)
    settings = chosen_settings(wish.engine, volumes, wish.settings, weights is None)
    if "steps" in settings and wish.cycles:
        raise InputError(
            f"steps={settings['steps']} and --{next(iter(wish.cycles))} say the same",
            hint="Name one of them",
        )
    _check_sizes(made, settings, weights)
    split_parameters(engine_class(wish.engine), wish.predict)
    if wish.name:
        check_candidate(project, wish.name)
    one = Network(
        "", wish.name or wish.engine, wish.engine, wish.dataset, "",
        weights=weights.name if weights else "", weights_key=weights.key if weights else "",
        settings=settings, cycles=cycles_of(made, settings, wish.cycles),
        augmentation=wish.augmentation, regions=wish.regions, seed=wish.seed,
        every=wish.every, patience=wish.patience, predict=wish.predict,
        judged=wish.train_images, name=wish.name,
    )  # fmt: skip
    return _plan(project, "training", [(one, None)], [weights] if weights else [], wish.device,
                 wish.tensorboard)  # fmt: skip


def plan_grid(project: Project) -> TrainPlan:
    """Plan what the section ``train`` of ``opsef.yaml`` asks for.

    Raises
    ------
    ConfigError
        There is no such section, or something in it is not known: with line, value, choices.
    WorkerError
        torch is not installed; or ``tensorboard`` is not, and is asked for.
    """
    train = project.config.train
    if train is None:
        raise ConfigError(
            f"{project.config_file.name} has no section 'train'",
            hint="For example `train: {networks: {unet: {engine: unet}}, start: [random, shipped]}`"
            "; or train one network: opsef train run --engine unet",
        )
    named: dict[tuple[str, str], Weights] = {}
    arms = list(_arms(project, train, named))
    for name in train.start:
        if name not in (RANDOM, SHIPPED) and name not in {start for start, _ in named}:
            raise _at(
                project,
                ("start", train.start.index(name)),
                f"{name} is for none of the engines of train.networks",
            )
    baselines = [
        _told(project, ("baselines",), lambda name=name: any_weights(project, name))
        for name in train.baselines
    ]
    parents = [one for one in named.values() if one.name not in train.baselines]
    return _plan(project, "grid", arms, [*baselines, *parents], train.device, train.tensorboard)


def _arms(
    project: Project, train: Train, named: dict[tuple[str, str], Weights]
) -> Iterator[tuple[Network, int | None]]:
    """Yield every network of the grid, with the number of its images (None: all)."""
    measure = next((n for n in ("steps", "minutes", "passes") if getattr(train, n)), None)
    cycles = [{measure: float(v)} for v in getattr(train, measure)] if measure else [{}]
    for preset in train.augmentation:
        _told(project, ("augmentation",), lambda preset=preset: known_preset(preset))
    cards = [_dataset(project, name) for name in train.dataset]
    for label, entry in train.networks.items():
        where = ("networks", label)
        rest = dict(entry)
        engine, predict = rest.pop("engine"), rest.pop("predict", {})
        starts = rest.pop("start", train.start)
        _told(project, (*where, "engine"), lambda engine=engine: learner_of(engine))
        _told(
            project, (*where, "predict"),
            lambda engine=engine, predict=predict: split_parameters(engine_class(engine), predict),
        )  # fmt: skip
        found = _starts(project, engine, starts if isinstance(starts, list) else [starts], named,
                        where if "start" in entry else None)  # fmt: skip
        how = (engine, rest.pop("volumes", None), found, cards, train.augmentation)
        volumes = _told(project, where, lambda how=how: learns_volumes(*how))
        made = learner_of(engine, volumes)
        axes = {k: v if isinstance(v, list) else [v] for k, v in rest.items()}
        axes = _told(project, where, lambda made=made, axes=axes: as_axes(made, axes))
        for values in itertools.product(*axes.values()):
            settings = dict(zip(axes, values, strict=True))
            settings = _told(
                project, where,
                lambda e=engine, v=volumes, s=settings, fresh=None in found: chosen_settings(
                    e, v, s, fresh
                ),
            )  # fmt: skip
            for weights in found:
                _told(
                    project, where,
                    lambda made=made, s=settings, weights=weights: _check_sizes(made, s, weights),
                )  # fmt: skip
            for dataset, weights, preset, count, cycle, order, seed in itertools.product(
                train.dataset, found, train.augmentation, train.images, cycles, train.order,
                train.seed,
            ):  # fmt: skip
                yield (
                    Network(
                        "", label, engine, dataset, "",
                        weights=weights.name if weights else "",
                        weights_key=weights.key if weights else "",
                        settings=settings,
                        cycles=cycles_of(made, settings, {} if "steps" in settings else cycle),
                        augmentation=preset, regions=train.regions, order=order, seed=seed,
                        every=train.every,
                        patience=None if train.patience == "none" else int(train.patience),
                        predict=predict, judged=train.train_images,
                    ),
                    None if count == "all" else int(count),
                )  # fmt: skip


def _check_sizes(made: Any, settings: Mapping[str, Any], weights: Weights | None) -> None:
    """Refuse a crop that the poolings of a network do not fit, before anything is begun.

    Weights say themselves how many those are.

    Those of a network for volumes are checked where its settings are read.
    """
    if made.volumes:
        return
    from opsef_bridge.train.data import Sample

    chosen = replace(made.Settings(), **settings)
    if weights is not None:
        chosen = made.load(weights, chosen)[1]
    colours = (3,) if getattr(chosen, "channels", 1) == 3 else ()
    image = np.ones((2, 2, *colours), np.float32)
    made.check([Sample("any", image, np.ones((2, 2), np.int32), "any")], chosen)


def _starts(
    project: Project,
    engine: str,
    starts: Sequence[str],
    named: dict[tuple[str, str], Weights],
    where: tuple[str, str] | None,
) -> list[Weights | None]:
    """Return what networks of an engine start from; `named` learns them, by word and engine.

    Names that stand for all networks count for those of their engine; `where` is the place of
    those that a network names itself, which must fit.
    """
    found: list[Weights | None] = []
    for name in starts:
        place = (*where, "start") if where else ("start",)
        if name not in (RANDOM, SHIPPED) and where is None:
            told = _told(project, place, lambda name=name: any_weights(project, name))
            if told.engine != engine:
                continue
        one = _told(project, place, lambda name=name: weights_named(project, engine, name))
        if one is not None:
            named[name, engine] = one
        found.append(one)
    return found


def _plan(
    project: Project,
    purpose: str,
    arms: Sequence[tuple[Network, int | None]],
    baselines: Sequence[Weights],
    device: str,
    tensorboard: bool,
) -> TrainPlan:
    """Complete networks by their datasets, and put the baselines before them."""
    if tensorboard:
        check_tensorboard()
    for one, _ in arms:
        if one.seed < 0:
            raise InputError(f"seed is {one.seed}", hint="Give 0 or more")
    cards: dict[str, dict[str, Any]] = {}
    for one, _ in arms:
        if one.dataset not in cards:
            cards[one.dataset] = _dataset(project, one.dataset)
    files = {one.key: file_outside(project, one) for one in baselines}
    trained: dict[str, Network] = {}
    for one, count in arms:
        card = cards[one.dataset]
        names = nested([s for s in card["samples"] if s["split"] == "train"], one.seed)
        whole = count is None or count >= len(names)
        chosen = tuple(names if whole else names[:count])
        one = replace(one, dataset=card["id"], content=card["key"], images=chosen,
                      all_images=whole, regions=0 if one.augmentation in ON_THE_FLY
                      else one.regions, file=files.get(one.weights_key, ""))  # fmt: skip
        trained.setdefault(one.key, one)
    learned = list(trained.values())
    judged = max(one.judged for one in learned)
    plain = [
        Network(
            "", weights.name, weights.engine, card["id"], card["key"], trained=False,
            weights=weights.name, weights_key=weights.key, judged=judged, file=files[weights.key],
            settings={"volumes": True} if takes_volumes(weights) else {},
            predict=next((o.predict for o in learned if o.engine == weights.engine), {}),
            images=tuple(nested([s for s in card["samples"] if s["split"] == "train"], 0)),
        )
        for card in _benches(cards)
        for weights in {one.key: one for one in baselines}.values()
    ]  # fmt: skip
    _check_one_kind([*plain, *learned])
    networks = tuple(
        replace(one, id=f"n{number:04d}") for number, one in enumerate([*plain, *learned], 1)
    )
    told = [{k: v for k, v in asdict(one).items() if k != "file"} for one in networks]
    key = key_of("training", purpose, told)
    return TrainPlan(key, purpose, networks, device, tensorboard)


def _check_one_kind(networks: Sequence[Network]) -> None:
    """Refuse to judge planes beside volumes: the objects are not the same."""
    deep = next((one.label for one in networks if one.volumes), None)
    flat = next((one.label for one in networks if not one.volumes), None)
    if deep and flat:
        raise InputError(
            f"{deep} is a network for volumes, {flat} one for planes: they cannot be judged "
            "beside each other",
            hint="Make two trainings of them",
        )


def _benches(cards: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return one dataset for each distinct set of test images."""
    return list({test_key(card): card for card in reversed(list(cards.values()))}.values())


def test_key(card: Mapping[str, Any]) -> str:
    """Return the key of the test set of a dataset: what makes scores comparable."""
    tests = [one for one in card["samples"] if one["split"] == "test"]
    names = ("name", "kind", "pixels_sha256", "labels_sha256")
    return key_of("test", sorted([[str(one[name]) for name in names] for one in tests]))


def _dataset(project: Project, name: str) -> dict[str, Any]:
    card = read_card(project.dataset_folder(None if name == NEWEST else name))
    objects = {split: 0 for split in ("train", "val", "test")}
    for one in card["samples"]:
        objects[one["split"]] += one["objects"]
    uses = {"train": "learn from", "val": "choose thresholds on", "test": "judge by"}
    lacking = next((split for split, count in objects.items() if not count), None)
    if lacking:
        raise InputError(
            f"{card['id']} has no object to {uses[lacking]}: its split {lacking} has none",
            hint="Make a dataset with all three: opsef train dataset --val 0.15 --test 0.15",
        )
    return card


def units_of(plan: TrainPlan) -> list[Unit]:
    """Return the units of a plan: dataset, augment, train, infer, score, report.

    What two networks share (a dataset, regions) is one unit.
    """
    units: list[Unit] = []

    def add(kind: str, turn: str, needs: Sequence[str], **inputs: Any) -> str:
        unit = Unit(f"u{len(units) + 1:04d}", kind, turn, tuple(needs), inputs)
        units.append(unit)
        return unit.id

    datasets = {
        one: add("train-dataset", "dataset", (), dataset=one)
        for one in dict.fromkeys(network.dataset for network in plan.networks)
    }
    drawn: dict[str, str] = {}
    for one in plan.networks:
        key = one.regions_key()
        if key and key not in drawn:
            drawn[key] = add("train-augment", "augment", [datasets[one.dataset]], network=one.id,
                             regions=key)  # fmt: skip
    ready = {one.id: datasets[one.dataset] for one in plan.networks}
    for one in plan.networks:
        if one.trained:
            needs = [ready[one.id], *([drawn[one.regions_key()]] if one.regions else [])]
            ready[one.id] = add("train", "train", needs, network=one.id)
    infer = {
        one.id: add("train-infer", one.engine, [ready[one.id]], network=one.id)
        for one in sorted(plan.networks, key=lambda one: one.engine)
    }
    scored = [add("train-score", "score", [infer[o.id]], network=o.id) for o in plan.networks]
    add("train-report", "report", scored)
    return units


def _told(project: Project, where: tuple[str | int, ...], ask: Callable[[], Answer]) -> Answer:
    """Say the line of ``opsef.yaml`` with what is wrong there."""
    try:
        return ask()
    except WorkerError:
        raise
    except OpsefError as error:
        raise _at(project, where, f"{error.message}. {error.hint}") from error


def _at(project: Project, where: tuple[str | int, ...], what: str) -> ConfigError:
    return ConfigError(f"{line_in(project.config_file, 'train', *where)}: {what}")
