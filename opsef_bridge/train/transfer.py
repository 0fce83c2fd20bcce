"""Start from weights that are there: out of their files, into networks that learn.

Files of ONNX hold networks without batch normalisation: it was folded into the convolutions.
Here it comes back as a layer that changes nothing. What it would normalise is not known until
there is an image, so the first batch of the training says: mean and variance of what reaches
the layer become its statistics, and its scale and shift those that undo them. The function is
the same, and it learns on like a network that was never folded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import refuse_missing
from opsef_bridge.engines.runtime import open_session
from opsef_bridge.errors import WeightsError
from opsef_bridge.train.network import CONVOLUTIONS, NORMS

__all__ = [
    "FINER",
    "WARM_UP",
    "check_same",
    "fill",
    "fine_tuned",
    "kernels_and_biases",
    "not_ours",
    "plain",
    "read_constants",
    "revive",
]

ALIKE = 1e-2
"""How far file and network may be apart on noise, over the largest value. Rounding makes less
than a thousandth of it."""

PREFIX, HALF = "network.", ".half"

FINER = 0.3
"""Share of the usual learning rate for networks that start from weights: at the full rate they
forget in a few steps what they know."""

WARM_UP = 20
"""Steps in which the rate rises, at most, where a network is not a fresh one."""


def fine_tuned(settings: Any) -> Any:
    """Return settings of a learner, to go on from weights that are there: a smaller rate.

    It is `FINER` of theirs, after at most `WARM_UP` steps (where the settings count steps; a
    warm-up that is a part of the training stays).

    Examples
    --------
    >>> from opsef_bridge.train.loop import Settings
    >>> found = fine_tuned(Settings())
    >>> found.rate, found.warm_up
    (0.0006, 20)
    """
    warm_up = settings.warm_up
    if warm_up > 1:  # steps, not a part of them
        warm_up = min(warm_up, WARM_UP)
    return replace(settings, rate=round(FINER * settings.rate, 12), warm_up=warm_up)


def not_ours(weights: Weights, why: str) -> WeightsError:
    """Return the error that says why training cannot start from `weights`."""
    return WeightsError(
        f"training cannot start from the weights {weights.name!r}: {why}",
        hint=f"Start from others of the engine {weights.engine!r}, or from random ones",
    )


def read_constants(weights: Weights) -> dict[str, np.ndarray]:
    """Return the numbers of an ONNX file, by name and in the order of the file, as float32.

    Raises
    ------
    WeightsError
        The file is missing, or no ONNX file.
    """
    import onnx
    from onnx import numpy_helper

    path = refuse_missing(weights)
    if path.suffix != ".onnx":
        raise not_ours(weights, f"{path.name} is no ONNX file")
    try:
        model = onnx.load(str(path), load_external_data=False)
        constants = {
            tensor.name.removesuffix(HALF).removeprefix(PREFIX): numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
        }
    except Exception as error:  # of protobuf or onnx: no common base
        raise not_ours(weights, f"{path.name} cannot be read ({error})") from error
    return {name: values.astype(np.float32) for name, values in constants.items() if values.ndim}


def kernels_and_biases(
    constants: Mapping[str, np.ndarray],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return kernel and bias of every convolution that has both, by its name.

    Examples
    --------
    >>> list(kernels_and_biases({"a.weight": np.ones(1), "a.bias": np.ones(1), "b": np.ones(1)}))
    ['a']
    """
    names = [name.removesuffix(".weight") for name in constants if name.endswith(".weight")]
    return {
        name: (constants[f"{name}.weight"], constants[f"{name}.bias"])
        for name in names
        if f"{name}.bias" in constants
    }


def fill(
    network: nn.Module,
    values: Mapping[str, tuple[np.ndarray, np.ndarray]],
    weights: Weights,
) -> None:
    """Set the convolutions of `network`; a normalisation after one takes its bias.

    Parameters
    ----------
    network : nn.Module
        Is changed, see `revive`.
    values : mapping of str to (ndarray, ndarray)
        Kernel and bias of every convolution, by its name in the network.
    weights : Weights
        Where they come from, for the errors.

    Raises
    ------
    WeightsError
        One is missing, left over, or of another shape.
    """
    rest = dict(values)
    for name, convolution, norm in _convolutions(network):
        if name not in rest:
            raise not_ours(weights, f"the convolution {name} is not in its file")
        kernel, bias = rest.pop(name)
        if kernel.shape != tuple(convolution.weight.shape):
            raise not_ours(
                weights,
                f"its convolution {name} is {kernel.shape}, {tuple(convolution.weight.shape)} "
                "fits the network",
            )
        convolution.weight.data = torch.tensor(kernel)
        if norm is None:
            convolution.bias = nn.Parameter(torch.tensor(bias))
        else:
            nn.init.ones_(norm.weight)
            norm.bias.data = torch.tensor(bias)
            nn.init.zeros_(norm.running_mean)
            nn.init.constant_(norm.running_var, 1 - norm.eps)
    if rest:
        raise not_ours(weights, f"its file has more: {', '.join(sorted(rest)[:3])}")
    revive(network)


def revive(network: nn.Module) -> None:
    """Let every normalisation that does nothing yet take its statistics from the first batch."""
    for _, _, norm in _convolutions(network):
        if norm is not None:
            norm.register_forward_pre_hook(_begin)


def plain(network: nn.Module) -> None:
    """Take every normalisation that does nothing out again; its shift is the bias before it.

    StarDist learns on best so: after 80 to 100 steps on 3 brightfield images at 0.1 of the
    rate F1@0.5 was 0.73 on the new kind and 0.52 on the old, 0.14 and 0.16 by `revive`; the
    U-Net had 0.62 and 0.41, and 0.63 and 0.72 by `revive`. (One image of the new kind.)
    """
    for chain in network.modules():
        if isinstance(chain, nn.Sequential):
            for place, (first, second) in enumerate(pairwise(list(chain)), 1):
                if isinstance(first, CONVOLUTIONS) and isinstance(second, NORMS):
                    first.bias = nn.Parameter(second.bias.detach().clone())
                    chain[place] = nn.Identity()


@torch.no_grad()
def _begin(norm: Any, inputs: tuple[Tensor]) -> None:
    """Normalise from now on, by the statistics of `inputs`, without changing the function."""
    if not norm.training or norm.num_batches_tracked:
        return
    x = inputs[0].float()
    others = (0, *range(2, x.ndim))
    mean, variance = x.mean(others), x.var(others, unbiased=False)
    scale = (variance + norm.eps).sqrt()
    norm.bias.add_(norm.weight * mean)
    norm.weight.mul_(scale)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def check_same(
    weights: Weights,
    run: Callable[[np.ndarray], Sequence[np.ndarray]],
    names: Sequence[str],
    *,
    channels: int = 1,
    multiple: int | tuple[int, ...] = 32,
) -> float:
    """Return how far a network and the file from which it was filled are apart on noise.

    Names and sizes alone do not make a network: another may have the same.

    Parameters
    ----------
    weights : Weights
        Of an ONNX file.
    run : callable
        From a batch (N, C, [Z,] Y, X) float32 to what the file says, in the order of `names`.
    names : sequence of str
        Outputs of the file.
    channels : int
        Of the images.
    multiple : int or tuple of int
        Of their sides in px; one for each axis of a volume.

    Returns
    -------
    float
        Largest difference of two values.

    Raises
    ------
    WeightsError
        The file says something else.
    """
    session = open_session(weights)
    sides = (multiple, multiple) if isinstance(multiple, int) else multiple
    shape = (2, channels, *(number * side for number, side in enumerate(sides, 2)))
    batch = np.random.default_rng(0).random(shape, np.float32)
    try:
        theirs = session.run(list(names), {session.get_inputs()[0].name: batch})
        pairs = list(zip(run(batch), theirs, strict=True))
        apart = [float(np.abs(mine - other).max()) for mine, other in pairs]
        largest = [float(np.abs(other).max()) for _, other in pairs]
    except Exception as error:  # of ONNX Runtime, or shapes that differ
        raise not_ours(weights, str(error).splitlines()[0]) from error
    if not all(a <= ALIKE * max(1, b) for a, b in zip(apart, largest, strict=True)):
        raise not_ours(weights, f"its file computes something else (by {max(apart):.3g})")
    return max(apart)


def _convolutions(network: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Give the convolutions with their names, each with the normalisation that follows it."""
    follows = {
        id(first): second
        for chain in network.modules()
        if isinstance(chain, nn.Sequential)
        for first, second in pairwise(chain)
        if isinstance(second, NORMS)
    }
    for name, module in network.named_modules():
        if isinstance(module, CONVOLUTIONS):
            yield name, module, follows.get(id(module))
