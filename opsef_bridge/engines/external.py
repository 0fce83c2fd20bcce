"""Engines in other interpreters, for packages that cannot share an environment with ours.

``opsef engines add NAME --python ABSOLUTE_PATH --target module:Class`` asks the class what it
is and writes that to ``engines.json`` of the project; from then on NAME is an engine like any
other. The other environment needs the packages appose and numpy, and the class there four
methods. Nothing of opsef_bridge is imported there::

    class Mine:
        def parameters(self) -> dict:
            # version changes whenever labels may; types are float, int, bool and str, bounds
            # ge, gt, le, lt, and choices for str. Without diameter or scale among them,
            # images are resized here, by a scale that the other side does not see.
            return {
                "version": "1", "description": "...", "axes": ["YX"], "needs_weights": True,
                "predict": {"diameter": {"type": "float", "default": 30, "gt": 0}},
                "decode": {"threshold": {"type": "float", "default": 0.5, "ge": 0, "le": 1}},
            }
        def load(self, weights: str | None, device: str) -> None: ...
        def predict(self, image, parameters, reference) -> dict: ...
        def decode(self, raw, parameters) -> labels: ...

``image`` and ``reference`` are float32 and finite, ``parameters`` a dict; ``reference`` is
the whole image where ``image`` is a part of it, and normalises it. ``predict`` returns arrays
(kept as float16) and numbers by name; ``decode`` gets them back, and no weights. A number
that ``predict`` chose for the image has a name that starts with ``chosen_``, and is recorded.
Labels are integers, 0 is background, in the shape of the image (without a last axis of
colours). An engine of ``"YXS"`` gets grey images as colour images of one sample.

Calls go through Appose, arrays through shared memory (through files in a temporary folder
where there is too little of it); nothing is left of either, whichever process dies. What is
printed there comes out on the stderr of this process, and so into the log of the unit.

Only projects that you trust should be swept: ``engines.json`` names programs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
)

from opsef_bridge.engines.base import Engine, Parameters, Raw, Scaled, Weights
from opsef_bridge.engines.devices import gpu_names
from opsef_bridge.engines.far_side import END
from opsef_bridge.engines.scaling import drop_small, finite_plane, resize, resize_labels
from opsef_bridge.errors import InputError, OpsefError, WorkerError
from opsef_bridge.workers.shared_arrays import SharedArrays

__all__ = ["ExternalEngine", "describe", "external_class"]

_SIDE = "_side"
"""Values of a `Raw` that are ours: the sides of the image as the other side saw it."""

_STDERR_SECONDS = 5.0
"""How long a call waits at its end for what was written to stderr."""

_CALL = "import __main__\ntask.outputs['value'] = __main__.answer(target, function, given)"


class _Value(BaseModel):
    """One parameter, as the other side tells it."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["float", "int", "bool", "str"]
    default: float | int | bool | str
    description: str = ""
    choices: list[str] | None = None
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


class _Description(BaseModel):
    """What the other side tells of itself."""

    model_config = ConfigDict(extra="forbid")
    version: str
    description: str = ""
    axes: list[Literal["YX", "YXS", "ZYX"]] = Field(min_length=1)
    needs_weights: bool = False
    predict: dict[str, _Value]
    decode: dict[str, _Value]

    @field_validator("axes")
    @classmethod
    def _one_kind_of_three_axes(cls, value: list[str]) -> list[str]:
        if {"YXS", "ZYX"} <= set(value):
            raise ValueError("YXS and ZYX cannot be told apart; make two engines of them")
        return value


class ExternalEngine:
    """An engine whose methods run in another interpreter; see `external_class`."""

    name: ClassVar[str]
    version: ClassVar[str]
    axes: ClassVar[frozenset[str]]
    needs_weights: ClassVar[bool]
    Predict: ClassVar[type[Parameters]]
    Decode: ClassVar[type[Parameters]]
    told: ClassVar[dict[str, Any]]
    far: ClassVar[_Far]

    def __init__(self) -> None:
        self._weights: dict[str, Any] = {"weights": None, "device": "cpu"}

    @classmethod
    def devices(cls, weights: Weights | None = None) -> tuple[str, ...]:
        """Return what is worth trying: what it can use only the other interpreter knows."""
        return ("cuda", "cpu") if gpu_names() else ("cpu",)

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Load there; refuse an engine that is not the one that was added."""
        if self.far.call("parameters") != self.told:
            raise WorkerError(
                f"the engine {self.name!r} in {self.far.python} has changed since it was added",
                hint=f"Tell its new parameters: opsef engines add {self.name}, as before",
            )
        path = weights.path
        self._weights = {"weights": str(path.resolve()) if path else None, "device": device}
        self.far.load(self._weights)

    def predict(
        self, image: np.ndarray, parameters: Parameters, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Return what the other side makes of the image."""
        sent = {"image": finite_plane(image, self.axes)}
        if reference is not None and reference is not image:
            sent["reference"] = finite_plane(reference, self.axes)
        given = parameters.model_dump(mode="json")
        if issubclass(self.Predict, Scaled):
            scale = given.pop("scale")
            sent = {name: self._resize(one, scale) for name, one in sent.items()}
        self.far.load(self._weights)
        with SharedArrays() as arrays:
            places = {name: arrays.put(one) for name, one in sent.items()}
            raw = self.far.call("predict", {"parameters": given, "arrays": places})
            maps = self._collect(arrays, raw["maps"])
        sides = {f"{_SIDE}{i}": float(n) for i, n in enumerate(self._shape(sent["image"]))}
        return Raw(maps, self._shape(np.asarray(image)), raw["values"] | sides)

    def decode(self, raw: Raw, parameters: Parameters) -> np.ndarray:
        """Return the labels that the other side decodes, numbered 1..N."""
        values = {key: value for key, value in raw.values.items() if not key.startswith(_SIDE)}
        shape = tuple(int(raw.values[f"{_SIDE}{i}"]) for i in range(len(raw.shape)))
        given = {"values": values, "parameters": parameters.model_dump(mode="json")}
        with SharedArrays() as arrays:
            given["arrays"] = {name: arrays.put(one) for name, one in raw.maps.items()}
            labels = self._collect(arrays, self.far.call("decode", given))["labels"]
        if labels.dtype.kind not in "iu" or labels.shape != shape or labels.min(initial=0) < 0:
            raise WorkerError(
                f"the engine {self.name!r} returned {labels.dtype} of shape {labels.shape} where "
                f"labels of shape {shape} are due",
                hint="Labels are integers from 0 in the shape of the image",
            )
        return drop_small(resize_labels(labels, raw.shape), 1)

    def _collect(self, arrays: SharedArrays, offered: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays that the last call made there, by name."""
        places = {name: arrays.place(one["dtype"], one["shape"]) for name, one in offered.items()}
        self.far.call("collect", {"places": places})
        return {name: arrays.take(place) for name, place in places.items()}

    def _shape(self, image: np.ndarray) -> tuple[int, ...]:
        """Return the shape of the labels of `image`."""
        return image.shape[:-1] if "YXS" in self.axes and image.ndim == 3 else image.shape

    def _resize(self, image: np.ndarray, scale: float) -> np.ndarray:
        """Resize Y and X; neither Z nor colours."""
        if "YXS" in self.axes and image.ndim == 3:
            return np.moveaxis(resize(np.moveaxis(image, -1, 0), scale), 0, -1)
        return resize(image, scale)


def describe(python: str, target: str) -> dict[str, Any]:
    """Ask ``module:Class`` in the interpreter `python` what engine it is.

    Raises
    ------
    InputError
        `python` is no absolute path of a program, `target` is no ``module:Class``, or what
        it tells cannot be an engine.
    WorkerError
        The other side cannot be started, or fails.
    """
    if not (Path(python).is_absolute() and os.access(python, os.X_OK) and Path(python).is_file()):
        raise InputError(
            f"{python!r} is no absolute path of an interpreter",
            hint="Give that of the other environment, as `which python` there says",
        )
    if not all(part.isidentifier() for part in target.replace(":", ".", 1).split(".")) or (
        ":" not in target
    ):
        raise InputError(f"{target!r} is no module:Class", hint="For example my_package:MyNet")
    told = _far(python, target).call("parameters")
    _checked(told, target)
    return told


def external_class(name: str, entry: Mapping[str, Any]) -> type[Engine]:
    """Return the class of an engine from its entry in ``engines.json``.

    Parameters
    ----------
    name : str
    entry : mapping
        ``python``, ``target``, and what `describe` returned as ``parameters``.
    """
    try:
        python, target, told = entry["python"], entry["target"], entry["parameters"]
    except (KeyError, TypeError):
        raise InputError(
            f"the engine {name!r} in engines.json lacks python, target or parameters",
            hint="Take it out, and add it again by `opsef engines add`",
        ) from None
    made = _checked(told, target)
    members = {
        "__doc__": made.description or ExternalEngine.__doc__,
        "name": name,
        "version": made.version,
        "axes": frozenset(made.axes),
        "needs_weights": made.needs_weights,
        "Predict": _parameters("Predict", made.predict),
        "Decode": _parameters("Decode", made.decode),
        "told": told,
        "far": _far(python, target),
    }
    members["far"].name = name
    return type(f"External_{name}", (ExternalEngine,), members)


def _checked(told: Any, target: str) -> _Description:
    try:
        made = _Description.model_validate(told)
        _parameters("Predict", made.predict)()
        _parameters("Decode", made.decode)()
    except (ValidationError, TypeError) as error:
        raise InputError(
            f"{target} does not describe an engine ({' '.join(str(error).split())[:300]})",
            hint="opsef_bridge.engines.external says what its method `parameters` returns",
        ) from None
    return made


def _parameters(name: str, values: Mapping[str, _Value]) -> type[Parameters]:
    """Return the model of parameters with the defaults and bounds that were told."""
    kinds: dict[str, Any] = {"float": float, "int": int, "bool": bool, "str": str}
    fields: dict[str, Any] = {}
    for key, value in values.items():
        kind = Literal[tuple(value.choices)] if value.choices else kinds[value.type]
        more = value.model_dump(exclude_none=True, exclude={"type", "default", "choices"})
        fields[key] = (kind, Field(value.default, validate_default=True, **more))
    # Object size is an axis of every engine: one that has none of its own sees resized images.
    resized = name == "Predict" and not {"scale", "diameter"} & set(fields)
    return create_model(name, __base__=Scaled if resized else Parameters, **fields)


class _Far:
    """One process of another interpreter, started when it is needed and again if it died."""

    def __init__(self, python: str, target: str) -> None:
        self.python, self.target = python, target
        self.name = "NAME"
        """Of the engine, for advice; set when it has one."""
        self._service: Any = None
        self._said = 0
        self._loaded: dict[str, Any] = {}

    def load(self, weights: dict[str, Any]) -> None:
        """Load `weights` unless the process has them."""
        self._start()
        if self._loaded != weights:
            self.call("load", weights)
            self._loaded = weights

    def call(self, function: str, given: Mapping[str, Any] | None = None) -> Any:
        """Call a method there; OpsefError for whatever goes wrong."""
        from appose.service import TaskException, TaskStatus

        service = self._start()
        inputs = {"target": self.target, "function": function, "given": dict(given or {})}
        task = service.task(_CALL, inputs)
        try:
            with contextlib.suppress(TaskException, OSError):
                task.start()
                task.wait_for()
        except BaseException:  # Ctrl-C: what it was doing is of no use to anybody
            service.kill()
            raise
        if task.status is TaskStatus.COMPLETE:
            self._pass_on_stderr(service)
            return task.outputs["value"]
        died = task.status is not TaskStatus.FAILED
        if died:
            service.kill()
            service.wait_for()
        last = self._pass_on_stderr(service)
        print(task.error or "", file=sys.stderr)  # a traceback, into the log
        raise self._failed(function, (task.error or "").strip().splitlines()[-1:], died, last)

    def _failed(self, function: str, error: list[str], died: bool, last: str) -> OpsefError:
        what = (
            f"ended in {function} ({last})" if died else f"failed in {function}: {' '.join(error)}"
        )
        return WorkerError(
            f"{self.target} in {self.python} {what}",
            hint="It needs appose, numpy and the module itself there; the log holds what it said",
        )

    def _start(self) -> Any:
        from appose.service import Service

        if self._service is None or not self._service.is_alive():
            # What is meant for this interpreter would lead the other one astray.
            ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
            environment = {key: value for key, value in os.environ.items() if key not in ours}
            environment["PYTHONUNBUFFERED"] = "1"
            script = Path(__file__).with_name("far_side.py")
            service = Service(tempfile.gettempdir(), environment, self.python, str(script))
            service.syntax("python")
            # Its threads are daemons if their starter is; else they would keep us from ending.
            failed: list[OSError] = []
            starter = threading.Thread(target=_start, args=(service, failed), daemon=True)
            starter.start()
            starter.join()
            if failed:
                raise self._not_started(failed[0].strerror or str(failed[0]))
            self._service, self._said, self._loaded = service, 0, {}
        return self._service

    def _not_started(self, why: str) -> WorkerError:
        return WorkerError(
            f"the interpreter {self.python} of the engine {self.name!r} cannot be started ({why})",
            hint=f"Tell where it is now: opsef engines add {self.name} again, with --python and "
            f"--target {self.target}",
        )

    def _pass_on_stderr(self, service: Any) -> str:
        """Repeat what the process has said since the last call; return its last line."""
        patience = time.monotonic() + _STDERR_SECONDS
        while service.is_alive() and time.monotonic() < patience:
            if any(END in line for line in service.error_lines()[self._said :]):
                break
            time.sleep(0.001)
        lines = [line.rstrip("\n") for line in service.error_lines()[self._said :]]
        self._said += len(lines)
        lines = [line for line in lines if line != END]
        print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr, flush=True)
        return lines[-1].strip() if lines else "it said nothing"


def _start(service: Any, failed: list[OSError]) -> None:
    """Start `service`; a thread has no other way to tell that it could not."""
    try:
        service.start()
    except OSError as error:
        failed.append(error)


@functools.cache
def _far(python: str, target: str) -> _Far:
    """Return the one process of this target: engines are made anew for every decoding."""
    return _Far(python, target)
