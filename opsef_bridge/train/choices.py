"""What a person may name for a training: engines, settings, weights, augmentations; checked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from opsef_bridge.engines import find_weights, list_weights, verify
from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import InputError, NotFoundError, WorkerError
from opsef_bridge.project import Project
from opsef_bridge.train.networks import ON_THE_FLY
from opsef_bridge.train.region_presets import PRESETS

__all__ = [
    "RANDOM",
    "SHIPPED",
    "any_weights",
    "as_axes",
    "check_candidate",
    "checked_settings",
    "chosen_settings",
    "cycles_of",
    "known_preset",
    "learner_of",
    "learns_volumes",
    "takes_volumes",
    "weights_folders",
    "weights_named",
]

RANDOM, SHIPPED = "random", "shipped"

NO_SETTINGS = ("augmentation", "seed", "device")
"""Fields of learners' settings that have words of their own here."""

MAY_BE_0 = ("warm_up",)
"""Of the settings that are whole numbers."""

WORDS = {"distance_loss": ("overlap", "absolute")}
"""What settings may say that are words."""

ABOVE_0 = ("rate", "clip")
"""Of the settings that are not."""


def learner_of(engine: str, volumes: bool = False) -> Any:
    """Return the learner of an engine, for planes or volumes; a word on torch where that lacks.

    Raises
    ------
    NotFoundError
        Networks of this engine cannot be trained here, or not on volumes.
    WorkerError
        torch is not installed.
    """
    try:
        from opsef_bridge.train.learner import learner

        return learner(engine, volumes=volumes)
    except ModuleNotFoundError as error:
        raise WorkerError(
            f"to train a network takes {error.name}, which is not installed",
            hint="pip install 'opsef_bridge[train]'",
        ) from error


def takes_volumes(weights: Weights | None) -> bool:
    """Whether weights are of a network for volumes, as their card says."""
    return weights is not None and (weights.card.get("input") or {}).get("axes") == "ZYX"


def learns_volumes(
    engine: str,
    wanted: Any,
    starts: Sequence[Weights | None],
    cards: Sequence[Mapping[str, Any]],
    presets: Sequence[str] = (),
) -> bool:
    """Return whether a network learns volumes as they are; else it learns them plane by plane.

    It does where its weights are of a network for volumes. From random weights the user says so,
    by the setting ``volumes``; without a word, a dataset of nothing but volumes says so, where
    the engine has such a network.

    Parameters
    ----------
    engine : str
    wanted : bool or None
        What the user says.
    starts : sequence of Weights or None
        What it starts from; None for random weights.
    cards : sequence of mapping
        Of the datasets.
    presets : sequence of str
        Augmentations.

    Raises
    ------
    NotFoundError
        The engine has no network for volumes, or none that can be trained.
    InputError
        Weights, datasets or the augmentation are for the other kind.
    """
    if wanted is not None and type(wanted) is not bool:
        raise InputError(f"volumes is {wanted!r}", hint="Say true or false")
    named = [one for one in starts if one is not None]
    volumes = any(map(takes_volumes, named)) if wanted is None else wanted
    learner_of(engine, volumes)
    if wanted is None and not named:
        samples = [one for card in cards for one in card["samples"]]
        flat = any(len(one["shape"]) != 3 for one in samples)
        volumes = _has_volumes(engine) and bool(samples) and not flat
    other = next((one for one in named if takes_volumes(one) != volumes), None)
    if other is not None:
        kinds = ("planes", "volumes") if volumes else ("volumes", "planes")
        raise InputError(
            f"the weights {other.name} are of a network for {kinds[0]}, this is one for {kinds[1]}",
            hint="Start from random weights (--from random), or name others",
        )
    if volumes:
        _check_volumes(cards, presets)
    return volumes


def _has_volumes(engine: str) -> bool:
    learner_of(engine)
    from opsef_bridge.train.learner import learner_names

    return engine in learner_names(volumes=True)


def _check_volumes(cards: Sequence[Mapping[str, Any]], presets: Sequence[str]) -> None:
    """Refuse what a network for volumes cannot learn from."""
    drawn = next((name for name in presets if name not in ON_THE_FLY), None)
    if drawn is not None:
        raise InputError(
            f"the augmentation {drawn} draws regions of planes, and the network learns volumes",
            hint=f"Choose of {', '.join(ON_THE_FLY)}",
        )
    for card in cards:
        flat = [str(one["name"]) for one in card["samples"] if len(one["shape"]) != 3]
        if flat:
            raise InputError(
                f"{len(flat)} of the {len(card['samples'])} images of {card['id']} are planes "
                f"({', '.join(flat[:3])}), and the network learns volumes",
                hint="Make a dataset of volumes only (opsef train dataset; with --rehearse none, "
                "where bundled images are in it), or train a network for planes: volumes=false",
            )


def chosen_settings(
    engine: str, volumes: bool, values: Mapping[str, Any], fresh: bool = True
) -> dict[str, Any]:
    """Return settings of a network for planes or for volumes, and which of these it is.

    Parameters
    ----------
    engine : str
    volumes : bool
    values : mapping
        What the user says.
    fresh : bool
        Whether it starts from random weights; those of others bring sizes of their own.

    Raises
    ------
    InputError
        As `checked_settings`; or sizes do not fit the axes of a volume.
    """
    made = learner_of(engine, volumes)
    named = {name: value for name, value in values.items() if name != "volumes"}
    settings = checked_settings(made, named)
    if volumes:
        settings["volumes"] = True
        if fresh:
            made.suited(replace(made.Settings(), **settings), ())
    return settings


def checked_settings(made: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a learner; lists become tuples where that is what it takes.

    Raises
    ------
    InputError
        It has no such setting, or it is of another type, or a number that none can be.
    """
    standard = {f.name: getattr(made.Settings(), f.name) for f in fields(made.Settings)}
    choices = [name for name in standard if name not in NO_SETTINGS]
    found = {}
    for name, value in values.items():
        if name not in choices:
            raise InputError(
                f"the training of {made.engine} has no setting {name!r}",
                hint=f"Choose of {', '.join(choices)}",
            )
        old = standard[name]
        if isinstance(old, tuple) and isinstance(value, list | tuple):
            value = tuple(value)
        if isinstance(old, float) and isinstance(value, int | str) and type(value) is not bool:
            with contextlib.suppress(ValueError):  # of YAML 1e-3 is text
                value = float(value)
        if old is not None and type(value) is not type(old):
            raise InputError(
                f"{name} of {made.engine} is {value!r}, which is no {type(old).__name__}",
                hint=f"For example {old!r}, which it is by default",
            )
        if value not in WORDS.get(name, (value,)):
            raise InputError(f"{name} is {value!r}", hint=f"Choose of {', '.join(WORDS[name])}")
        for number in value if isinstance(value, tuple) else (value,):
            _check_number(name, number)
        found[name] = value
    return found


def _check_number(name: str, value: Any) -> None:
    if type(value) is int and value < 1 and name not in MAY_BE_0:
        raise InputError(f"{name} is {value}", hint="Give 1 or more")
    if type(value) in (int, float):
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} is {value:g}", hint="Give 0 or more")
        if name in ABOVE_0 and value == 0:
            raise InputError(f"{name} is 0: nothing would be learned", hint="Give more than 0")


def as_axes(made: Any, axes: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """A list is one value where the setting is a list itself."""
    standard = made.Settings()
    checked_settings(made, {name: getattr(standard, name, None) for name in axes})
    single = {name for name in axes if isinstance(getattr(standard, name), tuple)}
    return {
        name: [values] if name in single and not isinstance(values[0], list) else values
        for name, values in axes.items()
    }


def cycles_of(
    made: Any, settings: Mapping[str, Any], wanted: Mapping[str, float]
) -> dict[str, float]:
    chosen = {name: value for name, value in wanted.items() if value is not None}
    if len(chosen) > 1:
        raise InputError(
            f"{' and '.join(chosen)} say the same", hint="Name one of steps, minutes, passes"
        )
    if not chosen:
        return {"steps": float(settings.get("steps", made.Settings().steps))}
    name, value = next(iter(chosen.items()))
    if not 0 < value < math.inf or (name == "steps" and value < 1):
        raise InputError(f"{name} is {value:g}", hint="Give more than 0")
    return {name: float(value)}


def weights_named(project: Project, engine: str, start: str) -> Weights | None:
    """Return the weights that a network of `engine` starts from; None for random ones.

    Parameters
    ----------
    start : str
        ``random``, ``shipped``, the name of weights (registered, shipped, or a candidate of a
        training), or a file with its card beside it.

    Raises
    ------
    WeightsError
        There are none, they are for another engine, or their file was changed.
    """
    if start == RANDOM:
        return None
    if start == SHIPPED:
        found = find_weights(engine, None, ())
    elif Path(start).suffix and Path(start).is_file():
        found = find_weights(engine, any_weights(project, start).name, [Path(start).parent])
    else:
        found = find_weights(engine, start, weights_folders(project))
    verify(found)
    return found


def any_weights(project: Project, name: str) -> Weights:
    """Return weights of whatever engine, by name or file."""
    file = Path(name)
    if file.suffix and file.is_file():
        beside = list_weights([file.parent])
        for one in beside:
            if one.path is not None and one.path.resolve() == file.resolve():
                return one
        raise NotFoundError(
            f"{file} has no card beside it that says what it is",
            hint=f"Add it with one: opsef models add {file}",
        )
    known = {one.name: one for one in list_weights(weights_folders(project))}
    if name not in known:
        raise NotFoundError(
            f"there are no weights {name!r}", hint=f"Choose of {', '.join(known)}, random, shipped"
        )
    verify(known[name])
    return known[name]


def weights_folders(project: Project) -> list[Path]:
    """Where weights are looked for: those of the project, then candidates, the newest first."""
    trainings = [project.training(name).root / "models" for name in reversed(project.trainings())]
    return [project.models_folder, *(folder for folder in trainings if folder.is_dir())]


def check_candidate(project: Project, name: str) -> None:
    from opsef_bridge.engines.staging import check_name

    check_name(name)
    if any(one.name == name for one in list_weights([project.models_folder])):
        raise InputError(
            f"there are weights {name!r} already", hint="Choose another name for the candidate"
        )


def known_preset(name: str) -> str:
    if name not in {*ON_THE_FLY, *PRESETS}:
        choices = ", ".join(dict.fromkeys([*ON_THE_FLY, *PRESETS]))
        raise NotFoundError(f"there is no augmentation {name!r}", hint=f"Choose of {choices}")
    return name
