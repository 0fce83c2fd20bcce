"""``cellpose``: networks of Cellpose 1 to 3, run by the ``cellpose`` package with torch.

The network says for each pixel whether it belongs to an object, and which way the middle of
that object lies. Pixels follow these flows for some hundred steps; those that end in one
place are one object. Objects whose outline implies other flows than the network saw are
dropped. All of that is done by the package's own functions, in the order in which
``CellposeModel.eval`` calls them, so labels are its labels:

===============  ===========  =================================================================
parameter        costs        argument of ``CellposeModel.eval`` (3.1.1.3)
===============  ===========  =================================================================
``diameter``     a pass       ``diameter``; the image is resized by diam_mean / diameter.
                              ``auto``: that of ``SizeModel.eval`` if the weights come with a
                              size model, else measured in a pass of its own
``tile``         a pass       ``bsize``
``channel``,     a pass       ``channels=[channel, nucleus]`` with the samples as
``nucleus``                   ``channel_axis``
``do_3D``        a pass       ``do_3D``, with ``z_axis=0``; volumes only
``anisotropy``   a pass       ``anisotropy``; with ``do_3D`` only
``flow``         no pass      ``flow_threshold`` of ``dynamics.resize_and_compute_masks``; not
                              used with ``do_3D``
``cellprob``     no pass      ``cellprob_threshold`` of the same
``min_size``     no pass      ``min_size`` of the same
``stitch``       no pass      ``stitch_threshold``; volumes without ``do_3D`` only
(image)                       ``x``; of a grey image the second channel is zero
(normalised)                  ``normalize=True``, each channel by itself
(as in eval)                  ``resample=True``, ``interp=True``, ``augment=False``,
                              ``tile_overlap=0.1``, ``batch_size=8``, ``flow3D_smooth=0``,
                              ``max_size_fraction=0.4``, ``niter`` = 200 x diameter / diam_mean
===============  ===========  =================================================================

A volume is segmented plane by plane, with ``z_axis=0``, and objects that overlap in
neighbouring planes become one; or, with ``do_3D``, by the summed flows of its planes along
all three axes, which takes about as many passes as the volume has planes along all three.

``predict`` is ``eval(compute_masks=False)``; ``decode`` is what ``compute_masks=True`` adds.
Official files (``cyto3``, ``cyto2``, ``cyto``, ``nuclei``), files that the package trained,
and smaller networks of the same layout all load; their sizes are read from the shapes of
their tensors. Nothing is ever downloaded.

What differs, by choice: normalised values are clipped to -50..50, so that one burnt-out pixel
does not decide the style of the whole image; where the 1st and the 99th percentile are one
value, minimum and maximum take their place, and they may be less than 0.001 apart; a channel
of one value only becomes zero; images above 11 million pixels are normalised by all pixels,
not by a part; flows are followed on the CPU, where the package would on a GPU use another
interpolation.

References
----------
.. [1] C. Stringer, T. Wang, M. Michaelos, M. Pachitariu, "Cellpose: a generalist algorithm
   for cellular segmentation", Nature Methods 18:100-106, 2021.
.. [2] C. Stringer, M. Pachitariu, "Cellpose3: one-click image restoration for improved
   cellular segmentation", Nature Methods 22:592-599, 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from opsef_bridge.engines.base import Parameters, Raw, Weights
from opsef_bridge.engines.cellpose_network import (
    STEPS,
    build_network,
    import_package,
    run_planes,
    run_volume,
)
from opsef_bridge.engines.cellpose_size import SizeModel, estimate_diameter, size_model_of
from opsef_bridge.engines.devices import torch_devices
from opsef_bridge.engines.runtime import read_state, use_torch
from opsef_bridge.engines.scaling import drop_small, finite_plane, normalise
from opsef_bridge.errors import InputError, WeightsError, WorkerError

__all__ = ["Card", "Cellpose", "Decode", "Predict", "read_card"]

CLIP = (-50.0, 50.0)
"""Bounds of normalised values."""

BATCH = 8
"""Tiles that the network sees at once, as in the package."""

GREY, COLOUR = frozenset({"YX", "ZYX"}), frozenset({"YX", "YXS", "ZYXS"})
"""What an image may be: where no channel is named, and where one is."""


class Card(BaseModel):
    """What the card of the weights says of the network, under ``input``.

    Besides there may be a ``size_model``, see `opsef_bridge.engines.cellpose_size`.
    """

    diameter: float | None = Field(None, ge=1, le=2000, strict=True)
    """In px, to which objects were resized in training; the file says so otherwise, or 30."""


class Predict(Parameters):
    """Parameters that need a new pass."""

    diameter: Annotated[float, Field(ge=1, le=2000)] | Literal["auto"] = 30.0
    """Mean diameter of the objects in px of the image, which is resized so that the network
    sees them as large as those that it has learned from. Takes the place of scale. `auto`
    estimates it for each image, by the size model of the weights if they have one, else by
    the objects of a first pass; it is recorded as `diameter` among what was chosen."""
    tile: int = Field(224, ge=64, le=4096, multiple_of=16)
    """Side in px of the overlapping tiles whose flows are averaged. 224 is what networks were
    trained for: the style of an object's surroundings is taken over the tile."""
    channel: int = Field(0, ge=0)
    """Channel or colour to segment, from 1; 0 is grey: the luminance of a colour image, or,
    if `nucleus` is not 0, the mean of all."""
    nucleus: int = Field(0, ge=0)
    """Channel or colour of the nuclei, from 1, which helps to find cells; 0 is none. It is
    not used where `channel` is 0."""
    do_3D: bool = False
    """Follow flows through the volume instead of stitching planes: the network sees the
    planes along all three axes. Slow; best for objects that are hard to tell apart in Z."""
    anisotropy: float = Field(1.0, ge=0.05, le=50)
    """How much further planes are apart than pixels; with `do_3D` only."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    flow: float = Field(0.4, ge=0, le=100)
    """Largest mean squared difference between the flows found and those that the outline of
    an object implies; smaller values drop more objects. 0 drops none. Not with `do_3D`."""
    cellprob: float = Field(0.0, ge=-20, le=20)
    """Logit above which a pixel belongs to an object; smaller values give more and larger
    objects."""
    min_size: int = Field(15, ge=0)
    """Smaller objects are dropped; pixels or voxels of the image."""
    stitch: float = Field(0.25, gt=0, le=1)
    """Overlap (shared area over united area) from which on two objects of neighbouring planes
    are one; volumes without `do_3D` only."""


class Cellpose:
    """Flows to the middle of each object, followed by every pixel.

    The image is normalised to its 1st and 99th percentile, each channel by itself, and
    resized so that objects of ``diameter`` px come out as large as those that the network
    has learned from: 30 px, for the official ``nuclei`` 17, in other files what they or
    their card say. One diameter does not fit all images: sweep a ladder of factor 2, or let
    ``auto`` estimate it for each. Volumes are stitched of their planes, or with ``do_3D``
    segmented as a whole.
    """

    name: ClassVar[str] = "cellpose"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX", "YXS", "ZYX"})
    needs_weights: ClassVar[bool] = True
    ladder: ClassVar[Mapping[str, list[Any]]] = {"diameter": [12, 22, 45]}
    Predict = Predict
    Decode = Decode

    def __init__(self) -> None:
        self._network: Any = None
        self._diameter, self._labelled = 30.0, 30.0
        self._size: SizeModel | None = None
        self._batch = BATCH

    @classmethod
    def devices(cls, weights: Weights | None = None) -> tuple[str, ...]:
        """Return the devices of torch, best first."""
        return torch_devices()

    @classmethod
    def wants_colour(cls, parameters: Predict) -> bool:
        """Whether a pass takes the samples of an image: where it names a channel."""
        return bool(parameters.channel or parameters.nucleus)

    @classmethod
    def seen_scale(cls, parameters: Predict, weights: Weights) -> float:
        """Return the factor by which the network will see an image enlarged.

        By the card, which a plan can read: where it does not say, the file may know better.
        1 for ``auto``, a guess until the image has decided (see `predict`).

        Raises
        ------
        WeightsError
            The card cannot be right.
        """
        own = read_card(weights).diameter or 30.0
        return 1.0 if parameters.diameter == "auto" else own / parameters.diameter

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Build the network that the file describes, on `device`, ``"cpu"`` or ``"cuda"``.

        torch computes with one thread from now on: workers, not threads, fill the cores.

        Raises
        ------
        WeightsError
            The file is missing, cannot be read, or holds another kind of network; or the
            card cannot be right.
        WorkerError
            torch cannot use `device`.
        OpsefError
            The packages of the extra ``cellpose`` are not installed.
        """
        package = import_package()
        use_torch(package.torch, device)
        card = read_card(weights)
        state = read_state(package.torch, weights)
        network = build_network(package, state, weights, mkldnn=device == "cpu")
        self._size = size_model_of(weights)
        self._diameter = card.diameter or float(state.get("diam_mean", 30.0))
        self._labelled = float(state.get("diam_labels", 30.0))
        self._network = network.to(device).eval()

    def lighten(self) -> str | None:
        """Halve the tiles that the network sees at once; None where it is one."""
        if self._batch == 1:
            return None
        self._batch //= 2
        return f"batch {self._batch}"

    def predict(
        self, image: np.ndarray, parameters: Predict, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return the maps ``flow`` (2 or 3, [Z,] Y, X) and ``cellprob`` ([Z,] Y, X).

        They are of the image's size. Each is kept in two halves, ``flow + flow_rest``: in
        half precision alone some pixels of an image would cross a threshold. The value
        ``chosen_diameter`` is the one that ``auto`` found, in `image` itself also where it
        is a part of `reference`; in a volume, in the plane of most light. ``chosen_scale``
        is the factor that follows from it.

        Raises
        ------
        InputError
            A channel that the image does not have; ``do_3D`` without a volume; an image of
            which too little would be left at this diameter.
        """
        if self._network is None:
            raise WorkerError("cellpose was asked to predict before its weights were loaded")
        package = import_package()
        planes, shape = _two_channels(image, reference, parameters)
        values = {}
        diameter = parameters.diameter
        if diameter == "auto":
            diameter = values["chosen_diameter"] = self._estimate(package, planes, parameters)
        scale = values["scale"] = self._diameter / diameter
        if "chosen_diameter" in values:
            values["chosen_scale"] = scale
        _check_sides(shape, scale, diameter, parameters)
        how = {"scale": scale, "tile": parameters.tile, "batch": self._batch}
        if parameters.do_3D:
            how["anisotropy"] = parameters.anisotropy
            found = run_volume(package, self._network, planes, **how)
        else:
            found, _ = run_planes(package, self._network, planes, **how)
            if scale != 1:
                found = package.transforms.resize_image(found, *shape[-2:])
        *flows, cellprob = (found[..., i].reshape(shape) for i in range(found.shape[-1]))
        return Raw(_halves({"flow": np.stack(flows), "cellprob": cellprob}), shape, values)

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return int32 labels: flows followed, ill-fitting and small objects dropped."""
        package = import_package()
        flow, cellprob = (
            raw.maps[name].astype(np.float32) + raw.maps[f"{name}_rest"]
            for name in ("flow", "cellprob")
        )
        how = {
            "niter": STEPS / raw.values["scale"],
            "cellprob_threshold": parameters.cellprob,
            "flow_threshold": parameters.flow,
        }
        follow = package.dynamics.resize_and_compute_masks
        if len(flow) == 3:
            masks = follow(flow, cellprob, do_3D=True, min_size=parameters.min_size, **how)
            return drop_small(masks.astype(np.int32), 1)
        planes = cellprob.reshape(-1, *raw.shape[-2:])
        vectors_of = np.moveaxis(flow.reshape(2, *planes.shape), 0, 1)
        how["min_size"] = parameters.min_size if len(planes) == 1 else -1
        masks = [follow(*pair, **how) for pair in zip(vectors_of, planes, strict=True)]
        labels = np.stack(masks).astype(np.int32)
        if len(planes) > 1:
            labels = package.utils.stitch3D(labels, stitch_threshold=parameters.stitch)
            labels = package.utils.fill_holes_and_remove_small_masks(labels, parameters.min_size)
        return drop_small(labels.reshape(raw.shape), 1)

    def _estimate(self, package: SimpleNamespace, planes: np.ndarray, parameters: Predict) -> float:
        """Return the diameter of the objects in the plane of most light."""
        brightest = int(planes[..., 0].sum(axis=(1, 2), dtype=np.float64).argmax())
        plane = planes[brightest : brightest + 1]

        def run(scale: float) -> tuple[np.ndarray, np.ndarray]:
            how = {"scale": scale, "tile": parameters.tile, "batch": self._batch}
            return run_planes(package, self._network, plane, **how)

        height, width = plane.shape[1:3]
        found = estimate_diameter(
            package,
            run,
            (height, width),
            own=self._diameter,
            labelled=self._labelled,
            model=self._size,
        )
        # The one object of a narrow strip may be longer than the strip is wide, which must
        # not shrink to nothing.
        return min(found, 0.99 * self._diameter * min(height, width))


def _two_channels(
    image: np.ndarray, reference: np.ndarray | None, parameters: Predict
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return what the network sees, (Z, Y, X, 2) float32 normalised, and the labels' shape.

    As ``channels`` of the package: grey and nothing, or one channel, or two.
    """
    colour = Cellpose.wants_colour(parameters)
    image = finite_plane(image, COLOUR if colour else GREY)
    if reference is None:
        reference = image
    reference = finite_plane(reference, COLOUR if colour else GREY)
    seen, whole = (_chosen(one, parameters) if colour else [one] for one in (image, reference))
    shape = seen[0].shape
    planes = np.zeros((*shape, 2), np.float32)
    for number, (one, all_of_it) in enumerate(zip(seen, whole, strict=True)):
        planes[..., number] = normalise(one, _limits(all_of_it), clip=CLIP)
    return planes.reshape(-1, *planes.shape[-3:]), shape


def _chosen(image: np.ndarray, parameters: Predict) -> list[np.ndarray]:
    """Return the channels that are named, one or two; a plane has one."""
    samples = image[..., None] if image.ndim == 2 else image
    count = samples.shape[-1]
    for name in ("channel", "nucleus"):
        number = getattr(parameters, name)
        if number > count:
            raise InputError(
                f"there is no {name} {number} in an image of shape {image.shape}: it has {count}",
                hint="Channels and colours are counted from 1; 0 is grey, or no nucleus",
            )
    if parameters.channel == 0 or count == 1:
        return [samples.mean(axis=-1)]
    numbers = [parameters.channel, parameters.nucleus][: 2 if parameters.nucleus else 1]
    return [samples[..., number - 1] for number in numbers]


def _check_sides(
    shape: tuple[int, ...], scale: float, diameter: float, parameters: Predict
) -> None:
    """Refuse an image that would vanish, and one that is no volume for ``do_3D``."""
    seen = [side * scale for side in shape[-2:]]
    if parameters.do_3D:
        if len(shape) != 3 or min(shape) < 2:
            raise InputError(
                f"do_3D needs a volume of at least 2 x 2 x 2 voxels, not one of shape {shape}",
                hint="Leave do_3D out: a plane is segmented as it is",
            )
        seen.append(shape[0] * parameters.anisotropy * scale)
    if min(seen) < 1:
        raise InputError(
            f"an image of {' x '.join(map(str, shape))} px is too small for a diameter of "
            f"{diameter:g} px: resized, a side would be less than one pixel",
            hint="Choose a smaller diameter",
        )


def _limits(reference: np.ndarray) -> tuple[float, float]:
    """Return the 1st and 99th percentile, bit by bit those of the package.

    It asks for them one by one: numpy then interpolates in single precision.
    """
    low, high = np.percentile(reference, 1), np.percentile(reference, 99)
    return (low, high) if high > low else (reference.min(), reference.max())


def _halves(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Part float32 maps into float16 ones and what these leave."""
    coarse = {name: data.astype(np.float16) for name, data in maps.items()}
    return coarse | {f"{name}_rest": maps[name] - coarse[name] for name in maps}


def read_card(weights: Weights) -> Card:
    """Return what the card of the weights says of the network.

    Raises
    ------
    WeightsError
        It cannot be right.
    """
    try:
        return Card(**weights.card.get("input", {}))
    except (ValidationError, TypeError) as error:
        raise WeightsError(
            f"the card of the weights {weights.name!r} does not describe an input ({error})",
            hint="Correct `input.diameter` (px, from 1 to 2000), or leave it out: the file's own "
            "counts then, or 30",
        ) from error
