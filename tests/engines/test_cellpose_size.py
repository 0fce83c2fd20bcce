"""``diameter: auto``: with a size model as the package has it, and without; reading its file."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("cellpose")

from cellpose.models import CellposeModel, SizeModel  # noqa: E402
from cellpose.resnet_torch import CPnet  # noqa: E402

from opsef_bridge.config import parse_config  # noqa: E402
from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.cellpose import Cellpose, Decode, Predict  # noqa: E402
from opsef_bridge.engines.cellpose_network import import_package  # noqa: E402
from opsef_bridge.engines.cellpose_size import (  # noqa: E402
    estimate_diameter,
    median_diameter,
    read_size_model,
)
from opsef_bridge.engines.registry import SHIPPED  # noqa: E402
from opsef_bridge.errors import ConfigError, WeightsError  # noqa: E402
from opsef_bridge.files import read_json  # noqa: E402
from opsef_bridge.images import read_image, read_labels  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"


def weights(**more: object) -> Weights:
    card = read_json(SHIPPED / "nuclei-cellpose.json")
    card = card | {"input": card["input"] | more}
    return Weights(card["name"], "cellpose", SHIPPED / card["file"], card["sha256"], card)


def loaded(**more: object) -> Cellpose:
    engine = Cellpose()
    engine.load(weights(**more))
    return engine


shipped = cache(loaded)


def example(name: str) -> np.ndarray:
    return read_image(EXAMPLES / "images" / f"{name}.png").data


@cache
def peer() -> CellposeModel:
    """The package's own model with the shipped network."""

    class Padded(CPnet):
        def forward(self, data):
            flows, style, down = super().forward(data)
            return flows, torch.nn.functional.pad(style, (0, 256 - style.shape[1])), down

    torch.set_num_threads(1)
    model = CellposeModel(gpu=False, pretrained_model=False)
    model.net = Padded([2, 16, 32, 64, 128], 3, sz=3, mkldnn=True)
    model.net.load_state_dict(torch.load(SHIPPED / "nuclei-cellpose.pt", weights_only=True))
    model.net.float()
    model.diam_labels = float(model.net.diam_labels)
    return model


def random_size_model() -> dict[str, object]:
    """What the package would save, with numbers that tell diameters about 20."""
    rng = np.random.default_rng(5)
    slope = rng.normal(0, 0.5, 256).astype(np.float32)
    mean = np.zeros(256, np.float32)
    mean[:128] = 128**-0.5  # about where styles lie, which have the length 1
    return {"A": slope, "smean": mean, "diam_mean": 30.0, "ymean": np.float32(-0.4)}


@pytest.fixture
def size_file(tmp_path) -> Path:
    np.save(tmp_path / "size_mine.npy", random_size_model())
    return tmp_path / "size_mine.npy"


# With a size model.


@pytest.mark.parametrize("name", ["small_fadeb0ab0928", "large_1b518cd2ea84"])
def test_with_a_size_model_it_is_the_diameter_of_the_package(size_file, name):
    image = example(name)[:130, :140]
    size = SizeModel(cp_model=peer(), pretrained_size=str(size_file))
    expected, by_style = size.eval(image, channels=[0, 0])
    assert 6 < by_style < 200 and by_style != size.diam_mean, "the regression is no test of this"
    told = json.loads(json.dumps(read_size_model(size_file)))
    engine = loaded(size_model=told)
    raw = engine.predict(image, Predict(diameter="auto"))
    assert raw.values["chosen_diameter"] == pytest.approx(expected, rel=1e-9)
    masks, *_ = peer().eval(image, channels=[0, 0], diameter=expected)
    labels = engine.decode(raw, Decode())
    np.testing.assert_array_equal(labels, masks)
    assert labels.max() > 3


def test_where_nothing_is_found_it_is_the_diameter_of_the_size_model(size_file):
    nothing = np.zeros((60, 70), np.uint8)
    size = SizeModel(cp_model=peer(), pretrained_size=str(size_file))
    expected, _ = size.eval(nothing, channels=[0, 0])
    engine = loaded(size_model=read_size_model(size_file))
    raw = engine.predict(nothing, Predict(diameter="auto"))
    assert raw.values["chosen_diameter"] == expected == 30


# Without.


@pytest.mark.parametrize("name", ["small_fadeb0ab0928", "small_8b77284d6f37", "large_1b518cd2ea84"])
def test_without_it_is_near_that_of_the_truth(name):
    truth = median_diameter(read_labels(EXAMPLES / "labels" / f"{name}.tif"))
    raw = shipped().predict(example(name)[:200, :200], Predict(diameter="auto"))
    assert raw.values["chosen_diameter"] == pytest.approx(truth, rel=0.3)
    assert raw.values["scale"] == 30 / raw.values["chosen_diameter"]
    assert raw.values["chosen_scale"] == raw.values["scale"]


def test_only_auto_chooses():
    raw = shipped().predict(example("small_fadeb0ab0928")[:64, :64], Predict(diameter=30))
    assert not [name for name in raw.values if name.startswith("chosen_")]
    assert Cellpose.seen_scale(Predict(diameter="auto"), weights()) == 1


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (2, 3), (1, 1)])
def test_narrow_images_have_a_diameter_too(shape):
    image = np.arange(np.prod(shape)).reshape(shape)
    raw = shipped().predict(image, Predict(diameter="auto"))
    assert shipped().decode(raw, Decode()).shape == shape


def test_in_a_volume_it_is_that_of_the_plane_of_most_light():
    plane = example("small_fadeb0ab0928")[:100, :110]
    alone = shipped().predict(plane, Predict(diameter="auto"))
    for volume in (np.stack([plane, 0 * plane]), np.stack([plane // 9, plane])):
        raw = shipped().predict(volume, Predict(diameter="auto"), reference=plane)
        assert raw.values["chosen_diameter"] == alone.values["chosen_diameter"]


class Staged:
    """A pass that finds one disc of 20 px, resized, but only at one scale."""

    def __init__(self, at: float) -> None:
        self.at, self.asked = at, []

    def __call__(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(scale)
        rows, columns = np.mgrid[-50:50, -50:50].astype(np.float32)
        radius = np.hypot(rows, columns)
        inside = (radius < 10) & (scale == self.at)
        inward = [np.where(inside, -5 * way / np.maximum(radius, 1), 0) for way in (rows, columns)]
        return np.stack([*inward, np.where(inside, 5, -5)], axis=-1)[None].astype("f4"), None


def found_by(run: Staged, shape: tuple[int, int]) -> float:
    return estimate_diameter(import_package(), run, shape, own=30, labelled=25, model=None)


@pytest.mark.parametrize(("at", "asked"), [(1, [1]), (0.25, [1, 0.5, 0.25])])
def test_objects_are_looked_for_at_other_sizes_too(at, asked):
    run = Staged(at)
    shape = (round(100 / at),) * 2
    assert found_by(run, shape) == pytest.approx(20 / at, rel=0.05)
    assert run.asked == asked


def test_where_none_are_found_the_network_decides():
    run = Staged(7)
    assert found_by(run, (100, 100)) == 30
    assert run.asked == [1, 0.5, 0.25, 2]
    run = Staged(7)
    assert found_by(run, (3, 90)) == 30
    assert run.asked == [1, 0.5, 2], "an image never shrinks to nothing"


def test_the_median_is_that_of_the_package():
    labels = read_labels(EXAMPLES / "labels" / "small_8b77284d6f37.tif")
    expected, _ = import_package().utils.diameters(labels)
    assert median_diameter(labels) == pytest.approx(expected, rel=1e-12)
    assert median_diameter(np.zeros((3, 3), int)) == 0
    assert median_diameter(np.ones((3, 3), int)) > 3


# In opsef.yaml.

TEXT = "opsef: 1\nimages: {source: a}\nmodels: {a: {engine: cellpose, diameter: %s}}\n"


def test_auto_stands_in_the_configuration():
    [model] = parse_config(TEXT % "[12, auto, 45]").model_settings()
    assert [predict.diameter for predict, _ in model.combinations()] == [12, "auto", 45]


@pytest.mark.parametrize("wrong", ["huge", "0.5", "on", "[auto, 5000]"])
def test_other_words_do_not(wrong):
    with pytest.raises(ConfigError, match=r"line 3: models.a.diameter: .*(auto|2000|number)"):
        parse_config(TEXT % wrong)


# Files of size models.


def test_a_file_is_read_without_numpy_reading_a_pickle(size_file):
    told, saved = read_size_model(size_file), random_size_model()
    assert list(told) == ["A", "smean", "ymean", "diam_mean"]
    np.testing.assert_array_equal(np.float32(told["A"]), saved["A"])
    np.testing.assert_array_equal(np.float32(told["smean"]), saved["smean"])
    assert (told["ymean"], told["diam_mean"]) == (float(np.float32(-0.4)), 30.0)


def test_files_of_older_numpys_are_read(tmp_path, size_file):
    content = pickle.dumps(np.array(random_size_model(), dtype=object), protocol=3)
    content = content.replace(b"cnumpy._core.", b"cnumpy.core.")
    assert b"numpy._core" not in content and b"numpy.core" in content
    new = size_file.read_bytes()
    header = new[: 10 + int.from_bytes(new[8:10], "little")]
    (tmp_path / "old.npy").write_bytes(header + content)
    assert read_size_model(tmp_path / "old.npy") == read_size_model(size_file)


class Trap:
    def __reduce__(self):
        return (print, ("code of the file ran",))


def changed(**more: object) -> dict[str, object]:
    return random_size_model() | more


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed(more=Trap()), "builtins.print, which is not admitted"),
        (changed(A=np.array([Trap()] * 256, dtype=object)), "not admitted"),
        (changed(A=np.zeros(255)), r"shape \(255,\) where \(256,\)"),
        (changed(A=np.full(256, np.nan)), "not all numbers are finite"),
        (changed(A="a" * 256), "numbers are due"),
        (changed(A=np.zeros(256, complex)), "of kind <c16"),
        (changed(ymean=np.datetime64("2020-01-01")), "not admitted|of kind"),
        (changed(diam_mean=0), "diam_mean is 0"),
        (changed(diam_mean=None), "numbers are due"),
        ({"A": np.zeros(256)}, "KeyError: 'smean'"),
        ([1, 2], "an array of int64 of shape"),
    ],
)
def test_what_is_no_size_model_is_refused(tmp_path, capsys, content, words):
    np.save(tmp_path / "size.npy", content, allow_pickle=True)
    with pytest.raises(WeightsError, match=words) as caught:
        read_size_model(tmp_path / "size.npy")
    assert caught.value.hint
    assert "ran" not in capsys.readouterr().out


def test_what_is_no_such_file_is_refused(tmp_path, size_file):
    with pytest.raises(WeightsError, match=r"missing: .*none\.npy"):
        read_size_model(tmp_path / "none.npy")
    torn = tmp_path / "torn.npy"
    for content in (b"", b"\x93NUMPY", size_file.read_bytes()[:-40], b"no numpy at all" * 9):
        torn.write_bytes(content)
        with pytest.raises(WeightsError, match="holds no size model"):
            read_size_model(torn)
    torn.write_bytes(bytes(2**20 + 1))
    with pytest.raises(WeightsError, match="1048577 bytes"):
        read_size_model(torn)


@pytest.mark.parametrize("wrong", [{}, {"A": 3}, 7, "size.npy"])
def test_a_card_with_a_broken_size_model_is_refused(wrong):
    with pytest.raises(WeightsError, match="the card of 'nuclei-cellpose' holds no size model"):
        loaded(size_model=wrong)
