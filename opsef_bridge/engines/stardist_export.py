"""Weights of the ONNX route, written back as a model folder of the ``stardist`` package.

So a network that was trained here runs in the package itself, and in whatever reads its
folders. Only h5py and onnx are needed; what comes out is what Keras 2 would have written.
`keras_twin` makes weights of it that TensorFlow runs, of the same family as the ONNX file.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.stardist_config import with_defaults
from opsef_bridge.engines.stardist_files import pack_stardist
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import atomic_path, read_json, write_json

__all__ = ["export_stardist", "keras_twin"]

_OF_THE_FILE = ("val", "loo", "evaluations", "commands")
"""What a card says of its own file: how it was made, and the scores that were taken with it."""


def export_stardist(weights: Weights, folder: str | Path) -> Path:
    """Write ``config.json``, ``thresholds.json`` and ``weights_best.h5`` into `folder`.

    Parameters
    ----------
    weights : Weights
        An ONNX file that this program made, with the network's configuration under
        ``network`` in its card.
    folder : path
        Made where it does not exist.

    Returns
    -------
    Path
        The folder: `StarDist2D(None, name=folder.name, basedir=folder.parent)` opens it.

    Raises
    ------
    WeightsError
        The weights are of another form, or a package is missing.
    """
    config = weights.card.get("network")
    if weights.engine != "stardist" or not config or weights.path.suffix != ".onnx":
        raise WeightsError(
            f"the weights {weights.name!r} cannot be written as a folder of StarDist: their card "
            "does not hold the configuration of the network",
            hint="Those that were trained or converted here can",
        )
    layers = _layers(weights)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    # The package refuses keys that its network of this backbone does not have.
    full = with_defaults(config)
    other = "resnet" if full["backbone"] == "unet" else "unet"
    kept = {key: value for key, value in full.items() if other not in key}
    write_json(target / "config.json", {**kept, "axes": full["axes"] + "C"})
    with atomic_path(target / "weights_best.h5") as partial:
        _write_h5(partial, layers)
    thresholds = {"prob": 0.5, "nms": 0.4} | weights.card.get("thresholds", {})
    write_json(target / "thresholds.json", thresholds)
    return target


def keras_twin(weights: Weights, target: str | Path, *, name: str) -> Path:
    """Write the same network for the package with TensorFlow: a zip, and its card.

    The card tells the engine what that of `weights` does, and names the same family: both
    forms are one voice in the ranking.

    Parameters
    ----------
    weights : Weights
        As for `export_stardist`.
    target : path
        Folder for ``NAME.zip`` and ``NAME.json``.
    name : str

    Returns
    -------
    Path
        Of the card.
    """
    with tempfile.TemporaryDirectory(prefix="opsef-") as folder:
        card_file = pack_stardist(export_stardist(weights, Path(folder) / name), target, name=name)
    own = read_json(card_file)
    kept = {key: own[key] for key in ("name", "file", "sha256", "runtime", "created", "source")}
    old = {key: value for key, value in weights.card.items() if key not in _OF_THE_FILE}
    made_of = {"family": weights.family, "converted_from": weights.sha256}
    write_json(card_file, {**old, **kept, **made_of})
    return card_file


def _layers(weights: Weights) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return (name, kernel, bias) of the convolutions in the order of the data."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise WeightsError(
            "to read ONNX files as such the package onnx is needed, which is not installed",
            hint='pip install "opsef_bridge[train]"',
        ) from error
    found: dict[str, dict[str, np.ndarray]] = {}
    for tensor in onnx.load(weights.path).graph.initializer:
        named = re.fullmatch(r"(\d+\..+)\.(kernel|bias)", tensor.name)
        if named:
            found.setdefault(named[1], {})[named[2]] = numpy_helper.to_array(tensor)
    try:
        return [
            (name.partition(".")[2], both["kernel"], both["bias"])
            for name, both in sorted(found.items(), key=lambda item: int(item[0].split(".")[0]))
        ]
    except KeyError as error:
        raise WeightsError(
            f"the file of the weights {weights.name!r} was not made by this program: a layer has "
            f"no {error}",
            hint="Bring the folder that StarDist itself has written",
        ) from None


def _write_h5(path: Path, layers: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Write layers as Keras 2 does: a group for each, and the order in attributes."""
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            "to write weights of Keras the package h5py is needed, which is not installed",
            hint='pip install "opsef_bridge[train]"',
        ) from error
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = _texts(name for name, _, _ in layers)
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.15.0"
        for name, kernel, bias in layers:
            group = file.create_group(name)
            names = [f"{name}/kernel:0", f"{name}/bias:0"]
            group.attrs["weight_names"] = _texts(names)
            # From (out, in, [z,] y, x) to ([z,] y, x, in, out).
            arrays = (np.moveaxis(kernel, (0, 1), (-1, -2)), bias)
            for one, array in zip(names, arrays, strict=True):
                group.create_dataset(one, data=np.ascontiguousarray(array, np.float32))


def _texts(names: Any) -> np.ndarray:
    return np.array([name.encode() for name in names])
