"""The tables of ``docs/train.md``, from the figures that ``tools/corrections`` measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import fmean
from typing import Any

__all__ = ["corrections_table"]

KINDS = {
    "tiny": "nuclei of at most 150 px",
    "large": "nuclei of more than 1200 px",
    "U2OS": "U2OS, another screen",
    "tissue": "stained tissue",
}

TOLD = "0.7"
"""IoU of the F1 in the tables."""


def corrections_table(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the text between the markers, by their name."""
    return {"corrections": _gained(figures["rows"]), "scratch": _scratch(figures["scratch"])}


def _gained(rows: Sequence[Mapping[str, Any]]) -> str:
    """What five corrected images are worth, of the kind and of others: means over draws."""
    lines = [
        "| network | kind | rate | steps | draws | images scored | the kind before | after | "
        "gain | other kinds before | after | gain | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for mine in _parted(rows):
        cells = [
            mine[0]["engine"],
            KINDS[mine[0]["kind"]],
            f"{mine[0]['rate']:g}",
            str(mine[0]["steps"]),
            str(len(mine)),
            f"{_mean(mine, 'images'):.0f}",
            *_told(mine, "kind_0.7"),
            *_told(mine, "old_0.7"),
            f"{_mean(mine, 'core_seconds') / 60:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _scratch(rows: Sequence[Mapping[str, Any]]) -> str:
    """Fresh networks, and what others come to in a quarter of their steps."""
    fresh, fine = rows[0]["steps"]
    lines = [
        f"| network | kind | rate | starts from | images scored | before | {fine} steps | "
        f"fresh, {fresh} steps | difference, 95 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for start in ("base", "shipped"):
            told = row[start]
            new, mine, before = told["f1"][TOLD]
            low, high = told["interval"] or (float("nan"),) * 2
            cells = [
                row["engine"],
                KINDS[row["kind"]],
                f"{row['rate']:g}",
                start,
                str(told["images"]),
                f"{before:.3f}",
                f"{mine:.3f}",
                f"{new:.3f}",
                f"{low:+.3f} to {high:+.3f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _parted(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows by network, kind, rate and steps."""
    by = itemgetter("engine", "kind", "rate", "steps")
    return [[row for row in rows if by(row) == key] for key in dict.fromkeys(map(by, rows))]


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return fmean(row[name] for row in rows)


def _told(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[str, str, str]:
    """Mean before, mean after, and the gain; of several draws the least and the most, too."""
    before, after = (fmean(row[name][place] for row in rows) for place in (0, 1))
    gains = [row[name][1] - row[name][0] for row in rows]
    spread = f" ({min(gains):+.3f} to {max(gains):+.3f})" if len(gains) > 1 else ""
    return f"{before:.3f}", f"{after:.3f}", f"{fmean(gains):+.3f}{spread}"
