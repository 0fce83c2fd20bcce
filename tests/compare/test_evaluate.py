"""Models against truth: tables that agree with `quality`, strata, the paired bootstrap."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from opsef_bridge.compare.evaluate import Case, compare, evaluate
from opsef_bridge.compare.evaluate_charts import error_chart, f1_chart
from opsef_bridge.errors import InputError
from opsef_bridge.measure.pair_errors import pair_table
from opsef_bridge.measure.quality import quality
from tests.measure.test_match import blobs

T = (0.3, 0.5, 0.6)


def cases(count: int, jitter: int = 2, seed: int = 0) -> list[Case]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        truth, labels = blobs(100 * seed + number, jitter, side=40)
        valid = rng.random(truth.shape) < 0.95 if number % 2 else None
        made.append(Case(f"image {number}", truth, labels, valid))
    return made


def worse(given: list[Case], keep: float, seed: int = 1) -> list[Case]:
    """The same images with only a part of the labels."""
    rng = np.random.default_rng(seed)
    made = []
    for case in given:
        lost = [n for n in np.unique(case.labels) if rng.random() > keep]
        made.append(case._replace(labels=np.where(np.isin(case.labels, lost), 0, case.labels)))
    return made


def test_the_table_of_images_is_that_of_quality():
    given = cases(5)
    done = evaluate(given, T)
    for case in given:
        own = done.images[done.images["image"] == case.name].reset_index(drop=True)
        expected = quality(case.truth, case.labels, T, case.valid)
        np.testing.assert_allclose(own[expected.columns], expected, atol=1e-12)
        if case.valid is None:
            pairs = pair_table(case.truth, case.labels)
            row = own[own["threshold"] == 0.5].iloc[0]
            for name in ("boundary_mean", "boundary_max", "radius_shift", "iou_size_aware"):
                assert row[name] == pytest.approx(pairs[name].mean())
    assert done.names == tuple(case.name for case in given)
    np.testing.assert_array_equal(
        done.counts.reshape(-1, 3), done.images[["tp", "fp", "fn"]].to_numpy()
    )


def test_the_pool_is_one_large_image():
    given = [case._replace(valid=None) for case in cases(4)]
    # The images side by side, with a column between them so that no objects touch.
    truth, labels = (
        np.concatenate(
            [np.pad(np.where(image, image + 1000 * n, 0), ((0, 0), (0, 1)))
             for n, image in enumerate(images)], axis=1,
        )
        for images in zip(*(case[1:3] for case in given), strict=True)
    )  # fmt: skip
    pooled, single = evaluate(given, T).pooled, quality(truth, labels, T)
    np.testing.assert_allclose(pooled[single.columns], single, atol=1e-12)
    assert pooled["images"].tolist() == [4, 4, 4]
    assert (pooled["f1_low"] <= pooled["f1"]).all() and (pooled["f1"] <= pooled["f1_high"]).all()
    assert (pooled["f1_low"] < pooled["f1_high"]).all()


def test_strata_are_octaves_of_the_equivalent_diameter():
    truth, labels = np.zeros((2, 40, 60), int)
    truth[2:5, 2:5] = 1  # 9 px: 3.4 px across, in 2..4
    truth[10:20, 2:12] = 2  # 100 px: 11.3 px across, in 8..16
    truth[10:20, 30:40] = 3  # as large, and missed
    labels[10:20, 2:11] = 5  # 90 px: 10.7 px across
    labels[30:32, 2:4] = 6  # 4 px: 2.3 px across, invented
    strata = evaluate([("a", truth, labels)], 0.5).strata.set_index("from_px")
    assert strata.index.tolist() == [2, 8] and strata["to_px"].tolist() == [4, 16]
    assert strata.loc[2, ["truth", "found", "predicted", "right"]].tolist() == [1, 0, 1, 0]
    assert strata.loc[8, ["truth", "found", "predicted", "right"]].tolist() == [2, 1, 1, 1]
    assert strata.loc[8, ["recall", "precision"]].tolist() == [0.5, 1]
    assert strata.loc[2, ["recall", "precision"]].tolist() == [0, 0]
    assert np.isnan(strata.loc[2, "boundary_mean"]) and strata.loc[8, "boundary_max"] == 1
    volume = evaluate([("a", np.stack([truth] * 3), np.stack([labels] * 3))], 0.5).strata
    assert volume["truth"].sum() == 3 and volume["found"].sum() == 1


@pytest.mark.parametrize("seed", range(3))
def test_strata_add_up_to_the_pool(seed):
    done = evaluate(cases(3, seed=seed), T)
    sums = done.strata.groupby("threshold")[["truth", "found", "predicted", "right"]].sum()
    pooled = done.pooled.set_index("threshold")
    assert (sums["found"] == pooled["tp"]).all() and (sums["right"] == pooled["tp"]).all()
    assert (sums["truth"] == pooled["tp"] + pooled["fn"]).all()
    assert (sums["predicted"] == pooled["tp"] + pooled["fp"]).all()


def bootstrap_by_hand(a, b, draws, seed):
    """Difference of pooled F1 of images drawn with replacement, one draw at a time."""
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(draws):
        drawn = rng.integers(len(a), size=len(a))
        f1 = []
        for counts in (a, b):
            tp, fp, fn = counts[drawn].sum(axis=0)
            f1.append(2 * tp / (2 * tp + fp + fn))
        differences.append(f1[0] - f1[1])
    return np.array(differences)


def test_the_comparison_is_a_paired_bootstrap_over_images():
    given = cases(20)
    models = {"good": evaluate(given, T), "less": evaluate(worse(given, 0.9), T)}
    table = compare(models)
    row = table[table["threshold"] == 0.5].iloc[0]
    assert (row["a"], row["b"], row["images"], row["draws"], row["seed"]) == (
        "good", "less", 20, 2000, 0,
    )  # fmt: skip
    assert row["difference"] == pytest.approx(row["f1_a"] - row["f1_b"])
    by_hand = bootstrap_by_hand(models["good"].counts[:, 1], models["less"].counts[:, 1], 4000, 3)
    low, high = np.percentile(by_hand, (2.5, 97.5))
    # Monte Carlo error of a 2.5 % point: well below a tenth of the width of the interval.
    assert row["low"] == pytest.approx(low, abs=(high - low) / 10)
    assert row["high"] == pytest.approx(high, abs=(high - low) / 10)
    assert row["a_better"] == pytest.approx((by_hand > 0).mean(), abs=0.03)
    # Unpaired draws would be as wide as the two models' own intervals together.
    pooled = [one.pooled.iloc[1] for one in models.values()]
    assert row["high"] - row["low"] < 0.7 * sum(p["f1_high"] - p["f1_low"] for p in pooled)


def test_the_seed_decides_and_the_order_of_the_models_does_not():
    given = cases(8)
    one, two = evaluate(given, 0.5), evaluate(worse(given, 0.8), 0.5)
    first = compare({"one": one, "two": two}).iloc[0]
    assert first.equals(compare({"one": one, "two": two}).iloc[0])
    turned = compare({"two": two, "one": one}).iloc[0]
    assert turned["difference"] == -first["difference"]
    assert turned["low"] == pytest.approx(-first["high"])
    assert turned["a_better"] == pytest.approx(1 - first["a_better"])
    other = compare({"one": one, "two": two}, seed=1).iloc[0]
    assert other["low"] != first["low"] and other["seed"] == 1


def test_a_model_against_itself_is_a_tie_and_three_models_are_three_pairs():
    given = evaluate(cases(4), (0.5, 0.6))
    table = compare({"a": given, "b": given, "c": given}, draws=300)
    assert len(table) == 6 and set(zip(table["a"], table["b"], strict=True)) == {
        ("a", "b"), ("a", "c"), ("b", "c"),
    }  # fmt: skip
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)
    assert (table["a_better"] == 0.5).all() and (table["draws"] == 300).all()


def test_one_image_has_no_interval():
    [case] = cases(1)
    done = evaluate([case], 0.5)
    assert done.pooled[["f1_low", "f1_high"]].isna().all(axis=None)
    row = compare({"a": done, "b": done}).iloc[0]
    assert row["difference"] == 0 and row[["low", "high", "a_better"]].isna().all()


def test_no_matched_pair_has_no_distance():
    truth = np.zeros((8, 8), int)
    truth[2:5, 2:5] = 1
    done = evaluate([("a", truth, truth * 0)], 0.5)
    assert done.pooled["f1"].item() == 0 and np.isnan(done.pooled["boundary_mean"].item())
    assert np.isnan(done.strata["precision"].item()) and done.strata["recall"].item() == 0


def test_impossible_input_is_refused():
    truth = np.ones((4, 4), int)
    for given, said in (
        ([], "no image"),
        ([("a", truth, truth), ("a", truth, truth)], "two images have the name 'a'"),
        ([("a", truth, truth[:3])], r"a: truth is of shape \(4, 4\)"),
        ([("a", truth * 0, truth)], "no object that counts in any of 1"),
        ([("a", truth, truth, np.zeros((4, 4), bool))], "no object that counts"),
        ([("a", truth[0], truth[0])], "no plane and no volume"),
    ):
        with pytest.raises(InputError, match=said):
            evaluate(given)
    for thresholds in ((), 0, 1.1):
        with pytest.raises(InputError, match="threshold"):
            evaluate([("a", truth, truth)], thresholds)
    one, other = evaluate([("a", truth, truth)]), evaluate([("b", truth, truth)])
    with pytest.raises(InputError, match="different images"):
        compare({"x": one, "y": other})
    with pytest.raises(InputError, match="different images"):
        compare({"x": one, "y": evaluate([("a", truth, truth)], 0.5)})


def test_charts_are_svg_files_with_a_line_and_a_name_per_model():
    given = cases(3)
    models = {"<good> & co": evaluate(given, T), "less": evaluate(worse(given, 0.7), T)}
    chart = f1_chart({name: one.pooled for name, one in models.items()})
    root = ElementTree.fromstring(chart)
    svg = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{svg}svg"
    texts = [text.text for text in root.iter(f"{svg}text")]
    assert {"<good> & co", "less", "0.3", "0.5", "0.6"} <= set(texts)
    assert len(root.findall(f".//{svg}circle")) == 2 * len(T)
    # Lower F1 stands lower: the first line is above the second at every threshold.
    dots = [float(dot.get("cy")) for dot in root.iter(f"{svg}circle")]
    assert all(a < b for a, b in zip(dots[: len(T)], dots[len(T) :], strict=True))
    rows = {name: one.pooled.iloc[1].to_dict() for name, one in models.items()}
    root = ElementTree.fromstring(error_chart(rows, 0.5))
    bars = [float(bar.get("width")) for bar in root.findall(f".//{svg}rect[{svg}title]")]
    assert len(bars) == 8 and bars[1] > bars[0]  # the second model misses more
    assert "missed" in [text.text for text in root.iter(f"{svg}text")]


def test_charts_of_one_threshold_and_of_no_error():
    truth = np.ones((4, 4), int)
    done = evaluate([("a", truth, truth)], 0.5).pooled
    ElementTree.fromstring(f1_chart({"a": done}))
    ElementTree.fromstring(error_chart({"a": done.iloc[0].to_dict()}, 0.5))
