"""``opsef report``, ``opsef verdicts``: pages in a browser, and what people think of variants."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opsef_bridge.cli.common import Context, app, command
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.project import Project

verdicts_app = typer.Typer(
    help="What people think of variants, image by image.",
    add_completion=False,
    no_args_is_help=True,
)
app.add_typer(verdicts_app, name="verdicts")

Author = Annotated[str | None, typer.Option("--author", help="Who says so (the user's name).")]
Run = Annotated[str | None, typer.Option("--run", help="Id of the run (newest sweep).")]


@app.command()
def report(
    run: Annotated[str | None, typer.Argument(help="Id of the run (newest, no batch).")] = None,
    invitation: Annotated[
        Path | None,
        typer.Option(
            "--invitation",
            metavar="NAME.opsef",
            help="Open it by the service that this file is of: what the page gives is saved there.",
        ),
    ] = None,
    at_service: Annotated[
        str | None,
        typer.Option("--id", help="Id of the project in that service (name of its folder)."),
    ] = None,
    objects: Annotated[
        bool,
        typer.Option("--objects", help="Open the page of objects (`opsef analyse`) instead."),
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open it, besides printing where it is.")] = True,
) -> None:
    """Open the report of a run, or the page of objects, in the browser."""
    import webbrowser

    if objects and run:
        raise InputError(
            f"the page of objects is of no run, and {run} was named",
            hint=f"Leave {run} out; `opsef analyse` says of which objects the page is",
        )
    if invitation is not None:
        from opsef_bridge.service.visit import objects_link, report_link

        name = at_service or Context.folder.resolve().name
        address = objects_link(invitation, name) if objects else report_link(invitation, name, run)
    else:
        project = Context.project().must_exist()
        file = _page_of_objects(project) if objects else _report(project, run)
        address = file.resolve().as_uri()
    Context.console.say(address)
    if invitation is not None:
        Context.console.say("The link opens once, within a minute")
    Context.console.answer({"address": address})
    if browser:
        webbrowser.open(address)


def _report(project: Project, run: str | None) -> Path:
    from opsef_bridge.sweep.reporting import run_to_report

    purposes = {name: project.run(name).plan()["purpose"] for name in project.runs()}
    folder = project.run(run_to_report(purposes, run))
    if not folder.report_file.is_file():
        raise NotFoundError(
            f"{folder.id} has no report yet",
            hint=f"`{command(f'sweep resume {folder.id}')}` finishes it",
        )
    return folder.report_file


def _page_of_objects(project: Project) -> Path:
    from opsef_bridge.analysis.page import PLACE

    file = project.root.joinpath(*PLACE)
    if not file.is_file():
        raise NotFoundError(
            f"{project.root.name} has no page of objects", hint=f"`{command('analyse')}` makes it"
        )
    return file


@verdicts_app.command("add")
def verdicts_add(
    image: Annotated[str, typer.Argument(help="Id of the image.")],
    variant: Annotated[str, typer.Argument(help="Id or slug of the variant.")],
    verdict: Annotated[
        str,
        typer.Argument(
            help="`good`; `over`: objects are split; `under`: they run together; `missed`: they "
            "are not found; `none` takes it back."
        ),
    ],
    run: Run = None,
    author: Author = None,
) -> None:
    """Write down what the author thinks of a variant on one image."""
    from opsef_bridge.sweep.verdicts import add_verdict

    project = Context.project().must_exist()
    one = add_verdict(project, image, variant, verdict, run=run, author=author)
    Context.console.say(
        f"{one.variant} of {one.run} on {one.image}: {one.verdict}, by {one.author}"
    )
    Context.console.answer(one.to_json())


@verdicts_app.command("list")
def verdicts_list(
    run: Annotated[str | None, typer.Option("--run", help="Id of the run (all).")] = None,
) -> None:
    """List the last verdict of each person."""
    from opsef_bridge.sweep.verdicts import read_verdicts

    project, console = Context.project().must_exist(), Context.console
    rows = [one.to_json() for one in read_verdicts(project, project.run(run).id if run else None)]
    if rows:
        console.table(rows, ("run", "variant", "image", "verdict", "author", "at"))
    else:
        console.say("There are no verdicts yet: report.html and Fiji have buttons for them")
    console.answer(rows)


@verdicts_app.command("import")
def verdicts_import(
    file: Annotated[Path, typer.Argument(help="CSV that the report exported.")],
    author: Author = None,
) -> None:
    """Take over the verdicts that a report exported; the same file twice brings them once."""
    from opsef_bridge.sweep.verdicts import import_verdicts

    found = import_verdicts(Context.project().must_exist(), file, author=author)
    count = f"{len(found)} new {'verdict' if len(found) == 1 else 'verdicts'}"
    Context.console.say(f"{count} from {file}")
    Context.console.answer([one.to_json() for one in found])
