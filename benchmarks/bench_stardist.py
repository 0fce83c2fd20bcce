"""What the stardist engine costs beyond the network and the package's own functions.

Run ``python benchmarks/bench_stardist.py [SIDE]``. Both label the same image of SIDE x SIDE
px, alternating, seven times; the ratio is of the least times. The peer does what
``predict_instances`` of the package does, in the same order and with its own functions, on
the same ONNX file: normalise, network, candidates, suppression, painting, all in float32.
With a second pair of thresholds the engine decodes the maps that it has; the package starts
again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from stardist.geometry import polygons_to_label
from stardist.nms import non_maximum_suppression_sparse

from opsef_bridge.demo import example_data
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import list_weights
from opsef_bridge.engines.runtime import open_session
from opsef_bridge.engines.stardist import Decode, Predict, StarDist
from opsef_bridge.images import read_image
from opsef_bridge.measure import match

ROUNDS = 7
THRESHOLDS = (0.5, 0.3)


def picture(side: int) -> np.ndarray:
    """Return bundled nuclei, repeated to a square."""
    one = read_image(example_data() / "images" / "large_1b518cd2ea84.png").data
    return np.tile(one, [-(-side // extent) for extent in one.shape])[:side, :side]


def peer(weights: Weights) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from image to labels by the package's functions."""
    session = open_session(weights)
    clip = weights.card["input"]["clip"]
    step = weights.card["input"]["grid"][0]

    def segment(image: np.ndarray) -> np.ndarray:
        low, high = np.percentile(image, (1, 99.8)).astype(np.float32)
        x = np.clip((image.astype(np.float32) - low) / (high - low + 1e-20), *clip)
        x = np.pad(x, [(0, -side % 16) for side in x.shape], mode="reflect")
        prob, dist = session.run(["prob", "dist"], {"image": x[None, None]})
        prob, dist = prob[0, 0], np.maximum(np.moveaxis(dist[0], 0, -1), 1e-3)
        inner = np.zeros(prob.shape, bool)
        inner[2:-2, 2:-2] = True
        candidates = (prob > THRESHOLDS[0]) & inner
        points = np.argwhere(candidates) * step
        inside = (points < image.shape).all(axis=1)
        points, prob, dist, _ = non_maximum_suppression_sparse(
            dist[candidates][inside],
            prob[candidates][inside],
            points[inside],
            nms_thresh=THRESHOLDS[1],
        )
        return polygons_to_label(dist, points, image.shape, prob=prob)

    return segment


def seconds(function: Callable[[], np.ndarray]) -> float:
    """Return the time that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(side: int = 1024) -> None:
    """Measure and print."""
    weights = next(w for w in list_weights() if w.engine == "stardist")
    image, engine, package = picture(side), StarDist(), peer(weights)
    engine.load(weights)
    decode = Decode(prob=THRESHOLDS[0], nms=THRESHOLDS[1])

    def whole() -> np.ndarray:
        return engine.decode(engine.predict(image, Predict(tile=side)), decode)

    raw = engine.predict(image, Predict(tile=side))
    expected, labels = package(image), whole()
    result = match(expected, labels, (0.5,)).iloc[0]
    calls = (whole, lambda: package(image), lambda: engine.decode(raw, decode))
    ours, theirs, again = np.min([[seconds(call) for call in calls] for _ in range(ROUNDS)], axis=0)
    print(f"{Path(weights.path).name}, {side} x {side} px, {labels.max()} objects")
    print(f"package {expected.max()} objects; matched IoU {result['mean_iou']:.5f}; "
          f"pixels alike {np.mean((expected > 0) == (labels > 0)):.6f}")  # fmt: skip
    print(f"engine  {ours:.3f} s\npackage {theirs:.3f} s\nratio   {ours / theirs:.3f}")
    print(f"one more pair of thresholds: {again:.3f} s, {again / theirs:.2f} of the package's time")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
