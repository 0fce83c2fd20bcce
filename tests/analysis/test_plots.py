"""Plots: what is in them, read from the figures and the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from opsef_bridge.analysis.plots import (
    MOST_POINTS,
    box_plot,
    histogram,
    plate_map,
    save_figure,
    scatter,
)
from opsef_bridge.errors import InputError

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "image": [f"i{n % 5}" for n in range(200)],
        "area": RNG.gamma(3, 40, 200),
        "solidity": RNG.random(200),
        "class": [n % 3 for n in range(200)],
        "drug": [["", "none", "taxol"][n % 3] for n in range(200)],
        "yes": [n % 2 == 0 for n in range(200)],
    }
)


def test_a_scatter_plot_holds_every_object_in_the_colour_of_its_kind():
    table = TABLE.copy()
    table.loc[3, "area"] = np.nan
    [axes] = scatter(table, "area", "solidity", "class").axes
    drawn = {part.get_label(): np.asarray(part.get_offsets()) for part in axes.collections}
    assert list(drawn) == ["none", "1", "2"]
    assert sum(map(len, drawn.values())) == 199
    of_one = table[(table["class"] == 1) & table["area"].notna()]
    np.testing.assert_allclose(drawn["1"], of_one[["area", "solidity"]])
    colours = [tuple(part.get_facecolor()[0][:3]) for part in axes.collections]
    assert len(set(colours)) == 3
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("area", "solidity")


def test_many_clusters_look_different_each():
    many = pd.DataFrame({"x": np.arange(40.0), "y": 0.0, "cluster": np.arange(40) % 20 + 1})
    [axes] = scatter(many, "x", "y", "cluster").axes
    looks = {
        (tuple(part.get_facecolor()[0]), part.get_paths()[0].vertices.tobytes())
        for part in axes.collections
    }
    assert len(axes.collections) == len(looks) == 20
    [axes] = histogram(many, "x", "cluster").axes
    lines = {(patch.get_edgecolor(), patch.get_linestyle()) for patch in axes.patches}
    assert len(axes.patches) == len(lines) == 20


def test_of_a_million_objects_a_sample_is_drawn_and_the_title_says_so():
    many = pd.DataFrame({"x": np.arange(MOST_POINTS + 1.0), "y": 0.0})
    [axes] = scatter(many, "x", "y", title="all").axes
    assert sum(len(part.get_offsets()) for part in axes.collections) == MOST_POINTS
    assert axes.get_title() == "all; 50,000 of 50,001 objects"


def test_a_histogram_counts_every_object():
    [axes] = histogram(TABLE, "area", unit="um^2").axes
    assert sum(bar.get_height() for bar in axes.patches) == 200
    assert axes.get_xlabel() == "area (um^2)"
    [axes] = histogram(TABLE, "area", "drug").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["none", "none", "taxol"]


def test_boxes_hold_the_middle_half_and_a_dot_stands_for_an_image():
    [axes] = box_plot(TABLE, "area", "drug").axes
    names = [text.get_text().split("\n") for text in axes.get_xticklabels()]
    counts = TABLE.groupby("drug").size()
    assert names == [["none", str(counts[""])], ["none", str(counts["none"])],
                     ["taxol", str(counts["taxol"])]]  # fmt: skip
    taxol = TABLE[TABLE["drug"] == "taxol"]
    low, high = np.percentile(taxol["area"], [25, 75])
    heights = axes.patches[2].get_path().vertices[:, 1]
    assert heights.min() == pytest.approx(low) and heights.max() == pytest.approx(high)
    dots = np.asarray(axes.collections[-1].get_offsets())[:, 1]
    np.testing.assert_allclose(dots, taxol.groupby("image")["area"].median())


def test_a_dose_of_0_is_a_kind_as_any_other():
    table = TABLE.assign(dose=[[10.0, 2.0, 0.0, np.nan][n % 4] for n in range(200)])
    parts = [text.get_text().split("\n")[0] for text in
             box_plot(table, "area", "dose").axes[0].get_xticklabels()]  # fmt: skip
    assert parts == ["none", "0", "2", "10"]
    [axes] = scatter(table, "area", "solidity", "dose").axes
    looks = {part.get_label(): tuple(part.get_facecolor()[0][:3]) for part in axes.collections}
    assert looks["none"] == pytest.approx((154 / 255,) * 3) and len(set(looks.values())) == 4
    named = box_plot(table.assign(dose=table["dose"].astype(str)), "area", "dose").axes[0]
    assert "none" not in [text.get_text().split("\n")[0] for text in named.get_xticklabels()]


def test_violins_of_kinds_that_do_not_vary_are_boxes():
    flat = TABLE.assign(area=1.0)
    assert box_plot(TABLE, "area", "drug", violin=True).axes[0].collections
    assert len(box_plot(flat, "area", "drug", violin=True).axes[0].patches) == 3


def test_a_plate_shows_each_well_in_its_place():
    grid = np.full((8, 12), np.nan)
    grid[1, 2] = 7
    figure = plate_map(grid, "objects")
    shown = figure.axes[0].images[0].get_array()
    assert shown[1, 2] == 7 and shown.mask.sum() == 95
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == list("ABCDEFGH")
    assert plate_map(np.ones((32, 48))).axes[0].get_yticklabels()[31].get_text() == "AF"


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_table_gives_the_same_file(tmp_path, kind):
    files = [
        save_figure(scatter(TABLE, "area", "solidity", "class"), tmp_path / f"{n}.{kind}")
        for n in (1, 2)
    ]
    one, two = (file.read_bytes() for file in files)
    if kind == "svg":  # names of clip paths are drawn at random
        assert b">solidity</text>" in one and len(one) == len(two)
    else:
        assert one == two
    if kind == "png":
        assert Image.open(files[0]).info["dpi"][0] == pytest.approx(200, abs=0.1)


def test_a_table_without_objects_gives_empty_plots():
    none = TABLE[:0]
    for figure in (scatter(none, "area", "solidity", "class"), histogram(none, "area", "drug"),
                   box_plot(none, "area", "drug")):  # fmt: skip
        assert not [part for part in figure.axes[0].collections if len(part.get_offsets())]


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda: scatter(TABLE, "area", "no"), "no column 'no'"),
        (lambda: scatter(TABLE, "area", "drug"), "no numbers"),
        (lambda: scatter(TABLE, "area", "solidity", "no"), "no column 'no'"),
        (lambda: histogram(TABLE, "image"), "no numbers"),
        (lambda: box_plot(TABLE, "area", "solidity"), "200 values, the limit is 40"),
        (lambda: save_figure(histogram(TABLE, "area"), Path("plot.docx")), "no kind of plot"),
    ],
)
def test_plots_that_cannot_be_are_refused(draw, told):
    with pytest.raises(InputError, match=told):
        draw()
