"""The command line in this process, as the console script runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from opsef_bridge import cli
from opsef_bridge.cli.common import Context

__all__ = ["run_opsef"]


def run_opsef(monkeypatch, capfd, *words: object) -> tuple[int, str, str]:
    """Run ``opsef WORDS``; return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["opsef", *map(str, words)])
    monkeypatch.setattr(Context, "folder", Path("."))
    capfd.readouterr()
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    return code, *capfd.readouterr()
