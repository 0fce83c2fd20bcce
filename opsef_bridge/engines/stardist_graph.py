"""StarDist's networks as ONNX graphs: from a configuration and a list of convolutions.

A configuration (``config.json``) fixes the network of the ``stardist`` package layer by
layer, so the graph is written with onnx alone: neither TensorFlow nor Keras is needed.

References
----------
.. [1] https://github.com/stardist/stardist (configuration and network, version 0.9.2)
.. [2] https://github.com/CSBDeep/CSBDeep (U-Net and residual blocks, version 0.8.2)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opsef_bridge.engines.stardist_config import (
    ACTIVATIONS,
    describe_network,
    steps_to,
    with_defaults,
)
from opsef_bridge.errors import WeightsError

if TYPE_CHECKING:
    import onnx

__all__ = ["Convolution", "build_network", "describe_network", "with_defaults"]


@dataclass(frozen=True, eq=False)
class Convolution:
    """One convolution of a network.

    Parameters
    ----------
    name : str
        Name of the layer in the file.
    kernel : ndarray of float32, shape (out, in, [kz,] ky, kx)
    bias : ndarray of float32, shape (out,)
    """

    name: str
    kernel: np.ndarray
    bias: np.ndarray

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel is one pixel."""
        return self.kernel[0, 0].size == 1


def build_network(config: dict[str, Any], convolutions: Sequence[Convolution]) -> onnx.ModelProto:
    """Return StarDist's network as an ONNX model, weights in float32.

    Parameters
    ----------
    config : dict
        Of `with_defaults`.
    convolutions : sequence of Convolution
        In the order of the data; ``features``, ``prob`` and ``dist`` by their names.

    Raises
    ------
    WeightsError
        They are not those of the network that `config` describes.
    """
    graph = _Graph(config, convolutions)
    try:
        body = graph.unet("image") if config["backbone"] == "unet" else graph.resnet("image")
        if "features" in graph.named:
            backbone = config["backbone"]
            body = graph.named_convolution("features", body, config[f"{backbone}_activation"])
        graph.named_convolution("prob", body, "sigmoid")
        graph.named_convolution("dist", body, "linear")
        if graph.chain:
            raise ValueError(f"{len(graph.chain)} layers are left over")
        return graph.model()
    except (LookupError, ValueError) as error:
        raise WeightsError(
            f"the weights do not fit the network that config.json describes ({error})",
            hint="Bring the config.json that was written with them",
        ) from error


class _Graph:
    """An ONNX graph that takes its convolutions, one after the other, from a list."""

    def __init__(self, config: dict[str, Any], convolutions: Sequence[Convolution]) -> None:
        heads = ("features", "prob", "dist")
        self.config = config
        self.named = {layer.name: layer for layer in convolutions if layer.name in heads}
        self.chain = [layer for layer in convolutions if layer.name not in heads]
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def node(self, operator: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper

        out = out or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [out], **attributes))
        return out

    def tensor(self, name: str, values: np.ndarray) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def convolution(
        self,
        x: str,
        activation: str,
        *,
        layer: Convolution | None = None,
        strides: Sequence[int] | None = None,
        out: str | None = None,
    ) -> str:
        """Add a convolution, the next of the chain by default, and its activation."""
        layer = layer or self.chain.pop(0)
        place = f"{len(self.tensors) // 2:02d}.{layer.name}"
        kernel = self.tensor(f"{place}.kernel", layer.kernel.astype(np.float32))
        bias = self.tensor(f"{place}.bias", layer.bias.astype(np.float32))
        # As TensorFlow pads: with a stride or an even kernel more behind than in front.
        more = {} if strides is None else {"strides": list(strides)}
        linear = activation == "linear"
        x = self.node(
            "Conv", x, kernel, bias, out=out if linear else None, auto_pad="SAME_UPPER", **more
        )
        return x if linear else self.node(ACTIVATIONS[activation], x, out=out)

    def named_convolution(self, name: str, x: str, activation: str) -> str:
        """Add the convolution `name`, its output named alike."""
        return self.convolution(x, activation, layer=self.named[name], out=name)

    def unet(self, x: str) -> str:
        """Add the way down to the grid, and csbdeep's ``unet_block``."""
        config = self.config
        activation, pool = config["unet_activation"], config["unet_pool"]
        count, skips = config["unet_n_conv_per_depth"], []
        for step in steps_to(config["grid"]):
            x = self.repeated(x, count, activation)
            x = self.node("MaxPool", x, kernel_shape=step, strides=step)
        for _ in range(config["unet_n_depth"]):
            x = self.repeated(x, count, activation)
            skips.append(x)
            x = self.node("MaxPool", x, kernel_shape=pool, strides=pool)
        x = self.repeated(x, count, activation)
        scales = self.tensor("enlarge", np.array([1, 1, *pool], np.float32)) if skips else ""
        for level in reversed(range(config["unet_n_depth"])):
            x = self.node(
                "Resize",
                x,
                "",
                scales,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            x = self.node("Concat", x, skips.pop(), axis=1)
            x = self.repeated(x, count - 1, activation)
            x = self.convolution(x, activation if level else config["unet_last_activation"])
        return x

    def repeated(self, x: str, count: int, activation: str) -> str:
        """Add `count` convolutions."""
        for _ in range(count):
            x = self.convolution(x, activation)
        return x

    def resnet(self, x: str) -> str:
        """Add the two first convolutions, and csbdeep's ``resnet_block`` for each block."""
        config = self.config
        activation, count = config["resnet_activation"], config["resnet_n_conv_per_block"]
        x = self.repeated(x, 2, "linear")
        steps = steps_to(config["grid"])
        for block in range(config["resnet_n_blocks"]):
            strides = steps[block] if block < len(steps) else [1] * len(config["grid"])
            # The way around a block comes just before or just after its last convolution.
            around = next((layer for layer in self.chain[: count + 1] if layer.is_pointwise), None)
            if around:
                self.chain.remove(around)
            y = self.convolution(x, activation, strides=strides)
            y = self.repeated(y, count - 2, activation)
            y = self.convolution(y, "linear")
            if around:
                x = self.convolution(x, "linear", layer=around, strides=strides)
            x = self.node(ACTIVATIONS[activation], self.node("Add", x, y))
        return x

    def model(self) -> onnx.ModelProto:
        """Return the graph as a checked model."""
        import onnx
        from onnx import TensorProto, helper

        config = self.config
        axes = [axis.lower() for axis in config["axes"]]
        float32, rays = TensorProto.FLOAT, self.named["dist"].kernel.shape[0]
        takes = helper.make_tensor_value_info(
            "image", float32, ["n", config["n_channel_in"], *axes]
        )
        steps = [f"{axis}/{step}" for axis, step in zip(axes, config["grid"], strict=True)]
        gives = [
            helper.make_tensor_value_info(name, float32, ["n", channels, *steps])
            for name, channels in (("prob", 1), ("dist", rays))
        ]
        graph = helper.make_graph(self.nodes, "stardist", [takes], gives, self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        try:
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # of the checker and of shape inference: no common base
            raise ValueError(str(error)) from error
        if rays != config["n_rays"]:
            raise ValueError(f"{rays} rays, not {config['n_rays']}")
        return model
