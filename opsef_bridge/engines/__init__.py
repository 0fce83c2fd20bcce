"""Engines: one file per network family behind the contract of `opsef_bridge.engines.base`."""

from opsef_bridge.engines.base import Engine, Parameters, Raw, Scaled, Weights
from opsef_bridge.engines.devices import resolve_device
from opsef_bridge.engines.memory import LoadedEngine
from opsef_bridge.engines.registry import (
    engine_class,
    engine_names,
    find_weights,
    list_weights,
    verify,
)

__all__ = [
    "Engine",
    "LoadedEngine",
    "Parameters",
    "Raw",
    "Scaled",
    "Weights",
    "engine_class",
    "engine_names",
    "find_weights",
    "list_weights",
    "resolve_device",
    "verify",
]
