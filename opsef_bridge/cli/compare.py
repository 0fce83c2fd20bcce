"""``opsef compare``: the comparison stacks of a run again, otherwise shown."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opsef_bridge.cli.common import Context, app
from opsef_bridge.cli.sweeps import Yes, ask_for_disk

if TYPE_CHECKING:
    from opsef_bridge.sweep.comparing import Comparison


class Channels(StrEnum):
    """Which channels of an image are shown."""

    SEGMENT = "segment"
    ALL = "all"


class Values(StrEnum):
    """What becomes of the values of the base picture."""

    EIGHT = "8bit"
    SOURCE = "source"


@app.command("compare")
def compare(
    run: Annotated[str | None, typer.Argument(help="Id of the run (newest sweep).")] = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, max=999, help="So many of the highest rank.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Base picture: raw, or a recipe of the run.")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            "--crop",
            metavar="SIDE|Y,X,H,W",
            help="Only a part: a box in pixels of the image, or the side of the square with the "
            "most structure.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="Only this image; may be given again.")
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option("--variants", help="These in this order, e.g. v0001,v0007; by rank else."),
    ] = None,
    dtype: Annotated[
        Values | None, typer.Option("--dtype", help="source keeps the values of the base picture.")
    ] = None,
    channels: Annotated[
        Channels | None, typer.Option("--channels", help="all adds every channel of the image.")
    ] = None,
    as_montage: Annotated[
        bool, typer.Option("--montage", help="Draw PNGs, a tile per variant, in place of stacks.")
    ] = False,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write there: a folder, or a file for one image.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Write the comparison stacks of a run again, otherwise shown; nothing is segmented.

    Without options stacks and report take on the order that the ranking has by now, after
    new answers. With --to the files of the run stay as they are.
    """
    from opsef_bridge.execute import Event
    from opsef_bridge.sweep.comparing import Wish, compare_again, stack_bytes
    from opsef_bridge.sweep.crops import parse_crop

    project, console = Context.project(), Context.console
    wish = Wish(
        top, base, channels and channels.value, dtype and dtype.value,
        None if crop is None else parse_crop(crop), tuple(image or ()),
        tuple(one.strip() for one in variants.split(",")) if variants else (), as_montage, to,
    )  # fmt: skip
    if not as_montage:
        free = shutil.disk_usage(project.root).free
        ask_for_disk(stack_bytes(project, run, wish), free, yes, "The stacks")
    with console.progress("compare") as report:
        done = compare_again(
            project, run, wish, lambda name, made, of: report(Event(made, of, name))
        )
    _say(done)
    raise typer.Exit(1 if done.failed else 0)


def _say(done: Comparison) -> None:
    """Print what was written and what was not."""
    console = Context.console
    for remark in done.remarks:
        console.warn(remark)
    for image, error in done.failed.items():
        console.warn(f"{image} is left out: {error}")
    for file in done.files.values():
        console.say(str(file))
    if done.in_line:
        console.say(f"{done.run}: stacks and report show the order of the ranking by now")
    console.answer(
        {
            "run": done.run,
            "files": {image: str(file) for image, file in done.files.items()},
            "failed": {image: str(error) for image, error in done.failed.items()},
            "remarks": list(done.remarks),
            "in_line": list(done.in_line),
            "report": str(done.report) if done.report else None,
        }
    )
