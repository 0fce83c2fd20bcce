"""StarDist's own model folders, made into ONNX files with a card.

A folder (or a zip of it) holds ``config.json``, ``weights_best.h5`` or ``weights_last.h5``
in the format of Keras 2, and sometimes ``thresholds.json``. The weights are read with h5py:
TensorFlow is not needed, nothing is unpacked to disk, nothing in the files is executed.
"""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.engines.stardist_graph import (
    Convolution,
    build_network,
    describe_network,
    with_defaults,
)
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import atomic_path, file_sha256, write_json

__all__ = ["convert_stardist"]

LARGEST = 2**30
"""Larger members of a zip are refused; the largest official network has 10 MB."""

BATCH_NORM_EPSILON = 1e-3
"""Of Keras, by default."""


def convert_stardist(source: str | Path, target: str | Path, *, name: str | None = None) -> Path:
    """Convert one of StarDist's own models, of 2D or 3D, for ONNX Runtime.

    Parameters
    ----------
    source : path
        A model folder, or a zip with one.
    target : path
        Folder for ``NAME.onnx`` and its card ``NAME.json``.
    name : str, optional
        Name of the weights; that of the folder or zip by default.

    Returns
    -------
    Path
        Of the card.

    Raises
    ------
    WeightsError
        A file is missing or broken, the network is not one that StarDist builds, or onnx or
        h5py are not installed.
    """
    source, target = Path(source), Path(target)
    name = name or source.name.removesuffix(".zip")
    try:
        import onnx
    except ImportError as error:
        raise WeightsError(
            "conversion needs the package onnx", hint="Install the extra: opsef_bridge[train]"
        ) from error
    files = _read_zip(source) if source.is_file() else _read_folder(source)
    config, thresholds, h5 = _choose(files, source)
    config = with_defaults(config)
    model = build_network(config, _read_convolutions(h5, files[h5], source))
    with atomic_path(target / f"{name}.onnx") as partial:
        onnx.save(model, partial)
    card = {
        "name": name,
        "engine": "stardist",
        "family": f"stardist/{name}",
        "file": f"{name}.onnx",
        "sha256": file_sha256(target / f"{name}.onnx"),
        "created": datetime.now(UTC).date().isoformat(),
        "input": describe_network(config),
        "thresholds": thresholds,
        "source": {"file": source.name, "weights": h5},
    }
    write_json(target / f"{name}.json", card)
    return target / f"{name}.json"


def _read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a model folder that matter, by name."""
    if not folder.is_dir():
        raise WeightsError(
            f"there is no model at {folder}", hint="Give StarDist's model folder, or a zip of it"
        )
    wanted = [*folder.glob("*.json"), *folder.glob("*.h5")]
    return {path.name: path.read_bytes() for path in sorted(wanted)}


def _read_zip(path: Path) -> dict[str, bytes]:
    """Return the files that lie beside the outermost config.json of a zip, by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            configs = [m for m in members if m.rsplit("/", 1)[-1] == "config.json"]
            folder = min(configs, key=lambda m: m.count("/"), default="config.json")
            prefix = folder.removesuffix("config.json")
            names = [m for m in members if m.startswith(prefix) and "/" not in m[len(prefix) :]]
            names = [m for m in names if m.endswith((".json", ".h5"))]
            for member in names:
                if members[member].file_size > LARGEST:
                    raise WeightsError(
                        f"{member} in {path} has {members[member].file_size} bytes, more than "
                        f"{LARGEST}",
                        hint="Bring a sound copy of the file",
                    )
            return {member[len(prefix) :]: archive.read(member) for member in names}
    except (zipfile.BadZipFile, RuntimeError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as a zip ({error})", hint="Bring a sound copy of the file"
        ) from error


def _choose(files: dict[str, bytes], source: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return configuration, thresholds and the name of the weights: the best, or the last."""
    weights = [name for name in ("weights_best.h5", "weights_last.h5") if name in files]
    weights += sorted(name for name in files if name.endswith(".h5"))
    if "config.json" not in files or not weights:
        raise WeightsError(
            f"{source} has no config.json with weights_best.h5 or weights_last.h5 beside it; "
            f"it has {', '.join(sorted(files)) or 'no such files'}",
            hint="Give the folder that StarDist has written. A SavedModel, as Fiji takes, cannot "
            "be converted",
        )
    try:
        config = json.loads(files["config.json"])
        found = json.loads(files.get("thresholds.json", b"{}"))
        thresholds = {
            name: float(found.get(name, usual)) for name, usual in (("prob", 0.5), ("nms", 0.4))
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"config.json or thresholds.json in {source} cannot be read ({error})",
            hint="Bring a sound copy of the folder",
        ) from error
    return config, thresholds, weights[0]


def _read_convolutions(name: str, data: bytes, source: Path) -> list[Convolution]:
    """Return the convolutions in an h5 file of Keras, batch normalisation folded in."""
    import h5py

    layers: list[Convolution] = []
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            root = file.get("model_weights", file)
            for layer in _texts(root.attrs["layer_names"]):
                group = root[layer]
                arrays = [group[name][()] for name in _texts(group.attrs["weight_names"])]
                if layer.endswith("_class") or not arrays:
                    continue
                if arrays[0].ndim > 1:
                    bias = arrays[1] if len(arrays) > 1 else np.zeros(arrays[0].shape[-1])
                    layers.append(
                        Convolution(layer, np.moveaxis(arrays[0], (-1, -2), (0, 1)), bias)
                    )
                else:  # the way around a block, if it stands in between, is not normalised
                    place = max(i for i, other in enumerate(layers) if not other.is_pointwise)
                    layers[place] = _normalised(layers[place], *arrays)
    except (OSError, LookupError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{name} in {source} cannot be read as weights of Keras 2 ({error})",
            hint="Bring weights_best.h5 or weights_last.h5 as StarDist has written it",
        ) from error
    return layers


def _normalised(
    layer: Convolution, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> Convolution:
    """Return a convolution that does what `layer` and a batch normalisation after it do."""
    factor = gamma / np.sqrt(var + BATCH_NORM_EPSILON)
    kernel = layer.kernel * factor.reshape(-1, *[1] * (layer.kernel.ndim - 1))
    return Convolution(layer.name, kernel, (layer.bias - mean) * factor + beta)


def _texts(names: Any) -> list[str]:
    """Return attributes of h5 as text: old files have bytes."""
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
