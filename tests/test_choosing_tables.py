"""The tables of what the consensus and the refinement gain hold the figures they are given."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "tools" / "choosing_tables.py"


@pytest.fixture
def tables():
    spec = importlib.util.spec_from_file_location("choosing_tables", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def choices(start):
    names = ("first", "best", "consensus", "head")
    return {name: [start + 0.01 * n, start + 0.01 * n - 0.1] for n, name in enumerate(names)}


def cells(table):
    """The cells of a table by the first of each row, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in split}) == 1
    return split[0], {row[0]: row[1:] for row in split[2:]}


def test_the_consensus_stands_beside_the_first_and_the_best(tables):
    modes = ("full", "random", "inflated", "mostwrong", "onegood", "twofam")
    figures = {
        "projects": 12, "images": 7, "variants": 30,
        "chosen": {"small": [0.4, 0.25], "U2OS": [0.5, 0.1]},
        "settings": [{"supported": 0.4, "overlap": 0.25, "f1": [0.9, 0.8]}],
        "by_group": {"small": choices(0.5), "U2OS": choices(0.6)},
        "by_mode": {mode: choices(0.7) for mode in modes},
        "mean": choices(0.8),
        "more_than": {
            name: [[0.0123, -0.0045, 0.0234], [0.01, 0.0, 0.02]]
            for name in ("first", "best", "head")
        },
        "worse_by_.02": [0.25, 0.5], "better_by_.02": [0.5, 0.5],
        "unlike": [{"set": "tissue", "images": 3, **choices(0.2)}],
    }  # fmt: skip
    made = tables.consensus_tables({"consensus": figures})
    head, rows = cells(made["groups"])
    assert rows["small"][head.index("first by agreement") - 1] == "0.500 / 0.400"
    assert rows["U2OS"][head.index("**consensus**") - 1] == "0.620 / 0.520"
    assert rows["all"][head.index("truly best variant") - 1] == "0.810 / 0.710"
    said = made["groups"].splitlines()[-1]
    assert "12 random projects of 7 images and 30 variants" in said
    assert "the first variant 0.0123 (-0.0045 to 0.0234) at IoU 0.5" in said
    assert "50 % of the projects, and worse in 25 %" in said and "U2OS 0.5 and 0.1" in said
    assert len(cells(made["kinds"])[1]) == 6
    assert cells(made["settings"])[1] == {"0.4": ["0.25", "0.900", "0.800"]}
    assert cells(made["unlike"])[1]["tissue"][:2] == ["3", "0.220 / 0.120"]


def test_the_search_stands_beside_chance(tables):
    def one(group, by, now):
        return {
            "group": group, "by": by, "seed": 0, "passes": 40, "seconds": 30.4,
            "first": [0.8, 0.7], "before": [0.82, 0.72], "now": [now, now - 0.1],
            "best_before": [0.85, 0.75], "best": [0.95, 0.85], "objective": [0.9, 0.9 + now / 10],
        }  # fmt: skip

    projects = [one("small", "search", 0.9), one("small", "chance", 0.8)]
    projects += [one("large", by, now) for by in ("search", "chance") for now in (0.5, 0.7)]
    figures = {"trials": 8, "passes": 40, "images": 4, "crop": 64, "seeds": 1, "projects": projects}
    made = tables.refine_tables({"refine": figures})["gain"]
    head, rows = cells(made)
    search, chance = head.index("`opsef sweep refine`") - 1, head.index("by chance") - 1
    assert rows["small"][search] == "0.900 / 0.800"
    assert rows["large"][chance] == "0.600 / 0.500"  # the mean of two searches
    assert rows["all"][search] == "0.700 / 0.600"
    assert "the objective grew by 0.070, 40 passes and 30 s of one core; by chance" in made
