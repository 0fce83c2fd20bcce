"""The registry of preprocessing steps: a step is a function, its signature the schema.

A new step is one decorated function::

    @step(dtype="same")
    def halve(image: np.ndarray, *, by: Annotated[float, Field(gt=0, le=8)] = 2) -> np.ndarray:
        ...

It is then a step of recipes by its name. A package brings its steps through the entry
point group ``opsef_bridge.steps`` (entry name = step name, value = the function).
`opsef_bridge.testing.steps.StepSuite` is what every step passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from opsef_bridge.errors import ConfigError

__all__ = ["STEPS", "Step", "find_step", "step", "step_schema"]

GROUP = "opsef_bridge.steps"


@dataclass(frozen=True)
class Step:
    """One preprocessing step.

    Parameters
    ----------
    name : str
        Name in recipes.
    function : callable
        ``function(image, **parameters)``. `image` is YX or ZYX, finite, of any real
        dtype in native byte order (never bool), and never changed.
    Parameters : type of BaseModel
        Made from the signature: types, limits, defaults.
    dtype : {"same", "float32"}
        Dtype of the result.
    version : int
        Part of every content key: goes up whenever the result of the same input may
        change.
    shrinks : str
        Name of the parameter by which Y and X shrink; empty for most.
    """

    name: str
    function: Callable[..., np.ndarray]
    Parameters: type[BaseModel]
    dtype: Literal["same", "float32"]
    version: int = 1
    shrinks: str = ""

    def validate(self, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return `parameters` with the defaults filled in.

        Raises
        ------
        ConfigError
            Names the step, the parameter, its value and its limit.
        """
        try:
            return self.Parameters.model_validate(dict(parameters or {})).model_dump()
        except ValidationError as error:
            raise ConfigError(
                f"step {self.name}: " + "; ".join(_said(e) for e in error.errors()),
                hint=f"Its parameters are {self.summary()}",
            ) from None

    def summary(self) -> str:
        """Return the parameters and their defaults as text."""
        fields = self.Parameters.model_fields
        return ", ".join(f"{name} (default {f.default})" for name, f in fields.items()) or "none"


def _said(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]) or "the whole"
    if error["type"] == "extra_forbidden":
        return f"there is no parameter {name!r}"
    return f"{name} is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


STEPS: dict[str, Step] = {}
"""All registered steps by name."""


def step(
    *, dtype: Literal["same", "float32"], version: int = 1, shrinks: str = ""
) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Register the decorated function as a step; it stays the plain function it was.

    Parameters
    ----------
    dtype, version, shrinks
        See `Step`.
    """

    def register(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        name = function.__name__
        hints = get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
        fields: dict[str, Any] = {
            key: (hints[key], parameter.default)
            for key, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
        model = create_model(name, __config__=config, **fields)
        STEPS[name] = Step(name, function, model, dtype, version, shrinks)
        return function

    return register


def find_step(name: str) -> Step:
    """Return the step called `name`, looking at installed packages if need be.

    Raises
    ------
    ConfigError
        There is none; the message lists those that there are.
    """
    if name not in STEPS:
        for entry in entry_points(group=GROUP, name=name):
            entry.load()
    if name not in STEPS:
        raise ConfigError(
            f"there is no step {name!r}", hint=f"Choose from {', '.join(sorted(_names()))}"
        )
    return STEPS[name]


def _names() -> Iterator[str]:
    yield from STEPS
    yield from (entry.name for entry in entry_points(group=GROUP) if entry.name not in STEPS)


def step_schema() -> dict[str, Any]:
    """Return the JSON schema of one entry of a recipe, for all steps that there are."""
    steps = [find_step(name) for name in sorted(_names())]
    objects = [
        {
            "type": "object",
            "description": inspect.getdoc(s.function),
            "properties": {s.name: s.Parameters.model_json_schema()},
            "required": [s.name],
            "additionalProperties": False,
        }
        for s in steps
    ]
    return {"anyOf": [{"enum": [s.name for s in steps]}, *objects]}
