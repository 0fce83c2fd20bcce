"""A second sweep around the best region of a run: ``opsef sweep refine``.

An optimiser (the tree-structured Parzen estimator of Optuna [1]_) proposes variants between
those that came first (`opsef_bridge.sweep.search_space`); each is judged by the variants of
the run that is refined, which stay the voters: trials do not vote for one another. Where a
person vouches for objects, the answers count as they do in the ranking.

A round of trials is an ordinary run of the purpose ``refine``, and so is the last, which holds
the variants of the refined run and all trials, ranked, with stacks and report. There is no
other state: the same call asks the same questions, finds their runs, and goes on where it was
stopped. Finished labels and network maps are never made again.

References
----------
.. [1] T. Akiba et al., "Optuna: A next-generation hyperparameter optimization framework",
   KDD 2019; `optuna.samplers.TPESampler` with its parameters ``seed`` and ``constant_liar``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opsef_bridge.errors import ConfigError, NotFoundError
from opsef_bridge.files import key_of, lock, write_json
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep.devices import weights_of_variants
from opsef_bridge.sweep.jury import Jury, call_jury, labelled, labels_of, objective
from opsef_bridge.sweep.planned import Plan, PlannedImage, Variant
from opsef_bridge.sweep.planned_units import Numbers, ranking_units, segmenting_units
from opsef_bridge.sweep.reopening import lost_labels
from opsef_bridge.sweep.run import Executor, Result, newest_run, resume_run, status, variant_rows
from opsef_bridge.sweep.search_space import make_space
from opsef_bridge.sweep.trials import Search, learn, new_passes, open_search, pass_keys, propose

__all__ = ["Refined", "refine"]

LEADERS = 5
"""Variants of the highest rank, around which is searched."""

ROUND = 8
"""Trials that are asked for at a time, and made in one run."""


@dataclass(frozen=True)
class Refined:
    """What came of it.

    Attributes
    ----------
    run : str
        The last run, with all variants.
    refined : str
        The run that was refined.
    group : str
    before, now : dict
        ``id`` and ``slug`` of the best variant of the refined run, and of the best of all (its
        `id` is that of `run`); ``objective``, by the votes of the refined run.
    trials, failed : int
        How many variants were tried, and how many of them have no labels.
    rounds : int
    passes, budget : int
        Network passes used, of those allowed.
    answers : int
        Vouched objects and places that took part in the objective.
    result : Result
        Of the last run.
    """

    run: str
    refined: str
    group: str
    before: dict[str, Any]
    now: dict[str, Any]
    trials: int
    failed: int
    rounds: int
    passes: int
    budget: int
    answers: int
    result: Result

    @property
    def gain(self) -> float:
        """By how much the objective grew."""
        return round(self.now["objective"] - self.before["objective"], 6)


@dataclass(frozen=True)
class _Base:
    """The run that is refined, of one group."""

    project: Project
    run: Run
    plan: Plan
    group: str
    images: tuple[PlannedImage, ...]
    variants: tuple[Variant, ...]
    leaders: tuple[Variant, ...]
    jury: Jury

    @property
    def cost(self) -> int:
        """Network passes of one variant over all images."""
        return sum(len(image.tile_boxes()) or 1 for image in self.images)


def refine(
    project: Project,
    *,
    run: str | None = None,
    group: str | None = None,
    passes: int | None = None,
    trials: int = 32,
    seed: int = 0,
    executor: Executor | None = None,
    told: Callable[[str], None] = lambda text: None,
) -> Refined:
    """Search for better variants around the best of a run.

    Parameters
    ----------
    project : Project
    run : str, optional
        The run; the newest sweep by default.
    group : str, optional
        The group; needed where the run has several.
    passes : int, optional
        Network passes that may be used; as many as the run planned by default. With 0 only
        what needs no new pass is turned: thresholds.
    trials : int
        Variants that are tried.
    seed : int
        Of the optimiser. The same call gives the same trials.
    executor : Executor, optional
    told : callable
        Called with a sentence after each round.

    Raises
    ------
    NotFoundError
        There is no such run or group, or the run is not ranked yet.
    ConfigError
        No trial or a negative number of passes; several groups and none named; nothing to
        turn; only failed variants; a batch or a consensus; or the run was made by other versions
        of its engines.
    """
    if trials < 1 or (passes is not None and passes < 0):
        raise ConfigError(
            f"{trials} trials with {passes} network passes leave nothing to do",
            hint="Try 1 variant or more; with 0 passes only thresholds are turned",
        )
    base = _base(project, run, group)
    executor = executor or Executor()
    judged = _judged(base, base.run)
    search = _search(base, judged, seed)
    budget = base.cost * len(pass_keys(base.variants)) if passes is None else passes
    rounds = math.ceil(trials / ROUND)
    used = done = 0
    for number in range(1, rounds + 1):
        wanted = min(ROUND, trials - len(search.trials))
        # Spread over the rounds, so that the last may still follow what the first found.
        so_far = math.ceil(budget // base.cost * number / rounds)
        proposed = propose(search, wanted, so_far - math.ceil(used / base.cost))
        if not proposed:
            break
        made = _made(base, [trial.variant for trial in proposed], False, executor)
        planned = new_passes(search, proposed) * base.cost
        used += max(planned, status(made).passes)
        learn(search, proposed, _judged(base, made))
        done = number
        told(_said(number, rounds, search, judged, used, budget))
    return _finished(base, search, judged, executor, (done, used, budget))


def _base(project: Project, run: str | None, group: str | None) -> _Base:
    """Read the run that is refined, and make its variants the jury."""
    folder = project.run(run) if run else newest_run(project, "sweep")
    if folder is None:
        raise NotFoundError("there is no sweep yet", hint="Start one: opsef sweep run")
    plan = Plan.from_json(folder.plan())
    _check_purpose(project, folder, plan)
    rows = variant_rows(folder)
    groups = list(dict.fromkeys(image.group for image in plan.images))
    if group is None and len(groups) > 1:
        raise ConfigError(
            f"{folder.id} has the groups {', '.join(groups)}: each has a best region of its own",
            hint=f"Name one, e.g. --group {groups[0]}",
        )
    group = group or groups[0]
    if group not in groups:
        raise NotFoundError(
            f"{folder.id} has no group {group!r}", hint=f"Choose of {', '.join(groups)}"
        )
    ranked = [row["id"] for row in rows if row["group"] == group and row["status"] != "failed"]
    by_id = {variant.id: variant for variant in plan.variants}
    variants = tuple(one for one in plan.variants if one.id in ranked)
    if not variants:
        raise ConfigError(
            f"all variants of {folder.id} failed, there is nothing to refine",
            hint=f"Why they failed: {folder.outcomes_file}",
        )
    if any(variant.key != variant.current_key() for variant in variants):
        raise ConfigError(
            f"{folder.id} was made with other versions of its engines or steps",
            hint="Run `opsef sweep run` again, then refine that run",
        )
    images = tuple(image for image in plan.images if image.group == group)
    jury = call_jury(project, folder, images, variants)
    leaders = tuple(by_id[name] for name in ranked[:LEADERS])
    return _Base(project, folder, plan, group, images, variants, leaders, jury)


def _check_purpose(project: Project, run: Run, plan: Plan) -> None:
    """Refuse what has no parameters to turn: a consensus is chosen from labels, a batch is one
    variant."""
    if plan.purpose in ("sweep", "refine"):
        return
    if plan.purpose != "consensus":
        raise ConfigError(
            f"{run.id} is a run of the purpose {plan.purpose}",
            hint="Name a sweep: opsef sweep refine --run R",
        )
    chosen_from = [variant.key for variant in plan.variants[:-1]]
    sources = (project.run(name) for name in reversed(project.runs()))
    source = next((one.id for one in sources if _keys(one) == chosen_from), None)
    raise ConfigError(
        f"{run.id} is a consensus" + (f" of the variants of {source}" if source else "") + ": it "
        "is chosen from their labels and has nothing to turn",
        hint=f"Refine what it was made from: opsef sweep refine --run {source or 'R'}",
    )


def _keys(run: Run) -> list[str]:
    """Keys of the variants of a sweep; none of another run."""
    plan = Plan.from_json(run.plan())
    return [one.key for one in plan.variants] if plan.purpose in ("sweep", "refine") else []


def _judged(base: _Base, run: Run) -> dict[str, float | None]:
    """Objectives of the variants of a run, by key, each as if it came new."""
    there = labelled(run)
    values = {}
    for variant in Plan.from_json(run.plan()).variants:
        new = [labels for (labels,) in labels_of(run, base.images, [variant], there)]
        values[variant.key] = objective(base.jury, new, variant.family)
    return values


def _search(base: _Base, judged: Mapping[str, float | None], seed: int) -> Search:
    weights = weights_of_variants(base.project, base.leaders)
    recipes = base.plan.config["preprocess"]
    space = make_space(base.variants, base.leaders, recipes, weights)
    if not space.free():
        raise ConfigError(
            f"there is nothing to turn around the best variants of {base.run.id}",
            hint="Name parameters of their models in opsef.yaml, e.g. a threshold, and sweep them",
        )
    return open_search(space, base.variants, judged, seed)


def _made(base: _Base, variants: Sequence[Variant], last: bool, executor: Executor) -> Run:
    """Carry out a run of these variants, or what is left of it, and return it."""
    plan = _plan(base, variants, last)
    project = base.project
    for name in reversed(project.runs()):
        run = project.run(name)
        if run.plan()["key"] == plan.key:
            break
    else:
        with lock(project.lock_file):
            run = project.new_run()
            run.write_plan(plan.to_json())
    if status(run).open or lost_labels(run):
        resume_run(project, run, executor)
    return run


def _plan(base: _Base, variants: Sequence[Variant], last: bool) -> Plan:
    """Plan a run of explicit variants; only the `last` has stacks and a report."""
    slugs: dict[str, int] = {}
    numbered = []
    for number, variant in enumerate(variants, start=1):
        slugs[variant.slug] = slugs.get(variant.slug, 0) + 1
        count = slugs[variant.slug]
        slug = f"{variant.slug}-{count}" if count > 1 else variant.slug
        numbered.append(replace(variant, id=f"v{number:04d}", slug=slug))
    wanted = {image.id: [variant.id for variant in numbered] for image in base.images}
    number_units = Numbers()
    segmenting = tuple(segmenting_units(base.images, numbered, wanted, number_units))
    ranking = tuple(ranking_units(base.images, segmenting, number_units))
    units = (*segmenting, *(ranking if last else ranking[:1]))
    told = [(variant.id, variant.slug, variant.key) for variant in numbered]
    key = key_of("refine", base.plan.key, base.group, last, told)
    return Plan(key, "refine", base.plan.config, base.images, tuple(numbered), units)


def _best(values: Mapping[str, float | None], variants: Sequence[Variant]) -> Variant:
    """The variant of the largest objective; of equal ones the first."""
    return max(variants, key=lambda one: -1.0 if (v := values[one.key]) is None else v)


def _said(
    number: int, rounds: int, search: Search, judged: Mapping[str, float | None],
    used: int, budget: int,
) -> str:  # fmt: skip
    before = max((v for v in judged.values() if v is not None), default=0.0)
    now = max((v for v in search.values.values() if v is not None), default=0.0)
    return (
        f"Round {number} of {rounds}: {len(search.trials)} variants tried, {used} of {budget} "
        f"network passes used; best {now:.3f}, before {before:.3f}"
    )


def _finished(
    base: _Base,
    search: Search,
    judged: Mapping[str, float | None],
    executor: Executor,
    spent: tuple[int, int, int],
) -> Refined:
    """Make the last run, of all variants, and write down what came of it."""
    tried = [trial.variant for trial in search.trials if trial.value is not None]
    last = _made(base, [*base.variants, *tried], True, executor)
    ids = {variant.key: variant for variant in Plan.from_json(last.plan()).variants}
    before, now = _best(judged, base.variants), _best(search.values, [*base.variants, *tried])
    rounds, used, budget = spent
    refined = Refined(
        last.id, base.run.id, base.group,
        before=_named(before, judged),
        now=_named(ids[now.key], search.values),
        trials=len(search.trials), failed=len(search.trials) - len(tried), rounds=rounds,
        passes=used, budget=budget, answers=base.jury.answers, result=status(last),
    )  # fmt: skip
    told = {
        name: getattr(refined, name)
        for name in ("refined", "group", "before", "now", "gain", "passes", "budget", "answers")
    }
    told["trials"] = [
        {"id": ids[t.variant.key].id, "objective": t.value} if t.value is not None
        else {"slug": t.variant.slug, "objective": None}
        for t in search.trials
    ]  # fmt: skip
    write_json(last.root / "refine.json", told)
    return refined


def _named(variant: Variant, values: Mapping[str, float | None]) -> dict[str, Any]:
    return {"id": variant.id, "slug": variant.slug, "objective": values[variant.key] or 0.0}
