"""The registry of preprocessing steps: a step is a function, its signature the schema.

A new step is one decorated function::

    @step(dtype="same")
    def halve(image: np.ndarray, *, by: Annotated[float, Field(gt=0, le=8)] = 2) -> np.ndarray:
        ...

It is then a step of recipes by its name. A parameter without a default must be given. A
package brings its steps through the entry
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
from pydantic.fields import FieldInfo

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess.whole import Known

__all__ = ["STEPS", "Step", "find_step", "step", "step_schema"]

GROUP = "opsef_bridge.steps"

Dtype = Literal["same", "float32", "uint8"]


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
    dtype : {"same", "float32", "uint8"}
        Dtype of the result.
    version : int
        Part of every content key: goes up whenever the result of the same input may
        change.
    shrinks : str
        Name of the parameter by which Y and X shrink; empty for most.
    colour : bool
        Whether it makes grey of colour: its `image` is YXS or ZYXS with three samples
        (red, green, blue), its result YX or ZYX.
    files : tuple of str
        Parameters that name files, each a path or None. Content keys hold what is in them.
    later : tuple of str
        Parameters that were added when results had been kept already. At their defaults
        they are left out of recipes, so that content keys stay what they were.
    check : callable, optional
        ``check(**parameters)`` returns what is wrong with values that are right one by one,
        or None.
    measure : callable, optional
        Of a step that looks at the whole image: ``measure(pieces, shape, **parameters)``
        goes through an image that need not fit into memory and returns what `part` must
        know of it (`opsef_bridge.preprocess.whole.Pieces`, ``Known``). A `ConfigError` where
        that is not possible by these parameters.
    part : callable, optional
        ``part(image, place, **parameters)`` returns for a part of an image
        (`opsef_bridge.preprocess.whole.Place`) what `function` returns there for the whole.
        (In tiles work the steps that `opsef_bridge.sweep.reach` knows the reach of.)
    """

    name: str
    function: Callable[..., np.ndarray]
    Parameters: type[BaseModel]
    dtype: Dtype
    version: int = 1
    shrinks: str = ""
    colour: bool = False
    files: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    check: Callable[..., str | None] | None = None
    measure: Callable[..., Known] | None = None
    part: Callable[..., np.ndarray] | None = None

    def validate(self, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return `parameters` with the defaults filled in, but for those that came `later`.

        Raises
        ------
        ConfigError
            Names the step, the parameter, its value and its limit.
        """
        try:
            values = self.Parameters.model_validate(dict(parameters or {})).model_dump()
            wrong = self.check(**values) if self.check else None
        except ValidationError as error:
            wrong = "; ".join(_said(e) for e in error.errors())
        if wrong:
            raise ConfigError(
                f"step {self.name}: {wrong}", hint=f"Its parameters are {self.summary()}"
            )
        fields = self.Parameters.model_fields
        return {
            name: value
            for name, value in values.items()
            if name not in self.later or value != fields[name].default
        }

    def summary(self) -> str:
        """Return the parameters and their defaults as text."""
        fields = self.Parameters.model_fields.items()
        return ", ".join(f"{name} ({_default(field)})" for name, field in fields) or "none"


def _default(field: FieldInfo) -> str:
    return "needed" if field.is_required() else f"default {field.default}"


def _said(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]) or "the whole"
    if error["type"] == "extra_forbidden":
        return f"there is no parameter {name!r}"
    if error["type"] == "missing":
        return f"{name} is missing"
    return f"{name} is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


STEPS: dict[str, Step] = {}
"""All registered steps by name."""


def step(
    *, dtype: Dtype, **more: Any
) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Register the decorated function as a step; it stays the plain function it was.

    Parameters
    ----------
    dtype
        See `Step`.
    **more
        Any of ``version``, ``shrinks``, ``colour``, ``files``, ``later``, ``check``, ``measure``,
        ``part`` of `Step`.
    """

    def register(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        name = function.__name__
        hints = get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
        fields: dict[str, Any] = {
            key: (hints[key], ... if parameter.default is parameter.empty else parameter.default)
            for key, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
        model = create_model(name, __config__=config, **fields)
        STEPS[name] = Step(name, function, model, dtype, **more)
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
