"""The project folder: the index as people edit it, runs in their order, what is missing."""

from __future__ import annotations

import codecs
import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from opsef_bridge.errors import NotFoundError, ProjectError
from opsef_bridge.files import write_json
from opsef_bridge.images import write_labels
from opsef_bridge.project import ImageEntry, Project, read_csv, read_csv_lines, write_csv

ENTRIES = [
    ImageEntry(
        "i00001-a-1", "data/ä 1; x, \"y\".tif", 0, "ab12", 1234, 1753000000.123456, "ZYX",
        (5, 40, 30), 0.1, 0.1, 0.5, "um", "small", "", True, {"dose": "1,5", "Färbung": "blau"},
    ),
    ImageEntry("i00002-b", "/mnt/b.png", include=False, more={"dose": "", "Färbung": "x\ny"}),
]  # fmt: skip


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_the_index_comes_back_as_it_was_with_the_users_columns(project):
    project.write_images(ENTRIES)
    assert project.images() == ENTRIES
    project.write_images(project.images())
    assert project.images() == ENTRIES
    assert project.image("i00002-b") == ENTRIES[1]


def test_columns_that_only_some_rows_have(project):
    project.write_images([ENTRIES[0], ImageEntry("i00003-c", "c.tif")])
    assert project.images()[1].more == {"dose": "", "Färbung": ""}


def add_run(project: Project, name: str) -> None:
    write_json(project.runs_folder / name / "plan.json", {})


def as_excel_saves_it(project, encoding: str, change=lambda text: text) -> None:
    """Semicolons, CRLF, decimal commas, upper case truth, empty cells at the end."""
    rows = read_csv(project.index_file)
    columns = list(rows[0])
    lines = [";".join(columns) + ";;"]
    for row in rows:
        row["pixel_size_x"] = row["pixel_size_x"].replace(".", ",")
        row["include"] = {"yes": "TRUE", "no": "FALSE"}[row["include"]]
        lines.append(";".join(row[c] for c in columns) + ";;")
    lines.append(";" * (len(columns) + 1))
    project.index_file.write_bytes(change("\r\n".join(lines)).encode(encoding))


def test_an_index_that_went_through_excel(project):
    entries = [replace(ENTRIES[0], source="a.tif"), replace(ENTRIES[1], more={"dose": "x"})]
    project.write_images(entries)
    as_excel_saves_it(project, "utf-8-sig")
    first, second = project.images()
    assert first == replace(entries[0])
    assert (second.include, second.more) == (False, {"dose": "x", "Färbung": ""})


def test_an_index_in_another_encoding_says_what_to_do(project):
    project.write_images(ENTRIES)
    as_excel_saves_it(project, "cp1252")
    with pytest.raises(ProjectError, match=r"index\.csv is not UTF-8 .*CSV UTF-8"):
        project.images()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1234", "many", "many"),
        ("5x40x30", "5x40xa", "'a'"),
        (",yes,", ",perhaps,", "include is 'perhaps'"),
        ("i00002-b", "i00001-a-1", "2 rows have the id 'i00001-a-1'"),
        ("id,source", "name,source", "no columns 'id' and 'source'"),
    ],
)
def test_an_index_that_makes_no_sense(project, old, new, words):
    project.write_images(ENTRIES)
    text = project.index_file.read_text("utf-8")
    assert old in text
    project.index_file.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(ProjectError, match=words) as caught:
        project.images()
    assert caught.value.hint


def test_csv_numbers_are_exact(tmp_path):
    rows = [{"a": 0.1 + 0.2, "b": "x"}, {"a": 1e-300, "c": "not a column"}]
    write_csv(tmp_path / "t.csv", rows, ["a", "b"])
    again = read_csv(tmp_path / "t.csv")
    assert [float(row["a"]) for row in again] == [0.1 + 0.2, 1e-300]
    assert again[1] == {"a": "1e-300", "b": ""}


def test_rows_of_a_csv_file_know_their_lines(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('a;b;\n1;"x\ny"\n\n;;\n2;z;3\n', "utf-16")
    rows = [(3, {"a": "1", "b": "x\ny"}), (6, {"a": "2", "b": "z"})]
    assert read_csv_lines(file) == (["a", "b"], rows)
    assert read_csv(file) == [row for _, row in rows]
    file.write_text("a,b\n", "utf-8")
    assert read_csv_lines(file) == (["a", "b"], []) and read_csv(file) == []


def test_runs_come_in_their_order_and_get_the_next_number(project):
    assert (project.runs(), project.new_run().id) == ([], "run-0001")
    for name in ("run-0002", "run-10000", "run-9999", "run-0001", "old-run-0003", "run-7"):
        add_run(project, name)
    (project.runs_folder / "run-20000").mkdir()  # without a plan it is no run
    assert project.runs() == ["run-0001", "run-0002", "run-9999", "run-10000"]
    assert project.run().id == "run-10000"
    assert project.run("run-0002").root == project.runs_folder / "run-0002"
    assert project.new_run().id == "run-10001"
    assert not project.new_run().root.exists()


def test_what_is_missing_is_said_with_the_choices(project):
    with pytest.raises(NotFoundError, match=r"no run yet.*opsef sweep run"):
        project.run()
    add_run(project, "run-0001")
    with pytest.raises(NotFoundError, match=r"no run 'run-0009'.*run-0001"):
        project.run("run-0009")
    with pytest.raises(NotFoundError, match=r"run-0002 has no plan"):
        project.new_run().plan()
    with pytest.raises(NotFoundError, match=r"no image 'i9'.*images list"):
        project.image("i9")
    with pytest.raises(
        NotFoundError, match=r"run-0001 has no labels of image 'i1' by variant 'v1'"
    ):
        project.labels(None, "v1", "i1")
    assert (project.images(), project.adopted()) == ([], {})


def test_labels_come_from_the_newest_run(project):
    for run, value in (("run-0001", 1), ("run-0002", 70000)):
        labels = np.array([[0, value]], np.int32)
        add_run(project, run)
        write_labels(project.run(run).label_file("v0001", "i00001-a"), labels)
    found = project.labels(None, "v0001", "i00001-a")
    assert (found.dtype, found.tolist()) == (np.int32, [[0, 70000]])
    assert project.labels("run-0001", "v0001", "i00001-a").max() == 1


def test_outcomes_of_all_units_in_their_order(project):
    run = project.new_run()
    assert run.outcomes() == []
    for unit, variants in {"u0002": ["c"], "u0001": ["a", "b"]}.items():
        outcomes = [{"variant": variant} for variant in variants]
        write_json(run.unit_file(unit), {"unit": unit, "passes": 0, "outcomes": outcomes})
    run.done_file("u0001").write_text("done\n")
    assert [outcome["variant"] for outcome in run.outcomes()] == ["a", "b", "c"]


def test_adopted_comes_back(project):
    project.write_adopted({"default": {"id": "v0001"}})
    assert project.adopted() == {"default": {"id": "v0001"}}
    assert json.loads(project.adopted_file.read_text("utf-8")) == project.adopted()


def rows_with(project: Project, **cells: str) -> None:
    """Write `ENTRIES` as the index, with other cells in the row of the first."""
    project.write_images([replace(ENTRIES[0], time_step=1.0), ENTRIES[1]])
    first, *others = read_csv(project.index_file)
    assert set(cells) <= set(first)
    write_csv(project.index_file, [first | cells, *others], list(first))


NUMBERS = ("pixel_size_x", "pixel_size_y", "pixel_size_z", "time_step")


@pytest.mark.parametrize("column", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "-3", "-0,5", "1.234,5"])
def test_a_number_that_cannot_be_says_row_column_and_value(project, column, value):
    rows_with(project, **{column: value})
    with pytest.raises(ProjectError, match=f"row 'i00001-a-1': {column} is '{value}'"):
        project.images()


@pytest.mark.parametrize("column", NUMBERS)
@pytest.mark.parametrize(("value", "number"), [("", 0), ("0", 0), ("0,25", 0.25), ("1e-3", 0.001)])
def test_numbers_that_can_be(project, column, value, number):
    rows_with(project, **{column: value})
    assert getattr(project.images()[0], column) == number


def test_a_time_stamp_may_be_before_1970_but_must_be_a_number(project):
    rows_with(project, mtime="-5.5")
    assert project.images()[0].mtime == -5.5
    rows_with(project, mtime="nan")
    with pytest.raises(ProjectError, match="row 'i00001-a-1': mtime is 'nan'"):
        project.images()


@pytest.mark.parametrize("unit", ["um", "\N{MICRO SIGN}m", "nm", "Micron", "mm", "pixel", ""])
def test_units_that_are_known(project, unit):
    rows_with(project, unit=unit)
    assert project.images()[0].unit == unit


def test_a_unit_that_nobody_knows_is_refused_with_the_choices(project):
    rows_with(project, unit="furlong")
    with pytest.raises(ProjectError, match=r"row 'i00001-a-1': unit is 'furlong'.*pixel, um,"):
        project.images()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
def test_an_index_that_excel_saved_with_tabs(project, encoding):
    entries = [replace(ENTRIES[0], source="a;b,c.tif"), ENTRIES[1]]
    project.write_images(entries)
    rows = read_csv(project.index_file)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter="\t", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    mark = codecs.BOM_UTF16_BE if encoding.endswith("-bom") else b""
    encoded = text.getvalue().encode(encoding.removesuffix("-bom"))
    project.index_file.write_bytes(mark + encoded)
    assert project.images() == entries


def test_half_a_character_of_utf_16_is_said(project):
    project.write_images(ENTRIES)
    project.index_file.write_bytes("id\tsource\r\n".encode("utf-16")[:-1])
    with pytest.raises(ProjectError, match="CSV UTF-8"):
        project.images()


@pytest.mark.parametrize(("old", "new"), [("id,source", "name,source"), (",yes,", ",perhaps,")])
def test_nobody_is_told_to_throw_away_the_index_with_its_own_columns(project, old, new):
    project.write_images(ENTRIES)
    text = project.index_file.read_text("utf-8")
    project.index_file.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(ProjectError) as caught:
        project.images()
    assert caught.value.hint and "elete" not in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"shape": ""}, "axes 'YX' and shape '' are not of one image"),
        ({"axes": "XX"}, "axes 'XX' and shape '6x8' are not of one image"),
        ({"axes": "QX"}, "are not of one image"),
        ({"source": "a.tif\nb.tif"}, "source goes over several lines"),
    ],
)
def test_cells_that_cannot_be_of_an_image_are_named(tmp_path, cells, words):
    project = Project(tmp_path)
    project.write_images([ImageEntry("i00001-a", "a.tif", axes="YX", shape=(6, 8))])
    [row] = read_csv(project.index_file)
    write_csv(project.index_file, [row | cells], list(row))
    with pytest.raises(ProjectError, match=words) as caught:
        project.images()
    assert "i00001-a" in str(caught.value)


def test_a_quotation_mark_that_is_never_closed_is_said(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('a,b\n"' + "x,1\n" * 50_000)
    with pytest.raises(ProjectError, match="cannot be read") as caught:
        read_csv(file)
    assert "quotation mark" in caught.value.hint
