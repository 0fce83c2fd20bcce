"""``opsef truth``: what a person vouches for, and questions to her."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import Context, RunId, command, folder_to_write, truth_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsef_bridge.sweep.asking import Asked


class Answer(StrEnum):
    """What a person says of an outline."""

    RIGHT = "right"
    NOTHING = "nothing"
    DRAWN = "drawn"


Author = Annotated[str | None, typer.Option("--author", help="Who says so (the user's name).")]


@truth_app.command("add")
def truth_add(
    image: Annotated[str, typer.Argument(help="Id of the image.")],
    scope: Annotated[
        str, typer.Argument(help="`whole`, `touched`, or a box `y,x,height,width` in pixels.")
    ],
    revision: Annotated[str, typer.Option("--revision", help="Id, or `latest`.")] = "latest",
    author: Author = None,
) -> None:
    """Vouch for objects of a revision: what the author checked is truth from now on."""
    from opsef_bridge.exchange.sources import revision_of
    from opsef_bridge.rois.truth import add_truth, parse_scope
    from opsef_bridge.sweep.asking import rank_again

    project = Context.project()
    found = revision_of(project, image, revision)
    by = _name(author)
    record = add_truth(project, image, found.id, parse_scope(scope), author=by)
    Context.console.say(f"Truth of {image}: {scope} of {found.id}, by {by}")
    Context.console.warn(*rank_again(project)[1])
    Context.console.answer(record)


@truth_app.command("ask")
def truth_ask(
    count: Annotated[int, typer.Option("--count", min=1, help="How many places.")] = 5,
    run: Annotated[str | None, typer.Option("--run", help="Id of the run (newest sweep).")] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Of which images, if there are several groups.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder for a picture of each place.")
    ] = None,
) -> None:
    """List the places where the leading variants disagree: a look there tells most."""
    from opsef_bridge.sweep.asking import questions

    if pictures is not None:
        folder_to_write(pictures)
    project = Context.project()
    with Context.console.progress("truth ask") as report:
        found = questions(project, run, group, count, report)
    files = []
    if pictures is not None:
        from opsef_bridge.sweep.asking_pictures import write_pictures

        files = write_pictures(project, found, pictures)
    _list_questions(found, files, run)
    told = {"questions": [one.to_json() for one in found], "pictures": [str(f) for f in files]}
    Context.console.answer(told)


@truth_app.command("answer")
def truth_answer(
    image: Annotated[str, typer.Argument(help="Id of the image.")],
    variant: Annotated[str, typer.Argument(help="Id or slug of the variant.")],
    label: Annotated[int, typer.Argument(help="Label of the object that is asked about.")],
    what: Annotated[
        Answer,
        typer.Argument(
            metavar="ANSWER",
            help="`right`: its outline is right; `drawn`: the right one is in --roi; `nothing`: "
            "no object is there.",
        ),
    ],
    roi: Annotated[
        Path | None,
        typer.Option("--roi", exists=True, dir_okay=False, help="ROI file or zip of one object."),
    ] = None,
    run: RunId = None,
    author: Author = None,
    own: Annotated[
        bool, typer.Option("--own", help="You chose the place; `truth ask` did not.")
    ] = False,
) -> None:
    """Answer a question of `truth ask`."""
    from opsef_bridge.sweep.asking import answer

    told = answer(
        Context.project(),
        image,
        variant,
        label,
        what.value,
        run=run,
        drawn=roi,
        author=_name(author),
        asked=not own,
    )
    again = " (instead of an earlier answer)" if told["replaced"] else ""
    answers = f"{told['answers']} {'answer' if told['answers'] == 1 else 'answers'}"
    Context.console.say(
        f"{image}, object {label} of {told['variant']}: {what.value}{again}; {answers} so far",
        *([f"First now: {told['first']}"] if told["first"] else []),
        *(f"  {line}" for line in told["words"]),
    )
    Context.console.answer(told)


@truth_app.command("list")
def truth_list() -> None:
    """List what is vouched for: claims for revisions, and answers about single places."""
    from opsef_bridge.rois.answers import list_answers
    from opsef_bridge.rois.truth import list_truth

    project = Context.project()
    rows: dict[str, dict[str, Any]] = {
        record["image"]: {**record, "answers": None} for record in list_truth(project)
    }
    for counts in list_answers(project):
        nothing = {"image": counts["image"], "claims": [], "objects": 0, "known_pixels": 0}
        row = rows.setdefault(counts["image"], nothing)
        row["answers"] = {name: value for name, value in counts.items() if name != "image"}
    listed = [rows[image] for image in sorted(rows)]
    if listed:
        columns = ("image", "claims", "objects", "known_pixels", "answers", "by")
        Context.console.table([_shown(row) for row in listed], columns)
    else:
        Context.console.say(
            f"Nothing yet; {command('truth add IMAGE whole')} vouches for a revision, "
            f"{command('truth ask')} asks about single places"
        )
    Context.console.answer(listed)


def _list_questions(found: Sequence[Asked], files: Sequence[Path], run: str | None) -> None:
    if not found:
        Context.console.say(
            "Nothing to ask: the leading variants agree on all places that nobody vouched for"
        )
        return
    rows = [
        {
            "image": one.image,
            "variant": one.variant,
            "label": one.label,
            "y": one.box[0] + one.box[2] // 2,
            "x": one.box[1] + one.box[3] // 2,
            **({} if one.plane is None else {"z": one.plane + 1}),
            "have it": f"{100 * one.share:.0f} %",
        }
        for one in found
    ]
    Context.console.table(rows, dict.fromkeys(key for row in rows for key in row))
    Context.console.say(*map(str, files))
    first = f"{found[0].image} {found[0].variant} {found[0].label}"
    named = f" --run {run}" if run else ""
    Context.console.say(
        "`have it`: how many of the leading variants, by their scores, have that object",
        f"Right:   {command(f'truth answer {first} right{named}')}",
        f"Nothing: {command(f'truth answer {first} nothing{named}')}",
        f"Another: {command(f'truth answer {first} drawn --roi FILE{named}')}",
    )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of an image in the list."""
    answers = row["answers"] or {}
    kinds = (f"{answers[k]} {k}" for k in ("right", "drawn", "nothing") if answers.get(k))
    by = [*(claim["author"] for claim in row["claims"]), *answers.get("by", ())]
    return {
        **row,
        "claims": ", ".join(f"{one['scope']} of {one['revision']}" for one in row["claims"]),
        "answers": ", ".join(kinds),
        "by": ", ".join(dict.fromkeys(by)),
    }


def _name(author: str | None) -> str:
    from opsef_bridge.exchange.saving import How

    return How(author).author if author else How().author
