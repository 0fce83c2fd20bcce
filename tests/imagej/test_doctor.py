"""What `opsef doctor` says of the providers of ImageJ, and why one is not up."""

from __future__ import annotations

import pytest

from opsef_bridge import doctor
from opsef_bridge.imagej import worker
from opsef_bridge.imagej.imagej2 import VARIABLE


def findings() -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor._imagej()}


@pytest.fixture(autouse=True)
def no_fiji(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_what_runs_is_named_with_its_java(imagej_worker):
    found = findings()["imagej ij1"]
    assert found.state == "ok"
    assert found.detail.startswith(f"ij-1.54p on Java {imagej_worker['java']}: ")
    assert not worker._hosts, "nothing is left running"


def test_what_is_missing_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("OPSEF_JARS", str(tmp_path))
    found = findings()
    assert {finding.state for finding in found.values()} == {"absent"}
    assert "ij-1.54p.jar is not in" in found["imagej ij1"].detail
    assert "python -m opsef_bridge.imagej" in found["imagej ij1"].advice
    assert VARIABLE in found["imagej imagej2"].detail and VARIABLE in found["imagej imagej2"].advice


def test_a_fiji_that_is_named_and_is_none_is_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("OPSEF_JARS", str(tmp_path))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no Fiji"))
    found = findings()["imagej imagej2"]
    assert found.state == "broken" and "no folder jars" in found.detail
