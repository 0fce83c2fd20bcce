"""The same loop in a person's own Fiji, where OPSEF_FIJI_DIR names its folder.

The folder is not touched: its files are linked into another, and the menu put there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opsef_bridge.service.fiji import OURS, install
from opsef_bridge.service.fiji_check import check

from . import test_imagej
from .test_imagej import Service, service, talk  # noqa: F401  (a fixture)

if not os.environ.get("OPSEF_FIJI_DIR"):
    pytest.skip(
        "OPSEF_FIJI_DIR names no Fiji; the loop runs in ImageJ 1.54p with Jython 2.7.4",
        allow_module_level=True,
    )

HERE = Path(__file__).parent
FIJI = Path(os.environ["OPSEF_FIJI_DIR"])
SLOWER = 3
"""Fiji starts more slowly than ImageJ; times are no matter here."""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Link all of Fiji into a folder of our own, but for an older menu."""
    folder = tmp_path / "Fiji für alle"
    parents = {Path(part).parents[k] for part in OURS for k in range(len(Path(part).parts) - 1)}
    for part in (Path("."), *sorted(parents)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for entry in (FIJI / part).iterdir() if (FIJI / part).is_dir() else ():
            relative = part / entry.name
            if relative not in parents and relative.as_posix() not in OURS:
                (folder / relative).symlink_to(entry.absolute())
    install(folder)
    return folder


def test_the_check_is_content(app: Path) -> None:
    assert [f for f in check(app) if not f.ok] == []


def test_the_loop_online(
    display: str,
    app: Path,
    classes: Path,
    service: Service,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_fiji(command: list[str], answers: dict, limit: float) -> tuple[int, dict, str]:
        return talk(
            [command[0], str(HERE / "fiji_window.py"), *command[1:]], answers, SLOWER * limit
        )

    monkeypatch.setattr(test_imagej, "talk", in_fiji)
    monkeypatch.setattr(test_imagej, "LIMIT", SLOWER * test_imagej.LIMIT)
    test_imagej.test_the_loop_online(display, app, classes, service, tmp_path)
