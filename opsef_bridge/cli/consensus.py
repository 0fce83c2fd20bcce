"""``opsef consensus``: one label image of all variants, as one more variant."""

from __future__ import annotations

from typing import Annotated

import typer

from opsef_bridge.cli.common import (
    Context,
    EngineName,
    Executing,
    Profile,
    Workers,
    app,
    command,
)


@app.command("consensus")
def consensus(
    run: Annotated[str | None, typer.Option("--run", help="Id of the run (newest sweep).")] = None,
    supported: Annotated[
        float, typer.Option("--supported", help="Leave out objects of less support (0 to 1).")
    ] = 0.5,
    overlap: Annotated[
        float, typer.Option("--overlap", help="Share of an object that may be taken (0 to 1).")
    ] = 0.25,
    workers: Workers = None,
    engine: EngineName = Executing.LOCAL,
    profile: Profile = None,
) -> None:
    """Make one more variant of the best supported objects of all variants.

    The variants of the run are taken over into a new run and ranked together with it. It has
    no voice in the ranking.
    """
    from opsef_bridge.sweep import Executor
    from opsef_bridge.sweep.consensus import consensus as make
    from opsef_bridge.sweep.run import variant_rows

    project, console = Context.project(), Context.console
    with console.progress("consensus") as report:
        result = make(
            project, run=run, supported=supported, overlap=overlap,
            executor=Executor(engine, workers, profile, report),
        )  # fmt: skip
    folder = project.run(result.run)
    ranked = folder.variants_file.is_file()
    rows = [row for row in variant_rows(folder) if row["engine"] == "consensus"] if ranked else []
    for row in rows:
        console.say(
            f"Group {row['group']}: {row['objects']} objects in {row['id']} of {result.run}, rank "
            f"{row['rank']}, agreement {float(row['agreement']):.3f}"
        )
    if result.exit_code:
        left = f"{result.failed} failed, {result.open} open"
        console.say(f"{result.run}: {left}; `{command(f'sweep resume --run {result.run}')}`")
    console.say("One more variant to look at, not the answer:", str(folder.report_file))
    console.answer(
        {
            "run": result.run,
            "folder": str(folder.root),
            "consensus": rows,
            "failed": result.failed,
            "open": result.open,
        }
    )
    raise typer.Exit(result.exit_code)
