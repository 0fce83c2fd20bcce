"""What the tests of stardist_keras let a process of its own do: all that needs TensorFlow.

Called through `opsef_bridge.workers.Worker`; arrays come and go as files.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.stardist_files import read_model
from opsef_bridge.files import read_json

GREY = {"n_rays": 32, "grid": (2, 2), "unet_n_filter_base": 16, "net_conv_after_unet": 64}


def _quiet() -> Any:
    """Return TensorFlow as the engine holds it."""
    from opsef_bridge.engines.stardist_keras import import_tensorflow

    return import_tensorflow()


def make_models(folder: str, shipped: str, volume: str, **_: Any) -> None:
    """Write model folders, as the package does: ``grey``, ``colour`` and ``volume``.

    Parameters
    ----------
    folder : str
    shipped : str
        An .npz with the arrays of the shipped network in the order of Keras.
    volume : str
        The model folder of the tests.
    """
    _quiet()
    from stardist.models import Config2D, StarDist2D

    arrays = [np.load(shipped)[f"w{i}"] for i in range(len(np.load(shipped).files))]
    # A network for colour that finds nuclei: grey is a mean of the three samples.
    mixed = arrays[0] * np.array([0.5, 0.3, 0.2], np.float32).reshape(1, 1, 3, 1)
    for name, channels, first in (("grey", 1, arrays[0]), ("colour", 3, mixed)):
        model = StarDist2D(Config2D(n_channel_in=channels, **GREY), name, folder)
        model.keras_model.set_weights([first, *arrays[1:]])
        model.keras_model.save_weights(str(Path(folder) / name / "weights_best.h5"))
    shutil.copytree(volume, Path(folder) / "volume")


def package_labels(model: str, image: str, prob: float, nms: float, out: str, **_: Any) -> None:
    """Save what `predict_instances` of the package makes of a folder and a normalised image."""
    _quiet()
    from stardist.models import StarDist2D, StarDist3D

    folder = Path(model)
    kind = StarDist3D if read_json(folder / "config.json")["n_dim"] == 3 else StarDist2D
    made = kind(None, folder.name, str(folder.parent))
    labels, _ = made.predict_instances(np.load(image), prob_thresh=prob, nms_thresh=nms)
    np.save(out, labels)


def make_others(folder: str, **_: Any) -> None:
    """Write model folders of other networks, with random weights, and what they say."""
    _quiet()
    from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D

    rng, base = np.random.default_rng(0), {"net_conv_after_unet": 8, "unet_n_filter_base": 4}
    classes = Config2D(n_channel_in=3, n_classes=2, unet_batch_norm=True, unet_dropout=0.2, **base)
    deep = Config2D(grid=(4, 4), unet_n_depth=2, unet_expansion=1.5, n_rays=16, **base)
    bare = Config2D(unet_n_depth=1, unet_n_filter_base=4, net_conv_after_unet=0)
    residual = Config3D(rays=24, grid=(2, 2, 2), anisotropy=(2, 1, 1), backbone="resnet",
                        resnet_n_filter_base=4, net_conv_after_resnet=8,
                        resnet_batch_norm=True)  # fmt: skip
    others = {"classes": classes, "deep": deep, "bare": bare, "residual": residual}
    for name, config in others.items():
        model = (StarDist2D if config.n_dim == 2 else StarDist3D)(config, name, folder)
        arrays = [abs(rng.normal(0.1, 0.1, a.shape)) for a in model.keras_model.get_weights()]
        model.keras_model.set_weights(arrays)
        model.keras_model.save_weights(str(Path(folder) / name / "weights_last.h5"))
        batch = rng.random((1, *[16] * config.n_dim, config.n_channel_in), np.float32)
        prob, dist = model.keras_model.predict(batch, verbose=0)[:2]
        np.savez(Path(folder) / f"{name}.npz", batch=batch, prob=prob, dist=dist)


@cache
def _network(path: str, device: str) -> Any:
    from opsef_bridge.engines.stardist_keras import open_network

    return open_network(Weights(Path(path).stem, "stardist", Path(path)), device)


def describe(path: str, device: str, **_: Any) -> dict[str, Any]:
    """Open the network in a zip and return what is said of it."""
    return _network(path, device)[1]


def run_network(path: str, batch: str, out: str, **_: Any) -> None:
    """Run the network in a zip on a batch; save ``prob`` and ``dist``."""
    prob, dist = _network(path, "cpu")[0](np.load(batch))
    np.savez(out, prob=prob, dist=dist)


def settings(path: str, **_: Any) -> dict[str, Any]:
    """Return how TensorFlow is set when a network is open."""
    tensorflow = _quiet()
    describe(path, "cpu")
    return {
        "threads": [
            tensorflow.config.threading.get_intra_op_parallelism_threads(),
            tensorflow.config.threading.get_inter_op_parallelism_threads(),
        ],
        "gpus": len(tensorflow.config.get_visible_devices("GPU")),
        "tf32": tensorflow.config.experimental.tensor_float_32_execution_enabled(),
    }


def thresholds(path: str, **_: Any) -> list[float]:
    """Return the thresholds of the package's own model, built from a zip."""
    from opsef_bridge.engines.stardist_keras import build_model

    found = build_model(read_model(path)).thresholds
    return [found.prob, found.nms]
