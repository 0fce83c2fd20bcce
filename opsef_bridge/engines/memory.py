"""When memory runs out: smaller batches, then smaller tiles, then the CPU.

An engine may have a method ``lighten()``: it makes later passes need less memory, first by
halving its batches, then its tiles, and returns what it did (``"batch 4"``, ``"tile 512"``),
or None when nothing is left. What it does never changes labels, and loading again does not undo
it. `LoadedEngine` goes down
these steps, and from the GPU to the CPU, until a pass fits.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np

from opsef_bridge.engines.base import Engine, Parameters, Raw, Weights
from opsef_bridge.engines.devices import reasons, resolve_device
from opsef_bridge.errors import WorkerError

__all__ = ["LoadedEngine", "OutOfMemory", "is_out_of_memory"]

_WORDS = (
    "out of memory",  # torch and CUDA
    "failed to allocate memory",  # ONNX Runtime
    "bad allocation",
    "bad_alloc",
    "can't allocate memory",  # torch on the CPU
    "not enough memory",
    "alloc_failed",  # cuDNN and cuBLAS
    "resource allocation failed",  # cuBLAS, as ONNX Runtime passes it on
    "oom when allocating",  # TensorFlow
)
_NAMES = ("OutOfMemoryError", "ResourceExhaustedError")


class OutOfMemory(WorkerError):
    """A pass does not fit into memory, however small its tiles."""

    code = "out-of-memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says, in the words of any runtime, that memory ran out.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    True
    >>> is_out_of_memory(RuntimeError("shape mismatch"))
    False
    """
    if isinstance(error, MemoryError) or type(error).__name__ in _NAMES:
        return True
    # Of the runtimes' own classes (onnxruntime has a dozen) only the words tell.
    text = str(error).lower()
    return not isinstance(error, OSError) and any(words in text for words in _WORDS)


class LoadedEngine:
    """An engine with its weights on a device, as light as its passes so far needed it.

    Parameters
    ----------
    engine : Engine
        Not loaded yet.
    weights : Weights
        Verified.
    device : {"cpu", "cuda"}

    Attributes
    ----------
    device : str
        Where it is now.
    steps : list of str
        What was done for want of memory, in order: ``["batch 4", "tile 512", "cpu"]``.
    fell_back : str
        Why it is not on the GPU although `open` tried that; the empty string if it need not.
    """

    def __init__(self, engine: Engine, weights: Weights, device: str) -> None:
        self.engine, self.device = engine, device
        self.steps: list[str] = []
        self.fell_back = ""
        self._weights = weights
        engine.load(weights, device=device)

    @classmethod
    def open(cls, kind: type[Engine], weights: Weights, wanted: str) -> LoadedEngine:
        """Load an engine on the device that `wanted` means for it here (see `resolve_device`).

        With ``auto`` weights whose runtime cannot use a GPU that is there, and weights that
        cannot run on it whatever their runtime may do, go to the CPU; `fell_back` says why.
        """
        device = resolve_device(wanted, kind, weights)
        try:
            loaded = cls(kind(), weights, device)
            if (wanted, device) == ("auto", "cpu") and hasattr(kind, "devices") and reasons():
                loaded.fell_back = f"not on the GPU: {reasons()}"
                print(loaded.fell_back, file=sys.stderr)
            return loaded
        except Exception as error:
            full = is_out_of_memory(error)
            if device == "cpu" or not (
                full or (wanted == "auto" and isinstance(error, WorkerError))
            ):
                raise
            print(f"not on the {device}: {error}", file=sys.stderr)
            reason = f"not on the {device}: {(str(error) or repr(error)).splitlines()[0]}"
        loaded = cls(kind(), weights, "cpu")
        loaded.fell_back = reason
        loaded.steps += ["cpu"] if full else []
        return loaded

    def note(self, record: dict[str, Any]) -> None:
        """Write into the record of a unit where its last pass was made, and how."""
        record["device"] = self.device
        if self.device not in record.setdefault("devices", []):
            record["devices"].append(self.device)
        if self.steps:
            record["lighter"] = self.steps
        if self.fell_back:
            record["fell_back"] = self.fell_back

    def predict(
        self, image: np.ndarray, parameters: Parameters, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Run a pass; as `Engine.predict`.

        Raises
        ------
        OutOfMemory
            It does not fit in any way.
        """
        while True:
            try:
                return self.engine.predict(image, parameters, reference=reference)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                print(f"out of memory: {type(error).__name__}: {error}", file=sys.stderr)
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
            # Outside of `except`: the error's traceback holds the arrays that did not fit.
            step = self._lighter()
            if step is None:
                raise OutOfMemory(
                    f"no memory for a pass of {self.engine.name} over an image of shape "
                    f"{image.shape}, even with {', '.join(self.steps) or 'nothing else'} "
                    f"on the {self.device} ({reason})",
                    hint="Take a smaller scale (a larger diameter), a crop, or fewer --workers",
                )
            print(f"going on with {step}", file=sys.stderr)
            self.steps.append(step)

    def _lighter(self) -> str | None:
        """Go one step down; None at the foot."""
        lighten = getattr(self.engine, "lighten", None)
        step = lighten() if lighten else None
        if step is None and self.device != "cpu":
            self.device = step = "cpu"
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if step is not None:
            self._load_again()
        return step

    def _load_again(self) -> None:
        """Load anew: ONNX Runtime keeps what it has reserved as long as a session lives."""
        try:
            self.engine.load(self._weights, device=self.device)
        except Exception as error:
            if self.device == "cpu" or not is_out_of_memory(error):
                raise
            self.device = "cpu"
            self.steps.append("cpu")
            self.engine.load(self._weights, device="cpu")
