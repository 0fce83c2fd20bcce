"""StarDist's networks as the ``stardist`` package builds them, run by TensorFlow.

The package builds the network from the configuration, and Keras reads the weights into it:
nothing of the files is executed, nothing is downloaded. One thread, as for all engines.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.stardist_config import describe_network
from opsef_bridge.engines.stardist_files import ModelFiles, check_layers, read_model
from opsef_bridge.errors import OpsefError, WeightsError, WorkerError

__all__ = ["build_model", "import_tensorflow", "open_network"]

_KEYS = ("n_depth", "n_filter_base", "n_conv_per_depth", "kernel_size", "pool", "expansion",
         "activation", "last_activation", "batch_norm", "dropout", "n_blocks",
         "n_conv_per_block")  # fmt: skip
"""What a configuration says of the network itself, after ``unet_`` or ``resnet_``."""


def open_network(
    weights: Weights, device: str = "cpu"
) -> tuple[Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], dict[str, Any]]:
    """Return a network in a zip of `pack_stardist`, and what a card says of it.

    Parameters
    ----------
    weights : Weights
    device : str
        ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    network : callable
        From float32 (1, C, [Z,] Y, X) to probabilities (1, 1, ...) and distances
        (1, rays, ...) on the grid.
    described : dict
        As by `describe_network`.

    Raises
    ------
    WeightsError
        The file is missing, broken, unsafe, or none of StarDist's.
    WorkerError
        TensorFlow cannot use `device`.
    OpsefError
        TensorFlow is not installed.
    """
    path = weights.path
    if path is None or not path.is_file():
        raise WeightsError(
            f"the file of the weights {weights.name!r} is missing: {path}",
            hint="Put it back, or add the model again",
        )
    files = read_model(path)
    check_layers(files)
    tensorflow = import_tensorflow()
    place = _place(tensorflow, device)
    with tensorflow.device(place):
        model = build_model(files)
    return _runner(tensorflow, model, place), describe_network(files.config)


def _runner(
    tensorflow: Any, model: Any, place: str
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return what runs the network of the package's `model` at `place`."""
    batch = (None,) * (model.config.n_dim + 1) + (model.config.n_channel_in,)

    # One graph for images of every size, without what `predict` of Keras does around it.
    @tensorflow.function(input_signature=[tensorflow.TensorSpec(batch)], jit_compile=False)
    def infer(images: Any) -> Any:
        return model.keras_model(images, training=False)[:2]

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with tensorflow.device(place):
            prob, dist = infer(np.moveaxis(images, 1, -1))
        return np.moveaxis(np.asarray(prob), -1, 1), np.moveaxis(np.asarray(dist), -1, 1)

    return run


def build_model(files: ModelFiles) -> Any:
    """Return the package's own StarDist2D or StarDist3D with the weights of `files`.

    Raises
    ------
    WeightsError
        They do not fit.
    """
    import_tensorflow()
    from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D
    from stardist.rays3d import Rays_GoldenSpiral

    config, backbone = files.config, files.config["backbone"]
    keys = [f"{backbone}_{key}" for key in _KEYS] + [f"net_conv_after_{backbone}"]
    network = {key: config[key] for key in keys if key in config}
    network |= {key: config[key] for key in ("n_channel_in", "n_classes", "backbone")}
    network |= {key: tuple(value) for key, value in network.items() if isinstance(value, list)}
    grid = tuple(config["grid"])
    # The package tells on stdout which thresholds it takes: that is for results.
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if config["axes"] == "YX":
            made = Config2D(n_rays=config["n_rays"], grid=grid, **network)
            model = StarDist2D(made, name="stardist", basedir=None)
        else:
            anisotropy = tuple(describe_network(config)["anisotropy"])
            rays = Rays_GoldenSpiral(config["n_rays"], anisotropy=anisotropy)
            made = Config3D(rays=rays, grid=grid, anisotropy=anisotropy, **network)
            model = StarDist3D(made, name="stardist", basedir=None)
        model.thresholds = dict(files.thresholds)
    _load(model.keras_model, files)
    return model


def _load(network: Any, files: ModelFiles) -> None:
    """Let Keras read the h5 file, which it takes from disk only."""
    with tempfile.TemporaryDirectory(prefix="opsef-") as folder:
        path = Path(folder) / "weights.h5"
        path.write_bytes(files.h5)
        try:
            network.load_weights(str(path))
        except (ValueError, LookupError, OSError, TypeError) as error:
            raise WeightsError(
                f"{files.weights} in {files.source} does not fit the network that config.json "
                f"describes ({str(error).splitlines()[0]})",
                hint="Bring the config.json that was written with it",
            ) from error


def import_tensorflow() -> Any:
    """Return TensorFlow, held to one thread and to single precision.

    Raises
    ------
    OpsefError
        It is not installed.
    """
    # Not in force where the process has imported it before.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import tensorflow
    except ImportError as error:
        raise OpsefError(
            f"these weights of StarDist are run by TensorFlow, which cannot be imported ({error})",
            hint='Install it by `pip install "opsef_bridge[tensorflow]"`, or convert the model '
            "once, for ONNX Runtime: opsef models convert",
        ) from error
    with contextlib.suppress(RuntimeError):  # it computes already: with the threads it has
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    # With the 10-bit products of newer GPUs objects would not be those of the CPU.
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    return tensorflow


def _place(tensorflow: Any, device: str) -> str:
    """Return TensorFlow's name of `device`; take no more of a GPU than is needed."""
    if device == "cpu":
        with contextlib.suppress(RuntimeError):  # it uses a GPU already, but not for this
            tensorflow.config.set_visible_devices([], "GPU")
        return "/CPU:0"
    gpus = tensorflow.config.get_visible_devices("GPU")
    if device != "cuda" or not gpus:
        raise WorkerError(
            f"TensorFlow cannot use the device {device!r}",
            hint="Use the device cpu, or install a TensorFlow that can, in a new process",
        )
    with contextlib.suppress(RuntimeError):
        tensorflow.config.experimental.set_memory_growth(gpus[0], True)
    return "/GPU:0"
