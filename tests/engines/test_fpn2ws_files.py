"""Two networks of one map each become one that says what both say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.fpn2ws import FPN2WS, Decode, Predict  # noqa: E402
from opsef_bridge.engines.fpn2ws_files import join_networks  # noqa: E402
from opsef_bridge.errors import WeightsError  # noqa: E402
from opsef_bridge.files import file_sha256, read_json  # noqa: E402


def network(
    path: Path,
    channels: int,
    seed: int,
    *,
    opset: int = 17,
    maps: int = 1,
    sides: tuple[str | int, str | int] = ("h", "w"),
    listed: bool = False,
) -> Path:
    """Two convolutions with a pooling between; the names of all such files are alike."""
    rng = np.random.default_rng(seed)
    shapes = {"k1": (4, channels, 3, 3), "k2": (maps, 4, 3, 3), "scales": (4,)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["scales"] = np.array([1, 1, 2, 2], np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "k1"], ["a"], pads=[1] * 4),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["b", "", "scales"], ["c"], mode="nearest"),
        helper.make_node("Conv", ["c", "k2"], ["d"], pads=[1] * 4),
        helper.make_node("Sigmoid", ["d"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", size, *sides])
        for name, size in (("input", channels), ("output", maps))
    ]
    inputs = ends[:1]
    if listed:  # files of IR version 3 list their weights among the inputs
        inputs += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
            for name, array in arrays.items()
        ]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", inputs, ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def run(path: Path, batch: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


@pytest.mark.parametrize(("first", "second"), [(17, 17), (13, 17), (13, 18)])
def test_the_joined_network_says_what_both_say(tmp_path, first, second):
    distance = network(tmp_path / "distance.onnx", 3, 0, opset=first)
    border = network(tmp_path / "border.onnx", 1, 1, opset=second, listed=True)
    card_file = join_networks(
        distance, border, tmp_path / "out", name="both", percentiles=(0, 100), clip=(0, 1)
    )
    card = read_json(card_file)
    assert card["sha256"] == file_sha256(tmp_path / "out" / "both.onnx")
    assert card["output"] == ["distance", "border"]
    assert card["source"]["border"] == {"file": "border.onnx", "sha256": file_sha256(border)}
    weights = Weights("both", "fpn2ws", card_file.with_suffix(".onnx"), card["sha256"], card)
    engine = FPN2WS()
    engine.load(weights)
    batch = np.random.default_rng(2).random((2, 1, 48, 64)).astype(np.float32)
    found = engine._network.run(batch)
    expected = [run(distance, batch.repeat(3, axis=1)), run(border, batch)]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=0, atol=1e-6)
    assert not np.allclose(found[:, 0], found[:, 1])
    raw = engine.predict(batch[0, 0, :40, :50], Predict())
    assert engine.decode(raw, Decode()).shape == (40, 50)


def test_what_cannot_be_joined_is_refused(tmp_path):
    good = network(tmp_path / "good.onnx", 1, 0)
    (tmp_path / "text.onnx").write_text("no network")
    wrong = {
        "gone.onnx": (None, "no file"),
        "text.onnx": (None, "ONNX"),
        "two.onnx": ({"channels": 2}, "maps"),
        "maps.onnx": ({"channels": 1, "maps": 2}, "maps"),
        "fixed.onnx": ({"channels": 1, "sides": (256, 256)}, "one size only"),
    }
    for name, (how, says) in wrong.items():
        if how:
            network(tmp_path / name, seed=0, **how)
        for pair in ((good, tmp_path / name), (tmp_path / name, good)):
            with pytest.raises(WeightsError, match=says) as caught:
                join_networks(*pair, tmp_path / "out")
            assert name in str(caught.value) and caught.value.hint
    assert not (tmp_path / "out").exists()
