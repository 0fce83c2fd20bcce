"""StarDist's networks out of ONNX files and into them: of planes and of volumes alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.stardist_graph import Convolution, build_network
from opsef_bridge.files import atomic_path
from opsef_bridge.train.network import CONVOLUTIONS, StarDistModule, chains, folded
from opsef_bridge.train.transfer import check_same, fill, not_ours, plain, read_constants

__all__ = ["Layers", "convolutions", "export_graph", "filled", "predict", "read_layers"]

_ENDS = ("features", "prob", "dist")
_FOLDED = ("resnet", "net_conv_after_resnet", "unet_batch_norm", "unet_dropout")
"""Parts of a configuration that say nothing of a U-Net whose normalisation was folded in."""


@dataclass(frozen=True, eq=False)
class Layers:
    """The convolutions of an ONNX file of StarDist's.

    Parameters
    ----------
    names : tuple of str
        In the order of the data; the last three are ``features``, ``prob`` and ``dist``.
    arrays : dict of str to ndarray of float32
        ``NAME.kernel`` (out, in, [kz,] ky, kx) and ``NAME.bias`` (out,).
    """

    names: tuple[str, ...]
    arrays: dict[str, np.ndarray]

    def kernel(self, place: int) -> np.ndarray:
        """Return the kernel of a layer by its place, from the end where it is negative."""
        return self.arrays[f"{self.names[place]}.kernel"]

    @property
    def dims(self) -> int:
        """2 of planes, 3 of volumes."""
        return self.kernel(0).ndim - 2


def read_layers(weights: Weights) -> Layers:
    """Return the convolutions of an ONNX file.

    Raises
    ------
    WeightsError
        The file is missing, no ONNX file, or not of a U-Net of StarDist's with the convolution
        ``features``.
    """
    arrays = read_constants(weights)
    names = tuple(name.removesuffix(".kernel") for name in arrays if name.endswith(".kernel"))
    ends = tuple(name.partition(".")[2] for name in names[-3:])
    if len(names) < 7 or ends != _ENDS:
        raise not_ours(weights, f"its last layers are {ends}, not features, prob and dist")
    return Layers(names, arrays)


def filled(
    network: StarDistModule,
    layers: Layers,
    weights: Weights,
    config: dict[str, Any],
    **noise: Any,
) -> StarDistModule:
    """Return `network` with the weights of a file: ready to predict, and the same function.

    Parameters
    ----------
    network : StarDistModule
        Fresh; is changed.
    layers : Layers
    weights : Weights
        What the file is called in errors, and what its card says of the network.
    config : dict
        Configuration of `network`.
    **noise
        ``channels`` and ``multiple`` of `opsef_bridge.train.transfer.check_same`.

    Raises
    ------
    WeightsError
        It is of another architecture, or computes something else.
    """
    theirs = weights.card.get("network") or {}
    other = [key for key in config if theirs.get(key, config[key]) != config[key]]
    differs = [f"{key} is {theirs[key]}, not {config[key]}" for key in other]
    if differs := [one for one in differs if not one.startswith(_FOLDED)]:
        raise not_ours(weights, "; ".join(differs))
    network = network.eval()
    # In the order of the data, as in the file.
    places = [name for name, part in network.named_modules() if isinstance(part, CONVOLUTIONS)]
    if len(places) != len(layers.names):
        raise not_ours(weights, f"it has {len(layers.names)} convolutions, not {len(places)}")
    values = {
        place: (layers.arrays[f"{name}.kernel"], layers.arrays[f"{name}.bias"])
        for place, name in zip(places, layers.names, strict=True)
    }
    fill(network, values, weights)
    plain(network)
    check_same(weights, lambda batch: predict(network, batch), ("prob", "dist"), **noise)
    return network


@torch.inference_mode()
def predict(network: StarDistModule, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (N, 1, ...) and distances (N, rays, ...) on the grid, float32."""
    logits, dist = network(torch.from_numpy(np.ascontiguousarray(batch)))
    return logits.sigmoid().numpy(), dist.numpy()


def convolutions(network: StarDistModule) -> list[Convolution]:
    """Return the convolutions of `network`, normalisation folded in, in the data's order."""
    network = folded(network)
    body = [layer for chain in chains(network) for layer in chain]
    body = [layer for layer in body if isinstance(layer, CONVOLUTIONS)]
    names = [*(f"convolution_{number}" for number in range(len(body) - 1)), *_ENDS]
    return [
        Convolution(name, layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for name, layer in zip(names, [*body, network.prob, network.dist], strict=True)
    ]


def export_graph(network: StarDistModule, config: dict[str, Any], path: str | Path) -> None:
    """Write `network` as ONNX: probabilities and distances, of any batch and size."""
    import onnx

    model = build_network(config, convolutions(network))
    with atomic_path(path) as partial:
        onnx.save(model, partial)
