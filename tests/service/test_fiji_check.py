"""Folders of Fiji and ImageJ, whole and broken, and what is said of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from opsef_bridge.errors import InputError
from opsef_bridge.service.fiji import install, scripts
from opsef_bridge.service.fiji_check import Finding, check, look
from tests.fiji.conftest import compiled, jar, java

COMMANDS = [
    Path(name).stem.replace("_", " ") for name in scripts() if name.startswith("plugins/OpSeF/")
]


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what ImageJ fetches by itself: Jython, with the class that ImageJ looks up."""
    folder = tmp_path_factory.mktemp("plugin")
    compiled(folder, ["Jython.java"], "jython", "ij")
    file = folder / "Jython.jar"
    shutil.copyfile(jar("jython"), file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.write(folder / "Jython.class", "Jython.class")
    return file


@pytest.fixture
def imagej(tmp_path: Path, plugin: Path) -> Path:
    """Make a folder of plain ImageJ 1.54p with our menu."""
    folder = tmp_path / "ImageJ für alle"
    (folder / "plugins").mkdir(parents=True)
    (folder / "ij.jar").symlink_to(jar("ij"))
    (folder / "plugins" / "Jython.jar").symlink_to(plugin)
    install(folder)
    return folder


@pytest.fixture
def fiji(tmp_path: Path) -> Path:
    """Make a folder as Fiji's, of the archives that there are."""
    folder = tmp_path / "Fiji.app"
    for name in ("plugins", "jars", "java/linux/jdk/jre/bin"):
        (folder / name).mkdir(parents=True)
    for name in ("ij", "jython"):
        (folder / "jars" / jar(name).name).symlink_to(jar(name))
    (folder / "jars" / "scripting-jython-1.0.1.jar").write_bytes(b"")
    with zipfile.ZipFile(folder / "jars" / "scripting-jython-1.0.1.jar", "w"):
        pass
    program = folder / "java/linux/jdk/jre/bin/java"
    program.write_text(f'#!/bin/sh\nexec "{java()}" "$@"\n')
    program.chmod(0o755)
    install(folder)
    return folder


def of(findings: list[Finding]) -> dict[str, Finding]:
    assert len({f.what for f in findings}) == len(findings)
    return {f.what: f for f in findings}


def test_a_whole_imagej_is_ok(imagej: Path) -> None:
    before = sorted(imagej.rglob("*"))
    found = of(check(imagej))
    assert {name: f.message for name, f in found.items() if not f.ok} == {}
    assert {f.message for name, f in found.items() if name in COMMANDS} == {"runs"}
    assert set(found) == {"menu", "ImageJ", "Jython", "Java", *COMMANDS}
    assert found["ImageJ"].message == "1.54p, in a folder of ImageJ"
    assert "the system's" in found["Java"].message
    assert sorted(imagej.rglob("*")) == before  # it is only looked at


@pytest.mark.skipif(sys.platform == "win32", reason="its Java is a program of the shell")
def test_a_whole_fiji_is_ok(fiji: Path) -> None:
    there = look(fiji)
    assert there.fiji and there.language and there.java is not None
    assert there.jython == fiji / "jars" / jar("jython").name
    found = of(check(fiji))
    assert all(f.ok for f in found.values()), found
    assert "1.54p, in a folder of Fiji" in found["ImageJ"].message
    assert "brought by it" in found["Java"].message


def test_what_is_broken_is_named(imagej: Path) -> None:
    folder = imagej / "plugins" / "OpSeF"
    (folder / "Jobs.py").write_text("def main(:\n    pass\n")
    (folder / "Help.py").write_text("from ij import NoSuchThing\n")
    (folder / "Analyse.py").write_text("x = 1\n")
    found = of(check(imagej))
    broken = {name for name, f in found.items() if not f.ok}
    assert broken == {"menu", "Jobs", "Help", "Analyse"}
    assert "Analyse.py" in found["menu"].message and "opsef fiji install" in found["menu"].hint
    assert "line 1" in found["Jobs"].message
    assert "NoSuchThing" in found["Help"].message
    assert "library is not found" in found["Analyse"].message


def test_a_broken_library_breaks_all_scripts(imagej: Path) -> None:
    (imagej / "jars" / "Lib" / "opsef_fiji" / "legend.py").write_text("from ij import NoSuch\n")
    found = of(check(imagej))
    assert not found["library legend.py"].ok and "NoSuch" in found["library legend.py"].message
    assert not any(found[name].ok for name in COMMANDS)
    shutil.rmtree(imagej / "jars" / "Lib" / "opsef_fiji")
    found = of(check(imagej))
    assert not found["menu"].ok and not set(found) & set(COMMANDS)


def test_without_a_menu(imagej: Path) -> None:
    shutil.rmtree(imagej / "plugins" / "OpSeF")
    shutil.rmtree(imagej / "jars")
    found = of(check(imagej))
    assert found["menu"].message == "it is not installed"
    assert set(found) == {"menu", "ImageJ", "Jython", "Java"}


def test_without_jython(imagej: Path) -> None:
    shutil.rmtree(imagej / "plugins" / "OpSeF")  # then nothing is tried
    (imagej / "plugins" / "Jython.jar").unlink()
    found = of(check(imagej))
    assert found["Jython"].message == "missing" and "offers to fetch" in found["Jython"].hint
    # Jython alone is not enough: ImageJ looks for a class of its own.
    (imagej / "plugins" / "jython-standalone.jar").symlink_to(jar("jython"))
    found = of(check(imagej))
    assert "lacks the part" in found["Jython"].message


def test_fiji_without_its_part_for_python(fiji: Path) -> None:
    (fiji / "jars" / "scripting-jython-1.0.1.jar").unlink()
    (fiji / "jars" / jar("jython").name).unlink()
    (fiji / "jars" / "jython-broken.jar").write_bytes(b"no zip")
    assert "Help > Update" in of(check(fiji))["Jython"].hint


@pytest.mark.skipif(sys.platform == "win32", reason="its Java is a program of the shell")
@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("echo 'java version \"1.7.0_80\"' >&2", r"1.7.0_80 (brought by it) is too old"),
        ("echo nothing", "does not tell its version"),
        ("exec /no/such/java", "does not tell its version"),
    ],
)
def test_a_java_that_will_not_do(fiji: Path, says: str, message: str) -> None:
    (fiji / "java/linux/jdk/jre/bin/java").write_text(f"#!/bin/sh\n{says}\n")
    found = of(check(fiji))
    assert message in found["Java"].message and found["Java"].hint
    assert not set(found) & set(COMMANDS)


def test_java_8_is_enough(fiji: Path) -> None:
    program = fiji / "java/linux/jdk/jre/bin/java"
    program.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_402\"' >&2\nexit 1\n")
    found = of(check(fiji))
    assert found["Java"].message == "1.8.0_402 (brought by it)" and found["Java"].ok
    assert "Jython does not run in it" in found["scripts"].message


def test_what_hangs_is_ended(fiji: Path) -> None:
    program = fiji / "java/linux/jdk/jre/bin/java"
    version = '[ "$1" = -version ] && echo \'version "17.0.1"\' && exit'
    program.write_text(f"#!/bin/sh\n{version}\nexec sleep 600\n")
    found = of(check(fiji, timeout=0.5))
    assert "did not end within" in found["scripts"].message


def test_a_folder_without_imagej(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError, match=r"neither ij\.jar nor.*holds plugins/"):
            check(folder)


def opsef(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "opsef_bridge", *words]
    kept = {k: v for k, v in os.environ.items() if k != "OPSEF_FIJI_DIR"}
    return subprocess.run(
        command, capture_output=True, text=True, env=kept | environment, timeout=300, check=False
    )


def test_the_command(imagej: Path) -> None:
    done = opsef("fiji", "check", str(imagej), "--json")
    assert done.returncode == 0, done.stderr
    assert {row["what"] for row in json.loads(done.stdout)} >= set(COMMANDS)
    shutil.rmtree(imagej / "plugins" / "OpSeF")
    done = opsef("fiji", "check", OPSEF_FIJI_DIR=str(imagej))
    assert done.returncode == 2
    assert "BROKEN" in done.stdout and "opsef fiji install" in done.stdout
    done = opsef("fiji", "check")
    assert done.returncode == 2 and "name the folder" in done.stderr
