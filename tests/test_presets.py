"""Presets: each is a valid configuration, and finds objects in a picture of its kind."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import opsef_bridge.presets as presets
from opsef_bridge.cli import main
from opsef_bridge.cli.common import Context
from opsef_bridge.config import parse_config
from opsef_bridge.engines import find_weights
from opsef_bridge.errors import NotFoundError
from opsef_bridge.images import write_labels
from opsef_bridge.measure import match
from opsef_bridge.preprocess import apply_recipe
from opsef_bridge.presets import PRESETS, SOURCE, preset_text, preset_title
from opsef_bridge.project import Project
from opsef_bridge.sweep import plan_sweep, run_plan
from tests.small_projects import Here

ROOT = Path(__file__).parents[1]
SEVEN = PRESETS[3:]


@pytest.fixture(scope="module")
def pictures():
    path = ROOT / "examples" / "presets" / "pictures.py"
    spec = importlib.util.spec_from_file_location("preset_pictures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_is_a_preset():
    files = {path.stem for path in Path(presets.__file__).parent.glob("*.yaml")}
    assert files == set(PRESETS)
    assert len({preset_title(name) for name in PRESETS}) == len(PRESETS)


def test_unknown_presets_are_told_with_the_choices():
    with pytest.raises(NotFoundError, match=r"'colon'.*colon-3d"):
        preset_text("colon")


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_need_nothing_that_is_not_shipped(name, installed, monkeypatch):
    monkeypatch.setattr(presets, "find_spec", lambda _: installed or None)
    text = preset_text(name)
    config = parse_config(text)
    assert text.count(SOURCE) == 1 and config.images.source == ["data/*"]
    engines = {model.engine for model in config.model_settings()}
    assert ("cellpose" in engines) == installed
    assert len(engines) >= 3, "fewer than three families are not ranked"
    for model in config.model_settings():
        assert find_weights(model.engine, model.weights, []).key or model.engine == "watershed"
        assert 1 <= len(list(model.combinations())) <= 12
    assert 2 <= len(config.recipes()) <= 6


@pytest.mark.parametrize("name", SEVEN)
def test_what_a_preset_says_can_be_added_is_valid_too(name):
    """The networks in comments, once they are no comment any more."""
    text = re.sub(r"^#  (\w+: \{engine)", r"  \1", preset_text(name), flags=re.MULTILINE)
    more = parse_config(text).model_settings()
    assert len(more) > len(parse_config(preset_text(name)).model_settings())


FOUND = {
    "cobblestones": ("plain", {"classic": {"scale": 0.48, "threshold": "otsu"}}, 0.6),
    "leaves": ("inverted", {"classic": {"scale": 0.4, "threshold": "otsu"}}, 0.6),
    "small-nuclei": ("plain", {"unet": {"scale": 2.0, "threshold": 0.5}}, 0.7),
    "colon-3d": ("plain", {"unet": {"scale": 0.57, "threshold": 0.5}}, 0.7),
    "epithelial": ("plain", {"unet": {"scale": 0.86, "threshold": 0.5}}, 0.7),
    "muscle": ("inverted", {"classic": {"scale": 0.57, "threshold": "otsu"}}, 0.6),
    "kidney-he": ("clahe-inverted", {"classic": {"scale": 0.86, "threshold": "otsu"}}, 0.7),
}
"""One recipe and one setting of each preset, and the F1 (IoU 0.5) that it must reach."""


@pytest.mark.parametrize("name", SEVEN)
def test_a_small_sweep_finds_the_objects(name, pictures, tmp_path):
    recipe, models, least = FOUND[name]
    settings = yaml.safe_load(preset_text(name))
    settings["preprocess"] = {recipe: settings["preprocess"][recipe]}
    entries = {model: settings["models"][model] for model in models}
    for model, values in models.items():
        for key, value in values.items():
            assert value in entries[model][key], "the setting is one of the preset"
        entries[model] = entries[model] | values
    settings |= {"models": entries, "sweep": {"crop": "none"}}
    (tmp_path / "opsef.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    picture = pictures.write(tmp_path / "drawn", name)
    (tmp_path / "data").mkdir()
    picture.rename(tmp_path / "data" / picture.name)

    project = Project(tmp_path)
    plan = plan_sweep(project)
    result = run_plan(project, plan, Here())
    assert result.failed == 0
    _, truth = pictures.picture(name)
    [variant] = plan.variants
    [run] = project.runs()
    labels = project.labels(run, variant.id, project.images()[0].id)
    if labels.ndim == 3:  # a volume that was projected
        labels = labels.max(axis=0)
    assert match(truth, labels).iloc[0].f1 >= least


@pytest.fixture
def new(monkeypatch, capfd, tmp_path):
    """Run ``opsef new`` for one image; return its exit code and what it complained of."""
    (tmp_path / "Bilder").mkdir()
    write_labels(tmp_path / "Bilder" / "a.tif", np.ones((40, 50), np.int32))
    images = str(tmp_path / "Bilder" / "a.tif")

    def run(preset: str) -> tuple[int, str]:
        words = ["opsef", "new", str(tmp_path / "p"), "--images", images, "--preset", preset]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(Context, "folder", Path("."))
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        return code, capfd.readouterr().err

    return run


@pytest.mark.parametrize("name", PRESETS)
def test_new_writes_a_preset_for_the_users_images(name, new, tmp_path):
    assert new(name)[0] == 0
    config = Project(tmp_path / "p").config
    assert config.images.source == [(tmp_path / "Bilder" / "a.tif").as_posix()]
    expected = parse_config(preset_text(name))
    assert (config.preprocess, config.models) == (expected.preprocess, expected.models)
    assert (tmp_path / "p" / "opsef.yaml").read_text("utf-8").startswith(f"# {preset_title(name)}")


def test_a_preset_that_does_not_exist_makes_no_project(new, tmp_path):
    code, said = new("x")
    assert code == 2 and "'x'" in said and "small-nuclei" in said
    assert not (tmp_path / "p").exists()


def test_haematoxylin_is_taken_out_of_colours(pictures):
    image, truth = pictures.picture("kidney-he")
    recipe = parse_config(preset_text("kidney-he")).recipes()["haematoxylin"]
    result = apply_recipe(image, recipe)
    assert result.shape == truth.shape
    assert result[truth > 0].mean() > 1.5 * result[truth == 0].mean()


def test_pictures_are_the_same_everywhere_and_written_by_one_command(pictures, tmp_path):
    for name in pictures.DRAWN:
        (image, labels), (again, _) = pictures.picture(name), pictures.picture(name)
        np.testing.assert_array_equal(image, again)
        assert image.dtype == np.uint8 and image.shape[-2:] == labels.shape
        assert len(np.unique(labels)) > 5
        assert not np.array_equal(pictures.picture(name, seed=1)[0], image)


def test_the_menu_of_fiji_offers_all_of_them():
    library = Path(__file__).parents[1] / "fiji_scripts" / "jars" / "Lib" / "opsef_fiji"
    text = (library / "commands.py").read_text("ascii")
    offered = ast.literal_eval(text.partition("PRESETS = ")[2].partition("]")[0] + "]")
    assert offered == list(PRESETS)
