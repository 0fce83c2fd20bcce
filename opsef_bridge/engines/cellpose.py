"""``cellpose``: networks of Cellpose 1 to 3, run by the ``cellpose`` package with torch.

The network says for each pixel whether it belongs to an object, and which way the middle of
that object lies. Pixels follow these flows for some hundred steps; those that end in one
place are one object. Objects whose outline implies other flows than the network saw are
dropped. All of that is done by the package's own functions, in the order in which
``CellposeModel.eval`` calls them, so labels are its labels:

==============  ===========  ==================================================================
parameter       costs        argument of ``CellposeModel.eval`` (3.1.1.3)
==============  ===========  ==================================================================
``diameter``    a pass       ``diameter``; the image is resized by diam_mean / diameter
``tile``        a pass       ``bsize``
``flow``        no pass      ``flow_threshold`` of ``dynamics.resize_and_compute_masks``
``cellprob``    no pass      ``cellprob_threshold`` of the same
``min_size``    no pass      ``min_size`` of the same
``stitch``      no pass      ``stitch_threshold``; volumes only
(image)                      ``x``, with ``channels=[0, 0]``: the second channel is zero
(normalised)                 ``normalize=True``
(as in eval)                 ``resample=True``, ``interp=True``, ``augment=False``,
                             ``tile_overlap=0.1``, ``batch_size=8``, ``max_size_fraction=0.4``,
                             ``niter`` = 200 x diameter / diam_mean
==============  ===========  ==================================================================

A volume is segmented plane by plane, with ``z_axis=0``; objects that overlap in neighbouring
planes become one. (``do_3D`` is not offered.)

``predict`` is ``eval(compute_masks=False)``; ``decode`` is what ``compute_masks=True`` adds.
``CellposeModel`` itself is not used: it knows one size of network only, and answers a file
that is missing by downloading another. Here nothing is ever downloaded. Official files
(``cyto3``, ``cyto2``, ``cyto``, ``nuclei``), files that the package trained, and smaller
networks of the same layout all load; their sizes are read from the shapes of their tensors.

What differs, by choice: normalised values are clipped to -50..50, so that one burnt-out pixel
does not decide the style of the whole image; where the 1st and the 99th percentile are one
value, minimum and maximum take their place, and they may be less than 0.001 apart; images
above 11 million pixels are normalised by all pixels, not by a part; flows are followed on the
CPU, where the package would on a GPU use another interpolation.

References
----------
.. [1] C. Stringer, T. Wang, M. Michaelos, M. Pachitariu, "Cellpose: a generalist algorithm
   for cellular segmentation", Nature Methods 18:100-106, 2021.
.. [2] C. Stringer, M. Pachitariu, "Cellpose3: one-click image restoration for improved
   cellular segmentation", Nature Methods 22:592-599, 2025.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from opsef_bridge.engines.base import Parameters, Raw, Weights
from opsef_bridge.engines.scaling import drop_small, finite_plane, normalise
from opsef_bridge.errors import InputError, OpsefError, WeightsError, WorkerError

__all__ = ["Cellpose"]

CLIP = (-50.0, 50.0)
"""Bounds of normalised values."""

STYLE = 256
"""Length of the style vector for which the package reserves memory."""

STEPS = 200
"""Of a pixel along the flows, at the size at which the network sees the image."""


class Predict(Parameters):
    """Parameters that need a new pass."""

    diameter: float = Field(30.0, ge=1, le=2000)
    """Mean diameter of the objects in px of the image, which is resized so that the network
    sees them as large as those that it has learned from. Takes the place of scale."""
    tile: int = Field(224, ge=64, le=4096, multiple_of=16)
    """Side in px of the overlapping tiles whose flows are averaged. 224 is what networks were
    trained for: the style of an object's surroundings is taken over the tile."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    flow: float = Field(0.4, ge=0, le=100)
    """Largest mean squared difference between the flows found and those that the outline of
    an object implies; smaller values drop more objects. 0 drops none."""
    cellprob: float = Field(0.0, ge=-20, le=20)
    """Logit above which a pixel belongs to an object; smaller values give more and larger
    objects."""
    min_size: int = Field(15, ge=0)
    """Smaller objects are dropped; pixels or voxels of the image."""
    stitch: float = Field(0.25, gt=0, le=1)
    """Overlap (shared area over united area) from which on two objects of neighbouring planes
    are one; volumes only."""


class Cellpose:
    """Flows to the middle of each object, followed by every pixel.

    The image is normalised to its 1st and 99th percentile and resized so that objects of
    ``diameter`` px come out as large as those that the network has learned from: 30 px, for
    the official ``nuclei`` 17, in other files what they or their card say. One diameter does
    not fit all images: sweep a ladder of factor 2.
    """

    name: ClassVar[str] = "cellpose"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX", "ZYX"})
    needs_weights: ClassVar[bool] = True
    Predict = Predict
    Decode = Decode

    def __init__(self) -> None:
        self._network: Any = None
        self._diameter = 30.0

    @classmethod
    def seen_scale(cls, parameters: Predict, weights: Weights) -> float:
        """Return the factor by which the network will see an image enlarged.

        By the card, which a plan can read: where it does not say, the file may know better.
        """
        return _stated_diameter(weights, 30.0) / parameters.diameter

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Build the network that the file describes, on `device`, ``"cpu"`` or ``"cuda"``.

        torch computes with one thread from now on: workers, not threads, fill the cores.

        Raises
        ------
        WeightsError
            The file is missing, cannot be read, or holds another kind of network.
        WorkerError
            torch cannot use `device`.
        OpsefError
            The packages of the extra ``cellpose`` are not installed.
        """
        package = _package()
        if device not in ("cpu", "cuda") or (
            device == "cuda" and not package.torch.cuda.is_available()
        ):
            raise WorkerError(
                f"torch cannot use the device {device!r}",
                hint="Use the device cpu, or install a torch that can",
            )
        package.torch.set_num_threads(1)
        state = _read_state(package.torch, weights)
        self._diameter = _stated_diameter(weights, float(state.get("diam_mean", 30.0)))
        network = _build(package, state, weights, mkldnn=device == "cpu")
        self._network = network.to(device).eval()

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the maps ``flow`` (2, [Z,] Y, X) and ``cellprob`` ([Z,] Y, X).

        They are of the image's size. Each is kept in two halves, ``flow + flow_rest``: in
        half precision alone some pixels of an image would cross a threshold.
        """
        if self._network is None:
            raise WorkerError("cellpose was asked to predict before its weights were loaded")
        package = _package()
        image = finite_plane(image, self.axes)
        reference = image if reference is None else finite_plane(reference, self.axes)
        scale = self._diameter / parameters.diameter
        height, width = image.shape[-2:]
        if min(height, width) * scale < 1:
            raise InputError(
                f"an image of {height} x {width} px is too small for a diameter of "
                f"{parameters.diameter:g} px: resized, a side would be less than one pixel",
                hint="Choose a smaller diameter",
            )
        grey = normalise(image, _limits(reference), clip=CLIP).reshape(-1, height, width)
        found, _ = package.core.run_net(
            self._network,
            np.stack([grey, np.zeros_like(grey)], axis=-1),
            bsize=parameters.tile,
            rsz=scale if scale != 1 else None,
        )
        if scale != 1:
            found = package.transforms.resize_image(found, height, width)
        flow_y, flow_x, cellprob = np.moveaxis(found, -1, 0).reshape(3, *image.shape)
        maps = {"flow": np.stack([flow_y, flow_x]), "cellprob": cellprob}
        return Raw(_halves(maps), image.shape, {"scale": scale})

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: flows followed, ill-fitting and small objects dropped."""
        package = _package()
        flow, cellprob = (
            raw.maps[name].astype(np.float32) + raw.maps[f"{name}_rest"]
            for name in ("flow", "cellprob")
        )
        planes = cellprob.reshape(-1, *raw.shape[-2:])
        vectors_of = np.moveaxis(flow.reshape(2, *planes.shape), 0, 1)
        masks = [
            package.dynamics.resize_and_compute_masks(
                vectors,
                plane,
                niter=STEPS / raw.values["scale"],
                cellprob_threshold=parameters.cellprob,
                flow_threshold=parameters.flow,
                min_size=parameters.min_size if len(planes) == 1 else -1,
            )
            for vectors, plane in zip(vectors_of, planes, strict=True)
        ]
        labels = np.stack(masks).astype(np.int32)
        if len(planes) > 1:
            labels = package.utils.stitch3D(labels, stitch_threshold=parameters.stitch)
            labels = package.utils.fill_holes_and_remove_small_masks(labels, parameters.min_size)
        return drop_small(labels.reshape(raw.shape), 1)


def _package() -> SimpleNamespace:
    """Return the modules of the package that are used; importing them takes seconds."""
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


def _limits(reference: np.ndarray) -> tuple[float, float]:
    """Return the 1st and 99th percentile, bit by bit those of the package.

    It asks for them one by one: numpy then interpolates in single precision.
    """
    low, high = np.percentile(reference, 1), np.percentile(reference, 99)
    return (low, high) if high > low else (reference.min(), reference.max())


def _halves(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Part float32 maps into float16 ones and what these leave."""
    coarse = {name: data.astype(np.float16) for name, data in maps.items()}
    return coarse | {f"{name}_rest": maps[name] - coarse[name] for name in maps}


def _read_state(torch: Any, weights: Weights) -> dict[str, Any]:
    """Return the tensors of a file by name. No code of the file runs: no pickle."""
    path = weights.path
    if path is None or not path.is_file():
        raise WeightsError(
            f"the file of the weights {weights.name!r} is missing: {path}",
            hint="Put it back; it is not downloaded",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many classes for a broken file
        raise WeightsError(
            f"the weights {weights.name!r} cannot be read from {path} "
            f"({type(error).__name__}: {str(error).splitlines()[0]})",
            hint="Bring a sound copy of a file that torch saved, with tensors only",
        ) from error
    if not isinstance(state, dict):
        raise _not_cellpose(weights, f"it holds a {type(state).__name__}")
    return state


def _build(package: SimpleNamespace, state: dict[str, Any], weights: Weights, mkldnn: bool) -> Any:
    """Return the package's network with the sizes and values of `state`.

    Like the package on the CPU it uses oneDNN (`mkldnn`), which rounds differently.
    """
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


def _stated_diameter(weights: Weights, otherwise: float) -> float:
    """Return the diameter in px to which objects were resized in training, by the card."""
    return float(weights.card.get("input", {}).get("diameter", otherwise))


def _not_cellpose(weights: Weights, found: str) -> WeightsError:
    return WeightsError(
        f"the weights {weights.name!r} in {weights.path} are no network of Cellpose 1 to 3: "
        f"{found}",
        hint="cellpose needs the state of a CPnet of 2 channels; files of Cellpose 4 (SAM) and of "
        "other engines do not fit",
    )
