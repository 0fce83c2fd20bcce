"""``opsef project``: a project to a machine without a network, and back."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from opsef_bridge.cli.common import Context, app
from opsef_bridge.errors import InputError

project_app = typer.Typer(help="A project as one file.", add_completion=False, no_args_is_help=True)
app.add_typer(project_app, name="project")


class Resolve(StrEnum):
    """Whose object is taken where both changed it."""

    OURS = "ours"
    THEIRS = "theirs"


@project_app.command("bundle")
def project_bundle(
    file: Annotated[Path, typer.Argument(help="Zip file to write.")],
    images: Annotated[
        bool, typer.Option("--with-images/--without-images", help="The files of the images.")
    ] = True,
    runs: Annotated[bool, typer.Option("--with-runs", help="Runs and trainings.")] = False,
) -> None:
    """Write the project to a zip: settings, edits, truth, weights, datasets, tables."""
    from opsef_bridge.exchange.bundle_contents import left_out
    from opsef_bridge.exchange.bundling import bundle

    project, console = Context.project(), Context.console
    done = bundle(project, file, images=images, runs=runs)
    left = left_out(project, list(done.files), file)
    console.say(f"Wrote {file}: {len(done.files)} files, {done.size / 1e6:.1f} MB")
    if done.sources:
        console.say(f"Images from outside of the project are in it: {len(done.sources)}")
    if left:
        console.say(f"Not in it: {', '.join(left)}")
    console.answer(
        {"file": str(file), "files": len(done.files), "bytes": done.size, "images": done.images,
         "runs": done.runs, "from_outside": dict(done.sources), "left_out": left}
    )  # fmt: skip


@project_app.command("unbundle")
def project_unbundle(
    file: Annotated[Path, typer.Argument(help="As `opsef project bundle` wrote it.")],
    folder: Annotated[Path, typer.Argument(help="New folder; with --merge, the project.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Bring edits back into a project that is there.")
    ] = False,
    resolve: Annotated[
        Resolve | None,
        typer.Option("--resolve", help="Where both changed an object: ours is the bundle's."),
    ] = None,
) -> None:
    """Unpack a bundle into a new project, or merge what was done in it into the old one."""
    if merge:
        _merge(file, folder, resolve)
        return
    if resolve is not None:
        raise InputError("--resolve is for --merge only", hint="Add --merge, or leave it out")
    from opsef_bridge.exchange.bundling import unbundle
    from opsef_bridge.exchange.environments import differences

    told = unbundle(file, folder)
    said = differences(told.environment)
    Context.console.say(f"{folder}: {len(told.files)} files, all as they were bundled", *said)
    if not told.images:
        Context.console.say(
            "The images were not bundled: bring them to where images/index.csv says, or name "
            "their place in opsef.yaml (images.source)"
        )
    Context.console.answer(
        {"folder": str(folder), "files": len(told.files), "images": told.images, "differs": said}
    )


def _merge(file: Path, folder: Path, resolve: Resolve | None) -> None:
    from opsef_bridge.exchange.merging_back import merge_back
    from opsef_bridge.project import Project

    found, said = merge_back(Project(folder), file, resolve=resolve.value if resolve else None)
    for one in found:
        parts = [", ".join(one.taken)] if one.taken else []
        parts += [f"{one.claims} vouched for"] if one.claims else []
        told = [*parts, *one.said, *([f"refused: {one.error}"] if one.error else [])]
        Context.console.say(f"{one.what} {one.name}: {'; '.join(told)}")
    if not found:
        Context.console.say("Nothing in the bundle is new here")
    for words in said:
        Context.console.say(words)
    Context.console.answer({"found": [one.to_json() for one in found], "differs": said})
    if any(one.error for one in found):
        sys.exit(1)
