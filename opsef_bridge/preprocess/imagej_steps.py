"""Steps that ImageJ computes, in its worker process (`opsef_bridge.imagej`).

``imagej`` runs the algorithms of ImageJ 1.x; with ``macro`` or ``command``, and in the steps
whose names end with ``_fiji``, a local Fiji is asked, whose folder ``OPSEF_FIJI_DIR`` names.
What is missing is an error: nothing else takes its place. `step_engine` says for a record what
computed a step.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej.functions import run_plugin
from opsef_bridge.imagej.parameters import ALGORITHMS
from opsef_bridge.imagej.worker import engine_name
from opsef_bridge.preprocess.arrays import as_dtype, as_float
from opsef_bridge.preprocess.registry import STEPS, Step, find_step, step

__all__ = ["clahe_fiji", "colour_deconvolution_fiji", "fiji_of", "imagej", "step_engine"]

PLUGINS = (
    "rolling_ball",
    "sliding_paraboloid",
    "median",
    "mean",
    "minimum",
    "maximum",
    "variance",
    "gaussian",
    "unsharp_mask",
    "find_maxima",
    "auto_threshold",
    "particles",
    "macro",
    "command",
)
"""What the step ``imagej`` can run: what makes an image of the same size."""


def imagej(image: np.ndarray, *, plugin: str = "rolling_ball", **parameters: Any) -> np.ndarray:
    """Run one of ImageJ's algorithms, or, in a local Fiji, a macro or a command.

    Without Java or the pinned ImageJ (``python -m opsef_bridge.imagej`` brings it), or for
    a macro or command without Fiji, it fails.

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        Volumes are worked on plane by plane. uint8, uint16 and float32 are ImageJ's own;
        others are given to it as float32, exact for whole numbers up to 2**24.
    plugin : str
        ``rolling_ball`` (the default; takes radius, light, sliding, smooth);
        ``sliding_paraboloid`` (radius, light, smooth); ``median``, ``mean``, ``minimum``,
        ``maximum``, ``variance`` (radius); ``gaussian`` (sigma); ``unsharp_mask`` (sigma,
        weight); ``find_maxima`` (tolerance, output, light, strict, exclude_edges);
        ``auto_threshold`` (method, light); ``particles`` (min_area, max_area,
        min_circularity, max_circularity, exclude_edges, include_holes); ``macro`` (macro) and
        ``command`` (command, options), which need not be named: the parameter says it.
    radius : float
        In pixels, from 0.5: of the ball (default 50, up to 1000), or of the disk
        ``x**2 + y**2 <= radius**2 + 1`` (default 2, up to 100; the time of the median grows
        with its square).
    light : bool
        The background is bright, the objects are dark. Default false.
    sliding : bool
        A paraboloid slides in the ball's place. Default false.
    smooth : bool
        Smooth 3 x 3 for the background. Default true.
    sigma : float
        Standard deviation in pixels, above 0 up to 1000. Default 2, for ``unsharp_mask`` 1.
    weight : float
        Of the mask, 0.1 to 0.9. Default 0.6.
    tolerance : float
        By how much a maximum stands out, in grey levels from 0. Default 10.
    output : {"points", "within_tolerance", "segmented"}
        What is marked of a maximum. Default ``points``: one pixel.
    strict : bool
        As in ImageJ's Find Maxima. Default false.
    exclude_edges : bool
        Leave out maxima, or particles, at the border. Default false.
    method : str
        Of ImageJ's auto threshold: ``Default``, ``Huang``, ``Li``, ``Otsu``, ``Triangle``, ...
        (`opsef_bridge.imagej.parameters.METHODS`). Each plane has its own threshold.
    min_area, max_area : float
        Of the particles that are kept, in pixels, inclusive. What is above 0 is a particle;
        pixels that touch at a corner belong together. Default 0, and no limit.
    min_circularity, max_circularity : float
        ``4 pi area / perimeter**2``, 0 to 1, inclusive. Default 0 and 1.
    include_holes : bool
        Holes belong to their particle. Default false.
    macro : str
        In ImageJ's macro language, without dialogs: ``run("Median...", "radius=2");``. The
        image that is current at its end is the result; it must have the same size.
    command : str
        Of Fiji's menu, as the Recorder writes it: ``Median...``.
    options : str
        Of the command, as the Recorder writes them: ``radius=2``.

    Returns
    -------
    ndarray
        Same dtype, rounded and kept within its range where it is an integer (so the variance
        of a uint8 image is cut at 255, as in ImageJ). From ``find_maxima``,
        ``auto_threshold`` and ``particles``: 255 (int8: 127) where something was found, else 0.
    """
    result = run_plugin(image, plugin, **parameters)
    if ALGORITHMS[plugin].gives == "labels":  # their numbers are not grey levels
        result = np.where(result > 0, np.uint8(255), np.uint8(0))
    return result if result.dtype == image.dtype else as_dtype(as_float(result), image.dtype)


class _Choice(BaseModel):
    """The parameters of ``imagej``: those of the plugin that is chosen, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    plugin: Literal[PLUGINS] = "rolling_ball"  # type: ignore[valid-type]

    @model_validator(mode="before")
    @classmethod
    def _of_the_plugin(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Check against the plugin's own limits; fill in its own defaults."""
        spoken = [name for name in ("macro", "command") if name in values]
        plugin = values.get("plugin", spoken[0] if spoken else "rolling_ball")
        if plugin not in PLUGINS:
            return values  # said by the field itself
        rest = {name: value for name, value in values.items() if name != "plugin"}
        return {"plugin": plugin, **ALGORITHMS[plugin].model_validate(rest).model_dump()}

    @model_serializer(mode="wrap")
    def _without_the_others(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


def _parameters() -> type[BaseModel]:
    """Return `_Choice` with the parameters of all plugins, for the schema of ``opsef.yaml``."""
    kinds: dict[str, Any] = {}
    for plugin in PLUGINS:
        for name, field in ALGORITHMS[plugin].model_fields.items():
            kinds[name] = (field.annotation | None, None)
    return create_model("imagej", __base__=_Choice, **kinds)


class _ImagejStep(Step):
    def summary(self) -> str:
        """Return the parameters of every plugin."""
        each = (f"{plugin} ({', '.join(ALGORITHMS[plugin].model_fields)})" for plugin in PLUGINS)
        return f"plugin, and those of the plugin: {', '.join(each)}"


STEPS["imagej"] = _ImagejStep("imagej", imagej, _parameters(), "same")


@step(dtype="same")
def clahe_fiji(
    image: np.ndarray,
    *,
    block: Annotated[int, Field(ge=3, le=4096)] = 127,
    bins: Annotated[int, Field(ge=2, le=65536)] = 256,
    slope: Annotated[float, Field(ge=1, le=100)] = 3.0,
    fast: bool = False,
) -> np.ndarray:
    """Fiji's Enhance Local Contrast (CLAHE): not the numbers of the step ``clahe``.

    Needs a local Fiji (``OPSEF_FIJI_DIR``).

    Parameters
    ----------
    image : ndarray, axes YX or ZYX
        Volumes are worked on plane by plane.
    block : int
        "blocksize": side of the square around a pixel, in pixels, 3 to 4096.
    bins : int
        "histogram bins", 2 to 65,536.
    slope : float
        "maximum slope", 1 (no change) to 100.
    fast : bool
        "fast (less accurate)".

    Returns
    -------
    ndarray
        Same dtype.

    References
    ----------
    Saalfeld, S., mpicbg: ``mpicbg.ij.clahe``.
    """
    return run_plugin(image, "clahe_fiji", block=block, bins=bins, slope=slope, fast=fast)


@step(dtype="uint8", colour=True)
def colour_deconvolution_fiji(
    image: np.ndarray,
    *,
    vectors: Annotated[str, Field(min_length=1, max_length=100)] = "H&E",
    stain: Annotated[int, Field(ge=1, le=3)] = 1,
) -> np.ndarray:
    """Fiji's Colour Deconvolution: one stain of a bright-field image.

    Needs a local Fiji (``OPSEF_FIJI_DIR``) with that plugin.

    Parameters
    ----------
    image : ndarray of uint8, axes YXS or ZYXS
        Red, green, blue.
    vectors : str
        Name of the stains as the plugin has it: ``H&E``, ``H DAB``, ...
    stain : int
        Which of its three images, 1 to 3.

    Returns
    -------
    ndarray of uint8, axes YX or ZYX
        Dark where there is much of the stain.

    References
    ----------
    Ruifrok, A. C. & Johnston, D. A. (2001). Quantification of histochemical staining by color
    deconvolution. Anal. Quant. Cytol. Histol. 23, 291-299; G. Landini's plugin.
    """
    if image.ndim == 4:
        planes = [colour_deconvolution_fiji(p, vectors=vectors, stain=stain) for p in image]
        return np.stack(planes)
    return run_plugin(image, "colour_deconvolution_fiji", vectors=vectors, stain=stain)


def _plugin(name: str, parameters: Mapping[str, Any]) -> str | None:
    """Return which of `ALGORITHMS` a step runs; None for the steps of this package."""
    if name == "imagej":
        return str(parameters.get("plugin", "rolling_ball"))
    return name if name in ("clahe_fiji", "colour_deconvolution_fiji") else None


def fiji_of(name: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return what is in the local Fiji that computes a step, for content keys.

    (The pinned ImageJ 1.x is part of the version of its steps.)

    Returns
    -------
    list of str
        One text, that of `step_engine`; none where no Fiji computes it, or there is no Fiji:
        then no result is kept either.

    Examples
    --------
    >>> fiji_of("imagej", {"plugin": "median", "radius": 2}), fiji_of("invert", {})
    ([], [])
    """
    plugin = _plugin(name, parameters)
    if plugin is None or ALGORITHMS[plugin].provider != "imagej2":
        return []
    try:
        return [engine_name("imagej2", plugin)]
    except NotFoundError:
        return []


def step_engine(name: str, parameters: Mapping[str, Any]) -> str | None:
    """Return which program computes a step that more than one can, for a record.

    Nothing is started.

    Parameters
    ----------
    name : str
        Of the step.
    parameters : mapping
        As `opsef_bridge.preprocess.normalise_recipe` returns them.

    Returns
    -------
    str or None
        Such as ``"ij-1.54p"``, ``"scikit-image-0.26.0"`` or, of a local Fiji, the versions of
        what it computes with (`opsef_bridge.imagej.imagej2.fiji_engine`); None where there is
        no choice, and where it is this package itself.

    Raises
    ------
    ConfigError
        There is no such step.
    NotFoundError
        The step needs a Fiji, and there is none.

    Examples
    --------
    >>> step_engine("imagej", {"plugin": "median", "radius": 2}), step_engine("invert", {})
    ('ij-1.54p', None)
    """
    plugin = _plugin(name, parameters)
    if plugin is not None:
        return engine_name(ALGORITHMS[plugin].provider, plugin)
    field = find_step(name).Parameters.model_fields.get("engine")
    engine = parameters.get("engine", field.default if field else None)
    if engine == "imagej":
        return engine_name("ij1")
    if engine == "skimage":
        return f"scikit-image-{importlib.metadata.version('scikit-image')}"
    return None
