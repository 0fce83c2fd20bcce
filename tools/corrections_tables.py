"""The table of ``docs/train.md``, of ``docs/corrections.json`` that ``tools/corrections`` makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

__all__ = ["corrections_table"]

KINDS = {
    "tiny": "nuclei of at most 150 px",
    "large": "nuclei of more than 1200 px",
    "U2OS": "U2OS, another screen",
    "tissue": "stained tissue",
}


def corrections_table(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the text between the markers, by their name."""
    lines = [
        "| network | kind | images scored | the kind before | after | other kinds before | after | "
        "minutes | chosen anew |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = figures["rows"]
    for engine, kind in dict.fromkeys((row["engine"], row["kind"]) for row in rows):
        mine = [row for row in rows if (row["engine"], row["kind"]) == (engine, kind)]
        cells = [
            engine,
            KINDS[kind],
            f"{_mean(mine, 'images'):.0f}",
            *_pair(mine, "kind_0.7"),
            *_pair(mine, "old_0.7"),
            f"{_mean(mine, 'seconds') / 60:.1f}",
            f"{len(mine)} x",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return {"corrections": "\n".join(lines)}


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return fmean(row[name] for row in rows)


def _pair(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[str, str]:
    before, after = (fmean(row[name][place] for row in rows) for place in (0, 1))
    return f"{before:.3f}", f"{after:.3f}"
