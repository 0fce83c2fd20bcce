"""``opsef train next``: which images to correct next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import Context, command, train_app

if TYPE_CHECKING:
    from opsef_bridge.train.next_up import NextUp

COUNT = 10
"""Images that are listed."""


@train_app.command("next")
def train_next(
    count: Annotated[int, typer.Option("--count", min=1, help="How many images.")] = COUNT,
    run: Annotated[str | None, typer.Option("--run", help="Id of the run (newest sweep).")] = None,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Id or slug (the adopted one, else the first by rank)."),
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only images of this group.")] = None,
) -> None:
    """List the images that to correct next mends most in the same time."""
    from opsef_bridge.train.next_up import next_up

    with Context.console.progress("next") as report:
        found = next_up(Context.project(), run=run, variant=variant, group=group, tell=report)
    shown, console = found[:count], Context.console
    if shown:
        rows = [_row(number, one) for number, one in enumerate(shown, 1)]
        console.table(rows, rows[0])
        console.say(
            f"{sum(one.wrong for one in shown):.0f} objects are expected wrong or missing in these "
            f"{len(shown)} images, {sum(one.wrong for one in found):.0f} in all {len(found)}",
            "`unlike`: how much it differs from what is corrected or stands above it",
            f"Start with: {_again(shown[0])}",
        )
    else:
        console.say("Nothing is expected wrong in images that nobody has vouched for")
    console.answer({"images": [one.to_json() for one in shown], "left": len(found) - len(shown)})


def _again(one: NextUp) -> str:
    return command(f"review {one.image} --run {one.run} --variant {one.variant}")


def _row(number: int, one: NextUp) -> dict[str, Any]:
    return {
        "#": number,
        "image": one.image,
        "variant": one.variant,
        "objects": one.objects,
        "places": one.places,
        "wrong": f"{one.wrong:.1f}",
        "minutes": f"{one.minutes:.1f}",
        "per minute": f"{one.per_minute:.2f}",
        "unlike": "-" if one.unlike is None else f"{one.unlike:.1f}",
        "edited": one.edited or "-",
    }
