"""Projects for images that are sent: every preset, and sizes around the one measured."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from opsef_bridge.config import load_config
from opsef_bridge.files import write_text
from opsef_bridge.presets import PRESETS
from opsef_bridge.service import new_project
from opsef_bridge.service.new_project import make_project


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_becomes_a_project(tmp_path: Path, preset: str):
    config = load_config(make_project(tmp_path, "Kerne", preset) / "opsef.yaml")
    assert config.images.source == ["data"]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_size_that_was_measured_takes_the_place_of_those_of_the_preset(tmp_path, preset):
    config = load_config(make_project(tmp_path, "Kerne", preset, object_px=48) / "opsef.yaml")
    for settings in config.model_settings():
        if settings.engine == "cellpose":
            assert settings.axes["diameter"] == [33.6, 48, 67.2]
        else:  # the shipped networks see objects best at 24 px
            assert settings.axes["scale"] == [0.35, 0.5, 0.7]


def test_what_could_not_be_made_whole_leaves_the_name_free(tmp_path, monkeypatch):
    def full(path, text):
        if path.name == "opsef.yaml":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(path, text)

    monkeypatch.setattr(new_project, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        make_project(tmp_path, "Q", mark="m")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert make_project(tmp_path, "Q").name == "Q"
