"""ImageJ's algorithms, inside the worker process: a whitelist of calls to its classes.

``IJ.run`` is never used: without a display its first call fails, and its second does nothing
and says nothing. The classes give, bit for bit, what the commands give in ImageJ's window.

Arrays are ImageJ's own kinds: YX of uint8, uint16 or float32. Whoever calls (see
`opsef_bridge.imagej.functions`) brings other dtypes to these, and volumes plane by plane.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from opsef_bridge.errors import WorkerError
from opsef_bridge.imagej import ij1
from opsef_bridge.imagej.jars import find_jar
from opsef_bridge.workers import Progress
from opsef_bridge.workers.shared_arrays import read_place, write_place

__all__ = ["apply", "describe", "image_plus", "jvm_options", "pixels_of", "processor", "start"]

MOST_PARTICLES = 65535
"""What ImageJ's 16-bit image of particles can number."""

NARROWEST = 9
"""Columns that an image needs so that ImageJ's rolling ball, which makes it up to 8 times
smaller, has two left."""


def apply(
    progress: Progress,
    name: str,
    parameters: dict[str, Any],
    source: dict[str, Any],
    target: dict[str, Any],
) -> float | None:
    """Run one algorithm; the entry of the worker.

    Parameters
    ----------
    progress : callable
        Not used: a call into Java can be neither watched nor interrupted.
    name : str
        Of `opsef_bridge.imagej.parameters.ALGORITHMS` with the provider ``ij1``.
    parameters : dict
        All parameters of it.
    source, target : dict
        Places of the image and of the result
        (`opsef_bridge.workers.shared_arrays.SharedArrays`).

    Returns
    -------
    float or None
        A number that the algorithm found beside the image.
    """
    start()
    try:
        result, value = run(name, read_place(source), parameters)
        write_place(target, np.ascontiguousarray(result.astype(target["dtype"], copy=False)))
    finally:
        forget_thread()
    return value


def run(
    name: str, image: np.ndarray, parameters: dict[str, Any]
) -> tuple[np.ndarray, float | None]:
    """Return the result of one algorithm, and a number or None.

    Raises
    ------
    WorkerError
        ImageJ raised an error; the message has its words.
    """
    import jpype

    try:
        return _CALLS[name](image, **parameters)
    except jpype.JException as error:
        raise WorkerError(
            f"ImageJ's {name} failed: {error}",
            hint="If it ran out of memory, give it a smaller image or tiles",
        ) from error


def describe(progress: Progress) -> dict[str, Any]:
    """Return what this process runs; see `opsef_bridge.imagej.worker.provider`."""
    start()
    try:
        return {
            "provider": "ij1",
            "engine": f"ij-{_java('ij.IJ').getVersion()}",
            "java": str(_java("java.lang.System").getProperty("java.version")),
            "path": str(find_jar("ij")),
        }
    finally:
        forget_thread()


@functools.cache
def start() -> None:
    """Start the Java machine of this process on the pinned ImageJ, unless it runs.

    Raises
    ------
    NotFoundError
        Java, ImageJ or the packages of the extra ``imagej`` are missing.
    """
    ij1.start(options=jvm_options())
    end_with_caller()


def jvm_options() -> list[str]:
    """Return how the Java machine is held to the threads that this worker was given.

    It leaves no file of its own statistics: its process is ended, not shut down.
    """
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS") or 1))
    return [f"-XX:ActiveProcessorCount={threads}", "-XX:-UsePerfData"]


def end_with_caller() -> None:
    """End this process when its caller is gone, whatever Java is doing.

    A thread that is inside Java cannot be interrupted, and Python would wait for it.
    """

    def wait() -> None:
        threading.main_thread().join()  # it ends when the caller's end of the pipe is closed
        os._exit(0)

    threading.Thread(target=wait, name="end-with-caller", daemon=True).start()


def forget_thread() -> None:
    """Let Java forget this thread: every call has its own, and it would keep them all."""
    _java("java.lang.Thread").detach()


def _java(name: str) -> Any:
    from scyjava import jimport

    return jimport(name)


def processor(plane: np.ndarray) -> Any:
    """Return an ``ij.process.ImageProcessor`` with a copy of the pixels of a YX plane."""
    import jpype

    height, width = plane.shape
    flat = np.ascontiguousarray(plane).ravel()
    if plane.dtype == np.uint8:
        data = jpype.JArray(jpype.JByte)(flat.view(np.int8))
        return _java("ij.process.ByteProcessor")(width, height, data)
    if plane.dtype == np.uint16:
        data = jpype.JArray(jpype.JShort)(flat.view(np.int16))
        return _java("ij.process.ShortProcessor")(width, height, data, None)
    data = jpype.JArray(jpype.JFloat)(flat)
    return _java("ij.process.FloatProcessor")(width, height, data)


def pixels_of(ip: Any) -> np.ndarray:
    """Return the pixels of an ImageProcessor of 8, 16 or 32 bits, axes YX."""
    kinds = {8: np.uint8, 16: np.uint16, 32: np.float32}
    flat = np.asarray(ip.getPixels()).view(kinds[int(ip.getBitDepth())])
    return flat.reshape(int(ip.getHeight()), int(ip.getWidth()))


def image_plus(ip: Any, title: str = "image") -> Any:
    """Return an ``ij.ImagePlus``; nothing is shown."""
    return _java("ij.ImagePlus")(title, ip)


def _rolling_ball(
    image: np.ndarray, radius: float, light: bool, sliding: bool, smooth: bool
) -> tuple[np.ndarray, None]:
    width = image.shape[1]
    if width < NARROWEST:  # ImageJ would look for pixels that its smaller image has not
        image = np.pad(image, ((0, 0), (0, NARROWEST - width)), mode="edge")
    ip = processor(image)
    # Not the background itself; corners corrected: both as the command of the menu does.
    _java("ij.plugin.filter.BackgroundSubtracter")().rollingBallBackground(
        ip, float(radius), False, light, sliding, smooth, True
    )
    return pixels_of(ip)[:, :width], None


def _sliding_paraboloid(
    image: np.ndarray, radius: float, light: bool, smooth: bool
) -> tuple[np.ndarray, None]:
    return _rolling_ball(image, radius, light, True, smooth)


def _rank(kind: str) -> Callable[..., tuple[np.ndarray, None]]:
    def rank(image: np.ndarray, radius: float) -> tuple[np.ndarray, None]:
        filters = _java("ij.plugin.filter.RankFilters")
        ip = processor(image)
        filters().rank(ip, float(radius), getattr(filters, kind))
        return pixels_of(ip), None

    return rank


def _gaussian(image: np.ndarray, sigma: float) -> tuple[np.ndarray, None]:
    ip = processor(image)
    _java("ij.plugin.filter.GaussianBlur")().blurGaussian(ip, float(sigma))
    return pixels_of(ip), None


def _unsharp_mask(image: np.ndarray, sigma: float, weight: float) -> tuple[np.ndarray, None]:
    import jpype

    ip = processor(image)
    floats = ip.convertToFloatProcessor()
    floats.snapshot()
    _java("ij.plugin.filter.UnsharpMask")().sharpenFloat(floats, float(sigma), jpype.JFloat(weight))
    ip.setPixels(0, floats)  # rounds and limits, as the command does
    return pixels_of(ip), None


def _find_maxima(
    image: np.ndarray,
    tolerance: float,
    output: str,
    light: bool,
    strict: bool,
    exclude_edges: bool,
) -> tuple[np.ndarray, float]:
    finder = _java("ij.plugin.filter.MaximumFinder")
    kinds = {
        "points": finder.SINGLE_POINTS,
        "within_tolerance": finder.IN_TOLERANCE,
        "segmented": finder.SEGMENTED,
    }
    ip = processor(-image.astype(np.float32) if light else image)
    none = _java("ij.process.ImageProcessor").NO_THRESHOLD
    found = finder().findMaxima(
        ip, float(tolerance), strict, none, kinds[output], exclude_edges, False
    )
    mask = np.zeros(image.shape, np.uint8) if found is None else pixels_of(found)
    return mask, float(np.count_nonzero(mask))


def _auto_threshold(image: np.ndarray, method: str, light: bool) -> tuple[np.ndarray, float]:
    if image.min() == image.max():
        # ImageJ would take all of it or nothing, depending on the method.
        return np.zeros(image.shape, np.uint8), float(image.flat[0])
    ip = processor(image)
    ip.setAutoThreshold(method if light else f"{method} dark")
    low, high = float(ip.getMinThreshold()), float(ip.getMaxThreshold())
    mask = np.where((image >= low) & (image <= high), np.uint8(255), np.uint8(0))
    return mask, high if light else low


def _particles(
    image: np.ndarray,
    min_area: float,
    max_area: float | None,
    min_circularity: float,
    max_circularity: float,
    exclude_edges: bool,
    include_holes: bool,
) -> tuple[np.ndarray, float]:
    analyzer = _java("ij.plugin.filter.ParticleAnalyzer")
    ip = processor(np.where(image > 0, np.uint8(255), np.uint8(0)))
    # Without a threshold, what is an object depends on a preference of the user.
    ip.setThreshold(255.0, 255.0, ip.NO_LUT_UPDATE)
    options = analyzer.SHOW_ROI_MASKS
    options |= analyzer.EXCLUDE_EDGE_PARTICLES if exclude_edges else 0
    options |= analyzer.INCLUDE_HOLES if include_holes else 0
    table = _java("ij.measure.ResultsTable")()
    largest = float("inf") if max_area is None else float(max_area)
    analyze = analyzer(
        options, 1, table, float(min_area), largest, float(min_circularity), float(max_circularity)
    )
    analyze.setHideOutputImage(True)
    analyze.analyze(image_plus(ip), ip)
    count = int(table.size())
    if count > MOST_PARTICLES:
        raise WorkerError(
            f"ImageJ's particles: {count} objects, it can number {MOST_PARTICLES}",
            hint="Give a larger min_area, or tiles",
        )
    output = analyze.getOutputImage()
    if output is None:
        return np.zeros(image.shape, np.uint16), 0.0
    return pixels_of(output.getProcessor()), float(count)


def _project(image: np.ndarray, method: str) -> tuple[np.ndarray, None]:
    stack = _java("ij.ImageStack")(image.shape[2], image.shape[1])
    for plane in image:
        stack.addSlice(processor(plane))
    volume = _java("ij.ImagePlus")("volume", stack)
    return pixels_of(_java("ij.plugin.ZProjector").run(volume, method).getProcessor()), None


_CALLS: dict[str, Callable[..., tuple[np.ndarray, float | None]]] = {
    "rolling_ball": _rolling_ball,
    "sliding_paraboloid": _sliding_paraboloid,
    "median": _rank("MEDIAN"),
    "mean": _rank("MEAN"),
    "minimum": _rank("MIN"),
    "maximum": _rank("MAX"),
    "variance": _rank("VARIANCE"),
    "gaussian": _gaussian,
    "unsharp_mask": _unsharp_mask,
    "find_maxima": _find_maxima,
    "auto_threshold": _auto_threshold,
    "particles": _particles,
    "project": _project,
}
