"""Settings of OpSeF as opsef.yaml: what is carried over does the same, the rest is said."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import regionprops_table

from opsef_bridge.config import Config, parse_config
from opsef_bridge.errors import InputError
from opsef_bridge.exchange.legacy_settings import settings_to_yaml
from opsef_bridge.postprocess import clean
from opsef_bridge.preprocess import apply_recipe

CLAHE = [(18, 18), 3]
FILTER = {
    "area": [0, 10000],
    "perimeter": [0, 99999999],
    "circularity": [0, 1],
    "mean_intensity": [0, 65535],
    "sum_intensity": [0, 100000000000000],
    "eccentricity": [0, 10],
}
DEMO: dict[str, dict[str, Any]] = {
    "pc": {"batch_size": 2, "toFiji": True, "create_filter_mask_from_channel": False},
    "input_def": {"root": "/data", "dataset": "demo", "is3D": False, "subset": ["All"]},
    "run_def": {
        "run_ID": "004",
        "display_base": "same",
        "clahe_prm": CLAHE,
        "pre_list": [["Median", 3, 50, "Max", False, CLAHE, "no", False]],
        "rescale_list": [0.2, 0.4],
        "ModelType": ["CP_nuclei"],
        "filter_para": FILTER,
    },
    "initModelSettings": {"UNetShape": (1024, 1024), "Cell_Channels": [[0, 0], [0, 0]]},
}


def said_of(
    run: dict[str, Any] | None = None, more: dict[str, Any] | None = None, **how: Any
) -> tuple[Config, str, str]:
    """Settings of the demo with changes, as the checked configuration, its text, and sentences."""
    settings = copy.deepcopy(DEMO)
    settings["run_def"] |= run or {}
    for part, values in (more or {}).items():
        settings[part] |= values
    text, said = settings_to_yaml(settings, source=["data/*.tif"], **how)
    return parse_config(text), text, "\n".join(said)


def pipeline(*values: Any) -> dict[str, Any]:
    return {"pre_list": [list(values)]}


def test_the_demo_has_nothing_to_say_of_its_recipe():
    config, text, said = said_of()
    assert config.recipes() == {"p000": (("median", {"radius": 1}), ("subtract", {"value": 50}))}
    assert config.images.source == ["data/*.tif"] and config.images.projection == "none"
    assert (config.sweep.images, config.sweep.crop) == ("all", "none")
    assert text.startswith("# Settings of run 004 of the original OpSeF, data set demo\n")
    assert "p000" not in said and "Median" not in said


@pytest.mark.parametrize("invert", [False, True])
def test_a_recipe_does_to_pixels_what_opsef_did(invert):
    image = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    config, *_ = said_of(pipeline("Median", 3, 50, "Max", False, CLAHE, "no", invert))
    expected = ndimage.median_filter(image, size=3, mode="nearest").astype(int) - 50
    expected = np.clip(expected, 0, 255)
    expected = 255 - expected if invert else expected
    np.testing.assert_array_equal(apply_recipe(image, config.recipes()["p000"]), expected)


def test_the_steps_stand_in_the_order_of_the_code_not_of_the_paper():
    config, _, said = said_of(pipeline("Mean", 7, 20, "Sum", True, CLAHE, "sobel", True))
    names = [name for name, _ in config.recipes()["p000"]]
    assert names == ["mean", "subtract", "edges", "invert", "clahe"]
    assert "18 x 18 tiles and clip limit 3" in said


def test_mean_is_a_disk_of_that_radius():
    config, _, said = said_of(pipeline("Mean", 7, 0, "Max", False, CLAHE, "no", False))
    assert config.recipes()["p000"] == (("mean", {"radius": 7}),)
    assert "15 px across" in said
    spot = np.zeros((41, 41), np.float32)
    spot[20, 20] = 1
    reach = np.nonzero(apply_recipe(spot, config.recipes()["p000"]))[0]
    assert reach.max() - reach.min() + 1 == 15


@pytest.mark.parametrize(
    ("kernel", "radius", "pixels"), [(5, 2, 21), (4, 2, 21), (7, 3, 37), (100, 20, None)]
)
def test_larger_medians_are_the_nearest_disk_and_say_so(kernel, radius, pixels):
    config, _, said = said_of(pipeline("Median", kernel, 0, "Max"))
    assert config.recipes()["p000"] == (("median", {"radius": radius}),)
    assert f"{kernel} x {kernel} px" in said
    assert pixels is None or f"({pixels} px)" in said
    assert ("out of 1 to 20" in said) == (kernel == 100)


def test_clahe_has_the_clip_limit_of_opencv_in_other_units():
    config, _, said = said_of(pipeline("None", 0, 0, "Max", True, [(8, 18), 4], "no", False))
    [(name, clahe)] = config.recipes()["p000"]
    assert (name, clahe["tiles"]) == ("clahe", 12)
    assert clahe["clip"] == pytest.approx(4 / 256, abs=5e-5)
    assert "8 x 18 tiles" in said and "12 x 12" in said


def test_a_pipeline_of_six_entries_as_in_the_guide_of_opsef_has_defaults():
    config, *_ = said_of(pipeline("Median", 3, 8, "Sum", True, CLAHE))
    assert [name for name, _ in config.recipes()["p000"]] == ["median", "subtract", "clahe"]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (("Gaussian", 2, 0, "Max", False, CLAHE, "no", False), "black image"),
        (("Wiener", 2, 0, "Max", False, CLAHE, "no", False), "'wiener' is not known"),
        (("None", 0, -5, "Max", False, CLAHE, "no", False), "adds light"),
        (("None", 0, 0, "Max", False, CLAHE, "canny", False), "'canny' are not known"),
    ],
)
def test_steps_that_cannot_be_the_same_are_said(values, word):
    assert word in said_of(pipeline(*values))[2]


def test_pipelines_that_become_one_recipe_are_said_and_the_base_follows():
    three = [["Median", 3, 0, kind, False, CLAHE, "no", False] for kind in ("Max", "Sum")]
    three.append(["None", 0, 0, "Max", False, CLAHE, "no", True])
    config, _, said = said_of({"pre_list": three, "display_base": "001"})
    assert list(config.recipes()) == ["p000", "p002"]
    assert "p001 is left out: here it is the same as p000." in said
    assert config.compare.base == "p000"


@pytest.mark.parametrize(("base", "found"), [("same", "raw"), ("000", "p000"), ("007", "raw")])
def test_the_base_of_the_display(base, found):
    assert said_of({"display_base": base})[0].compare.base == found


def test_stacks_are_projected_as_the_pipelines_say():
    settings = {"input_def": {"split_z": True, "z_step": 3}}
    config, _, said = said_of(more=settings)
    assert config.images.projection == "max" and "before the filter" in said
    both = {"pre_list": [["None", 0, 0, kind, True, CLAHE] for kind in ("Median", "Sum")]}
    config, _, said = said_of(both, settings)
    assert config.images.projection == "median" and "median, sum" in said
    config, _, said = said_of(both, settings, projected=True)
    assert config.images.projection == "none" and "sums of the unfiltered planes" in said
    assert "unfiltered" not in said_of(both, settings, projected=True, stacks=False)[2]


def test_rescale_becomes_the_diameter_by_the_mean_of_the_network():
    config, _, said = said_of(
        {"ModelType": ["CP_nuclei", "CP_cyto"], "rescale_list": [0.2, 0.4, 1.5, None, 0, 99]}
    )
    nuclei, cyto = config.model_settings()
    assert nuclei.axes["diameter"] == [85, 42.5, 11.33, "auto"]
    assert cyto.axes["diameter"] == [150, 75, 20, "auto"]
    assert (nuclei.axes["flow"], nuclei.axes["cellprob"]) == ([0.4], [0])
    assert "rescale 0 is left out" in said and "rescale 99 is left out" in said


def test_weights_that_are_not_here_are_replaced_and_asked_for():
    config, text, said = said_of({"ModelType": ["CP_cyto", "SD_2D_dsb2018", "UNet_CP001"]})
    assert [m.weights for m in config.model_settings()] == [None, None, None]
    for order in (
        "opsef models add cytotorch_0 --name cyto",
        "opsef models add model_stardist/2D_dsb2018 --name 2D_dsb2018",
        "opsef models add UNet_CP001.h5 --engine unet --name UNet_CP001",
    ):
        assert order in said
        assert [line for line in text.splitlines() if order in line and line.startswith("  # ")]


def test_weights_that_are_here_are_taken():
    here = {"cyto", "2D_paper_dsb2018", "UNet_CP001"}
    config, _, said = said_of(
        {"ModelType": ["CP_cyto", "SD_2D_dsb2018", "UNet_CP001"]}, weights=here
    )
    assert {m.weights for m in config.model_settings()} == here
    assert "shipped" not in said


@pytest.mark.parametrize(
    ("shapes", "scale", "word"),
    [
        ([(512, 512)], 2, None),
        ([(3, 512, 512)], 2, None),
        ([(2048, 2048), (1024, 1024), (2048, 2048)], 0.5, "2048 x 2048"),
        ([(512, 1024)], 1.4142, "distorted"),
        ([(10, 10)], 20, None),
        ([], 1, "is not known"),
    ],
)
def test_the_fixed_input_of_the_unet_is_a_scale(shapes, scale, word):
    config, _, said = said_of({"ModelType": ["UNet_CP001"]}, shapes=shapes)
    [unet] = config.model_settings()
    assert unet.axes == {"scale": [scale], "legacy": [True], "min_size": [0]}
    assert word is None or word in said


def test_no_model_and_unknown_models_still_make_a_project():
    config, _, said = said_of({"ModelType": ["S3D_3D_Iso_Basic", "MyNet"]})
    assert {m.engine for m in config.model_settings()} == {"stardist", "unet"}
    assert "'MyNet' is not carried over" in said and "S3D_3D_Iso_Basic" in said
    config = parse_config(settings_to_yaml({}, source=["data/*.tif"])[0])
    assert config.recipes() == {"raw": ()} and len(config.models) == 2


def test_the_3d_branch_has_diameters_in_its_list():
    settings = {"input_def": {"seg_type": "3D"}}
    config, *_ = said_of({"rescale_list": [8, 12, 16]}, settings)
    [cellpose] = config.model_settings()
    assert cellpose.axes["diameter"] == [8, 12, 16] and cellpose.axes["do_3D"] == [True]


def test_filters_at_their_defaults_restrict_nothing():
    config, _, said = said_of()
    assert config.postprocess.keep == ()
    assert "10,000 px" in said and "round objects" in said


def test_the_ends_of_the_area_do_not_belong_to_it():
    config, *_ = said_of({"filter_para": FILTER | {"area": [3, 6]}})
    labels = np.zeros((12, 12), int)
    for size in range(1, 9):
        labels[size, :size] = size  # object k has k pixels
    kept = clean(labels, keep=config.postprocess.keep)
    sizes = np.bincount(kept.ravel())[1:].tolist()
    assert sizes == [size for size in range(1, 9) if 3 < size < 6] == [4, 5]


def test_filters_that_have_no_place_are_said_and_others_kept():
    ranges = FILTER | {
        "perimeter": [20, 300],
        "circularity": [0.75, 1],
        "mean_intensity": [90, 65535],
        "eccentricity": [0, 0.9],
        "texture": [1, 2],
    }
    config, _, said = said_of({"filter_para": ranges})
    assert config.postprocess.keep == (
        {"perimeter": (20, 300)},
        {"circularity": (0.5625, None)},
        {"eccentricity": (None, 0.9)},
    )
    assert "circularity from 0.75 to 1: its square" in said
    assert "mean_intensity from 90 to 65535 is not carried over" in said
    assert "texture from 1 to 2 is not known" in said
    assert "eccentricity: OpSeF deleted round objects" in said


def test_the_circularity_of_the_original_keeps_the_same_objects():
    config, *_ = said_of({"filter_para": FILTER | {"circularity": [0.5, 0.85]}})
    y, x = np.mgrid[:60, :200]
    labels = np.zeros(y.shape, int)
    for number, half in enumerate((3, 5, 8, 12), 1):  # ever rounder
        labels[((y - 30) / half) ** 2 + ((x - 45 * number) / 18) ** 2 <= 1] = number
    table = regionprops_table(labels, properties=("equivalent_diameter_area", "perimeter"))
    original = np.pi * table["equivalent_diameter_area"] / table["perimeter"]
    wanted = [n for n, value in enumerate(original, 1) if 0.5 < value < 0.85]
    assert 0 < len(wanted) < 4
    kept = clean(labels, keep=config.postprocess.keep)
    assert [int(np.unique(labels[kept == n])[0]) for n in range(1, kept.max() + 1)] == wanted


def test_classes_have_names():
    settings = {"pc": {"create_filter_mask_from_channel": True}}
    config, _, said = said_of(more=settings, classes={3: "Class_03"})
    assert config.classes == {1: "inside the mask", 2: "outside the mask", 3: "Class_03"}
    assert "MaskClass01" in said


def test_what_has_no_place_is_said():
    said = said_of(
        more={
            "pc": {"Quantify_2ndCh": True, "Export_to_CSV": True},
            "input_def": {"toTiles": True, "bin": True, "subset": ["Train", "x"]},
            "initModelSettings": {"Cell_Channels": [2, 3]},
        }
    )[2]
    for word in ("second channel", "Tables", "first one", "binned again", "Train, x", "Channels"):
        assert word in said


def test_sentences_stand_in_the_file_too():
    _, text, said = said_of()
    comments = " ".join(line.lstrip("# -") for line in text.splitlines() if line[:1] == "#")
    assert all(sentence in comments for sentence in said.splitlines())


def test_names_of_strangers_cannot_break_the_file():
    nasty = "x\n  evil: {engine: watershed}\n\x07\ud800'\"#{"
    config, text, _ = said_of(
        {"run_ID": nasty, "ModelType": [nasty, f"SD_{nasty}", "UNet: ", "CP_nuclei"]},
        {"input_def": {"dataset": nasty, "subset": [nasty]}},
    )
    assert list(config.models) == ["CP_nuclei"]
    text.encode("utf-8")


@pytest.mark.parametrize(
    ("run", "word"),
    [
        ({"pre_list": "Median"}, "pre_list"),
        ({"pre_list": ["Median"]}, "entry 0"),
        ({"pre_list": [["Median", "x", 0, "Max"]]}, "p000: the kernel is 'x'"),
        ({"pre_list": [["None", 0, float("nan"), "Max"]]}, "p000: the value to subtract is nan"),
        ({"pre_list": [["None", 0, 0, "Max", True, [18, 3]]]}, "parameters of CLAHE"),
        ({"rescale_list": ["big"]}, "rescale_list is 'big'"),
        ({"rescale_list": 0.4}, "rescale_list is 0.4"),
        ({"filter_para": [1]}, "filter_para"),
        ({"filter_para": {"area": 5}}, "area is 5"),
        ({"filter_para": {"area": [9, 2]}}, "keeps nothing"),
        ({"filter_para": {"area": [5, 6]}}, "keeps nothing"),
    ],
)
def test_settings_of_a_wrong_kind_are_named(run, word):
    with pytest.raises(InputError, match=word):
        said_of(run)


kinds = st.sampled_from(["Median", "Mean", "None", "Gaussian"])
pipelines = st.tuples(
    kinds,
    st.integers(0, 30),
    st.integers(0, 200),
    st.sampled_from(["Sum", "Max", "Median"]),
    st.booleans(),
    st.tuples(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 9)),
    st.sampled_from(["no", "sobel", "roberts"]),
    st.booleans(),
)


@given(
    st.lists(pipelines, max_size=6),
    st.lists(st.floats(0.01, 3), max_size=4),
    st.lists(st.sampled_from(["CP_nuclei", "CP_cyto", "SD_2D_dsb2018", "UNet_CP001"])),
    st.booleans(),
)
def test_whatever_opsef_could_be_told_makes_a_file_that_is_accepted(pre, rescale, models, stacks):
    run = {"pre_list": pre, "rescale_list": rescale, "ModelType": models}
    config, *_ = said_of(run, shapes=[(300, 400)], stacks=stacks)
    assert len(config.recipes()) <= max(len(pre), 1)
    assert set(config.recipes()) <= {f"p{k:03d}" for k in range(len(pre))} | {"raw"}
