"""opsef.yaml: every mistake is named with its line, its value and the choices."""

from __future__ import annotations

import textwrap

import pytest

from opsef_bridge.config import Config, config_key, load_config, parse_config
from opsef_bridge.engines import engine_class
from opsef_bridge.engines.parameters import split_parameters
from opsef_bridge.errors import ConfigError

GOOD = """\
opsef: 1
images:
  source: data/*.tif
models:
  classic:
    engine: watershed
"""


def problems(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(textwrap.dedent(text))
    return str(caught.value)


def test_defaults_are_filled_in():
    config = parse_config(GOOD)
    assert config.images.source == ["data/*.tif"]
    assert config.recipes() == {"raw": ()}
    assert (config.sweep.images, config.sweep.crop, config.groups) == (8, 512, None)
    [model] = config.model_settings()
    assert (model.name, model.engine, model.weights, model.axes) == (
        "classic",
        "watershed",
        None,
        {},
    )
    assert len(list(model.combinations())) == 1


def test_lists_are_axes_and_multiply_with_the_passes_outermost():
    text = "\n    threshold: [otsu, 0.8, local]\n    scale: [0.5, 1]\n    min_distance: 3\n"
    [model] = parse_config(GOOD.rstrip() + text).model_settings()
    pairs = [(p.scale, d.threshold, d.min_distance) for p, d in model.combinations()]
    assert pairs == [(s, t, 3) for s in (0.5, 1.0) for t in ("otsu", 0.8, "local")]


def test_a_ladder_is_tried_where_the_file_leaves_its_key_out():
    for more, diameters in (
        ("", [12, 22, 45]),
        ("\n    diameter: 30\n", [30]),
        ("\n    diameter: auto\n", ["auto"]),
        ("\n    cellprob: [-1, 0]\n", [12, 22, 45]),
    ):
        text = GOOD.replace("watershed", "cellpose").rstrip() + more
        [model] = parse_config(text).model_settings()
        assert model.axes["diameter"] == diameters
        assert [p.diameter for p, d in model.combinations() if d.cellprob == 0] == diameters
    assert "diameter" not in parse_config(text).models["classic"], "the file stays what it is"


def test_without_a_sweep_there_is_no_ladder():
    """One image is segmented once, with the default."""
    predict, _ = split_parameters(engine_class("cellpose"), {})
    assert predict.diameter == 30


def test_it_survives_json():
    text = (
        GOOD
        + "groups: {a: 'x*'}\npostprocess: {keep: [{area: [30, null]}, {solidity: [0.8, 1]}]}\n"
    )
    config = parse_config(text + "preprocess: {m: [{median: {radius: 2}}, invert]}\n")
    again = Config(**config.model_dump(mode="json"))
    assert again == config
    assert config_key(again) == config_key(config) != config_key(parse_config(GOOD))


@pytest.mark.parametrize(
    ("more", "line", "words"),
    [
        # unknown keys
        ("sweeep: {}", 7, ["'sweeep'", "Choose of opsef, images", "sweep"]),
        ("sweep:\n  image: 3", 8, ["sweep.image", "Choose of images, crop, seed, device"]),
        (
            "postprocess: {fill: true}",
            7,
            ["'fill'", "fill_holes, open, largest_component, clear_border, keep"],
        ),
        ("7: 8", 7, ["'7'"]),
        # wrong types
        ("sweep: {images: some}", 7, ["sweep.images", "'some'", "'all'"]),
        ("sweep: {seed: 1.5}", 7, ["sweep.seed", "1.5"]),
        ("sweep: {seed: yes}", 7, ["sweep.seed", "True"]),
        ("sweep: 5", 7, ["sweep", "5"]),
        ("groups: [a, b]", 7, ["groups", "['a', 'b']"]),
        ("preprocess: {a: median}", 7, ["preprocess.a", "'median'", "list"]),
        ("preprocess:\n  a:\n  - 5", 8, ["preprocess.a", "5 is no step"]),
        ("postprocess: {keep: 5}", 7, ["postprocess.keep", "5"]),
        ("postprocess: {keep: [{area: [30]}]}", 7, ["keep.0.area"]),
        # impossible values
        ("sweep: {images: 0}", 7, ["sweep.images", "0"]),
        ("sweep: {crop: 31}", 7, ["sweep.crop", "32", "31"]),
        ("sweep: {device: gpu}", 7, ["'auto', 'cpu' or 'cuda'", "'gpu'"]),
        ("compare: {top: 0}", 7, ["compare.top", "0"]),
        ("compare: {base: smooth}", 7, ["compare.base", "'smooth'", "raw"]),
        ("preprocess: {}", 7, ["at least one recipe"]),
        ("preprocess: {'a b': []}", 7, ["'a b' is no name"]),
        ("postprocess: {keep: [{area: [5, 2]}]}", 7, ["area: 5 is above 2"]),
        ("postprocess: {keep: [{area: [.nan, 2]}]}", 7, ["nan"]),
        # names of steps, parameters, properties
        ("preprocess:\n  a: []\n  b: [sharpen]", 9, ["'sharpen'", "Choose from", "median"]),
        ("preprocess: {a: [{median: {r: 1}}]}", 7, ["'r'", "radius (default 1)"]),
        ("preprocess: {a: [{median: {radius: 99}}]}", 7, ["radius is 99", "20"]),
        ("postprocess:\n  keep:\n  - {area: [1, 2]}\n  - {size: [1, 2]}", 10, ["'size'", "area"]),
        ("postprocess: {keep: [{centroid: [1, 2]}]}", 7, ["'centroid'", "centroid_y"]),
        (
            "postprocess: {keep: [{intensity_median: [1, 2]}]}",
            7,
            ["'intensity_median'", "intensity_mean"],
        ),
        # doubles
        ("sweep: {}\nsweep: {}", 8, ["'sweep' stands twice"]),
        ("sweep: {seed: 1, seed: 2}", 7, ["'seed' stands twice"]),
        ("preprocess: {a: [{median: {radius: 1, radius: 2}}]}", 7, ["'radius' stands twice"]),
        # YAML
        ("sweep: [", 8, ["not valid YAML"]),
        ("\tsweep: 1", 7, ["not valid YAML"]),
    ],
)
def test_mistakes_are_named_with_their_line(more, line, words):
    said = problems(GOOD + more + "\n")
    for word in [f"opsef.yaml: line {line}:", *words]:
        assert word in said


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("{}", ["models.m", "the key 'engine' is missing"]),
        ("", ["models.m", "None"]),
        ("{engine: watershd}", ["models.m.engine", "'watershd'", "unet, watershed"]),
        ("{engine: [unet]}", ["models.m.engine", "['unet'] is no name"]),
        ("{engine: 5}", ["5 is no name"]),
        ("{engine: unet, weights: 5}", ["models.m.weights", "5 is no name"]),
        ("{engine: unet, thresh: 1}", ["'thresh'", "weights, scale", "threshold"]),
        ("{engine: unet, threshold: 1.5}", ["models.m.threshold", "1.5", "less than 1"]),
        ("{engine: unet, threshold: [0.5, 2]}", ["models.m.threshold", "2", "less than 1"]),
        ("{engine: unet, threshold: []}", ["empty list"]),
        ("{engine: unet, threshold: high}", ["'high'", "number"]),
        ("{engine: unet, scale: yes}", ["models.m.scale", "True"]),
        ("{engine: unet, scale: .nan}", ["models.m.scale", "nan"]),
        ("{engine: watershed, threshold: ots}", ["'ots'", "'otsu' or 'local'", "number"]),
        ("{engine: watershed, threshold: -1}", ["-1", "greater than 0"]),
        ("{engine: watershed, threshold: .inf}", ["inf"]),
        ("{engine: watershed, min_distance: 2.5}", ["2.5", "integer"]),
    ],
)
def test_mistakes_in_a_model(model, words):
    said = problems(f"opsef: 1\nimages: {{source: a}}\nmodels:\n  m: {model}\n")
    for word in ["opsef.yaml: line 4:", *words]:
        assert word in said


def test_all_mistakes_are_listed_at_once():
    said = problems("opsef: 2\nimages: {source: []}\nmodels: {}\n").splitlines()
    assert [line.split(":")[1] for line in said] == [" line 1", " line 2", " line 3"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "just words\n", "5\n", "- a\n- b\n"])
def test_files_without_settings(text):
    assert "holds no settings. `opsef new`" in problems(text)


@pytest.mark.parametrize("text", ["a: 2020-13-45\n", "a: &a [*a]\n", "a: \x00\n", "[" * 5000])
def test_yaml_that_breaks_its_reader(text):
    assert "not valid YAML" in problems(text)


def test_missing_keys():
    said = problems("models: {m: {engine: unet}}\n")
    assert "'opsef' is missing" in said and "'images' is missing" in said


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"no opsef\.yaml in .* -p DIR"):
        load_config(tmp_path / "opsef.yaml")
    (tmp_path / "opsef.yaml").write_bytes("opsef: 1 # größe\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "opsef.yaml")


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "opsef.yaml").write_text(GOOD, encoding="utf-8-sig")
    assert load_config(tmp_path / "opsef.yaml") == parse_config(GOOD)


def test_properties_of_volumes_are_known():
    config = parse_config(GOOD + "postprocess: {keep: [{centroid_z: [2, null]}]}\n")
    assert config.postprocess.keep == ({"centroid_z": (2.0, None)},)


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("{}", []),
        ("{channels: all}", "all"),
        ("{channels: [all]}", "all"),
        ("{channels: [0, 1]}", [0, 1]),
        ("{channels: 2}", [2]),
        ("{channels: GFP}", ["GFP"]),
        ("{channels: ['405', 1]}", ["405", 1]),
    ],
)
def test_channels_to_measure(text, channels):
    config = parse_config(GOOD.replace("models:", f"  measure: {text}\nmodels:"))
    assert config.images.measure.channels == channels
    assert Config(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize("value", ["-1", "[0, -1]", "1.5", "yes", "['']", "[' ']", "[[0]]", "null"])
def test_what_is_no_channel_to_measure(value):
    said = problems(GOOD.replace("models:", f"  measure: {{channels: {value}}}\nmodels:"))
    assert "opsef.yaml: line 4: images.measure.channels: " in said
    assert "is no channel: give numbers from 0, names, or all" in said
