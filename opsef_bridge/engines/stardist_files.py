"""StarDist's own model folders: checked, and made into weights for one of two runtimes.

A folder (or a zip of it) holds ``config.json``, ``weights_best.h5`` or ``weights_last.h5``
in the format of Keras 2, and sometimes ``thresholds.json``. `convert_stardist` makes an ONNX
file of it, for ONNX Runtime; `pack_stardist` a clean zip, for TensorFlow. Neither needs
TensorFlow: the weights are read with h5py, and nothing in the files is executed.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.engines.stardist_config import describe_network, layer_sizes, with_defaults
from opsef_bridge.engines.stardist_graph import Convolution, build_network
from opsef_bridge.engines.untrusted import refuse_link, unpack
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import atomic_path, file_sha256, write_json

__all__ = ["ModelFiles", "check_layers", "convert_stardist", "pack_stardist", "read_model"]

LARGEST = 2**28
"""Larger files of a model are refused; the largest official network has 10 MB."""

BATCH_NORM_EPSILON = 1e-3
"""Of Keras, by default."""


@dataclass(frozen=True)
class ModelFiles:
    """A model of StarDist, read and checked.

    Parameters
    ----------
    source : Path
        The folder or zip.
    written : dict
        ``config.json`` as it is.
    config : dict
        The same with what older files leave out, see `with_defaults`.
    thresholds : dict of str to float
        ``prob`` and ``nms``.
    weights : str
        Name of the h5 file.
    h5 : bytes
        That file.
    """

    source: Path
    written: dict[str, Any]
    config: dict[str, Any]
    thresholds: dict[str, float]
    weights: str
    h5: bytes


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
        A file is missing, broken or unsafe, the network is not one that StarDist builds, or
        onnx is not installed.
    """
    name = name or Path(source).name.removesuffix(".zip")
    try:
        import onnx
    except ImportError as error:
        raise WeightsError(
            "conversion needs the package onnx", hint="Install the extra: opsef_bridge[train]"
        ) from error
    files = read_model(source)
    model = build_network(files.config, _read_convolutions(files))
    path = Path(target) / f"{name}.onnx"
    with atomic_path(path) as partial:
        onnx.save(model, partial)
    return _write_card(path, files)


def pack_stardist(source: str | Path, target: str | Path, *, name: str | None = None) -> Path:
    """Pack one of StarDist's own models, of 2D or 3D, for TensorFlow.

    The same model makes the same bytes: they hold the configuration, the thresholds, and the
    h5 file as it is, and no times.

    Parameters
    ----------
    source : path
        A model folder, or a zip with one.
    target : path
        Folder for ``NAME.zip`` and its card ``NAME.json``.
    name : str, optional
        Name of the weights; that of the folder or zip by default.

    Returns
    -------
    Path
        Of the card.

    Raises
    ------
    WeightsError
        A file is missing, broken or unsafe, or the weights are not those of the network that
        StarDist builds from the configuration.
    """
    name = name or Path(source).name.removesuffix(".zip")
    files = read_model(source)
    check_layers(files)
    path = Path(target) / f"{name}.zip"
    members = {
        "config.json": json.dumps(files.written, indent=1, sort_keys=True).encode(),
        "thresholds.json": json.dumps(files.thresholds, indent=1, sort_keys=True).encode(),
        files.weights: files.h5,
    }
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for member, data in members.items():
            info = zipfile.ZipInfo(member)  # of 1980, and not compressed: weights hardly shrink
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)
    return _write_card(path, files, runtime="tensorflow")


def _write_card(path: Path, files: ModelFiles, **more: str) -> Path:
    """Write the card of the weights at `path` beside them; return its path.

    The h5 file names the family, so that both forms of a network are one voice.
    """
    origin = sha256(files.h5).hexdigest()
    card = {
        "name": path.stem,
        "engine": "stardist",
        "family": f"stardist:{origin[:12]}",
        "file": path.name,
        "sha256": file_sha256(path),
        **more,
        "created": datetime.now(UTC).date().isoformat(),
        "input": describe_network(files.config),
        "thresholds": files.thresholds,
        "source": {"file": files.source.name, "weights": files.weights, "sha256": origin},
    }
    write_json(path.with_suffix(".json"), card)
    return path.with_suffix(".json")


def read_model(source: str | Path) -> ModelFiles:
    """Read and check a model folder, or a zip with one.

    Raises
    ------
    WeightsError
        A file is missing, broken, a link or too large, a zip is not safe to unpack, or the
        configuration is none of StarDist's.
    """
    source = Path(source)
    if source.is_file():
        with tempfile.TemporaryDirectory(prefix="opsef-") as folder:
            place = unpack(source, Path(folder) / "model")
            configs = sorted(place.rglob("config.json"), key=lambda path: len(path.parts))
            files = _read_folder(configs[0].parent if configs else place)
    elif source.is_dir():
        files = _read_folder(source)
    else:
        raise WeightsError(
            f"there is no model at {source}", hint="Give StarDist's model folder, or a zip of it"
        )
    return _chosen(files, source)


def _read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a model folder that matter, by name."""
    files = {}
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.h5")]):
        size = refuse_link(path, folder.name).stat().st_size
        if size > LARGEST:
            raise WeightsError(
                f"{path.name} of the model has {size} bytes, more than {LARGEST}",
                hint="Bring a sound copy of the file",
            )
        files[path.name] = path.read_bytes()
    return files


def _chosen(files: dict[str, bytes], source: Path) -> ModelFiles:
    """Return configuration, thresholds, and the weights: the best, or the last."""
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
        config = dict(json.loads(files["config.json"]))
        found = json.loads(files.get("thresholds.json", b"{}"))
        thresholds = {
            name: float(found.get(name) or usual) for name, usual in (("prob", 0.5), ("nms", 0.4))
        }
        if not all(0 < value < 1 for value in thresholds.values()):
            raise ValueError(f"the thresholds {thresholds} are not between 0 and 1")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"config.json or thresholds.json in {source} cannot be read ({error})",
            hint="Bring a sound copy of the folder",
        ) from error
    full = with_defaults(config)
    return ModelFiles(source, config, full, thresholds, weights[0], files[weights[0]])


def check_layers(files: ModelFiles) -> None:
    """Check that the weights are those of the network that the package will build.

    Before it is built: what a configuration asks for may be larger than all memory.

    Raises
    ------
    WeightsError
        They are not, or they cannot be read.
    """
    try:
        wanted = layer_sizes(files.config)
    except ValueError as error:
        raise WeightsError(
            f"config.json in {files.source} describes no network of StarDist ({error})",
            hint="Bring the config.json that StarDist has written",
        ) from error
    layers = _read_convolutions(files)
    found = sorted((len(layer.kernel), *layer.kernel.shape[2:]) for layer in layers)
    if found != wanted:
        raise WeightsError(
            f"the weights in {files.source} do not fit the network that config.json describes: "
            f"{len(found)} convolutions with {sum(f for f, *_ in found)} filters, not "
            f"{len(wanted)} with {sum(f for f, *_ in wanted)}, or other kernels",
            hint="Bring the config.json that was written with them",
        )


def _read_convolutions(files: ModelFiles) -> list[Convolution]:
    """Return the convolutions in an h5 file of Keras, batch normalisation folded in."""
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            "to read weights of Keras the package h5py is needed, which is not installed",
            hint='pip install "opsef_bridge[train]"',
        ) from error
    layers: list[Convolution] = []
    try:
        with h5py.File(io.BytesIO(files.h5), "r") as file:
            _check_h5(file)
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
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(
            f"{files.weights} in {files.source} cannot be read as weights of Keras 2 ({error})",
            hint="Bring weights_best.h5 or weights_last.h5 as StarDist has written it",
        ) from error
    return layers


def _check_h5(file: Any) -> None:
    """Refuse an h5 file that refers to other files, or holds more than it seems to."""
    import h5py

    size = 0

    def wrong_link(name: str, link: Any) -> str | None:
        return None if isinstance(link, h5py.HardLink) else f"{name} is a link"

    def wrong_item(name: str, item: Any) -> str | None:
        nonlocal size
        if not isinstance(item, h5py.Dataset):
            return None
        if item.is_virtual or item.external or item.dtype.kind not in "fiuS":
            return f"{name} holds {item.dtype}, or data of other files"
        size += item.size * item.dtype.itemsize
        return f"with {name} it would become {size} bytes" if size > LARGEST else None

    # What is returned ends the walk; raising there would confuse h5py.
    wrong = file.visititems_links(wrong_link) or file.visititems(wrong_item)
    if wrong:
        raise ValueError(wrong)


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
