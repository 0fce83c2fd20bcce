"""Engines and weights by name: those that are here, those that are not, those that lie."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.config import parse_config
from opsef_bridge.engines import (
    engine_class,
    engine_names,
    find_weights,
    list_weights,
    verify,
)
from opsef_bridge.engines.base import Raw, Weights
from opsef_bridge.engines.registry import SHIPPED, broken_cards
from opsef_bridge.errors import ConfigError, NotFoundError, OpsefError, WeightsError
from opsef_bridge.sweep.segment import segment


@pytest.fixture
def models(tmp_path) -> Path:
    """A project's folder of models, with a copy of the shipped weights under another name."""
    shipped = find_weights("unet", None)
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    shutil.copy(shipped.path, folder / "best model.onnx")
    card = {"name": "mine", "engine": "unet", "file": "best model.onnx", "sha256": shipped.sha256}
    (folder / "card.json").write_text(json.dumps(card))
    return tmp_path / "models"


def test_the_engines_of_this_package():
    assert {"unet", "watershed"} <= set(engine_names())
    for name in engine_names():
        assert engine_class(name).name == name


def test_an_unknown_engine_lists_the_others():
    with pytest.raises(NotFoundError, match=r"'cellpoze'.*unet, watershed.*opsef engines add"):
        engine_class("cellpoze")


def test_weights_of_a_project_are_found_beside_the_shipped_ones(models):
    shipped = [weights.name for weights in list_weights()]
    assert "nuclei-unet" in shipped
    assert [weights.name for weights in list_weights([models])] == sorted(["mine", *shipped])
    mine = find_weights("unet", "mine", [models])
    verify(mine)
    assert mine.path == models / "mine" / "best model.onnx"
    assert find_weights("unet", None, [models]).name == "nuclei-unet", "the default is shipped"


def test_a_card_of_the_project_hides_a_shipped_one_of_the_same_name(models):
    card = models / "mine" / "card.json"
    card.write_text(card.read_text().replace('"mine"', '"nuclei-unet"'))
    assert find_weights("unet", "nuclei-unet", [models]).path.parent == models / "mine"


def test_folders_that_are_not_there_and_other_files(models):
    (models / "notes.json").write_text('["no card"]')
    (models / "half.json").write_text('{"name": "half", "engine": "unet"}')
    (models / "odd.json").write_text('{"name": 1, "engine": "unet", "file": [], "sha256": ""}')
    names = [weights.name for weights in list_weights([models, models / "gone"])]
    assert names == sorted(["mine", *(weights.name for weights in list_weights())])


@pytest.mark.parametrize(
    "content", ['{"a":', "[" * 100_000, "\xff\xfe"], ids=["cut", "deep", "odd"]
)
def test_a_broken_card_stops_only_who_asks_for_it(models, content):
    (models / "x.json").write_bytes(content.encode("latin-1"))
    (models / "nuclei-fpn2ws.json").write_text("{")
    assert find_weights("unet", "mine", [models]).name == "mine"
    assert "x" not in [weights.name for weights in list_weights([models])]
    for engine, name, file in (("unet", "x", "x"), ("fpn2ws", None, "nuclei-fpn2ws")):
        with pytest.raises(WeightsError, match=rf"{file}\.json is not valid JSON") as caught:
            find_weights(engine, name, [models])
        assert "take it out" in caught.value.hint
    broken = broken_cards([models])
    assert sorted(file.name for file in broken) == ["nuclei-fpn2ws.json", "x.json"]


def test_a_card_whose_folder_has_the_name_is_the_one_that_is_asked_for(models):
    (models / "mine" / "card.json").write_text('{"name": "mine",')
    with pytest.raises(WeightsError, match=r"card\.json is not valid JSON"):
        find_weights("unet", "mine", [models])


@pytest.mark.parametrize(
    ("engine", "name", "words"),
    [
        (
            "unet",
            "gone",
            r"no weights 'gone' for the engine 'unet'.*mine, nuclei-unet.*models/NAME",
        ),
        (
            "watershed",
            "mine",
            "'watershed' takes no weights, got 'mine'.*Leave out `weights: mine`",
        ),
    ],
)
def test_weights_that_are_not_there_list_the_choices(models, engine, name, words):
    with pytest.raises(WeightsError, match=words):
        find_weights(engine, name, [models])


def test_an_engine_without_weights_has_none():
    weights = find_weights("watershed", None)
    assert (weights.name, weights.path, weights.sha256) == ("", None, "")
    verify(weights)


def test_a_file_that_is_missing_or_another_is_refused(models):
    mine = find_weights("unet", "mine", [models])
    with mine.path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match=mine.sha256) as caught:
        verify(mine)
    assert "best model.onnx" in caught.value.message and caught.value.hint
    mine.path.unlink()
    with pytest.raises(WeightsError, match=r"'mine' is missing: .*best model\.onnx") as caught:
        verify(mine)
    assert "models add FILE --name mine; or remove models/mine" in caught.value.hint
    loose = Weights("loose", "unet", models / "loose.onnx", mine.sha256)
    with pytest.raises(WeightsError) as caught:
        verify(loose)
    assert caught.value.hint.endswith(f"or remove its card in {models}")
    with pytest.raises(WeightsError, match="install the package again"):
        verify(Weights("gone", "unet", SHIPPED / "gone.onnx", mine.sha256))


MODULE = """
import numpy as np
from opsef_bridge.engines import Parameters, Raw, Scaled
from pydantic import Field

class Bright:
    '''Everything above a level is one object.'''
    name, version, needs_weights = "bright", "1", False
    axes = frozenset({"YX"})
    class Predict(Scaled): pass
    class Decode(Parameters):
        level: float = Field(0.5, gt=0, lt=1)
    def load(self, weights, device="cpu"): pass
    def predict(self, image, parameters, *, reference=None):
        return Raw({"image": image / image.max()}, image.shape)
    def decode(self, raw, parameters):
        return (raw.maps["image"] > parameters.level).astype(np.int32)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of somebody else, installed: a module and its metadata on sys.path."""

    def install(module: str, entry: str) -> None:
        (tmp_path / "bright_engine.py").write_text(module)
        info = tmp_path / "bright_engine-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-engine\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[opsef_bridge.engines]\n{entry}\n")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()

    engine_class.cache_clear()
    yield install
    engine_class.cache_clear()


def test_an_engine_of_another_package_brings_its_keys_along(installed):
    installed(MODULE, "bright = bright_engine:Bright")
    assert "bright" in engine_names()
    image = np.array([[1, 2], [9, 10]])
    np.testing.assert_array_equal(segment(image, "bright", level=0.8), [[0, 0], [1, 1]])
    text = "opsef: 1\nimages: {source: a}\nmodels: {b: {engine: bright, level: %s}}\n"
    assert parse_config(text % "[0.3, 0.4]").model_settings()[0].axes == {"level": [0.3, 0.4]}
    with pytest.raises(ConfigError, match=r"models\.b\.level.*less than 1"):
        parse_config(text % "3")


@pytest.mark.parametrize(
    ("module", "entry", "words"),
    [
        ("import no_such_package", "bright = bright_engine:Bright", "no_such_package"),
        ("", "bright = bright_engine:Bright", "AttributeError.*Bright"),
        ("raise RuntimeError('no driver')", "bright = bright_engine:Bright", "no driver"),
    ],
)
def test_an_engine_that_cannot_be_imported_breaks_nothing_else(
    installed, monkeypatch, module, entry, words
):
    monkeypatch.delitem(__import__("sys").modules, "bright_engine", raising=False)
    installed(module, entry)
    with pytest.raises(OpsefError, match=rf"'bright' cannot be imported.*{words}"):
        engine_class("bright")
    assert engine_class("watershed").name == "watershed"


def test_nobody_takes_the_name_of_an_engine_of_this_package(installed):
    installed(MODULE.replace("bright", "watershed"), "watershed = bright_engine:Bright")
    assert engine_class("watershed").__module__ == "opsef_bridge.engines.watershed"


def test_maps_are_half_floats_of_our_own_that_nobody_changes():
    mine = np.ones((2, 2), np.float16)
    raw = Raw({"a": mine}, (2, 2))
    assert raw.maps["a"].dtype == np.float16
    assert not np.shares_memory(raw.maps["a"], mine)
    with pytest.raises(ValueError, match="read-only"):
        raw.maps["a"][0, 0] = 2


def test_the_sha256_of_weights_is_that_of_the_card():
    weights = Weights("x", "unet", Path("/nowhere/x.onnx"), "ab")
    with pytest.raises(WeightsError, match=r"'x' is missing"):
        verify(weights)
