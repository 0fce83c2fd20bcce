"""The command line in this process, as the console script runs it; waiting for others."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opsef_bridge import cli
from opsef_bridge.cli.common import Context

__all__ = ["run_opsef", "wait_until"]


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


def wait_until(condition: Callable[[], Any], timeout: float = 60) -> Any:
    """Wait for a condition to become true, but not for ever; return what it was then."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return value
