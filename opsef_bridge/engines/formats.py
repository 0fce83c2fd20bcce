"""What weights are taken in which form, and how each becomes one file with a card.

==============================================  ============  ===============================
what                                            engine        what becomes of it
==============================================  ============  ===============================
``.onnx``, its card beside it or ``--engine``   any           as it is
StarDist's model folder, or a zip of it         ``stardist``  ONNX; or with
                                                              ``--runtime tensorflow`` a zip
``.h5`` or ``.pt`` of the U-Net of CellProfiler  ``unet``     ONNX
network of Cellpose 1 to 3 (torch)              ``cellpose``  as it is
``state_dict`` of torchvision's Mask R-CNN      ``maskrcnn``  as it is
package of bioimage.io                          by content    see `bioimageio`
folder or zip with cards (a bundle)             any           as it is
==============================================  ============  ===============================

What comes from elsewhere goes through `opsef_bridge.engines.untrusted`.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.bioimageio import import_package
from opsef_bridge.engines.bioimageio_spec import find_description
from opsef_bridge.engines.converting import converted
from opsef_bridge.engines.official import official_models
from opsef_bridge.engines.registry import read_card, verify
from opsef_bridge.engines.staging import check_name, plain_file, slug, weights_in
from opsef_bridge.engines.untrusted import (
    is_hdf5,
    is_pickle,
    is_torch,
    look_into_torch,
    unpack,
    what_it_is,
)
from opsef_bridge.errors import InputError, NotFoundError, WeightsError
from opsef_bridge.files import file_sha256

__all__ = [
    "TAKEN",
    "Found",
    "How",
    "check_percentiles",
    "checked",
    "of_card",
    "read_source",
    "unpacked",
]

TAKEN = (
    "Taken are: an .onnx file with its card NAME.json beside it or with --engine, StarDist's "
    "model folder or a zip of it, a U-Net of CellProfiler's layout (.h5, .pt) with --engine "
    "unet, a network of Cellpose 1 to 3 or of torchvision's Mask R-CNN (torch), a package of "
    "bioimage.io with one of these, and what `opsef models bundle` wrote"
)


@dataclass(frozen=True)
class How:
    """How a source is to be read.

    Parameters
    ----------
    name : str or None
        Of the weights; by default that of the card, else of the file.
    engine : str or None
        Who runs a file that does not tell.
    runtime : {"onnx", "tensorflow"}
        Who runs a model of StarDist's own format.
    size : Path or None
        Cellpose's size model, which goes with its network.
    percentiles : (float, float) or None
        Of an image, in percent, that an .onnx file without a card wants mapped to 0 and 1.
    """

    name: str | None = None
    engine: str | None = None
    runtime: Literal["onnx", "tensorflow"] = "onnx"
    size: Path | None = None
    percentiles: tuple[float, float] | None = None


@dataclass(frozen=True)
class Found:
    """What a source holds: weights with cards; `checked` are those that somebody published
    by this package, and that need no trial."""

    weights: Sequence[Weights]
    checked: bool = False
    notes: list[str] = field(default_factory=list)


def check_percentiles(given: tuple[float, float] | None) -> None:
    """Refuse what are no two percentiles."""
    if given is not None and not 0 <= given[0] < given[1] <= 100:
        raise InputError(
            "percentiles from {:g} to {:g} are none".format(*given),
            hint="They rise, from 0 to 100",
        )


def read_source(source: Path, stage: Path, how: How) -> Found:
    """Return the weights that `source` holds; files that are made for it go into `stage`.

    Raises
    ------
    NotFoundError
        There is nothing.
    WeightsError
        It is nothing that is taken, is broken, or is not safe.
    InputError
        `how` does not fit it.
    """
    if not source.exists():
        raise NotFoundError(f"there is no file or folder {source}", hint=TAKEN)
    check_percentiles(how.percentiles)
    place = unpacked(source, stage)
    if how.percentiles is not None and (place.suffix != ".onnx" or _card_beside(place)):
        raise InputError(
            "--percentiles goes with an .onnx file without a card",
            hint="Other weights tell them: leave --percentiles out",
        )
    found = _read_folder(source, place, stage, how) if place.is_dir() else _file(place, stage, how)
    if how.size is not None:
        found = _with_size_model(found, how.size)
    return found


def unpacked(source: Path, stage: Path) -> Path:
    """Return `source`, or the folder into which it was unpacked if it is a zip."""
    if not (source.is_dir() or source.is_file()):
        raise _refused(source, "is a device or the like")
    if source.is_dir() or source.suffix == ".onnx" or is_torch(source):
        return source
    return unpack(source, stage / ".unpacked") if zipfile.is_zipfile(source) else source


def checked(weights: Sequence[Weights], name: str | None = None) -> list[Weights]:
    """Return weights that have a card, if none is a pickle; only one can be named anew."""
    if name is not None and len(weights) != 1:
        raise InputError(
            f"{len(weights)} weights cannot all be named {name!r}",
            hint="Take one of them: opsef models add --from SOURCE NAME --name OTHER",
        )
    for one in weights:
        file = plain_file(one)
        if is_torch(file):
            look_into_torch(file, one.engine)
        elif is_pickle(file):
            raise _refused(file, what_it_is(file))
    return list(weights)


def _read_folder(source: Path, place: Path, stage: Path, how: How) -> Found:
    """Read a folder, which may have been unpacked from `source`."""
    name = how.name or slug(source.name.removesuffix(".zip"))
    description = find_description(place)
    if description is not None:
        card_file, note = import_package(
            description, stage / ".imported", name=how.name, engine=how.engine, runtime=how.runtime
        )
        return Found([of_card(card_file)], notes=[note])
    if weights := weights_in(place):
        return Found(checked(weights, how.name), checked=True)
    configs = sorted(place.rglob("config.json"), key=lambda path: len(path.parts))
    if not configs:
        raise _refused(source, "holds neither a card nor StarDist's config.json")
    check_name(name)
    kind = "stardist" if how.runtime == "onnx" else "stardist-tensorflow"
    return Found([of_card(converted(kind, [configs[0].parent], stage / ".converted", name))])


def _file(file: Path, stage: Path, how: How) -> Found:
    """Read one file."""
    if file.suffix == ".onnx":
        return Found([_onnx(file, how)])
    if how.engine == "unet" and (is_hdf5(file) or is_torch(file)):
        name = how.name or slug(file.stem)
        check_name(name)
        return Found([of_card(converted("unet", [file], stage / ".converted", name))])
    if not is_torch(file):
        raise _refused(file, what_it_is(file))
    engine, names, note = look_into_torch(file, how.engine)
    card: dict[str, Any] = {"name": how.name or slug(file.stem), "engine": engine}
    if engine == "cellpose" and "diam_mean" not in names:
        official, diameter = _official_diameter(file, card["name"])
        if official:
            card["input"] = {"diameter": diameter}
            note = "; ".join(filter(None, [note, _taken(official, diameter)]))
    return Found([_of_file(file, card)], notes=[note])


def _onnx(file: Path, how: How) -> Weights:
    """Return an .onnx file with the card beside it, or with one of its engine alone."""
    card = _card_beside(file)
    if card and how.engine not in (None, card["engine"]):
        raise InputError(
            f"the card of {file.name} is for the engine {card['engine']!r}, not {how.engine!r}",
            hint="Leave --engine out, or take the card away",
        )
    if card is None and how.engine is None:
        raise WeightsError(
            f"{file} has no card {file.stem}.json beside it that says who runs it",
            hint="Name the engine with --engine",
        )
    if card is None:
        card = {"name": slug(file.stem), "engine": how.engine}
        if how.percentiles is not None:
            card["input"] = {"percentiles": list(how.percentiles)}
    return _of_file(file, card)


def _of_file(file: Path, card: dict[str, Any]) -> Weights:
    """Return the weights of a file and what is known of it, its sha256 verified if it is."""
    sha256 = str(card.get("sha256") or file_sha256(file))
    card = {**card, "file": file.name}
    weights = Weights(card["name"], str(card["engine"]), file, sha256, card)
    verify(weights)
    return weights


def of_card(card_file: Path) -> Weights:
    """Return the weights that a conversion has written."""
    card = read_card(card_file) or {}
    return Weights(
        card["name"], card["engine"], card_file.parent / card["file"], card["sha256"], card
    )


def _refused(source: Path, why: str) -> WeightsError:
    return WeightsError(f"{source} {why}", hint=TAKEN)


def _card_beside(file: Path) -> dict[str, Any] | None:
    """Return the card in the folder of `file` that names it, NAME.json first."""
    others = sorted(file.parent.glob("*.json"))
    for card_file in [file.with_suffix(".json"), *others]:
        with contextlib.suppress(WeightsError, OSError):
            card = read_card(card_file)
            if card and card["file"] == file.name:
                return card
    return None


def _official_diameter(file: Path, name: str) -> tuple[str, float]:
    """Return an official network of Cellpose and the diameter in px that it has learned from.

    Their files do not all tell it: the package knows it by the name. The empty string and 0
    for other names.
    """
    for known, entry in official_models().items():
        if entry["engine"] == "cellpose" and (name == known or file.name == entry["file"]):
            return known, float(entry["diameter"])
    return "", 0.0


def _taken(official: str, diameter: float) -> str:
    return (
        f"The size of the objects that it has learned from was not read from the file: by its "
        f"name it is taken for the official {official!r}, {diameter:g} px. If it is another "
        "network, correct `input.diameter` on its card"
    )


def _with_size_model(found: Found, file: Path) -> Found:
    """Return `found` with Cellpose's size model on the card of its one network."""
    if [weights.engine for weights in found.weights] != ["cellpose"]:
        raise InputError(
            "--size goes with one network of Cellpose", hint="Leave --size out for other weights"
        )
    from opsef_bridge.engines.cellpose_size import read_size_model

    [weights] = found.weights
    told = {**weights.card.get("input", {}), "size_model": read_size_model(file)}
    return replace(found, weights=[replace(weights, card={**weights.card, "input": told})])
