"""``opsef sweep refine``: a second sweep around the best region of a run."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from opsef_bridge.cli.common import (
    Context,
    EngineName,
    Executing,
    Profile,
    Workers,
    command,
    sweep_app,
)

if TYPE_CHECKING:
    from opsef_bridge.sweep.refine import Refined


@sweep_app.command("refine")
def sweep_refine(
    run: Annotated[str | None, typer.Option("--run", help="Id of the run (newest sweep).")] = None,
    group: Annotated[str | None, typer.Option("--group", help="For which group.")] = None,
    passes: Annotated[
        int | None, typer.Option("--passes", help="Network passes allowed (as many as the run).")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", help="Variants that are tried.")] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of the optimiser.")] = 0,
    workers: Workers = None,
    engine: EngineName = Executing.LOCAL,
    profile: Profile = None,
) -> None:
    """Search for better variants between the best of a run.

    Thresholds, scale and recipe numbers are turned. The variants of the run judge each trial,
    together with what you vouch for. Stopped, the same command goes on.
    """
    from opsef_bridge.sweep import Executor
    from opsef_bridge.sweep.refine import refine

    project, console = Context.project(), Context.console
    with console.progress("refine") as report:
        refined = refine(
            project, run=run, group=group, passes=passes, trials=trials, seed=seed,
            executor=Executor(engine, workers, profile, report), told=console.say,
        )  # fmt: skip
    _say(refined)
    console.answer(
        {
            "run": refined.run,
            "folder": str(project.run(refined.run).root),
            "refined": refined.refined,
            "group": refined.group,
            "before": refined.before,
            "now": refined.now,
            "gain": refined.gain,
            "trials": refined.trials,
            "trials_failed": refined.failed,
            "passes": refined.passes,
            "passes_allowed": refined.budget,
            "answers": refined.answers,
        }
    )
    raise typer.Exit(1 if refined.failed else refined.result.exit_code)


def _say(refined: Refined) -> None:
    console, before, now = Context.console, refined.before, refined.now
    how = "agreement"
    if refined.answers:
        how += f" and {refined.answers} vouched objects and places"
    console.say(
        "",
        f"{refined.run} holds the variants of {refined.refined} and "
        f"{refined.trials - refined.failed} new ones; "
        f"{refined.passes} of {refined.budget} network passes used",
        f"Best before: {before['objective']:.3f}  {before['slug']} ({before['id']} of "
        f"{refined.refined})",
        f"Best now:    {now['objective']:.3f}  {now['slug']} ({now['id']} of {refined.run})",
        f"Gain: {refined.gain:.3f} of {how} with the variants of {refined.refined}",
    )
    if refined.trials and not refined.gain:
        console.say("No new variant is better than what was there")
    if refined.failed:
        console.say(
            f"{refined.failed} new variants failed: outcomes.csv of the run of their round says why"
        )
    if not refined.trials:
        console.say("No new variant was left to try with these passes; allow more with --passes")
    if refined.result.exit_code:
        left = f"{refined.result.failed} failed, {refined.result.open} open"
        console.say(f"{refined.run}: {left}; `{command(f'sweep resume --run {refined.run}')}`")
    words = f"adopt {now['id']} --run {refined.run} --group {shlex.quote(refined.group)}"
    console.say(
        "",
        "This is an order to look in, not an accuracy: where all models err alike, the search "
        "follows them. Look at both before you choose:",
        str(Context.project().run(refined.run).report_file),
        f"Choose it: {command(words)}",
    )
