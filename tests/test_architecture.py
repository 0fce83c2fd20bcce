"""The house: one direction of imports, a light front door, no trace of anybody's machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "opsef_bridge"

FLOORS = [
    ("errors",),
    ("files",),
    ("workers",),
    ("measure",),
    ("images",),
    ("imagej",),
    ("preprocess",),
    ("postprocess",),
    ("engines",),
    ("config",),
    ("presets",),
    ("project",),
    ("execute",),
    ("rois",),
    ("compare",),
    ("sweep",),
    ("exchange",),
    ("analysis",),
    ("train",),
    ("service",),
    ("doctor", "demo", "console"),
    ("cli",),
    ("__main__", "testing"),
]
"""From the bottom up: each part imports only from itself and from the parts before it."""

FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

HEAVY = (
    "torch", "tensorflow", "pandas", "scyjava", "matplotlib", "onnxruntime", "numba", "zarr",
    "readlif", "bioio", "dask", "fastapi", "optuna",
)  # fmt: skip


def imports_of(text: str, package: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, part) for every import of a part of opsef_bridge, wherever it stands."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == "opsef_bridge" or name.startswith("opsef_bridge."):
                yield node.lineno, name.partition(".")[2].partition(".")[0]


def wrong_imports(text: str, file: str) -> list[str]:
    """Return the imports of a module that go up; `file` is relative to the package."""
    parts = Path(file).with_suffix("").parts
    here = parts[0]
    wrong = []
    for line, part in imports_of(text, ["opsef_bridge", *parts[:-1]]):
        if part not in FLOOR or FLOOR[part] > FLOOR[here] or (
            FLOOR[part] == FLOOR[here] and part != here
        ):  # fmt: skip
            wrong.append(f"{file}:{line}: {here} imports {part or 'the whole package'}")
    return wrong


MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def test_every_part_has_its_floor():
    parts = {Path(name).with_suffix("").parts[0] for name in MODULES} - {"__init__", "example_data"}
    assert parts <= set(FLOOR), "DESIGN section 3 says where a part stands"


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__.py"])
def test_imports_go_one_way(module):
    assert wrong_imports((PACKAGE / module).read_text("utf-8"), module) == []


@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("measure/a.py", "from opsef_bridge.images import read_image", "images"),
        ("measure/a.py", "def f():\n    import opsef_bridge.sweep.run", "sweep"),
        ("measure/a.py", "from opsef_bridge import sweep", "sweep"),
        ("measure/a.py", "from ..sweep import run", "sweep"),
        ("measure/deep/a.py", "from ...sweep import run", "sweep"),
        ("doctor.py", "from opsef_bridge.demo import x", "demo"),
        ("sweep/a.py", "import opsef_bridge", "whole package"),
        ("sweep/a.py", "if TYPE_CHECKING:\n    from opsef_bridge.cli import app", "cli"),
    ],
)
def test_the_check_sees_what_is_wrong(file, text, part):
    [found] = wrong_imports(text, file)
    assert part in found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("measure/a.py", "from opsef_bridge.errors import InputError\nimport numpy"),
        ("measure/a.py", "from opsef_bridge.measure.b import c\nfrom .b import d\nfrom . import b"),
        ("sweep/a.py", "from opsef_bridge.measure import match\nfrom ..files import lock"),
        ("testing/a.py", "from opsef_bridge.cli import app"),
    ],
)
def test_the_check_lets_pass_what_is_right(file, text):
    assert wrong_imports(text, file) == []


@pytest.mark.parametrize(
    "code",
    [
        "import opsef_bridge",
        "import opsef_bridge.cli",
        "from opsef_bridge.testing import __doc__",
        "import sys; sys.argv = ['opsef', '--help']\n"
        "from opsef_bridge.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code",
    ],
    ids=["package", "cli", "testing", "help"],
)
def test_the_front_door_is_light(code):
    said = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{said}"], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert "opsef_bridge" in modules
    assert not modules & set(HEAVY)


def test_names_of_the_package_are_loaded_when_they_are_used():
    code = (
        "import sys, opsef_bridge\n"
        "assert 'numpy' not in sys.modules\n"
        "missing = [n for n in opsef_bridge.__all__ if getattr(opsef_bridge, n) is None]\n"
        "assert not missing and set(opsef_bridge.__all__) <= set(dir(opsef_bridge))\n"
        "assert not {'torch', 'tensorflow', 'scyjava', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Yield every text file that git tracks, or would if it were added."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    for name in filter(None, listed.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield name, content.decode("utf-8", "replace")


MACHINE = re.compile(r"(?<![\w.~})])/(?:work|home|Users|root)/\w|\b[A-Z]:\\\\?Users\b")


def test_no_file_knows_the_machine_it_was_written_on():
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE.search(line)
    ]
    assert found == []
    assert MACHINE.search("see " + "/ho" + "me/anna/data") and not MACHINE.search("../home/a")
