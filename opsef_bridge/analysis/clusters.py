"""Objects that look alike, in clusters: k-means, Ward and HDBSCAN of their features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.analysis.embedding import drawn_rows
from opsef_bridge.analysis.extras import need
from opsef_bridge.errors import InputError

__all__ = ["Clusters", "Kind", "cluster"]

Kind = Literal["kmeans", "ward", "hdbscan"]

MOST: dict[str, int] = {"kmeans": 20_000, "ward": 5_000, "hdbscan": 10_000}
"""Objects from which clusters are made; the others go to the nearest."""

SILHOUETTE = 2_000
"""Objects from which the silhouette is worked out: it compares each with each."""

COUNTS = range(2, 9)
"""Numbers of clusters that are tried where none is given."""

Parted = Callable[[int], NDArray[np.int64]]
"""Takes a number of clusters; returns the cluster of each object, from 1."""


@dataclass(frozen=True)
class Clusters:
    """Clusters of objects.

    Attributes
    ----------
    numbers : (N,) ndarray of int64
        1 for the largest cluster, 2 for the next; 0 for objects of none (HDBSCAN's noise).
    silhouette : float
        Mean silhouette (Rousseeuw, 1987) of the objects in clusters: 1 well apart, 0 touching,
        below 0 mixed; NaN with fewer than two clusters.
    said : tuple of str
        Sentences: how they were made, what else was tried.
    """

    numbers: NDArray[np.int64]
    silhouette: float
    said: tuple[str, ...] = ()


def cluster(
    values: NDArray[np.float64],
    kind: Kind = "kmeans",
    count: int | None = None,
    *,
    seed: int = 0,
    most: int | None = None,
) -> Clusters:
    """Part objects by their features.

    Parameters
    ----------
    values : (N, F) ndarray of float
        Standardised features.
    kind : {"kmeans", "ward", "hdbscan"}
    count : int, optional
        How many clusters, at least 2; by default that of 2 to 8 with the best silhouette. HDBSCAN
        finds the number itself.
    seed : int
    most : int, optional
        Objects that clusters are made from; `MOST` by default. The others go to the cluster of
        the nearest of them (k-means: of the nearest centre).

    Raises
    ------
    InputError
        An unknown kind; a count below 2, above the number of objects, or for HDBSCAN.

    Notes
    -----
    Every set of points can be parted. A silhouette below 0.25 says that there is hardly any
    structure (Kaufman and Rousseeuw, 1990).
    """
    if kind not in MOST:
        raise InputError(f"{kind!r} makes no clusters", hint=f"Choose of {', '.join(MOST)}")
    if count is not None and kind == "hdbscan":
        raise InputError("HDBSCAN finds the number of clusters itself", hint="Give no count")
    if len(values) < 3 or (count is not None and not 2 <= count < len(values)):
        raise InputError(
            f"{count or 'two or more'} clusters of {len(values)} objects",
            hint="Give a count of 2 or more, below the number of objects",
        )
    rows, drawn = drawn_rows(len(values), most or MOST[kind], seed)
    some = values[rows]
    said = [f"Made from {len(rows):,} objects, {drawn}."] if drawn else []
    if kind == "hdbscan":
        found = _hdbscan(some)
    elif count is not None:
        found = _PARTS[kind](some, seed)(count)
    else:
        found, tried = _best(some, _PARTS[kind](some, seed), seed)
        said.append(f"Silhouette by number of clusters: {tried}.")
    numbers = np.zeros(len(values), np.int64)
    numbers[rows] = found
    if len(rows) < len(values):
        rest = np.setdiff1d(np.arange(len(values)), rows)
        numbers[rest] = _nearest(some, found, values[rest], centres=kind == "kmeans")
    numbers = _by_size(numbers)
    return Clusters(numbers, _silhouette(values, numbers, seed), tuple(said))


def _kmeans(values: NDArray[np.float64], seed: int) -> Parted:
    kind = need("sklearn.cluster", "k-means").KMeans

    def parted(count: int) -> NDArray[np.int64]:
        model = kind(count, n_init=5, random_state=seed)
        return model.fit_predict(values).astype(np.int64) + 1

    return parted


def _ward(values: NDArray[np.float64], seed: int) -> Parted:
    """One tree for all counts."""
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(values, "ward")
    return lambda count: fcluster(tree, count, "maxclust").astype(np.int64)


_PARTS: dict[str, Callable[[NDArray[np.float64], int], Parted]] = {
    "kmeans": _kmeans,
    "ward": _ward,
}


def _hdbscan(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Clusters of 2 % of the objects or more, at least 5 (``min_cluster_size``)."""
    kind = need("sklearn.cluster", "clustering").HDBSCAN
    least = min(max(5, len(values) // 50), len(values))
    return kind(min_cluster_size=least, copy=True).fit_predict(values).astype(np.int64) + 1


def _best(values: NDArray[np.float64], parted: Parted, seed: int) -> tuple[NDArray[np.int64], str]:
    tries = {count: parted(count) for count in COUNTS if count < len(values)}
    told = {count: _silhouette(values, found, seed) for count, found in tries.items()}
    first = max(told, key=lambda count: (np.nan_to_num(told[count], nan=-1), -count))
    return tries[first], ", ".join(f"{count}: {value:.2f}" for count, value in told.items())


def _nearest(
    some: NDArray[np.float64], found: NDArray[np.int64], rest: NDArray[np.float64], centres: bool
) -> NDArray[np.int64]:
    """The cluster of the nearest object, or of the nearest centre."""
    from scipy.spatial import KDTree

    if centres:
        names = np.unique(found)
        places = np.stack([some[found == name].mean(axis=0) for name in names])
        return names[KDTree(places).query(rest)[1]]
    return found[KDTree(some).query(rest)[1]]


def _by_size(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the clusters by size; those of one size in the order of their first object."""
    names, first, sizes = np.unique(numbers, return_index=True, return_counts=True)
    there = names > 0
    order = np.lexsort((first[there], -sizes[there]))
    renamed = np.zeros(len(names), np.int64)
    renamed[np.flatnonzero(there)[order]] = np.arange(1, there.sum() + 1)
    return renamed[np.searchsorted(names, numbers)]


def _silhouette(values: NDArray[np.float64], numbers: NDArray[np.int64], seed: int) -> float:
    inside = np.flatnonzero(numbers > 0)
    rows = inside[drawn_rows(len(inside), SILHOUETTE, seed)[0]]
    parts = len(np.unique(numbers[rows]))
    if not 2 <= parts < len(rows):
        return float("nan")
    score = need("sklearn.metrics", "clustering").silhouette_score
    return float(score(values[rows], numbers[rows]))
