"""Classes that are learned: a few classified objects teach a random forest the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.analysis.extras import need
from opsef_bridge.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FEWEST", "Learned", "learn"]

FEWEST = 3
"""Objects of each class that a person must have classified."""

TREES = 300
FOLDS = 5


@dataclass(frozen=True)
class Learned:
    """What a forest says of all objects, and how far to trust it.

    Attributes
    ----------
    predicted : (N,) ndarray of int64
        Class of each object; of those that a person classified, the person's.
    probability : (N,) ndarray of float64
        Share of the trees that give it.
    uncertain : (M,) ndarray of int64
        Positions of the objects that nobody classified, the least certain first: those with the
        smallest difference between the two most probable classes.
    report : DataFrame
        One row per class: ``class``, ``objects``, ``precision``, ``recall``, ``f1``, each
        cross-validated.
    confusion : DataFrame
        Rows are the person's classes, columns the predicted ones; counts, cross-validated.
    importance : DataFrame
        ``feature`` and ``importance`` (mean decrease in impurity), most important first.
    accuracy, chance : float
        Balanced accuracy (mean recall), cross-validated, and that of guessing.
    said : tuple of str
    """

    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    uncertain: NDArray[np.int64]
    report: pd.DataFrame
    confusion: pd.DataFrame
    importance: pd.DataFrame
    accuracy: float
    chance: float
    said: tuple[str, ...] = ()


def learn(
    values: NDArray[np.float64],
    classes: NDArray[np.integer],
    names: Sequence[str],
    *,
    images: Sequence[str] | None = None,
    seed: int = 0,
) -> Learned:
    """Learn classes from those objects that have one.

    Parameters
    ----------
    values : (N, F) ndarray of float
        Features.
    classes : (N,) ndarray of int
        0 where nobody classified.
    names : sequence of str
        Of the features.
    images : sequence of str, optional
        Image of each object. Where every class is in several images, whole images are left out
        in cross-validation: objects of one image resemble each other, and the report would
        flatter.
    seed : int

    Returns
    -------
    Learned

    Raises
    ------
    InputError
        Fewer than two classes, or fewer than three objects of one.

    Notes
    -----
    A random forest (Breiman, 2001) of 300 trees, scikit-learn's, classes weighted by their
    rarity (``class_weight="balanced"``).
    """
    classes = np.asarray(classes, np.int64)
    known = np.flatnonzero(classes > 0)
    kinds, counts = np.unique(classes[known], return_counts=True)
    if len(kinds) < 2:
        raise InputError(
            f"{len(kinds)} {'class has' if len(kinds) == 1 else 'classes have'} objects",
            hint="Classify a few objects of each of two classes or more",
        )
    if counts.min() < FEWEST:
        raise InputError(
            f"class {kinds[counts.argmin()]} has {counts.min()} objects",
            hint=f"Classify {FEWEST} or more of each class",
        )
    folds, said = _folds(
        classes[known], None if images is None else np.asarray(images)[known], seed
    )
    told = np.zeros(len(known), np.int64)
    for train, test in folds:
        told[test] = (
            _forest(seed)
            .fit(values[known[train]], classes[known[train]])
            .predict(values[known[test]])
        )
    forest = _forest(seed).fit(values[known], classes[known])
    shares = forest.predict_proba(values)
    ordered = np.sort(shares, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    predicted = forest.classes_[shares.argmax(axis=1)].astype(np.int64)
    predicted[known] = classes[known]
    open_ones = np.flatnonzero(classes == 0)
    report, confusion = _report(classes[known], told, kinds)
    return Learned(
        predicted,
        shares[np.arange(len(shares)), np.searchsorted(forest.classes_, predicted)],
        open_ones[np.argsort(margin[open_ones], kind="stable")],
        report,
        confusion,
        _importance(forest, names),
        float(report["recall"].mean()),
        1 / len(kinds),
        tuple(said),
    )


def _forest(seed: int) -> Any:
    kind = need("sklearn.ensemble", "learning classes").RandomForestClassifier
    return kind(TREES, class_weight="balanced", random_state=seed, n_jobs=1)


def _folds(
    classes: NDArray[np.int64], images: NDArray[Any] | None, seed: int
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], list[str]]:
    """Part the classified objects for cross-validation, by image where that is possible."""
    library = need("sklearn.model_selection", "learning classes")
    kinds, counts = np.unique(classes, return_counts=True)
    there = 0 if images is None else min(len(np.unique(images[classes == kind])) for kind in kinds)
    if there >= 2:
        count = min(FOLDS, there)
        split = library.StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        folds = list(split.split(classes, classes, images))
        if all(set(classes[test]) and set(classes[train]) == set(kinds) for train, test in folds):
            return folds, [f"Cross-validated in {count} parts of whole images."]
    count = min(FOLDS, int(counts.min()))
    split = library.StratifiedKFold(count, shuffle=True, random_state=seed)
    return list(split.split(classes, classes)), [
        f"Cross-validated in {count} parts. Objects of one image are in several of them, so the "
        "figures flatter: classify some of each class in two images or more."
    ]


def _report(
    true: NDArray[np.int64], told: NDArray[np.int64], kinds: NDArray[np.int64]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    metrics = need("sklearn.metrics", "learning classes")
    precision, recall, f1, objects = metrics.precision_recall_fscore_support(
        true, told, labels=kinds, zero_division=0
    )
    table = {"class": kinds, "objects": objects, "precision": precision, "recall": recall, "f1": f1}
    confusion = metrics.confusion_matrix(true, told, labels=kinds)
    names = {"index": pd.Index(kinds, name="class"), "columns": pd.Index(kinds, name="predicted")}
    return pd.DataFrame(table), pd.DataFrame(confusion, **names)


def _importance(forest: Any, names: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame({"feature": list(names), "importance": forest.feature_importances_})
    return table.sort_values("importance", ascending=False, ignore_index=True)
