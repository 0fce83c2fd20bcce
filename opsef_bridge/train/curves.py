"""The picture of a training: loss against step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opsef_bridge.files import atomic_path

__all__ = ["draw_curves"]


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
