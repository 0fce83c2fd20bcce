"""The stardist engine: decoding, tiling, files of the package, and the shipped network.

What the package itself makes of the same weights and images is computed once, in a process
of its own: TensorFlow does not share one with the rest.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from stardist.geometry import star_dist
from stardist.utils import edt_prob

from opsef_bridge.engines import stardist, stardist_files
from opsef_bridge.engines.base import Raw, Weights
from opsef_bridge.engines.registry import SHIPPED, verify
from opsef_bridge.engines.runtime import open_session
from opsef_bridge.engines.stardist import (
    EXACT,
    TAIL,
    Card,
    Decode,
    Predict,
    StarDist,
    run_tiled,
)
from opsef_bridge.engines.stardist_files import convert_stardist
from opsef_bridge.errors import InputError, WeightsError, WorkerError
from opsef_bridge.files import read_json
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.measure import match
from opsef_bridge.testing.engines import EngineSuite, VolumeEngineSuite

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
VOLUME = Path(__file__).parents[1] / "data" / "volume-stardist"
PICTURES = ("large_40b00d701695", "large_6b6d4e6ff52d", "small_8b77284d6f37")


def weights_of(card_file: Path) -> Weights:
    card = read_json(card_file)
    path = card_file.parent / card["file"]
    weights = Weights(card["name"], "stardist", path, card["sha256"], card)
    verify(weights)
    return weights


def loaded(card_file: Path) -> StarDist:
    engine = StarDist()
    engine.load(weights_of(card_file))
    return engine


@pytest.fixture(scope="module")
def shipped() -> StarDist:
    return loaded(SHIPPED / "nuclei-stardist.json")


class TestSuite(EngineSuite):
    @pytest.fixture
    def engine(self, shipped):
        return shipped

    @pytest.fixture
    def picture(self):
        """The suite's, mirrored: fewer nuclei reach over the middle, where it is cut."""
        return read_image(EXAMPLES / "images" / "small_fadeb0ab0928.png").data[:, ::-1]


@pytest.mark.slow  # suppression of polyhedra takes a second per call
class TestVolumes(VolumeEngineSuite):
    """The small network of the tests, on planes that fade out above and below."""

    @pytest.fixture
    def engine(self, volume_engine):
        return volume_engine

    @pytest.fixture
    def picture(self):
        return read_image(EXAMPLES / "images" / "small_fadeb0ab0928.png").data[:112, :128]

    def lift(self, plane):
        low = np.percentile(plane, 20)
        fading = np.exp(-((np.arange(-5, 6) / 3) ** 2))[:, None, None]
        return (low + (plane.astype(np.float32) - low) * fading).astype(np.float32)

    def plane(self, labels):
        return labels[5]

    def test_an_object_has_one_id_in_all_planes(self, engine, image):
        above, middle, below = engine.decode(engine.predict(image, Predict()), Decode())[[4, 5, 6]]
        for plane in (above, below):
            shared = (plane > 0) & (middle > 0)
            assert shared.any()
            assert (plane[shared] == middle[shared]).mean() > 0.95


@pytest.fixture(scope="module")
def volume_engine(tmp_path_factory):
    pytest.importorskip("onnx")
    weights = weights_of(convert_stardist(VOLUME, tmp_path_factory.mktemp("volume")))
    # It has learned from objects of another kind: only what it is sure of is worth a test.
    weights.card["thresholds"]["prob"] = 0.6
    weights.card["input"]["clip"] = [-0.2, 4.0]  # as with the shipped weights
    engine = StarDist()
    engine.load(weights)
    return engine


def discs(shape: tuple[int, int], circles: list[tuple[int, int, int]]) -> np.ndarray:
    """Labels of circles (y, x, radius); a later one overwrites an earlier one."""
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (cy, cx, radius) in enumerate(circles, 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return labels


def ideal(labels: np.ndarray, scale: float = 1) -> Raw:
    """What a perfect network says that saw `labels`, of an image resized by `scale`."""
    prob = edt_prob(labels)[::2, ::2]
    dist = star_dist(labels, 32, grid=(2, 2)).transpose(2, 0, 1)
    values = {f"{what}_{a}": v for a in "yx" for what, v in (("grid", 2.0), ("scale", scale))}
    shape = tuple(round(side / scale) for side in labels.shape)
    maps = {"prob": prob, "prob_rest": np.zeros_like(prob), "dist": np.maximum(dist, 1e-3)}
    return Raw(maps, shape, values | {"prob": 0.5, "nms": 0.3})


TWO = discs((60, 90), [(30, 30, 15), (30, 59, 14)])


# Decoding.


def test_touching_discs_come_back():
    assert TWO[30, 45] and TWO[30, 46], "they touch"
    found = match(TWO, StarDist().decode(ideal(TWO), Decode()), (0.9,))
    assert found["tp"].tolist() == [2]


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.5, 2.0])
def test_objects_are_painted_at_the_original_size(scale):
    raw = ideal(TWO, scale)
    labels = StarDist().decode(raw, Decode())
    y, x = np.indices(raw.shape)
    # The same discs, their middles and radii in pixels of the original.
    centres = [
        ((cy + 0.5) / scale - 0.5, (cx + 0.5) / scale - 0.5) for cy, cx in [(30, 30), (30, 59)]
    ]
    truth = np.zeros(raw.shape, np.int32)
    for number, ((cy, cx), radius) in enumerate(zip(centres, (15, 14), strict=True), 1):
        truth[(y - cy) ** 2 + (x - cx) ** 2 <= ((radius + 0.3) / scale) ** 2] = number
    assert match(truth, labels, (0.88,))["tp"].tolist() == [2]
    assert {tuple(np.diff(np.unique(labels)).tolist())} == {(1, 1)}


def test_thresholds_are_those_of_the_weights_unless_given():
    raw = ideal(TWO)
    assert StarDist().decode(raw, Decode()).max() == 2
    raw.values["prob"] = 0.9999
    assert StarDist().decode(raw, Decode()).max() < 2
    assert StarDist().decode(raw, Decode(prob=0.5)).max() == 2


def test_overlapping_candidates_suppress_each_other():
    raw = ideal(TWO)
    # A third, less probable candidate between the two, as large as they are.
    maps = {name: np.array(data) for name, data in raw.maps.items()}
    maps["prob"] *= 0.9
    maps["prob"][15, 22], maps["dist"][:, 15, 22] = 0.6, 15
    between = Raw(maps, raw.shape, raw.values)
    assert StarDist().decode(between, Decode(prob=0.55, nms=0.3)).max() == 2
    assert StarDist().decode(between, Decode(prob=0.55, nms=0.9)).max() > 2


def test_the_better_of_two_candidates_wins_though_half_precision_cannot_tell():
    prob = np.zeros((16, 16), np.float32)
    dist = np.full((32, 16, 16), 6, np.float32)
    prob[8, 8], prob[8, 9] = 0.99998, 0.99999
    assert np.float16(prob[8, 8]) == np.float16(prob[8, 9])
    half = prob.astype(np.float16)
    maps = {"prob": half, "prob_rest": prob - half, "dist": dist}
    labels = StarDist().decode(Raw(maps, (32, 32), ideal(TWO).values), Decode())
    assert np.argwhere(labels).mean(0).round().tolist() == [16, 18]


@pytest.mark.parametrize("rays_last", [False, True])
def test_maps_are_those_of_the_network_to_the_last_bit(rays_last):
    """Half precision in parts: probabilities exactly, probable distances to one part in 2^23."""
    rng = np.random.default_rng(0)
    prob = np.concatenate(
        [rng.random(4000), rng.normal(1, 1e-4, 4000).clip(0, 1), 10.0 ** rng.uniform(-3, 0, 1216)]
    )
    prob = prob.astype(np.float32).reshape(96, 96)
    dist = (10 ** rng.uniform(-3, 4.7, (5, 96, 96))).astype(np.float32)
    if rays_last:
        dist = np.moveaxis(np.ascontiguousarray(np.moveaxis(dist, 0, -1)), -1, 0)
    card = Card(grid=(1, 1), rays=5, multiple=(1, 1), margin=(0, 0), rim=0)
    image = np.arange(96.0 * 96).reshape(1, 96, 96)  # tells the network which part it sees

    def network(batch):
        y, x = np.divmod(batch[0, 0].astype(int), 96)
        return prob[None, None, y, x], dist[None, :, y, x]

    maps = Raw(run_tiled(network, image, card, 64), (96, 96)).maps
    parts = [maps[f"prob{part}"].astype(np.float32) for part in ("", "_rest", "_tail")]
    whole, near = parts[0] + parts[1] + parts[2] / TAIL, prob > EXACT
    np.testing.assert_array_equal(whole[near], prob[near])
    np.testing.assert_allclose(whole, prob, rtol=2**-11)
    found = maps["dist"].astype(np.float32) + maps["dist_rest"]
    np.testing.assert_allclose(found[:, near], dist[:, near], rtol=2**-22, atol=2**-24)
    np.testing.assert_allclose(found, dist, rtol=2**-11)
    assert not maps["dist_rest"][:, ~near].any()


# Tiles.


def test_tiles_give_the_maps_of_the_whole(shipped):
    one = read_image(EXAMPLES / "images" / "small_8b77284d6f37.png").data
    image = np.tile(one, (3, 3))[:700, :610]
    whole = shipped.predict(image, Predict(tile=4096))
    tiled = shipped.predict(image, Predict(tile=100))
    for name in whole.maps:
        np.testing.assert_allclose(tiled.maps[name], whole.maps[name], atol=2e-3, rtol=2e-3)
    prob = [
        sum(raw.maps[n].astype(np.float32) for n in ("prob", "prob_rest")) for raw in (whole, tiled)
    ]
    np.testing.assert_allclose(*prob, atol=1e-5)
    np.testing.assert_array_equal(
        shipped.decode(whole, Decode()) > 0, shipped.decode(tiled, Decode()) > 0
    )


def test_tiles_of_a_volume_are_cut_along_every_axis():
    card = Card(axes="ZYX", grid=(1, 2, 2), rays=3, multiple=(4, 8, 8), margin=(4, 8, 8), rim=0)
    seen = []

    def network(batch):
        seen.append(batch.shape[2:])
        grid = batch[:, :, :, ::2, ::2]
        return grid, np.repeat(grid, 3, axis=1) * 10

    image = np.random.default_rng(0).random((1, 13, 70, 50), np.float32) + 0.1
    maps = run_tiled(network, image, card, 64)  # 16 voxels a side
    assert len(seen) == 1 * 4 * 4 and max(seen) == (16, 32, 32)
    np.testing.assert_array_equal(
        maps["dist"], (np.stack([image[0, :, ::2, ::2]] * 3) * 10).astype("f2")
    )


def test_for_want_of_memory_tiles_become_smaller(shipped):
    engine = loaded(SHIPPED / "nuclei-stardist.json")
    image = np.tile(read_image(EXAMPLES / "images" / "small_8b77284d6f37.png").data, (3, 3))
    expected = shipped.decode(shipped.predict(image, Predict()), Decode())
    seen, network = [], engine._network
    engine._network = lambda batch: seen.append(batch.shape[-1]) or network(batch)
    assert engine.predict(image, Predict(tile=2048)).shape == image.shape
    assert seen == [768]
    assert [engine.lighten() for _ in range(4)] == ["tile 1024", "tile 512", "tile 256", None]
    labels = engine.decode(engine.predict(image, Predict(tile=2048)), Decode())
    assert max(seen[1:]) == 256 + 2 * 128 and len(seen) == 1 + 9
    np.testing.assert_array_equal(labels, expected)
    engine.predict(image[:100, :100], Predict(tile=64))
    assert engine.lighten() is None


def test_devices_are_those_of_the_runtime(monkeypatch):
    monkeypatch.setattr(stardist, "onnx_devices", lambda: ("cuda", "cpu"))
    monkeypatch.setattr(stardist, "tensorflow_devices", lambda: ("cpu",))
    assert StarDist.devices() == ("cuda", "cpu")
    assert StarDist.devices(Weights("a", "stardist", Path("a.onnx"))) == ("cuda", "cpu")
    assert StarDist.devices(Weights("a", "stardist", Path("a.zip"))) == ("cpu",)


# The package's own folders.

RUN_PACKAGE = """
import json, os, sys
os.environ.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
from pathlib import Path
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D

out = Path(sys.argv[1])
rng = np.random.default_rng(0)
small = dict(unet_n_filter_base=8, net_conv_after_unet=16)
plane, volume = (1, 96, 160, 1), (1, 16, 32, 32, 1)
models = {
    "fluo": (StarDist2D, Config2D(n_rays=32, grid=(2, 2)), plane),
    "he": (StarDist2D, Config2D(n_rays=32, grid=(2, 2), n_channel_in=3, n_classes=2,
        unet_batch_norm=True, **small), (1, 64, 64, 3)),
    "deep": (StarDist3D, Config3D(rays=24, grid=(1, 2, 2), anisotropy=(2, 1, 1), **small), volume),
    "residual": (StarDist3D, Config3D(rays=24, grid=(2, 2, 2), backbone="resnet",
        resnet_n_filter_base=8, net_conv_after_resnet=16, resnet_batch_norm=True),
        (1, 16, 48, 48, 1)),
}

def spread(array):
    deviation = np.sqrt(2 / np.prod(array.shape[:-1])) if array.ndim > 1 else 0.3
    values = rng.normal(0, deviation, array.shape)
    return values if array.ndim > 1 else abs(values) + 0.1

def instances(model, x):
    prob, dist = model.keras_model.predict(x, verbose=0)[:2]
    threshold = float(np.quantile(prob, 0.9))
    labels, _ = model.predict_instances(x[0], prob_thresh=threshold, nms_thresh=0.4)
    return dict(x=x, prob=prob, dist=dist, threshold=threshold, labels=labels)

for name, (kind, config, shape) in models.items():
    model = kind(config, name, str(out))
    model.keras_model.set_weights([spread(a) for a in model.keras_model.get_weights()])
    model.keras_model.save_weights(str(out / name / "weights_best.h5"))
    np.savez(out / f"{name}.npz", **instances(model, rng.random(shape, np.float32)))

given = np.load(out / "shipped.npz")
config = Config2D(n_rays=32, grid=(2, 2), unet_n_filter_base=16, net_conv_after_unet=64)
model = StarDist2D(config, None, None)
model.keras_model.set_weights([given[f"w{i}"] for i in range(len(model.keras_model.get_weights()))])
found = {}
for name in (n for n in given.files if not n.startswith("w")):
    found[name], _ = model.predict_instances(given[name], prob_thresh=0.5, nms_thresh=0.3)
    prob, dist = model.keras_model.predict(given[name][None, :256, :256, None], verbose=0)
    found[name + ".prob"], found[name + ".dist"] = prob, dist
np.savez(out / "found.npz", **found)
"""


def shipped_as_keras() -> dict[str, np.ndarray]:
    """The shipped weights as Keras orders them, and pictures normalised as the card says."""
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper

    model = onnx.load(SHIPPED / "nuclei-stardist.onnx")
    arrays = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name != "enlarge"]
    arrays = [a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for a in arrays]
    given = {f"w{number}": array for number, array in enumerate(arrays)}
    for name in PICTURES:
        image = read_image(EXAMPLES / "images" / f"{name}.png").data.astype(np.float32)
        low, high = np.percentile(image, (1, 99.8))
        given[name] = np.clip((image - low) / (high - low), -0.2, 4).astype(np.float32)
    return given


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A folder of models with random weights, and what the package makes of them."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow, to compare with it")
    out = tmp_path_factory.mktemp("package")
    np.savez(out / "shipped.npz", **shipped_as_keras())
    done = subprocess.run(
        [sys.executable, "-c", RUN_PACKAGE, str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.mark.parametrize(
    ("name", "axes"), [("fluo", "YX"), ("he", "YXS"), ("deep", "ZYX"), ("residual", "ZYX")]
)
def test_converted_networks_say_what_keras_says(package, tmp_path, name, axes):
    card_file = convert_stardist(package / name, tmp_path)
    expected = np.load(package / f"{name}.npz")
    session = open_session(weights_of(card_file))
    image = np.ascontiguousarray(np.moveaxis(expected["x"], -1, 1))
    prob, dist = (
        np.moveaxis(found, 1, -1) for found in session.run(["prob", "dist"], {"image": image})
    )
    assert expected["prob"].std() > 1e-3 and expected["dist"].std() > 0.1, "it says something"
    np.testing.assert_allclose(prob, expected["prob"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(dist, expected["dist"], rtol=0, atol=1e-4)
    assert read_json(card_file)["input"]["axes"] == axes


@pytest.mark.parametrize("name", ["fluo", "he", "deep", "residual"])
def test_converted_networks_give_the_objects_of_the_package(package, tmp_path, name):
    engine = loaded(convert_stardist(package / name, tmp_path))
    # The package was given the image as it is: keep the engine from normalising it.
    engine._card = engine._card.model_copy(update={"percentiles": (0.0, 100.0)})
    expected = np.load(package / f"{name}.npz")
    image = expected["x"][0] if name == "he" else expected["x"][0, ..., 0]
    raw = engine.predict(image, Predict(), reference=np.resize([0.0, 1.0], image.shape))
    labels = engine.decode(raw, Decode(prob=float(expected["threshold"]), nms=0.4))
    assert labels.max() >= 3
    # In noise, distances rounded to half precision may tip one suppression.
    assert_same_objects(expected["labels"], labels, spare=1)


def assert_same_objects(expected: np.ndarray, labels: np.ndarray, spare: int = 0) -> None:
    """Counts within 0.1 %, objects that are matched share 99 % of their area."""
    wanted, found = (len(np.unique(array)) - 1 for array in (expected, labels))
    assert abs(found - wanted) <= max(0.001 * wanted, spare)
    result = match(expected.astype(np.int32), labels, (0.5,))
    assert result["tp"].iloc[0] >= wanted - spare
    assert result["mean_iou"].iloc[0] >= 0.99


@pytest.mark.parametrize("name", PICTURES)
def test_the_shipped_network_gives_the_objects_of_the_package(package, shipped, name):
    expected = np.load(package / "found.npz")
    image = read_image(EXAMPLES / "images" / f"{name}.png").data
    raw = shipped.predict(image, Predict())
    assert_same_objects(expected[name], shipped.decode(raw, Decode(prob=0.5, nms=0.3)))
    session = open_session(weights_of(SHIPPED / "nuclei-stardist.json"))
    given = np.load(package / "shipped.npz")[name][None, None, :256, :256]
    prob, dist = session.run(["prob", "dist"], {"image": given})
    np.testing.assert_allclose(prob[0, 0], expected[f"{name}.prob"][0, ..., 0], rtol=0, atol=1e-5)
    dist = np.moveaxis(dist[0], 0, -1)
    np.testing.assert_allclose(dist, expected[f"{name}.dist"][0], rtol=0, atol=1e-4)


OLD = ("n_dim", "axes", "n_channel_in", "n_rays", "grid", "unet_n_depth", "unet_kernel_size",
       "unet_n_filter_base", "unet_pool", "unet_activation", "net_conv_after_unet")  # fmt: skip


def test_an_old_zip_is_the_same_as_a_new_folder(package, tmp_path):
    """Fewer keys in config.json, and names in the h5 file as Keras 2 wrote them."""
    h5py = pytest.importorskip("h5py")
    config = read_json(package / "fluo" / "config.json")
    h5 = tmp_path / "weights_best.h5"
    with h5py.File(package / "fluo" / "weights_best.h5") as new, h5py.File(h5, "w") as old:
        layers = list(new.attrs["layer_names"])
        old.attrs["layer_names"] = [str(layer).encode() for layer in layers]
        for layer in layers:
            group, names = old.create_group(layer), list(new[layer].attrs["weight_names"])
            paths = [f"{layer}/{kind}:0" for kind in ("kernel", "bias")][: len(names)]
            group.attrs["weight_names"] = [path.encode() for path in paths]
            for name, path in zip(names, paths, strict=True):
                group[path] = new[layer][name][()]
    with zipfile.ZipFile(tmp_path / "2D_mine.zip", "w") as archive:
        archive.writestr("2D_mine/config.json", json.dumps({k: config[k] for k in OLD}))
        archive.writestr("2D_mine/thresholds.json", '{"prob": 0.479071, "nms": 0.3}')
        archive.write(h5, "2D_mine/weights_best.h5")
        archive.writestr("2D_mine/weights_last.h5", b"not read")
    old = loaded(convert_stardist(tmp_path / "2D_mine.zip", tmp_path / "old"))
    new = loaded(convert_stardist(package / "fluo", tmp_path / "new"))
    image = np.random.default_rng(0).integers(0, 4000, (130, 99), np.uint16)
    one, other = (engine.predict(image, Predict(tile=64)) for engine in (old, new))
    for name in one.maps:
        np.testing.assert_array_equal(one.maps[name], other.maps[name])
    assert (one.values["prob"], one.values["nms"]) == (0.479071, 0.3)
    assert (other.values["prob"], other.values["nms"]) == (0.5, 0.4)
    assert old.decode(one, Decode()).shape == (130, 99)


@pytest.mark.parametrize("name", ["fluo", "deep", "residual"])
def test_margins_are_as_wide_as_networks_see(package, tmp_path, name):
    engine = loaded(convert_stardist(package / name, tmp_path))
    card = engine._card
    sides = [2 * margin + 2 * m for margin, m in zip(card.margin, card.multiple, strict=True)]
    image = np.random.default_rng(0).random((1, *sides), np.float32)
    if image.size > 2**20:
        image = image[..., : 2 * card.multiple[-1]]
    moved = image.copy()
    moved[:, : card.multiple[0]] += 1
    here, there = (run_tiled(engine._network, x, card, 4096)["dist"] for x in (image, moved))
    far = (card.multiple[0] + card.margin[0]) // card.grid[0]
    assert far < here.shape[1]
    np.testing.assert_array_equal(here[:, far:], there[:, far:])
    assert (
        here[:, : card.multiple[0] // card.grid[0]] != there[:, : card.multiple[0] // card.grid[0]]
    ).any()


# Files that do not fit.

CONFIG = {"axes": "YXC", "n_channel_in": 1, "n_rays": 8, "grid": [1, 1], "unet_n_depth": 1}


def folder_of(path: Path, config: dict, h5: bytes = b"") -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    (path / "weights_best.h5").write_bytes(h5)
    return path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**CONFIG, "axes": "TYX"}, "axes are 'TYX'"),
        ({"axes": "YXC"}, "rays None"),
        ({**CONFIG, "n_channel_in": 2}, "2 channels"),
        (CONFIG, "cannot be read as weights of Keras"),
    ],
)
def test_folders_that_are_not_stardists_are_refused(tmp_path, config, message):
    with pytest.raises(WeightsError, match=message) as caught:
        convert_stardist(folder_of(tmp_path / "model", config, b"nonsense"), tmp_path / "out")
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match="no model at"):
        convert_stardist(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"no config\.json with weights_best\.h5"):
        convert_stardist(tmp_path / "empty", tmp_path)
    (tmp_path / "broken.zip").write_bytes(b"PK nonsense")
    with pytest.raises(WeightsError, match="cannot be unpacked"):
        convert_stardist(tmp_path / "broken.zip", tmp_path)


@pytest.mark.parametrize("wrong", [{"unet_n_depth": 2}, {"n_rays": 16}])
def test_weights_of_another_network_are_refused(package, tmp_path, wrong):
    config = read_json(package / "fluo" / "config.json") | wrong
    h5 = (package / "fluo" / "weights_best.h5").read_bytes()
    with pytest.raises(WeightsError, match="do not fit the network"):
        convert_stardist(folder_of(tmp_path / "model", config, h5), tmp_path / "out")


def test_a_zip_writes_nothing_beside_the_target_and_has_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "in" / "evil.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/config.json", json.dumps(CONFIG))
        archive.writestr("model/weights_best.h5", b"nonsense")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        convert_stardist(path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.zip", "in"]
    monkeypatch.setattr(stardist_files, "LARGEST", 5)
    with pytest.raises(WeightsError, match="more than 5"):
        convert_stardist(path, tmp_path / "out")


def test_the_engine_says_what_is_wrong(shipped, tmp_path):
    with pytest.raises(WorkerError, match="before its weights"):
        StarDist().predict(np.zeros((8, 8)), Predict())
    with pytest.raises(InputError, match="shape"):
        shipped.predict(np.zeros((8, 8, 3), np.uint8), Predict())
    weights = weights_of(SHIPPED / "nuclei-stardist.json")
    card = {**weights.card, "input": {**weights.card["input"], "rays": 16}}
    with pytest.raises(WeightsError, match="16 rays"):
        StarDist().load(Weights("mine", "stardist", weights.path, weights.sha256, card))
    with pytest.raises(WeightsError, match="does not describe"):
        StarDist().load(Weights("mine", "stardist", weights.path, weights.sha256, {}))
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match=r"cannot be read from"):
        StarDist().load(Weights("bad", "stardist", tmp_path / "bad.onnx", "", weights.card))


@pytest.mark.parametrize(
    "wrong", [{"prob": "x"}, {"nms": None}, {"prob": 2}, {"prob": True}, None, [0.5]], ids=str
)
def test_thresholds_of_a_card_that_are_none_are_refused(wrong):
    weights = weights_of(SHIPPED / "nuclei-stardist.json")
    weights = Weights(
        "mine", "stardist", weights.path, weights.sha256, {**weights.card, "thresholds": wrong}
    )
    with pytest.raises(WeightsError, match=r"'mine' has thresholds that are none") as caught:
        StarDist().load(weights)
    assert "`thresholds`" in caught.value.hint


def test_colour_weights_want_colour(package, tmp_path):
    engine = loaded(convert_stardist(package / "he", tmp_path))
    assert engine.axes == {"YXS"}
    with pytest.raises(InputError, match="no colour image"):
        engine.predict(np.zeros((8, 8, 4), np.uint8), Predict())
    raw = engine.predict(np.random.default_rng(0).random((40, 30, 3)), Predict(scale=1.5))
    assert engine.decode(raw, Decode(prob=0.01)).shape == (40, 30)


# The shipped network.


def f1(engine: StarDist, kind: str, threshold: float, scale: float) -> float:
    """Pooled F1 on the bundled images of small or large nuclei."""
    hits = np.zeros(3)
    for path in sorted((EXAMPLES / "images").glob(f"{kind}_*.png")):
        labels = engine.decode(
            engine.predict(read_image(path).data, Predict(scale=scale)), Decode()
        )
        truth = read_labels(EXAMPLES / "labels" / f"{path.stem}.tif")
        hits += match(truth, labels, (threshold,))[["tp", "fp", "fn"]].to_numpy()[0]
    return float(2 * hits[0] / (2 * hits[0] + hits[1] + hits[2]))


def test_the_shipped_network_finds_nuclei_it_has_not_seen(shipped):
    assert f1(shipped, "large", 0.5, 1.0) >= 0.85
    assert f1(shipped, "large", 0.7, 1.0) >= 0.75


def test_scale_two_helps_small_nuclei_and_harms_large_ones(shipped):
    assert f1(shipped, "small", 0.5, 2.0) > f1(shipped, "small", 0.5, 1.0)
    assert f1(shipped, "large", 0.5, 2.0) < f1(shipped, "large", 0.5, 1.0)


def test_the_card_lists_every_score():
    card = read_json(SHIPPED / "nuclei-stardist.json")
    assert (SHIPPED / card["file"]).stat().st_size <= 5_000_000
    assert card["val"], "scored once on val"
    assert card["val"][-1]["weights"] == card["sha256"]
    assert set(card["val"][-1]["strata"]) == {
        f"{size}, scale {scale}" for size in ("small", "large") for scale in (1, 2)
    }
