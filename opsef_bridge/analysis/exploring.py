"""The page to explore the objects of a project, with a thumbnail of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.analysis.dictionary import describe, units_shown
from opsef_bridge.analysis.embedding import drawn_rows
from opsef_bridge.analysis.gather import dimensions_of
from opsef_bridge.analysis.page import MOST_POINTS, PageData, number_columns, render_page
from opsef_bridge.analysis.thumbnails import STEPS, Sheet, make_sheets, places_on
from opsef_bridge.errors import OpsefError
from opsef_bridge.exchange.sources import subject_of
from opsef_bridge.files import write_text
from opsef_bridge.project import Project
from opsef_bridge.sweep.predict import segmented_array

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUDGET", "write_page"]

BUDGET = 12_000_000
"""Characters of all thumbnails of a page."""

MOST_OF_ONE = 4_000.0
"""Characters of a thumbnail, however few there are."""

FIRST = ("umap", "tsne", "pca")
"""Embeddings, the most telling first."""


@dataclass
class _Cut:
    """Thumbnails so far."""

    places: np.ndarray
    sheets: list[Sheet] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    step: int = 0


def write_page(
    project: Project,
    objects: pd.DataFrame,
    file: Path,
    *,
    said: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Write the page to explore.

    Parameters
    ----------
    project : Project
    objects : DataFrame
        As `opsef_bridge.analysis.analyse` writes it. Of more than 20,000 objects a sample is
        drawn, and the page says so.
    file : Path
    said : sequence of str
        Sentences for the head of the page.
    seed : int
        Of the sample.
    """
    rows, _ = drawn_rows(len(objects), MOST_POINTS, seed)
    some = objects.iloc[rows].reset_index(drop=True)
    cut = _thumbnails(project, some)
    ndim = dimensions_of(some)
    units = units_shown(describe(some.dtypes.to_dict(), set(some["unit"]), ndim))
    x, y = _axes(some)
    page = PageData(
        project=project.root.name,
        objects=some,
        sheets=cut.sheets,
        places=cut.places,
        units=units,
        class_names=project.config.classes,
        x=x,
        y=y,
        colour="cluster" if "cluster" in some else "class",
        total=len(objects),
        said=[*said, *cut.said],
    )
    write_text(file, render_page(page))
    return file


def _axes(table: pd.DataFrame) -> tuple[str, str]:
    for method in FIRST:
        if f"{method}_1" in table:
            return f"{method}_1", f"{method}_2"
    names = [name for name in ("area", "mean_intensity") if name in table]
    names += [name for name in number_columns(table) if name not in names]
    return (names[0], names[1] if len(names) > 1 else names[0]) if names else ("", "")


def _thumbnails(project: Project, table: pd.DataFrame) -> _Cut:
    """Cut the objects of one image after the other out of it; a bad image has none."""
    cut = _Cut(np.full((len(table), 2), -1))
    allowed = min(BUDGET / max(len(table), 1), MOST_OF_ONE)
    for image, some in table.groupby("image", sort=False):
        try:
            sheets, cut.step = _of_image(project, str(image), some, allowed, cut.step)
        except OpsefError as error:
            cut.said.append(f"{image} has no pictures: {error}")
            continue
        cut.places[some.index] = places_on(len(some), len(cut.sheets))
        cut.sheets += sheets
    if cut.step:
        cut.said.append(f"There are many objects, so pictures are {STEPS[cut.step][0]} px small.")
    return cut


def _of_image(
    project: Project, image: str, table: pd.DataFrame, allowed: float, step: int
) -> tuple[list[Sheet], int]:
    """The thumbnails of the objects of an image, in the order of the table."""
    entry = project.image(image)
    origin: Mapping[str, str] = table.iloc[0][["run", "variant", "revision"]].to_dict()
    chosen = None
    if not origin["revision"]:
        chosen = (project.run(origin["run"]), origin["variant"])
    subject = subject_of(project, entry, variant=chosen, revision=origin["revision"] or None)
    if subject is None:
        raise OpsefError(f"the objects of {image} are gone", hint="Analyse again")
    colour = "S" in entry.axes
    picture = segmented_array(project, project.config, entry, colour=colour)
    if colour:
        picture = np.moveaxis(picture, 0, -1)
    labels = table["label"].to_numpy()
    return make_sheets(picture, subject.objects.labels, labels, budget=allowed, step=step)
