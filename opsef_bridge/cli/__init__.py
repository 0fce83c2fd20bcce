"""The command ``opsef``: one function per command. Parses, calls, prints; no logic.

One module per group of commands. Exit codes: 0 done, 1 some units failed, 2 bad input, 130
stopped by Ctrl-C. Imports stand inside the commands, so that ``opsef --help`` answers at
once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from opsef_bridge.cli import (  # noqa: F401  (make commands)
    analyse,
    bundling,
    classify,
    compare,
    consensus,
    engines,
    evaluate,
    models,
    notebook,
    objects,
    projects,
    refine,
    review,
    service,
    sweeps,
    train,
    train_next,
    train_run,
    truth,
    verdicts,
)
from opsef_bridge.cli.common import Context, app, command
from opsef_bridge.console import Console
from opsef_bridge.errors import OpsefError, StaleError

__all__ = ["app", "main"]

STOPPED = 130
"""Exit code after Ctrl-C, which typer turns into an exit."""


def main() -> None:
    """Run the command line; errors become one message and an exit code."""
    try:
        app(_global_options_first(sys.argv[1:]), standalone_mode=True)
    except OpsefError as error:
        print(f"opsef: {error}", file=sys.stderr)
        told: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        if isinstance(error, StaleError):
            told["report"] = error.report
        Context.console.answer({"error": told})
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != STOPPED:
            raise
        again = command("train resume" if "train" in sys.argv else "sweep resume")
        print(
            f"\nopsef: stopped. What was finished stays; `{again}` goes on",
            file=sys.stderr,
        )
        sys.exit(STOPPED)
    except BrokenPipeError:  # `opsef ... | head`
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without rights: it names the file
        print(f"opsef: {error}", file=sys.stderr)
        Context.console.answer({"error": {"code": "os", "message": str(error), "hint": ""}})
        sys.exit(2)


def _global_options_first(arguments: list[str]) -> list[str]:
    """Let ``-p DIR`` and ``--json`` stand anywhere before a ``--``."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        if word == "--json" or word.startswith("--project="):
            front.append(word)
        elif word in ("-p", "--project"):
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            rest.append(word)
    return front + rest


@app.callback()
def _common(
    project: Annotated[
        Path, typer.Option("-p", "--project", metavar="DIR", help="Folder of the project.")
    ] = Path("."),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    Context.folder = project
    Context.console = Console(as_json=as_json)
