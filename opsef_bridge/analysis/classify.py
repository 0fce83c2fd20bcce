"""Ways to give classes: a gate, clusters, a learned classifier, a file.

Each returns which objects get which class; `opsef_bridge.analysis.classes` saves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.analysis.classes import (
    GIVEN,
    LEARNED,
    ORIGIN,
    class_number,
    learned_labels,
    read_classes,
)
from opsef_bridge.analysis.clusters import Kind, cluster
from opsef_bridge.analysis.features import features
from opsef_bridge.analysis.gates import parse_gate
from opsef_bridge.analysis.gather import refuse_mixed
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
    kind : {"classes", "learned"}
        Whether a person decided, as `opsef_bridge.analysis.classes.save_classes` takes it.
    """

    classes: pd.DataFrame
    why: str
    said: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    uncertain: pd.DataFrame | None = None
    report: pd.DataFrame | None = None
    kind: str = GIVEN


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
    objects: pd.DataFrame,
    kind: Kind,
    count: int | None,
    of: Sequence[str] | None,
    seed: int,
    conditions: Sequence[str] = (),
) -> Classified:
    """Give objects the number of their cluster as class, the largest 1; noise gets none.

    Parameters
    ----------
    objects : DataFrame
    kind, count, seed
        As `opsef_bridge.analysis.clusters.cluster`.
    of : sequence of str, optional
        Features.
    conditions : sequence of str
        Columns of `objects` that are no features unless `of` names them.

    Raises
    ------
    InputError
        As `opsef_bridge.analysis.features` and `clusters`; or more than 255 clusters; or objects
        of planes and of volumes.
    """
    refuse_mixed(objects)
    made = features(objects, of, without=conditions)
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
    conditions: Sequence[str] = (),
) -> Classified:
    """Learn from the objects that a person classified; say how well, and which to do next.

    Parameters
    ----------
    project : Project
        Gets ``tables/learned.csv`` (the report), ``tables/confusion.csv`` and
        ``tables/uncertain.csv``, the other objects, the least certain first. Classes that were
        learned before are no person's: they are not learned from, and they are learned anew.
    objects : DataFrame
    of : sequence of str, optional
        Features.
    least : float or None
        Share of the trees from which on an object gets the learned class; None gives none.
    seed : int
    conditions : sequence of str
        Columns of `objects` that are no features unless `of` names them.

    Raises
    ------
    InputError
        As `opsef_bridge.analysis.learned.learn`; or objects of planes and of volumes.
    """
    refuse_mixed(objects)
    made = features(objects, of, without=conditions)
    some = objects.iloc[made.rows].reset_index(drop=True)
    classes, learned = _by_people(project, some)
    found = learn(made.values, classes, made.names, images=some["image"], seed=seed)
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
        *([f"{learned} objects have a learned class; they teach nothing."] if learned else []),
        f"{len(sure)} of {len(found.uncertain)} objects that nobody classified get a class"
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
    return Classified(classes, why, tuple(said), tuple(files), uncertain, found.report, LEARNED)


def _by_people(project: Project, objects: pd.DataFrame) -> tuple[NDArray[np.int64], int]:
    """Return the classes, 0 where a classifier gave it, and how many those are."""
    classes = objects["class"].to_numpy(np.int64).copy()
    of_machine = np.zeros(len(classes), bool)
    for (image, revision), rows in objects.groupby(["image", "revision"]).indices.items():
        if revision:
            known = learned_labels(project, str(image), str(revision))
            of_machine[rows] = objects["label"].iloc[rows].isin(known)
    of_machine &= classes > 0
    return np.where(of_machine, 0, classes), int(of_machine.sum())


def by_file(project: Project, file: Path) -> Classified:
    """Take classes from a CSV file (`opsef_bridge.analysis.classes.read_classes`)."""
    table = read_classes(file)
    return Classified(table, f"file {file.name}", (f"{len(table)} objects in {file.name}",))
