"""Weights of CellProfiler's U-Net: files of Keras and torch become ONNX that says the same.

Keras writes its files and runs its networks in a process of its own: TensorFlow does not share
one with torch.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.unet import Decode, Predict, UNet  # noqa: E402
from opsef_bridge.engines.unet_files import convert_unet  # noqa: E402
from opsef_bridge.errors import WeightsError  # noqa: E402
from opsef_bridge.files import file_sha256, read_json  # noqa: E402

PARAMETERS = 7_793_155
"""Of the network as it was published, by the count of its Keras model."""

KERAS = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from pathlib import Path
import h5py, keras, numpy as np
from keras import layers
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

out, full = Path(sys.argv[1]), int(sys.argv[2])
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)

def build(width, **norm):
    def block(x, size):
        for _ in range(2):
            x = layers.Conv2D(size, 3, activation="relu", padding="same")(x)
            x = layers.BatchNormalization(momentum=0.9, **norm)(x)
        return x
    start = x = layers.Input((None, None, 1))
    skips = []
    for level in range(4):
        x = block(layers.MaxPooling2D()(x) if level else x, width * 2**level)
        skips.append(x)
    skips.pop()
    for level in (2, 1, 0):
        x = layers.UpSampling2D()(x)
        x = layers.Concatenate(axis=3)([x, skips.pop()])
        x = block(x, width * 2**level)
    x = layers.Activation("softmax")(layers.Conv2D(3, 1, activation="relu", padding="same")(x))
    model = keras.Model(start, x)
    for layer in model.layers:
        values = layer.get_weights()
        if len(values) == 4:  # gamma and beta, mean and variance
            values = [rng.normal(1, 0.2, v.shape) for v in values[:1]] + [
                rng.normal(0, 0.3, values[1].shape), rng.normal(0.3, 0.2, values[2].shape),
                rng.uniform(0.2, 1.5, values[3].shape)]
        elif values:
            values[1] = rng.normal(0.05, 0.1, values[1].shape)
        layer.set_weights(values)
    return model

image = np.random.default_rng(1).random((2, 48, 64, 1)).astype("float32")
np.save(out / "image.npy", image.transpose(0, 3, 1, 2))

def keep(name, model):
    found = model(image, training=False).numpy()
    np.savez(out / f"{name}.npz", maps=found.transpose(0, 3, 1, 2), count=model.count_params())

def alone(name, model):
    with h5py.File(out / f"{name}.h5", "w") as file:
        save_weights_to_hdf5_group(file, model)

model = build(full)
alone("full", model)
keep("full", model)
build(4)  # so that the names of the layers are not those of a fresh Keras
model = build(4)
alone("alone", model)
model.save_weights(out / "three.weights.h5")
keep("small", model)
model = build(4, epsilon=0.05)
model.save(out / "whole.h5")
keep("whole", model)
elu = keras.Sequential([layers.Input((8, 8, 1)), layers.Conv2D(3, 3, activation="elu")])
elu.save(out / "elu.h5")
"""


@pytest.fixture(scope="module")
def keras(tmp_path_factory) -> Path:
    """A folder of what Keras wrote: weights, and what its networks say."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    folder = tmp_path_factory.mktemp("keras")
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KERAS, str(folder), "64"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Block(nn.Sequential):
    def __init__(self, takes: int, size: int) -> None:
        layers: list[nn.Module] = []
        for channels in (takes, size):
            layers += [nn.Conv2d(channels, size, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(size)]
        super().__init__(*layers)


class Network(nn.Module):
    """CellProfiler's U-Net in torch."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(4)]
        self.down = nn.ModuleList(map(Block, [1, *sizes[:3]], sizes))
        self.up = nn.ModuleList(Block(sizes[i] + sizes[i + 1], sizes[i]) for i in (2, 1, 0))
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x):
        skips = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[2::-1], strict=True):
            x = block(torch.cat([nn.functional.interpolate(x, scale_factor=2), skip], 1))
        return self.head(x).relu().softmax(1)


def trained(width: int = 4) -> Network:
    """A network whose normalisations have something to do."""
    torch.manual_seed(0)
    network = Network(width)
    for _ in range(3):
        network(torch.rand(2, 1, 32, 32))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def loaded(card_file: Path) -> UNet:
    card = read_json(card_file)
    path = card_file.parent / card["file"]
    assert card["sha256"] == file_sha256(path)
    engine = UNet()
    engine.load(Weights(card["name"], card["engine"], path, card["sha256"], card))
    return engine


@pytest.mark.parametrize(
    ("file", "truth"),
    [("alone.h5", "small"), ("three.weights.h5", "small"), ("whole.h5", "whole")],
)
def test_what_keras_says_is_what_onnx_says(keras, tmp_path, file, truth):
    engine = loaded(convert_unet(keras / file, tmp_path))
    expected = np.load(keras / f"{truth}.npz")["maps"]
    assert expected.std() > 0.03, "the network says something"
    np.testing.assert_allclose(
        engine._network.run(np.load(keras / "image.npy")), expected, rtol=0, atol=1e-5
    )


def test_the_network_as_published_converts_and_predicts(keras, tmp_path):
    card_file = convert_unet(keras / "full.h5", tmp_path, name="cp")
    card, truth = read_json(card_file), np.load(keras / "full.npz")
    assert truth["count"] == card["parameters"] == PARAMETERS
    assert card["input"]["percentiles"] == [0, 100]
    assert card["input"]["clip"] == [0, 1]
    assert (card["name"], card["source"]["file"]) == ("cp", "full.h5")
    engine = loaded(card_file)
    images = np.load(keras / "image.npy")
    np.testing.assert_allclose(engine._network.run(images), truth["maps"], rtol=0, atol=1e-5)
    # Through the engine: any units, a side that is no multiple of 8, and both ways to decode.
    plane = (images[0, 0] * 40_000 + 300).astype(np.uint16)
    raw = engine.predict(plane[:, :61], Predict())
    seen = plane[:, :61].astype(np.float32)
    seen = np.pad((seen - seen.min()) / np.ptp(seen), [(0, 0), (0, 3)], mode="reflect")
    expected = engine._network.run(seen[None, None])[0, 1, :, :61]
    np.testing.assert_allclose(raw.maps["interior"].astype(np.float32), expected, atol=1e-3)
    for how in (Decode(), Decode(legacy=True)):
        assert engine.decode(raw, how).shape == (48, 61)


def test_what_torch_says_is_what_onnx_says(tmp_path):
    network, batch = trained(), torch.rand(2, 1, 48, 40)
    with torch.inference_mode():
        expected = network(batch).numpy()
    assert expected.std() > 0.05
    forms = {
        "plain": network.state_dict(),
        "parallel": {f"module.{key}": value for key, value in network.state_dict().items()},
        "nested": {"state_dict": network.state_dict()},
        "half": {key: value.half() for key, value in network.state_dict().items()},
    }
    for name, state in forms.items():
        torch.save(state, tmp_path / f"{name}.pt")
        engine = loaded(convert_unet(tmp_path / f"{name}.pt", tmp_path))
        atol = 2e-2 if name == "half" else 1e-5
        np.testing.assert_allclose(
            engine._network.run(batch.numpy()), expected, rtol=0, atol=atol, err_msg=name
        )


def test_the_margin_on_the_card_is_as_wide_as_the_network_sees(tmp_path):
    # All ones: a single bright pixel changes whatever the network lets it reach.
    network = Network()
    for name, tensor in network.state_dict().items():
        tensor.fill_(0 if name.endswith(("bias", "mean")) else 1)
    network.head.weight.data[1:] = 0
    torch.save(network.state_dict(), tmp_path / "ones.pt")
    engine = loaded(convert_unet(tmp_path / "ones.pt", tmp_path))
    reach = 0
    for place in range(80, 88):  # it depends on where the poolings cut
        image = np.zeros((1, 1, 168, 168), np.float32)
        image[0, 0, place, place] = 1
        rows = np.nonzero(engine._network.run(image)[0, 0] > 0.4)[0]
        reach = max(reach, place - rows.min(), rows.max() - place)
    margin = engine._network.card.margin
    assert margin - 8 < reach <= margin
    image = np.random.default_rng(0).random((232, 205)).astype(np.float32)
    torch.save(trained().state_dict(), tmp_path / "net.pt")
    network = loaded(convert_unet(tmp_path / "net.pt", tmp_path))._network
    np.testing.assert_allclose(network.draw(image, 64), network.draw(image), atol=2e-6)


def change(key: str, how) -> dict[str, torch.Tensor]:
    state = trained().state_dict()
    state[key] = how(state[key])
    return state


def without(prefix: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in trained().state_dict().items() if not k.startswith(prefix)}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (without("head"), "14 convolutions"),
        (without("up.2.5"), "13 batch"),
        (without("down.0.0.bias"), "down.0.0.weight"),
        (change("down.0.0.weight", lambda w: w.repeat(1, 3, 1, 1)), r"\(4, 3, 3, 3\)"),
        (change("down.1.0.weight", lambda w: w[:, :, :1, :1]), "convolution 3"),
        (change("head.weight", lambda w: w[:2]), r"\(3, 4, 1, 1\)"),
        (change("up.0.2.bias", lambda w: w[:5]), "convolution 9"),
        (change("up.1.3.weight", lambda w: w * torch.nan), "NaN"),
        (nn.Linear(3, 3).state_dict(), "neither a convolution"),
        ({"epoch": 3}, "more than a state dict"),
        ([1, 2], "more than a state dict"),
    ],
    ids=["head", "norm", "bias", "colour", "kernel", "classes", "beside", "nan", "linear", "number",
         "list"],
)  # fmt: skip
def test_torch_files_of_something_else_are_refused(tmp_path, state, says):
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=says) as caught:
        convert_unet(tmp_path / "other.pt", tmp_path / "out")
    assert "other.pt" in str(caught.value) and caught.value.hint
    assert not list((tmp_path / "out").glob("*"))


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trapped"),))


def test_a_pickle_in_a_file_of_torch_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(WeightsError, match="more than a state dict"):
        convert_unet(tmp_path / "trap.pt", tmp_path)
    assert not (tmp_path / "trapped").exists()


def write_h5(path: Path, layers: dict[str, list[np.ndarray]]) -> None:
    """Weights as Keras 2 lays them out."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            names = [f"{name}/array{number}:0" for number in range(len(arrays))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for array_name, array in zip(names, arrays, strict=True):
                group[array_name] = array


def test_files_of_keras_of_another_network_are_refused(tmp_path):
    kernel, bias = np.zeros((3, 3, 1, 4)), np.zeros(4)
    for layers, says in [
        ({}, "0 convolutions"),
        ({"conv": [kernel, bias]}, "1 convolutions"),
        ({"conv": [kernel]}, "not part"),
        ({"dense": [np.zeros((3, 4)), bias]}, "not part"),
    ]:
        write_h5(tmp_path / "other.h5", layers)
        with pytest.raises(WeightsError, match=says) as caught:
            convert_unet(tmp_path / "other.h5", tmp_path)
        assert "other.h5" in str(caught.value) and caught.value.hint


def test_a_whole_model_of_another_activation_is_refused(keras, tmp_path):
    with pytest.raises(WeightsError, match="elu"):
        convert_unet(keras / "elu.h5", tmp_path)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no file"):
        convert_unet(tmp_path / "gone.h5", tmp_path)
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(WeightsError, match="neither"):
        convert_unet(tmp_path / "text.h5", tmp_path)
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    with pytest.raises(WeightsError, match="Keras has not written"):
        convert_unet(tmp_path / "bare.h5", tmp_path)
    write_h5(tmp_path / "half.h5", {"conv": [np.zeros((3, 3, 1, 4)), np.zeros(4)]})
    whole = (tmp_path / "half.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"half\.h5"):
        convert_unet(tmp_path / "half.h5", tmp_path)
