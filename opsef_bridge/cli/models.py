"""``opsef models``: weights come, go, are converted and judged."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.cli.common import Context, Device, Devices, models_app

if TYPE_CHECKING:
    from opsef_bridge.engines.store import Added
    from opsef_bridge.errors import OpsefError

Name = Annotated[str | None, typer.Option("--name", help="Name in opsef.yaml.")]
EngineOf = Annotated[str | None, typer.Option("--engine", help="Who runs it.")]
Percentiles = Annotated[
    tuple[float, float] | None,
    typer.Option("--percentiles", metavar="LOW HIGH", help="That a bare .onnx maps to 0 and 1."),
]


class Runtime(StrEnum):
    """Who runs a model of StarDist's own format."""

    ONNX = "onnx"
    TENSORFLOW = "tensorflow"


RuntimeOf = Annotated[Runtime, typer.Option("--runtime", help="Who runs StarDist's own format.")]


@models_app.command("list")
def models_list() -> None:
    """List the weights that are here, those of the best known score (F1 at 0.5) first."""
    from opsef_bridge.engines.cards import table
    from opsef_bridge.engines.registry import broken_cards

    models = Context.project().models_folder
    rows = table([models])
    shown = [{key: "" if cell is None else cell for key, cell in row.items()} for row in rows]
    columns = ("name", "engine", "licence", "f1", "scored", "sha256", "file")
    Context.console.table(shown, columns)
    for problem in broken_cards([models]).values():
        warn(problem)
    Context.console.answer(rows)


@models_app.command("add")
def models_add(
    what: Annotated[
        list[str] | None, typer.Argument(help="File, folder or zip; with --from names.")
    ] = None,
    name: Name = None,
    engine: EngineOf = None,
    runtime: RuntimeOf = Runtime.ONNX,
    size: Annotated[
        Path | None, typer.Option("--size", help="Size model of a network of Cellpose.")
    ] = None,
    percentiles: Percentiles = None,
    shared: Annotated[
        Path | None, typer.Option("--from", help="Shared folder or bundle to take from.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="For the card.")] = "",
    source: Annotated[str, typer.Option("--source", help="For the card: where from.")] = "",
    data: Annotated[str, typer.Option("--data", help="For the card: learned from what.")] = "",
) -> None:
    """Add weights to the project: .onnx, StarDist's, Cellpose's, U-Nets of CellProfiler, Mask
    R-CNN, packages of bioimage.io, a bundle; or --from FOLDER.
    """
    from opsef_bridge.engines.store import add, add_from

    how = {"engine": engine, "runtime": runtime.value, "size": size, "percentiles": percentiles}
    alone = how == {"engine": None, "runtime": "onnx", "size": None, "percentiles": None}
    if not (what if shared is None else alone):
        raise typer.BadParameter("name FILES; or --from FOLDER, and the NAMES to take (all)")
    models = Context.project().must_exist().models_folder
    facts = {"licence": licence, "source": source, "data": data}
    if shared is not None:
        _say_added(add_from(shared, models, what or (), name=name, facts=facts, warn=warn))
        return
    more = {"name": name, "facts": facts, **how}
    if what is not None and len(what) == 1:
        _say_added(add(what[0], models, **more))
        return
    _add_each(what or [], lambda file: add(file, models, **more))


def _add_each(files: list[str], add: Callable[[str], list[Added]]) -> None:
    """Add files one by one and say so at once; one that is bad does not stop the others."""
    from opsef_bridge.errors import OpsefError

    added: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for file in files:
        try:
            added += _told(add(file))
        except OpsefError as error:
            warn(error)
            failed.append({"source": file, "error": _as_json(error)})
    if failed:
        Context.console.answer({"error": failed[0]["error"], "added": added, "failed": failed})
        raise typer.Exit(2)
    Context.console.answer(added)


@models_app.command("convert")
def models_convert(
    what: Annotated[list[str], typer.Argument(help="Weights of the project, or files.")],
    name: Name = None,
    engine: EngineOf = None,
    runtime: RuntimeOf = Runtime.ONNX,
    percentiles: Percentiles = None,
) -> None:
    """Make ONNX weights of StarDist's own format or of a U-Net of CellProfiler; with --engine
    fpn2ws of two ONNX files, distance and border, one network; with --runtime tensorflow
    StarDist's own format of ONNX weights that were made here.
    """
    from opsef_bridge.engines.store import convert

    models = Context.project().must_exist().models_folder
    more = {"runtime": runtime.value, "percentiles": percentiles}
    done = convert(what, models, name=name, engine=engine, **more)
    _say_added(done)


@models_app.command("evaluate")
def models_evaluate(
    name: Annotated[str, typer.Argument(help="Weights, as `opsef models list` has them.")],
    images: Annotated[Path, typer.Option("--images", help="Folder of images.")],
    labels: Annotated[Path, typer.Option("--labels", help="Folder of labels, named alike.")],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Of the engine.")
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="As scale=VALUE.")] = None,
    data: Annotated[str, typer.Option("--data", help="For the card: what images.")] = "",
) -> None:
    """Score weights on images with labels; the score stays on their card."""
    from opsef_bridge.train.evaluate import evaluate, read_values, record

    models = Context.project().must_exist().models_folder
    parameters = read_values(values or []) | ({} if scale is None else {"scale": scale})
    with Context.console.progress(name) as report:
        entry = evaluate(name, [models], images, labels, parameters, data=data, report=report)
    file, note = record(name, models, entry)
    rows = [
        {"IoU": threshold, "F1": f1["value"], "from": low, "to": high}
        for threshold, f1 in entry["f1"].items()
        for low, high in [f1["interval"] or ("", "")]  # of a single image there is none
    ]
    Context.console.say(f"{name}: {entry['objects']} objects in {entry['images']} images")
    Context.console.table(rows, ("IoU", "F1", "from", "to"))
    Context.console.say(*filter(None, [f"Written to {file}", note]))
    Context.console.answer({"card": str(file), **entry})


@models_app.command("fetch")
def models_fetch(
    name: Annotated[str, typer.Argument(help="Official name, e.g. 2D_versatile_fluo.")],
    mirror: Annotated[str | None, typer.Option("--mirror", help="Address of its folder.")] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="Of its file, where none is known.")
    ] = None,
    runtime: RuntimeOf = Runtime.ONNX,
) -> None:
    """Download an official model from a mirror and add it; nothing else ever downloads."""
    from opsef_bridge.engines.store import fetch

    models = Context.project().must_exist().models_folder
    _say_added([fetch(name, models, mirror=mirror, sha256=sha256, runtime=runtime.value)])


@models_app.command("bundle")
def models_bundle(
    file: Annotated[Path, typer.Argument(help="The zip to write.")],
    names: Annotated[list[str] | None, typer.Argument(help="Weights (all).")] = None,
) -> None:
    """Write weights with their cards to one zip, for `opsef models add`."""
    from opsef_bridge.engines.store import bundle

    models = Context.project().models_folder
    chosen = [one.name for one in bundle(file, [models], names or (), warn=warn)]
    Context.console.say(f"Wrote {', '.join(chosen)} to {file}")
    Context.console.answer({"file": str(file), "names": chosen})


@models_app.command("publish")
def models_publish(
    folder: Annotated[Path, typer.Argument(help="Folder that others read too.")],
    names: Annotated[list[str] | None, typer.Argument(help="Weights (all).")] = None,
) -> None:
    """Copy weights with their cards to a folder, for `opsef models add --from FOLDER`."""
    from opsef_bridge.engines.store import publish

    models = Context.project().models_folder
    _say_added(publish(folder, [models], names or (), warn=warn))


@models_app.command("promote")
def models_promote(
    name: Annotated[str, typer.Argument(help="Candidate of a training (opsef train status).")],
    to: Annotated[str | None, typer.Option("--as", help="Its name in models/.")] = None,
    training: Annotated[
        str | None, typer.Option("--training", help="Id of its training (newest).")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also if it is worse than its parent.")
    ] = False,
    device: Device = Devices.AUTO,
) -> None:
    """Compare a candidate with its parent on the same test images; then it is a model of the
    project.
    """
    from dataclasses import asdict

    from opsef_bridge.train.promote import promote

    console = Context.console
    with console.progress(name) as report:
        done = promote(
            Context.project(), name,
            training=training, to=to, force=force, device=device.value, report=report,
        )  # fmt: skip
    shown = [
        {
            "IoU": row["threshold"],
            "F1": f"{row['f1']:.3f}",
            done.parent: f"{row['parent_f1']:.3f}",
            "from": "" if row["low"] is None else f"{row['low']:+.3f}",
            "to": "" if row["high"] is None else f"{row['high']:+.3f}",
        }
        for row in done.rows
    ]
    if shown:
        console.table(shown, ("IoU", "F1", done.parent, "from", "to"))
    news = "Wrote" if done.new else "Nothing to do, it is there:"
    console.warn(*done.remarks)
    console.say(done.words, f"{news} {done.file}", f"In opsef.yaml: weights: {done.name}")
    console.answer({**asdict(done), "file": str(done.file), "words": done.words})


@models_app.command("verify")
def models_verify() -> None:
    """Check the sha256 of all weights; exit code 2 if one is not as its card says."""
    from opsef_bridge.engines import list_weights, verify
    from opsef_bridge.engines.registry import broken_cards
    from opsef_bridge.errors import WeightsError

    models = Context.project().models_folder
    rows: list[dict[str, Any]] = []
    for file, problem in broken_cards([models]).items():
        warn(problem)
        rows.append({"name": file.stem, "file": str(file), "error": _as_json(problem)})
    for weights in list_weights([models]):
        row: dict[str, Any] = {"name": weights.name, "file": str(weights.path), "error": None}
        try:
            verify(weights)
            Context.console.say(f"{weights.name}: sha256 as in its card")
        except WeightsError as error:
            warn(error)
            row["error"] = _as_json(error)
        rows.append(row)
    bad = [row["error"] for row in rows if row["error"]]
    first = {"error": bad[0]} if bad else {}  # as every command that ends with exit code 2
    Context.console.answer({**first, "verified": not bad, "weights": rows})
    if bad:
        raise typer.Exit(2)


def warn(error: OpsefError) -> None:
    """Say on stderr what is wrong; the command goes on."""
    Context.console.warn(str(error))


def _as_json(error: OpsefError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _say_added(added: list[Added]) -> None:
    Context.console.answer(_told(added))


def _told(added: list[Added]) -> list[dict[str, Any]]:
    """Say what came where, and what was there before; return it for a machine."""
    for one in added:
        what = f"{one.weights.name} for {one.weights.engine}"
        news = f"Wrote {what}: " if one.new else f"Nothing to do, {what} is here: "
        if one.updated:
            news = f"Card updated, {what} has new scores: "
        Context.console.say(news + str(one.weights.path), *([one.note] if one.note else []))
    return [
        {"name": one.weights.name, "engine": one.weights.engine, "file": str(one.weights.path)}
        | {"sha256": one.weights.sha256, "new": one.new, "updated": one.updated}
        | {"note": one.note}
        for one in added
    ]
