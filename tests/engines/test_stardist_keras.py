"""StarDist by TensorFlow: the labels of the package itself, and those of ONNX Runtime.

TensorFlow runs in a process of its own (`stardist_side`): it does not share one with the
rest. The engine is here, only its network is there, so the whole suite is passed by it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from csbdeep.utils import normalize
from stardist.data import test_image_nuclei_3d as nuclei_3d

from opsef_bridge.engines import stardist_files, stardist_keras
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import SHIPPED, verify
from opsef_bridge.engines.stardist import Decode, Predict, StarDist
from opsef_bridge.engines.stardist_files import convert_stardist, pack_stardist
from opsef_bridge.errors import OpsefError, WeightsError, WorkerError
from opsef_bridge.files import file_sha256, read_json, write_json
from opsef_bridge.images import read_image
from opsef_bridge.measure.overlap import best_iou, iou_pairs
from opsef_bridge.testing.engines import EngineSuite
from opsef_bridge.workers import Worker

HERE = Path(__file__).parent
VOLUME = HERE.parent / "data" / "volume-stardist"
PICTURES = HERE.parents[1] / "examples" / "data" / "images"
THRESHOLDS = {"grey": (0.5, 0.3), "colour": (0.5, 0.3), "volume": (0.7, 0.2)}


def weights_of(card_file: Path) -> Weights:
    card = read_json(card_file)
    weights = Weights(card["name"], "stardist", card_file.parent / card["file"], "", card)
    weights = Weights(weights.name, "stardist", weights.path, card["sha256"], card)
    verify(weights)
    return weights


class Side:
    """The process with TensorFlow."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker, self.folder, self.count = worker, folder, 0

    def call(self, function: str, **arguments: Any) -> Any:
        return self.worker.call(f"stardist_side:{function}", arguments)

    def file(self, suffix: str) -> str:
        self.count += 1
        return str(self.folder / f"{self.count}{suffix}")

    def saved(self, array: np.ndarray) -> str:
        name = self.file(".npy")
        np.save(name, array)
        return name

    def open_network(self, weights: Weights, device: str = "cpu") -> Any:
        """As `stardist_keras.open_network`, over there."""
        path = str(weights.path)
        described = self.call("describe", path=path, device=device)

        def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            given, out = self.saved(batch), self.file(".npz")
            self.call("run_network", path=path, batch=given, out=out)
            with np.load(out) as found:
                maps = found["prob"], found["dist"]
            os.unlink(given)
            os.unlink(out)
            return maps

        return run, described

    def package_labels(self, model: Path, image: np.ndarray, prob: float, nms: float) -> np.ndarray:
        """What `predict_instances` finds, the image normalised as the package does it."""
        given, out = self.saved(normalize(image, 1, 99.8)), self.file(".npy")
        self.call("package_labels", model=str(model), image=given, prob=prob, nms=nms, out=out)
        return np.load(out)


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow")
    with Worker(environment={"PYTHONPATH": str(HERE)}) as worker:
        yield Side(worker, tmp_path_factory.mktemp("side"))


@pytest.fixture(scope="module")
def models(side, tmp_path_factory) -> Path:
    """Model folders of the package: for grey and colour images, and for volumes."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(SHIPPED / "nuclei-stardist.onnx")
    arrays = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name != "enlarge"]
    arrays = [a.transpose(2, 3, 1, 0) if a.ndim == 4 else a for a in arrays]
    folder = tmp_path_factory.mktemp("models")
    np.savez(folder / "shipped.npz", **{f"w{i}": array for i, array in enumerate(arrays)})
    side.call(
        "make_models", folder=str(folder), shipped=str(folder / "shipped.npz"), volume=str(VOLUME)
    )
    return folder


@pytest.fixture(scope="module")
def by_keras(side, models, tmp_path_factory) -> Callable[[str], StarDist]:
    """Return the engine with one of the models, its network over there."""

    def load(name: str, **told: Any) -> StarDist:
        weights = weights_of(pack_stardist(models / name, tmp_path_factory.mktemp("packed")))
        weights.card["input"] |= told
        engine = StarDist()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stardist_keras, "open_network", side.open_network)
            engine.load(weights)
        return engine

    return load


@pytest.mark.slow  # `test_stardist` passes it with the other runtime
class TestPlanes(EngineSuite):
    @pytest.fixture
    def engine(self, clipped):
        return clipped

    @pytest.fixture
    def picture(self):
        """The suite's, mirrored: fewer nuclei reach over the middle, where it is cut."""
        return read_image(PICTURES / "small_fadeb0ab0928.png").data[:, ::-1]


@pytest.fixture(scope="module")
def clipped(by_keras):
    """The engine with what the card of the shipped weights says of burnt-out pixels."""
    return by_keras("grey", clip=[-0.2, 4.0])


# Both routes and the package agree.


def mosaic() -> np.ndarray:
    """More than a thousand nuclei: small and large, dim and bright."""
    small, large, even = (
        read_image(PICTURES / name).data.astype(np.float32)
        for name in ("small_fadeb0ab0928.png", "large_1b518cd2ea84.png", "u2os_F12_s9.tif")
    )
    planes = [np.clip(p / np.percentile(p, 99.5) * 180, 0, 255).astype(np.uint8)
              for p in (small, large, even)]  # fmt: skip
    small, large, even = (np.tile(p, (4, 3))[:1020, :768] for p in planes)
    return np.hstack([large, small, even[::-1], small[:, ::-1]])


def picture_for(name: str) -> np.ndarray:
    if name == "volume":
        return nuclei_3d()
    grey = mosaic()
    if name == "grey":
        return grey
    light = np.linspace(0.6, 1, 3)  # colours that differ
    return np.round(grey[:700, :900, None] * light).astype(np.uint8)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_both_routes_give_the_labels_of_the_package(name, side, models, by_keras, tmp_path):
    image, (prob, nms) = picture_for(name), THRESHOLDS[name]
    expected = side.package_labels(models / name, image, prob, nms)
    count = len(np.unique(expected)) - 1
    assert count >= {"grey": 1000, "colour": 100, "volume": 30}[name]
    onnx = StarDist()
    onnx.load(weights_of(convert_stardist(models / name, tmp_path)))
    decode = Decode(prob=prob, nms=nms)
    keras = by_keras(name)
    assert keras.axes == onnx.axes
    labels = keras.decode(keras.predict(image, Predict(tile=4096)), decode)
    np.testing.assert_array_equal(labels, renumbered(expected))
    labels = onnx.decode(onnx.predict(image, Predict(tile=512)), decode)
    assert abs(labels.max() - count) <= 0.001 * count
    assert best_iou(iou_pairs(expected, labels))[0].min() >= 0.99


def renumbered(labels: np.ndarray) -> np.ndarray:
    """Labels without gaps: the package leaves one where an object was painted over."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def test_tiles_give_the_maps_of_the_whole(by_keras):
    engine, image, decode = by_keras("volume"), nuclei_3d(), Decode(prob=0.6)
    whole, tiled = (engine.predict(image, Predict(tile=tile)) for tile in (1024, 180))
    prob = [sum(r.maps[n].astype("f4") for n in ("prob", "prob_rest")) for r in (whole, tiled)]
    np.testing.assert_allclose(*prob, atol=1e-5)
    labels, others = (engine.decode(raw, decode) for raw in (whole, tiled))
    assert labels.max() == others.max() >= 30
    assert best_iou(iou_pairs(labels, others))[0].min() >= 0.99


def test_an_old_zip_is_run_as_a_new_folder(models, by_keras, side, tmp_path):
    """Fewer keys in config.json, and names in the h5 file as Keras 2 wrote them."""
    h5py = pytest.importorskip("h5py")
    config = read_json(models / "grey" / "config.json")
    kept = ("n_dim", "axes", "n_channel_in", "n_rays", "grid", "unet_n_depth", "unet_pool",
            "unet_kernel_size", "unet_n_filter_base", "net_conv_after_unet")  # fmt: skip
    folder = tmp_path / "2D_old"
    write_json(folder / "config.json", {key: config[key] for key in kept})
    with (
        h5py.File(models / "grey" / "weights_best.h5") as new,
        h5py.File(folder / "weights_last.h5", "w") as old,
    ):
        old.attrs["layer_names"] = [str(name).encode() for name in new.attrs["layer_names"]]
        for layer in new.attrs["layer_names"]:
            group, given = old.create_group(layer), list(new[layer].attrs["weight_names"])
            paths = [f"{layer}/{kind}:0" for kind in ("kernel", "bias")][: len(given)]
            group.attrs["weight_names"] = [path.encode() for path in paths]
            for name, path in zip(given, paths, strict=True):
                group[path] = new[layer][name][()]
    file = Path(shutil.make_archive(str(tmp_path / "2D_old"), "zip", tmp_path, "2D_old"))
    weights = weights_of(pack_stardist(file, tmp_path / "out"))
    network, _ = side.open_network(weights)
    batch = np.random.default_rng(0).random((1, 1, 48, 64), np.float32)
    for found, expected in zip(network(batch), by_keras("grey")._network(batch), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def others(side, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    side.call("make_others", folder=str(folder))
    return folder


@pytest.mark.parametrize("name", ["classes", "deep", "bare", "residual"])
def test_every_network_that_the_package_builds_is_packed_and_run(others, side, tmp_path, name):
    weights = weights_of(pack_stardist(others / name, tmp_path))
    network, described = side.open_network(weights)
    assert described["axes"] == {"classes": "YXS", "residual": "ZYX"}.get(name, "YX")
    with np.load(others / f"{name}.npz") as expected:
        assert expected["dist"].std() > 1e-3, "it says something"
        found = network(np.moveaxis(expected["batch"], -1, 1))
        for array, what in zip(found, ("prob", "dist"), strict=True):
            np.testing.assert_array_equal(np.moveaxis(array, 1, -1), expected[what])


def test_it_takes_one_thread_and_no_gpu(models, side, tmp_path):
    card_file = pack_stardist(models / "volume", tmp_path)
    path = str(tmp_path / "volume.zip")
    assert side.call("settings", path=path) == {"threads": [1, 1], "gpus": 0, "tf32": False}
    told = read_json(card_file)["thresholds"]
    assert side.call("thresholds", path=path) == [told["prob"], told["nms"]]
    for device in ("cuda", "tpu"):
        with pytest.raises(WorkerError, match=f"TensorFlow cannot use the device '{device}'"):
            side.call("describe", path=path, device=device)


# Packing.


def test_a_pack_is_the_same_every_time_and_its_twin_speaks_with_one_voice(models, tmp_path):
    first = pack_stardist(models / "volume", tmp_path / "one", name="mine")
    again = pack_stardist(tmp_path / "one" / "mine.zip", tmp_path / "two", name="other")
    card, other = read_json(first), read_json(again)
    assert (tmp_path / "one" / "mine.zip").read_bytes() == (
        tmp_path / "two" / "other.zip"
    ).read_bytes()
    assert (card["runtime"], card["engine"], card["file"]) == ("tensorflow", "stardist", "mine.zip")
    assert card["input"]["axes"] == "ZYX" and card["input"]["anisotropy"] == [2.0, 1.0, 1.0]
    assert card["thresholds"] == read_json(VOLUME / "thresholds.json")
    with zipfile.ZipFile(tmp_path / "one" / "mine.zip") as archive:
        assert archive.namelist() == ["config.json", "thresholds.json", "weights_best.h5"]
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
    twin = read_json(convert_stardist(tmp_path / "one" / "mine.zip", tmp_path, name="twin"))
    h5 = file_sha256(VOLUME / "weights_best.h5")
    assert twin["family"] == card["family"] == other["family"] == f"stardist:{h5[:12]}"
    assert twin["input"] == card["input"] and twin["sha256"] != card["sha256"]
    assert read_json(convert_stardist(models / "grey", tmp_path))["family"] != card["family"]


def test_without_tensorflow_the_error_says_what_to_install(tmp_path, monkeypatch):
    weights = weights_of(pack_stardist(VOLUME, tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(OpsefError, match=r"opsef_bridge\[tensorflow\]"):
        StarDist().load(weights)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rays": 16}, "it says 16 rays, the file has 32"),
        ({"grid": [2, 2, 2]}, r"it says \[2, 2, 2\] grid"),
        ({"anisotropy": [1.0, 1.0, 1.0]}, "anisotropy"),
        ({"axes": "YX"}, "do not fit the axes YX"),
    ],
)
def test_a_card_of_other_weights_is_refused(side, tmp_path, monkeypatch, change, words):
    weights = weights_of(pack_stardist(VOLUME, tmp_path))
    card = {**weights.card, "input": {**weights.card["input"], **change}}
    monkeypatch.setattr(stardist_keras, "open_network", side.open_network)
    with pytest.raises(WeightsError, match=words):
        StarDist().load(Weights("mine", "stardist", weights.path, "", card))


# Files that do harm, or none of StarDist's. Nothing of them is built, or kept.

BOTH = pytest.mark.parametrize("make", [pack_stardist, convert_stardist])


def copied(tmp_path: Path, config: dict[str, Any] | None = None) -> Path:
    """A copy of the model of the tests, with changes to its config.json."""
    folder = Path(shutil.copytree(VOLUME, tmp_path / "model"))
    if config:
        write_json(folder / "config.json", read_json(folder / "config.json") | config)
    return folder


def refused(make: Callable[..., Path], source: Path, tmp_path: Path, words: str) -> None:
    with pytest.raises(WeightsError, match=words) as caught:
        make(source, tmp_path / "out")
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


@BOTH
@pytest.mark.parametrize(
    "config",
    [
        {"n_rays": 10**9},
        {"n_rays": -1},
        {"n_rays": "32"},
        {"n_rays": True},
        {"n_rays": [32] * 9},
        {"unet_n_depth": 10**6},
        {"unet_n_filter_base": 10**7},
        {"unet_n_conv_per_depth": 10**6},
        {"unet_pool": [10**9] * 3},
        {"unet_pool": [8, 8, 8], "unet_n_depth": 5},
        {"unet_kernel_size": [3, 3]},
        {"unet_kernel_size": [10**4] * 3},
        {"unet_expansion": 1e300},
        {"unet_activation": "os.system"},
        {"unet_last_activation": "softplus"},
        {"unet_batch_norm": "yes"},
        {"net_conv_after_unet": 10**9},
        {"grid": [0, 2, 2]},
        {"grid": [1, 2, 1024]},
        {"backbone": "__import__('os')"},
        {"n_classes": 10**9},
        {"n_channel_in": 3},
        {"rays_json": {"name": "__import__('os').system", "kwargs": {"command": "true"}}},
        {"rays_json": {"name": "Rays_Explicit", "kwargs": {"vertices0": [], "faces0": []}}},
        {"rays_json": {"name": "Rays_GoldenSpiral", "kwargs": {"n": 96}}},
        {"rays_json": {"name": "Rays_GoldenSpiral", "kwargs": {"anisotropy": [1e-9, 1, 1]}}},
        {"rays_json": ["Rays_GoldenSpiral"]},
        {"axes": "TZYX"},
    ],
    ids=lambda config: "-".join(str(value)[:24] for value in config.items()),
)
def test_absurd_configurations_are_refused(make, config, tmp_path):
    refused(make, copied(tmp_path, config), tmp_path, r"config\.json|the network (has|takes)")


@BOTH
@pytest.mark.parametrize("grid", [[1, 3, 2], [4, 4, 4]])
def test_a_grid_that_the_weights_do_not_have_is_refused(make, grid, tmp_path):
    refused(make, copied(tmp_path, {"grid": grid}), tmp_path, "network")


@pytest.mark.parametrize(
    "config",
    [
        {"unet_n_filter_base": 4096},
        {"unet_n_conv_per_depth": 16},
        {"unet_kernel_size": [31, 31, 31]},
        {"unet_expansion": 8},
        {"net_conv_after_unet": 4096},
        {"n_rays": 1024, "rays_json": None},
        {"backbone": "resnet"},
    ],
)
def test_a_network_larger_than_its_weights_is_not_built(config, tmp_path):
    refused(pack_stardist, copied(tmp_path, config), tmp_path, "do not fit the network")


@BOTH
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "cannot be read"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"axes": NaN}', "not StarDist's"),
    ],
)
def test_configurations_that_are_none_are_refused(make, text, words, tmp_path):
    folder = copied(tmp_path)
    (folder / "config.json").write_text(text)
    refused(make, folder, tmp_path, words)


@BOTH
@pytest.mark.parametrize("prob", [7, -1, "NaN", "much", [0.5]])
def test_thresholds_that_are_none_are_refused(make, prob, tmp_path):
    folder = copied(tmp_path)
    write_json(folder / "thresholds.json", {"prob": prob, "nms": 0.3})
    refused(make, folder, tmp_path, "thresholds")


@BOTH
def test_missing_and_linked_files_are_refused(make, tmp_path, monkeypatch):
    folder = copied(tmp_path)
    h5 = (folder / "weights_best.h5").rename(tmp_path / "elsewhere.h5")
    refused(make, folder, tmp_path, r"no config\.json with weights_best\.h5")
    (folder / "weights_best.h5").symlink_to(h5)
    refused(make, folder, tmp_path, "a link")
    (folder / "weights_best.h5").unlink()
    os.mkfifo(folder / "weights_best.h5")
    refused(make, folder, tmp_path, "missing or a link")
    (folder / "weights_best.h5").unlink()
    shutil.copy(h5, folder / "weights_best.h5")
    monkeypatch.setattr(stardist_files, "LARGEST", 1000)
    refused(make, folder, tmp_path, "more than 1000")


def zip_of(path: Path, members: dict[str, bytes], **more: Any) -> Path:
    with zipfile.ZipFile(path, "w", **more) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def members() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in VOLUME.iterdir()}


@BOTH
@pytest.mark.parametrize("prefix", ["../", "/tmp/", "a/../../", "..\\"])
def test_names_that_lead_out_are_refused(make, prefix, tmp_path):
    file = zip_of(tmp_path / "evil.zip", {f"{prefix}{n}": data for n, data in members().items()})
    refused(make, file, tmp_path, "leads out of its folder")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


@BOTH
def test_bombs_links_and_broken_zips_are_refused(make, tmp_path):
    bomb = {**members(), "weights_best.h5": bytes(2**26)}
    file = zip_of(tmp_path / "bomb.zip", bomb, compression=zipfile.ZIP_DEFLATED)
    refused(make, file, tmp_path, "times as many")
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr("config.json", members()["config.json"])
        info = zipfile.ZipInfo("weights_best.h5")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, str(VOLUME / "weights_best.h5"))
    refused(make, tmp_path / "link.zip", tmp_path, "a link")
    whole = zip_of(tmp_path / "whole.zip", members()).read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    refused(make, tmp_path / "half.zip", tmp_path, "cannot be unpacked")
    (tmp_path / "flipped.zip").write_bytes(whole.replace(b"HDF", b"HDX"))
    refused(make, tmp_path / "flipped.zip", tmp_path, "cannot be unpacked")
    refused(make, zip_of(tmp_path / "other.zip", {"a.txt": b""}), tmp_path, "no such files")
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        spoilt = bytearray(zip_of(tmp_path / "z.zip", members(), compression=kind).read_bytes())
        start = spoilt.find(b"weights_best.h5") + 1000
        spoilt[start : start + 200] = bytes(200)
        (tmp_path / "spoilt.zip").write_bytes(spoilt)
        refused(make, tmp_path / "spoilt.zip", tmp_path, "cannot be unpacked")


def spoil_link(file: Any, h5py: Any, folder: Path) -> None:
    del file["prob"]
    file["prob"] = h5py.ExternalLink(str(folder / "secret.h5"), "/prob")


def spoil_soft_link(file: Any, h5py: Any, folder: Path) -> None:
    file["more"] = h5py.SoftLink("/prob")


def spoil_virtual(file: Any, h5py: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "x", (4,))
    file.create_virtual_dataset("more", layout)


def spoil_external(file: Any, h5py: Any, folder: Path) -> None:
    file.create_dataset("more", (4,), "f4", external=[(str(folder / "raw"), 0, 16)])


def spoil_size(file: Any, h5py: Any, folder: Path) -> None:
    file.create_dataset("more", (10**12,), "f4", chunks=(10**6,), compression="gzip")


def spoil_names(file: Any, h5py: Any, folder: Path) -> None:
    file.attrs["layer_names"] = [b"nowhere"]


def spoil_shape(file: Any, h5py: Any, folder: Path) -> None:
    names = [str(n) for n in file["prob"].attrs["weight_names"]]
    del file["prob"][names[0]]
    file["prob"][names[0]] = np.zeros((2, 1, 1, 32, 1), "f4")


def spoiled(tmp_path: Path, spoil: Callable[..., None]) -> Path:
    h5py = pytest.importorskip("h5py")
    folder = copied(tmp_path)
    with h5py.File(folder / "weights_best.h5", "a") as file:
        spoil(file, h5py, tmp_path)
    return folder


@BOTH
@pytest.mark.parametrize(
    "spoil",
    [spoil_link, spoil_soft_link, spoil_virtual, spoil_external, spoil_size, spoil_names],
    ids=lambda spoil: spoil.__name__,
)
def test_h5_files_that_reach_out_or_blow_up_are_refused(make, spoil, tmp_path):
    refused(make, spoiled(tmp_path, spoil), tmp_path, "cannot be read as weights")


def test_other_kernels_than_the_package_builds_are_refused(tmp_path):
    refused(pack_stardist, spoiled(tmp_path, spoil_shape), tmp_path, "do not fit the network")


@BOTH
@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_files_that_are_no_h5_are_refused(make, data, tmp_path):
    folder = copied(tmp_path)
    (folder / "weights_best.h5").write_bytes(data)
    refused(make, folder, tmp_path, "cannot be read as weights of Keras")


def test_weights_of_another_shape_do_not_load(side, tmp_path):
    """The numbers of filters fit, the way they are connected does not: Keras refuses."""
    h5py = pytest.importorskip("h5py")
    folder = copied(tmp_path)
    with h5py.File(folder / "weights_best.h5", "a") as file:
        layers = [n for n in file.attrs["layer_names"] if len(file[n].attrs["weight_names"])]
        names = [str(n) for n in file[layers[2]].attrs["weight_names"]]
        kernel = file[layers[2]][names[0]][()]
        del file[layers[2]][names[0]]
        file[layers[2]][names[0]] = np.concatenate([kernel, kernel], axis=-2)
    card_file = pack_stardist(folder, tmp_path / "packed")
    with pytest.raises(WeightsError, match="does not fit the network"):
        side.call("describe", path=str(weights_of(card_file).path), device="cpu")


def test_the_model_of_the_tests_says_what_it_is():
    about = json.loads((VOLUME / "about.json").read_text())
    assert "tests only" in about["use"] and "BSD-3-Clause" in about["data"]
    assert sum(path.stat().st_size for path in VOLUME.iterdir()) < 1_000_000
