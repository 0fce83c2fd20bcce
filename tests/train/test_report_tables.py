"""Tables and page of a training, from counts that are known."""

from __future__ import annotations

import numpy as np
import pytest

from opsef_bridge.compare.evaluate import THRESHOLDS
from opsef_bridge.train.networks import Network, TrainPlan
from opsef_bridge.train.report import Bench, Page, render
from opsef_bridge.train.report_tables import (
    Scored,
    axis_rows,
    difference_rows,
    image_rows,
    network_rows,
)

EVIL = "<b onclick=x>"


def scored(id_: str, found: list[tuple[int, int, int]], kinds="ab", fields=None, **more) -> Scored:
    """A network that has these tp, fp, fn in every image, whatever the threshold."""
    one = Network(id_, "u", "unet", "d0001", "c", **{"images": ("x", "y"), **more})
    counts = np.array([[[*row, 1, 2]] * len(THRESHOLDS) for row in found])
    names = [f"i{n}" for n in range(len(found))]
    return Scored(
        one,
        {"test": counts, "train": counts[:1]},
        {"test": names, "train": ["t0"]},
        {"test": list(kinds), "train": ["a"]},
        {"test": fields or names, "train": ["t0"]},
        {"test": ["ok"] * len(names), "train": ["ok"]},
        {"test": [1.0] * len(names), "train": [1.0]},
    )


BASE = scored("n0001", [(4, 4, 4), (4, 4, 4)], trained=False, weights="nuclei-unet")
GOOD = scored("n0002", [(8, 0, 0), (6, 2, 2)], weights="nuclei-unet", augmentation="zaki")
POOR = scored("n0003", [(0, 8, 8), (8, 0, 0)], seed=1)


def test_f1_is_over_the_pool_of_all_objects_and_by_kind():
    rows = {(row["split"], row["kind"]): row for row in network_rows([GOOD])}
    assert rows["test", ""]["f1_0.7"] == pytest.approx(2 * 14 / (2 * 14 + 4), abs=1e-4)
    assert rows["test", "a"]["f1_0.7"] == 1 and rows["test", "b"]["f1_0.7"] == 0.75
    assert rows["test", "a"]["low_0.7"] == ""  # one image says nothing of others
    assert rows["test", ""]["low_0.9"] == 0.75 and rows["test", ""]["high_0.9"] == 1
    whole = rows["test", ""]
    assert [whole[name] for name in ("tp", "fp", "fn", "splits", "merges")] == [14, 2, 2, 2, 4]
    assert (whole["objects"], whole["images"], whole["learned_from"]) == (16, 2, "2 (all)")


def test_intervals_are_over_fields_not_over_their_tiles():
    """Two fields of two equal tiles each say no more than two images."""
    tiles = [(8, 0, 0), (8, 0, 0), (6, 2, 2), (6, 2, 2)]
    (row,) = [
        row for row in network_rows([scored("n0001", tiles, "aaaa", ["f", "f", "g", "g"])])
        if (row["split"], row["kind"]) == ("test", "")
    ]  # fmt: skip
    assert (row["images"], row["fields"], row["f1_0.7"]) == (4, 2, 0.875)
    assert (row["low_0.7"], row["high_0.7"]) == (0.75, 1)
    alone = next(network_rows([scored("n0001", tiles, "aaaa", ["f"] * 4)]))
    assert (alone["images"], alone["fields"], alone["low_0.7"]) == (4, 1, "")
    base = scored("n0001", [(4, 4, 4)] * 4, "aaaa", ["f", "f", "g", "g"], trained=False)
    gains = next(difference_rows([base, scored("n0002", tiles, "aaaa", ["f", "f", "g", "g"])]))
    assert (gains["images"], gains["fields"], gains["low"], gains["high"]) == (4, 2, 0.25, 0.5)


def test_where_nothing_is_to_be_found_and_nothing_is_there_is_no_f1():
    """Finding nothing there is right; it must not count as a field of F1 0."""
    good = scored("n0001", [(8, 0, 0), (0, 0, 0)], "ab")
    bad = scored("n0002", [(8, 0, 0), (0, 3, 0)], "ab")
    rows = {
        (row["network"], row["kind"]): row
        for row in network_rows([good, bad]) if row["split"] == "test"
    }  # fmt: skip
    assert rows["n0001", "b"]["f1_0.7"] == "" and rows["n0002", "b"]["f1_0.7"] == 0
    assert [rows["n0001", ""][name] for name in ("f1_0.7", "low_0.7", "high_0.7")] == [1, 1, 1]
    assert rows["n0002", ""]["low_0.7"] == 0
    told = [row["f1"] for row in image_rows([good]) if row["image"] == "i1"]
    assert told == [""] * len(THRESHOLDS)
    page = page_of([good, bad])
    assert page.count('<td class="number">-</td>') >= 3


def test_a_network_that_finds_nothing_and_one_test_image():
    none = scored("n0001", [(0, 0, 5)], "a", trained=False)
    some = scored("n0002", [(5, 0, 0)], "a")
    rows = {row["network"]: row for row in network_rows([none, some]) if row["split"] == "test"}
    assert rows["n0001"]["f1_0.7"] == 0 and rows["n0001"]["low_0.7"] == ""
    (row, *_) = difference_rows([none, some])
    assert (row["difference"], row["low"], row["high"], row["better"]) == (1, "", "", "")
    assert "1.000" in page_of([none, some])


def test_failed_images_do_not_count_as_fast(monkeypatch):
    slow = scored("n0001", [(8, 0, 0), (0, 0, 8), (0, 0, 8)], "aaa", trained=False)
    slow.seconds["test"][:] = [3.25, 0.0, 0.0]
    slow.status["test"][:] = ["ok", "failed", "failed"]
    assert ">3.25<" in page_of([slow])


def page_of(scored_: list[Scored]) -> str:
    names = scored_[0].images["test"]
    samples = [{"name": name, "kind": "a", "split": "test", "objects": 8} for name in names]
    split = {"by": "image", "seed": 0, "test_from": None}
    card = {"id": "d0001", "split": split, "samples": samples}
    plan = TrainPlan("k", "grid", tuple(one.network for one in scored_))
    return render(
        Page(
            "p", "train-0001", plan, [Bench("k", card, ("d0001",), scored_)],
            list(network_rows(scored_)), list(difference_rows(scored_)), axis_rows(scored_), {},
            {}, [],
        )
    )  # fmt: skip


def test_a_row_for_every_image_and_threshold():
    rows = list(image_rows([GOOD]))
    assert len(rows) == 3 * len(THRESHOLDS)
    assert {row["f1"] for row in rows if row["image"] == "i1"} == {0.75}


def test_gains_are_paired_over_the_same_fields():
    rows = {(row["network"], row["threshold"]): row for row in difference_rows([BASE, GOOD, POOR])}
    good, poor = rows["n0002", 0.7], rows["n0003", 0.7]
    assert good["difference"] == pytest.approx(0.875 - 0.5) and good["parent"] == "yes"
    assert good["low"] > 0 and good["better"] == 1
    assert poor["low"] < 0 < poor["high"] and poor["parent"] == "no"


def test_networks_of_other_fields_are_not_compared():
    other = scored("n0004", [(1, 1, 1)], kinds="a")
    assert list(difference_rows([BASE, other])) == []


def test_the_axis_that_matters_most_comes_first():
    same = scored("n0004", [(8, 0, 0), (6, 2, 2)], augmentation="zaki", weights="nuclei-unet",
                  settings={"width": 8})  # fmt: skip
    rows = axis_rows([BASE, GOOD, POOR, same])
    assert rows[0]["spread_0.7"] == pytest.approx(0.875 - 0.5)
    by = {(row["axis"], row["value"]): row for row in rows}
    assert by["augmentation", "zaki"]["f1_0.7"] == 0.875
    assert by["augmentation", "zaki"]["networks"] == 2
    assert by["network", "u"]["f1_0.7"] == pytest.approx((0.875 + 0.5) / 2, abs=1e-4)
    assert not any(row["axis"] in ("cycles", "order", "images") for row in rows)


def test_what_a_person_named_is_text_on_the_page():
    evil = scored("n0002", [(8, 0, 0), (6, 2, 2)], kinds=[EVIL, "b"], name=EVIL)
    sample = {"name": EVIL, "kind": EVIL, "split": "test", "objects": 8}
    card = {"id": EVIL, "split": {"by": EVIL, "seed": 0, "test_from": EVIL}, "samples": [sample]}
    mine = [BASE, evil]
    plan = TrainPlan("k", "grid", tuple(one.network for one in mine))
    page = Page(
        EVIL, "train-0001", plan, [Bench("k", card, (EVIL,), mine)], list(network_rows(mine)),
        list(difference_rows(mine)), [], {}, {}, [EVIL],
    )  # fmt: skip
    text = render(page)
    assert EVIL not in text and text.count("&lt;b onclick=x&gt;") >= 8
    assert "<script" not in text and "default-src 'none'" in text
