"""What the description of a TIFF says of its pixels: calibration, channels, time step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import tifffile

from opsef_bridge.images.calibration import print_resolution, to_micrometres, to_seconds

__all__ = ["Meaning", "tiff_meaning"]


@dataclass(frozen=True)
class Meaning:
    """Spacing by axis in micrometres, channel names, seconds between time points."""

    spacing: dict[str, float] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    time_step: float = 0.0


def tiff_meaning(
    tiff: tifffile.TiffFile, found: tifffile.TiffPageSeries, series: int = 0
) -> Meaning:
    """Return what the OME, the ImageJ or the TIFF header says of a series."""
    if tiff.is_ome and tiff.ome_metadata:
        return _ome(tiff.ome_metadata, len(tiff.series), series)
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


def _ome(xml: str, count: int, series: int) -> Meaning:
    images = ElementTree.fromstring(xml).findall("{*}Image")
    pixels = images[series].find("{*}Pixels") if len(images) == count else None
    if pixels is None:
        return Meaning()
    lengths = {}
    for axis in "ZYX":
        size = pixels.get(f"PhysicalSize{axis}")
        unit = pixels.get(f"PhysicalSize{axis}Unit", "um")
        lengths[axis] = to_micrometres(float(size) if size else None, unit)
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    step = float(pixels.get("TimeIncrement") or 0)
    return Meaning(
        {axis: size for axis, size in lengths.items() if size},
        tuple(str(name) for name in names) if all(names) else (),
        to_seconds(step, pixels.get("TimeIncrementUnit", "s")),
    )
