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


def scored(id_: str, found: list[tuple[int, int, int]], kinds="ab", **more) -> Scored:
    """A network that has these tp, fp, fn in every image, whatever the threshold."""
    one = Network(id_, "u", "unet", "d0001", "c", **{"images": ("x", "y"), **more})
    counts = np.array([[[*row, 1, 2]] * len(THRESHOLDS) for row in found])
    names = [f"i{n}" for n in range(len(found))]
    return Scored(
        one,
        {"test": counts, "train": counts[:1]},
        {"test": names, "train": ["t0"]},
        {"test": list(kinds), "train": ["a"]},
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
