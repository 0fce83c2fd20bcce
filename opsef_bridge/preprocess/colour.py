"""Steps that make a grey image of a colour image; a recipe may hold one of them.

Their images have axes YXS or ZYXS with three samples: red, green, blue. Steps that stand
before them in a recipe work on each sample by itself.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from skimage.color import hdx_from_rgb, hed_from_rgb

from opsef_bridge.images.plane import to_grey
from opsef_bridge.preprocess.arrays import as_dtype, as_float
from opsef_bridge.preprocess.registry import step

__all__ = ["colour_deconvolution", "grey", "single_channel"]

_STAINS = {
    "h-e-dab": (hed_from_rgb, ("haematoxylin", "eosin", "dab")),
    "h-dab": (hdx_from_rgb, ("haematoxylin", "dab")),
}
"""Matrices by name, and the stains of their columns."""

DARKEST = 1 / 512
"""What is darker than this part of white counts as that: the logarithm of 0 is no number."""


def _known_stain(stain: str, stains: str, **_: object) -> str | None:
    known = _STAINS[stains][1]
    return None if stain in known else f"{stains} has no {stain}, only {' and '.join(known)}"


@step(dtype="float32", colour=True, check=_known_stain)
def colour_deconvolution(
    image: np.ndarray,
    *,
    stain: Literal["haematoxylin", "eosin", "dab"] = "haematoxylin",
    stains: Literal["h-e-dab", "h-dab"] = "h-e-dab",
    white: Annotated[float, Field(gt=0, le=2**32)] | None = None,
) -> np.ndarray:
    """How much there is of one stain: bright where it is dense, so nothing is to be inverted.

    Made for transmitted light (haematoxylin and eosin, haematoxylin and DAB). The colours
    of the stains are those that Ruifrok and Johnston measured; another laboratory's differ.

    Parameters
    ----------
    image : ndarray, axes YXS or ZYXS
        Red, green, blue.
    stain : {"haematoxylin", "eosin", "dab"}
        The stain that is wanted.
    stains : {"h-e-dab", "h-dab"}
        The stains that there are. For slides with haematoxylin and DAB alone `h-dab` parts
        them better.
    white : float, optional
        Grey level of empty glass, above 0. By default the largest value of an integer
        dtype, or 1. Give it for 12 bits in 16, or the whole slide seems stained.

    Returns
    -------
    ndarray of float32, axes YX or ZYX
        Optical density (decadic) of that stain, from 0.

    References
    ----------
    Ruifrok, A. C. and Johnston, D. A. (2001). Quantification of histochemical staining by
    color deconvolution. Anal. Quant. Cytol. Histol. 23, 291-299; the matrices
    `skimage.color.hed_from_rgb` and `hdx_from_rgb`: 6 times what
    `skimage.color.separate_stains` returns, which divides by the logarithm of 1e-6.

    Examples
    --------
    >>> glass, nucleus = [255, 255, 255], [60, 50, 130]
    >>> density = colour_deconvolution(np.array([[glass, nucleus]], np.uint8))
    >>> density[0, 0] < 0.01, density[0, 1] > 0.5
    (np.True_, np.True_)
    """
    if white is None:
        white = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    matrix, names = _STAINS[stains]
    density = np.zeros(image.shape[:-1], np.float32)
    for sample, weight in enumerate(matrix[:, names.index(stain)]):
        light = as_float(np.ascontiguousarray(image[..., sample])) / white
        density -= np.log10(np.clip(light, DARKEST, 1)).astype(np.float32) * np.float32(weight)
    return np.maximum(density, 0, out=density)


@step(dtype="same", colour=True)
def single_channel(
    image: np.ndarray, *, channel: Literal["red", "green", "blue"] = "red"
) -> np.ndarray:
    """One sample of a colour image.

    Parameters
    ----------
    image : ndarray, axes YXS or ZYXS
        Red, green, blue.
    channel : {"red", "green", "blue"}

    Returns
    -------
    ndarray, axes YX or ZYX
        Same dtype, in grey levels of the image.

    Examples
    --------
    >>> single_channel(np.array([[[1, 2, 3]]], np.uint8), channel="blue")
    array([[3]], dtype=uint8)
    """
    return np.ascontiguousarray(image[..., ("red", "green", "blue").index(channel)])


@step(dtype="same", colour=True)
def grey(image: np.ndarray, *, weights: Literal["luminance", "mean"] = "luminance") -> np.ndarray:
    """Grey by luminance, as without any colour step, or by the mean of the samples.

    Parameters
    ----------
    image : ndarray, axes YXS or ZYXS
        Red, green, blue.
    weights : {"luminance", "mean"}
        ``0.2125 R + 0.7154 G + 0.0721 B`` (Rec. 709), or a third each.

    Returns
    -------
    ndarray, axes YX or ZYX
        Same dtype, rounded where it is an integer.

    Examples
    --------
    >>> grey(np.array([[[10, 20, 60]]], np.uint8), weights="mean")
    array([[30]], dtype=uint8)
    """
    if weights == "luminance":
        return to_grey(image)
    return as_dtype(as_float(image).mean(axis=-1), image.dtype)
