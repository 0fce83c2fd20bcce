"""From torch to ONNX with half-precision weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from opsef_bridge.errors import InputError
from opsef_bridge.files import atomic_path

if TYPE_CHECKING:
    import onnx

__all__ = ["as_stored", "class_probabilities", "export_onnx"]

Network = TypeVar("Network", bound=nn.Module)

ROUNDING = 2.0**-10
"""Largest error of half precision, over the largest value of a tensor, that is put up with."""

OTHER_SIZE = (1, 1, 128, 192)
"""Shape of the image on which a file is tried; networks are traced at 64 by 64 px."""

ALIKE = 0.02
"""How far the file and the network may be apart there, in the mean. Rounding alone makes less
than a tenth of it."""


def as_stored(network: Network) -> Network:
    """Return a copy as the file holds it: normalisation folded in, weights rounded to half.

    Folded in is what follows a convolution in a `Sequential`. What else an encoder of another
    library has is folded in by the exporter, after the weights were rounded: there a copy and
    its file differ by another rounding.
    """
    stored = copy.deepcopy(network).eval()
    for chain in stored.modules():
        if not isinstance(chain, nn.Sequential):
            continue
        for place, (before, layer) in enumerate(pairwise(list(chain)), 1):
            # Exactly these classes: a subclass may hold an activation, too.
            if type(layer) is nn.BatchNorm2d and type(before) is nn.Conv2d:
                chain[place - 1] = fuse_conv_bn_eval(before, layer)
                chain[place] = nn.Identity()
    for parameter in stored.parameters():
        if _is_held_by_half(parameter.detach().numpy()):
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

    Raises
    ------
    InputError
        The network only runs at the size at which it was traced.
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
        _try_other_size(partial, module)


def _try_other_size(path: Path, module: nn.Module) -> None:
    """Refuse a file that is bound to the size at which its network was traced.

    Raises
    ------
    InputError
        It cannot run at another size, or says something else than the network there.
    """
    import onnxruntime

    image = np.random.default_rng(0).random(OTHER_SIZE, np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(image)).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what it has to say comes as an error
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    try:
        found = session.run(None, {"image": image})[0]
        apart = float(np.abs(found - expected).mean())
    except Exception as error:  # of ONNX Runtime, or shapes that differ
        raise _bound(str(error).splitlines()[0]) from error
    if not apart <= ALIKE:
        raise _bound(f"file and network differ by {apart:.3g}")


def _bound(why: str) -> InputError:
    return InputError(
        f"the network cannot be exported for images of any size ({why})",
        hint="Train with another encoder: a convolutional network such as resnet18",
    )


class _Probabilities(nn.Module):
    """Logits to probabilities, so that the file needs no words beside it."""

    def __init__(self, network: nn.Module, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.activation = activation

    def forward(self, image: Tensor) -> Tensor:
        return self.activation(self.network(image))


def _is_held_by_half(values: np.ndarray) -> bool:
    """Whether half precision can hold float32 values.

    It holds neither 1e6 nor 1e-6, as which the scales of some encoders' layers start.

    >>> _is_held_by_half(np.float32([1e-6, 1])), _is_held_by_half(np.float32([1e-6]))
    (True, False)
    """
    with np.errstate(over="ignore"):
        apart = np.abs(values.astype(np.float16).astype(np.float32) - values)
    return bool(apart.max(initial=0) <= ROUNDING * np.abs(values).max(initial=0))


def _halve(model: onnx.ModelProto) -> None:
    """Store convolution weights as float16 with a cast to float32 after each."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 1:
            continue
        name = tensor.name
        values = numpy_helper.to_array(tensor)
        if not _is_held_by_half(values):
            continue
        half = values.astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes)
