"""What the other interpreter of `opsef_bridge.engines.external` runs, by the path of this file.

It needs appose and numpy there, and nothing of opsef_bridge.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from typing import Any

__all__ = ["END", "answer", "main"]

END = "[end of call]"
"""What is written to stderr after each call: it comes through another pipe than the answer."""

_made: dict[str, Any] = {}
"""Arrays that the last call made, by name, until they are collected."""


@functools.cache
def _engine(target: str) -> Any:
    """Return the one object of the class ``module:Class``."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)()


def answer(target: str, function: str, arguments: dict[str, Any]) -> Any:
    """Call a method of the engine; or ``collect`` what it made.

    Arrays come in places that the caller has made (see `opsef_bridge.workers.shared_arrays`),
    as ``arrays``, by name. Of arrays that are returned the caller gets dtype and shape by
    name, makes places for them, and collects them with the next call.
    """
    try:
        return _call(target, function, arguments)
    finally:
        sys.stdout.flush()
        print(END, file=sys.stderr, flush=True)


def _call(target: str, function: str, arguments: dict[str, Any]) -> Any:
    if function == "collect":
        for name, place in arguments["places"].items():
            _write(place, _made.pop(name))
        return None
    _made.clear()
    engine = _engine(target)
    if function == "parameters":
        return engine.parameters()
    if function == "load":
        engine.load(arguments["weights"], arguments["device"])
        return None
    arrays = {name: _read(place) for name, place in arguments["arrays"].items()}
    parameters = arguments["parameters"]
    if function == "predict":
        image = arrays["image"]
        return _predicted(engine.predict(image, parameters, arrays.get("reference", image)))
    labels = engine.decode({**arguments["values"], **arrays}, parameters)
    return _offer({"labels": labels})


def _predicted(raw: dict[str, Any]) -> dict[str, Any]:
    """Part what an engine found into numbers, and arrays as they are kept, in float16."""
    import numpy as np

    maps = {name: np.asarray(value) for name, value in raw.items() if np.ndim(value)}
    values = {name: float(value) for name, value in raw.items() if name not in maps}
    with np.errstate(over="ignore"):
        halves = {name: array.astype(np.float16) for name, array in maps.items()}
    return {"maps": _offer(halves), "values": values}


def _offer(arrays: dict[str, Any]) -> dict[str, Any]:
    """Keep arrays until they are collected; return their dtypes and shapes."""
    import numpy as np

    for name, value in arrays.items():
        array = np.ascontiguousarray(value)
        if array.dtype.kind not in "buif":
            raise TypeError(f"{name} is an array of {array.dtype}, not of real numbers")
        _made[name] = array.reshape(np.shape(value))
    return {name: {"dtype": a.dtype.str, "shape": list(a.shape)} for name, a in _made.items()}


def _read(place: dict[str, Any]) -> Any:
    """Return a copy of the array in a place."""
    import numpy as np
    from appose import SharedMemory

    if "file" in place:
        return np.load(place["file"], allow_pickle=False)
    shared = SharedMemory(name=place["segment"])
    try:
        return np.ndarray(place["shape"], place["dtype"], buffer=shared.buf).copy()
    finally:
        shared.close()


def _write(place: dict[str, Any], array: Any) -> None:
    """Copy an array to its place."""
    import numpy as np
    from appose import SharedMemory

    if "file" in place:
        np.save(place["file"], array, allow_pickle=False)
        return
    shared = SharedMemory(name=place["segment"])
    try:
        np.ndarray(place["shape"], place["dtype"], buffer=shared.buf)[...] = array
    finally:
        shared.close()


def main() -> None:
    """Serve calls until stdin ends; what the engine prints goes to stderr, for the log."""
    sys.path.pop(0)  # the folder of this file: its modules would hide packages named alike
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import numpy  # noqa: F401  (on Windows it must come before stdin is read)
    from appose import python_worker

    python_worker.print = functools.partial(print, file=messages)
    python_worker.main()


if __name__ == "__main__":
    main()
