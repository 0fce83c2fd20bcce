"""Values of an engine's parameters, as a person gives them, made into its two models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from opsef_bridge.engines.base import Engine, Parameters, Weights
from opsef_bridge.errors import InputError, WeightsError

__all__ = ["split_parameters", "tuned"]


def split_parameters(
    engine: type[Engine], values: Mapping[str, Any]
) -> tuple[Parameters, Parameters]:
    """Return the `Predict` and the `Decode` parameters of `engine` with `values` in them.

    Raises
    ------
    InputError
        A parameter that the engine does not have, or a value that it does not take.

    Examples
    --------
    >>> from opsef_bridge.engines import engine_class
    >>> predict, decode = split_parameters(engine_class("watershed"), {"scale": 0.5})
    >>> predict.scale
    0.5
    """
    fields = {**engine.Predict.model_fields, **engine.Decode.model_fields}
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise InputError(
            f"{engine.name} has no parameter {', '.join(map(repr, unknown))}",
            hint=f"Choose of {', '.join(fields)}",
        )
    try:
        predict, decode = (
            part(**{name: v for name, v in values.items() if name in part.model_fields})
            for part in (engine.Predict, engine.Decode)
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1])
        problem = f"{name} is {first['input']!r}: {first['msg']}"
        raise InputError(problem, hint=f"See the parameters of {engine.name}") from None
    return predict, decode


def tuned(engine: type[Engine], weights: Weights) -> dict[str, Any]:
    """Return the decode values that the card has under ``thresholds``: tuned on its images.

    Where a person names no value of her own they count, before the engine's defaults. Of an
    engine that reads them itself (``reads_thresholds``, as StarDist) there are none here.

    Raises
    ------
    WeightsError
        The card has a value that the engine does not take.

    Examples
    --------
    >>> from opsef_bridge.engines import engine_class
    >>> mine = Weights("mine", "unet", card={"thresholds": {"threshold": 0.55}})
    >>> tuned(engine_class("unet"), mine)
    {'threshold': 0.55}
    """
    told = weights.card.get("thresholds") or {}
    if getattr(engine, "reads_thresholds", False):
        return {}
    try:
        values = dict(told)
        engine.Decode(**values)
    except (ValidationError, ValueError, TypeError) as error:
        choices = ", ".join(engine.Decode.model_fields)
        raise WeightsError(
            f"the card of the weights {weights.name!r} has thresholds that are none: {told!r}",
            hint=f"Under `thresholds` {engine.name} takes {choices}; or leave them out",
        ) from error
    return values
