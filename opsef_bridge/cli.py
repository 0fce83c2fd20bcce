"""The command ``opsef``: one function per command. Parses, calls, prints; no logic.

Exit codes: 0 done, 1 some units failed, 2 bad input, 130 stopped by Ctrl-C.
Imports stand inside the commands, so that ``opsef --help`` answers at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.console import Console, duration
from opsef_bridge.errors import OpsefError

if TYPE_CHECKING:
    from opsef_bridge.engines.store import Added
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


class Engine(StrEnum):
    """Who does the units of a run."""

    LOCAL = "local"
    SNAKEMAKE = "snakemake"


EngineName = Annotated[Engine, typer.Option("--engine", help="Who does the units.")]
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
            f"\nopsef: stopped. What was finished stays; `{_command('sweep resume')}` goes on",
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
    _Context.folder = folder
    _Context.console.say(f"Wrote {file}. Look at it, then: {_command('sweep run')}")
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
def sweep_run(
    workers: Workers = None, engine: EngineName = Engine.LOCAL, profile: Profile = None
) -> None:
    """Do the sweep of opsef.yaml; what was done before is not done again."""
    from opsef_bridge.sweep import plan_sweep

    project = _Context.project()
    _carry_out(project, plan_sweep(project), workers, engine, profile)


@sweep_app.command("resume")
def sweep_resume(
    run: RunId = None,
    workers: Workers = None,
    engine: EngineName = Engine.LOCAL,
    profile: Profile = None,
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
def batch(
    workers: Workers = None, engine: EngineName = Engine.LOCAL, profile: Profile = None
) -> None:
    """Run the adopted variants on all images, whole."""
    from opsef_bridge.sweep import left_out, plan_batch

    project = _Context.project()
    plan = plan_batch(project)
    for group, count in left_out(plan, project.images()).items():
        _Context.console.say(
            f"Left out: {count} of group {group}, which adopted no variant. To take them along: "
            + _command(f"adopt VARIANT --group {group}")
        )
    _carry_out(project, plan, workers, engine, profile)


@rois_app.command("export")
def rois_export(
    variant: Annotated[str, typer.Argument(help="Id or slug of the variant.")], run: RunId = None
) -> None:
    """Write the ROI zips of a variant of the newest sweep, one per image."""
    from opsef_bridge.sweep.stacks import export_variant

    files = export_variant(_Context.project(), variant, run=run)
    _Context.console.say(*map(str, files) if files else ["No objects, so no files"])
    _Context.console.answer([str(file) for file in files])


@models_app.command("list")
def models_list() -> None:
    """List the weights that are here, those of the best known score (F1 at 0.5) first."""
    from opsef_bridge.engines.registry import table

    rows = table([_Context.project().models_folder])
    shown = [{key: "" if cell is None else cell for key, cell in row.items()} for row in rows]
    _Context.console.table(shown, ("name", "engine", "licence", "f1", "sha256", "file"))
    _Context.console.answer(rows)


@models_app.command("add")
def models_add(
    what: Annotated[
        list[str] | None, typer.Argument(help="File, folder or zip; with --from names.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name in opsef.yaml.")] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="Who runs it.")] = None,
    shared: Annotated[
        Path | None, typer.Option("--from", help="Shared folder or bundle to take from.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="For the card.")] = "",
    source: Annotated[str, typer.Option("--source", help="For the card: where from.")] = "",
    data: Annotated[str, typer.Option("--data", help="For the card: learned from what.")] = "",
) -> None:
    """Add weights to the project: .onnx, StarDist's, Cellpose's, a bundle; or --from FOLDER."""
    from opsef_bridge.engines.store import add, add_from

    if (shared is None and not what) or (shared is not None and engine):
        raise typer.BadParameter("name FILES; or --from FOLDER, and the NAMES to take (all)")
    models = _Context.project().must_exist().models_folder
    facts = {"licence": licence, "source": source, "data": data}
    if shared is not None:
        _say_added(add_from(shared, models, what or (), name=name, facts=facts))
    else:
        more = {"name": name, "engine": engine, "facts": facts}
        _say_added([one for file in what or () for one in add(file, models, **more)])


@models_app.command("fetch")
def models_fetch(
    name: Annotated[str, typer.Argument(help="Official name, e.g. 2D_versatile_fluo.")],
    mirror: Annotated[str | None, typer.Option("--mirror", help="Address of its folder.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Of its file.")] = None,
) -> None:
    """Download an official model from a mirror and add it; nothing else ever downloads."""
    from opsef_bridge.engines.store import fetch

    models = _Context.project().must_exist().models_folder
    _say_added([fetch(name, models, mirror=mirror, sha256=sha256)])


@models_app.command("bundle")
def models_bundle(
    file: Annotated[Path, typer.Argument(help="The zip to write.")],
    names: Annotated[list[str] | None, typer.Argument(help="Weights (all).")] = None,
) -> None:
    """Write weights with their cards to one zip, for `opsef models add`."""
    from opsef_bridge.engines.store import bundle

    chosen = [one.name for one in bundle(file, [_Context.project().models_folder], names or ())]
    _Context.console.say(f"Wrote {', '.join(chosen)} to {file}")
    _Context.console.answer({"file": str(file), "names": chosen})


@models_app.command("publish")
def models_publish(
    folder: Annotated[Path, typer.Argument(help="Folder that others read too.")],
    names: Annotated[list[str] | None, typer.Argument(help="Weights (all).")] = None,
) -> None:
    """Copy weights with their cards to a folder, for `opsef models add --from FOLDER`."""
    from opsef_bridge.engines.store import publish

    _say_added(publish(folder, [_Context.project().models_folder], names or ()))


@models_app.command("verify")
def models_verify() -> None:
    """Check the sha256 of all weights."""
    from opsef_bridge.engines import list_weights, verify

    for weights in list_weights([_Context.project().models_folder]):
        verify(weights)
        _Context.console.say(f"{weights.name}: sha256 as in its card")
    _Context.console.answer({"verified": True})


def _say_added(added: list[Added]) -> None:
    """Say what came where, and what was there before."""
    for one in added:
        what = f"{one.weights.name} for {one.weights.engine}"
        news = f"Wrote {what}: " if one.new else f"Nothing to do, {what} is here: "
        _Context.console.say(news + str(one.weights.path), *([one.note] if one.note else []))
    rows = [
        {"name": one.weights.name, "engine": one.weights.engine, "file": str(one.weights.path)}
        | {"sha256": one.weights.sha256, "new": one.new, "note": one.note}
        for one in added
    ]
    _Context.console.answer(rows)


@engines_app.command("list")
def engines_list() -> None:
    """List the engines and their parameters."""
    from opsef_bridge.engines import engine_class, engine_names

    _Context.project()  # brings the engines in other interpreters
    rows = []
    for engine in map(engine_class, engine_names()):
        fields = {"predict": engine.Predict.model_fields, "decode": engine.Decode.model_fields}
        rows.append(
            {"name": engine.name, "axes": ", ".join(sorted(engine.axes))}
            | {part: ", ".join(names) for part, names in fields.items()}
        )
    _Context.console.table(rows, ("name", "axes", "predict", "decode"))
    _Context.console.answer(rows)


@engines_app.command("add")
def engines_add(
    name: Annotated[str, typer.Argument(help="Its name in opsef.yaml.")],
    python: Annotated[str, typer.Option("--python", help="Absolute path of its interpreter.")],
    target: Annotated[str, typer.Option("--target", help="module:Class there.")],
) -> None:
    """Add an engine that lives in another interpreter, with appose and numpy there."""
    engine = _Context.project().must_exist().add_engine(name, python, target)
    parts = {"predict": engine.Predict, "decode": engine.Decode}
    fields = {part: list(model.model_fields) for part, model in parts.items()}
    _Context.console.say(f"Added {name}: {', '.join(fields['predict'] + fields['decode'])}")
    _Context.console.answer({"name": name, "version": engine.version, **fields})


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
    from opsef_bridge.sweep import order_note

    console = _Context.console
    console.say(
        f"{result.run}: {result.ok} ok, {result.empty} empty, {result.failed} failed, "
        f"{result.open} open; {result.passes} network passes"
    )
    rows = read_csv(run.variants_file) if run.variants_file.is_file() else []
    for group in dict.fromkeys(row["group"] for row in rows if row["status"] != "failed"):
        ranked = [row for row in rows if row["group"] == group]
        note = order_note(ranked)
        head = f"Group {group}, first three of {len(ranked)} by agreement"
        console.say("", f"{head} ({note}):" if note else f"{head}:")
        console.table(ranked[:3], ("rank", "id", "slug", "objects", "agreement", "status"))
    for unit, error in result.problems.items():
        console.say(f"{unit} failed: {error}")
    if result.failed:
        console.say("", *_reasons(run), f"All of it: {run.outcomes_file}")
        console.say(f"Try again: {_command('sweep resume')}")
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
        }
    )


def _reasons(run: Run) -> list[str]:
    """The commonest reasons of failed outcomes, as lines."""
    from collections import Counter

    failed = [outcome for outcome in run.outcomes() if outcome["status"] == "failed"]
    counts = Counter(f"{o['message']}. {o['hint']}" for o in failed)
    return [f"{count} failed: {reason}" for reason, count in counts.most_common(3)]


def _command(words: str) -> str:
    """A command as it must be typed here to reach this project."""
    import shlex

    place = "" if _Context.folder == Path(".") else f" -p {shlex.quote(str(_Context.folder))}"
    return f"opsef{place} {words}"
