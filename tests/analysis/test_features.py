"""Features, embeddings, clusters and learned classes, on made-up objects of known kinds."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import zscore

from opsef_bridge.analysis.clusters import cluster
from opsef_bridge.analysis.embedding import embed
from opsef_bridge.analysis.extras import need
from opsef_bridge.analysis.features import feature_names, features
from opsef_bridge.analysis.learned import learn
from opsef_bridge.errors import InputError

METHODS = ("pca", "tsne", "umap")
KINDS = ("kmeans", "ward", "hdbscan")


def heaps(sizes: tuple[int, ...] = (60, 40, 20), apart: float = 12.0, seed: int = 3):
    """Objects of several kinds, in random order: features (N, 4) and the kind of each, from 1."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), 4)) * apart
    kind = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return centres[kind] + rng.normal(size=(len(kind), 4)), kind + 1


def table(**more) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {
        "image": ["a"] * 5, "label": range(5), "class": [0, 1, 0, 1, 2], "area": rng.random(5),
        "solidity": rng.random(5), "centroid_x": rng.random(5), "pixel_size_x": [0.5] * 5,
        "touches_border": [True, False, True, False, True], "unit": ["um"] * 5,
    }  # fmt: skip
    return pd.DataFrame({**columns, **more})


def test_features_describe_objects_and_not_their_place():
    assert feature_names(table(intensity_mean_GFP=range(5), background_GFP=range(5))) == [
        "area", "solidity", "intensity_mean_GFP",
    ]  # fmt: skip


def test_conditions_are_no_features_unless_they_are_asked_for():
    dosed = table(dose=range(5))
    assert feature_names(dosed, ["dose"]) == ["area", "solidity"]
    assert features(dosed, without=["dose"]).names == ("area", "solidity")
    assert features(dosed, ["dose"], without=["dose"]).names == ("dose",)


def test_features_are_standardised_and_say_what_they_leave_out():
    wanted = table(
        euler_number=[1] * 5, perimeter=[1.0, np.nan, np.nan, np.nan, 2.0],
        ratio_a_b=[1.0, 2.0, np.nan, 4.0, np.inf],
    )  # fmt: skip
    found = features(wanted)
    assert found.names == ("area", "solidity", "ratio_a_b")
    assert found.rows.tolist() == [0, 1, 3]
    some = wanted.loc[[0, 1, 3], list(found.names)].to_numpy()
    np.testing.assert_allclose(found.values, zscore(some))
    assert "perimeter" in found.said[0] and "2 objects" in found.said[1]


@pytest.mark.parametrize(
    ("columns", "told"),
    [(["aera"], "Did you mean area"), (["image"], "no numbers"), (["pixel_size_x"], "too few"),
     ([], "too few")],
)  # fmt: skip
def test_features_that_cannot_be_are_refused(columns, told):
    with pytest.raises(InputError, match=told):
        features(table(), columns)


@pytest.mark.parametrize("method", METHODS)
def test_kinds_of_objects_stay_together(method):
    values, kind = heaps()
    found = embed(values, method, seed=1)
    assert found.points.shape == (120, 2) and np.isfinite(found.points).all()
    from scipy.spatial import KDTree

    near = KDTree(found.points).query(found.points, k=4)[1][:, 1:]
    assert (kind[near] == kind[:, None]).mean() > 0.95
    again = embed(values, method, seed=1)
    np.testing.assert_array_equal(found.points, again.points)


def test_pca_is_the_plane_of_largest_spread():
    values, _ = heaps()
    centred = values - values.mean(axis=0)
    found = embed(centred, "pca")
    spread = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose((found.points**2).sum(axis=0), spread[:2])
    assert found.axes[0] == f"PC 1 ({spread[0] / spread.sum():.0%})"
    np.testing.assert_allclose(embed(centred[:, :1], "pca").points[:, 1], 0)


def test_of_many_objects_a_sample_is_drawn_and_said():
    values, _ = heaps()
    found = embed(values, "tsne", most=50)
    assert np.isfinite(found.points).all(axis=1).sum() == 50
    assert "50 of 120 objects" in found.said[0] and "perplexity 16" in found.said[1]


@pytest.mark.parametrize(("method", "count"), [("pca", 3), ("umap", 4), ("mds", 50)])
def test_too_few_objects_and_unknown_methods_are_refused(method, count):
    with pytest.raises(InputError, match=method):
        embed(np.random.default_rng(0).random((count, 3)), method)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [None, 70])
def test_clusters_are_the_kinds_largest_first(kind, most):
    values, true = heaps()
    found = cluster(values, kind, None if kind == "hdbscan" else 3, most=most)
    inside = found.numbers > 0
    assert inside.mean() > 0.9
    np.testing.assert_array_equal(found.numbers[inside], true[inside])
    assert found.silhouette > 0.6
    assert bool(found.said) == (most is not None)


@pytest.mark.parametrize("kind", ["kmeans", "ward"])
def test_the_number_of_clusters_is_that_of_the_best_silhouette(kind):
    values, true = heaps()
    found = cluster(values, kind)
    np.testing.assert_array_equal(found.numbers, true)
    assert "3: 0." in found.said[0]


@pytest.mark.parametrize(
    ("kind", "count", "objects"),
    [("kmeans", 1, 9), ("ward", 9, 9), ("hdbscan", 2, 9), ("som", 2, 9), ("kmeans", None, 2)],
)
def test_clusters_that_cannot_be_are_refused(kind, count, objects):
    with pytest.raises(InputError):
        cluster(np.random.default_rng(0).random((objects, 2)), kind, count)


def test_a_few_classified_objects_teach_the_rest():
    values, true = heaps((60, 40, 20), apart=3)
    classes = np.where(np.random.default_rng(1).random(120) < 0.3, true, 0)
    found = learn(values, classes, list("abcd"))
    rest = classes == 0
    assert (found.predicted[rest] == true[rest]).mean() > 0.9
    np.testing.assert_array_equal(found.predicted[~rest], classes[~rest])
    assert set(found.uncertain) == set(np.flatnonzero(rest))
    wrong = found.predicted != true
    half = len(found.uncertain) // 2
    assert wrong[found.uncertain[:half]].sum() >= wrong[found.uncertain[half:]].sum()
    assert found.confusion.to_numpy().sum() == (~rest).sum()
    recall = np.diag(found.confusion) / found.confusion.sum(axis=1)
    np.testing.assert_allclose(found.report["recall"], recall)
    assert found.accuracy == pytest.approx(recall.mean()) and found.chance == pytest.approx(1 / 3)
    assert set(found.importance["feature"]) == set("abcd")
    assert found.importance["importance"].sum() == pytest.approx(1)


def test_features_of_noise_teach_nothing_and_the_report_says_so():
    rng = np.random.default_rng(0)
    classes = rng.integers(1, 3, 300)
    found = learn(rng.random((300, 4)), classes, list("abcd"))
    assert abs(found.accuracy - found.chance) < 0.12


def test_what_images_give_away_does_not_flatter():
    """Every image has its own brightness and one class; its brightness tells no other image."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(12), 20)
    classes = 1 + image % 2
    values = np.column_stack([rng.permutation(12)[image] + 0.1 * rng.random(240), rng.random(240)])
    apart = learn(values, classes, ["brightness", "x"], images=[f"i{i}" for i in image])
    mixed = learn(values, classes, ["brightness", "x"])
    assert "whole images" in apart.said[0] and "flatter" in mixed.said[0]
    assert mixed.accuracy > 0.95 and apart.accuracy < 0.8


@pytest.mark.parametrize("classes", [[0] * 9, [1] * 9, [1, 1, 1, 1, 2, 2, 0, 0, 0]])
def test_too_few_classified_objects_are_refused(classes):
    with pytest.raises(InputError, match="class"):
        learn(np.random.default_rng(0).random((9, 2)), np.array(classes), ["a", "b"])


def test_a_package_that_is_not_installed_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # as Python marks what is not there
    with pytest.raises(InputError, match=r"UMAP needs umap.*opsef_bridge\[analysis\]"):
        need("umap", "UMAP")


def test_umap_brings_no_tensorflow():
    """It takes seconds, and does not live with torch in one process."""
    code = (
        "import sys; from opsef_bridge.analysis.extras import need; need('umap', 'UMAP').UMAP;"
        "print([name for name in ('tensorflow', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
