"""Which devices the runtimes of the engines offer on this machine, and which one is taken.

Only a runtime itself knows whether it can use a GPU, and importing one takes seconds. So a
driver is looked for first: without one the answer is the CPU, and nothing is imported.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np

from opsef_bridge.engines.base import Engine, Weights
from opsef_bridge.errors import ConfigError

__all__ = [
    "CUDA",
    "gpu_names",
    "load_cuda",
    "onnx_devices",
    "reason_of",
    "reasons",
    "resolve_device",
    "tensorflow_devices",
    "torch_devices",
    "why_no_gpu",
]

CUDA = "CUDAExecutionProvider"
"""ONNX Runtime's name of it."""

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
    return CPU if why_no_gpu("onnxruntime") else BOTH


def torch_devices() -> tuple[str, ...]:
    """Return the devices of torch, best first."""
    return CPU if why_no_gpu("torch") else BOTH


def tensorflow_devices() -> tuple[str, ...]:
    """Return the devices of TensorFlow, best first."""
    return CPU if why_no_gpu("tensorflow") else BOTH


@cache
def why_no_gpu(runtime: str) -> str:
    """Return why `runtime` cannot use the GPU here; the empty string where it can.

    It is imported and computes something on the GPU: that its build is for CUDA does not say
    that the libraries of CUDA load. One runtime a process (see `reason_of`).

    Parameters
    ----------
    runtime : {"onnxruntime", "torch", "tensorflow"}
    """
    if not gpu_names():
        return "no NVIDIA driver lists a GPU here"
    try:
        reason = _ASK[runtime]()
    except ImportError as error:
        reason = f"it is not installed ({error})"
    except Exception as error:  # of a driver that is too old, a library that is missing: any
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if reason:
        _REASONS[runtime] = reason
    return reason


def reason_of(runtime: str, progress: object = None) -> str:
    """As `why_no_gpu`; to be called in a worker."""
    return why_no_gpu(runtime)


def reasons() -> str:
    """Return why the runtimes that this process asked cannot use a GPU that is there."""
    return "; ".join(f"{runtime}: {reason}" for runtime, reason in _REASONS.items())


_REASONS: dict[str, str] = {}
"""Why the runtimes that this process has asked cannot use the GPU."""


def load_cuda(onnxruntime: Any) -> None:
    """Let ONNX Runtime find the CUDA libraries that are Python packages; before a session."""
    load = getattr(onnxruntime, "preload_dlls", None)
    if load is not None:
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
            load()


def _ask_onnxruntime() -> str:
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return "it is the build for the CPU"
    load_cuda(onnxruntime)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with contextlib.redirect_stdout(sys.stderr):  # where it falls back it prints
        session = onnxruntime.InferenceSession(tiny_network(), options, providers=[CUDA])
    if CUDA not in session.get_providers():
        return "it fell back to the CPU: the libraries of CUDA or cuDNN are missing or too old"
    session.disable_fallback()
    (found,) = session.run(None, {"x": np.ones((1, 1, 3, 3), np.float32)})
    return "" if abs(float(found.sum()) - 9) < 0.1 else f"it counts to {found.sum()}, not to 9"


def _ask_torch() -> str:
    import torch

    if not torch.cuda.is_available():
        return "torch.cuda.is_available() is False"
    counted = float(torch.ones(9, device="cuda").sum())
    return "" if counted == 9 else f"it counts to {counted}, not to 9"


def _ask_tensorflow() -> str:
    import tensorflow

    found = tensorflow.config.list_physical_devices("GPU")
    return "" if found else "it lists no GPU: it may lack the libraries of CUDA"


_ASK = {
    "onnxruntime": _ask_onnxruntime,
    "torch": _ask_torch,
    "tensorflow": _ask_tensorflow,
}


def tiny_network() -> bytes:
    """Return an ONNX network that convolves ``x`` (1, 1, 3, 3) with itself.

    A convolution needs cuDNN too. It is written here field by field, as protobuf has it,
    since the package onnx is not part of the core.
    """
    sides = b"".join(_field(1, _field(1, side)) for side in (1, 1, 3, 3))
    result = b"".join(_field(1, _field(1, 1)) for _ in range(4))
    names = {"x": sides, "y": result}
    x, y = (
        _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))
        for name, shape in names.items()
    )
    node = _field(1, "x") + _field(1, "x") + _field(2, "y") + _field(4, "Conv")
    graph = _field(1, node) + _field(2, "tiny") + _field(11, x) + _field(12, y)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def _field(number: int, value: int | str | bytes) -> bytes:
    """Return a field of protobuf, of a number or of bytes, each below 128.

    >>> _field(1, 3), _field(2, "ab")
    (b'\\x08\\x03', b'\\x12\\x02ab')
    """
    if isinstance(value, int):
        return bytes((number << 3, value))
    content = value.encode() if isinstance(value, str) else value
    return bytes((number << 3 | 2, len(content))) + content


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
        why = reasons()
        raise ConfigError(
            f"sweep.device is {wanted}, but the engine {engine.name!r} can only use "
            f"{', '.join(devices)} here"
            + (f" with the weights {weights.name!r}" if weights and weights.name else "")
            + (f" ({why})" if why else ""),
            hint="Use `device: auto`; or install the GPU builds: make gpu",
        )
    return wanted
