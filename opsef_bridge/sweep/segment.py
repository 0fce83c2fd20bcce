"""One image, one model: the shortest way to labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from opsef_bridge.engines import (
    LoadedEngine,
    engine_class,
    find_weights,
    list_weights,
    verify,
)
from opsef_bridge.engines.parameters import split_parameters, tuned
from opsef_bridge.errors import NotFoundError
from opsef_bridge.images import Image, segment_plane, segment_samples
from opsef_bridge.sweep.predict import wants_colour

__all__ = ["segment"]


def segment(image: np.ndarray | Image, model: str, **parameters: Any) -> np.ndarray:
    """Segment one image.

    Parameters
    ----------
    image : ndarray or Image
        Axes YX, ZYX for engines that take volumes, YXS for those that take colour; any real
        dtype. An `Image` may have more channels (the first is taken) or be in colour.
    model : str
        Name of an engine (then with the weights that come with it) or of weights.
    **parameters
        Parameters of the engine, e.g. ``scale=0.5, threshold=0.6``.

    Returns
    -------
    labels : ndarray of int32
        0 background, 1..N without gaps, the shape of the image.

    Raises
    ------
    NotFoundError
        There is no such engine and there are no such weights.
    InputError
        A parameter that the engine does not have, or a value that it does not take.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> disc = 100.0 * ((x - 30) ** 2 + (y - 30) ** 2 < 100)
    >>> int(segment(disc, "watershed").max())
    1
    """
    weights = next((w for w in list_weights() if w.name == model), None)
    try:
        engine = engine_class(weights.engine if weights else model)
    except NotFoundError as error:
        names = ", ".join(w.name for w in list_weights())
        raise NotFoundError(
            f"there is no model {model!r}", hint=f"{error.hint}; or of {names}"
        ) from None
    weights = weights or find_weights(model, None)
    predict, decode = split_parameters(engine, {**tuned(engine, weights), **parameters})
    verify(weights)
    loaded = LoadedEngine.open(engine, weights, "auto")
    array = image
    if isinstance(image, Image):
        colour = wants_colour(loaded.engine, predict)
        array = np.moveaxis(segment_samples(image), 0, -1) if colour else segment_plane(image)
    return loaded.engine.decode(loaded.predict(array, predict), decode)
