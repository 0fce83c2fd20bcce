"""What `refine` tries next: proposals of an optimiser, at the price of few network passes.

A study of Optuna proposes points of a `Space`; those whose network pass is not allowed take the
nearest pass that is there, and keep their own thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError

from opsef_bridge.errors import ConfigError, OpsefError
from opsef_bridge.files import key_of
from opsef_bridge.sweep.planned import Variant
from opsef_bridge.sweep.search_space import Knob, Space, Value

if TYPE_CHECKING:
    import optuna

__all__ = [
    "Search",
    "Trial",
    "learn",
    "new_passes",
    "open_search",
    "pass_key",
    "pass_keys",
    "propose",
]

PATIENCE = 20
"""Proposals for each trial, most of them known before, until a round is closed."""


@dataclass
class Trial:
    """A variant to be tried, and who asked for it.

    `snapped` says that its network pass is another than the one that was asked for. `value` is
    its objective, None as long as there is none.
    """

    point: dict[str, Value]
    variant: Variant
    asked: optuna.trial.Trial
    snapped: bool
    value: float | None = None


@dataclass
class Search:
    """What is known so far.

    Attributes
    ----------
    space : Space
    study : optuna.Study
    values : dict
        Objectives by key of the variant; None for one that failed.
    passes : dict
        Network passes that were made, by `pass_keys`: what of a point decides each; None for
        one that lies outside of the space.
    trials : list of Trial
        Those that have ended.
    """

    space: Space
    study: optuna.Study
    values: dict[str, float | None]
    passes: dict[str, dict[str, Value] | None]
    trials: list[Trial] = field(default_factory=list)


def open_search(
    space: Space, variants: Sequence[Variant], values: Mapping[str, float | None], seed: int
) -> Search:
    """Open a study that knows what is known of the variants of a run.

    Parameters
    ----------
    space : Space
    variants : sequence of Variant
        Of the run.
    values : mapping
        Their objectives by key.
    seed : int

    Raises
    ------
    ConfigError
        Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "refining needs the package optuna", hint="Run: pip install optuna"
        ) from None

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    search = Search(space, study, dict(values), dict.fromkeys(pass_keys(variants)))
    for variant in variants:
        point = space.of_variant(variant)
        if point is not None:
            search.passes[pass_key(variant)] = space.pass_part(point)
            _remember(search, point, values[variant.key])
    return search


def learn(search: Search, trials: Sequence[Trial], values: Mapping[str, float | None]) -> None:
    """Tell the study how the trials of a round did, by the keys of their variants."""
    from optuna.trial import TrialState

    for trial in trials:
        trial.value = search.values[trial.variant.key] = values[trial.variant.key]
        if trial.snapped or trial.value is None:
            search.study.tell(trial.asked, state=TrialState.FAIL)
            _remember(search, trial.point, trial.value)
        else:
            search.study.tell(trial.asked, trial.value)
        search.trials.append(trial)


def _remember(search: Search, point: dict[str, Value], value: float | None) -> None:
    """Tell the study of a point that it did not ask for."""
    import optuna

    if value is not None:
        ranges = {name: _range(knob) for name, knob in search.space.knobs(point).items()}
        search.study.add_trial(
            optuna.trial.create_trial(params=point, distributions=ranges, value=value)
        )


def _range(knob: Knob) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if knob.choices:
        return distributions.CategoricalDistribution(knob.choices)
    if knob.integer:
        return distributions.IntDistribution(int(knob.low), int(knob.high), log=knob.log)
    return distributions.FloatDistribution(knob.low, knob.high, log=knob.log)


def _suggested(asked: optuna.trial.Trial, knob: Knob) -> Value:
    if knob.choices:
        return asked.suggest_categorical(knob.name, knob.choices)
    if knob.integer:
        return asked.suggest_int(knob.name, int(knob.low), int(knob.high), log=knob.log)
    return asked.suggest_float(knob.name, knob.low, knob.high, log=knob.log)


def pass_key(variant: Variant) -> str:
    """Return what decides which network pass a variant needs; `Plan.passes` counts the same."""
    return key_of(variant.steps, variant.model, variant.predict)


def pass_keys(variants: Sequence[Variant]) -> list[str]:
    """Return the different `pass_key` of variants."""
    return list(dict.fromkeys(map(pass_key, variants)))


def new_passes(search: Search, trials: Sequence[Trial]) -> int:
    """Count, and from now on know, the passes that trials need and nothing before them."""
    before = len(search.passes)
    for trial in trials:
        search.passes.setdefault(pass_key(trial.variant), search.space.pass_part(trial.point))
    return len(search.passes) - before


def propose(search: Search, wanted: int, allowed: int) -> list[Trial]:
    """Ask for variants that were not tried yet, with at most so many new passes.

    A proposal beyond that takes the nearest pass that there is, with its own thresholds.
    """
    from optuna.trial import TrialState

    found: dict[str, Trial] = {}
    known = dict(search.passes)
    for _ in range(wanted * PATIENCE):
        if len(found) == wanted:
            break
        asked = search.study.ask()
        point = search.space.point(lambda knob, asked=asked: _suggested(asked, knob))
        try:
            variant = search.space.variant(point)
            snapped = pass_key(variant) not in known and allowed <= 0
            if snapped:
                point = _snapped(search.space, point, known)
                variant = search.space.variant(point)
        except (ValidationError, OpsefError):  # values that do not go together
            search.study.tell(asked, state=TrialState.FAIL)
            continue
        value = search.values.get(variant.key)
        if variant.key in found or variant.key in search.values:
            if snapped or value is None:
                search.study.tell(asked, state=TrialState.FAIL)
            else:
                search.study.tell(asked, value)
            continue
        if pass_key(variant) not in known:
            known[pass_key(variant)] = search.space.pass_part(point)
            allowed -= 1
        found[variant.key] = Trial(point, variant, asked, snapped)
    return list(found.values())


def _snapped(
    space: Space, point: Mapping[str, Value], known: Mapping[str, dict[str, Value] | None]
) -> dict[str, Value]:
    """Return a point with the nearest known pass of its model in place of its own."""
    mine = space.pass_part(point)
    parts = [
        part
        for part in known.values()
        if part is not None and part.get("model") == mine.get("model")
    ]
    nearest = min(parts, key=lambda part: _distance(part, mine))
    return {**nearest, **{name: value for name, value in point.items() if name not in mine}}


def _distance(one: Mapping[str, Value], other: Mapping[str, Value]) -> float:
    """Relative differences of numbers, and 1 for each other difference, added up."""
    total = 0.0
    for name in sorted({*one, *other}):  # so that sums do not depend on the order of sets
        a, b = one.get(name), other.get(name)
        if isinstance(a, int | float) and isinstance(b, int | float):
            total += abs(a - b) / ((abs(a) + abs(b)) or 1)
        else:
            total += a != b
    return total
