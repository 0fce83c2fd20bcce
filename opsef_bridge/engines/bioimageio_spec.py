"""Descriptions of bioimage.io packages: read safely, and asked about.

``rdf.yaml`` or ``bioimageio.yaml`` says in two dialects, format 0.4 and 0.5, what a network
takes and gives. Nothing in it is believed but text, numbers and names of files inside.

References
----------
.. [1] https://github.com/bioimage-io/spec-bioimage-io (model description 0.4 and 0.5)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from opsef_bridge.engines.untrusted import first_line, refuse_link
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import file_sha256

__all__ = [
    "Package",
    "as_list",
    "as_mapping",
    "axes_of",
    "channel_names",
    "channels_of",
    "find_description",
    "plain",
    "step_of",
    "steps_of",
    "text_of",
]

NAMES = ("rdf.yaml", "bioimageio.yaml")
LARGEST = 2**20
"""Bytes of a description; the largest of the collection has some thousand."""

TEXT = 2000
"""Characters that are kept of a text for the card."""

ENTRIES, DEPTH = 10_000, 50
"""How many values, and how deep in one another, a part of a description may have."""

CITE = ("text", "doi", "url")


def find_description(folder: Path) -> Path | None:
    """Return the description of the package in `folder`, or in the one folder in it, if any."""
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    for place in (folder, *(path for path in inside if len(inside) == 1 and path.is_dir())):
        for name in NAMES:
            if (place / name).is_file():
                return place / name
    return None


class Package:
    """A description that was read, and the files beside it."""

    def __init__(self, description: Path) -> None:
        self.file, self.folder = description, description.parent
        self.told = _read(description)
        version = str(self.told.get("format_version", ""))
        if not re.match(r"0\.[45]\b", version) or self.told.get("type", "model") != "model":
            raise self.refused(
                f"describes a {self.told.get('type', 'model')} of format {version or 'unknown'}",
                "Models of the formats 0.4 and 0.5 are taken",
            )
        self.weights = as_mapping(self.told.get("weights"))

    def config(self, part: str) -> dict[str, Any]:
        """Return a part of ``config``, where programs keep what is theirs."""
        return as_mapping(as_mapping(self.told.get("config")).get(part))

    def member(self, entry: Any, what: str) -> Path:
        """Return a file of the package; its sha256 is checked if the description has one.

        Parameters
        ----------
        entry : str or mapping
            A path, or a mapping with ``source`` and ``sha256``.
        what : str
            For messages.
        """
        entry = entry if isinstance(entry, Mapping) else {"source": entry}
        source = entry.get("source")
        if not isinstance(source, str) or "://" in source:
            raise self.refused(
                f"has no file for {what}, but {source!r}",
                "Download the package with its weights: on bioimage.io as a zip",
            )
        path = PurePosixPath(source)
        if path.is_absolute() or ".." in path.parts or set("\\:\0") & set(source):
            raise self.refused(f"names {what} outside of itself: {source!r}", "Do not trust it")
        file = self.folder.joinpath(*path.parts)
        if not file.resolve().is_relative_to(self.folder.resolve()):
            raise self.refused(f"names {what} outside of itself: {source!r}", "Do not trust it")
        refuse_link(file, source)
        wanted = entry.get("sha256")
        if wanted is not None and file_sha256(file) != str(wanted).lower():
            raise self.refused(
                f"is damaged: {source} has sha256 {file_sha256(file)}, the description says "
                f"{wanted}",
                "Download it again",
            )
        return file

    def attachment(self, name: str) -> Any:
        """Return the entry of an attached file: with its sha256 in format 0.5."""
        listed = self.told.get("attachments")
        for entry in map(as_mapping, as_list(listed)):
            if PurePosixPath(str(entry.get("source"))).name == name:
                return entry
        for path in as_list(as_mapping(listed).get("files")):
            if PurePosixPath(str(path)).name == name:
                return str(path)
        return name

    def facts(self) -> dict[str, Any]:
        """Return what the card says of where the weights are from."""
        told = self.told
        id_ = told.get("id") or told.get("name") or "without a name"
        facts = {
            "licence": text_of(told.get("license")) or "unknown",
            "source": f"bioimage.io: {text_of(id_)}, format {text_of(told['format_version'])}",
            "data": text_of(as_mapping(told.get("training_data")).get("id")) or "unknown",
            "description": text_of(told.get("description")),
            "authors": [
                text_of(as_mapping(one).get("name")) for one in as_list(told.get("authors"))
            ],
            "cite": [
                {key: text_of(value) for key, value in as_mapping(one).items() if key in CITE}
                for one in as_list(told.get("cite"))
            ],
        }
        return {key: value for key, value in facts.items() if value}

    def refused(self, why: str, hint: str) -> WeightsError:
        """Return an error about this package."""
        return WeightsError(f"the bioimage.io package with {self.file.name} {why}", hint=hint)


def steps_of(tensor: dict[str, Any], part: str) -> list[tuple[str, dict[str, Any]]]:
    """Return processing as (name, arguments): ``name`` in format 0.4, ``id`` in 0.5."""
    steps = [as_mapping(step) for step in as_list(tensor.get(part))]
    return [
        (str(step.get("id") or step.get("name")), as_mapping(step.get("kwargs"))) for step in steps
    ]


def axes_of(tensor: dict[str, Any]) -> str:
    """Return axes as in format 0.4, one letter each: ``"bcyx"``."""
    axes = tensor.get("axes")
    if isinstance(axes, str):
        return axes
    return "".join(_axis_id(as_mapping(axis))[:1] for axis in as_list(axes))


def _axis_id(axis: dict[str, Any]) -> str:
    """Return the id of an axis of format 0.5; x is the default of those in space."""
    kind = str(axis.get("type", "?"))
    return str(axis.get("id", "x")) if kind == "space" else kind


def channel_names(tensor: dict[str, Any]) -> list[str]:
    """Return the names of the channels; format 0.4 has none."""
    for axis in map(as_mapping, as_list(tensor.get("axes"))):
        if axis.get("type") == "channel":
            return [text_of(name) for name in as_list(axis.get("channel_names"))]
    return []


def channels_of(tensor: dict[str, Any], reference: dict[str, Any]) -> int | None:
    """Return how many channels a tensor has, or None where that is not told."""
    if names := channel_names(tensor):
        return len(names)
    place = axes_of(tensor).find("c")
    shape, before = tensor.get("shape"), 0.0
    if isinstance(shape, Mapping) and "min" in shape:
        shape = shape["min"]
    try:
        if not isinstance(shape, Mapping):
            return int(shape[place]) if place >= 0 else None
        # Of an output relative to its input: scale * channels + 2 * offset, scale often 0.
        if scale := float(shape["scale"][place]):
            before = float(channels_of(reference, {}) or 0)
        return round(scale * before + 2 * float(shape["offset"][place])) or None
    except (LookupError, TypeError, ValueError):
        return None


def step_of(tensor: dict[str, Any]) -> int:
    """Return what the sides of a tensor are multiples of; 1 where that is not told."""
    shape, steps = tensor.get("shape"), []
    if isinstance(shape, Mapping):
        told = zip(axes_of(tensor), as_list(shape.get("step")), strict=False)
        steps = [step for axis, step in told if axis in "yx"]
    for axis in map(as_mapping, as_list(tensor.get("axes"))):
        if axis.get("type") == "space":
            steps.append(as_mapping(axis.get("size")).get("step"))
    return math.lcm(*(step for step in steps if isinstance(step, int) and step > 0))


def _read(file: Path) -> dict[str, Any]:
    """Return a description; nothing in it is run."""
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        told = yaml.safe_load(file.read_text("utf-8"))
        if not isinstance(told, dict):
            raise ValueError("it is no mapping")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{file.name} of the bioimage.io package cannot be read ({first_line(error)})",
            hint="Download the package again",
        ) from error
    return told


def plain(value: Any) -> Any:
    """Return a copy of nested values as JSON knows them.

    Raises
    ------
    WeightsError
        They are too many: with aliases a short text of YAML can stand for a very long one.
    """
    left = ENTRIES

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEPTH:
            raise WeightsError(
                f"a part of the bioimage.io description has more than {ENTRIES} entries",
                hint="Download the package again",
            )
        if isinstance(value, Mapping):
            return {text_of(key): copy(one, depth + 1) for key, one in value.items()}
        if isinstance(value, list):
            return [copy(one, depth + 1) for one in value]
        if value is None or isinstance(value, bool | int):
            return value
        return value if isinstance(value, float) and math.isfinite(value) else text_of(value)

    return copy(value, 0)


def text_of(value: Any) -> str:
    """Return a text of bounded length, empty for what is no text or number."""
    return str(value)[:TEXT] if isinstance(value, str | int | float) else ""


def as_mapping(value: Any) -> dict[str, Any]:
    """Return a mapping, empty for what is none."""
    return dict(value) if isinstance(value, Mapping) else {}


def as_list(value: Any) -> Sequence[Any]:
    """Return a list, empty for what is none."""
    return value if isinstance(value, list) else []
