"""Two networks of one map each, as Zaki et al. trained them, made into one for ``fpn2ws``.

References
----------
.. [1] G. Zaki et al., "A deep learning pipeline for nucleus segmentation", Cytometry A
   97:1248-1264, 2020.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsef_bridge.engines.map_network import CLIP, MARGIN, MULTIPLE, PERCENTILES
from opsef_bridge.engines.untrusted import first_line
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import atomic_path, file_sha256, write_json

if TYPE_CHECKING:
    import onnx

__all__ = ["join_networks"]

OPSET = 17
"""Version of the operators to which older files are brought; of a newer one both."""

HINT = "Needed are two networks from (N, 1, Y, X) or (N, 3, Y, X) to (N, 1, Y, X), for any Y and X"


def join_networks(
    distance: str | Path,
    border: str | Path,
    target: str | Path,
    *,
    name: str | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    clip: tuple[float, float] = CLIP,
    multiple: int = MULTIPLE,
    margin: int = MARGIN,
) -> Path:
    """Join two ONNX files, one of each map, into one file for the engine ``fpn2ws``.

    Parameters
    ----------
    distance, border : path
        From ``(N, 1, Y, X)`` or ``(N, 3, Y, X)``, grey copied three times, to ``(N, 1, Y, X)``,
        all float32.
    target : path
        Folder for ``NAME.onnx`` and its card ``NAME.json``.
    name : str, optional
        Name of the weights; by default that of the file of distances.
    percentiles, clip : tuple of float
    multiple, margin : int
        What the card says of the input, see `opsef_bridge.engines.map_network.Card`. Networks
        that were trained on 0..1 from the least to the largest value: (0, 100), (0, 1).

    Returns
    -------
    Path
        Of the card.

    Raises
    ------
    WeightsError
        A file is missing, broken, or holds another kind of network, or onnx is not installed.
    """
    files, target = {"distance": Path(distance), "border": Path(border)}, Path(target)
    name = name or files["distance"].stem
    try:
        import onnx
    except ImportError as error:
        raise WeightsError(
            "joining needs the package onnx", hint="Install the extra: opsef_bridge[train]"
        ) from error
    models = {what: _read(path, what) for what, path in files.items()}
    try:
        joined = _joined(models)
    except Exception as error:  # of the checker and of the conversion: no common base
        raise WeightsError(
            f"{' and '.join(map(str, files.values()))} cannot be joined ({first_line(error)})",
            hint=HINT,
        ) from error
    with atomic_path(target / f"{name}.onnx") as partial:
        onnx.save(joined, partial)
    told = {
        "axes": "YX",
        "channels": 1,
        "percentiles": list(percentiles),
        "clip": list(clip),
        "multiple": multiple,
        "margin": margin,
    }
    write_json(target / f"{name}.json", _card(name, target / f"{name}.onnx", files, told))
    return target / f"{name}.json"


def _card(name: str, made: Path, files: dict[str, Path], told: dict[str, Any]) -> dict[str, Any]:
    """Return the card of the file `made`, whose input is as `told`."""
    return {
        "name": name,
        "engine": "fpn2ws",
        "family": f"fpn2ws:{name}",
        "file": made.name,
        "sha256": file_sha256(made),
        "created": datetime.now(UTC).date().isoformat(),
        "input": told,
        "output": list(files),
        "source": {
            what: {"file": path.name, "sha256": file_sha256(path)} for what, path in files.items()
        },
    }


def _read(path: Path, what: str) -> onnx.ModelProto:
    """Return one network, its names marked by `what`; refuse another kind."""
    import onnx
    from onnx import compose

    if not path.is_file():
        raise WeightsError(f"there is no file {path}", hint=HINT)
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # of protobuf, of the checker, of the disk
        raise WeightsError(
            f"{path} cannot be read as ONNX ({first_line(error)})", hint=HINT
        ) from error
    takes, gives = (
        [_shape(value) for value in values] for values in (_inputs(model), model.graph.output)
    )
    fits = [len(shape) for shape in (*takes, *gives)] == [4, 4]
    if not fits or takes[0][1] not in (1, 3) or gives[0][1] != 1:
        raise WeightsError(f"{path} maps {takes} to {gives}", hint=HINT)
    if any(isinstance(side, int) for side in takes[0][2:]):
        raise WeightsError(
            f"{path} takes images of one size only: {takes[0]}",
            hint="Export it again with free Y and X",
        )
    return compose.add_prefix(model, f"{what}/")


def _inputs(model: onnx.ModelProto) -> list[Any]:
    """Return the inputs that are not weights: old files list those, too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _shape(value: Any) -> list[int | str]:
    """Return the sides of a tensor; a name, or ``?``, where they are free."""
    sides = value.type.tensor_type.shape.dim
    return [side.dim_value or side.dim_param or "?" for side in sides]


def _joined(models: dict[str, onnx.ModelProto]) -> onnx.ModelProto:
    """Return one network from ``image`` to ``maps``: the outputs of `models`, in their order."""
    import onnx
    from onnx import TensorProto, helper, version_converter

    opset = max(OPSET, *(_opset(model) for model in models.values()))
    parts = [
        model if _opset(model) == opset else version_converter.convert_version(model, opset)
        for model in models.values()
    ]
    # In front the image, once per channel; behind the maps, one after the other.
    copies = [
        helper.make_node("Concat", ["image"] * _shape(value)[1], [value.name], axis=1)
        for part in parts
        for value in _inputs(part)
    ]
    drawn = [part.graph.output[0].name for part in parts]
    image, maps = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "y", "x"])
        for name, channels in (("image", 1), ("maps", len(parts)))
    )
    graph = helper.make_graph(
        [
            *copies,
            *(node for part in parts for node in part.graph.node),
            helper.make_node("Concat", drawn, ["maps"], axis=1),
        ],
        "fpn2ws",
        [image],
        [maps],
        [tensor for part in parts for tensor in part.graph.initializer],
    )
    domains = {entry.domain: entry.version for part in parts for entry in part.opset_import}
    joined = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, number) for domain, number in domains.items()],
        functions=[function for part in parts for function in part.functions],
        ir_version=max(part.ir_version for part in parts),
    )
    onnx.checker.check_model(joined, full_check=True)
    return joined


def _opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a network uses."""
    return next((entry.version for entry in model.opset_import if not entry.domain), 1)
