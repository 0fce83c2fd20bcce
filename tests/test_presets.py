"""Presets: each is a valid configuration, and finds objects in a picture of its kind."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

import opsef_bridge.presets as presets
from opsef_bridge.cli import main
from opsef_bridge.cli.common import Context
from opsef_bridge.config import parse_config
from opsef_bridge.engines import find_weights
from opsef_bridge.errors import NotFoundError
from opsef_bridge.images import write_labels
from opsef_bridge.images.projection import project_volume
from opsef_bridge.measure import match
from opsef_bridge.preprocess import apply_recipe, normalise_recipe
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
    settings = sum(len(list(model.combinations())) for model in config.model_settings())
    assert len(config.recipes()) >= 2
    assert settings * len(config.recipes()) <= 150, "a sweep that nobody waits for"


FILTERS = {
    None: [],
    "median 3": [{"median": {"radius": 1}}],
    "median 5": [{"median": {"radius": 2}}],
    "mean 7": [{"mean": {"radius": 3}}],
    "mean 9": [{"mean": {"radius": 4}}],
    "disk 7": [{"mean": {"radius": 7}}],
    "disk 9": [{"mean": {"radius": 9}}],
}
"""What OpSeF's filters are called here: its means by their name, and as they ran."""

CLAHE = {"clahe": {"tiles": 18, "clip": 0.012}}
SOBEL = {"edges": {"filter": "sobel"}}
FOUR = ([], [CLAHE], [SOBEL], ["invert"])

WORKFLOWS = {
    "cobblestones": ({"median 3": FOUR}, 50, 30, [0.2, 0.4, 0.6]),
    "leaves": (
        {name: FOUR[1::2] for name in ("mean 7", "disk 7")} | {"median 3": FOUR},
        50,
        30,
        [0.3, 0.5, 0.55, 0.6, 0.65, 0.7],
    ),
    "small-nuclei": ({"median 3": FOUR, "mean 7": FOUR}, 0, 17, [0.2, 0.3, 0.4, 0.6]),
    "colon-3d": (
        {name: FOUR[:2] for name in (None, "median 3", "mean 7")},
        70,
        17,
        [0.15, 0.25, 0.4, 0.6],
    ),
    "epithelial": (
        {"median 3": FOUR, "mean 7": FOUR, "median 5": [[]]}
        | {name: [[CLAHE]] for name in ("mean 9", "disk 9")},
        0,
        17,
        [0.6, 0.8, 1, 1.4, 1.5, 1.8],
    ),
    "muscle": ({"median 3": FOUR, "mean 7": FOUR}, 0, 17, [0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4]),
    "kidney-he": (
        {name: (*FOUR, [CLAHE, "invert"]) for name in ("median 3", "mean 7")},
        0,
        17,
        [0.6, 0.8, 1, 1.4, 1.8],
    ),
}
"""What OpSeF's notebooks tried: steps after each filter, grey levels taken off, diameter (px)
of the Cellpose network that was its best, and its rescale factors."""


@pytest.mark.parametrize("name", SEVEN)
def test_a_preset_holds_the_recipes_and_sizes_of_its_workflow(name):
    tried, background, diameter, rescales = WORKFLOWS[name]
    less = [{"subtract": {"value": background}}] if background else []
    config = parse_config(preset_text(name))
    recipes = list(config.recipes().values())
    for filter_name, endings in tried.items():
        for ending in endings:
            steps = normalise_recipe([*FILTERS[filter_name], *less, *ending])
            assert steps in recipes, (filter_name, ending)
    [cellpose] = [m for m in config.model_settings() if m.engine == "cellpose"]
    for rescale in rescales:
        wanted = diameter / rescale
        assert any(abs(d - wanted) <= 0.5 for d in cellpose.axes["diameter"]), rescale


def test_muscle_is_tried_at_half_size():
    recipes = parse_config(preset_text("muscle")).recipes().values()
    half = normalise_recipe([{"bin": {"factor": 2}}, *FILTERS["median 3"], "invert"])
    assert half in list(recipes)


def test_masks_of_muscle_are_valid_once_they_are_no_comment():
    text = preset_text("muscle")
    lines = re.findall(r"^#(class_mask: .*)$", text, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert parse_config(text + line).class_mask is not None


def test_kidneys_are_cut_into_tiles(tmp_path):
    (tmp_path / "opsef.yaml").write_text(preset_text("kidney-he"), "utf-8")
    (tmp_path / "data").mkdir()
    colours = np.random.default_rng(0).integers(0, 255, (700, 600, 3), np.uint8)
    tifffile.imwrite(tmp_path / "data" / "a.tif", colours, photometric="rgb")
    project = Project(tmp_path)
    plan_sweep(project)
    tiles = project.images()
    assert len(tiles) == 4
    assert max(max(tile.shape[:2]) for tile in tiles) == 512


@pytest.mark.parametrize("name", SEVEN)
def test_what_a_preset_says_can_be_added_is_valid_too(name):
    """The networks in comments, once they are no comment any more."""
    text = re.sub(r"^#  (\w+: \{engine)", r"  \1", preset_text(name), flags=re.MULTILINE)
    more = parse_config(text).model_settings()
    assert len(more) > len(parse_config(preset_text(name)).model_settings())


@pytest.mark.parametrize("name", SEVEN)
def test_every_recipe_makes_a_picture_of_the_picture(name, pictures):
    image, truth = pictures.picture(name)
    config = parse_config(preset_text(name))
    if config.images.projection != "none":
        image = project_volume(image, config.images.projection)
    for recipe, steps in config.recipes().items():
        result = apply_recipe(image, steps)
        assert result.ndim >= truth.ndim and np.ptp(result) > 0, recipe


FOUND = {
    "cobblestones": ("plain", {"classic": {"scale": 0.48, "threshold": "otsu"}}, 0.6),
    "leaves": ("inverted", {"classic": {"scale": 0.4, "threshold": "otsu"}}, 0.6),
    "small-nuclei": ("plain", {"unet": {"scale": 2.0}}, 0.7),
    "colon-3d": ("plain", {"unet": {"scale": 0.57}}, 0.7),
    "epithelial": ("plain", {"unet": {"scale": 0.86}}, 0.7),
    "muscle": ("inverted", {"classic": {"scale": 0.57}}, 0.6),
    "kidney-he": ("clahe-inverted", {"classic": {"scale": 0.86}}, 0.7),
}
"""One recipe and one setting of each preset, and the F1 (IoU 0.5) that it must reach."""


@pytest.mark.parametrize("name", SEVEN)
def test_a_small_sweep_finds_the_objects(name, pictures, tmp_path):
    f1 = small_sweep(tmp_path, pictures, name, preset_text(name))
    assert f1 >= FOUND[name][2]


@pytest.mark.parametrize(("projection", "background"), [("max", 70), ("sum", 360)])
def test_the_other_projections_of_colon_3d_find_the_objects(
    projection, background, pictures, tmp_path
):
    """What its comments say can stand in the place of its projection."""
    text = preset_text("colon-3d")
    assert re.search(rf"^#  projection: {projection} +# {background}\b", text, re.MULTILINE)
    text = re.sub(
        r"^  projection: median$", f"  projection: {projection}", text, flags=re.MULTILINE
    )
    text = text.replace("{value: 70}", f"{{value: {background}}}")
    config = parse_config(text)
    assert config.images.projection == projection
    for steps in config.recipes().values():
        assert ("subtract", {"value": background}) in steps
    assert small_sweep(tmp_path, pictures, "colon-3d", text) >= FOUND["colon-3d"][2]


def small_sweep(folder: Path, pictures, name: str, text: str) -> float:
    """Run the setting of `FOUND` on the picture of a preset; return the F1."""
    recipe, models, _ = FOUND[name]
    settings = yaml.safe_load(text)
    settings["preprocess"] = {recipe: settings["preprocess"][recipe]}
    entries = {model: settings["models"][model] for model in models}
    for model, values in models.items():
        for key, value in values.items():
            assert value in entries[model][key], "the setting is one of the preset"
        entries[model] = entries[model] | values
    settings |= {"models": entries, "sweep": {"crop": "none"}}
    (folder / "opsef.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    picture = pictures.write(folder / "drawn", name)
    (folder / "data").mkdir()
    picture.rename(folder / "data" / picture.name)

    project = Project(folder)
    plan = plan_sweep(project)
    result = run_plan(project, plan, Here())
    assert result.failed == 0
    _, truth = pictures.picture(name)
    [variant] = plan.variants
    [run] = project.runs()
    labels = project.labels(run, variant.id, project.images()[0].id)
    if labels.ndim == 3:  # a volume that was projected
        labels = labels.max(axis=0)
    return match(truth, labels).iloc[0].f1


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
