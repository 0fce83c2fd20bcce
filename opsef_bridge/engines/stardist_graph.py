"""StarDist's networks as ONNX graphs: from a configuration and a list of convolutions.

A configuration (``config.json``) fixes the network of the ``stardist`` package layer by
layer, so the graph is written with onnx alone: neither TensorFlow nor Keras is needed.

References
----------
.. [1] https://github.com/stardist/stardist (configuration and network, version 0.9.2)
.. [2] https://github.com/CSBDeep/CSBDeep (U-Net and residual blocks, version 0.8.2)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opsef_bridge.errors import WeightsError

if TYPE_CHECKING:
    import onnx

__all__ = ["Convolution", "build_network", "describe_network", "with_defaults"]

ACTIVATIONS = {"relu": "Relu", "elu": "Elu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


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


def with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Return `config` with what older files leave out, as the package fills it in.

    Raises
    ------
    WeightsError
        It is no configuration of StarDist, or of a network that no engine takes.
    """
    axes = str(config.get("axes", "")).replace("C", "")
    if axes not in ("YX", "ZYX") or "n_rays" not in config:
        raise WeightsError(
            f"config.json is not StarDist's: its axes are {config.get('axes')!r}, its rays "
            f"{config.get('n_rays')!r}",
            hint="Bring the folder that StarDist2D or StarDist3D has written",
        )
    dims = len(axes)
    full = {
        "n_channel_in": 1,
        "backbone": "unet",
        "grid": [1] * dims,
        "unet_n_depth": 3 if dims == 2 else 2,
        "unet_n_conv_per_depth": 2,
        "unet_kernel_size": [3] * dims,
        "unet_pool": [2] * dims,
        "unet_activation": "relu",
        "resnet_n_blocks": 4,
        "resnet_n_conv_per_block": 3,
        "resnet_kernel_size": [3] * dims,
        "resnet_activation": "relu",
        **config,
        "axes": axes,
    }
    full["unet_last_activation"] = full.get("unet_last_activation") or full["unet_activation"]
    for key in ("grid", "unet_pool", "unet_kernel_size", "resnet_kernel_size"):
        full[key] = [full[key]] * dims if isinstance(full[key], int) else list(full[key])
    channels = full["n_channel_in"]
    if channels != 1 and (channels, axes) != (3, "YX"):
        raise WeightsError(
            f"the network takes {channels} channels along {axes}",
            hint="One channel, or red, green and blue of a plane, can be used",
        )
    return full


def describe_network(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a card says of the network under ``input``.

    Parameters
    ----------
    config : dict
        Of `with_defaults`.
    """
    unet = config["backbone"] == "unet"
    grid = config["grid"]
    pools = [p ** config["unet_n_depth"] if unet else 1 for p in config["unet_pool"]]
    multiple = [p * g for p, g in zip(pools, grid, strict=True)]
    reach = [_reach(config, axis) for axis in range(len(grid))]
    described = {
        "axes": "YXS" if config["n_channel_in"] == 3 else config["axes"],
        "grid": list(grid),
        "rays": config["n_rays"],
        "multiple": multiple,
        "margin": [math.ceil(r / m) * m for r, m in zip(reach, multiple, strict=True)],
        "percentiles": [1.0, 99.8],
    }
    if config["axes"] == "ZYX":
        described["anisotropy"] = _anisotropy(config)
    return described


def _anisotropy(config: dict[str, Any]) -> list[float]:
    """Return the anisotropy of the rays; refuse rays of another kind than the usual."""
    rays = config.get("rays_json") or {"name": "Rays_GoldenSpiral", "kwargs": {}}
    if rays["name"] != "Rays_GoldenSpiral":
        raise WeightsError(
            f"the network has rays of the kind {rays['name']}",
            hint="Rays_GoldenSpiral, StarDist's default, can be used",
        )
    return list(rays["kwargs"].get("anisotropy") or config.get("anisotropy") or (1.0, 1.0, 1.0))


def _reach(config: dict[str, Any], axis: int) -> int:
    """Return how many px to each side along `axis` a pixel of the output depends on."""
    reach, stride, grid = 0, 1, config["grid"][axis]
    if config["backbone"] != "unet":
        radius, pooled = config["resnet_kernel_size"][axis] // 2, 1
        reach = 3 + 1
        for _ in range(config["resnet_n_blocks"]):
            pool = 1 + (grid > pooled)
            pooled *= pool
            reach += radius * stride * (1 + (config["resnet_n_conv_per_block"] - 1) * pool)
            stride *= pool
        return reach + radius * stride
    radius = config["unet_kernel_size"][axis] // 2
    convolutions = config["unet_n_conv_per_depth"] * radius
    pools = [2] * int(math.log2(grid)) + [config["unet_pool"][axis]] * config["unet_n_depth"]
    for pool in pools:
        reach += convolutions * stride + (pool - 1) * stride
        stride *= pool
    reach += convolutions * stride
    for pool in pools[: -config["unet_n_depth"] - 1 : -1]:
        stride //= pool
        reach += (pool - 1) * stride + convolutions * stride
    return reach + radius * stride


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
        for step in _steps_to(config["grid"]):
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
        steps = _steps_to(config["grid"])
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


def _steps_to(grid: Sequence[int]) -> list[list[int]]:
    """Return the poolings that lead to `grid`, each of 1 or 2 along every axis."""
    steps, pooled = [], [1] * len(grid)
    while pooled != list(grid):
        step = [2 if side > done else 1 for side, done in zip(grid, pooled, strict=True)]
        pooled = [done * s for done, s in zip(pooled, step, strict=True)]
        if any(done > side for side, done in zip(grid, pooled, strict=True)):
            raise ValueError(f"the grid {list(grid)} is not made of powers of 2")
        steps.append(step)
    return steps
