"""Pinned archives: found, missing, or not the ones that were promised."""

from __future__ import annotations

import pytest

from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej import JARS, fetch_jar, find_jar


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
    with pytest.raises(NotFoundError, match="Known: ij, jython"):
        find_jar("fiji")


def test_what_is_there_is_not_fetched(folder, monkeypatch):
    import hashlib

    jar = folder / JARS["ij"].filename
    jar.write_bytes(b"this one")
    pinned = type(JARS["ij"])(JARS["ij"].coordinate, hashlib.sha256(b"this one").hexdigest())
    monkeypatch.setitem(JARS, "ij", pinned)
    monkeypatch.setitem(__import__("sys").modules, "jgo", None)
    assert fetch_jar("ij") == jar == find_jar("ij")
