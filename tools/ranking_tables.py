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
    pictures, either, alarms = (
        warned[key] for key in ("of_them_pictures", "of_them_either", "good_choices_pictures")
    )
    return (
        f"{figures['projects']} random projects of {images} images, {counts}. What is lost more "
        f"than by agreement, with the 95 % interval of a paired bootstrap over projects: "
        f"{'; '.join(said)}. {few:.0f} % of the choices lose at most 0.02. The worst lost "
        f"{worst['agreement']:.3f} ({of_worst}). Of {bad} choices with an F1 below 0.8, {noticed} "
        f"had an agreement below 0.90, and {good} of the others. By their pictures {pictures} of "
        f"the {bad} and {alarms} of the others were warned of, by either {either} of the {bad}; "
        f"{100 * warned['images_unlike']:.1f} % of the images looked unlike."
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
    head = [
        "images", "F1 of the first", "best F1", "best as they were", "agreement", "unlike",
        "warning by", "projects warned of", "by agreement", "by pictures",
    ]  # fmt: skip
    rows = []
    for one in figures["unlike"]:
        every = one["projects"]["all"]
        by = [name for name, warned in one["warned"].items() if warned]
        rows.append(
            [
                _set(one["set"]),
                _three(one["f1"]),
                _three(one["best"]),
                "" if one["set"] in figures["images"] else _three(one["before"]),
                _three(one["ef"]),
                f"{one['unlike']} of {one['pictures']}",
                " and ".join(by) or "none",
                *(f"{100 * every[key]:.0f} %" for key in ("either", "agreement", "pictures")),
            ]
        )
    return "\n".join([_table(head, rows), "", _by_loss(figures), "", _worst(figures)])


def _set(name: str) -> str:
    """Name a set of the experiment."""
    if not name.startswith("blurred"):
        return name
    return f"blurred, {name.partition('-')[2] or '4'} px"


def _by_loss(figures: Figures) -> str:
    rows = []
    for one in figures["unlike"]:
        if not one["set"].startswith("blurred"):
            continue
        for name, share in one["projects"].items():
            if name != "all":
                warned = [f"{100 * share[key]:.0f} %" for key in ("either", "pictures")]
                rows.append([_set(one["set"]), name, str(share["count"]), *warned])
    return _table(["images", "F1 of the first", "projects", "warned of", "by pictures"], rows)


def _worst(figures: Figures) -> str:
    parts = [
        f"{_set(one['set'])} {one['worst']['f1']:.2f} ({one['worst']['image']}, "
        f"{'unlike' if one['worst']['unlike'] else 'not seen as unlike'})"
        for one in figures["unlike"]
    ]
    return f"F1 of the first variant on the image where it is lowest: {'; '.join(parts)}."


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
