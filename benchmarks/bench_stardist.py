"""What the stardist engine costs beyond ``predict_instances`` of the package.

Run ``python benchmarks/bench_stardist.py [SIDE]``. The shipped network is put into a model
folder of the package; the package itself, the engine by TensorFlow and the engine by ONNX
Runtime label the same image of SIDE x SIDE px with the same thresholds: all in this process,
one thread, in turns, nine times. The package is given the image normalised by its own
function; the engine normalises it itself. The ratios are medians over the rounds of the
engine's time by the package's, once of the clock and once of the processor's time, which
other work on the machine disturbs less. With a second pair of thresholds the engine decodes
the maps that it has; the package starts again. Then the same for a volume of the package's
own and the small network of the tests, painted in this process as in a worker of a sweep. Needs
the extras tensorflow and train.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from opsef_bridge.demo import example_data
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import SHIPPED, list_weights
from opsef_bridge.engines.stardist import Decode, Predict, StarDist
from opsef_bridge.engines.stardist_files import convert_stardist, pack_stardist, read_model
from opsef_bridge.engines.stardist_keras import build_model
from opsef_bridge.files import read_json, write_json
from opsef_bridge.images import read_image
from opsef_bridge.workers import inside

ROUNDS = 9
VOLUME = Path(__file__).parents[1] / "tests" / "data" / "volume-stardist"


def picture(side: int) -> np.ndarray:
    """Return bundled nuclei, repeated to a square."""
    one = read_image(example_data() / "images" / "large_1b518cd2ea84.png").data
    return np.tile(one, [-(-side // extent) for extent in one.shape])[:side, :side]


def shipped_folder(folder: Path) -> Path:
    """Write the shipped network as a model folder of the package; return it."""
    import h5py
    import onnx

    weights = next(w for w in list_weights([SHIPPED]) if w.name == "nuclei-stardist")
    tensors = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(weights.path).graph.initializer
        if tensor.name != "enlarge"
    ]
    pairs = list(zip(tensors[::2], tensors[1::2], strict=True))
    names = [*(f"conv{i}" for i in range(len(pairs) - 3)), "features", "prob", "dist"]
    folder.mkdir()
    with h5py.File(folder / "weights_best.h5", "w") as file:
        file.attrs["layer_names"] = names
        for name, (kernel, bias) in zip(names, pairs, strict=True):
            group = file.create_group(name)
            group["kernel"], group["bias"] = kernel.transpose(2, 3, 1, 0), bias
            group.attrs["weight_names"] = ["kernel", "bias"]
    config = {"axes": "YXC", "n_rays": 32, "grid": [2, 2], "unet_n_filter_base": 16}
    write_json(folder / "config.json", config | {"net_conv_after_unet": 64})
    write_json(folder / "thresholds.json", {"prob": 0.5, "nms": 0.3})
    return folder


def opened(card_file: Path) -> StarDist:
    """Return the engine with the weights of a card."""
    card = read_json(card_file)
    engine = StarDist()
    engine.load(
        Weights(card["name"], "stardist", card_file.parent / card["file"], card["sha256"], card)
    )
    return engine


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Return how long one call takes, by the clock and in the processor's time."""
    clock, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - clock, time.process_time() - processor


def compare(folder: Path, image: np.ndarray, tile: int, scratch: Path) -> None:
    """Measure one network on one image, and print."""
    from csbdeep.utils import normalize

    keras, onnx = opened(pack_stardist(folder, scratch)), opened(convert_stardist(folder, scratch))
    model = build_model(read_model(folder))
    predict, decode, other = Predict(tile=tile), Decode(), Decode(prob=0.6)

    def engine(one: StarDist) -> Callable[[], np.ndarray]:
        return lambda: one.decode(one.predict(image, predict), decode)

    calls: dict[str, Callable[[], np.ndarray]] = {
        "package": lambda: model.predict_instances(normalize(image, 1, 99.8))[0],
        "engine, TensorFlow": engine(keras),
        "engine, ONNX Runtime": engine(onnx),
    }
    raw = keras.predict(image, predict)
    labels = {name: call() for name, call in calls.items()}
    expected = labels.pop("package")
    calls["one more threshold"] = lambda: keras.decode(raw, other)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(ROUNDS):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            times[name].append(seconds(calls[name]))
    shape = " x ".join(map(str, image.shape))
    print(f"\n{folder.name}, {shape}, {expected.max()} objects, medians of {ROUNDS} rounds")
    print(f"{'':22}{'clock s':>9}{'CPU s':>9}{'ratio':>9}{'CPU ratio':>11}  labels identical")
    for name, taken in times.items():
        median = np.median(taken, axis=0)
        ratio = np.median(np.array(taken) / np.array(times["package"]), axis=0)
        same = np.array_equal(labels[name], expected) if name in labels else ""
        print(f"{name:22}{median[0]:9.3f}{median[1]:9.3f}{ratio[0]:9.3f}{ratio[1]:11.3f}  {same}")


def main(side: int = 1024) -> None:
    """Measure a plane and a volume."""
    from stardist.data import test_image_nuclei_3d

    inside.serving = True
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        shipped = shipped_folder(scratch / "nuclei-stardist")
        compare(shipped, picture(side), side, scratch / "plane")
        compare(VOLUME, test_image_nuclei_3d(), 1024, scratch / "volume")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
