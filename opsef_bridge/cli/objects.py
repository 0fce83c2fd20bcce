"""``opsef rois``, ``annotatorj``, ``import-legacy``: objects out and back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import (
    Context,
    RunId,
    annotatorj_app,
    app,
    command,
    rois_app,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsef_bridge.exchange.saving import How, Imported
    from opsef_bridge.project import Project


class Format(StrEnum):
    """Kinds of files that objects are written to."""

    IMAGEJ = "imagej"
    LABELS = "labels"
    GEOJSON = "geojson"


class Layout(StrEnum):
    """The two ways in which AnnotatorJ takes objects."""

    OPSEF = "opsef"
    ZIPS = "zips"


class Side(StrEnum):
    """Whose object is taken where both sides changed it."""

    OURS = "ours"
    THEIRS = "theirs"


class Prefer(StrEnum):
    """Which of two files of AnnotatorJ is taken where they differ."""

    MASK = "mask"
    ZIP = "zip"


Variants = Annotated[
    list[str] | None, typer.Argument(help="Id or slug of the variant; several with --blind.")
]
RevisionId = Annotated[
    str | None, typer.Option("--revision", help="Id of a revision, or `latest`.")
]
Images = Annotated[list[str] | None, typer.Option("--image", help="Only this image (repeatable).")]
Blind = Annotated[
    bool, typer.Option("--blind", help="Do not say which variant, until the edit is saved.")
]
Author = Annotated[str | None, typer.Option("--author", help="Who edited (the user's name).")]
Resolve = Annotated[
    Side | None,
    typer.Option(
        "--resolve", help="Where both changed an object: take ours (this file) or theirs."
    ),
]
Truth = Annotated[
    str | None,
    typer.Option(
        "--truth",
        metavar="SCOPE",
        help="Vouch for it: `whole` image, `touched` objects, or a box `y,x,height,width`.",
    ),
]


@rois_app.command("export")
def rois_export(
    variants: Variants = None,
    run: RunId = None,
    revision: RevisionId = None,
    image: Images = None,
    to_format: Annotated[Format, typer.Option("--format", help="Kind of file.")] = Format.IMAGEJ,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to write to.")] = None,
    blind: Blind = False,
) -> None:
    """Write the objects of each image: of a variant, a revision, or the newest there are."""
    from opsef_bridge.exchange.files import export_objects

    files = export_objects(
        _project_of(variants, image),
        variants or (),
        run=run,
        revision=revision,
        images=image or (),
        format=to_format.value,
        to=to,
        blind=blind,
        remark=Context.console.warn,
    )
    Context.console.say(*map(str, files) if files else ["No objects, so no files"])
    Context.console.answer([str(file) for file in files])


@rois_app.command("import")
def rois_import(
    path: Annotated[
        Path | None, typer.Argument(help="ROI zip, label image, or a folder of them.")
    ] = None,
    image: Annotated[str | None, typer.Option("--image", help="Id of the image.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="What was edited: r0002, v0007 or none.")
    ] = None,
    author: Author = None,
    truth: Truth = None,
    resolve: Resolve = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="Save that the image has no object (no file).")
    ] = False,
) -> None:
    """Save edited objects as revisions."""
    from opsef_bridge.errors import InputError
    from opsef_bridge.exchange.files import clear_objects, import_path

    how = _how(author, resolve, truth)
    if empty == bool(path) or (empty and not image):
        raise InputError(
            "give a file or folder, or --empty with --image ID",
            hint=f"For example: {command('rois import i00001-cells_ROIs.zip')}",
        )
    project = Context.project()
    if path is None:
        done = [clear_objects(project, image or "", how, base=base)]
    else:
        done = import_path(project, path, how, image=image, base=base)
    _report(done, how)


@rois_app.command("log")
def rois_log(
    image: Annotated[str | None, typer.Argument(help="Id of the image (all).")] = None,
) -> None:
    """List the revisions, oldest first."""
    from opsef_bridge.exchange.sources import chosen_images, orphans, outdated
    from opsef_bridge.rois.revisions import History

    project = Context.project()
    rows = []
    for name in orphans(project):
        Context.console.warn(f"{name} belongs to no image of images/index.csv; was its id changed?")
    Context.console.warn(*outdated(project, [image] if image else []))
    for entry in chosen_images(project, [image] if image else []):
        for one in History(project, entry.id).revisions():
            rows.append(
                {
                    "image": entry.id,
                    "revision": one.id,
                    "base": str(one.base),
                    "author": one.author + (" (blind)" if one.blind else ""),
                    "at": one.at,
                    "objects": one.objects,
                    "changes": one.changes.summary(),
                    "file": one.source.file or one.source.kind,
                }
            )
    if rows:
        Context.console.table(rows, rows[0])
    else:
        Context.console.say(f"No revisions yet; {command('rois import FILE')} saves one")
    Context.console.answer(rows)


@rois_app.command("show")
def rois_show(
    image: Annotated[str, typer.Argument(help="Id of the image.")],
    revision: Annotated[str, typer.Argument(help="Id of the revision.")] = "latest",
) -> None:
    """Say all about a revision: what changed, who, from which file, what was noticed."""
    from opsef_bridge.exchange.sources import revision_of

    found = revision_of(Context.project(), image, revision)
    facts = found.to_json()
    changes = found.changes.to_json()
    Context.console.say(
        f"{found.id} of {found.image}, by {found.author}, {found.at}",
        f"made from {found.made_from}{', blindly' if found.blind else ''}; "
        f"{found.objects} objects; {found.changes.summary()}",
        *(f"  {name}: {_some(value)}" for name, value in changes.items() if value),
        f"file {found.source.file or '-'} ({found.source.kind}), sha256 {found.source.sha256}",
        *(f"note: {note}" for note in found.notes),
    )
    Context.console.answer(facts)


@rois_app.command("restore")
def rois_restore(
    image: Annotated[str, typer.Argument(help="Id of the image.")],
    revision: Annotated[str, typer.Argument(help="Id of the revision.")],
    author: Author = None,
) -> None:
    """Make an old revision the newest again; what came after stays in the log."""
    from opsef_bridge.exchange.saving import How
    from opsef_bridge.rois.revisions import History

    project = Context.project()
    how = How(author) if author else How()
    saved = History(project, project.image(image).id).restore(revision, author=how.author)
    Context.console.say(*saved.said, f"{image}: {saved.revision.id}")
    Context.console.answer(saved.revision.to_json())


@annotatorj_app.command("export")
def annotatorj_export(
    name: Annotated[str, typer.Argument(help="Name of the folder in exchange/.")],
    variants: Variants = None,
    run: RunId = None,
    revision: RevisionId = None,
    image: Images = None,
    layout: Annotated[
        Layout, typer.Option("--layout", help="A run folder of OpSeF, or images with zips.")
    ] = Layout.OPSEF,
    class_folder: Annotated[
        str, typer.Option("--class-folder", help="Folder of the zips (layout zips).")
    ] = "normal",
    blind: Blind = False,
) -> None:
    """Write pictures and objects so that AnnotatorJ opens them."""
    from opsef_bridge.exchange.annotatorj import export_annotatorj

    done = export_annotatorj(
        _project_of(variants, image),
        name,
        variants or (),
        run=run,
        revision=revision,
        images=image or (),
        layout=layout.value,
        class_folder=class_folder,
        blind=blind,
    )
    Context.console.say(
        *done.notes,
        *(f"Open in AnnotatorJ: {path}" for path in done.open),
        f"Then: {command(f'annotatorj import {name}')}",
    )
    Context.console.answer(
        {
            "folder": str(done.folder),
            "open": [str(path) for path in done.open],
            "left_out": list(done.left_out),
            "notes": list(done.notes),
        }
    )


@annotatorj_app.command("import")
def annotatorj_import(
    name: Annotated[str, typer.Argument(help="Name of the folder in exchange/.")],
    prefer: Annotated[
        Prefer, typer.Option("--prefer", help="Which is taken where zip and mask differ.")
    ] = Prefer.MASK,
    author: Author = None,
    truth: Truth = None,
    resolve: Resolve = None,
) -> None:
    """Save what AnnotatorJ exported as revisions."""
    from opsef_bridge.exchange.annotatorj_import import import_annotatorj

    how = _how(author, resolve, truth)
    done, said = import_annotatorj(Context.project(), name, how, prefer=prefer.value)
    _report(done, how, said)


@app.command("import-legacy")
def import_legacy(
    run_folder: Annotated[Path, typer.Argument(help="Folder Processed_<run> of OpSeF.")],
    masks: Annotated[
        str | None, typer.Option("--masks", help="Which masks, if an image has several.")
    ] = None,
    author: Annotated[str, typer.Option("--author", help="Who edited.")] = "OpSeF-IV",
) -> None:
    """Make a project (-p DIR) of a run folder of the original OpSeF."""
    from opsef_bridge.exchange.legacy import import_legacy as bring

    done = bring(Context.project(), run_folder, masks=masks, author=author)
    Context.console.say(
        *done.said,
        f"{len(done.images)} images, {len(done.revisions)} revisions; settings: {done.config_file}",
        f"Look at it, then: {command('rois log')}",
    )
    Context.console.answer(
        {
            "images": [entry.id for entry in done.images],
            "revisions": [f"{one.image}/{one.id}" for one in done.revisions],
            "said": list(done.said),
            "config": str(done.config_file),
        }
    )


def _project_of(variants: list[str] | None, images: list[str] | None) -> Project:
    """Return the project of an export; warn of revisions that fit the picture no more."""
    from opsef_bridge.exchange.sources import outdated

    project = Context.project()
    if not variants:
        Context.console.warn(*outdated(project, images or ()))
    return project


def _how(author: str | None, resolve: Side | None, truth: str | None) -> How:
    from opsef_bridge.exchange.saving import How

    given: dict[str, Any] = {"author": author} if author else {}
    return How(resolve=resolve.value if resolve else None, truth=truth, **given)


def _report(done: Sequence[Imported], how: How, said: Sequence[str] = ()) -> None:
    """Say what became of each image, rank anew by what is truth now; exit with 1 if one failed."""
    from opsef_bridge.errors import StaleError
    from opsef_bridge.sweep.asking import rank_again

    console = Context.console
    if len(done) == 1 and done[0].error:
        raise done[0].error
    for one in done:
        name = one.image or one.file
        if one.error:
            console.say(f"{name}: {one.error}")
            if isinstance(one.error, StaleError):
                for conflict in one.error.report["conflicts"]:
                    sides = (f"{k} {conflict[k]}" for k in ("base", "theirs", "ours"))
                    console.say(f"  object {conflict['id']}: {', '.join(sides)}")
        elif one.saved:
            revision = one.saved.revision
            what = revision.changes.summary() if one.saved.new else "nothing new"
            console.say(f"{name}: {revision.id}, {revision.objects} objects ({what})")
            told = (line for line in one.saved.said if not line.startswith(f"{revision.id}: "))
            for line in (*one.said, *told):
                console.say(f"  {line}")
        else:
            console.say(f"{name}: {'; '.join(one.said)}")
    for line in said:
        console.say(line)
    if how.truth is not None and any(one.saved for one in done):
        console.warn(*rank_again(Context.project())[1])
    console.answer({"images": [one.to_json() for one in done], "said": list(said)})
    raise typer.Exit(1 if any(one.error for one in done) else 0)


def _some(value: Any) -> str:
    """Show a list of ids, cut where it gets long."""
    items = (
        [f"{k}: {v[0]} -> {v[1]}" for k, v in value.items()] if isinstance(value, dict) else value
    )
    text = ", ".join(map(str, items[:20]))
    return f"{text}, ... ({len(items)})" if len(items) > 20 else text
