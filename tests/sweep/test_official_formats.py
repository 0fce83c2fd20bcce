"""Files of the official formats, of full size, with random weights: add, verify, sweep.

The official files cannot be had here. What is made is laid out as they are: every layer, with
its name, size and number type, and the configuration beside it.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from opsef_bridge.engines import find_weights, trial, verify
from opsef_bridge.engines.store import add, convert
from opsef_bridge.files import write_json
from opsef_bridge.images import write_labels
from opsef_bridge.measure import match
from opsef_bridge.train.evaluate import evaluate

pytest.importorskip("onnx")
h5py = pytest.importorskip("h5py")

needs_cellpose = pytest.mark.skipif(
    not importlib.util.find_spec("cellpose"), reason="cellpose is not installed"
)
needs_tensorflow = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow"), reason="TensorFlow is not installed"
)

Layers = list[tuple[str, tuple[int, ...] | None]]
"""Names in the order of the data, and shapes of kernels as Keras has them; None: no weights."""


def unet_layers(config: dict[str, Any]) -> Layers:
    """The layers of StarDist's network with csbdeep's ``unet_block``."""
    base, depth = config["unet_n_filter_base"], config["unet_n_depth"]
    kernel, channels = tuple(config["unet_kernel_size"]), config["n_channel_in"]
    layers: Layers = [("input", None)]

    def convolve(name: str, filters: int) -> None:
        nonlocal channels
        layers.append((name, (*kernel, channels, filters)))
        channels = filters

    number, grid, skips = 0, list(config["grid"]), []
    while max(grid) > 1:
        for _ in range(2):
            convolve(f"conv{len(grid)}d_{(number := number + 1)}", base)
        layers.append((f"max_pooling{len(grid)}d_{number // 2}", None))
        grid = [max(1, side // 2) for side in grid]
    for level in range(depth):
        for part in range(2):
            convolve(f"down_level_{level}_no_{part}", base * 2**level)
        layers.append((f"max_{level}", None))
        skips.append(channels)
    convolve("middle_0", base * 2**depth)
    convolve("middle_2", base * 2 ** max(0, depth - 1))
    for level in reversed(range(depth)):
        layers += [(f"up_sampling2d_{depth - level}", None), (f"concatenate_{level}", None)]
        channels += skips[level]
        convolve(f"up_level_{level}_no_0", base * 2**level)
        convolve(f"up_level_{level}_no_2", base * 2 ** max(0, level - 1))
    return layers + heads(config, channels, "unet")


def resnet_layers(config: dict[str, Any]) -> Layers:
    """The layers of StarDist3D's network with csbdeep's ``resnet_block``."""
    filters, kernel = config["resnet_n_filter_base"], tuple(config["resnet_kernel_size"])
    layers: Layers = [
        ("input", None),
        ("conv3d_1", (7, 7, 7, config["n_channel_in"], filters)),
        ("conv3d_2", (3, 3, 3, filters, filters)),
    ]
    grid, number, channels = list(config["grid"]), 2, filters
    for _ in range(config["resnet_n_blocks"]):
        pools = any(side > 1 for side in grid)
        grid = [max(1, side // 2) for side in grid]
        filters *= 2 if pools else 1
        for takes in (channels, filters, filters):
            layers.append((f"conv3d_{(number := number + 1)}", (*kernel, takes, filters)))
        if pools:  # the way around the block; Keras lists it before the last of the block
            around = (f"conv3d_{(number := number + 1)}", (1, 1, 1, channels, filters))
            layers.insert(-1, around)
        layers.append((f"add_{number}", None))
        channels = filters
    return layers + heads(config, channels, "resnet")


def heads(config: dict[str, Any], channels: int, backbone: str) -> Layers:
    """The last three convolutions."""
    kernel, size = tuple(config[f"{backbone}_kernel_size"]), config[f"net_conv_after_{backbone}"]
    one = (1,) * len(kernel)
    return [
        ("features", (*kernel, channels, size)),
        ("prob", (*one, size, 1)),
        ("dist", (*one, size, config["n_rays"])),
    ]


def write_h5(file: Path, layers: Layers, *, old: bool, bias: dict[str, float]) -> int:
    """Write weights as Keras 2 does; names are bytes in old files. Return their number."""
    rng = np.random.default_rng(0)
    count = 0
    text = (lambda word: word.encode()) if old else str
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = [text(name) for name, _ in layers]
        root.attrs["backend"], root.attrs["keras_version"] = text("tensorflow"), text("2.2.4")
        for name, shape in layers:
            group = root.create_group(name)
            paths = [f"{name}/kernel:0", f"{name}/bias:0"] if shape else []
            group.attrs["weight_names"] = np.array([text(path) for path in paths], dtype="S")
            if shape:
                spread = np.sqrt(2 / np.prod(shape[:-1])) * (0.2 if name in bias else 1)
                group[paths[0]] = rng.normal(0, spread, shape).astype("f4")
                group[paths[1]] = np.full(shape[-1], bias.get(name, 0), "f4")
                count += int(np.prod(shape)) + shape[-1]
    return count


UNET = {
    "unet_n_depth": 3,
    "unet_kernel_size": [3, 3],
    "unet_n_filter_base": 32,
    "unet_pool": [2, 2],
    "net_conv_after_unet": 128,
    "unet_activation": "relu",
    "unet_last_activation": "relu",
}
NEW = {
    "n_dim": 2,
    "axes": "YXC",
    "n_channel_out": 33,
    "train_checkpoint": "weights_best.h5",
    "n_rays": 32,
    "backbone": "unet",
    "unet_n_conv_per_depth": 2,
    "unet_batch_norm": False,
    "unet_dropout": 0.0,
    "unet_prefix": "",
    "net_input_shape": [None, None, 1],
    "net_mask_shape": [None, None, 1],
    "train_shape_completion": False,
    "train_loss_weights": [1, 0.1],
    "use_gpu": False,
    **UNET,
}
FORMATS: dict[str, dict[str, Any]] = {
    # As written by the first versions: few keys, no backbone, no thresholds.
    "2D_dsb2018": {"n_dim": 2, "axes": "YXC", "n_channel_in": 1, "n_rays": 32, "grid": [1, 1],
                   **{key: UNET[key] for key in UNET if key != "unet_last_activation"}},
    "2D_versatile_fluo": {**NEW, "n_channel_in": 1, "grid": [2, 2]},
    "2D_versatile_he": {**NEW, "n_channel_in": 3, "grid": [2, 2], "n_classes": None},
    "3D_demo": {
        "n_dim": 3, "axes": "ZYXC", "n_channel_in": 1, "n_channel_out": 97, "n_rays": 96,
        "grid": [1, 2, 2], "anisotropy": [2.0, 1.0, 1.0], "backbone": "resnet",
        "rays_json": {"name": "Rays_GoldenSpiral", "kwargs": {"n": 96, "anisotropy": [2, 1, 1]}},
        "resnet_n_blocks": 4, "resnet_kernel_size": [3, 3, 3], "resnet_kernel_init": "he_normal",
        "resnet_n_filter_base": 32, "resnet_n_conv_per_block": 3, "resnet_activation": "relu",
        "resnet_batch_norm": False, "net_conv_after_resnet": 128,
        "net_input_shape": [None, None, None, 1], "net_mask_shape": [None, None, None, 1],
    },
}  # fmt: skip
FORMATS["3D_unet"] = {
    **{key: value for key, value in FORMATS["3D_demo"].items() if "resnet" not in key},
    **UNET,
    "backbone": "unet",
    "unet_n_depth": 2,
    "unet_kernel_size": [3, 3, 3],
    "unet_pool": [2, 2, 2],
}
SIZES = {
    "2D_dsb2018": 1_406_689,
    "2D_versatile_fluo": 1_425_185,
    "2D_versatile_he": 1_425_761,
    "3D_demo": 1_547_201,
    "3D_unet": 1_175_329,
}
"""Of the networks of these configurations, as the package (0.9.2) counts them itself."""


def stardist_folder(folder: Path, name: str) -> tuple[Path, int]:
    """A model folder of StarDist's own format; how many numbers its weights are."""
    config = FORMATS[name]
    folder = folder / name
    folder.mkdir(parents=True)
    layers = resnet_layers(config) if config.get("backbone") == "resnet" else unet_layers(config)
    # No candidate at the thresholds that come along, and all pixels at 0.05, about 4 px wide:
    # what random numbers give may take minutes to suppress.
    old = name == "2D_dsb2018"
    count = write_h5(folder / "weights_best.h5", layers, old=old, bias={"prob": -2, "dist": 4})
    write_json(folder / "config.json", config)
    if not old:
        write_json(folder / "thresholds.json", {"prob": 0.479071463157368, "nms": 0.3})
    return folder, count


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


@pytest.fixture
def picture(tmp_path, make_discs) -> Callable[[str], Path]:
    """Write a small image of the axes YX, YXS or ZYX."""

    def write(axes: str) -> Path:
        file = tmp_path / f"picture-{axes}.tif"
        plane = make_discs(1, (24, 32) if axes == "ZYX" else (48, 64))
        if axes == "YXS":
            tifffile.imwrite(
                file, np.stack([plane, plane // 2, 255 - plane], -1), photometric="rgb"
            )
        elif axes == "ZYX":
            volume = np.stack([plane // 4, *[plane] * 5, plane // 4])
            tifffile.imwrite(file, volume, imagej=True, metadata={"axes": "ZYX"})
        else:
            tifffile.imwrite(file, plane)
        return file

    return write


def labels_of(bench: Any, weights: Any, image: Path, **settings: Any) -> np.ndarray:
    """Sweep one image by one variant, and return its labels as the project keeps them."""
    model = {"engine": weights.engine, "weights": weights.name, **settings}
    project = bench.project({image.name: image}, models={"m": model}, sweep={"images": "all"})
    result = bench.sweep(project)
    outcomes = list(project.run().outcomes())
    assert (result.failed, len(outcomes)) == (0, 1), outcomes
    assert outcomes[0]["status"] in ("ok", "empty")
    [labels] = bench.labels(project).values()
    assert labels.max() == outcomes[0]["objects"]
    if labels.max():
        assert_scored(bench, weights, image, labels, settings)
    return labels


def assert_scored(
    bench: Any, weights: Any, image: Path, labels: np.ndarray, settings: dict[str, Any]
) -> None:
    """What a sweep has found `opsef models evaluate` finds too: it scores 1."""
    truth = bench.folder / "truth"
    write_labels(truth / image.name, labels)
    models = bench.folder / "project" / "models"
    entry = evaluate(
        weights.name, [models], bench.folder / "project" / "data", truth, settings, device="cpu"
    )
    assert {f1["value"] for f1 in entry["f1"].values()} == {1.0}
    assert (entry["images"], entry["objects"]) == (1, labels.max())


@pytest.fixture
def models(bench) -> Iterator[Path]:
    """The folder ``models`` of the bench's project."""
    (bench.folder / "project").mkdir()
    yield bench.folder / "project" / "models"


@pytest.mark.parametrize(
    ("name", "axes", "pack"),
    [
        ("2D_dsb2018", "YX", Path),
        ("2D_versatile_fluo", "YX", zipped),
        ("2D_versatile_he", "YXS", zipped),
        ("3D_demo", "ZYX", zipped),
        ("3D_unet", "ZYX", zipped),
    ],
)
def test_models_of_stardist(bench, models, picture, tmp_path, name, axes, pack):
    folder, count = stardist_folder(tmp_path / "in", name)
    [one] = add(pack(folder), models)
    weights = find_weights("stardist", name, [models])
    verify(weights)
    assert (one.note, weights.card["input"]["axes"]) == ("", axes)
    assert count == SIZES[name]
    assert weights.path.stat().st_size > 4 * count, "all of them, in single precision"
    image = picture(axes)
    labels = labels_of(bench, weights, image, prob=0.05)
    assert labels.shape == tifffile.imread(image).shape[: labels.ndim]
    assert labels.max() > 10


@pytest.mark.slow
@needs_tensorflow
@pytest.mark.parametrize("name", ["2D_versatile_fluo", "3D_demo"])
def test_models_of_stardist_run_by_tensorflow(bench, models, picture, tmp_path, name):
    """As the package runs them; and converted, with the same objects."""
    folder, _ = stardist_folder(tmp_path / "in", name)
    [kept] = add(zipped(folder), models, runtime="tensorflow")
    assert (kept.weights.path.suffix, kept.note) == (".zip", "")
    verify(find_weights("stardist", name, [models]))
    [made] = convert([name], models)
    assert (made.weights.name, made.weights.path.suffix) == (f"{name}-onnx", ".onnx")
    assert made.weights.family == kept.weights.family
    image = picture("ZYX" if name.startswith("3D") else "YX")
    variants = {
        f"m{number}": {"engine": "stardist", "weights": one.weights.name, "prob": 0.05}
        for number, one in enumerate((kept, made))
    }
    project = bench.project({image.name: image}, models=variants, sweep={"images": "all"})
    # TensorFlow does not share a process with torch: the command starts its own.
    code, out, err = bench.opsef(project, "sweep", "run", "--workers", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["ok"] == 2
    first, second = bench.labels(project).values()
    assert first.max() > 3 and abs(int(first.max()) - int(second.max())) <= 1
    found = match(first, second, (0.5,))
    assert found["tp"].iloc[0] >= first.max() - 1 and found["mean_iou"].iloc[0] >= 0.99


@needs_cellpose
def test_a_network_of_cellpose(bench, models, picture, tmp_path, monkeypatch):
    import torch
    from cellpose.resnet_torch import CPnet

    # Tried in this process, as the sweep is: the package takes 7 s to compile in each.
    given = trial.as_json
    monkeypatch.setattr(
        trial, "try_engine", lambda w: trial.Trial(**trial.segment_square(given(w)))
    )
    torch.manual_seed(0)
    network = CPnet([2, 32, 64, 128, 256], 3, sz=3)
    assert sum(value.numel() for value in network.parameters()) > 6_600_000
    state = network.state_dict()
    state["output.2.bias"][2] = 5  # every pixel belongs to an object
    for key in ("diam_mean", "diam_labels"):  # files of Cellpose 1 lack them
        state.pop(key)
    torch.save(state, tmp_path / "nucleitorch_0")
    [one] = add(tmp_path / "nucleitorch_0", models, name="nuclei")
    weights = find_weights("cellpose", "nuclei", [models])
    verify(weights)
    assert "official 'nuclei', 17 px" in one.note and weights.card["input"]["diameter"] == 17
    labels = labels_of(bench, weights, picture("YX"), diameter=17.0)
    assert labels.shape == (48, 64)


def unet_file(file: Path) -> int:
    """Weights of CellProfiler's U-Net as Keras 2 writes them; how many numbers they are."""
    rng = np.random.default_rng(0)
    layers: list[tuple[str, list[np.ndarray]]] = [("input_1", [])]
    channels = 1

    def convolve(filters: int, side: int = 3) -> None:
        nonlocal channels
        spread = np.sqrt(2 / (side**2 * channels))
        kernel = rng.normal(0, spread, (side, side, channels, filters))
        layers.append((f"conv2d_{len(layers)}", [kernel, np.full(filters, 0.05)]))
        channels = filters

    def block(filters: int) -> None:
        for _ in range(2):
            convolve(filters)
            ones, zeros = np.ones(filters), np.zeros(filters)
            layers.append((f"batch_normalization_{len(layers)}", [ones, zeros, zeros, ones]))

    for filters in (64, 128, 256, 512):
        block(filters)
        layers.append((f"max_pooling2d_{filters}", []))
    for filters in (256, 128, 64):
        channels += filters
        block(filters)
    convolve(3, side=1)
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, arrays in layers:
            group = root.create_group(name)
            kinds = ("kernel", "bias") if len(arrays) == 2 else ("gamma", "beta", "mean", "var")
            paths = [f"{name}/{kind}:0" for kind in kinds][: len(arrays)]
            group.attrs["weight_names"] = np.array([path.encode() for path in paths], dtype="S")
            for path, array in zip(paths, arrays, strict=True):
                group[path] = array.astype("f4")
    return sum(array.size for _, arrays in layers for array in arrays)


def test_the_unet_of_cellprofiler(bench, models, picture, tmp_path):
    file = tmp_path / "UNet_CP001.h5"
    assert unet_file(file) == 7_793_155
    [one] = add(file, models, engine="unet")
    weights = find_weights("unet", "UNet_CP001", [models])
    verify(weights)
    assert (one.note, weights.card["input"]["percentiles"]) == ("", [0, 100])
    labels = labels_of(bench, weights, picture("YX"), threshold=0.3, min_size=0)
    assert labels.shape == (48, 64)
