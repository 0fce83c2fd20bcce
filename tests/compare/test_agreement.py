from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion
from stardist.matching import matching

from opsef_bridge.compare import votes
from opsef_bridge.compare.agreement import agreement, pairwise_f1, ranked, score, support, voices
from opsef_bridge.compare.votes import compare_images, image_support
from opsef_bridge.errors import InputError

# The function has the name of its module and hides it.
module = import_module("opsef_bridge.compare.agreement")
ROOT = Path(__file__).parents[2]
COLUMNS = [
    *("agreement", "agreement_07", "plain_mean", "plain_mean_07"),
    *("objects", "families", "rank", "tie", "method"),
]
FAMILIES = ["unet"] * 5 + ["stardist"] * 3 + ["cellpose"] * 3 + ["watershed"]
EMPTY = np.zeros((24, 24), np.int32)


def squares(seed: int, variants: int, side: int = 24) -> list[np.ndarray]:
    """Variants of one image: the same squares, each moved, resized or missed at random."""
    random = np.random.default_rng(seed)
    places = random.integers(0, side - 7, (9, 2))
    images = []
    for _ in range(variants):
        image = np.zeros((side, side), np.int32)
        for number, (y, x) in enumerate(places, 1):
            if random.random() < 0.85:
                dy, dx = random.integers(0, 2, 2)
                height, width = random.integers(4, 8, 2)
                image[y + dy : y + height, x + dx : x + width] = number * 2
        images.append(image)
    return images


# The method of docs/ranking.md once more, straight from the words.

CONSTANTS = json.loads(
    Path(module.__file__).with_name("agreement_constants.json").read_text("utf-8")
)


def iou_of(a, i, b, j) -> float:
    return np.count_nonzero((a == i) & (b == j)) / np.count_nonzero((a == i) | (b == j))


def loop_support(images, families, v, i, level, say=None):
    """s, x, u of object i of variant v over the other families."""
    say = [1] * len(families) if say is None else say
    shares, largest, means = [], [], []
    for name in sorted(set(families) - {families[v]}):
        group = [w for w, f in enumerate(families) if f == name and images[w] is not None]
        if not group:
            continue
        m = [
            max([iou_of(images[v], i, images[w], j) for j in np.unique(images[w]) if j], default=0)
            for w in group
        ]
        weights = [say[w] for w in group]
        shares.append(np.average([value >= level - 1e-9 for value in m], weights=weights))
        largest.append(max(m))
        means.append(np.average(m, weights=weights))
    return tuple(np.mean(part) if part else 0 for part in (shares, largest, means))


def loop_round(project, families, level, say):
    c = CONSTANTS["expected_f1"]
    right, objects = np.zeros(len(families)), np.zeros(len(families))
    for images in project:
        for v, image in enumerate(images):
            if image is None:
                continue
            for i in np.unique(image)[np.unique(image) > 0]:
                s, x, u = loop_support(images, families, v, i, level, say)
                logit = c["intercept"] + c["share"] * s + c["best"] * x + c["mean"] * u
                right[v] += 1 / (1 + np.exp(-logit))
                objects[v] += 1
    n = CONSTANTS["truth_factor"] * right.max()
    return [2 * q / (k + n) if k else 0 for q, k in zip(right, objects, strict=True)]


def loop_expected_f1(project, families, level):
    say = np.ones(len(families))
    for _ in range(2):
        found = loop_round(project, families, 0.5, say)
        lead = [
            max(e for e, other in zip(found, families, strict=True) if other == name)
            for name in families
        ]
        say = np.exp((np.array(found) - lead) / 0.03)
    return loop_round(project, families, level, say)


def loop_plain_mean(project, families, level):
    result = []
    for v in range(len(families)):
        per_family = []
        for name in sorted(set(families)):
            scores = []
            for w, family in enumerate(families):
                if family != name or w == v or all(images[w] is None for images in project):
                    continue
                tp = n = 0
                for images in project:
                    if images[w] is None:
                        continue
                    mine = EMPTY if images[v] is None else images[v]
                    found = matching(mine, images[w], level)
                    tp, n = tp + found.tp, n + found.n_true + found.n_pred
                scores.append(2 * tp / n if n else 0)
            if scores:
                per_family.append(np.mean(scores))
        result.append(np.mean(per_family))
    return result


def check_against_loops(project, families):
    table = agreement(project, families)
    assert table.columns.tolist() == COLUMNS
    assert np.isfinite(table.iloc[:, :4]).all(axis=None)
    for level, end in ((0.5, ""), (0.7, "_07")):
        plain = loop_plain_mean(project, families, level)
        np.testing.assert_allclose(table["plain_mean" + end], plain, atol=1e-12)
        if table.method[0] == "expected-f1":
            expected = loop_expected_f1(project, families, level)
            np.testing.assert_allclose(table["agreement" + end], expected, atol=1e-6)
    return table


def test_expected_f1_is_that_of_a_loop():
    project = [squares(0, 12), squares(1, 12)]
    project[1][3] = EMPTY
    table = check_against_loops(project, FAMILIES)
    assert set(table.method) == {"expected-f1"}
    assert set(table.families) == {4}
    counts = [sum(len(np.unique(images[v])) - 1 for images in project) for v in range(12)]
    assert table.objects.tolist() == counts
    order = table.sort_values("agreement", ascending=False).index
    assert table["rank"][order].tolist() == list(range(1, 13))


def test_failed_variants_miss_objects_but_do_not_vote():
    project = [squares(2, 12), squares(3, 12)]
    project[0][0] = project[0][11] = project[1][6] = None
    table = check_against_loops(project, FAMILIES)
    whole = agreement([squares(2, 12), squares(3, 12)], FAMILIES)
    assert table.agreement[0] < whole.agreement[0]
    # The watershed has no vote in the first image: as if its family did not exist there.
    without = support(project[0][:11], FAMILIES[:11])
    for some, every in zip(without, support(project[0], FAMILIES), strict=False):
        np.testing.assert_allclose(some, every, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    hnp.arrays("u1", (11, 4, 5), elements=st.integers(0, 3)),
    st.integers(0, 1),
    st.lists(st.sampled_from("abc"), min_size=11, max_size=11),
)
def test_noise_scores_as_in_a_loop(images, failed, names):
    variants = [None if v < failed else image for v, image in enumerate(images)]
    table = agreement([variants], names)
    if table.method[0] == "expected-f1":
        expected = loop_expected_f1([variants], names, 0.5)
        np.testing.assert_allclose(table.agreement, expected, atol=1e-6)


def test_the_order_of_variants_and_images_does_not_matter():
    project = [squares(seed, 12) for seed in range(3)]
    table = agreement(project, FAMILIES)
    shuffled = np.random.default_rng(0).permutation(12)
    other = agreement(
        [[images[v] for v in shuffled] for images in project[::-1]],
        [FAMILIES[v] for v in shuffled],
    )
    for column in COLUMNS[:4]:
        np.testing.assert_allclose(other[column], table[column][shuffled], atol=1e-9)
    assert other["rank"].tolist() == table["rank"][shuffled].tolist()


def test_forty_clones_leave_the_support_of_the_others_as_it_was():
    images = squares(4, 12)
    cloned = [*images, *[images[11]] * 40]
    table = agreement([images], FAMILIES)
    flooded = agreement([cloned], FAMILIES + ["watershed"] * 40)
    others = FAMILIES.index("watershed")
    np.testing.assert_allclose(flooded.agreement[:12], table.agreement, atol=1e-6)
    order = table["rank"][:others].argsort()
    assert flooded["rank"][:others].argsort().tolist() == order.tolist()
    for before, after in zip(
        support(images, FAMILIES),
        support(cloned, FAMILIES + ["watershed"] * 40),
        strict=False,
    ):
        np.testing.assert_allclose(after, before, atol=1e-6)
    assert flooded.tie[11:].all()


def test_equal_label_images_are_compared_once(monkeypatch):
    images, calls = squares(5, 3), []
    compare = votes.iou_pairs
    monkeypatch.setattr(votes, "iou_pairs", lambda a, b: calls.append(1) or compare(a, b))
    image_support([*images, *[image.astype(np.uint8) for image in images]], ["a", "b", "c"] * 2)
    assert len(calls) == 3


def test_equal_label_images_of_two_families_support_each_other():
    one, other = squares(6, 2)
    variants, names = [one, one, one, other], ["a", "a", "b", "b"]
    for v, table in enumerate(support(variants, names)):
        expected = [loop_support(variants, names, v, i, 0.5) for i in table.label]
        np.testing.assert_allclose(table[["s", "x", "u"]], expected, atol=1e-6)


def test_one_family_counts_its_own_other_variants():
    images = [*squares(7, 9), *[squares(8, 1)[0]] * 2]
    table = agreement([images], ["unet"] * 11)
    assert set(table.method) == {"one-family"}
    right, objects = np.zeros(11), np.zeros(11)
    for v, image in enumerate(images):
        for i in np.unique(image)[1:]:
            m = [
                max((iou_of(image, i, other, j) for j in np.unique(other)[1:]), default=0)
                for w, other in enumerate(images)
                if w != v
            ]
            right[v] += 1 / (1 + np.exp(2.53 - 7.54 * np.mean(np.array(m) >= 0.5)))
            objects[v] += 1
    np.testing.assert_allclose(table.agreement, 2 * right / (objects + 1.02 * right.max()))
    assert support(images, ["unet"] * 11)[0].q.sum() == pytest.approx(right[0])


def test_a_family_that_failed_everywhere_is_no_second_family():
    images = [*squares(7, 11), None]
    table = agreement([images], ["unet"] * 11 + ["stardist"])
    assert set(table.method) == {"one-family"}
    assert set(table.families) == {1}
    alone = agreement([images[:11]], ["unet"] * 11)
    np.testing.assert_allclose(table.agreement[:11], alone.agreement)
    assert table.agreement[11] == table.plain_mean[11] == 0


def test_few_variants_are_ordered_by_the_plain_mean():
    table = check_against_loops([squares(9, 9)], ["a", "b", "c"] * 3)
    assert set(table.method) == {"plain"}
    assert table.agreement.tolist() == table.plain_mean.tolist()
    assert table.agreement_07.tolist() == table.plain_mean_07.tolist()


@pytest.mark.parametrize("count", [1, 9, 12])
@pytest.mark.parametrize("names", ["a", "abc"])
def test_nothing_anywhere_gives_zeros(count, names):
    families = (list(names) * 12)[:count]
    table = agreement([[EMPTY] * count, [None] * count], families)
    assert (table.iloc[:, :5] == 0).all(axis=None)
    assert table["rank"].tolist() == list(range(1, count + 1))
    assert table.tie.all() == (count > 1)


def test_one_variant_and_no_image():
    table = agreement([squares(0, 1)], ["unet"])
    assert table.agreement.tolist() == [0]
    assert table["rank"].tolist() == [1]
    assert agreement([], ["unet", "stardist"]).objects.tolist() == [0, 0]


def test_an_empty_variant_and_one_giant_object_come_last():
    images = squares(10, 12)
    images[0], images[5] = EMPTY, np.ones_like(EMPTY)
    table = agreement([images], FAMILIES)
    assert table.agreement[0] == 0
    assert set(table["rank"][[0, 5]]) == {11, 12}


def test_eroded_and_merged_objects_rank_behind_the_true_ones():
    paths = sorted((ROOT / "examples/data/labels").glob("*.tif"))[:6]
    assert paths
    project = []
    for path in paths:
        truth = tifffile.imread(path).astype(np.int32)
        inside = np.zeros(truth.shape, bool)
        for value in np.unique(truth)[1:]:
            inside |= binary_erosion(truth == value, iterations=2)
        eroded = np.where(inside, truth, 0)
        merged = (truth + 3) // 4
        shifted = np.roll(truth, 1, axis=0)
        project.append([merged, eroded, truth, *[shifted, truth, eroded, truth] * 2, merged])
    names = ["a", "a", "a", "b", "b", "b", "b", "c", "c", "c", "c", "d"]
    table = agreement(project, names)
    assert table.method[0] == "expected-f1"
    assert table.agreement[2] > table.agreement[1] > table.agreement[0]
    assert table.agreement_07[2] > table.agreement_07[1] > table.agreement_07[0]
    assert table["rank"].idxmin() in (2, 4, 6, 8, 10)


def test_scores_add_up_over_images_made_elsewhere():
    import pickle

    project = [squares(seed, 12) for seed in range(3)]
    parts = [pickle.loads(pickle.dumps(compare_images(images))) for images in project]
    table, supports = ranked(parts, FAMILIES)
    assert table.equals(agreement(project, FAMILIES))
    assert score(supports, FAMILIES).equals(table)


def test_the_leading_variants_are_the_voice_of_their_family():
    good, shifted, noise = squares(11, 1)[0], *squares(12, 2)
    images = [good, good, *[noise] * 6, good, *[shifted] * 5]
    families = ["a", "b", *["b"] * 6, "c", *["c"] * 5]
    equal = score([image_support(images, families)], families)
    table = agreement([images], families)
    assert set(table["rank"][[0, 1, 8]]) == {1, 2, 3}
    # Six variants of noise no longer drown the one of their family that others agree with.
    assert table.agreement[0] > equal.agreement[0] + 0.2
    say = voices(table.agreement.to_numpy(), families)
    assert say[1] == 1 and (say[2:8] < 0.01).all()


def test_voices_of_a_failed_leader_go_to_the_others_of_its_family():
    images = squares(13, 12)
    weights = np.where(np.arange(12) == 0, 1.0, 1e-3)
    missing = [None, *images[1:]]
    alone = image_support(missing, FAMILIES, weights)
    equal = image_support(missing, FAMILIES)
    for some, every in zip(alone.others, equal.others, strict=True):
        np.testing.assert_allclose(some, every, atol=1e-5)


def test_equal_voices_are_no_voices():
    images = squares(14, 12)
    one, same = image_support(images, FAMILIES), image_support(images, FAMILIES, np.full(12, 0.2))
    for a, b in zip([*one.others, *one.own], [*same.others, *same.own], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_pairwise_f1_is_symmetric_and_pooled():
    project = [squares(seed, 4) for seed in range(2)]
    f1 = pairwise_f1([image_support(images, list("abcd")) for images in project], 0.7)
    np.testing.assert_array_equal(f1, f1.T)
    np.testing.assert_array_equal(np.diag(f1), 1)
    found = [matching(images[0], images[1], 0.7) for images in project]
    pooled = sum(m.n_true + m.n_pred for m in found)
    assert f1[0, 1] == 2 * sum(m.tp for m in found) / pooled
    with pytest.raises(InputError, match=r"0\.6"):
        pairwise_f1([], 0.6)


def test_competing_halves_are_matched_once():
    whole, halves = np.array([[1, 1, 0, 5, 7]]), np.array([[1, 2, 0, 3, 3]])
    image = image_support([whole, halves], ["a", "b"])
    assert image.matched[0, 0, 1] == matching(whole, halves, 0.5).tp == 2


def test_support_of_volumes():
    volume = np.stack(squares(1, 3))
    tables = support([volume, volume, volume[::-1]], ["a", "b", "c"])
    assert tables[0].columns.tolist() == ["label", "s", "x", "u", "q"]
    assert tables[0].label.tolist() == np.unique(volume)[1:].tolist()
    assert tables[0].q.between(0, 1).all()


@pytest.mark.parametrize(
    ("labels", "families", "message"),
    [
        ([[EMPTY]], ["a", "b"], "1 variants have 2 families"),
        ([[EMPTY, EMPTY[1:]]], ["a", "b"], r"variant 1 has shape \(23, 24\)"),
        ([[EMPTY * 0.5]], ["a"], "float64"),
    ],
)
def test_what_does_not_fit_is_refused(labels, families, message):
    with pytest.raises(InputError, match=message):
        agreement(labels, families)


def test_the_constants_say_where_they_come_from():
    path = Path(module.__file__).with_name("agreement_constants.json")
    constants = json.loads(path.read_text("utf-8"))
    assert constants["version"] == 2
    assert "dsb2018" in constants["source"]
