"""``opsef train run``, ``grid``, ``status``, ``resume``: networks are trained and judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import (
    Context,
    Device,
    Devices,
    EngineName,
    Executing,
    Profile,
    Workers,
    command,
    say_who_works,
    stop_work,
    train_app,
)
from opsef_bridge.console import duration

if TYPE_CHECKING:
    from opsef_bridge.project import Project, Run
    from opsef_bridge.train.networks import TrainPlan
    from opsef_bridge.train.running import TrainResult

TrainingId = Annotated[str | None, typer.Argument(help="Id, e.g. train-0001 (newest).")]


@train_app.command("run")
def train_run(
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings of the engine's training: width=16.")
    ] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="Which networks.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Id of a dataset.")] = "newest",
    start: Annotated[
        str,
        typer.Option("--from", help="random, shipped, weights by name, or a file with a card."),
    ] = "shipped",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Batches.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="As many steps as this allows.")
    ] = None,
    passes: Annotated[
        float | None, typer.Option("--passes", help="How often each image is drawn.")
    ] = None,
    augment: Annotated[
        str, typer.Option("--augment", help="none, opsef, or a preset such as zaki.")
    ] = "opsef",
    regions: Annotated[int, typer.Option("--regions", min=1, help="That a preset draws.")] = 512,
    name: Annotated[str, typer.Option("--name", help="Of the candidate.")] = "",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    every: Annotated[int, typer.Option("--every", min=1, help="Steps per checkpoint.")] = 100,
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="End after so many without gain.")
    ] = None,
    device: Device = Devices.AUTO,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="The curves for TensorBoard, too.")
    ] = False,
    corrections: Annotated[
        bool, typer.Option("--corrections", help="Make the dataset of what is vouched for now.")
    ] = False,
    rehearse: Annotated[
        str,
        typer.Option(
            "--rehearse",
            metavar="GROUPS",
            help="With --corrections: bundled images that are learned from besides: small, large, "
            "u2os, tissue, all, none (fluorescence; none from random weights).",
        ),
    ] = "",
    workers: Workers = None,
    executor: Annotated[
        Executing, typer.Option("--executor", help="Who does the units.")
    ] = Executing.LOCAL,
    profile: Profile = None,
) -> None:
    """Train one network, and judge it beside what it starts from."""
    from opsef_bridge.errors import InputError
    from opsef_bridge.train.evaluate import read_values
    from opsef_bridge.train.planning import RunWish, plan_run

    project = Context.project()
    cycles = {"steps": steps, "minutes": minutes, "passes": passes}
    if corrections:
        from opsef_bridge.train.corrections import CorrectionWish, dataset_of_corrections

        made = dataset_of_corrections(project, CorrectionWish(start=start, rehearse=rehearse))
        Context.console.warn(*made.remarks)
        dataset = made.card["id"]
    elif rehearse:
        raise InputError(
            "--rehearse goes with --corrections, which makes a dataset",
            hint="Or make one: opsef train dataset --rehearse",
        )
    wish = RunWish(
        engine or _engine_of(project, start),
        dataset,
        start,
        cycles={key: float(value) for key, value in cycles.items() if value is not None},
        augmentation=augment,
        regions=regions,
        settings=read_values(settings or ()),
        seed=seed,
        every=every,
        patience=patience,
        device=device.value,
        name=name,
        tensorboard=tensorboard,
    )
    _carry_out(project, plan_run(project, wish), workers, executor, profile)


@train_app.command("grid")
def train_grid(
    plan: Annotated[bool, typer.Option("--plan", help="Only say what it would do.")] = False,
    workers: Workers = None,
    engine: EngineName = Executing.LOCAL,
    profile: Profile = None,
) -> None:
    """Train and compare what the section `train` of opsef.yaml names."""
    from opsef_bridge.train.planning import plan_grid

    project = Context.project()
    planned = plan_grid(project)
    if plan:
        Context.console.answer(_foretell(project, planned, workers))
        return
    _carry_out(project, planned, workers, engine, profile)


@train_app.command("resume")
def train_resume(
    training: TrainingId = None,
    workers: Workers = None,
    engine: EngineName = Executing.LOCAL,
    profile: Profile = None,
) -> None:
    """Go on with a training that was stopped, and try again what failed."""
    from opsef_bridge.sweep import Executor
    from opsef_bridge.train.running import resume_training

    project = Context.project()
    run = project.training(training)
    with Context.console.progress(run.id) as report:
        result = resume_training(project, run, Executor(engine, workers, profile, report))
    _finish(project, result)


@train_app.command("status")
def train_status(training: TrainingId = None) -> None:
    """Say how far a training is: steps, loss, and the time that is left."""
    from opsef_bridge.execute import who_works
    from opsef_bridge.train.running import training_status

    run = Context.project().training(training)
    result, process = training_status(run), who_works(run)
    rows = [
        {
            **{name: "" if value is None else value for name, value in row.items()},
            "left": "" if row["seconds_left"] is None else duration(row["seconds_left"]),
        }
        for row in result.units
    ]
    console = Context.console
    console.say(f"{result.training}: {result.done} of {result.of} units done")
    console.table(rows, ("unit", "kind", "network", "state", "step", "steps", "loss", "left"))
    _say_problems(run, result)
    if process or result.done < result.of:
        say_who_works(process, f"train resume {run.id}")
    console.answer(
        {
            "training": result.training,
            "done": result.done,
            "of": result.of,
            "failed": result.failed,
            "units": result.units,
            "problems": {unit: str(error) for unit, error in result.problems.items()},
            "process": process,
        }
    )


@train_app.command("cancel")
def train_cancel(training: TrainingId = None) -> None:
    """Stop a training that works now, here or on a cluster; what was finished stays."""
    run = Context.project().training(training)
    Context.console.answer({"training": run.id} | stop_work(run, f"train resume {run.id}"))


def _engine_of(project: Project, start: str) -> str:
    """Return the engine of weights that are named; without a name one must be given."""
    from opsef_bridge.errors import InputError
    from opsef_bridge.train.choices import RANDOM, SHIPPED, any_weights

    if start in (RANDOM, SHIPPED):
        raise InputError("which networks? The option --engine is missing",
                         hint="For example --engine unet, or --from nuclei-unet")  # fmt: skip
    return any_weights(project, start).engine


def _carry_out(
    project: Project, plan: TrainPlan, workers: int | None, engine: str, profile: Path | None
) -> None:
    from opsef_bridge.sweep import Executor
    from opsef_bridge.train.running import run_training

    _foretell(project, plan, workers)
    with Context.console.progress("train") as report:
        result = run_training(project, plan, Executor(engine, workers, profile, report))
    _finish(project, result)


def _foretell(project: Project, plan: TrainPlan, workers: int | None) -> dict[str, Any]:
    """Say how many units there are and how long they will take; return that."""
    from opsef_bridge.compare.words import count_of
    from opsef_bridge.train.foresight import foresee
    from opsef_bridge.train.seen import remarks_of_plan

    Context.console.warn(*remarks_of_plan(project, plan))
    facts = foresee(project, plan, workers)
    trained = [one for one in plan.networks if one.trained]
    Context.console.say(
        f"{count_of(len(trained), 'network')} to train ({facts['new']} new), beside "
        f"{len(plan.networks) - len(trained)} as they are; {facts['units']} units",
        f"{'About' if facts['measured'] else 'Guessed, not measured: about'} "
        f"{duration(facts['seconds'])} on {count_of(facts['workers'], 'worker')}",
    )
    return facts


def _say_problems(run: Run, result: TrainResult) -> None:
    """Say why units failed; of those that only wait for what failed there is nothing to say."""
    needs = {unit["id"]: unit["needs"] for unit in run.plan()["units"]}
    for unit, error in result.problems.items():
        if not set(needs[unit]) & set(result.problems):
            Context.console.say(f"{unit} failed: {error}")


def _finish(project: Project, result: TrainResult) -> None:
    run, console = project.training(result.training), Context.console
    if not result.new:
        console.say(f"{run.id} is done already: nothing has changed")
    console.say(f"{run.id}: {result.done} of {result.of} units done")
    _say_problems(run, result)
    table = run.root / "tables" / "networks.csv"
    rows: list[dict[str, str]] = []
    tests: list[dict[str, str]] = []
    if table.is_file():
        from opsef_bridge.project import read_csv

        rows = read_csv(table)
        tests = [row for row in rows if row["split"] == "test" and not row["kind"]]
    if tests:
        console.say("")
        console.table(tests, ("network", "name", "f1_0.5", "f1_0.7", "f1_0.9", "low_0.7",
                              "high_0.7"))  # fmt: skip
    if run.report_file.is_file():
        console.say(f"Look at: {run.report_file}")
    if result.problems or result.failed:
        console.say(f"Try again: {command(f'train resume {run.id}')}")
    from opsef_bridge.train.places import plan_of

    names = [one.candidate for one in plan_of(run).networks if one.trained]
    if result.exit_code == 0 and len(names) == 1:
        console.say(f"Keep it: {command(f'models promote {names[0]}')}")
    console.answer(
        {
            "training": run.id,
            "folder": str(run.root),
            "done": result.done,
            "of": result.of,
            "failed": result.failed,
            "new": result.new,
            "candidates": names,
            "scores": rows,
            "problems": {unit: str(error) for unit, error in result.problems.items()},
        }
    )
    raise typer.Exit(result.exit_code)
