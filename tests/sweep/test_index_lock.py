"""``images/index.csv`` is read, altered and written by one at a time, whoever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.config import parse_config
from opsef_bridge.errors import ConfigError, LockedError
from opsef_bridge.files import lock
from opsef_bridge.project import Project
from opsef_bridge.sweep.importing import import_images

TEXT = "opsef: 1\nimages: {source: data}\nmodels: {m: {engine: watershed}}\n"
ROUNDS = 20

START = """
import sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np
import tifffile
from opsef_bridge.config import parse_config
from opsef_bridge.project import Project
from opsef_bridge.sweep.importing import import_images

name, other, rounds, root, text = sys.argv[1:]
project, config = Project(root), parse_config(text)
(project.root / f"{name}.ready").touch()
end = time.monotonic() + 60
while not (project.root / f"{other}.ready").exists() and time.monotonic() < end:
    time.sleep(0.001)
"""
ADDING = """
for k in range(int(rounds)):
    tifffile.imwrite(project.root / "data" / f"{name}{k}.tif", np.full((4, 4), k, np.uint8))
    import_images(project, config)
"""
ALTERING = """
for k in range(int(rounds)):
    with project.changing_images():
        first, *rest = project.images()
        project.write_images([replace(first, more=first.more | {f"{name}{k}": "mine"}), *rest])
"""


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "data").mkdir()
    tifffile.imwrite(tmp_path / "data" / "0.tif", np.zeros((4, 4), np.uint8))
    made = Project(tmp_path)
    import_images(made, parse_config(TEXT))
    return made


@pytest.mark.parametrize("second", [ADDING, ALTERING])
def test_two_processes_lose_no_row_of_each_other(project, second):
    words = (str(ROUNDS), str(project.root), TEXT)
    both = [
        subprocess.Popen([sys.executable, "-c", START + what, *names, *words])
        for what, names in ((ADDING, ("a", "b")), (second, ("b", "a")))
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    entries = project.images()
    added = [f"a{k}" for k in range(ROUNDS)]
    marks = [f"b{k}" for k in range(ROUNDS)] if second == ALTERING else []
    added += [] if marks else [f"b{k}" for k in range(ROUNDS)]
    assert sorted(Path(entry.source).stem for entry in entries) == sorted(["0", *added])
    numbers = sorted(int(entry.id[1:6]) for entry in entries)
    assert numbers == list(range(1, len(entries) + 1))  # no number was given twice
    [first] = [entry for entry in entries if entry.id.startswith("i00001")]
    assert {name for name, cell in first.more.items() if cell == "mine"} == set(marks)


def test_every_write_of_an_import_holds_the_lock(project, monkeypatch):
    written = []
    write = Project.write_images

    def watched(self, entries):
        with pytest.raises(LockedError):
            _take_lock_from_outside(self)
        written.append(1)
        write(self, entries)

    monkeypatch.setattr(Project, "write_images", watched)
    import_images(project, parse_config(TEXT))
    with pytest.raises(ConfigError, match="no column"):
        import_images(project, parse_config(TEXT + "groups: stain\n"))
    assert written == [1, 1]


def _take_lock_from_outside(project: Project) -> None:
    with lock(project.index_file.with_name(".index.lock")):
        pass


def test_who_holds_the_lock_may_import(project):
    with project.changing_images(seconds=0):
        assert len(import_images(project, parse_config(TEXT))) == 1
        with pytest.raises(LockedError):
            _take_lock_from_outside(project)
    _take_lock_from_outside(project)


def test_another_waits_and_then_says_who_holds_it(project):
    code = (
        "import sys; from opsef_bridge.project import Project\n"
        "with Project(sys.argv[1]).changing_images(): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(project.root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert other.stdout.readline() == "held\n"
        held = pytest.raises(LockedError, match=f"process {other.pid}")
        with held, project.changing_images(seconds=0):
            pass
    finally:
        other.communicate("", timeout=60)
    with project.changing_images(seconds=0):  # it ended, and so did its lock
        pass
