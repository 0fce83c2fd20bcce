"""Values of an engine's parameters, as a person gives them, made into its two models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from opsef_bridge.engines.base import Engine, Parameters
from opsef_bridge.errors import InputError

__all__ = ["split_parameters"]


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
