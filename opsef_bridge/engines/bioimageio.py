"""Packages of bioimage.io whose network is one of ours, made into weights with a card.

A package is a folder or a zip with ``rdf.yaml`` or ``bioimageio.yaml``, format 0.4 or 0.5.
Taken are: StarDist's own export (``config.stardist`` with the weights as .h5); ONNX weights
from one grey image to the three maps of `opsef_bridge.engines.unet` or the two of
`opsef_bridge.engines.fpn2ws`; a state_dict of Cellpose 1 to 3 or of torchvision's Mask
R-CNN. Everything else is refused, with what it is.

What the description says of the input becomes the card's: percentiles (``scale_range``),
bounds (``clip``), multiples of sides (``step``). Where it asks for something that no engine
does, that is said, and the package is refused: labels from a wrong input would look like
those of a bad network. Its code is never run.

References
----------
.. [1] https://github.com/bioimage-io/spec-bioimage-io (model description 0.4 and 0.5)
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from opsef_bridge.engines.bioimageio_spec import (
    Package,
    as_list,
    as_mapping,
    axes_of,
    channel_names,
    channels_of,
    plain,
    step_of,
    steps_of,
    text_of,
)
from opsef_bridge.engines.converting import converted
from opsef_bridge.engines.staging import check_name, slug, today
from opsef_bridge.engines.untrusted import is_torch, look_into_torch
from opsef_bridge.errors import InputError, WeightsError
from opsef_bridge.files import file_sha256, read_json, write_json

__all__ = ["import_package"]

MAPS = {
    "unet": ("background", "interior", "border"),
    "fpn2ws": ("distance", "border"),
}
"""What an engine takes the channels of a network's output for, by its name."""

STEPS = 512
"""Largest step in px in which the sides of an input may grow."""

OPEN = (-1e6, 1e6)
"""Bounds of normalised values that keep them from overflowing, and change nothing else."""


def import_package(
    description: Path,
    target: Path,
    *,
    name: str | None = None,
    engine: str | None = None,
    runtime: str = "onnx",
) -> tuple[Path, str]:
    """Bring the weights of a package into the folder `target`, with a card.

    Parameters
    ----------
    description : Path
        As `find_description` has found it; the files lie beside it.
    target : Path
    name : str, optional
        Of the weights; that of the package by default.
    engine : str, optional
        Who runs ONNX weights; by default the engine for as many maps.
    runtime : {"onnx", "tensorflow"}
        Who runs a model of StarDist.

    Returns
    -------
    card : Path
    note : str
        What a person should know of it.

    Raises
    ------
    WeightsError
        It is not valid, not safe, or nothing that is taken.
    """
    package = Package(description)
    name = name or slug(str(package.told.get("name", "")))
    check_name(name)
    stardist = package.config("stardist")
    if stardist:
        if engine not in (None, "stardist"):
            raise InputError(
                f"the package is StarDist's, not for {engine!r}", hint="Leave --engine out"
            )
        card_file, told, note = _from_stardist(package, stardist, target, name, runtime)
    elif "onnx" in package.weights:
        card_file, told, note = _from_onnx(package, target, name, engine)
    else:
        card_file, told, note = _from_torch(package, target, name, engine)
    card = read_json(card_file)
    card["input"] = {**card.get("input", {}), **told}
    write_json(card_file, {**card, **package.facts()})
    return card_file, note


def _from_stardist(
    package: Package, stardist: dict[str, Any], target: Path, name: str, runtime: str
) -> tuple[Path, dict[str, Any], str]:
    """Take the weights that ``stardist.bioimageio_utils`` has exported."""
    config, weights = stardist.get("config"), stardist.get("weights")
    if not isinstance(config, dict) or not weights:
        raise package.refused(
            "holds StarDist's network without its configuration and its weights as .h5",
            "Export it again: stardist.bioimageio_utils.export_bioimageio, version 0.8 or later",
        )
    source = target / f"{name}.stardist"
    source.mkdir(parents=True)
    write_json(source / "config.json", plain(config))
    write_json(source / "thresholds.json", plain(as_mapping(stardist.get("thresholds"))))
    h5 = package.member(package.attachment(str(weights)), "StarDist's weights")
    shutil.copyfile(h5, source / "weights_best.h5")
    kind = "stardist" if runtime == "onnx" else "stardist-tensorflow"
    card_file = converted(kind, [source], target, name)
    inputs = as_list(package.told.get("inputs")) or [{}]
    told, note = _preprocessing(package, as_mapping(inputs[0]))
    return card_file, told, note


def _from_onnx(
    package: Package, target: Path, name: str, engine: str | None
) -> tuple[Path, dict[str, Any], str]:
    """Take ONNX weights of one grey image and as many maps as an engine knows."""
    entry = as_mapping(package.weights["onnx"])
    if entry.get("external_data"):
        raise package.refused("has ONNX weights in several files", "Export them into one file")
    taken, given = _tensors(package)
    engine = _engine_of(package, channels_of(given, taken), engine)
    for name_of_step, _ in steps_of(given, "postprocessing"):
        if name_of_step != "ensure_dtype":
            raise package.refused(
                f"needs {name_of_step} after the network", "Export the network with it as a layer"
            )
    told, note = _preprocessing(package, taken)
    if not told:
        raise package.refused(
            "has a network that takes images as they are",
            "Taken is one after scale_range: our engines map two percentiles to 0 and 1",
        )
    multiple = math.lcm(16, step_of(taken))
    if multiple > STEPS:
        raise package.refused(f"wants sides in steps of {multiple} px", f"Up to {STEPS} are taken")
    told = {"axes": "YX", "channels": 1, "clip": list(OPEN), "multiple": multiple, **told}
    if names := MAPS.get(engine):
        called = channel_names(given)
        said = f"; the package calls them {', '.join(called)}" if called else ""
        note = f"Its maps are read as {', '.join(names)}{said}. {note}".strip()
    file = package.member(entry, "ONNX weights")
    return _written(file, target, name, engine, ".onnx"), told, note


def _tensors(package: Package) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the one input and the one output; refuse what is not a plane of one channel."""
    tensors = [as_list(package.told.get(part)) for part in ("inputs", "outputs")]
    if [len(found) for found in tensors] != [1, 1]:
        raise package.refused(
            f"has {len(tensors[0])} inputs and {len(tensors[1])} outputs",
            "Networks of one input and one output are taken",
        )
    taken, given = (as_mapping(found[0]) for found in tensors)
    if (axes_of(taken), axes_of(given)) != ("bcyx", "bcyx"):
        raise package.refused(
            f"maps axes {axes_of(taken)} to {axes_of(given)}", "Planes are taken, axes bcyx"
        )
    channels = channels_of(taken, {})
    if channels not in (None, 1):
        raise package.refused(f"takes {channels} channels", "Networks of one channel are taken")
    return taken, given


def _engine_of(package: Package, maps: int | None, engine: str | None) -> str:
    """Return who runs a network of so many maps."""
    fitting = [known for known, names in MAPS.items() if len(names) == maps]
    if engine is None and not fitting:
        raise package.refused(
            f"has a network of {maps or 'an unknown number of'} maps",
            "Taken are 3 (background, interior, border: unet) and 2 (distance, border: fpn2ws)",
        )
    if engine in MAPS and maps is not None and engine not in fitting:
        raise package.refused(
            f"has a network of {maps} maps, {engine} reads {len(MAPS[engine])}",
            "Leave --engine out",
        )
    return engine or fitting[0]


def _from_torch(
    package: Package, target: Path, name: str, engine: str | None
) -> tuple[Path, dict[str, Any], str]:
    """Take a state_dict whose layers are those of a network that is known."""
    entry = package.weights.get("pytorch_state_dict")
    held = ", ".join(map(text_of, package.weights)) or "no weights"
    if entry is not None:
        file = package.member(entry, "the state_dict")
        if is_torch(file):
            found, _, note = look_into_torch(file, engine)
            return _written(file, target, name, found, file.suffix), {}, note
    raise package.refused(
        f"holds {held}",
        "Taken are StarDist's export with its .h5, ONNX weights of one grey image and 3 or 2 "
        "maps, and a state_dict of Cellpose 1 to 3 or of torchvision's Mask R-CNN",
    )


def _written(file: Path, target: Path, name: str, engine: str, suffix: str) -> Path:
    """Copy a file of a package and write a card beside it; return the card."""
    target.mkdir(parents=True, exist_ok=True)
    copy = target / f"{name}{suffix}"
    shutil.copyfile(file, copy)
    card = {"name": name, "engine": engine, "file": copy.name, "sha256": file_sha256(copy)}
    write_json(target / f"{name}.json", {**card, "created": today()})
    return target / f"{name}.json"


def _preprocessing(package: Package, tensor: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return what the steps before the network are on a card, and what differs."""
    told: dict[str, Any] = {}
    notes = []
    for name, kwargs in steps_of(tensor, "preprocessing"):
        if name == "ensure_dtype" and str(kwargs.get("dtype", "")).startswith("float"):
            continue
        if name == "scale_range" and not told and kwargs.get("reference_tensor") is None:
            low, high = kwargs.get("min_percentile", 0), kwargs.get("max_percentile", 100)
            told["percentiles"] = [_number(low), _number(high)]
            notes += _other_statistics(tensor, kwargs)
        elif name == "clip" and list(told) == ["percentiles"]:
            bounds = zip(("min", "max"), OPEN, strict=True)
            told["clip"] = [_number(kwargs.get(end, widest)) for end, widest in bounds]
        else:
            raise package.refused(
                f"needs {name} before the network",
                "Taken is scale_range, by itself or with clip after it: our engines map two "
                "percentiles of the image to 0 and 1",
            )
    return told, " ".join(notes)


def _other_statistics(tensor: dict[str, Any], kwargs: dict[str, Any]) -> list[str]:
    """Say where percentiles are taken of something else than the image."""
    axes = [str(axis)[:1] for axis in kwargs.get("axes") or ()]  # "yx", or ids as "channel"
    notes = []
    if kwargs.get("mode") == "per_dataset" or "b" in axes:
        notes.append("Percentiles are taken of each image, there of all images at once.")
    if channels_of(tensor, {}) == 3 and axes and "c" not in axes:
        notes.append("Percentiles are taken of all colours at once, there of each.")
    return notes


def _number(value: Any) -> float:
    try:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (TypeError, ValueError):
        raise WeightsError(
            f"the bioimage.io package has {text_of(value)!r} where a number is due",
            hint="Download it again, or tell its authors",
        ) from None
