"""The tables of ``docs/ranking.md``, of the figures in ``docs/ranking.json``.

`tools/write_docs.py` puts them between their markers; ``tools/ranking`` makes the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["ranking_tables"]

RANKINGS = {
    "agreement": "**agreement**",
    "equal": "the same, all variants of a family with one say",
    "family": "plain mean (`plain_mean`)",
    "plain": "plain mean, families not weighted",
    "random": "any variant",
}
MODES = {
    "full": "all variants",
    "random": "3-6 families, any part",
    "inflated": "one family whole",
    "mostwrong": "wrong scales, 3 good",
    "onegood": "wrong scales, 1 good",
    "twofam": "two families",
}

Figures = Mapping[str, Any]


def ranking_tables(figures: Figures, constants: Figures) -> dict[str, str]:
    """Return the text between each pair of markers, by their name."""
    c = constants["expected_f1"]
    formula = f"`q = sigmoid({c['intercept']} + {c['share']} s + {c['best']} x + {c['mean']} u)`"
    return {
        "formula": f"   {formula}.",
        "regret": "\n".join([_regret(figures), "", _sentences(figures)]),
        "named": _named(figures),
        "answers": _answers(figures),
        "errors": _errors(figures),
        "unlike": _unlike(figures),
    }


def _regret(figures: Figures) -> str:
    head = ["ranked first by", *MODES.values(), "mean", "90th percentile", "at IoU 0.7"]
    rows = [
        [
            name,
            *(_three(figures["regret"][mode][key]) for mode in MODES),
            _three(figures["mean"][key]),
            _three(figures["p90"][key]),
            _three(figures["mean"][f"{key}_07"]),
        ]
        for key, name in RANKINGS.items()
    ]
    return _table(head, rows)


def _sentences(figures: Figures) -> str:
    more = figures["agreement_less_others"]["05"]
    said = [
        f"{name} {more[key][0]:.4f} ({more[key][1]:.4f} to {more[key][2]:.4f})"
        for key, name in (("family", "the plain mean"), ("equal", "one say for all"))
    ]
    warned, worst = figures["warned"], figures["worst"]
    few = 100 * figures["at_most_.02"]["agreement"]
    images = sum(figures["images"].values())
    counts = f"{figures['variants']} variants of {figures['families']} families"
    of_worst = f"group {worst['group']}, F1 {worst['f1']:.2f}, agreement {worst['ef']:.2f}"
    bad, noticed, good = (
        warned[key] for key in ("bad_choices", "of_them_warned", "good_choices_warned")
    )
    return (
        f"{figures['projects']} random projects of {images} images, {counts}. What is lost more "
        f"than by agreement, with the 95 % interval of a paired bootstrap over projects: "
        f"{'; '.join(said)}. {few:.0f} % of the choices lose at most 0.02. The worst lost "
        f"{worst['agreement']:.3f} ({of_worst}). Of {bad} choices with an F1 below 0.8, {noticed} "
        f"had an agreement below 0.90, and {good} of the others."
    )


def _named(figures: Figures) -> str:
    head = ["project", "images", "best F1", "lost by agreement", "by plain mean", "F1 by size"]
    rows = [
        [
            name,
            str(found["images"]),
            _three(found["best"]),
            _three(found["agreement"]),
            _three(found["family"]),
            _three(found["by_size"]) if "by_size" in found else "",
        ]
        for name, found in figures["named"].items()
    ]
    return _table(head, rows)


def _answers(figures: Figures) -> str:
    counts = list(figures["answers"])
    rows = [
        ["mean", *(_three(figures["answers"][count]) for count in counts)],
        ["90th percentile", *(_three(figures["answers_p90"].get(count)) for count in counts)],
    ]
    return _table(["answers", *counts], rows)


def _errors(figures: Figures) -> str:
    named = {**figures["errors"], "all": figures["errors_mean"]}
    rows = [
        [name, _three(one["auroc"]), _three(one["least"]), _three(one["any"])]
        for name, one in named.items()
    ]
    head = ["images", "AUROC of wrong objects", "F1 gained: least supported 10 %", "any 10 %"]
    return _table(head, rows)


def _unlike(figures: Figures) -> str:
    rows = [
        [one["set"], _three(one["ef"]), _three(one["f1"]), _three(one["best"])]
        for one in figures["unlike"]
    ]
    return _table(["images", "agreement of the first", "its F1", "best F1"], rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
