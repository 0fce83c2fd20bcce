"""What the cards of weights tell: their scores, and where a card lies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import list_weights, read_card
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import write_json

__all__ = ["add_evaluation", "best_score", "card_file", "table"]


def table(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return one row per weights, those of the best known score first."""
    rows = []
    for weights in list_weights(folders):
        score, where = best_score(weights.card)
        rows.append(
            {
                "name": weights.name,
                "engine": weights.engine,
                "licence": str(weights.card.get("licence", "unknown")),
                "f1": score,
                "scored": where,
                "sha256": weights.sha256[:12],
                "file": str(weights.path),
            }
        )
    return sorted(rows, key=lambda row: -1.0 if row["f1"] is None else row["f1"], reverse=True)


def best_score(card: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return F1 at an IoU of 0.5 and what it was taken on.

    The newest evaluation of the project counts, since it was taken on the user's images;
    without one the validation of the file by whoever trained the weights: of several the best
    with one diameter for all images, since other engines have one setting, too; without that
    the score on what was left out (``loo``). A card need have none of them.

    Returns
    -------
    f1 : float or None
    where : str
        ``"30 images, 2026-01-31"``, ``"val"``, ``"val, diameter 22"``, ``"loo"`` or the empty
        string.
    """
    for find in (_evaluated, _validated, _left_out):
        with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
            return find(card)
    return None, ""


def _evaluated(card: Mapping[str, Any]) -> tuple[float, str]:
    entry = card["evaluations"][-1]
    return _f1(entry), f"{entry['images']} images, {entry['date']}"


def _validated(card: Mapping[str, Any]) -> tuple[float, str]:
    """Of the last validation; of one at several diameters, the best of these."""
    last = card["val"][-1]
    if "diameter" not in last:
        return _f1(last), "val"
    same = [entry for entry in card["val"] if entry.get("weights") == last.get("weights")]
    fixed = [entry for entry in same if isinstance(entry.get("diameter"), (int, float))]
    if not fixed:
        return _f1(last), "val, diameter per group"
    best = max(fixed, key=_f1)
    return _f1(best), f"val, diameter {best['diameter']:g}"


def _left_out(card: Mapping[str, Any]) -> tuple[float, str]:
    return _f1(card["loo"]["all"]), "loo"


def _f1(entry: Mapping[str, Any]) -> float:
    return float(entry["f1"]["0.5"]["value"])


def card_file(weights: Weights) -> Path:
    """Return the card of `weights`, which lies beside their file.

    Raises
    ------
    WeightsError
        There is none of that name.
    """
    folder = weights.path.parent
    for file in [folder / f"{weights.name}.json", *sorted(folder.glob("*.json"))]:
        with contextlib.suppress(WeightsError, OSError):
            card = read_card(file)
            if card and card["name"] == weights.name:
                return file
    raise WeightsError(
        f"the weights {weights.name!r} have no card in {folder}",
        hint="Put NAME.json beside their file, or add them again: opsef models add FILE",
    )


def add_evaluation(weights: Weights, entry: Mapping[str, Any]) -> Path:
    """Append a score to the card of `weights` on disk and return its path.

    Earlier ones stay: a card tells every score that was ever taken, in order.
    """
    file = card_file(weights)
    card = read_card(file) or {}
    told = card.get("evaluations")
    write_json(file, card | {"evaluations": [*(told if isinstance(told, list) else []), entry]})
    return file
