"""What StarDist's ``config.json`` says of a network, checked, and what follows from it.

References
----------
.. [1] https://github.com/stardist/stardist (configuration and network, version 0.9.2)
.. [2] https://github.com/CSBDeep/CSBDeep (U-Net and residual blocks, version 0.8.2)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from opsef_bridge.errors import WeightsError

__all__ = ["ACTIVATIONS", "describe_network", "layer_sizes", "steps_to", "with_defaults"]

ACTIVATIONS = {"relu": "Relu", "elu": "Elu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
"""Names in a configuration, and of the operators of ONNX."""

LARGEST_MULTIPLE = 1024
"""Of the sides of the network's input, in px: an image is continued to it."""

_PER_AXIS = ("grid", "unet_pool", "unet_kernel_size", "resnet_kernel_size")
_BOUNDS = {
    "n_rays": (3, 1024),
    "n_channel_in": (1, 1000),
    "grid": (1, 64),
    "unet_n_depth": (0, 8),
    "unet_n_filter_base": (1, 4096),
    "unet_n_conv_per_depth": (1, 16),
    "unet_kernel_size": (1, 31),
    "unet_pool": (1, 8),
    "unet_expansion": (1, 8),
    "unet_dropout": (0, 1),
    "net_conv_after_unet": (0, 4096),
    "resnet_n_blocks": (1, 64),
    "resnet_n_filter_base": (1, 4096),
    "resnet_n_conv_per_block": (2, 16),
    "resnet_kernel_size": (1, 31),
    "net_conv_after_resnet": (0, 4096),
}
_NUMBERS = {"unet_expansion": (int, float), "unet_dropout": (int, float)}
"""Keys whose values need not be whole."""


def with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """Return `config` with what older files leave out, as the package fills it in.

    Raises
    ------
    WeightsError
        It is no configuration of StarDist, one with absurd sizes, or of a network that no
        engine takes.
    """
    axes = str(config.get("axes", "")).replace("C", "")
    if axes not in ("YX", "ZYX") or "n_rays" not in config:
        raise WeightsError(
            f"config.json is not StarDist's: its axes are {config.get('axes')!r}, its rays "
            f"{config.get('n_rays')!r}",
            hint="Bring the folder that StarDist2D or StarDist3D has written",
        )
    dims = len(axes)
    full = {**_usual(dims), **config, "axes": axes}
    full["unet_last_activation"] = full.get("unet_last_activation") or full["unet_activation"]
    for key in _PER_AXIS:
        value = full[key]
        full[key] = list(value) if isinstance(value, list | tuple) else [value] * dims
    _check_values(full)
    channels = full["n_channel_in"]
    if channels != 1 and (channels, axes) != (3, "YX"):
        raise WeightsError(
            f"the network takes {channels} channels along {axes}",
            hint="One channel, or red, green and blue of a plane, can be used",
        )
    if axes == "ZYX":
        _anisotropy(full)
    return full


def _usual(dims: int) -> dict[str, Any]:
    """Return the values that the package takes where a configuration names none."""
    return {
        "n_channel_in": 1,
        "n_classes": None,
        "backbone": "unet",
        "grid": [1] * dims,
        "unet_n_depth": 3 if dims == 2 else 2,
        "unet_n_filter_base": 32,
        "unet_n_conv_per_depth": 2,
        "unet_kernel_size": [3] * dims,
        "unet_pool": [2] * dims,
        "unet_expansion": 2,
        "unet_activation": "relu",
        "unet_batch_norm": False,
        "unet_dropout": 0.0,
        "net_conv_after_unet": 128,
        "resnet_n_blocks": 4,
        "resnet_n_filter_base": 32,
        "resnet_n_conv_per_block": 3,
        "resnet_kernel_size": [3] * dims,
        "resnet_activation": "relu",
        "resnet_batch_norm": False,
        "net_conv_after_resnet": 128,
    }


def _check_values(config: dict[str, Any]) -> None:
    """Refuse values that StarDist does not take, or that nobody has memory for."""
    dims = len(config["axes"])
    for key, (low, high) in _BOUNDS.items():
        value = config[key]
        values = value if key in _PER_AXIS else [value]
        wrong = [v for v in values if type(v) not in _NUMBERS.get(key, (int,))]
        if wrong or not all(low <= v <= high for v in values):
            raise _absurd(key, value, f"from {low} to {high}")
        if key in _PER_AXIS and len(values) != dims:
            raise _absurd(key, value, f"one for each of {config['axes']}")
    for key in ("unet_activation", "unet_last_activation", "resnet_activation"):
        if config[key] not in (*ACTIVATIONS, "linear"):
            raise _absurd(key, config[key], ", ".join([*ACTIVATIONS, "linear"]))
    for key in ("unet_batch_norm", "resnet_batch_norm"):
        if not isinstance(config[key], bool):
            raise _absurd(key, config[key], "true or false")
    if config["n_classes"] is not None and config["n_classes"] not in range(1, 1001):
        raise _absurd("n_classes", config["n_classes"], "from 1 to 1000, or none")
    if config["backbone"] not in ("unet", "resnet")[: dims - 1]:
        raise _absurd("backbone", config["backbone"], "unet, or resnet for volumes")
    if max(_multiple(config)) > LARGEST_MULTIPLE:
        raise _absurd("unet_n_depth", config["unet_n_depth"], "fewer or smaller poolings")


def _absurd(key: str, value: Any, choices: str) -> WeightsError:
    return WeightsError(
        f"config.json has {key} {str(value)[:60]}, which no network of StarDist here can have: "
        f"{choices}",
        hint="Bring the config.json that StarDist has written",
    )


def layer_sizes(config: dict[str, Any]) -> list[tuple[int, ...]]:
    """Return (filters, *kernel) of each convolution that the package will build, sorted.

    Those that tell classes of objects apart are left out: no engine here uses them.

    Parameters
    ----------
    config : dict
        Of `with_defaults`.

    Raises
    ------
    ValueError
        The grid is not made of powers of 2.
    """
    steps, backbone = steps_to(config["grid"]), config["backbone"]
    kernel, dims = tuple(config[f"{backbone}_kernel_size"]), len(config["grid"])
    sizes = _unet_sizes(config, steps) if backbone == "unet" else _resnet_sizes(config, steps)
    after = config[f"net_conv_after_{backbone}"]
    heads = [(1, *[1] * dims), (config["n_rays"], *[1] * dims)]
    return sorted([*sizes, *([(after, *kernel)] if after else []), *heads])


def _unet_sizes(config: dict[str, Any], steps: Sequence[Any]) -> list[tuple[int, ...]]:
    base, depth = config["unet_n_filter_base"], config["unet_n_depth"]
    more = config["unet_n_conv_per_depth"] - 1

    def at(level: int) -> int:
        return int(base * config["unet_expansion"] ** max(0, level))

    filters = [base] * ((more + 1) * len(steps))
    for level in range(depth):
        filters += [at(level)] * (more + 1)
    for level in reversed(range(depth + 1)):
        filters += [at(level)] * more + [at(level - 1)]
    return [(count, *config["unet_kernel_size"]) for count in filters]


def _resnet_sizes(config: dict[str, Any], steps: Sequence[Any]) -> list[tuple[int, ...]]:
    filters = config["resnet_n_filter_base"]
    sizes: list[tuple[int, ...]] = [(filters, 7, 7, 7), (filters, 3, 3, 3)]
    for block in range(config["resnet_n_blocks"]):
        shrinks = block < len(steps)
        filters *= 1 + shrinks
        sizes += [(filters, *config["resnet_kernel_size"])] * config["resnet_n_conv_per_block"]
        sizes += [(filters, 1, 1, 1)] * shrinks
    return sizes


def describe_network(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a card says of the network under ``input``.

    Parameters
    ----------
    config : dict
        Of `with_defaults`.
    """
    grid, multiple = config["grid"], _multiple(config)
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


def _multiple(config: dict[str, Any]) -> list[int]:
    """Return of what the sides of the network's input are multiples, in px."""
    depth = config["unet_n_depth"] if config["backbone"] == "unet" else 0
    return [p**depth * g for p, g in zip(config["unet_pool"], config["grid"], strict=True)]


def _anisotropy(config: dict[str, Any]) -> list[float]:
    """Return the anisotropy of the rays; refuse rays of another kind than the usual."""
    usual, rays = "Rays_GoldenSpiral", config.get("rays_json") or {}
    try:
        name, kwargs = rays.get("name", usual), rays.get("kwargs", {})
        found = kwargs.get("anisotropy") or config.get("anisotropy") or (1.0, 1.0, 1.0)
        anisotropy = [float(value) for value in found]
        good = len(anisotropy) == 3 and all(0.001 <= value <= 1000 for value in anisotropy)
        count = kwargs.get("n", config["n_rays"])
    except (AttributeError, TypeError, ValueError) as error:
        raise _absurd("rays_json", rays, f"{usual} with an anisotropy of 3 numbers") from error
    if name != usual or not good or count != config["n_rays"]:
        raise WeightsError(
            f"the network has {count} rays of the kind {name} with an anisotropy of {found}",
            hint="Rays_GoldenSpiral, StarDist's default, as many as n_rays, can be used",
        )
    return anisotropy


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


def steps_to(grid: Sequence[int]) -> list[list[int]]:
    """Return the poolings that lead to `grid`, each of 1 or 2 along every axis."""
    steps, pooled = [], [1] * len(grid)
    while pooled != list(grid):
        step = [2 if side > done else 1 for side, done in zip(grid, pooled, strict=True)]
        pooled = [done * s for done, s in zip(pooled, step, strict=True)]
        if any(done > side for side, done in zip(grid, pooled, strict=True)):
            raise ValueError(f"the grid {list(grid)} is not made of powers of 2")
        steps.append(step)
    return steps
