"""The network of the engine ``cellpose``: read from a file, and run by the package's functions.

`CellposeModel` of the package is not used: it knows one size of network only, and answers a
file that is missing by downloading another. Here nothing is ever downloaded.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from opsef_bridge.engines.base import Weights
from opsef_bridge.errors import OpsefError, WeightsError

__all__ = ["STEPS", "STYLE", "build_network", "import_package", "run_planes"]
__all__ += ["run_volume"]

STYLE = 256
"""Length of the style vector for which the package reserves memory."""

STEPS = 200
"""Of a pixel along the flows, at the size at which the network sees the image."""


def import_package() -> SimpleNamespace:
    """Return the modules of the package that are used; importing them takes seconds.

    Raises
    ------
    OpsefError
        The packages of the extra ``cellpose`` are not installed.
    """
    try:
        import torch
        from cellpose import core, dynamics, resnet_torch, transforms, utils
    except ImportError as error:
        raise OpsefError(
            f"the engine 'cellpose' needs the package cellpose 3.1.1.3 ({error})",
            hint='Install it by `pip install "opsef_bridge[cellpose]"`, on Python 3.11 or 3.12: '
            "there is none for 3.13 and later",
        ) from error
    return SimpleNamespace(
        torch=torch,
        core=core,
        dynamics=dynamics,
        resnet_torch=resnet_torch,
        transforms=transforms,
        utils=utils,
    )


def run_planes(
    package: SimpleNamespace,
    network: Any,
    planes: np.ndarray,
    *,
    scale: float,
    tile: int,
    batch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Run the network over every plane, as ``CellposeModel.eval(resample=False)`` does.

    Parameters
    ----------
    planes : (Z, Y, X, 2) ndarray of float32
        Normalised; the second channel is the nucleus, or zero.
    scale : float
        Factor by which the planes are resized before.
    tile, batch : int
        ``bsize`` and ``batch_size`` of the package.

    Returns
    -------
    found : (Z, M, N, 3) ndarray of float32
        Flow along Y and X (times 5), and the logit of belonging to an object; resized.
    styles : (Z, 256) ndarray of float32
    """
    found, styles = package.core.run_net(
        network, planes, bsize=tile, batch_size=batch, rsz=scale if scale != 1 else None
    )
    return found, styles


def run_volume(
    package: SimpleNamespace,
    network: Any,
    volume: np.ndarray,
    *,
    scale: float,
    anisotropy: float,
    tile: int,
    batch: int,
) -> np.ndarray:
    """Run the network over the planes of a volume along all three axes and add up the flows.

    As ``CellposeModel.eval(do_3D=True)``: each axis adds its two flows, and its logit.

    Parameters
    ----------
    volume : (Z, Y, X, 2) ndarray of float32
        Normalised.
    scale, anisotropy : float
        The volume is resized by `scale` along Y and X, and by `scale` x `anisotropy` along Z.
    tile, batch : int

    Returns
    -------
    ndarray of float32, shape (Z, Y, X, 4)
        Flow along Z, Y and X, and the logit, at the size of `volume`.
    """
    depth, height, width = volume.shape[:3]
    resize = package.transforms.resize_image

    def resize_depth(data: np.ndarray, to: int) -> np.ndarray:
        turned: np.ndarray = resize(data.transpose(1, 0, 2, 3), to, data.shape[2])
        return turned.transpose(1, 0, 2, 3)

    seen = volume
    if scale != 1:
        seen = resize(seen, int(height * scale), int(width * scale))
    if scale != 1 or anisotropy != 1:
        seen = resize_depth(seen, int(depth * anisotropy * scale))
    found, _ = package.core.run_3D(network, seen, bsize=tile, batch_size=batch)
    if scale != 1:
        found = resize(found, height, width)
    return resize_depth(found, depth) if len(found) != depth else found


def build_network(
    package: SimpleNamespace, state: dict[str, Any], weights: Weights, *, mkldnn: bool
) -> Any:
    """Return the package's network with the sizes and values of `state`.

    Like the package on the CPU it uses oneDNN (`mkldnn`), which rounds differently.

    Raises
    ------
    WeightsError
        `state` is that of another kind of network.
    """
    if not isinstance(state, dict):
        raise _not_cellpose(weights, f"it holds a {type(state).__name__}")
    try:
        down = "downsample.down.res_down_{}.conv.conv_0.2.weight".format
        levels = [state[down(level)] for level in range(4)]
        sizes = [levels[0].shape[1], *(len(level) for level in levels)]
        kernel, classes = levels[0].shape[-1], len(state["output.2.weight"])
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        raise _not_cellpose(weights, f"{error} is not there") from None
    if (sizes[0], classes) != (2, 3) or sizes[-1] > STYLE:
        raise _not_cellpose(
            weights,
            f"it maps {sizes[0]} channels to {classes}, by a style vector of {sizes[-1]}",
        )
    network = package.resnet_torch.CPnet(
        sizes, classes, sz=kernel, mkldnn=mkldnn and package.core.check_mkl()
    )
    try:
        missing = network.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise _not_cellpose(weights, " ".join(str(error).split())) from None
    # Files of Cellpose 1 lack the two diameters; counters play no part in prediction.
    optional = ("diam_mean", "diam_labels", "num_batches_tracked")
    missing = [name for name in missing if not name.endswith(optional)]
    if missing:
        raise _not_cellpose(weights, f"{len(missing)} tensors are missing, first {missing[0]}")
    network.register_forward_hook(_pad_style)
    return network


def _pad_style(network: Any, arguments: Any, output: tuple[Any, ...]) -> tuple[Any, ...]:
    """Bring the style vector of a small network to the length that the package expects."""
    from torch.nn.functional import pad

    flows, style, *rest = output
    return flows, pad(style, (0, STYLE - style.shape[1])), *rest


def _not_cellpose(weights: Weights, found: str) -> WeightsError:
    return WeightsError(
        f"the weights {weights.name!r} in {weights.path} are no network of Cellpose 1 to 3: "
        f"{found}",
        hint="cellpose needs the state of a CPnet of 2 channels; files of Cellpose 4 (SAM) and of "
        "other engines do not fit",
    )
