"""The curves of a training, loss against step: a table and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opsef_bridge.files import atomic_path, write_text

__all__ = ["COLUMNS", "draw_curves", "read_curves", "write_curves"]

COLUMNS = ("step", "loss", "val_loss", "rate", "seconds")
"""Of ``curves.csv``: the mean loss since the row before; that on the validation crops, where
it was taken; the learning rate; seconds of training so far."""


def write_curves(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write rows of `COLUMNS` as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())


def read_curves(file: Path) -> list[dict[str, float | None]]:
    """Return the rows of a ``curves.csv``: by column a number, or None where there is none."""
    with file.open(newline="", encoding="utf-8") as lines:
        return [
            {name: float(cell) if cell else None for name, cell in row.items()}
            for row in csv.DictReader(lines)
        ]


def draw_curves(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw the losses of a training into a PNG file.

    Parameters
    ----------
    rows : sequence of mapping
        As in ``curves.csv``: ``step``, ``loss``, and ``val_loss`` or None.
    file : Path
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([row["step"] for row in rows], [row["loss"] for row in rows], label="training")
    judged = [(row["step"], row["val_loss"]) for row in rows if row["val_loss"] is not None]
    if judged:
        axes.plot(*zip(*judged, strict=True), marker="o", label="validation")
        step, loss = min(judged, key=lambda pair: pair[1])
        axes.axvline(step, color="0.6", linestyle=":", label=f"least: {loss:.3g} at {step}")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    with atomic_path(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
