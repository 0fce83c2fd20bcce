"""A fixture that runs code in a process with the real ImageJ."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej.jars import find_jar

PRELUDE = """
import os, sys
import numpy as np
from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej import ij1
try:
    ij1.start()
except NotFoundError as error:
    print(error, file=sys.stderr)
    os._exit(77)
inputs = dict(np.load("in.npz"))
outputs = {}
"""
EPILOGUE = """
np.savez("out.npz", **outputs)
sys.stdout.flush()
os._exit(0)
"""
MISSING = 77


def missing(reason: str) -> None:
    """Skip on a user's machine; fail in CI, where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"CI without ImageJ: {reason}")
    pytest.skip(reason)


@pytest.fixture
def in_imagej(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Return ``run(script, timeout=120, **arrays)``.

    The script finds the arrays in ``inputs``, `opsef_bridge.imagej.ij1` as ``ij1``, and
    puts arrays into ``outputs``, which come back.
    """
    for package in ("scyjava", "jpype"):
        if not _installed(package):
            missing(f"the package {package} is not installed")
    try:
        find_jar("ij")
    except NotFoundError as error:
        missing(str(error))

    def run(script: str, timeout: float = 120, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        np.savez(tmp_path / "in.npz", **arrays)
        command = [sys.executable, "-c", PRELUDE + script + EPILOGUE]
        done = subprocess.run(
            command, cwd=tmp_path, timeout=timeout, capture_output=True, text=True, check=False
        )
        if done.returncode == MISSING:
            missing(done.stderr)
        assert done.returncode == 0, done.stderr[-4000:]
        with np.load(tmp_path / "out.npz") as found:
            return dict(found)

    return run


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
