"""``opsef sweep``, ``adopt``, ``batch``, ``unit``: runs and their results."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import (
    Context,
    EngineName,
    Executing,
    Profile,
    RunId,
    Workers,
    app,
    command,
    say_who_works,
    stop_work,
    sweep_app,
    unit_app,
)
from opsef_bridge.console import duration
from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from opsef_bridge.errors import OpsefError
    from opsef_bridge.project import Project, Run
    from opsef_bridge.sweep import Plan, Result

MOST_FORESEEN = 5
"""Images that will fail, of which a person is told before a run."""

ASKED_ABOVE = 10_000_000_000
"""Bytes of disk above which a person is asked before they are written."""

TARGETS = {
    "runs": "opsef_bridge.sweep:run_unit",
    "trainings": "opsef_bridge.train.kinds:run_unit",
}
"""What does a unit, by the folder of its run; importing it registers the kinds of units."""

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask, whatever disk it takes.")]


@sweep_app.command("plan")
def sweep_plan() -> None:
    """Say what a run would do, without doing it."""
    from opsef_bridge.sweep import plan_sweep
    from opsef_bridge.sweep.estimate import estimate

    project = Context.project()
    facts = estimate(project, _planned(project, plan_sweep))
    _warn_of_broken_weights(project)
    Context.console.say(
        f"{facts['variants']} variants on {facts['images']} images: {facts['passes']} network "
        f"passes, of which {facts['new_passes']} are new, in {facts['units']} units",
        f"{'About' if facts['measured'] else 'Guessed, not measured:'} "
        f"{duration(facts['seconds'])} on {facts['workers']} workers, and "
        f"{_gigabytes(facts['disk_bytes'])} of disk: {_gigabytes(facts['label_bytes'])} of labels "
        f"and {_gigabytes(facts['stack_bytes'])} of stacks "
        f"({_gigabytes(facts['free_bytes'])} free)",
        "Devices: " + ", ".join(f"{name} on {kind}" for name, kind in facts["devices"].items()),
    )
    _say_foreseen(facts["will_fail"])
    if facts["disk_bytes"] > ASKED_ABOVE:
        Context.console.say(f"{command('sweep run')} will ask first, or takes --yes")
    Context.console.answer(facts)


@sweep_app.command("run")
def sweep_run(
    workers: Workers = None,
    engine: EngineName = Executing.LOCAL,
    profile: Profile = None,
    yes: Yes = False,
) -> None:
    """Do the sweep of opsef.yaml; what was done before is not done again."""
    from opsef_bridge.sweep import plan_sweep

    project = Context.project()
    plan = _planned(project, plan_sweep)
    _warn_of_broken_weights(project)
    _ask_for_disk(project, plan, yes)
    _carry_out(project, plan, workers, engine, profile)


@sweep_app.command("resume")
def sweep_resume(
    run: RunId = None,
    workers: Workers = None,
    engine: EngineName = Executing.LOCAL,
    profile: Profile = None,
) -> None:
    """Go on with a run that was stopped, and try again what failed."""
    from opsef_bridge.sweep import Executor, resume_run

    project = Context.project()
    folder = project.run(run)
    with Context.console.progress(folder.id) as report:
        result = resume_run(project, folder, Executor(engine, workers, profile, report))
    _finish(project, result)


@sweep_app.command("status")
def sweep_status(run: RunId = None) -> None:
    """Say how far a run is."""
    from opsef_bridge.execute import who_works
    from opsef_bridge.sweep import status

    project = Context.project()
    folder = project.run(run)
    result, process = status(folder), who_works(folder)
    if process or result.open:
        say_who_works(process, f"sweep resume --run {folder.id}")
    _finish(project, result, process=process)


@sweep_app.command("cancel")
def sweep_cancel(run: RunId = None) -> None:
    """Stop a run that works now, here or on a cluster; what was finished stays."""
    folder = Context.project().run(run)
    Context.console.answer(
        {"run": folder.id} | stop_work(folder, f"sweep resume --run {folder.id}")
    )


@app.command()
def adopt(
    variant: Annotated[str | None, typer.Argument(help="Id or slug, e.g. v0007.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only for this group.")] = None,
    run: RunId = None,
    by_size: Annotated[
        bool,
        typer.Option(
            "--by-size",
            help="Part the images by the size of their objects; adopt what is first for each.",
        ),
    ] = False,
) -> None:
    """Choose the variant that `opsef batch` runs on all images."""
    from opsef_bridge.sweep import adopt as adopt_variant
    from opsef_bridge.sweep.adopt import adopt_by_size

    if (variant is None) == (not by_size):
        raise typer.BadParameter("name a VARIANT, or use --by-size")
    project = Context.project()
    if variant is None:
        chosen = adopt_by_size(project, group=group, run=run)
    else:
        chosen = adopt_variant(project, variant, group=group, run=run)
    for name, what in chosen.items():
        Context.console.say(
            f"Group {name} adopts {what['id']} of {what['run']}, "
            f"rank {what['rank']}: {what['slug']}",
            *(f"  {sentence}" for sentence in what["words"]),
        )
    if by_size:
        Context.console.say("The new groups are in images/index.csv; the next sweep ranks them.")
    Context.console.answer(chosen)


@app.command()
def batch(
    workers: Workers = None,
    engine: EngineName = Executing.LOCAL,
    profile: Profile = None,
    yes: Yes = False,
) -> None:
    """Run the adopted variants on all images, whole."""
    from opsef_bridge.sweep import left_out, plan_batch

    project = Context.project()
    plan = _planned(project, plan_batch)
    for group, count in left_out(plan, project.images()).items():
        Context.console.say(
            f"Left out: {count} of group {group}, which adopted no variant. To take them along: "
            + command(f"adopt VARIANT --group {group}")
        )
    _ask_for_disk(project, plan, yes)
    _carry_out(project, plan, workers, engine, profile)


@unit_app.command("run")
def unit_run(
    units: Annotated[list[str], typer.Argument(metavar="UNIT...", help="Ids, e.g. u0001.")],
    run: RunId = None,
    tried_again: Annotated[
        bool,
        typer.Option(
            "--tried-again",
            help="End if a worker dies, and record no failure: this command will be run again.",
        ),
    ] = False,
) -> None:
    """Do units of a run, or what is left of them, in one process."""
    from opsef_bridge.execute import run_named

    project = Context.project()
    folder = project.run(run)
    counts = run_named(
        TARGETS[folder.root.parent.name], str(project.root), folder, units, tried_again=tried_again
    )
    Context.console.say(", ".join(f"{count} {name}" for name, count in counts.items()))
    Context.console.answer(counts)
    raise typer.Exit(1 if counts["failed"] else 0)


def ask_for_disk(size: int, free: int, yes: bool, what: str) -> None:
    """Ask before more than `ASKED_ABOVE` bytes are written; where nobody can answer, refuse.

    Raises
    ------
    InputError
        It is more, `yes` is False, and there is no terminal to ask at.
    """
    if size <= ASKED_ABOVE or yes:
        return
    told = f"{what} will take about {_gigabytes(size)} of disk ({_gigabytes(free)} are free)"
    if Context.console.as_json or not sys.stdin.isatty():
        raise InputError(
            f"{told}, more than {_gigabytes(ASKED_ABOVE)}, and there is no terminal to ask at",
            hint="Add --yes to go on, or make it less: compare.top, sweep.crop, fewer images",
        )
    if not typer.confirm(f"{told}. Go on?", err=True):
        Context.console.say("Nothing was done")
        raise typer.Exit(2)


def _ask_for_disk(project: Project, plan: Plan, yes: bool) -> None:
    """Ask before a run that is large; one that goes on was asked for already."""
    from opsef_bridge.sweep import newest_run
    from opsef_bridge.sweep.estimate import disk_bytes

    run = newest_run(project, plan.purpose)
    if run is None or run.plan()["key"] != plan.key:
        size = sum(disk_bytes(project, plan))
        free = shutil.disk_usage(project.root).free
        ask_for_disk(size, free, yes, "Labels and stacks")


def _gigabytes(size: float) -> str:
    """Return a size in words: ``23 MB``, ``12.5 GB``."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _warn_of_broken_weights(project: Project) -> None:
    """Say which cards were passed over; the plan needs none of them."""
    from opsef_bridge.engines.registry import broken_cards

    for problem in broken_cards([project.models_folder]).values():
        Context.console.warn(str(problem))


def _planned(project: Project, planner: Callable[..., Plan]) -> Plan:
    """Return a plan, and say what the import found that will not fail by itself.

    What is wrong with single images is said by `_say_foreseen`.
    """
    told: list[str] = []
    plan = planner(project, told.append)
    images = tuple(f"{entry.id}: " for entry in project.images())
    told = [sentence for sentence in told if not sentence.startswith(images)]
    for sentence in told[:MOST_FORESEEN]:
        Context.console.say(sentence)
    if told[MOST_FORESEEN:]:
        Context.console.say(f"{command('images import')} says more of that kind")
    return plan


def _say_foreseen(sentences: list[str]) -> None:
    """Say which images will fail, of many the first."""
    more = len(sentences) - MOST_FORESEEN
    for sentence in sentences[:MOST_FORESEEN]:
        Context.console.warn(sentence)
    if more > 0:
        Context.console.warn(f"{more} more images will fail; `opsef images list` shows all images")


def _carry_out(
    project: Project, plan: Plan, workers: int | None, engine: str, profile: Path | None
) -> None:
    """Carry out a plan with progress and say how it ended."""
    from opsef_bridge.sweep import Executor, run_plan
    from opsef_bridge.sweep.foreseen import foreseen

    _say_foreseen(foreseen(project, plan))
    with Context.console.progress(plan.purpose) as report:
        result = run_plan(project, plan, Executor(engine, workers, profile, report))
    _finish(project, result)


def _finish(project: Project, result: Result, **told: Any) -> None:
    _report(project.run(result.run), result, **told)
    raise typer.Exit(result.exit_code)


def _report(run: Run, result: Result, **told: Any) -> None:
    """Print the result of a run: counts, the first of the ranking, what to look at.

    What is `told` stands in the answer beside it.
    """
    from opsef_bridge.sweep.remarks import first_of

    console = Context.console
    console.say(
        f"{result.run}: {result.ok} ok, {result.empty} empty, {result.failed} failed, "
        f"{result.open} open; {result.passes} network passes"
    )
    words = _say_ranking(run)
    console.say(*_said_once(result.problems))
    if result.remarks:
        console.say("", *first_of(result.remarks))
    if result.failed:
        console.say("", *_reasons(run), f"All of it: {run.outcomes_file}")
        console.say(f"Try again: {command('sweep resume')}")
    for file in (run.root / "compare" / "*.tif", run.batch_file):
        if any(file.parent.glob(file.name)):
            console.say("", f"Open in ImageJ or Fiji: {file}")
    if run.report_file.is_file():
        console.say(f"Look at: {run.report_file}")
    console.answer(
        {
            "run": result.run,
            "folder": str(run.root),
            "ok": result.ok,
            "empty": result.empty,
            "failed": result.failed,
            "open": result.open,
            "passes": result.passes,
            "problems": {unit: str(error) for unit, error in result.problems.items()},
            "remarks": list(result.remarks),
            "words": words,
            **told,
        }
    )


def _said_once(problems: Mapping[str, OpsefError]) -> list[str]:
    """Return why units failed, a line for all of the same reason."""
    units: dict[str, list[str]] = {}
    for unit, error in problems.items():
        units.setdefault(str(error), []).append(unit)
    return [
        f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''} failed: {reason}"
        for reason, ids in units.items()
    ]


def _say_ranking(run: Run) -> dict[str, list[str]]:
    """Print the first of each group, and what to know of the order; return that."""
    from opsef_bridge.project import read_csv
    from opsef_bridge.sweep.ranking import words_of_run

    console = Context.console
    rows = read_csv(run.variants_file) if run.variants_file.is_file() else []
    words = words_of_run(run)
    for group in dict.fromkeys(row["group"] for row in rows if row["status"] != "failed"):
        ranked = [row for row in rows if row["group"] == group]
        by = "agreement" if all(row["score"] == row["agreement"] for row in ranked) else "score"
        console.say("", f"Group {group}, first three of {len(ranked)} by {by}:")
        columns = dict.fromkeys(("rank", "id", "slug", "objects", by, "agreement", "status"))
        console.table(ranked[:3], columns)
        if words[group]:
            console.say(*words[group])
    return words


def _reasons(run: Run) -> list[str]:
    """The commonest reasons of failed outcomes, as lines."""
    from collections import Counter

    failed = [outcome for outcome in run.outcomes() if outcome["status"] == "failed"]
    counts = Counter(f"{o['message']}. {o['hint']}" for o in failed)
    return [f"{count} failed: {reason}" for reason, count in counts.most_common(3)]
