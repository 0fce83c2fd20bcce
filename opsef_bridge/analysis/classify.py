"""Ways to give classes: a gate, clusters, a learned classifier, a file.

Each returns which objects get which class; `opsef_bridge.analysis.classes` saves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opsef_bridge.analysis.classes import ORIGIN, class_number, read_classes
from opsef_bridge.analysis.clusters import Kind, cluster
from opsef_bridge.analysis.features import features
from opsef_bridge.analysis.gates import parse_gate
from opsef_bridge.analysis.learned import learn
from opsef_bridge.analysis.writing import write_table
from opsef_bridge.errors import InputError
from opsef_bridge.project import Project
from opsef_bridge.rois.objects import LARGEST_CLASS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Classified", "by_clusters", "by_file", "by_gate", "by_learning"]

KEYS = ("image", "label", *ORIGIN)

SHOWN = 10
"""Uncertain objects that are named; the file has all."""


@dataclass(frozen=True)
class Classified:
    """Which objects get a class.

    Attributes
    ----------
    classes : DataFrame
        ``image``, ``label``, ``run``, ``variant``, ``revision``, ``class``.
    why : str
        What gave them.
    said : tuple of str
        Sentences.
    files : tuple of Path
        Tables that were written.
    uncertain, report : DataFrame or None
        Of learned classes: the objects to classify next, and precision and recall by class.
    """

    classes: pd.DataFrame
    why: str
    said: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    uncertain: pd.DataFrame | None = None
    report: pd.DataFrame | None = None


def by_gate(project: Project, objects: pd.DataFrame, gate: str, number: str) -> Classified:
    """Give the objects that a gate holds for a class.

    Parameters
    ----------
    project : Project
        Its ``classes`` have the names.
    objects : DataFrame
        Table of objects, as `opsef_bridge.analysis.gather.gather_tables` makes it.
    gate : str
        See `opsef_bridge.analysis.gates`.
    number : str
        Number or name of the class; 0 takes the class away.

    Raises
    ------
    InputError
        The gate or the class cannot be understood, or a column is not there.
    """
    chosen = class_number(project.config.classes, number)
    parsed = parse_gate(gate)
    here = parsed.select(objects)
    missing = [
        name for name in parsed.columns
        if objects[name].dtype.kind == "f" and objects[name].isna().any()
    ]  # fmt: skip
    said = [f"{here.sum()} of {len(here)} objects: {gate}"]
    said += [f"Some objects have no {name}: no comparison holds for them" for name in missing]
    found = objects.loc[here, list(KEYS)].assign(**{"class": chosen})
    return Classified(found, f"gate {gate}", tuple(said))


def by_clusters(
    objects: pd.DataFrame, kind: Kind, count: int | None, of: Sequence[str] | None, seed: int
) -> Classified:
    """Give objects the number of their cluster as class, the largest 1; noise gets none.

    Raises
    ------
    InputError
        As `opsef_bridge.analysis.features` and `clusters`; or more than 255 clusters.
    """
    made = features(objects, of)
    parted = cluster(made.values, kind, count, seed=seed)
    if parted.numbers.max() > LARGEST_CLASS:
        raise InputError(
            f"{parted.numbers.max()} clusters are more than there are classes, {LARGEST_CLASS}",
            hint="Ask for fewer: --clusters",
        )
    found = objects.iloc[made.rows][list(KEYS)].assign(**{"class": parted.numbers})
    sizes = np.bincount(parted.numbers)
    told = ", ".join(f"class {number}: {size}" for number, size in enumerate(sizes) if size)
    said = (*made.said, *parted.said, f"Silhouette {parted.silhouette:.2f}; objects by {told}")
    return Classified(found, f"{kind} of {', '.join(made.names)}", said)


def by_learning(
    project: Project,
    objects: pd.DataFrame,
    of: Sequence[str] | None,
    least: float | None,
    seed: int,
) -> Classified:
    """Learn from the objects that have a class; say how well, and which to classify next.

    Parameters
    ----------
    project : Project
        Gets ``tables/learned.csv`` (the report), ``tables/confusion.csv`` and
        ``tables/uncertain.csv``, the objects without a class, the least certain first.
    objects : DataFrame
    of : sequence of str, optional
        Features.
    least : float or None
        Share of the trees from which on an object gets the learned class; None gives none.
    seed : int

    Raises
    ------
    InputError
        As `opsef_bridge.analysis.learned.learn`.
    """
    made = features(objects, of)
    some = objects.iloc[made.rows].reset_index(drop=True)
    found = learn(
        made.values, some["class"].to_numpy(), made.names, images=some["image"], seed=seed
    )
    some = some.assign(predicted_class=found.predicted, probability=found.probability)
    shown = [*KEYS, "predicted_class", "probability"]
    shown += [name for name in found.importance["feature"][:3] if name not in shown]
    uncertain = some.iloc[found.uncertain][shown]
    decimal = project.config.analyse.decimal
    files: list[Path] = []
    tables = {
        "learned": found.report, "confusion": found.confusion.reset_index(),
        "importance": found.importance, "uncertain": uncertain,
    }  # fmt: skip
    for name, table in tables.items():
        table = table.rename(columns=str)
        files += write_table(project.tables_folder, name, table, decimal=decimal)
    sure = some.iloc[found.uncertain]
    sure = sure[sure["probability"] >= (np.inf if least is None else least)]
    said = [
        *made.said,
        *found.said,
        f"Balanced accuracy {found.accuracy:.2f}, by guessing {found.chance:.2f}.",
        *(
            f"class {row['class']:g}: {row['objects']:g} objects, precision "
            f"{row['precision']:.2f}, recall {row['recall']:.2f}"
            for row in found.report.to_dict("records")
        ),
        f"{len(sure)} of {len(found.uncertain)} objects without a class get one"
        + (
            "; --least 0.8 gives it to those of which 80 % of the trees are sure"
            if least is None
            else ""
        ),
        "Classify next (tables/uncertain.csv): "
        + ", ".join(f"{row.image} {row.label}" for row in uncertain.head(SHOWN).itertuples()),
    ]
    classes = sure[list(KEYS)].assign(**{"class": sure["predicted_class"]})
    why = "a random forest"
    return Classified(classes, why, tuple(said), tuple(files), uncertain, found.report)


def by_file(project: Project, file: Path) -> Classified:
    """Take classes from a CSV file (`opsef_bridge.analysis.classes.read_classes`)."""
    table = read_classes(file)
    return Classified(table, f"file {file.name}", (f"{len(table)} objects in {file.name}",))
