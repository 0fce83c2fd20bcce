"""Objects as points of a plane: PCA, t-SNE and UMAP of their features.

The methods are those of scikit-learn and umap-learn; here is how many objects they are given,
and what is said of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.analysis.extras import need
from opsef_bridge.errors import InputError

__all__ = ["MOST", "Embedding", "Method", "drawn_rows", "embed"]

Method = Literal["pca", "tsne", "umap"]

MOST: dict[str, int] = {"pca": 1_000_000, "tsne": 3_000, "umap": 10_000}
"""Objects that a method is given; of more a sample is drawn. So a million objects take less than
a minute with each."""

PERPLEXITY = 30.0
"""Of t-SNE (van der Maaten and Hinton, 2008), lower for few objects."""

NEIGHBOURS = 15
"""Of UMAP (McInnes et al., 2018), ``n_neighbors``."""


@dataclass(frozen=True)
class Embedding:
    """Points of a plane.

    Attributes
    ----------
    points : (N, 2) ndarray of float64
        NaN for objects that were not drawn.
    axes : (str, str)
        What the axes are.
    said : tuple of str
        Sentences: how many objects were drawn, and with which settings.
    """

    points: NDArray[np.float64]
    axes: tuple[str, str]
    said: tuple[str, ...] = ()


def embed(
    values: NDArray[np.float64], method: Method = "pca", *, seed: int = 0, most: int | None = None
) -> Embedding:
    """Put objects with like features near each other.

    Parameters
    ----------
    values : (N, F) ndarray of float
        Standardised features, as `opsef_bridge.analysis.features` makes them.
    method : {"pca", "tsne", "umap"}
    seed : int
        Equal seeds give equal points, on one machine with the same versions.
    most : int, optional
        Objects that are drawn; `MOST` by default.

    Raises
    ------
    InputError
        An unknown method, fewer than 4 objects (UMAP: 5), or what it needs is not installed.

    Notes
    -----
    Only PCA keeps distances. Of t-SNE and UMAP neither the distance between two heaps nor the
    size of a heap means anything.
    """
    if method not in MOST:
        raise InputError(f"{method!r} is no method", hint=f"Choose of {', '.join(MOST)}")
    few = 5 if method == "umap" else 4
    if len(values) < few:
        raise InputError(f"{method} of {len(values)} objects", hint=f"It needs {few} or more")
    rows, said = drawn_rows(len(values), most or MOST[method], seed)
    points = np.full((len(values), 2), np.nan)
    made, axes, how = _METHODS[method](values[rows], seed)
    points[rows] = made
    text = f"{method} of {len(rows):,} of {len(values):,} objects, {said}" if said else ""
    return Embedding(points, axes, tuple(filter(None, (text, how))))


def drawn_rows(count: int, most: int, seed: int) -> tuple[NDArray[np.int64], str]:
    """Return which of `count` objects are drawn, ascending, and how, in words.

    Examples
    --------
    >>> drawn_rows(3, 5, seed=0)
    (array([0, 1, 2]), '')
    """
    if count <= most:
        return np.arange(count), ""
    rows = np.random.default_rng(seed).choice(count, most, replace=False)
    return np.sort(rows), f"drawn at random (seed {seed})"


Made = tuple[NDArray[np.float64], tuple[str, str], str]


def _pca(values: NDArray[np.float64], seed: int) -> Made:
    """Principal components; the sign of each is that of its largest weight."""
    weights, shares = _components(values)
    made = values @ weights.T
    if made.shape[1] == 1:  # of a single feature
        made, shares = np.column_stack([made, np.zeros(len(made))]), np.append(shares, 0.0)
    axes = (f"PC 1 ({shares[0]:.0%})", f"PC 2 ({shares[1]:.0%})")
    return made, axes, ""


def _components(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    model = need("sklearn.decomposition", "PCA").PCA(min(2, values.shape[1]), svd_solver="full")
    model.fit(values)
    weights = model.components_
    largest = weights[np.arange(len(weights)), np.abs(weights).argmax(axis=1)]
    return weights * np.sign(largest)[:, None], model.explained_variance_ratio_


def _tsne(values: NDArray[np.float64], seed: int) -> Made:
    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    kind = need("sklearn.manifold", "t-SNE").TSNE
    init = "pca" if values.shape[1] > 1 else "random"
    made = kind(2, perplexity=perplexity, init=init, random_state=seed).fit_transform(values)
    return made, ("t-SNE 1", "t-SNE 2"), f"t-SNE with perplexity {perplexity:g}, seed {seed}"


def _umap(values: NDArray[np.float64], seed: int) -> Made:
    neighbours = min(NEIGHBOURS, len(values) - 1)
    init = "spectral" if len(values) > 10 * neighbours else "random"
    kind = need("umap", "UMAP").UMAP
    model = kind(
        n_components=2, n_neighbors=neighbours, random_state=seed, n_jobs=1, init=init
    )  # fmt: skip
    made = model.fit_transform(values)
    return made, ("UMAP 1", "UMAP 2"), f"UMAP with {neighbours} neighbours, seed {seed}"


_METHODS = {"pca": _pca, "tsne": _tsne, "umap": _umap}
