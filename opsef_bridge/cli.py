"""The command ``opsef``: one function per command. Parses, calls, prints; no logic.

Exit codes: 0 done, 1 some units failed, 2 bad input, 130 stopped by Ctrl-C.
Imports stand inside the commands, so that ``opsef --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.console import Console, duration
from opsef_bridge.errors import OpsefError

if TYPE_CHECKING:
    from opsef_bridge.project import Project, Run
    from opsef_bridge.sweep import Plan, Result

__all__ = ["app", "main"]

_OPTIONS: dict[str, Any] = {"add_completion": False, "no_args_is_help": True}
app = typer.Typer(
    help="Sweep segmentation networks, compare the results in ImageJ, adopt the best.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    **_OPTIONS,
)
images_app = typer.Typer(help="The images of a project.", **_OPTIONS)
sweep_app = typer.Typer(help="Try all variants on a sample of the images.", **_OPTIONS)
unit_app = typer.Typer(help="Units of work, for executors.", **_OPTIONS)
rois_app = typer.Typer(help="Objects as ImageJ ROIs.", **_OPTIONS)
models_app = typer.Typer(help="Weights.", **_OPTIONS)
engines_app = typer.Typer(help="Engines.", **_OPTIONS)
for name, group in {
    "images": images_app,
    "sweep": sweep_app,
    "unit": unit_app,
    "rois": rois_app,
    "models": models_app,
    "engines": engines_app,
}.items():
    app.add_typer(group, name=name)

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes at a time (free cores).")
]
Engine = Annotated[str, typer.Option("--engine", help="Who does the units: local or snakemake.")]
Profile = Annotated[Path | None, typer.Option("--profile", help="Snakemake profile of a cluster.")]
RunId = Annotated[str | None, typer.Option("--run", help="Id of the run (newest).")]


STOPPED = 130
"""Exit code after Ctrl-C, which typer turns into an exit."""


class _Context:
    """What every command knows: the project and how to print."""

    folder = Path(".")
    console = Console()

    @classmethod
    def project(cls) -> Project:
        from opsef_bridge.project import Project

        return Project(cls.folder)


def main() -> None:
    """Run the command line; errors become one message and an exit code."""
    try:
        app(_global_options_first(sys.argv[1:]), standalone_mode=True)
    except OpsefError as error:
        print(f"opsef: {error}", file=sys.stderr)
        _Context.console.answer(
            {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        )
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != STOPPED:
            raise
        print(
            "\nopsef: stopped. What was finished stays; `opsef sweep resume` goes on",
            file=sys.stderr,
        )
        sys.exit(STOPPED)
    except BrokenPipeError:  # `opsef ... | head`
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without rights: it names the file
        print(f"opsef: {error}", file=sys.stderr)
        _Context.console.answer({"error": {"code": "os", "message": str(error), "hint": ""}})
        sys.exit(2)


def _global_options_first(arguments: list[str]) -> list[str]:
    """Let ``-p DIR`` and ``--json`` stand anywhere before a ``--``."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        if word == "--json" or word.startswith("--project="):
            front.append(word)
        elif word in ("-p", "--project"):
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            rest.append(word)
    return front + rest


@app.callback()
def _common(
    project: Annotated[
        Path, typer.Option("-p", "--project", metavar="DIR", help="Folder of the project.")
    ] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    _Context.folder = project
    _Context.console = Console(as_json=as_json)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put the project.")] = Path("demo"),
    workers: Workers = None,
) -> None:
    """Make a project of the bundled images and do everything once."""
    from opsef_bridge.demo import make_demo

    _Context.folder = make_demo(folder)
    sweep_run(workers=workers)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="The project to make.")],
    images: Annotated[list[str], typer.Option("--images", help="File, folder or glob.")],
) -> None:
    """Make a project: an opsef.yaml to start from."""
    from opsef_bridge.demo import make_project

    file = make_project(folder, images)
    _Context.console.say(f"Wrote {file}. Look at it, then: opsef -p {folder} sweep run")
    _Context.console.answer({"config": str(file)})


@images_app.command("import")
def images_import() -> None:
    """Bring images/index.csv up to date with the sources."""
    from opsef_bridge.sweep.importing import import_images

    project = _Context.project()
    import_images(project, project.config)
    images_list()


@images_app.command("list")
def images_list() -> None:
    """List the images of the project."""
    project = _Context.project()
    project.config  # noqa: B018  (a folder without opsef.yaml is no project without images)
    rows = [entry.to_row() for entry in project.images()]
    _Context.console.table(rows, ("id", "axes", "shape", "group", "include", "source"))
    _Context.console.answer(rows)


@sweep_app.command("plan")
def sweep_plan() -> None:
    """Say what a run would do, without doing it."""
    from opsef_bridge.sweep import plan_sweep
    from opsef_bridge.sweep.estimate import estimate

    project = _Context.project()
    facts = estimate(project, plan_sweep(project))
    _Context.console.say(
        f"{facts['variants']} variants on {facts['images']} images: {facts['passes']} network "
        f"passes, of which {facts['new_passes']} are new, in {facts['units']} units",
        f"{'About' if facts['measured'] else 'Guessed, not measured:'} "
        f"{duration(facts['seconds'])} on {facts['workers']} workers, and "
        f"{facts['disk_bytes'] / 1e6:.0f} MB of disk ({facts['free_bytes'] / 1e9:.1f} GB free)",
    )
    _Context.console.answer(facts)


@sweep_app.command("run")
def sweep_run(workers: Workers = None, engine: Engine = "local", profile: Profile = None) -> None:
    """Do the sweep of opsef.yaml; what was done before is not done again."""
    from opsef_bridge.sweep import plan_sweep

    project = _Context.project()
    _carry_out(project, plan_sweep(project), workers, engine, profile)


@sweep_app.command("resume")
def sweep_resume(
    run: RunId = None, workers: Workers = None, engine: Engine = "local", profile: Profile = None
) -> None:
    """Go on with a run that was stopped, and try again what failed."""
    from opsef_bridge.sweep import Executor, resume_run

    project = _Context.project()
    folder = project.run(run)
    with _Context.console.progress(folder.id) as report:
        result = resume_run(project, folder, Executor(engine, workers, profile, report))
    _finish(project, result)


@sweep_app.command("status")
def sweep_status(run: RunId = None) -> None:
    """Say how far a run is."""
    from opsef_bridge.sweep import status

    project = _Context.project()
    _finish(project, status(project.run(run)))


@app.command()
def adopt(
    variant: Annotated[str, typer.Argument(help="Id or slug, e.g. v0007.")],
    group: Annotated[str | None, typer.Option("--group", help="Only for this group.")] = None,
    run: RunId = None,
) -> None:
    """Choose the variant that `opsef batch` runs on all images."""
    from opsef_bridge.sweep import adopt as adopt_variant

    chosen = adopt_variant(_Context.project(), variant, group=group, run=run)
    for name, what in chosen.items():
        _Context.console.say(
            f"Group {name} adopts {what['id']} of {what['run']}, "
            f"rank {what['rank']}: {what['slug']}"
        )
    _Context.console.answer(chosen)


@app.command()
def batch(workers: Workers = None, engine: Engine = "local", profile: Profile = None) -> None:
    """Run the adopted variants on all images, whole."""
    from opsef_bridge.sweep import plan_batch

    project = _Context.project()
    _carry_out(project, plan_batch(project), workers, engine, profile)


@rois_app.command("export")
def rois_export(
    variant: Annotated[str, typer.Argument(help="Id or slug of the variant.")], run: RunId = None
) -> None:
    """Write the ROI zips of a variant, one per image."""
    from opsef_bridge.sweep.stacks import export_variant

    files = export_variant(_Context.project(), variant, run=run)
    _Context.console.say(*(str(file) for file in files))
    _Context.console.answer([str(file) for file in files])


@models_app.command("list")
def models_list() -> None:
    """List the weights that are here."""
    from opsef_bridge.engines import list_weights

    rows = [
        {"name": w.name, "engine": w.engine, "sha256": w.sha256[:12], "file": str(w.path)}
        for w in list_weights([_Context.project().models_folder])
    ]
    _Context.console.table(rows, ("name", "engine", "sha256", "file"))
    _Context.console.answer(rows)


@models_app.command("verify")
def models_verify() -> None:
    """Check the sha256 of all weights."""
    from opsef_bridge.engines import list_weights, verify

    for weights in list_weights([_Context.project().models_folder]):
        verify(weights)
        _Context.console.say(f"{weights.name}: sha256 as in its card")
    _Context.console.answer({"verified": True})


@engines_app.command("list")
def engines_list() -> None:
    """List the engines and their parameters."""
    from opsef_bridge.engines import engine_class, engine_names

    rows = []
    for engine in map(engine_class, engine_names()):
        fields = {"predict": engine.Predict.model_fields, "decode": engine.Decode.model_fields}
        rows.append(
            {"name": engine.name, "axes": ", ".join(sorted(engine.axes))}
            | {part: ", ".join(names) for part, names in fields.items()}
        )
    _Context.console.table(rows, ("name", "axes", "predict", "decode"))
    _Context.console.answer(rows)


@app.command()
def doctor() -> None:
    """Say what works on this machine and what to do about what does not."""
    from dataclasses import asdict

    from opsef_bridge.doctor import examine

    findings = []
    for finding in examine(_Context.project()):
        findings.append(asdict(finding))
        _Context.console.say(f"{finding.state:<7} {finding.what}: {finding.detail}")
        if finding.advice:
            _Context.console.say(f"{'':<8}-> {finding.advice}")
    _Context.console.answer(findings)
    raise typer.Exit(1 if any(f["state"] == "broken" for f in findings) else 0)


@unit_app.command("run")
def unit_run(
    unit: Annotated[str, typer.Argument(help="Id, e.g. u0001.")], run: RunId = None
) -> None:
    """Do one unit of a run, or what is left of it."""
    from opsef_bridge.sweep import run_one_unit

    project = _Context.project()
    counts = run_one_unit(project, project.run(run), unit)
    _Context.console.say(", ".join(f"{count} {name}" for name, count in counts.items()))
    _Context.console.answer(counts)
    raise typer.Exit(1 if counts["failed"] else 0)


def _carry_out(
    project: Project, plan: Plan, workers: int | None, engine: str, profile: Path | None
) -> None:
    """Carry out a plan with progress and say how it ended."""
    from opsef_bridge.sweep import Executor, run_plan

    with _Context.console.progress(plan.purpose) as report:
        result = run_plan(project, plan, Executor(engine, workers, profile, report))
    _finish(project, result)


def _finish(project: Project, result: Result) -> None:
    _report(project.run(result.run), result)
    raise typer.Exit(result.exit_code)


def _report(run: Run, result: Result) -> None:
    """Print the result of a run: counts, the first of the ranking, what to look at."""
    from opsef_bridge.project import read_csv

    console = _Context.console
    console.say(
        f"{result.run}: {result.ok} ok, {result.empty} empty, {result.failed} failed, "
        f"{result.open} open; {result.passes} network passes"
    )
    rows = read_csv(run.variants_file) if run.variants_file.is_file() else []
    for group in dict.fromkeys(row["group"] for row in rows):
        ranked = [row for row in rows if row["group"] == group]
        console.say("", f"Group {group}, first three of {len(ranked)} by agreement:")
        console.table(ranked[:3], ("rank", "id", "slug", "objects", "agreement", "status"))
    for unit, error in result.problems.items():
        console.say(f"{unit} failed: {error}")
    if result.failed:
        console.say("", f"What failed and why: {run.outcomes_file}. Try again: opsef sweep resume")
    if rows:
        console.say("", f"Open in ImageJ or Fiji: {run.compare_file('*')}")
    if run.batch_file.is_file():
        console.say("", f"Open in ImageJ or Fiji: {run.batch_file}")
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
        }
    )
