"""ImageJ's algorithms as functions on arrays; each runs in the worker process.

The dtype: ImageJ knows grey images of uint8, uint16 and float32. Those are given to it as
they are. Every other dtype is given as float32, exact for whole numbers up to 2**24; what
comes back is rounded, kept within the range of the dtype, and has that dtype again. ``bool``
is taken as uint8. A volume is worked on plane by plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from opsef_bridge.errors import InputError
from opsef_bridge.imagej.calls import as_image, run
from opsef_bridge.imagej.parameters import checked

__all__ = [
    "auto_threshold",
    "find_maxima",
    "particles",
    "project",
    "rolling_ball",
    "run_macro",
    "run_plugin",
]


def run_plugin(
    image: ArrayLike, plugin: str, *, timeout: float | None = None, **parameters: Any
) -> np.ndarray:
    """Run one of ImageJ's algorithms on an image.

    Parameters
    ----------
    image : array_like, axes YX or ZYX
        Finite real numbers; see the module for dtypes. ``colour_deconvolution_fiji`` wants
        axes YXS, uint8, with three samples.
    plugin : str
        Any name in `opsef_bridge.imagej.parameters.ALGORITHMS`, which also says the
        parameters and their limits:

        =========================  ==================================================
        ``rolling_ball``           radius, light, sliding, smooth
        ``sliding_paraboloid``     radius, light, smooth
        ``median, mean, minimum,   radius: pixels with ``x**2 + y**2 <= radius**2 + 1``
        maximum, variance``
        ``gaussian``               sigma
        ``unsharp_mask``           sigma, weight
        ``find_maxima``            tolerance, output, light, strict, exclude_edges
        ``auto_threshold``         method, light
        ``particles``              min_area, max_area, min_circularity, max_circularity,
                                   exclude_edges, include_holes
        ``project``                method
        ``macro``                  macro (needs Fiji, as all below)
        ``command``                command, options
        ``clahe_fiji``             block, bins, slope, fast
        ``colour_deconvolution_fiji``  vectors, stain
        =========================  ==================================================
    timeout : float, optional
        Seconds for one plane; `opsef_bridge.imagej.worker.TIMEOUT` by default.
    **parameters
        Of the plugin.

    Returns
    -------
    ndarray
        In the shape of `image` (``project``: of its planes). Same dtype as `image`, but uint8
        with 0 and 255 where a mask comes back (``find_maxima``, ``auto_threshold``), int32
        labels from ``particles``, and float32 from ``project`` with ``sum`` or ``sd``.

    Raises
    ------
    InputError
        The image or a parameter is not what the plugin takes.
    NotFoundError
        There is no such plugin; or Java, ImageJ or Fiji is missing.
    WorkerError
        It took too long, its process ended, or ImageJ raised an error.
    """
    colour = plugin == "colour_deconvolution_fiji"
    result, _ = run(as_image(image), plugin, checked(plugin, parameters), timeout, colour)
    return result


def rolling_ball(
    image: ArrayLike,
    radius: float = 50,
    *,
    light: bool = False,
    sliding: bool = False,
    smooth: bool = True,
) -> np.ndarray:
    """Subtract the background as ImageJ's Process > Subtract Background does.

    The result differs from scikit-image's ``rolling_ball`` in nearly every pixel: ImageJ
    makes the image smaller before the ball rolls, smooths it, and corrects the corners.

    Parameters
    ----------
    image : array_like, axes YX or ZYX
    radius : float
        Of the ball in pixels, 0.5 to 1000; larger than the largest object.
    light : bool
        The background is bright ("light background").
    sliding : bool
        A paraboloid with the curvature of the ball slides in its place.
    smooth : bool
        Smooth 3 x 3 for the background ("disable smoothing" is off).

    Returns
    -------
    ndarray
        Same dtype. An image too narrow for ImageJ (its ball is tried on an image made up to
        8 times smaller) is widened to 9 columns by its last one, and cut again.

    Raises
    ------
    InputError, NotFoundError, WorkerError
        As `run_plugin`.

    References
    ----------
    Sternberg, S. R. (1983). Biomedical image processing. IEEE Computer 16(1), 22-34;
    ``ij.plugin.filter.BackgroundSubtracter``.
    """
    return run_plugin(
        image, "rolling_ball", radius=radius, light=light, sliding=sliding, smooth=smooth
    )


def find_maxima(
    image: ArrayLike,
    tolerance: float = 10,
    *,
    output: str = "points",
    light: bool = False,
    strict: bool = False,
    exclude_edges: bool = False,
) -> np.ndarray:
    """Find local maxima as ImageJ's Process > Find Maxima does.

    Parameters
    ----------
    image : array_like, axes YX or ZYX
    tolerance : float
        "Prominence": by how much a maximum must stand out, in grey levels.
    output : {"points", "within_tolerance", "segmented"}
        One pixel a maximum; all pixels around it down to the tolerance; or particles parted
        by a watershed.
    light : bool
        Find minima.
    strict : bool
        As in ImageJ: not the one maximum of an image that varies less than the tolerance.
    exclude_edges : bool
        Leave out maxima whose surroundings touch the border.

    Returns
    -------
    ndarray of uint8
        A mask: 255 where something was found, else 0. It is no label image.

    Raises
    ------
    InputError, NotFoundError, WorkerError
        As `run_plugin`.
    """
    return run_plugin(
        image,
        "find_maxima",
        tolerance=tolerance,
        output=output,
        light=light,
        strict=strict,
        exclude_edges=exclude_edges,
    )


def auto_threshold(plane: ArrayLike, method: str = "Default", *, light: bool = False) -> float:
    """Return the threshold that ImageJ chooses for a plane.

    Parameters
    ----------
    plane : array_like, axes YX
    method : str
        One of `opsef_bridge.imagej.parameters.METHODS`. For uint16 and float32 ImageJ counts
        in 256 steps from the lowest to the highest value.
    light : bool
        The objects are dark.

    Returns
    -------
    float
        The lowest value of an object, which is ImageJ's threshold plus one step; with
        `light` the highest. ``run_plugin(plane, "auto_threshold")`` gives the mask. In a
        plane of one value, that value.

    Raises
    ------
    InputError, NotFoundError, WorkerError
        As `run_plugin`.
    """
    image = as_image(plane)
    if image.ndim != 2:
        raise InputError(
            f"an image of shape {image.shape} has no one threshold", hint="Give one plane, YX"
        )
    parameters = checked("auto_threshold", {"method": method, "light": light})
    _, value = run(image, "auto_threshold", parameters)
    assert value is not None
    return value


def particles(
    mask: ArrayLike,
    *,
    min_area: float = 0,
    max_area: float | None = None,
    min_circularity: float = 0,
    max_circularity: float = 1,
    exclude_edges: bool = False,
    include_holes: bool = False,
) -> np.ndarray:
    """Label the objects of a mask as ImageJ's Analyze > Analyze Particles does.

    Objects are connected by sides and corners (8-connected).

    Parameters
    ----------
    mask : array_like, axes YX or ZYX
        What is above 0 is object. Planes of a volume are numbered on from plane to plane;
        they are not connected.
    min_area, max_area : float
        In pixels, both inclusive; None is no limit.
    min_circularity, max_circularity : float
        ``4 pi area / perimeter**2``, 0 to 1.
    exclude_edges : bool
        Leave out objects at the border.
    include_holes : bool
        Holes belong to their object.

    Returns
    -------
    ndarray of int32
        Labels from 1 in the order in which ImageJ finds them, 0 is background.

    Raises
    ------
    InputError, NotFoundError, WorkerError
        As `run_plugin`; WorkerError too for more than 65,535 objects in a plane.
    """
    return run_plugin(
        mask,
        "particles",
        min_area=min_area,
        max_area=max_area,
        min_circularity=min_circularity,
        max_circularity=max_circularity,
        exclude_edges=exclude_edges,
        include_holes=include_holes,
    )


def project(volume: ArrayLike, method: str = "max") -> np.ndarray:
    """Project a volume along Z as ImageJ's Image > Stacks > Z Project does.

    Parameters
    ----------
    volume : array_like, axes ZYX
    method : {"max", "min", "sum", "sd", "avg", "median"}

    Returns
    -------
    ndarray, axes YX
        float32 for ``sum`` and ``sd``; else the dtype of `volume`, where ImageJ rounds
        ``avg`` and ``median`` to whole numbers for integers.

    Raises
    ------
    InputError, NotFoundError, WorkerError
        As `run_plugin`.
    """
    return run_plugin(volume, "project", method=method)


def run_macro(
    image: ArrayLike, macro: str, *, colour: bool = False, timeout: float | None = None
) -> np.ndarray:
    """Run a macro in a local Fiji, with `image` as the current image.

    Parameters
    ----------
    image : array_like, axes YX, ZYX or YXS
        Volumes plane by plane.
    colour : bool
        The axes are YXS: uint8, three samples.
    macro : str
        In ImageJ's macro language. It runs in batch mode, without windows; it must not ask
        the user anything. The image that is current at its end is the result.
    timeout : float, optional
        Seconds for one plane.

    Returns
    -------
    ndarray, axes YX or ZYX
        Dtype of `image` (rounded, kept within its range), whatever the macro made of it.

    Raises
    ------
    InputError
        The result has another size than the image, or is a colour image.
    NotFoundError
        There is no Fiji: ``OPSEF_FIJI_DIR`` names its folder.
    WorkerError
        The macro or one of its commands failed, or took too long.
    """
    given = checked("macro", {"macro": macro})
    result, _ = run(as_image(image), "macro", given, timeout, colour)
    return result
