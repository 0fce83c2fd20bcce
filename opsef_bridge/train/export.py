"""From torch to ONNX with half-precision weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from opsef_bridge.files import atomic_path

if TYPE_CHECKING:
    import onnx

__all__ = ["as_stored", "class_probabilities", "export_onnx"]

Network = TypeVar("Network", bound=nn.Module)


def as_stored(network: Network) -> Network:
    """Return a copy as the file holds it: normalisation folded in, weights rounded to half."""
    stored = copy.deepcopy(network).eval()
    for chain in stored.modules():
        if not isinstance(chain, nn.Sequential):
            continue
        for place, layer in enumerate(chain):
            if isinstance(layer, nn.BatchNorm2d):
                chain[place - 1] = fuse_conv_bn_eval(chain[place - 1], layer)
                chain[place] = nn.Identity()
    for parameter in stored.parameters():
        parameter.data = parameter.data.half().float()
    return stored


def class_probabilities(logits: Tensor) -> Tensor:
    """Logits of classes that exclude each other, (N, C, Y, X), to probabilities."""
    return logits.softmax(1)


def export_onnx(
    network: nn.Module,
    path: str | Path,
    *,
    activation: Callable[[Tensor], Tensor] = class_probabilities,
) -> None:
    """Write `network` as ONNX: probabilities of `as_stored`, of any batch and size.

    `activation` makes them of the logits, inside the file.

    Weights lie in the file as float16, each followed by a cast, which ONNX Runtime does
    once, when it loads the file: half the size, and arithmetic in float32.
    """
    import onnx

    module = _Probabilities(as_stored(network), activation).eval()
    free = {0: "n", 2: "y", 3: "x"}
    with atomic_path(path) as partial:
        with warnings.catch_warnings():
            # The tracing exporter is deprecated; the new one needs onnxscript.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (torch.zeros(1, 1, 64, 64),),
                str(partial),
                input_names=["image"],
                output_names=["probabilities"],
                dynamic_axes={"image": free, "probabilities": free},
                opset_version=17,
                dynamo=False,
            )
        model = onnx.load(partial)
        _halve(model)
        onnx.checker.check_model(model)
        onnx.save(model, partial)


class _Probabilities(nn.Module):
    """Logits to probabilities, so that the file needs no words beside it."""

    def __init__(self, network: nn.Module, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.activation = activation

    def forward(self, image: Tensor) -> Tensor:
        return self.activation(self.network(image))


def _halve(model: onnx.ModelProto) -> None:
    """Store convolution weights as float16 with a cast to float32 after each."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 1:
            continue
        name = tensor.name
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes)
