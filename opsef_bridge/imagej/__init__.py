"""ImageJ in a process of its own: the archives, and what is asked of it.

Importing this package starts nothing and needs no Java: the functions on arrays are loaded
when they are used, and start the worker when they are first called. `opsef_bridge.imagej.ij1`
runs inside the process that hosts the Java machine and is not imported here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from opsef_bridge.imagej.jars import JARS, Jar, fetch_jar, find_jar, jar_folder

_LAZY = {
    "auto_threshold": "functions",
    "engine_name": "worker",
    "find_maxima": "functions",
    "particles": "functions",
    "project": "functions",
    "provider": "worker",
    "rolling_ball": "functions",
    "run_macro": "functions",
    "run_plugin": "functions",
}
"""Names that are loaded when they are used, and the module of each."""

__all__ = [
    "JARS",
    "Jar",
    "auto_threshold",
    "engine_name",
    "fetch_jar",
    "find_jar",
    "find_maxima",
    "jar_folder",
    "particles",
    "project",
    "provider",
    "rolling_ball",
    "run_macro",
    "run_plugin",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
