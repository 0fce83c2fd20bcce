"""Fixtures that run code in a process with the real ImageJ, and that give it a display."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej import worker
from opsef_bridge.imagej.jars import find_jar

PRELUDE = """
import os, sys
import numpy as np
from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej import ij1
try:
    ij1.start(headless=HEADLESS)
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
    """Return ``run(script, timeout=120, headless=True, **arrays)``.

    The script finds the arrays in ``inputs``, `opsef_bridge.imagej.ij1` as ``ij1``, and
    puts arrays into ``outputs``, which come back. Without `headless` it needs `display`.
    """
    for package in ("scyjava", "jpype"):
        if not _installed(package):
            missing(f"the package {package} is not installed")
    try:
        find_jar("ij")
    except NotFoundError as error:
        missing(str(error))

    def run(
        script: str, timeout: float = 120, headless: bool = True, **arrays: np.ndarray
    ) -> dict[str, np.ndarray]:
        np.savez(tmp_path / "in.npz", **arrays)
        prelude = PRELUDE.replace("HEADLESS", str(headless))
        command = [sys.executable, "-c", prelude + script + EPILOGUE]
        done = subprocess.run(
            command, cwd=tmp_path, timeout=timeout, capture_output=True, text=True, check=False
        )
        if done.returncode == MISSING:
            missing(done.stderr)
        assert done.returncode == 0, done.stderr[-4000:]
        with np.load(tmp_path / "out.npz") as found:
            return dict(found)

    return run


@pytest.fixture(scope="session")
def imagej_worker() -> Iterator[dict[str, str]]:
    """Start the worker of the provider ij1, once; skip or fail where that cannot be."""
    try:
        yield worker.provider("ij1")
    except NotFoundError as error:
        missing(str(error))
    finally:
        worker.close()


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start an X server without a screen (Xvfb), or take the display that there is; else skip."""
    if shutil.which("Xvfb") is None:
        if sys.platform != "win32" and not os.environ.get("DISPLAY"):
            missing("Xvfb is not installed, and there is no display: no windows can be opened")
        yield os.environ.get("DISPLAY", "")
        return
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x1024x24"]
    server = subprocess.Popen(
        [*command, "-nolisten", "tcp"], pass_fds=[writer], stderr=subprocess.DEVNULL
    )
    os.close(writer)
    try:
        with open(reader) as told:  # closed by a server that fails
            number = told.readline().strip()
        assert number, "Xvfb did not start"
        monkeypatch.setenv("DISPLAY", f":{number}")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10)


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
