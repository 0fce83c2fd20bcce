"""Which images of a plan will fail as a whole, said before the run instead of after it."""

from __future__ import annotations

from opsef_bridge.config import Config
from opsef_bridge.errors import OpsefError
from opsef_bridge.images import image_info
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.sweep.planned import Plan

__all__ = ["foreseen", "why_unread"]


def foreseen(project: Project, plan: Plan) -> list[str]:
    """Say which images of a plan will fail, and why; the others are not kept from running.

    Only headers are read, and those only of images that could not be read on import.

    Returns
    -------
    list of str
        A sentence for each image whose file cannot be read, whose `crop` is beyond it, or that
        lacks the channel that is asked for.
    """
    config = Config(**plan.config)
    entries = {entry.id: entry for entry in project.images()}
    told = [_trouble(project, config, entries[image.id]) for image in plan.images]
    return [sentence for sentence in told if sentence]


def why_unread(project: Project, config: Config, entry: ImageEntry) -> str:
    """Say what is wrong with an image that could not be read, and the way out."""
    try:
        axes = config.images.assumed_axes
        info = image_info(project.source_file(entry), entry.series, axes=axes)
    except OpsefError as error:
        return str(error)
    try:
        entry.region.shape(info.axes, info.shape)
    except OpsefError as error:
        return f"crop {entry.crop!r}: {error}" if entry.crop else str(error)
    return "it can be read now: opsef images import"


def _trouble(project: Project, config: Config, entry: ImageEntry) -> str:
    if not entry.axes:
        return f"{entry.id} will fail: {why_unread(project, config, entry)}"
    try:
        channels = entry.channel_numbers() or config.images.segment.channels()
    except OpsefError as error:
        return f"{entry.id} will fail: {error}"
    sides = dict(zip(entry.axes, entry.shape, strict=True))
    count = sides.get("C", 1)
    beyond = [channel for channel in channels if channel >= count]
    where = "segment_channel" if entry.segment_channel else "images.segment.channel"
    lacking = f"{where} is {'|'.join(map(str, channels))}, the image has {count}, counted from 0"
    if channels[0] >= count:
        return f"{entry.id} will fail: {lacking}"
    if beyond and "S" not in sides:
        return f"{entry.id} will fail where a model takes colour: {lacking}"
    return ""
