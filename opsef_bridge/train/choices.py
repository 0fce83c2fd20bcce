"""What a person may name for a training: engines, settings, weights, augmentations; checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
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
    "cycles_of",
    "known_preset",
    "learner_of",
    "weights_folders",
    "weights_named",
]

RANDOM, SHIPPED = "random", "shipped"

NO_SETTINGS = ("augmentation", "seed", "device")
"""Fields of learners' settings that have words of their own here."""


def learner_of(engine: str) -> Any:
    """Return the learner of an engine, with a word on torch where that lacks.

    Raises
    ------
    NotFoundError
        Networks of this engine cannot be trained here.
    WorkerError
        torch is not installed.
    """
    try:
        from opsef_bridge.train.learner import learner

        return learner(engine)
    except ModuleNotFoundError as error:
        raise WorkerError(
            f"to train a network takes {error.name}, which is not installed",
            hint="pip install 'opsef_bridge[train]'",
        ) from error


def checked_settings(made: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a learner; lists become tuples where that is what it takes.

    Raises
    ------
    InputError
        It has no such setting, or it is of another type.
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
        if isinstance(old, float) and type(value) is int:
            value = float(value)
        if old is not None and type(value) is not type(old):
            raise InputError(
                f"{name} of {made.engine} is {value!r}, which is no {type(old).__name__}",
                hint=f"For example {old!r}, which it is by default",
            )
        if name in ("steps", "batch", "crop", "width", "depth") and value < 1:
            raise InputError(f"{name} is {value}", hint="Give 1 or more")
        found[name] = value
    return found


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
    if value <= 0 or (name == "steps" and value < 1):
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
