"""``opsef demo``, ``new``, ``images``, ``doctor``: a project, and the machine it is on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opsef_bridge.cli.common import Context, Workers, app, command, images_app
from opsef_bridge.presets import PRESETS


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put the project.")] = Path("demo"),
    workers: Workers = None,
    full: Annotated[
        bool, typer.Option("--full", help="Also the engines of torch and TensorFlow.")
    ] = False,
) -> None:
    """Make a project of the bundled images and do everything once."""
    from opsef_bridge.cli.sweeps import sweep_run
    from opsef_bridge.demo import make_demo

    Context.folder = make_demo(folder, full=full)
    sweep_run(workers=workers)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="The project to make.")],
    images: Annotated[list[str], typer.Option("--images", help="File, folder or glob.")],
    preset: Annotated[
        str | None, typer.Option("--preset", help=f"Kind of sample: {', '.join(PRESETS)}.")
    ] = None,
) -> None:
    """Make a project: an opsef.yaml to start from."""
    from opsef_bridge.demo import make_project

    file = make_project(folder, images, preset)
    Context.folder = folder
    Context.console.say(f"Wrote {file}. Look at it, then: {command('sweep run')}")
    Context.console.answer({"config": str(file)})


@images_app.command("import")
def images_import() -> None:
    """Bring images/index.csv up to date with the sources."""
    from opsef_bridge.sweep.importing import import_images

    project = Context.project()
    import_images(project, project.config)
    images_list()


@images_app.command("list")
def images_list() -> None:
    """List the images of the project."""
    project = Context.project()
    project.config  # noqa: B018  (a folder without opsef.yaml is no project without images)
    rows = [entry.to_row() for entry in project.images()]
    Context.console.table(rows, ("id", "axes", "shape", "group", "include", "source"))
    Context.console.answer(rows)


@app.command()
def doctor() -> None:
    """Say what works on this machine and what to do about what does not."""
    from dataclasses import asdict

    from opsef_bridge.doctor import examine

    findings = []
    for finding in examine(Context.project()):
        findings.append(asdict(finding))
        Context.console.say(f"{finding.state:<7} {finding.what}: {finding.detail}")
        if finding.advice:
            Context.console.say(f"{'':<8}-> {finding.advice}")
    Context.console.answer(findings)
    raise typer.Exit(1 if any(f["state"] == "broken" for f in findings) else 0)
