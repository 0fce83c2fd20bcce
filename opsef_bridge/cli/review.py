"""``opsef review``: what to correct first, by the support of objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import Context, app, command
from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsef_bridge.sweep.review import Doubt, Review

TOP = 20
"""Places that are listed."""


@app.command("review")
def review(
    image: Annotated[
        str | None, typer.Argument(help="Id of an image; without it, which image comes first.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Id or slug (the adopted one, else the first by rank)."),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Id of the run (newest sweep).")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only images of this group.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many places to list.")] = TOP,
    to: Annotated[
        Path | None,
        typer.Option("--map", metavar="FILE", help="Write the review map: .tif or .png."),
    ] = None,
) -> None:
    """List what to correct first: objects that nobody else has, and what others have.

    Support says how likely an object is right, by the other variants. Places of which
    something is vouched already are left out.
    """
    if image is None:
        if to is not None:
            raise InputError("--map needs an image", hint="Name it: opsef review IMAGE --map FILE")
        _order(run, variant, group)
        return
    if group is not None:
        raise InputError("--group and an image were named", hint="Leave one of them out")
    from opsef_bridge.sweep.review import review as look

    if to is not None:
        from opsef_bridge.sweep.review_files import check_file, write_map

        check_file(Context.project(), to)
    project = Context.project()
    found = look(project, image, variant=variant, run=run, limit=top if to is None else None)
    if to is not None:
        write_map(project, found, to)
    _list(found, top)
    if to is not None:
        Context.console.say(f"Wrote {to}")
    Context.console.answer(
        {
            "image": found.image, "run": found.run, "variant": found.variant, "slug": found.slug,
            "group": found.group,
            "support": [[label, value] for label, value in sorted(found.support.items())],
            "work": [one.to_json() for one in found.work[:top]],
            "left": dict(found.left), "words": list(found.words),
            "map": str(to) if to is not None else None,
        }
    )  # fmt: skip


def _order(run: str | None, variant: str | None, group: str | None) -> None:
    from opsef_bridge.sweep.review import review_order, review_words

    project = Context.project()
    with Context.console.progress("review") as report:
        order = review_order(project, run=run, variant=variant, group=group, tell=report)
    words = review_words(project, run, group)
    rows = [_row_of(one) for one in order]
    Context.console.table(rows, rows[0])
    Context.console.say(
        "`doubt`: how many objects are expected wrong, those that others found and it lacks too",
        *words,
        f"Start with: {_again(order, run, variant)}",
    )
    Context.console.answer({"images": [one.to_json() for one in order], "words": words})


def _row_of(one: Doubt) -> dict[str, Any]:
    return {
        "image": one.image,
        "variant": one.variant,
        "objects": one.objects,
        "doubtful": one.doubtful,
        "missing": one.missing,
        "doubt": f"{one.doubt:.1f}",
        "edited": one.edited or "-",
    }


def _again(order: Sequence[Doubt], run: str | None, variant: str | None) -> str:
    options = {"--run": run, "--variant": variant}
    named = "".join(f" {name} {value}" for name, value in options.items() if value)
    return command(f"review {order[0].image}{named}")


def _list(found: Review, top: int) -> None:
    console = Context.console
    console.say(
        f"{found.image}: {len(found.support)} objects by {found.variant} of {found.run} "
        f"({found.slug})",
        f"{found.left['doubtful']} doubtful, {found.left['missing']} that others have and it lacks",
        *found.words,
    )
    rows = [
        {
            "#": number,
            "what": one.what,
            "variant": one.variant,
            "label": one.label,
            "support": f"{one.support:.2f}",
            "y": one.box[0] + one.box[2] // 2,
            "x": one.box[1] + one.box[3] // 2,
            **({} if one.plane is None else {"z": one.plane + 1}),
        }
        for number, one in enumerate(found.work[:top], 1)
    ]
    if rows:
        console.table(rows, rows[0])
    if sum(found.left.values()) > len(rows) > 0:
        console.say(f"{sum(found.left.values()) - len(rows)} more: --top")
