"""One image, one model: the shortest way to labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import ValidationError

from opsef_bridge.engines import engine_class, find_weights, list_weights, verify
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.images import Image, segment_plane

__all__ = ["segment"]


def segment(image: np.ndarray | Image, model: str, **parameters: Any) -> np.ndarray:
    """Segment one image.

    Parameters
    ----------
    image : ndarray or Image
        Axes YX, or ZYX for engines that take volumes; any real dtype. An `Image` may have
        more channels (the first is taken) or be in colour.
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
    array = segment_plane(image) if isinstance(image, Image) else image
    weights = next((w for w in list_weights() if w.name == model), None)
    try:
        engine = engine_class(weights.engine if weights else model)
    except NotFoundError as error:
        names = ", ".join(w.name for w in list_weights())
        raise NotFoundError(
            f"there is no model {model!r}", hint=f"{error.hint}; or of {names}"
        ) from None
    weights = weights or find_weights(model, None)
    fields = {**engine.Predict.model_fields, **engine.Decode.model_fields}
    unknown = set(parameters) - set(fields)
    if unknown:
        raise InputError(
            f"{engine.name} has no parameter {', '.join(sorted(unknown))}",
            hint=f"Choose of {', '.join(fields)}",
        )
    try:
        predict, decode = (
            part(**{k: v for k, v in parameters.items() if k in part.model_fields})
            for part in (engine.Predict, engine.Decode)
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        problem = f"{name} is {first['input']!r}: {first['msg']}"
        raise InputError(problem, hint=f"See the parameters of {engine.name}") from None
    verify(weights)
    ready = engine()
    ready.load(weights)
    return ready.decode(ready.predict(array, predict), decode)
