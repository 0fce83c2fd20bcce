"""An engine of somebody else: exact pixel by pixel, counts its passes, and fails on demand.

What `conftest.py` puts on the path beside this file registers it as the engine ``probe``.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from scipy import ndimage

from opsef_bridge.engines import Parameters, Raw, Weights

DEADLY = 251
"""A pixel of this value kills the process, as long as the file $PROBE_DEADLY exists."""


class Predict(Parameters):
    """Parameters that need a new pass."""

    pause: float = 0.0
    """Seconds that a pass takes."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    threshold: float = 0.5
    """Of the maximum of the whole image."""
    fault: Literal["none", "float", "negative", "shape", "raises", "gaps"] = "none"


class Probe:
    """Connected parts brighter than a part of the maximum of the whole image."""

    name: ClassVar[str] = "probe"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX", "ZYX"})
    needs_weights: ClassVar[bool] = False
    Predict = Predict
    Decode = Decode

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Do nothing."""

    def predict(self, image: np.ndarray, parameters: Predict, *, reference=None) -> Raw:
        """Write a line to $PROBE_LOG and return the image, its maximum mapped to 1."""
        with open(os.environ["PROBE_LOG"], "a") as log:
            log.write(f"{os.getpid()}\n")
        if (image == DEADLY).any() and Path(os.environ["PROBE_DEADLY"]).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(parameters.pause)
        top = max(float((image if reference is None else reference).max()), 1.0)
        return Raw({"image": image / top}, image.shape)

    def decode(self, raw: Raw, parameters: Decode) -> np.ndarray:
        """Return the parts above the threshold, or break the contract."""
        labels = ndimage.label(raw.maps["image"] > parameters.threshold)[0].astype(np.int32)
        if parameters.fault == "raises":
            raise RuntimeError("the probe was told to fail")
        return {
            "none": labels,
            "gaps": labels * 7,
            "float": labels + 0.5,
            "negative": -labels,
            "shape": labels[:-1],
        }[parameters.fault]
