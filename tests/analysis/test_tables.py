"""Tables: every column against its definition, on images of every kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.analysis import channel_endings, measured_channels, object_table
from opsef_bridge.config import Config, parse_config
from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.exchange.sources import Subject
from opsef_bridge.images import write_hyperstack
from opsef_bridge.project import ImageEntry, Project
from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.revisions import Base
from opsef_bridge.sweep.importing import import_images

DATA = np.random.default_rng(8).integers(0, 60000, (3, 4, 2, 30, 40), np.uint16)
FIRST = ["label", "area", "centroid_y", "centroid_x", "class", "mean_intensity", "unit"]
ALWAYS = [*FIRST, "image", "group", "parent", "pixel_size_y", "pixel_size_x"]
SHAPES = [
    "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1", "equivalent_diameter", "touches_border", "extent",
    "axis_major_length", "axis_minor_length", "eccentricity", "orientation", "perimeter",
    "circularity", "solidity", "euler_number", "feret_diameter_max", "perimeter_imagej",
    "circularity_imagej", "feret_diameter_min",
]  # fmt: skip
SQUARE_ONLY = ["perimeter", "circularity"]
LABELS = np.zeros((30, 40), np.int32)
LABELS[2:8, 3:9] = 4
LABELS[10:25, 20:39] = 70_000


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "data").mkdir()
    return Project(tmp_path)


def config(more: str = "", analyse: str = "") -> Config:
    return parse_config(
        f"opsef: 1\nimages: {{source: data{more}}}\nmodels: {{m: {{engine: watershed}}}}\n"
        f"analyse: {{{analyse}}}\n"
    )


def imported(project: Project, how: Config) -> ImageEntry:
    return import_images(project, how)[-1]


def table(
    project: Project, how: Config, entry: ImageEntry, labels: np.ndarray = LABELS
) -> pd.DataFrame:
    classes = {4: 3} if (labels == 4).any() else {}
    return object_table(project, how, Subject(entry, Objects(labels, classes), Base()))


def live(project: Project, **more: object) -> None:
    write_hyperstack(
        project.root / "data" / "live.tif", DATA, "TZCYX", spacing=(2, 0.5, 0.25), unit="um",
        time_step=30.0, channels=["DAPI", "Alexa 488"], **more,
    )  # fmt: skip


def test_an_image_that_says_nothing_is_measured_in_pixels(project):
    tifffile.imwrite(project.root / "data" / "a.tif", DATA[0, 0, 0])
    how = config()
    found = table(project, how, imported(project, how))
    assert list(found)[: len(ALWAYS)] == ALWAYS
    assert sorted(list(found)[len(ALWAYS) :]) == sorted(SHAPES)
    assert found["area"].tolist() == [36, 285] and found["area"].dtype == np.int64
    assert found["label"].tolist() == [4, 70_000] and found["class"].tolist() == [3, 0]
    assert found["centroid_y"].tolist() == [4.5, 17.0]
    assert found["mean_intensity"][0] == pytest.approx(DATA[0, 0, 0, 2:8, 3:9].mean())
    assert set(found["unit"]) == {"pixel"} and set(found["pixel_size_x"]) == {1.0}
    assert set(found["image"]) == {"i00001-a"} and set(found["parent"]) == {""}


def test_a_time_point_has_its_time_units_and_named_channels(project):
    live(project)
    statistics = ("mean", "min", "max", "sum", "std")
    how = config(
        ", times: [1, 2], projection: max, measure: {channels: all}",
        f"properties: [], intensities: [{', '.join(statistics)}]",
    )
    entry = replace(imported(project, how), more={"plate": "P1", "time": "0002", "area": "left"})
    found = table(project, how, entry)
    assert list(found) == [
        *ALWAYS, "time_point", "time",
        *(f"intensity_{s}_{name}" for name in ("DAPI", "Alexa_488") for s in statistics),
        "plate", "index_time", "index_area",
    ]  # fmt: skip
    assert set(found["time_point"]) == {2} and set(found["time"]) == {60.0}
    assert set(found["parent"]) == {"data/live.tif"} and set(found["unit"]) == {"um"}
    assert found["area"].tolist() == [36 * 0.125, 285 * 0.125]
    assert found["centroid_x"].tolist() == [5.5 * 0.25, 29 * 0.25]
    assert set(found["pixel_size_y"]) == {0.5} and set(found["pixel_size_x"]) == {0.25}
    for number, name in enumerate(("DAPI", "Alexa_488")):
        inside = DATA[2, :, number].max(axis=0)[LABELS == 70_000].astype(float)
        for s in statistics:
            expected = getattr(inside, s)()
            assert found[f"intensity_{s}_{name}"][1] == pytest.approx(expected), (s, name)
    assert found["mean_intensity"].equals(found["intensity_mean_DAPI"])
    assert set(found["index_time"]) == {"0002"} and set(found["index_area"]) == {"left"}


def test_a_substack_and_a_crop_say_where_they_begin(project):
    live(project)
    how = config(", times: [1], substacks: {size: 2}, measure: {channels: [1]}")
    entry = imported(project, how)  # the planes 2 and 3
    project.write_images([replace(entry, crop="z=3:4 y=5:25 x=10:40")])
    [entry, *_] = [e for e in import_images(project, how) if e.crop]
    labels = LABELS[5:25, 10:40]
    found = table(project, how, entry, labels)
    assert [found[name][0] for name in ("z_from", "y_from", "x_from")] == [3, 5, 10]
    inside = DATA[1, 3, 1, 5:25, 10:40][labels == 70_000]
    assert found["intensity_mean_Alexa_488"].iloc[-1] == pytest.approx(inside.mean())
    assert found["centroid_y"].iloc[-1] == (17.0 - 5) * 0.5
    with pytest.raises(InputError, match="shape"):
        table(project, how, entry, LABELS)


def test_a_volume_is_measured_in_all_three_directions(project):
    live(project)
    how = config(", times: [0]")
    labels = np.stack([LABELS, LABELS, 0 * LABELS, 0 * LABELS])
    found = table(project, how, imported(project, how), labels)
    assert list(found)[:5] == ["label", "area", "centroid_z", "centroid_y", "centroid_x"]
    assert found["area"].tolist() == [2 * 36 * 0.25, 2 * 285 * 0.25]
    assert set(found["centroid_z"]) == {0.5 * 2.0} and set(found["pixel_size_z"]) == {2.0}


def test_a_pixel_size_along_some_axes_only_is_none(project):
    """Else a volume without a distance of planes had areas in square micrometres x planes."""
    live(project)
    how = config(", times: [0]")
    entry = replace(imported(project, how), pixel_size_z=0.0)
    labels = np.stack([LABELS] * 4)
    found = table(project, how, entry, labels)
    assert set(found["unit"]) == {"pixel"} and found["area"].tolist() == [4 * 36, 4 * 285]
    flat = table(project, config(", times: [0], projection: max"), entry)
    assert set(flat["unit"]) == {"um"}, "a plane needs no distance of planes"


@pytest.mark.parametrize("calibrated", [False, True])
def test_without_an_object_columns_and_dtypes_are_the_same(project, calibrated):
    live(project)
    how = config(", times: [0], projection: mean, measure: {channels: [DAPI, 1]}")
    entry = replace(imported(project, how), more={"well": "B03"})
    entry = entry if calibrated else replace(entry, pixel_size_x=0.0)
    some, none = (table(project, how, entry, labels) for labels in (LABELS, 0 * LABELS))
    assert len(none) == 0 and dict(none.dtypes) == dict(some.dtypes)


def test_a_channel_that_is_not_there(project):
    live(project)
    entry = imported(project, config(", times: [0], projection: max"))
    for wanted in ("[RFP]", "[0, 2]", "['7']", "[dapi]"):
        how = config(f", times: [0], projection: max, measure: {{channels: {wanted}}}")
        with pytest.raises(ImageError, match=r"i00001-live-t000 .* no channel") as caught:
            table(project, how, entry)
        assert "It has 0 (DAPI), 1 (Alexa 488)." in str(caught.value)


def test_a_file_that_is_gone_is_that_and_no_missing_channel(project):
    live(project)
    entry = imported(project, config(", times: [0]"))
    (project.root / "data" / "live.tif").unlink()
    how = config(", times: [0], measure: {channels: [5]}")
    with pytest.raises(ImageError, match=r"live\.tif"):
        table(project, how, replace(entry, axes="", shape=()))


def test_colours_are_red_green_and_blue_if_they_are_asked_for(project):
    colour = np.random.default_rng(2).integers(0, 255, (30, 40, 3), np.uint8)
    tifffile.imwrite(project.root / "data" / "he.tif", colour, photometric="rgb")
    how = config()
    entry = imported(project, how)
    assert not [name for name in table(project, how, entry) if name.startswith("intensity")]
    found = table(project, config(", measure: {channels: [2, green, green]}"), entry)
    means = [name for name in found if name.startswith("intensity_mean")]
    assert means == ["intensity_mean_blue", "intensity_mean_green"]
    inside = colour[LABELS == 4]
    assert found["intensity_mean_blue"][0] == pytest.approx(inside[:, 2].mean())
    luminance = inside @ [0.2125, 0.7154, 0.0721]
    assert found["mean_intensity"][0] == pytest.approx(luminance.mean(), abs=0.5)


def test_the_segmented_channel_may_be_another_than_the_measured(project):
    live(project)
    how = config(", times: [0], projection: sum, segment: {channel: 1}, measure: {channels: 0}")
    found = table(project, how, imported(project, how))
    flat = DATA[0].sum(axis=0, dtype=np.int64)
    assert found["mean_intensity"][0] == pytest.approx(flat[1][LABELS == 4].mean())
    assert found["intensity_sum_DAPI"][0] == flat[0][LABELS == 4].sum()
    assert "intensity_sum_Alexa_488" not in found


def test_a_name_comes_before_a_number():
    entry = ImageEntry("i00001-a", "a.tif", axes="CYX", shape=(3, 9, 9), channels="405|1|")
    assert measured_channels(entry, ["405", "1", 2, "0"]) == [0, 1, 2]
    assert measured_channels(replace(entry, channels=""), ["1", 1, 0]) == [1, 0]
    for wanted in (405, "two", "-1", "\N{SUPERSCRIPT TWO}"):
        with pytest.raises(ImageError, match="no channel"):
            measured_channels(entry, [wanted])


@given(st.lists(st.text(max_size=4) | st.sampled_from(["GFP", "0", "1", "a b", "a.b"]), max_size=6))
def test_columns_of_channels_differ_whatever_their_names(names):
    endings = channel_endings(names, len(names))
    assert len(set(endings)) == len(names)
    assert all(
        ending == "".join(c for c in ending if c.isalnum() or c == "_") for ending in endings
    )
    assert all(endings)


def test_a_column_means_the_same_in_every_table(project):
    """That of an image that is no time point holds no text under the name of the seconds."""
    tifffile.imwrite(project.root / "data" / "a.tif", DATA[0, 0, 0])
    how = config(analyse="properties: [perimeter]")
    more = {"time": "0001", "index_time": "x", "pixel_size_z": "2", "intensity_mean_GFP": "?"}
    more |= {"perimeter": "a", "solidity": "b", "ratio_a_b": "c", "run": "d"}
    found = table(project, how, replace(imported(project, how), more=more))
    assert list(found)[len(ALWAYS) :] == [
        "perimeter",
        "index_time", "index_index_time", "index_pixel_size_z", "index_intensity_mean_GFP",
        "index_perimeter", "index_solidity", "index_ratio_a_b", "index_run",
    ]  # fmt: skip
    assert found["index_time"][0] == "0001" and found["index_index_time"][0] == "x"


def test_lengths_are_in_the_unit_and_what_needs_square_pixels_is_not_made_up(project):
    live(project)  # 0.5 x 0.25 um
    how = config(", times: [0], projection: max")
    entry = imported(project, how)
    found = table(project, how, entry)
    assert found[SQUARE_ONLY].isna().all(axis=None)
    assert found["feret_diameter_max"][0] == pytest.approx(np.hypot(6 * 0.5, 6 * 0.25), rel=0.1)
    square = table(project, how, replace(entry, pixel_size_y=0.25))
    assert square["perimeter"][0] == pytest.approx(20 * 0.25)
    assert sorted(found) == sorted(square)


def test_a_background_is_taken_off_and_ratios_are_without_it(project):
    live(project)
    how = config(
        ", times: [0], projection: max, measure: {channels: [DAPI]}",
        "properties: [], intensities: [sum, median, p5], background: 20, "
        "ratios: [[Alexa 488, 0], [1, DAPI]]",
    )
    found = table(project, how, imported(project, how))
    flat = DATA[0].max(axis=0).astype(float)
    level = [np.percentile(channel[LABELS == 0], 20) for channel in flat]
    inside = [channel[LABELS == 70_000] for channel in flat]
    expected = {
        "background_DAPI": level[0],
        "intensity_p5_DAPI": np.percentile(inside[0], 5),
        "intensity_median_corrected_DAPI": np.median(inside[0]) - level[0],
        "intensity_mean_corrected_Alexa_488": inside[1].mean() - level[1],
        "intensity_p5_corrected_DAPI": np.percentile(inside[0], 5) - level[0],
        "mean_intensity_background": level[0],
        "mean_intensity_corrected": inside[0].mean() - level[0],
        "intensity_sum_corrected_DAPI": inside[0].sum() - level[0] * 285,
        "ratio_Alexa_488_DAPI": (inside[1].mean() - level[1]) / (inside[0].mean() - level[0]),
    }
    for name, value in expected.items():
        assert found[name][1] == pytest.approx(value), name
    plain = table(project, how.model_copy(update={"analyse": config(
        analyse="properties: [], ratios: [[1, 0]]").analyse}), imported(project, how))  # fmt: skip
    assert plain["ratio_Alexa_488_DAPI"][1] == pytest.approx(inside[1].mean() / inside[0].mean())
    assert not [name for name in plain if "corrected" in name or "background" in name]


def test_the_background_of_a_crop_is_that_of_the_crop(project):
    live(project)
    how = config(
        ", times: [0], projection: max, measure: {channels: [Alexa 488]}",
        "properties: [], intensities: [std, max], background: 50",
    )
    subject = Subject(imported(project, how), Objects(LABELS, {}), Base(box=(1, 2, 12, 15)))
    found = object_table(project, how, subject)
    flat, seen = DATA[0].max(axis=0).astype(float), np.s_[1:13, 2:17]
    first, second = (np.median(one[seen][LABELS[seen] == 0]) for one in flat)
    assert set(found["mean_intensity_background"]) == {first}
    assert set(found["background_Alexa_488"]) == {second}
    highest = flat[1][LABELS == 4].max()
    assert found["intensity_max_corrected_Alexa_488"][0] == highest - second
    assert "intensity_std_corrected_Alexa_488" not in found


def test_a_ratio_of_a_channel_that_is_not_there(project):
    live(project)
    how = config(", times: [0], projection: max", "ratios: [[DAPI, RFP]]")
    with pytest.raises(ImageError, match="no channel 'RFP'"):
        table(project, how, imported(project, how))


def test_neighbours_are_counted_in_the_unit_of_the_image(project):
    live(project)
    how = config(", times: [0], projection: max", "neighbours: 9, properties: []")
    found = table(project, how, imported(project, how))
    apart = np.hypot((17.0 - 4.5) * 0.5, (29.0 - 5.5) * 0.25)
    assert found["nearest_distance"].tolist() == [pytest.approx(apart)] * 2
    assert found["neighbours_within"].tolist() == [1, 1] and apart < 9
    assert found["touching"].tolist() == [0, 0]
