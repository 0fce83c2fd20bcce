"""``opsef train next``: which images, and boxes of large ones, to correct next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import Context, command, train_app
from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsef_bridge.train.next_up import NextUp

COUNT = 10
"""Entries that are listed."""

BEYOND = 3
"""Entries that are listed after those that fit in the time."""

COLUMNS = ("image", "run", "variant", "scope", "objects", "places", "wrong", "minutes",
           "per_minute", "unlike", "edited")  # fmt: skip
"""Of the CSV, after ``rank``; the minutes up to the end of each entry come last."""


@train_app.command("next")
def train_next(
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="How many entries (10).")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Id of the run (newest sweep).")] = None,
    variant: Annotated[
        str | None,
        typer.Option("--variant", help="Id or slug (the adopted one, else the first by rank)."),
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only images of this group.")] = None,
    tile: Annotated[
        str, typer.Option("--tile", help="Of images larger than this list boxes: pixels, or none.")
    ] = "1024",
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Say where this time is over, such as 60.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write all entries as CSV.")
    ] = None,
) -> None:
    """List the images that to correct next mends most in the same time."""
    from opsef_bridge.train.next_up import fitting, next_up

    project, console, side = Context.project(), Context.console, _tile(tile)
    if minutes is not None:
        fitting([], minutes)  # refuses what is no time before the work is done
    if csv is not None:
        _check_csv(csv)
    with console.progress("next") as report:
        found = next_up(project, run=run, variant=variant, group=group, tile=side, tell=report)
    fit = None if minutes is None else fitting(found, minutes)
    shown = found[: count or (COUNT if fit is None else fit + BEYOND)]
    if shown:
        _list(shown, found, fit, minutes)
    else:
        console.say("Nothing is expected wrong in images that nobody has vouched for")
    if csv is not None:
        _write(csv, found)
        console.say(f"Wrote {csv}")
    told = {"images": [one.to_json() for one in shown], "left": len(found) - len(shown)}
    console.answer(told | {"fit": fit, "csv": None if csv is None else str(csv)})


def _tile(text: str) -> int | None:
    if text.strip().lower() == "none":
        return None
    if not text.strip().isascii() or not text.strip().isdigit():
        raise InputError(f"{text!r} is no size of tiles", hint="Give pixels, such as 1024, or none")
    return int(text)


def _list(
    shown: Sequence[NextUp], found: Sequence[NextUp], fit: int | None, minutes: float | None
) -> None:
    console, boxed = Context.console, any(one.box for one in shown)
    rows, until = [], 0.0
    for number, one in enumerate(shown, 1):
        until += one.minutes
        rows.append(_row(number, one, until, boxed))
    columns = dict.fromkeys(rows[0])
    if fit is not None and fit < len(rows):
        rows.insert(fit, {"image": f"-- {minutes:g} minutes are over --"})
    console.table(rows, columns)
    if fit is not None:
        console.say(
            f"{minutes:g} minutes are enough for the first {fit} of {len(found)} entries, with "
            f"{_wrong(found[:fit])} of {_wrong(found)} objects that are expected wrong or missing"
        )
    else:
        console.say(
            f"{_wrong(shown)} objects are expected wrong or missing in the first {len(shown)}, "
            f"{_wrong(found)} in all {len(found)} entries"
        )
    first = f"review {shown[0].image} --run {shown[0].run} --variant {shown[0].variant}"
    console.say(
        "`unlike`: how much it differs from what is corrected or stands above it; `until`: "
        "minutes up to its end, by assumed speeds",
        f"Start with: {command(first)}",
    )


def _wrong(entries: Sequence[NextUp]) -> str:
    return f"{sum(one.wrong for one in entries):.0f}"


def _row(number: int, one: NextUp, until: float, boxed: bool) -> dict[str, Any]:
    """Return the cells of an entry; numbers are padded, as a line may stand between them."""
    return {
        "#": f"{number:3d}",
        "image": one.image,
        **({"box": "-" if one.box is None else one.scope} if boxed else {}),
        "variant": one.variant,
        "objects": f"{one.objects:7d}",
        "places": f"{one.places:6d}",
        "wrong": f"{one.wrong:6.1f}",
        "minutes": f"{one.minutes:7.1f}",
        "until": f"{until:6.1f}",
        "per minute": f"{one.per_minute:10.2f}",
        "unlike": "-" if one.unlike is None else f"{one.unlike:.1f}",
        "edited": one.edited or "-",
        **({"when it is checked": command(f"truth add {one.image} {one.scope}")} if boxed else {}),
    }


def _check_csv(file: Path) -> None:
    from opsef_bridge.sweep.targets import check_target

    if file.is_dir():
        raise InputError(f"{file} is a folder", hint=f"Name a file in it: {file / 'next.csv'}")
    above = next((one for one in file.parents if one.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"{above} is a file, {file} cannot lie in it", hint="Name another place")
    check_target(Context.project(), file)


def _write(file: Path, found: Sequence[NextUp]) -> None:
    from opsef_bridge.project import write_csv

    rows, until = [], 0.0
    for rank, one in enumerate(found, 1):
        until += one.minutes
        rows.append({"rank": rank, **one.to_json(), "until": round(until, 2)})
    write_csv(file, rows, ["rank", *COLUMNS, "until"])
