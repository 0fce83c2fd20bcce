"""``opsef engines``: who segments."""

from __future__ import annotations

from typing import Annotated

import typer

from opsef_bridge.cli.common import Context, engines_app


@engines_app.command("list")
def engines_list() -> None:
    """List the engines and their parameters."""
    from opsef_bridge.engines import engine_class, engine_names

    Context.project()  # brings the engines in other interpreters
    rows = []
    for engine in map(engine_class, engine_names()):
        fields = {"predict": engine.Predict.model_fields, "decode": engine.Decode.model_fields}
        rows.append(
            {"name": engine.name, "axes": ", ".join(sorted(engine.axes))}
            | {part: ", ".join(names) for part, names in fields.items()}
        )
    Context.console.table(rows, ("name", "axes", "predict", "decode"))
    Context.console.answer(rows)


@engines_app.command("add")
def engines_add(
    name: Annotated[str, typer.Argument(help="Its name in opsef.yaml.")],
    python: Annotated[str, typer.Option("--python", help="Absolute path of its interpreter.")],
    target: Annotated[str, typer.Option("--target", help="module:Class there.")],
) -> None:
    """Add an engine that lives in another interpreter, with appose and numpy there."""
    engine = Context.project().must_exist().add_engine(name, python, target)
    parts = {"predict": engine.Predict, "decode": engine.Decode}
    fields = {part: list(model.model_fields) for part, model in parts.items()}
    Context.console.say(f"Added {name}: {', '.join(fields['predict'] + fields['decode'])}")
    Context.console.answer({"name": name, "version": engine.version, **fields})
