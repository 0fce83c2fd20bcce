"""The examples work as their own pages say."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "third_party_engine"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """Environment in which the example is installed: its folder, and what pip would note.

    The entry points are those of its ``pyproject.toml``; pip itself would need to build.
    """
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    path = os.pathsep.join([str(EXAMPLE), str(site)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def run(environment: dict[str, str], folder: Path, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_engine_of_a_third_party_passes_its_tests(installed, tmp_path):
    options = ("-p", "no:cacheprovider", "--import-mode=importlib", "-c", tmp_path / "none.ini")
    (tmp_path / "none.ini").write_text("[pytest]\n")
    said = run(installed, tmp_path, "-m", "pytest", "-q", *options, EXAMPLE / "tests")
    assert " passed" in said and "failed" not in said


def test_the_engine_of_a_third_party_sweeps(installed, tmp_path):
    opsef = ("-m", "opsef_bridge", "-p", tmp_path / "p")
    page = (EXAMPLE / "README.md").read_text("utf-8")
    models = page.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "p").mkdir()
    images = EXAMPLE.parent / "data" / "images" / "small_fadeb0ab0928.png"
    settings = f"opsef: 1\nimages: {{source: '{images}'}}\n{models}"
    (tmp_path / "p" / "opsef.yaml").write_text(settings)
    assert "blobs" in run(installed, tmp_path, *opsef, "engines", "list")
    said = run(installed, tmp_path, *opsef, "sweep", "run", "--workers", "1")
    assert "4 ok, 0 empty, 0 failed" in said and "2 network passes" in said
