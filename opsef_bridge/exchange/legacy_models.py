"""OpSeF's ``ModelType``, ``rescale_list`` and ``initModelSettings`` as entries of ``models``."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from opsef_bridge.engines.official import official_models
from opsef_bridge.exchange.legacy_values import Said, listed, number, tidy, word

__all__ = ["models_of"]

_CELLPOSE = {"CP_nuclei": ("nuclei", 17.0), "CP_cyto": ("cyto", 30.0)}
"""Name of the weights, and the mean diameter that they have learned from, in px."""

_STARDIST = ("SD_", "S2D_", "S3D_")


def models_of(
    run: Mapping[str, Any],
    init: Mapping[str, Any],
    given: Mapping[str, Any],
    shapes: Sequence[tuple[int, ...]],
    weights: Collection[str],
    say: Said,
) -> dict[str, tuple[dict[str, Any], str]]:
    """Return entries of ``models`` with the comment of each, by OpSeF's name of the model.

    Parameters
    ----------
    run, init, given : mapping
        ``run_def``, ``initModelSettings`` and ``input_def``.
    shapes, weights
        As those of `opsef_bridge.exchange.legacy_settings.settings_to_yaml`.
    say : Said
        Gets sentences about what is not the same.

    Raises
    ------
    InputError
        A factor or a size is no number.
    """
    models: dict[str, tuple[dict[str, Any], str]] = {}
    volume = word(given.get("seg_type", "2D")).upper() == "3D"
    for name in dict.fromkeys(map(word, listed(run, "ModelType"))):
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):  # it becomes a key of the file
            say(f"The model {name!r} is not carried over: that is no name of a model.")
        elif name in _CELLPOSE:
            models[name] = _cellpose(name, listed(run, "rescale_list"), volume, weights, say)
            pairs = listed(init, "Cell_Channels")
            if any(channel for pair in pairs for channel in _flat(pair)):
                say(
                    "Cell_Channels is left out: OpSeF gave Cellpose three equal colours, so that "
                    "every choice was the grey image."
                )
        elif name.startswith(_STARDIST) and not (volume or name.startswith("S3D_")):
            models[name] = _stardist(name, weights, say)
        elif name.startswith("UNet"):
            models[name] = _unet(name, init, shapes, weights, say)
        else:
            say(f"The model {name!r} is not carried over: nothing here takes its place.")
    if not models:
        say("No model came with the settings; the shipped StarDist and U-Net stand in.")
        models = {n: ({"engine": n}, "stands in: the settings name no model") for n in _FALLBACK}
    return models


_FALLBACK = ("stardist", "unet")


def _flat(pair: Any) -> list[Any]:
    return list(pair) if isinstance(pair, list | tuple) else [pair]


def _cellpose(
    name: str, rescale: list[Any], volume: bool, weights: Collection[str], say: Said
) -> tuple[dict[str, Any], str]:
    known, mean = _CELLPOSE[name]
    diameters: list[Any] = []
    for factor in rescale or [None]:
        if factor is None:
            diameters.append("auto")
            continue
        value = number(factor, "rescale_list")
        # The 3D branch of OpSeF had diameters in this list.
        diameter = value if volume else mean / value if value > 0 else math.inf
        if 1 <= diameter <= 2000:
            diameters.append(tidy(round(diameter, 2)))
        else:
            say(f"rescale {tidy(value)} is left out: no diameter from 1 to 2000 px.")
    entry: dict[str, Any] = {"engine": "cellpose"}
    entry |= {"diameter": list(dict.fromkeys(diameters)) or ["auto"], "flow": 0.4, "cellprob": 0}
    entry |= {"do_3D": True} if volume else {}
    if not volume:
        say(
            f"{name}: rescale r is diameter {tidy(mean)} / r px here "
            f"({', '.join(str(factor) for factor in rescale) or 'none given: auto'})."
        )
    say(f"{name}: OpSeF averaged four networks of Cellpose; here one runs.")
    file = official_models()[known]["file"]
    return _weighted(entry, name, [known], f"opsef models add {file} --name {known}", weights, say)


def _stardist(name: str, weights: Collection[str], say: Said) -> tuple[dict[str, Any], str]:
    folder = name.split("_", 1)[1]
    names = [folder, "2D_paper_dsb2018"] if folder == "2D_dsb2018" else [folder]
    bring = f"opsef models add model_stardist/{folder} --name {folder}"
    return _weighted({"engine": "stardist"}, name, names, bring, weights, say)


def _unet(
    name: str,
    init: Mapping[str, Any],
    shapes: Sequence[tuple[int, ...]],
    weights: Collection[str],
    say: Said,
) -> tuple[dict[str, Any], str]:
    entry: dict[str, Any] = {"engine": "unet", "scale": _unet_scale(init, shapes, say)}
    entry |= {"legacy": True, "min_size": 0}
    say(
        f"{name}: `legacy: true` finds objects as OpSeF did, faults included (small objects beside "
        "a large one are lost); without it all objects are found."
    )
    bring = f"opsef models add {name}.h5 --engine unet --name {name}"
    return _weighted(entry, name, [name], bring, weights, say)


def _unet_scale(init: Mapping[str, Any], shapes: Sequence[tuple[int, ...]], say: Said) -> Any:
    size = init.get("UNetShape")
    if not isinstance(size, list | tuple) or len(size) != 2 or not shapes:
        say("UNetShape, the size to which images were brought, is not known: scale is 1.")
        return 1.0
    height, width = (number(side, "UNetShape") for side in size)
    planes = [tuple(shape[-2:]) for shape in shapes]
    usual = max(dict.fromkeys(planes), key=planes.count)
    factors = height / usual[0], width / usual[1]
    scale = min(max(round(math.sqrt(factors[0] * factors[1]), 4), 0.05), 20.0)
    if len(set(planes)) > 1:
        say(
            f"OpSeF brought images of all sizes to {tidy(height)} x {tidy(width)} px for its "
            f"U-Net; the scale {tidy(scale)} is that of images of {usual[0]} x {usual[1]} px."
        )
    if abs(factors[0] - factors[1]) > 0.01 * scale:
        say(
            f"UNetShape {tidy(height)} x {tidy(width)} distorted images of {usual[0]} x {usual[1]} "
            f"px; here both sides have the scale {tidy(scale)}."
        )
    return tidy(scale)


def _weighted(
    entry: dict[str, Any],
    name: str,
    wanted: list[str],
    bring: str,
    weights: Collection[str],
    say: Said,
) -> tuple[dict[str, Any], str]:
    """Name the weights of the original where they are, else say how they come here."""
    for one in wanted:
        if one in weights:
            return {"engine": entry.pop("engine"), "weights": one, **entry}, ""
    say(
        f"{name}: the weights of OpSeF are not here, and the shipped ones of {entry['engine']} "
        f"take their place. Bring the original and run `{bring}`, then write "
        f"`weights: {wanted[0]}`."
    )
    return entry, f"shipped weights; for the original: {bring}; then weights: {wanted[0]}"
