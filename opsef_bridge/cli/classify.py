"""``opsef classify``: classes from gates, clusters, a learned classifier or a file."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opsef_bridge.cli.analyse import Clustering
from opsef_bridge.cli.common import Context, RunId, app, command

if TYPE_CHECKING:
    import pandas as pd

    from opsef_bridge.project import Project


@app.command("classify")
def classify(
    variant: Annotated[
        str | None, typer.Argument(help="Id or slug of the variant (newest edits, else batch).")
    ] = None,
    run: RunId = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Only this image (repeatable).")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--where", help="Gate, such as 'area > 200 and solidity < 0.9'; with --class."
        ),
    ] = None,
    number: Annotated[
        str | None, typer.Option("--class", help="Class of the gate: number or name; 0 for none.")
    ] = None,
    cluster: Annotated[
        Clustering | None, typer.Option("--cluster", help="Classes are clusters, the largest 1.")
    ] = None,
    clusters: Annotated[int | None, typer.Option("--clusters", min=2, help="How many.")] = None,
    learn: Annotated[
        bool, typer.Option("--learn", help="Learn from the objects that people classified.")
    ] = False,
    least: Annotated[
        float | None,
        typer.Option(
            "--least",
            min=0,
            max=1,
            help="Save learned classes from this share of trees on (without: report only).",
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="CSV with the columns image, label, class.")
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option("--feature", help="Feature to use (repeatable; all).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say, save nothing.")] = False,
    author: Annotated[str | None, typer.Option("--author", help="Who (the user's name).")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn at random.")] = 0,
) -> None:
    """Give objects classes, and save them as revisions that Fiji shows in colours."""
    from opsef_bridge.analysis.classes import save_classes
    from opsef_bridge.analysis.classify import by_clusters, by_file, by_gate, by_learning
    from opsef_bridge.errors import InputError, StaleError
    from opsef_bridge.exchange.sources import variant_of

    ways = {"--where": where, "--cluster": cluster, "--learn": learn or None, "--from": source}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given) or 'nothing'} says what the classes are by",
            hint=f"Give one of {', '.join(ways)}",
        )
    if (where is None) != (number is None):
        raise InputError("--where and --class go together", hint="--where 'area > 200' --class 2")
    if run and not variant:
        raise InputError(f"{run} was named without a variant", hint="Name one of its variants")
    if source is not None and (variant or image):
        raise InputError(
            f"{source.name} says of which objects its classes are, and {variant or image[0]} was "
            "named too",
            hint="Leave the variant and --image out; the columns run, variant, revision name them",
        )
    project, console = Context.project(), Context.console
    chosen = variant_of(project, variant, run) if variant else None
    if source is not None:
        found = by_file(project, source)
    else:
        with console.progress("Measuring") as tell:
            table, conditions = _objects(project, image or (), chosen, tell)
        if where is not None:
            found = by_gate(project, table, where, number or "")
        elif cluster is not None:
            found = by_clusters(table, cluster.value, clusters, feature or None, seed, conditions)
        else:
            found = by_learning(project, table, feature or None, least, seed, conditions)
    console.say(*found.said)
    done = []
    if not dry_run:
        done = list(
            save_classes(
                project, found.classes, author=author or getpass.getuser(), why=found.why,
                kind=found.kind,
            )
        )  # fmt: skip
    for one in done:
        if isinstance(one.error, StaleError):
            console.say(
                f"{one.image}: its objects were edited since {variant or 'this'}; leave the "
                "variant out to classify the newest edits"
            )
        elif one.error:
            console.say(f"{one.image}: {one.error}")
        elif one.saved:
            console.say(f"{one.image}: {one.saved.revision.id} ({found.why})")
    count = len(found.classes)
    if dry_run:
        console.say(f"{count} objects would get a class; without --dry-run they do")
    elif any(one.saved for one in done):
        console.say(f"Look at them in Fiji, or: {command('rois export')}")
    console.answer(
        {"objects": count, "said": list(found.said), "files": [str(f) for f in found.files],
         "images": [one.to_json() for one in done]}
    )  # fmt: skip
    raise typer.Exit(1 if any(one.error for one in done) else 0)


def _objects(
    project: Project, images: list[str] | tuple[()], chosen, tell
) -> tuple[pd.DataFrame, list[str]]:  # type: ignore[no-untyped-def]
    from opsef_bridge.analysis.conditions import add_conditions
    from opsef_bridge.analysis.gather import gather_tables

    gathered = gather_tables(project, images, variant=chosen, tell=tell)
    found, _, conditions = add_conditions(project, gathered)
    Context.console.warn(*gathered.said)
    return found.objects, conditions
