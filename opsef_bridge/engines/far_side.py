"""What the other interpreter of `opsef_bridge.engines.external` runs, by the path of this file.

It needs appose and numpy there, and nothing of opsef_bridge.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["END", "answer", "main"]

END = "[end of call]"
"""What is written to stderr after each call: it comes through another pipe than the answer."""


@functools.cache
def _engine(target: str) -> Any:
    """Return the one object of the class ``module:Class``."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)()


def answer(target: str, function: str, folder: str, arguments: dict[str, Any]) -> Any:
    """Call a method of the engine; arrays come and go as .npy files in `folder`."""
    try:
        return _call(target, function, folder, arguments)
    finally:
        sys.stdout.flush()
        print(END, file=sys.stderr, flush=True)


def _call(target: str, function: str, folder: str, arguments: dict[str, Any]) -> Any:
    import numpy as np

    def read(name: str) -> Any:
        return np.load(Path(folder) / name, allow_pickle=False)

    def write(name: str, array: Any) -> str:
        np.save(Path(folder) / name, np.asarray(array), allow_pickle=False)
        return name

    engine = _engine(target)
    if function == "parameters":
        return engine.parameters()
    if function == "load":
        engine.load(arguments["weights"], arguments["device"])
        return None
    if function == "predict":
        image, reference = read("image.npy"), read("reference.npy")
        raw = engine.predict(image, arguments["parameters"], reference)
        maps = {key: value for key, value in raw.items() if np.ndim(value)}
        return {
            "maps": {key: write(f"{i}.npy", array) for i, (key, array) in enumerate(maps.items())},
            "values": {key: float(value) for key, value in raw.items() if key not in maps},
        }
    raw = {**arguments["values"], **{key: read(name) for key, name in arguments["maps"].items()}}
    return write("labels.npy", engine.decode(raw, arguments["parameters"]))


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
