"""What Fiji makes of the scripts: the menu that SciJava finds, and whether their heads work.

SciJava's own classes find and run them; only the language is ours, as Fiji's cannot be had
from Maven Central.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from opsef_bridge.service.fiji import install

from .conftest import class_path, compiled
from .test_scripts import COMMANDS

ARCHIVES = ("jython", "ij", "scijava-common", "parsington")
PLACES = {path.stem.replace("_", " ") for path in COMMANDS}
FAR_ENOUGH = re.compile(
    r"Connect comes first|No image is open"  # refused in plain words
    r'|opsef_fiji/dialogs\.py", line \d+, in __init__\n.*\n.*HeadlessException'  # has a dialog
    r'|opsef_fiji/offers\.py", line \d+, in help\n.*\n.*HeadlessException'  # has a window
)
Say = Callable[..., str]


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the language, with the index by which SciJava finds it, and what runs scripts."""
    folder = compiled(
        tmp_path_factory.mktemp("scijava"), ["Python.java", "Scripts.java"], *ARCHIVES
    )
    assert (folder / "META-INF" / "json" / "org.scijava.plugin.Plugin").is_file()
    return folder


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "Fiji für alle"
    for name in ("plugins", "scripts", "jars"):
        (folder / name).mkdir(parents=True)
    install(folder)
    return folder


@pytest.fixture
def scijava(language: Path, app: Path, which_java: str) -> Say:
    """Return ``say(*scripts)``: what SciJava prints of the menu, and of the scripts it runs."""

    def say(*scripts: str, told: str = "") -> str:
        command = [which_java, "-cp", class_path(language, *ARCHIVES), "-Djava.awt.headless=true",
                   f"-Dplugins.dir={app}{told}", f"-Duser.home={app}",
                   "-Dpython.cachedir.skip=true", "-Dsun.jnu.encoding=UTF-8",
                   "-Dfile.encoding=UTF-8", "Scripts", str(app), *scripts]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False
        )
        assert done.returncode == 0 and "DONE" in done.stdout, done.stdout + done.stderr
        return done.stdout + done.stderr

    return say


def menu(said: str) -> set[str]:
    return {line[5:] for line in said.splitlines() if line.startswith("MENU ")}


def test_every_command_stands_in_the_menu_and_nothing_else(scijava: Say) -> None:
    assert len(PLACES) >= 13
    assert menu(scijava()) == {f"Plugins > OpSeF > {name}" for name in PLACES}


def test_a_helper_in_the_wrong_place_would_be_seen(scijava: Say, app: Path) -> None:
    folder = app / "plugins" / "OpSeF" / "lib"
    folder.mkdir()
    (folder / "some_helper.py").write_text("")
    found = menu(scijava()) - {f"Plugins > OpSeF > {name}" for name in PLACES}
    assert found == {"Plugins > OpSeF > lib > some helper"}


def test_each_script_finds_the_library_and_does_its_work(scijava: Say) -> None:
    scripts = [f"plugins/OpSeF/{path.name}" for path in COMMANDS]
    said = scijava(*scripts)
    parts = dict(re.findall(r"BEGIN (.*)\n((?:.*\n)*?)END \1\n", said))
    assert set(parts) == set(scripts), said
    for script, text in parts.items():
        assert "library is missing" not in text
        assert FAR_ENOUGH.search(text), f"{script}: {text}"


def test_the_library_is_found_where_the_folder_of_the_plugins_is_named(scijava: Say) -> None:
    """As pyimagej does; Fiji's launcher names the folder above."""
    assert "Connect comes first" in scijava("plugins/OpSeF/Jobs.py", told="/plugins")


def test_without_the_library_a_script_says_what_to_do(scijava: Say, app: Path) -> None:
    shutil.rmtree(app / "jars" / "Lib")
    said = scijava("plugins/OpSeF/Help.py")
    assert "The OpSeF library is missing" in said and "Unpack fiji.zip again" in said
    assert not FAR_ENOUGH.search(said)


def test_a_coding_line_breaks_a_script(scijava: Say, app: Path) -> None:
    """The rule that `test_scripts` keeps: SciJava gives Jython text, not bytes."""
    script = app / "plugins" / "OpSeF" / "Help.py"
    script.write_text("# -*- coding: utf-8 -*-\n" + script.read_text())
    assert "encoding declaration in Unicode string" in scijava("plugins/OpSeF/Help.py")
