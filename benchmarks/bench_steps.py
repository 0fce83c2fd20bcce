"""Time of every preprocessing step against the plain call of scikit-image, scipy or OpenCV.

Run ``python benchmarks/bench_steps.py [--json FILE]``: two minutes. Steps get 2048 x 2048
pixels of 16 bits; where the peer would take minutes both are timed on fewer, as the table
says. Each is the median of three calls; ImageJ's worker is started before.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.ndimage as ndi
import skimage
from skimage import restoration
from skimage.color import rgb2hed
from skimage.exposure import equalize_adapthist
from skimage.measure import block_reduce

from opsef_bridge.errors import NotFoundError
from opsef_bridge.files import write_json
from opsef_bridge.preprocess import apply_recipe
from opsef_bridge.preprocess.disk import disk

SIDE = 2048


def picture(side: int) -> np.ndarray:
    """Return bright spots on a ramp with noise, 16 bits."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    spots = 8000.0 * ((np.sin(x / 7) * np.sin(y / 9)) > 0.7)
    image = 2000 + 2 * x + y + spots + random.normal(0, 150, (side, side))
    return image.clip(0, 65535).astype(np.uint16)


def seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """Median wall time of `repeats` calls, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def unit(image: np.ndarray) -> np.ndarray:
    """Scale to 0..1 in float32, as those who call scikit-image do."""
    values = image.astype(np.float32)
    return (values - values.min()) / np.ptp(values)


def opencv_clahe(image: np.ndarray) -> np.ndarray | None:
    try:
        import cv2
    except ImportError:
        return None
    eight = np.rint(255 * unit(image)).astype(np.uint8)
    return cv2.createCLAHE(2.56, (8, 8)).apply(eight)


def percentiles(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, (1, 99.8))
    return ((image - low) / (high - low)).astype(np.float32)


Peer = Callable[[np.ndarray], Any]

CASES: list[tuple[dict[str, Any], int, str, Peer | None]] = [
    ({"median": {"radius": 1}}, SIDE, "scipy",
     lambda i: ndi.median_filter(i, footprint=disk(1), mode="nearest")),
    ({"median": {"radius": 3}}, SIDE, "scipy",
     lambda i: ndi.median_filter(i, footprint=disk(3), mode="nearest")),
    ({"mean": {"radius": 7}}, SIDE, "scipy",
     lambda i: ndi.correlate(i.astype(np.float32), disk(7) / np.float32(disk(7).sum()))),
    ({"mean": {"radius": 7, "legacy": True}}, SIDE, "scipy",
     lambda i: ndi.correlate(i.astype(np.float32), disk(7) / np.float32(disk(7).sum()))),
    ({"gaussian": {"sigma": 2}}, SIDE, "scipy",
     lambda i: ndi.gaussian_filter(i.astype(np.float32), 2)),
    ({"subtract": {"value": 50}}, SIDE, "numpy", lambda i: np.where(i < 50, 0, i - 50)),
    ({"white_tophat": {"radius": 15}}, 512, "scipy",
     lambda i: i - ndi.grey_opening(i, footprint=disk(15))),
    ({"white_tophat": {"radius": 50}}, SIDE, "", None),
    ({"gaussian_background": {"sigma": 50}}, SIDE, "scipy",
     lambda i: i - ndi.gaussian_filter(i.astype(np.float32), 50)),
    ({"rolling_ball": {"engine": "skimage", "radius": 20}}, 512, "scikit-image",
     lambda i: i - restoration.rolling_ball(i, radius=20)),
    ({"rolling_ball": {"engine": "imagej", "radius": 20}}, 512, "scikit-image",
     lambda i: i - restoration.rolling_ball(i, radius=20)),
    ({"rolling_ball": {"engine": "imagej", "radius": 50}}, SIDE, "", None),
    ({"flat_field": {"sigma": 50}}, SIDE, "scipy",
     lambda i: i / ndi.gaussian_filter(i.astype(np.float32), 50)),
    ({"denoise": {"method": "tv"}}, 512, "scikit-image",
     lambda i: restoration.denoise_tv_chambolle(unit(i), weight=0.1)),
    ({"denoise": {"method": "nl_means"}}, 512, "scikit-image",
     lambda i: restoration.denoise_nl_means(unit(i), patch_size=5, patch_distance=5, h=0.1)),
    ({"denoise": {"method": "bilateral"}}, 512, "scikit-image",
     lambda i: restoration.denoise_bilateral(unit(i), 11, 0.1, 2.5)),
    ({"normalise": {}}, SIDE, "numpy", percentiles),
    ({"clahe": {}}, SIDE, "scikit-image",
     lambda i: equalize_adapthist(unit(i), kernel_size=i.shape[0] // 8)),
    ({"clahe": {"engine": "opencv"}}, SIDE, "OpenCV", opencv_clahe),
    ({"edges": {"filter": "sobel"}}, SIDE, "scikit-image",
     lambda i: skimage.filters.sobel(i.astype(np.float32))),
    ({"edges": {"filter": "log"}}, SIDE, "scipy",
     lambda i: ndi.gaussian_laplace(i.astype(np.float32), 2)),
    ({"invert": {}}, SIDE, "scikit-image", skimage.util.invert),
    ({"to_8bit": {}}, SIDE, "scikit-image", lambda i: skimage.util.img_as_ubyte(unit(i))),
    ({"bin": {"factor": 2}}, SIDE, "scikit-image",
     lambda i: block_reduce(i, (2, 2), np.mean)),
    ({"colour_deconvolution": {}}, SIDE, "scikit-image", rgb2hed),
    ({"single_channel": {}}, SIDE, "numpy", lambda i: i[..., 0].copy()),
    ({"grey": {}}, SIDE, "scikit-image", skimage.color.rgb2gray),
]  # fmt: skip
"""Step, side of the image, who its peer is, and how that is called."""


def main() -> None:
    rows = []
    print("| step | image | seconds | peer | its seconds | ratio |\n|---|---|---|---|---|---|")
    for entry, side, peer, call in CASES:
        image = picture(side)
        [(name, parameters)] = entry.items()
        if name in ("colour_deconvolution", "single_channel", "grey"):
            image = np.stack([image // 256] * 3, axis=-1).astype(np.uint8)
        try:
            ours = seconds(lambda e=entry, i=image: apply_recipe(i, [e]))
        except NotFoundError as error:
            print(f"| {_named(name, parameters)} | left out: {error.message} | | | | |")
            continue
        theirs = seconds(lambda c=call, i=image: c(i)) if call else None
        ratio = ours / theirs if theirs else None
        rows.append({"step": name, "parameters": parameters, "side": side, "seconds": ours,
                     "peer": peer, "peer_seconds": theirs, "ratio": ratio})  # fmt: skip
        shown = f"{peer} | {theirs:.3f} | {ratio:.2f}" if theirs and ratio else " | |"
        print(f"| {_named(name, parameters)} | {side}² | {ours:.3f} | {shown} |", flush=True)
    if "--json" in sys.argv:
        write_json(sys.argv[sys.argv.index("--json") + 1], rows)


def _named(name: str, parameters: dict[str, Any]) -> str:
    return f"{name} {json.dumps(parameters)[1:-1]}".replace('"', "").strip()


if __name__ == "__main__":
    main()
