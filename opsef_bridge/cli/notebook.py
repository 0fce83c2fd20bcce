"""``opsef notebook``: Setup, Run and Reimport as notebooks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from opsef_bridge.cli.common import Context, app


class NotebookKind(StrEnum):
    """The three notebooks, in the order of work."""

    SETUP = "setup"
    RUN = "run"
    REIMPORT = "reimport"


@app.command("notebook")
def notebook(
    name: Annotated[str, typer.Argument(help="Name of the notebooks, e.g. Muscle.")],
    kind: Annotated[
        list[NotebookKind] | None, typer.Option("--kind", help="Only this one (repeatable).")
    ] = None,
) -> None:
    """Write notebooks that set up, run and measure this project, to notebooks/."""
    from opsef_bridge.analysis.notebooks import KINDS, write_notebooks

    kinds = [one.value for one in kind] if kind else KINDS
    files = write_notebooks(Context.project(), name, kinds)
    Context.console.say(*map(str, files), "Open them in Jupyter or VS Code, the first one first")
    Context.console.answer([str(file) for file in files])
