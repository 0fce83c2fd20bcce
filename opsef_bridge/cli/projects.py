"""``opsef demo``, ``new``, ``images``, ``doctor``: a project, and the machine it is on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import Context, Workers, app, command, images_app
from opsef_bridge.presets import PRESETS

if TYPE_CHECKING:  # they bring much that `opsef --help` does not need
    from opsef_bridge.project import Project


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

    project, said = Context.project(), list[str]()
    import_images(project, project.config, said.append)
    rows = _table_of(project)
    for sentence in said:
        Context.console.say(sentence)
    Context.console.answer(rows)


@images_app.command("list")
def images_list() -> None:
    """List the images of the project."""
    from opsef_bridge.sweep.foreseen import why_unread

    project = Context.project()
    config = project.config  # a folder without opsef.yaml is no project without images
    rows = _table_of(project)
    for entry in project.images():
        if not entry.axes and not entry.gone:
            Context.console.say(f"{entry.id}: {why_unread(project, config, entry)}")
    Context.console.answer(rows)


@images_app.command("stitch")
def images_stitch(
    parent: Annotated[str, typer.Argument(help="As the column `parent` of the index has it.")],
    variant: Annotated[str, typer.Argument(help="Id of the variant.")],
    to: Annotated[Path, typer.Option("--to", help="Label image to write, .tif.")],
    run: Annotated[str | None, typer.Option("--run", help="Id of the run (newest).")] = None,
    part: Annotated[
        str | None,
        typer.Option("--part", help='Time point or substack, as the column `part`: "t=1".'),
    ] = None,
) -> None:
    """Put the labels of separate tiles together again to those of the whole image."""
    from opsef_bridge.images import write_labels
    from opsef_bridge.sweep.stitched import (
        STITCHED,
        check_stitched_file,
        stitch_parent,
        tiles_of_parent,
        whole_of,
    )

    project = Context.project().must_exist()
    check_stitched_file(project, to)
    tiles, said = tiles_of_parent(project, parent, part), list[str]()
    labels = stitch_parent(project, run, variant, parent, part, say=said.append)
    whole = whole_of(tiles)
    info = f"{STITCHED}{variant} of {project.run(run).id}\n{whole.info_text()}"
    write_labels(to, labels, spacing=whole.spacing, unit=whole.unit, info=info)
    count = int(labels.max())
    for sentence in said:
        Context.console.say(sentence)
    Context.console.say(f"Wrote {to}: {count} objects, {' x '.join(map(str, labels.shape))} pixels")
    Context.console.answer(
        {"file": str(to), "objects": count, "shape": list(labels.shape), "part": whole.part,
         "left_out": [tile.id for tile in tiles if not tile.include]}
    )  # fmt: skip


def _table_of(project: Project) -> list[dict[str, Any]]:
    """Show the rows of the index and return them."""
    rows = [entry.to_row() for entry in project.images()]
    columns = ["id", "axes", "shape", "group", "include", "source"]
    seldom = [name for name in ("part", "gone") if any(row[name] for row in rows)]
    Context.console.table(rows, [*columns, *seldom])
    return rows


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
