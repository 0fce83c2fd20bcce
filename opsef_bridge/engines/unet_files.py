"""Weights of CellProfiler's U-Net, made into an ONNX file with a card.

The network of CellProfiler's plugin ClassifyPixels-Unet [1]_, which OpSeF ran: a block of
width n is two times a 3x3 convolution of n channels with bias, ReLU, and batch normalisation
*after* it. Blocks of 64, 128, 256 and 512 channels with max pooling by 2 in between go down;
enlarging by 2 (nearest), the block's output from the way down appended, and blocks of 256,
128 and 64 go up; a 1x1 convolution to three channels, ReLU and softmax end it. 15
convolutions, 7,793,155 numbers. A network of other widths, each twice the one before, is
taken too.

Two kinds of file hold its weights, and are read without Keras or any code of theirs:

HDF5 of Keras
    weights alone or a whole model, as Keras 2 writes them (``.h5``; Keras 3 writes whole
    models so, too), and ``.weights.h5`` of Keras 3.
A state dict of torch
    with any names. The tensors of four axes are the convolutions, in the order of the data,
    each with its ``bias`` beside its ``weight``; what has a ``running_mean`` is a batch
    normalisation, in the same order. What comes from below stands first where the way up and
    the way down meet: that cannot be seen in the tensors.

References
----------
.. [1] https://github.com/CellProfiler/CellProfiler-plugins (ClassifyPixels-Unet)
.. [2] J. C. Caicedo et al., "Evaluation of deep learning strategies for nucleus
   segmentation in fluorescence images", Cytometry A 95:952-965, 2019.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.engines.unet_graph import Tensors, build_network, misfit
from opsef_bridge.engines.untrusted import first_line, is_torch
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import atomic_path, file_sha256, write_json

__all__ = ["convert_unet"]

MULTIPLE = 8
"""Of the sides of the input: three poolings."""

MARGIN = 56
"""The network sees 51 px far: 30 px by the convolutions down, 14 px by those up, 7 px within
what is pooled together; rounded up to `MULTIPLE`."""

KERAS_EPSILON = 1e-3
TORCH_EPSILON = 1e-5
"""Added to variances, by default."""

HINT = (
    "Bring the weights of CellProfiler's ClassifyPixels-Unet, or of a network built alike. Any "
    "other U-Net has to come as ONNX, from (N, 1, Y, X) to (N, 3, Y, X)"
)


def convert_unet(source: str | Path, target: str | Path, *, name: str | None = None) -> Path:
    """Convert weights of CellProfiler's U-Net for ONNX Runtime.

    Parameters
    ----------
    source : path
        A file of Keras (``.h5``) or torch (``.pt``, ``.pth``); see above.
    target : path
        Folder for ``NAME.onnx`` and its card ``NAME.json``.
    name : str, optional
        Name of the weights; that of the file by default.

    Returns
    -------
    Path
        Of the card. It has the engine take images as the original did: the least value of
        the image is mapped to 0, the largest to 1.

    Raises
    ------
    WeightsError
        The file is missing or broken, holds another network or more than weights, or a
        package that reads or writes it is not installed.
    """
    source, target = Path(source), Path(target)
    name = name or source.stem.removesuffix(".weights")
    try:
        import onnx
    except ImportError as error:
        raise _missing(error) from error
    tensors = _read(source)
    if (wrong := misfit(tensors)) is not None:
        raise WeightsError(f"{source} does not hold CellProfiler's U-Net: {wrong}", hint=HINT)
    model = build_network(tensors)
    with atomic_path(target / f"{name}.onnx") as partial:
        onnx.save(model, partial)
    write_json(target / f"{name}.json", _card(name, target / f"{name}.onnx", source, tensors))
    return target / f"{name}.json"


def _card(name: str, made: Path, source: Path, tensors: Tensors) -> dict[str, Any]:
    """Return the card of the file `made` from `source`."""
    return {
        "name": name,
        "engine": "unet",
        "family": f"unet:{name}",
        "file": made.name,
        "sha256": file_sha256(made),
        "created": datetime.now(UTC).date().isoformat(),
        "input": {
            "axes": "YX",
            "channels": 1,
            "percentiles": [0, 100],
            "clip": [0, 1],
            "multiple": MULTIPLE,
            "margin": MARGIN,
        },
        "output": ["background", "interior", "border"],
        "parameters": tensors.parameters,
        "source": {"file": source.name, "form": tensors.form, "layout": "CellProfiler U-Net"},
    }


def _read(source: Path) -> Tensors:
    """Return the tensors of a file of Keras or torch."""
    if not source.is_file():
        raise WeightsError(f"there is no file {source}", hint=HINT)
    with source.open("rb") as file:
        start = file.read(8)
    try:
        if start == b"\x89HDF\r\n\x1a\n":
            return _read_keras(source)
        if is_torch(source):
            return _read_torch(source)
    except ImportError as error:
        raise _missing(error) from error
    raise WeightsError(f"{source} is neither HDF5 of Keras nor a file of torch", hint=HINT)


def _missing(error: ImportError) -> WeightsError:
    return WeightsError(
        f"conversion needs the package {error.name}",
        hint="Install the extra: opsef_bridge[train]",
    )


def _read_keras(source: Path) -> Tensors:
    """Return what an HDF5 file of Keras 2 or 3 holds."""
    import h5py

    try:
        with h5py.File(source, "r") as file:
            root = file.get("model_weights", file)
            if "layer_names" in root.attrs:
                return _keras2(root, _epsilons(file.attrs.get("model_config")))
            if "layers" in file:
                return _keras3(file["layers"])
    except (OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{source} cannot be read as weights of Keras ({first_line(error)})", hint=HINT
        ) from error
    raise WeightsError(f"{source} is HDF5, but Keras has not written it", hint=HINT)


def _keras2(root: Any, epsilons: dict[str, float]) -> Tensors:
    """Read the layers that the attribute ``layer_names`` lists in the order of the data."""
    tensors = Tensors("HDF5 of Keras 2")
    for layer in _texts(root.attrs["layer_names"]):
        group = root[layer]
        arrays = [group[name][()] for name in _texts(group.attrs["weight_names"])]
        _add_keras(tensors, arrays, epsilons.get(layer, KERAS_EPSILON))
    return tensors


def _keras3(layers: Any) -> Tensors:
    """Read layers named by their kind and number, each with ``vars/0``, ``vars/1`` and so on."""
    tensors = Tensors("weights of Keras 3")
    for layer in sorted(layers, key=_natural):
        variables = layers[layer].get("vars", {})
        _add_keras(tensors, [variables[name][()] for name in sorted(variables, key=_natural)])
    return tensors


def _add_keras(
    tensors: Tensors, arrays: Sequence[np.ndarray], epsilon: float = KERAS_EPSILON
) -> None:
    """Add the arrays of one layer."""
    arrays = [np.asarray(array, np.float32) for array in arrays]
    if not arrays:  # a pooling, or the like
        return
    if arrays[0].ndim == 4 and len(arrays) == 2:
        tensors.convolutions.append((arrays[0].transpose(3, 2, 0, 1), arrays[1]))
    elif arrays[0].ndim == 1 and len(arrays) == 4:
        tensors.norms.append(tuple(arrays))
        tensors.epsilons.append(epsilon)
    else:
        shapes = [array.shape for array in arrays]
        raise ValueError(f"a layer with arrays of the shapes {shapes} is not part of this network")


def _epsilons(config: Any) -> dict[str, float]:
    """Return the epsilon of each batch normalisation, if the whole model is there.

    Raises
    ------
    ValueError
        A convolution of it has another activation than this network.
    """
    if config is None:
        return {}
    text = config.decode() if isinstance(config, bytes) else config
    layers = [layer["config"] for layer in json.loads(text)["config"]["layers"]]
    for layer in layers:
        if "kernel_size" in layer and layer["activation"] != "relu":
            raise ValueError(
                f"{layer['name']} has the activation {layer['activation']}, in this network it is "
                "relu"
            )
    return {layer["name"]: float(layer["epsilon"]) for layer in layers if "epsilon" in layer}


def _read_torch(source: Path) -> Tensors:
    """Return what a state dict holds; nothing in the file is executed."""
    import torch

    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        arrays = {str(key): value.float().numpy() for key, value in state.items()}
    except Exception as error:  # a broken zip, a foreign class, no tensor: one kind each
        raise WeightsError(
            f"{source} is broken or holds more than a state dict ({first_line(error)})",
            hint="Save the network's state_dict() by torch.save",
        ) from error
    tensors = Tensors("state dict of torch")
    for key, weight in arrays.items():
        if not key.endswith("weight"):
            continue
        stem = key.removesuffix("weight")
        beside = [arrays.get(stem + n) for n in ("bias", "running_mean", "running_var")]
        if weight.ndim == 4 and beside[0] is not None:
            tensors.convolutions.append((weight, beside[0]))
        elif weight.ndim == 1 and all(array is not None for array in beside):
            tensors.norms.append((weight, *(array for array in beside if array is not None)))
            tensors.epsilons.append(TORCH_EPSILON)
        else:
            raise WeightsError(
                f"the layer {key!r} of shape {weight.shape} in {source} is neither a convolution "
                "with bias nor a batch normalisation",
                hint=HINT,
            )
    return tensors


def _natural(name: str) -> tuple[str, int]:
    """Sort key: ``conv2d`` before ``conv2d_1``, and that before ``conv2d_10``."""
    stem, number = re.fullmatch(r"(.*?)_?(\d*)", name).groups()  # type: ignore[union-attr]
    return stem, int(number or 0)


def _texts(names: Iterable[Any]) -> list[str]:
    """Return attributes of h5 as text: old files have bytes."""
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
