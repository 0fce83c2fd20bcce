"""What was installed where a project was bundled: enough to rebuild it, and to see differences."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from opsef_bridge.engines import engine_names

__all__ = ["differences", "environment", "requirements"]

MATTER = (
    "numpy", "scipy", "scikit-image", "tifffile", "onnxruntime", "onnxruntime-gpu", "torch",
    "tensorflow", "stardist", "cellpose",
)  # fmt: skip
"""Packages of which another version can change labels."""


def environment() -> dict[str, Any]:
    """Return what labels can depend on: program, Python, platform, engines, packages.

    No names of machines or persons are in it.
    """
    return {
        "opsef_bridge": importlib.metadata.version("opsef_bridge"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "engines": sorted(engine_names()),
        "packages": dict(_packages()),
    }


@functools.cache
def _packages() -> list[tuple[str, str]]:
    """Return name and version of what is installed, which takes as long as to bundle."""
    packages = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return sorted((name, version) for name, version in packages.items() if name)


def requirements(told: Mapping[str, Any]) -> str:
    """Return an environment as ``pip download -r`` and ``pip install -r`` read it."""
    head = f"# Python {told['python']} on {told['platform']}"
    return "\n".join([head, *(f"{name}=={v}" for name, v in told["packages"].items()), ""])


def differences(told: Mapping[str, Any], here: Mapping[str, Any] | None = None) -> list[str]:
    """Return a sentence for each difference of two environments that can change labels.

    Examples
    --------
    >>> one = {"python": "3.11.2", "packages": {"numpy": "1.26.4"}}
    >>> differences(one, {"python": "3.11.9", "packages": {"numpy": "2.1.0"}})
    ['numpy is 2.1.0 here, it was 1.26.4']
    """
    here = environment() if here is None else here
    pairs = {
        "opsef_bridge": (told.get("opsef_bridge"), here.get("opsef_bridge")),
        "Python": (_minor(told.get("python")), _minor(here.get("python"))),
        "the platform": (told.get("platform"), here.get("platform")),
    }
    packages = [told.get("packages") or {}, here.get("packages") or {}]
    pairs |= {name: (packages[0].get(name), packages[1].get(name)) for name in MATTER}
    said = [
        f"{name} is {now or 'not installed'} here, it was {then}"
        for name, (then, now) in pairs.items()
        if then and then != now
    ]
    lacks = sorted(set(told.get("engines") or ()) - set(here.get("engines") or ()))
    return [*said, *([f"Engines that are not here: {', '.join(lacks)}"] if lacks else [])]


def _minor(version: Any) -> str:
    return ".".join(str(version).split(".")[:2]) if version else ""
