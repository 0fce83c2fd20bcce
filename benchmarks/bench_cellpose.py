"""What the cellpose engine costs beyond ``CellposeModel.eval`` of the package.

Run ``python benchmarks/bench_cellpose.py [SIDE]``. Both label the same image of SIDE x SIDE
px with the same network and settings, alternating, five times; the ratio is of the least
times, on the clock and of the CPU: on a machine that others use, the second tells more. With
a second threshold the engine decodes the maps that it has; the package starts again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from opsef_bridge.demo import example_data
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.cellpose import Cellpose, Decode, Predict
from opsef_bridge.engines.registry import list_weights
from opsef_bridge.images import read_image

ROUNDS = 5
DIAMETER = 30.0


def picture(side: int) -> np.ndarray:
    """Return bundled nuclei, repeated to a square."""
    one = read_image(example_data() / "images" / "large_1b518cd2ea84.png").data
    return np.tile(one, [-(-side // extent) for extent in one.shape])[:side, :side]


def package(weights: Weights) -> Any:
    """Return the package's own model with the small network of `weights`."""
    import torch
    from cellpose.models import CellposeModel
    from cellpose.resnet_torch import CPnet

    class Padded(CPnet):
        def forward(self, data: Any) -> tuple[Any, ...]:
            flows, style, down = super().forward(data)
            return flows, torch.nn.functional.pad(style, (0, 256 - style.shape[1])), down

    model = CellposeModel(gpu=False, pretrained_model=False)
    model.net = Padded([2, *weights.card["recipe"]["channels"]], 3, sz=3, mkldnn=True)
    model.net.load_state_dict(torch.load(weights.path, weights_only=True))
    return model


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Return the time that one call takes, on the clock and of the CPU."""
    start, used = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - used


def main(side: int = 1024) -> None:
    """Measure and print."""
    weights = next(w for w in list_weights() if w.engine == "cellpose")
    image, engine, model = picture(side), Cellpose(), package(weights)
    engine.load(weights)

    def ours() -> np.ndarray:
        return engine.decode(engine.predict(image, Predict(diameter=DIAMETER)), Decode())

    def theirs() -> np.ndarray:
        return model.eval(image, channels=[0, 0], diameter=DIAMETER)[0]

    raw = engine.predict(image, Predict(diameter=DIAMETER))
    labels, expected = ours(), theirs()
    calls = (ours, theirs, lambda: engine.decode(raw, Decode(cellprob=-1)))
    best = np.min([[seconds(call) for call in calls] for _ in range(ROUNDS)], axis=0)
    print(f"{weights.path.name}, {side} x {side} px, {labels.max()} objects")
    print(f"labels identical: {np.array_equal(labels, expected)}")
    for number, what in enumerate(("clock", "CPU")):
        engine_s, package_s, more = best[:, number]
        print(
            f"{what:5}  engine {engine_s:.3f} s, package {package_s:.3f} s, ratio "
            f"{engine_s / package_s:.3f}; one more threshold {more:.3f} s, "
            f"{more / package_s:.2f} of the package's time"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
