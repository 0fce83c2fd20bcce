"""The step ``imagej`` in recipes: the suite of all steps, its parameters, its engine."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest
from skimage.data import coins

from opsef_bridge.errors import ConfigError, InputError, NotFoundError
from opsef_bridge.imagej import worker
from opsef_bridge.imagej.imagej2 import VARIABLE
from opsef_bridge.imagej.parameters import ALGORITHMS
from opsef_bridge.preprocess import (
    apply_recipe,
    find_step,
    normalise_recipe,
    recipe_identity,
    step_engine,
    step_schema,
)
from opsef_bridge.preprocess.imagej_steps import PLUGINS
from opsef_bridge.testing.steps import StepSuite
from tests.imagej.conftest import missing

IMAGE = coins()[100:160, 60:140]

WAYS = [
    {},
    {"plugin": "sliding_paraboloid", "radius": 8, "light": True, "smooth": False},
    {"plugin": "median", "radius": 2},
    {"plugin": "gaussian", "sigma": 1.5},
    {"plugin": "unsharp_mask"},
    {"plugin": "find_maxima"},
    {"plugin": "auto_threshold", "method": "Otsu"},
    {"plugin": "particles", "min_area": 3},
]


@pytest.fixture(scope="module")
def imagej_worker():
    try:
        yield worker.provider("ij1")
    except NotFoundError as error:
        missing(str(error))
    finally:
        worker.close()


@pytest.fixture
def no_fiji(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def fiji(tmp_path, monkeypatch):
    """A folder with the names of archives of a Fiji; nothing in it can be run."""
    for name in ("jars/ij-1.54q.jar", "jars/imagej-2.18.0.jar", "plugins/mpicbg_-1.6.0.jar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("imagej_worker")
class TestImagej(StepSuite):
    @pytest.fixture
    def name(self):
        return "imagej"

    @pytest.fixture(params=WAYS, ids=lambda way: way.get("plugin", "default"))
    def parameters(self, request):
        return request.param


@pytest.mark.usefixtures("imagej_worker")
def test_a_recipe_is_what_imagej_computes():
    from opsef_bridge.imagej import rolling_ball, run_plugin

    recipe = [{"imagej": {"radius": 20, "light": True}}, {"imagej": {"plugin": "median"}}]
    expected = run_plugin(rolling_ball(IMAGE, 20, light=True), "median", radius=2)
    np.testing.assert_array_equal(apply_recipe(IMAGE, recipe), expected)


@pytest.mark.usefixtures("imagej_worker")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_particles_are_kept_by_their_size(dtype):
    image = np.zeros((40, 60), dtype)
    image[2:6, 2:6] = 7  # 16 pixels
    image[10:30, 10:30] = 200  # 400, with a hole of 16
    image[15:19, 15:19] = 0
    image[35:, 50:] = 90  # at the border, 50
    kept = {"plugin": "particles", "min_area": 17, "exclude_edges": True}
    for holes in (False, True):
        expected = np.zeros_like(image)
        expected[10:30, 10:30] = 255
        if not holes:
            expected[15:19, 15:19] = 0
        found = apply_recipe(image, [{"imagej": kept | {"include_holes": holes}}])
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
    inclusive = [{"imagej": {"plugin": "particles", "min_area": 16, "max_area": 16}}]
    assert np.count_nonzero(apply_recipe(image, inclusive)) == 16


@pytest.mark.usefixtures("imagej_worker")
def test_the_mask_of_a_threshold_keeps_the_dtype():
    image = IMAGE.astype(np.int8) // 2
    found = apply_recipe(image, [{"imagej": {"plugin": "auto_threshold"}}])
    assert found.dtype == np.int8 and set(np.unique(found)) == {0, 127}


def test_a_recipe_names_all_parameters_of_its_plugin_and_no_others():
    assert normalise_recipe([{"imagej": {"plugin": "unsharp_mask", "sigma": 2}}, "imagej"]) == (
        ("imagej", {"plugin": "unsharp_mask", "sigma": 2.0, "weight": 0.6}),
        (
            "imagej",
            {
                "plugin": "rolling_ball",
                "radius": 50.0,
                "light": False,
                "sliding": False,
                "smooth": True,
            },
        ),
    )


@pytest.mark.parametrize("plugin", PLUGINS)
def test_what_is_normalised_stays_so(plugin):
    needed = {"macro": {"macro": "x = 1;"}, "command": {"command": "Invert"}}.get(plugin, {})
    once = normalise_recipe([{"imagej": {"plugin": plugin, **needed}}])
    assert normalise_recipe(once) == once
    [[_, parameters]] = once
    open_ends = {"max_area"} if plugin == "particles" else set()
    assert set(parameters) == {"plugin", *ALGORITHMS[plugin].model_fields} - open_ends
    # Equal settings have equal keys, however much of them is written out.
    assert recipe_identity(once) == recipe_identity([{"imagej": needed | {"plugin": plugin}}])


def test_macro_and_command_need_no_plugin():
    recipe = [{"imagej": {"macro": "x = 1;"}}, {"imagej": {"command": "Invert"}}]
    assert normalise_recipe(recipe) == (
        ("imagej", {"plugin": "macro", "macro": "x = 1;"}),
        ("imagej", {"plugin": "command", "command": "Invert", "options": ""}),
    )


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"plugin": "exec"}, "plugin is 'exec'"),
        ({"plugin": "project"}, "plugin is 'project'"),
        ({"plugin": "particles", "min_circularity": 2}, "min_circularity is 2"),
        ({"plugin": ["median"]}, "plugin is"),
        ({"plugin": None}, "plugin is None"),
        ({"plugin": "median", "sigma": 2}, "no parameter 'sigma'.*median \\(radius\\)"),
        ({"plugin": "median", "radius": 101}, "radius is 101"),
        ({"radius": 0.4}, "radius is 0.4"),
        ({"radius": float("inf")}, "radius is inf"),
        ({"radius": None}, "radius is None"),
        ({"macro": ""}, "macro is ''"),
        ({"macro": "x = 1;", "command": "Invert"}, "no parameter 'command'"),
        ({"macro": "x = 1;", "radius": 3}, "no parameter 'radius'"),
        ({"plugin": "macro"}, "macro is missing"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(parameters, said):
    with pytest.raises(ConfigError, match=f"step imagej: .*{said}"):
        normalise_recipe([{"imagej": parameters}])


def test_the_schema_lists_every_parameter():
    [shape] = [one for one in step_schema()["anyOf"][1:] if "imagej" in one["properties"]]
    known = {name for plugin in PLUGINS for name in ALGORITHMS[plugin].model_fields}
    assert set(shape["properties"]["imagej"]["properties"]) == {"plugin"} | known


@pytest.mark.parametrize(
    "recipe",
    [
        [{"imagej": {"macro": 'run("Invert");'}}],
        [{"imagej": {"command": "Invert"}}],
        ["clahe_fiji"],
    ],
    ids=["macro", "command", "clahe"],
)
def test_without_a_fiji_nothing_takes_its_place(no_fiji, recipe):
    with pytest.raises(NotFoundError, match=f"{VARIABLE} names none. Set {VARIABLE}"):
        apply_recipe(IMAGE, recipe)
    with pytest.raises(NotFoundError, match=VARIABLE):
        step_engine(*normalise_recipe(recipe)[0])


def test_colour_deconvolution_without_a_fiji(no_fiji):
    colours = np.stack([IMAGE] * 3, axis=-1)
    for image in (colours, colours[np.newaxis]):
        with pytest.raises(NotFoundError, match=VARIABLE):
            apply_recipe(image, ["colour_deconvolution_fiji"])
    with pytest.raises(InputError, match="uint8"):
        apply_recipe(colours.astype(np.uint16), ["colour_deconvolution_fiji"])
    with pytest.raises(InputError, match="colour image"):
        apply_recipe(IMAGE, ["colour_deconvolution_fiji"], samples=False)


def test_without_the_archive_nothing_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("OPSEF_JARS", str(tmp_path))
    with pytest.raises(NotFoundError, match=r"ij-1\.54p\.jar is not in"):
        apply_recipe(IMAGE, ["imagej"])


@pytest.mark.parametrize("name", ["clahe_fiji", "colour_deconvolution_fiji"])
class TestPresets:
    """What can be said of them without a Fiji; `TestRealFiji` in tests/imagej asks one."""

    def test_parameters_are_named_limited_and_plain(self, name):
        StepSuite().test_parameters_are_named_limited_and_plain(name, {})

    def test_it_says_what_it_does(self, name):
        StepSuite().test_it_says_what_it_does(name)

    def test_they_have_the_parameters_of_the_plugin(self, name):
        defaults = find_step(name).Parameters().model_dump()
        assert defaults == ALGORITHMS[name]().model_dump()


class TestEngine:
    def test_of_imagej(self):
        # Results are kept by the step's version: another ImageJ needs another version.
        assert find_step("imagej").version == 1
        assert step_engine(*normalise_recipe(["imagej"])[0]) == "ij-1.54p"

    def test_of_a_fiji(self, fiji):
        [step] = normalise_recipe([{"imagej": {"macro": "x = 1;"}}])
        assert step_engine("clahe_fiji", {}) == "imagej-2.18.0+ij-1.54q+mpicbg_-1.6.0"
        assert step_engine(*step).startswith("imagej-2.18.0+ij-1.54q+files-")

    @pytest.mark.parametrize("name", ["rolling_ball", "clahe"])
    def test_where_there_is_a_choice_it_is_named(self, name):
        here = f"scikit-image-{importlib.metadata.version('scikit-image')}"
        assert step_engine(name, {"engine": "skimage"}) == here
        assert step_engine(name, {"engine": "imagej"}) == "ij-1.54p"

    def test_of_a_default(self):
        assert step_engine(*normalise_recipe(["clahe"])[0]).startswith("scikit-image-")

    def test_where_there_is_none(self):
        assert step_engine("invert", {}) is None
        with pytest.raises(ConfigError, match="no step 'swirl'"):
            step_engine("swirl", {})


OF_FIJI = [
    {"imagej": {"macro": "x = 1;"}},
    {"imagej": {"command": "Invert"}},
    "clahe_fiji",
    "colour_deconvolution_fiji",
]


@pytest.mark.parametrize("entry", OF_FIJI, ids=["macro", "command", "clahe", "colour"])
def test_results_of_another_fiji_have_another_key(fiji, entry):
    [step] = normalise_recipe([entry])
    [before] = recipe_identity([entry])
    assert before[-1] == step_engine(*step), "the record shows what the key holds"
    (fiji / "jars" / "ij-1.54q.jar").rename(fiji / "jars" / "ij-1.54r.jar")
    [after] = recipe_identity([entry])
    assert "ij-1.54r" in after[-1] and after[:-1] == before[:-1]


def test_results_of_another_plugin_have_another_key(fiji):
    clahe, macro = recipe_identity([OF_FIJI[2], OF_FIJI[0]])
    (fiji / "plugins" / "mpicbg_-1.6.0.jar").rename(fiji / "plugins" / "mpicbg_-1.7.0.jar")
    assert recipe_identity([OF_FIJI[2]]) != [clahe]
    assert recipe_identity([OF_FIJI[0]]) != [macro]
    assert recipe_identity([OF_FIJI[3]]) == recipe_identity([OF_FIJI[3]])


def test_a_fiji_does_not_change_the_keys_of_other_steps(fiji, monkeypatch):
    recipe = ["imagej", {"imagej": {"plugin": "median"}}, "clahe", "invert"]
    before = recipe_identity(recipe)
    monkeypatch.delenv(VARIABLE)
    assert recipe_identity(recipe) == before
    assert {len(one) for one in before} == {3}
