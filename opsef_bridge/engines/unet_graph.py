"""CellProfiler's U-Net as an ONNX graph: from a list of tensors, with onnx alone.

`opsef_bridge.engines.unet_files` says what the network is, and reads the tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["Tensors", "build_network", "misfit"]

BLOCKS = 7
"""Four on the way down, three on the way up, two convolutions each."""


@dataclass
class Tensors:
    """What a file holds, in the order of the data.

    Parameters
    ----------
    convolutions : list of (kernel, bias)
        Kernels (out, in, y, x), biases (out,), float32.
    norms : list of (gamma, beta, mean, variance)
        float32, (channels,).
    epsilons : list of float
        One per batch normalisation.
    form : str
        What kind of file it is.
    """

    form: str
    convolutions: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    norms: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    epsilons: list[float] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """How many numbers these are, running statistics included, as Keras counts them."""
        return sum(a.size for arrays in (*self.convolutions, *self.norms) for a in arrays)


def misfit(tensors: Tensors) -> str | None:
    """Say what is wrong with tensors that are not those of the network; None where all is right.

    They may be of any width, the channels of the first block: 64 in the original.
    """
    convolutions, norms = tensors.convolutions, tensors.norms
    if (len(convolutions), len(norms)) != (2 * BLOCKS + 1, 2 * BLOCKS):
        return (
            f"it has {len(convolutions)} convolutions and {len(norms)} batch normalisations, not "
            f"{2 * BLOCKS + 1} and {2 * BLOCKS}"
        )
    width = convolutions[0][0].shape[0]
    for number, shape in enumerate(_kernel_shapes(width)):
        kernel, *beside = (*convolutions[number], *(norms[number] if number < len(norms) else ()))
        if kernel.shape != shape:
            return (
                f"its convolution {number + 1} has a kernel of {kernel.shape} (out, in, y, x), not "
                f"{shape}, which follows from {width} channels in the first"
            )
        if any(array.shape != shape[:1] for array in beside):
            found = ", ".join(str(array.shape) for array in beside)
            return f"beside its convolution {number + 1} of {kernel.shape} are arrays of {found}"
        if not all(np.isfinite(array).all() for array in (kernel, *beside)):
            return (
                f"its convolution {number + 1}, or the normalisation of it, holds NaN or infinity"
            )
    return None


def _kernel_shapes(width: int) -> list[tuple[int, int, int, int]]:
    """Return the shapes (out, in, y, x) of all kernels.

    >>> [_kernel_shapes(64)[place] for place in (0, 7, 8, 14)]
    [(64, 1, 3, 3), (512, 512, 3, 3), (256, 768, 3, 3), (3, 64, 1, 1)]
    """
    widths = [width * 2**level for level in range(4)]
    firsts = list(zip([1, *widths], widths, strict=False))
    firsts += [(low + high, low) for low, high in zip(widths[2::-1], widths[:0:-1], strict=True)]
    shapes = [(out, takes, 3, 3) for block in firsts for takes, out in (block, (block[1],) * 2)]
    return [*shapes, (3, width, 1, 1)]


class _Graph:
    """An ONNX graph that takes its tensors one after the other."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.constants: list[Any] = []
        self.nodes: list[Any] = []
        self.done = 0

    def node(self, operator: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper

        out = out or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [out], **attributes))
        return out

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(values, np.float32)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def convolution(self, x: str) -> str:
        """Add the next convolution and its ReLU."""
        kernel, bias = self.tensors.convolutions[self.done]
        inputs = (
            self.constant(f"{self.done}.kernel", kernel),
            self.constant(f"{self.done}.bias", bias),
        )
        self.done += 1
        rim = kernel.shape[-1] // 2
        return self.node("Relu", self.node("Conv", x, *inputs, pads=[rim] * 4))

    def block(self, x: str) -> str:
        """Add two convolutions, each with its batch normalisation.

        The normalisation stands between a ReLU and a convolution that is padded with zeros,
        so it can be folded into neither.
        """
        for _ in range(2):
            norm, epsilon = self.tensors.norms[self.done], self.tensors.epsilons[self.done]
            names = ("gamma", "beta", "mean", "variance")
            inputs = [
                self.constant(f"{self.done}.{what}", values)
                for what, values in zip(names, norm, strict=True)
            ]
            x = self.node("BatchNormalization", self.convolution(x), *inputs, epsilon=epsilon)
        return x


def build_network(tensors: Tensors) -> onnx.ModelProto:
    """Return the network as a checked model, weights in float32."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(tensors)
    x, skips = graph.block("image"), []
    for _ in range(3):
        skips.append(x)
        x = graph.block(graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    scales = graph.constant("enlarge", np.array([1, 1, 2, 2]))
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    while skips:
        x = graph.node("Resize", x, "", scales, mode="nearest", **nearest)
        x = graph.block(graph.node("Concat", x, skips.pop(), axis=1))
    graph.node("Softmax", graph.convolution(x), axis=1, out="probabilities")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "y", "x"])
        for name, channels in (("image", 1), ("probabilities", 3))
    ]
    made = helper.make_graph(graph.nodes, "unet", ends[:1], ends[1:], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
