"""What the description of a TIFF says of its pixels: calibration, channels, time step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from opsef_bridge.images.calibration import print_resolution, to_micrometres, to_seconds

__all__ = ["Meaning", "ome_images", "tiff_meaning"]

UNEVEN = 0.1
"""Part of the time step by which the time points of an even series may be off."""


@dataclass(frozen=True)
class Meaning:
    """Spacing by axis in micrometres, channel names, seconds between time points."""

    spacing: dict[str, float] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    time_step: float = 0.0


def tiff_meaning(
    tiff: tifffile.TiffFile,
    found: tifffile.TiffPageSeries,
    series: int = 0,
    images: list[ElementTree.Element] | None = None,
) -> Meaning:
    """Return what the OME, the ImageJ or the TIFF header says of a series.

    `images` are those of `ome_images`, for a caller that asks for many series.
    """
    if images is None:
        images = ome_images(tiff)
    if tiff.is_ome and tiff.ome_metadata:
        return _ome(images, len(tiff.series), series)
    tags = found.keyframe.tags
    sizes: dict[str, float | None] = {}
    for axis in "YX":
        tag = tags.get(f"{axis}Resolution")
        count, length = tag.value if tag is not None else (0, 1)
        sizes[axis] = length / count if count else None
    if tiff.is_imagej:
        return _imagej(tiff.imagej_metadata or {}, sizes, found)
    tag = tags.get("ResolutionUnit")
    unit = {2: "inch", 3: "cm"}.get(int(tag.value) if tag is not None else 2, "")
    lengths = {axis: to_micrometres(size, unit) for axis, size in sizes.items()}
    return Meaning({a: s for a, s in lengths.items() if s and not print_resolution(s)})


def ome_images(tiff: tifffile.TiffFile) -> list[ElementTree.Element]:
    """Return what the OME header has of each image; nothing where there is none."""
    xml = tiff.ome_metadata if tiff.is_ome else None
    return ElementTree.fromstring(xml).findall("{*}Image") if xml else []


def _imagej(
    metadata: dict[str, Any], sizes: dict[str, float | None], found: tifffile.TiffPageSeries
) -> Meaning:
    unit = str(metadata.get("unit", ""))
    # ImageJ writes yunit and zunit only where they differ from unit.
    sizes["Z"] = abs(float(metadata["spacing"])) if "spacing" in metadata else None
    units = {axis: str(metadata.get(f"{axis.lower()}unit", unit)) for axis in "ZYX"}
    lengths = {axis: to_micrometres(size, units[axis]) for axis, size in sizes.items()}
    step = to_seconds(float(metadata.get("finterval", 0)), str(metadata.get("tunit", "s")))
    names = _labels(metadata.get("Labels"), found)
    return Meaning({axis: size for axis, size in lengths.items() if size}, names, step)


def _labels(labels: Any, found: tifffile.TiffPageSeries) -> tuple[str, ...]:
    """Return the channels' names, where slice labels are that and nothing else."""
    count = found.shape[found.axes.index("C")] if "C" in found.axes else 1
    planes = int(found.size // max(found.keyframe.size, 1))
    if not isinstance(labels, list) or len(labels) != planes or count < 2:
        return ()
    names = [str(label) for label in labels[:count]]
    same = all(str(label) == names[i % count] for i, label in enumerate(labels))
    return tuple(names) if same and all(names) and len(set(names)) == count else ()


def _ome(images: list[ElementTree.Element], count: int, series: int) -> Meaning:
    pixels = images[series].find("{*}Pixels") if len(images) == count else None
    if pixels is None:
        return Meaning()
    lengths = {}
    for axis in "ZYX":
        size = pixels.get(f"PhysicalSize{axis}")
        unit = pixels.get(f"PhysicalSize{axis}Unit", "um")
        lengths[axis] = to_micrometres(float(size) if size else None, unit)
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    step = to_seconds(float(pixels.get("TimeIncrement") or 0), pixels.get("TimeIncrementUnit", "s"))
    return Meaning(
        {axis: size for axis, size in lengths.items() if size},
        tuple(str(name) for name in names) if all(names) else (),
        step or _step_of_planes(pixels),
    )


def _step_of_planes(pixels: ElementTree.Element) -> float:
    """Return seconds between the time points that the planes tell, as Bio-Formats writes them.

    It is the median of the differences, where all are within `UNEVEN` of it; else 0. The first
    plane of the first channel speaks for its time point.
    """
    times: dict[int, float] = {}
    for plane in pixels.findall("{*}Plane"):
        if plane.get("TheC") == plane.get("TheZ") == "0":
            try:
                at, time = int(plane.get("TheT", "")), float(plane.get("DeltaT", ""))
            except ValueError:
                return 0.0
            times[at] = time * to_seconds(1, plane.get("DeltaTUnit", "s"))
    ordered = [times[at] for at in sorted(times)]
    if len(times) < 2 or sorted(times) != list(range(len(times))) or not np.isfinite(ordered).all():
        return 0.0
    steps = np.diff(ordered)
    middle = float(np.median(steps))
    even = bool((abs(steps - middle) <= UNEVEN * middle).all())
    return to_seconds(middle, "s") if even else 0.0
