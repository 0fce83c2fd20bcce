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
    crew: int = 1
    """A pass waits until so many processes have begun one, a minute at most."""
    colour: bool = False
    """Look at the first sample alone."""
    hungry: int = 0
    """Memory runs out until the engine was made lighter so often."""
    zoom: float = 0.0
    """Say that the image was seen enlarged, so much per unit of its maximum."""


class Decode(Parameters):
    """Parameters that decode from the same pass."""

    threshold: float = 0.5
    """Of the maximum of the whole image."""
    fault: Literal["none", "float", "negative", "shape", "raises", "gaps"] = "none"


def is_held() -> bool:
    """Whether a pass has to wait: the file $PROBE_HELD is there, with a smaller number of passes.

    A minute at most, so that what stops a run, or kills it, meets one that is at work.
    """
    try:
        least = int(Path(os.environ["PROBE_HELD"]).read_text())
    except FileNotFoundError:
        return False
    return len(Path(os.environ["PROBE_LOG"]).read_text().splitlines()) > least


def crew() -> int:
    """How many processes have begun a pass."""
    return len({line.split()[0] for line in Path(os.environ["PROBE_LOG"]).read_text().splitlines()})


class Probe:
    """Connected parts brighter than a part of the maximum of the whole image."""

    name: ClassVar[str] = "probe"
    version: ClassVar[str] = "1"
    axes: ClassVar[frozenset[str]] = frozenset({"YX", "YXS", "ZYX"})
    needs_weights: ClassVar[bool] = False
    Predict = Predict
    Decode = Decode

    batch = 4

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Do nothing."""

    @classmethod
    def devices(cls, weights: Weights | None = None) -> tuple[str, ...]:
        """As $PROBE_DEVICES says."""
        return tuple(os.environ.get("PROBE_DEVICES", "cpu").split())

    def wants_colour(self, parameters: Predict) -> bool:
        """As the parameters say."""
        return parameters.colour

    def lighten(self) -> str | None:
        """Halve the batch."""
        if self.batch == 1:
            return None
        self.batch //= 2
        return f"batch {self.batch}"

    def predict(self, image: np.ndarray, parameters: Predict, *, reference=None) -> Raw:
        """Write a line to $PROBE_LOG and return the image, its maximum mapped to 1."""
        with open(os.environ["PROBE_LOG"], "a") as log:
            log.write(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
        if (image == DEADLY).any() and Path(os.environ["PROBE_DEADLY"]).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(parameters.pause)
        patience = time.monotonic() + 60
        while time.monotonic() < patience and (crew() < parameters.crew or is_held()):
            time.sleep(0.01)
        if parameters.hungry and self.batch * 2**parameters.hungry > 4:
            raise MemoryError(f"batch {self.batch} does not fit")
        whole = image if reference is None else reference
        if parameters.colour:
            image, whole = image[..., 0], whole[..., 0]
        top = max(float(whole.max()), 1.0)
        values = {"chosen_top": top}
        if parameters.zoom:
            values["chosen_scale"] = parameters.zoom * top
        return Raw({"image": image / top}, image.shape, values)

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


class Weighed(Probe):
    """As the probe, with weights whose card says which devices they can use."""

    name: ClassVar[str] = "weighed"
    needs_weights: ClassVar[bool] = True

    @classmethod
    def devices(cls, weights: Weights | None = None) -> tuple[str, ...]:
        """As the card of `weights` says."""
        return tuple((weights.card["devices"] if weights else "cpu").split())
