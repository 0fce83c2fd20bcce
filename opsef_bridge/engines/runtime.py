"""ONNX Runtime and torch as the engines use them: one thread, one device, safe files."""

from __future__ import annotations

from typing import Any

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.devices import CUDA, load_cuda
from opsef_bridge.engines.memory import is_out_of_memory
from opsef_bridge.engines.registry import refuse_missing
from opsef_bridge.engines.untrusted import first_line
from opsef_bridge.errors import WeightsError, WorkerError

__all__ = ["ON_CUDA", "open_session", "read_state", "use_torch"]

ON_CUDA = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
"""Options of ONNX Runtime on a GPU. For every new shape of input it chooses anew how to
convolve: its default way takes four times as long as this one (140 to 250 ms a change on an
H100, where a pass takes 5), and is no faster after. With TF32 maps are a thousand times
further from those of the CPU, at no gain."""


def open_session(weights: Weights, device: str = "cpu") -> Any:
    """Return an ONNX Runtime session of one thread: workers, not threads, fill the cores.

    Parameters
    ----------
    weights : Weights
    device : str
        ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    WeightsError
        The file is missing or cannot be read.
    WorkerError
        ONNX Runtime cannot use `device`, or its memory is full.
    """
    import onnxruntime

    path = refuse_missing(weights)
    provider = {"cpu": "CPUExecutionProvider", "cuda": CUDA}.get(device)
    if provider not in onnxruntime.get_available_providers():
        raise WorkerError(
            f"ONNX Runtime cannot use the device {device!r}",
            hint="Use the device cpu, or install the GPU build of ONNX Runtime in its place",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if provider == CUDA:
        load_cuda(onnxruntime)
    providers = [(provider, ON_CUDA if provider == CUDA else {})]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime has a dozen classes for a broken file
        if is_out_of_memory(error):
            raise WorkerError(
                f"out of memory: the weights {weights.name!r} do not fit on the device {device!r} "
                f"({first_line(error)})",
                hint="Wait until other programs need less of it, or use the device cpu",
            ) from error
        raise WeightsError(
            f"the weights {weights.name!r} cannot be read from {path} ({error})",
            hint="Bring a sound copy of the file",
        ) from error
    if provider not in session.get_providers():  # it falls back to the CPU with a warning
        raise WorkerError(
            f"ONNX Runtime could not start on the device {device!r}",
            hint="Check the driver and the CUDA libraries (`opsef doctor` says which runtime "
            "can use the GPU), or use the device cpu",
        )
    session.disable_fallback()  # a pass that fails on the GPU is an error, not a slow pass
    return session


def use_torch(torch: Any, device: str) -> None:
    """Let torch compute with one thread from now on, if it can on `device`.

    On a GPU without TF32, for the reason of `ON_CUDA`.

    Raises
    ------
    WorkerError
        It cannot.
    """
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise WorkerError(
            f"torch cannot use the device {device!r}",
            hint="Use the device cpu, or install a torch that can",
        )
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False


def read_state(torch: Any, weights: Weights) -> Any:
    """Return what torch saved in a file, tensors by name. No code of the file runs.

    Raises
    ------
    WeightsError
        The file is missing, or torch cannot read it as tensors.
    """
    path = refuse_missing(weights)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many classes for a broken file
        raise WeightsError(
            f"the weights {weights.name!r} cannot be read from {path} "
            f"({type(error).__name__}: {first_line(error)})",
            hint="Bring a sound copy of a file that torch saved, with tensors only",
        ) from error
