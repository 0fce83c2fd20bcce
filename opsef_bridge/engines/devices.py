"""Which devices the runtimes of the engines offer on this machine, and which one is taken.

Only a runtime itself knows whether it can use a GPU, and importing one takes seconds. So a
driver is looked for first: without one the answer is the CPU, and nothing is imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

from opsef_bridge.engines.base import Engine, Weights
from opsef_bridge.errors import ConfigError

__all__ = [
    "gpu_names",
    "onnx_devices",
    "resolve_device",
    "tensorflow_devices",
    "torch_devices",
]

CPU = ("cpu",)
BOTH = ("cuda", "cpu")

SECONDS = 20
"""How long the driver may take to list its GPUs."""


@cache
def gpu_names() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that this process may use, by the driver's own list.

    ``CUDA_VISIBLE_DEVICES`` counts, as for every program that uses CUDA: it names fewer, and
    -1 or the empty string none. The names are those that stand in it.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return _visible(os.environ.get("CUDA_VISIBLE_DEVICES"), found)


def _visible(names: str | None, found: int) -> tuple[str, ...]:
    """Return the names of those of `found` GPUs that ``CUDA_VISIBLE_DEVICES`` leaves.

    >>> _visible(None, 2), _visible("", 2), _visible("-1", 2), _visible("1", 2)
    (('0', '1'), (), (), ('1',))
    """
    if names is None:
        return tuple(str(number) for number in range(found))
    kept: list[str] = []
    for name in map(str.strip, names.split(",")):
        if not name or name.startswith("-"):  # CUDA ignores what follows
            break
        kept.append(name)
    return tuple(kept[:found])


def onnx_devices() -> tuple[str, ...]:
    """Return the devices of ONNX Runtime, best first: ``("cuda", "cpu")`` or ``("cpu",)``."""
    if not gpu_names():
        return CPU
    import onnxruntime

    return BOTH if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else CPU


def torch_devices() -> tuple[str, ...]:
    """Return the devices of torch, best first."""
    if not gpu_names():
        return CPU
    try:
        import torch
    except ImportError:
        return CPU
    return BOTH if torch.cuda.is_available() else CPU


def tensorflow_devices() -> tuple[str, ...]:
    """Return the devices of TensorFlow, best first."""
    if not gpu_names():
        return CPU
    try:
        import tensorflow
    except ImportError:
        return CPU
    return BOTH if tensorflow.config.list_physical_devices("GPU") else CPU


def resolve_device(
    wanted: str, engine: type[Engine] | Engine, weights: Weights | None = None
) -> str:
    """Return ``"cpu"`` or ``"cuda"``: what `wanted` means for `engine` on this machine.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda"}
        ``sweep.device`` of the configuration.
    engine : Engine
        Asked by its ``devices()``. One without runs on the CPU, whatever is wanted: a
        classical method in a sweep of networks is no reason to refuse.
    weights : Weights, optional
        Of an engine with more than one runtime, they decide which.

    Raises
    ------
    ConfigError
        ``cuda`` is asked for where the engine's runtime cannot use it.

    Examples
    --------
    >>> from opsef_bridge.engines import engine_class
    >>> resolve_device("cuda", engine_class("watershed"))
    'cpu'
    """
    ask = getattr(engine, "devices", None)
    if wanted == "cpu" or ask is None:
        return "cpu"
    devices = ask(weights)
    if wanted == "auto":
        return str(devices[0])
    if wanted not in devices:
        raise ConfigError(
            f"sweep.device is {wanted}, but the engine {engine.name!r} can only use "
            f"{', '.join(devices)} here",
            hint="Use `device: auto`; or install the GPU builds: make gpu",
        )
    return wanted
