"""``opsef evaluate``: how good labels are against truth, and which model is better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import Context, RunId, app, folder_to_write

if TYPE_CHECKING:
    from opsef_bridge.exchange.evaluation import Evaluated


@app.command("evaluate")
def evaluate(
    pred: Annotated[
        str,
        typer.Argument(help="Labels: a folder, a TIFF or PNG, or with -p the id of a variant."),
    ],
    truth: Annotated[
        str, typer.Argument(help="True labels: a folder or file, or with -p `truth`.")
    ],
    others: Annotated[
        list[str] | None, typer.Option("--and", help="Labels of another model (repeatable).")
    ] = None,
    run: RunId = None,
    thresholds: Annotated[
        str | None, typer.Option("--thresholds", help="IoU, e.g. 0.5,0.75 (0.5 to 0.95).")
    ] = None,
    planes: Annotated[
        bool, typer.Option("--planes", help="Each plane of a stack is an image, not a volume.")
    ] = False,
    to: Annotated[Path | None, typer.Option("--to", help="Folder for tables and plots.")] = None,
) -> None:
    """Score labels against truth; with --and compare models, image by image.

    Images are paired by the name of their files. The time points of a file are images; its
    planes are one volume, unless --planes says otherwise.
    """
    from opsef_bridge.exchange.evaluation import evaluate_sets, parse_thresholds, write_evaluation
    from opsef_bridge.exchange.label_sets import open_labels

    if to is not None:
        folder_to_write(to)
    project = Context.project()
    known, *models = (
        open_labels(place, project, run=run, planes=planes)
        for place in (truth, pred, *(others or []))
    )
    with Context.console.progress("evaluate") as report:
        done = evaluate_sets(models, known, parse_thresholds(thresholds), report=report)
    files = write_evaluation(to, done) if to else []
    _say(done)
    if files:
        Context.console.say("", *(f"Wrote {file}" for file in files))
    Context.console.answer(done.to_json() | {"files": [str(file) for file in files]})


def _say(done: Evaluated) -> None:
    from opsef_bridge.exchange.evaluation import shown_thresholds

    console = Context.console
    first = next(iter(done.models.values()))
    shown = shown_thresholds(first.thresholds)
    counts = first.pooled.iloc[0]
    images = "1 image" if len(first.names) == 1 else f"{len(first.names)} images"
    told = f"{counts['tp'] + counts['fn']:.0f} objects of truth in {images}"
    console.say(told, *done.notes)
    rows: list[dict[str, Any]] = []
    for row in done.table("pooled").to_dict("records"):
        if row["threshold"] in shown:
            row |= {"IoU": f"{row['threshold']:g}", "F1": row["f1"], "PQ": row["pq"]}
            row |= {"from": _known(row["f1_low"]), "to": _known(row["f1_high"])}
            row |= {"missed": row["fn"], "invented": row["fp"], "split": row["splits"]}
            row |= {"merged": row["merges"], "shift px": _known(row["radius_shift"])}
            rows.append(row)
    columns = ("model", "IoU", "F1", "from", "to", "precision", "recall", "PQ", "dice")
    console.table(rows, (*columns, "missed", "invented", "split", "merged", "shift px"))
    if done.comparison is not None:
        console.say("")
        rows = [
            {**row, "IoU": f"{row['threshold']:g}", "from": _known(row["low"])}
            | {"to": _known(row["high"]), "a better": _known(row["a_better"])}
            for row in done.comparison.to_dict("records")
            if row["threshold"] in shown
        ]
        console.table(rows, ("a", "b", "IoU", "difference", "from", "to", "a better"))


def _known(value: float) -> Any:
    """Return a figure, or a dash where there is none: a single image, no matched pair."""
    return "-" if value != value else value
