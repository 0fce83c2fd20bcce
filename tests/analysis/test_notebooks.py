"""Notebooks as files: what they hold, what is refused, what their functions write and draw."""

from __future__ import annotations

import ast
import json

import nbformat
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opsef_bridge.analysis import notebooks
from opsef_bridge.analysis.notebooks import (
    KINDS,
    conclude,
    notebook,
    save_settings,
    write_notebooks,
)
from opsef_bridge.analysis.showing import (
    NO_CLASS,
    draw_objects,
    plan_words,
    ranking,
    sheet,
    show_contact_sheet,
    show_images,
    show_objects,
)
from opsef_bridge.errors import ConfigError, InputError, NotFoundError, ProjectError
from opsef_bridge.project import Project
from opsef_bridge.rois.palette import colour_of
from opsef_bridge.sweep import plan_sweep
from tests.running import run_opsef
from tests.small_projects import discs, swept

IMAGES = {f"{name}.tif": discs(seed) for seed, name in enumerate("abc")}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """Three images, swept. Tests that write into it take a copy."""
    return swept(tmp_path_factory.mktemp("notebooks") / "project", IMAGES)


def conclusions(project):
    return (project.root / "notebooks" / "conclusions.md").read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_is_valid_python_without_outputs(ready, kind):
    made = notebook(kind, "Muscle", ready)
    nbformat.validate(made)
    assert notebook(kind, "Muscle", ready) == made
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    for cell in code:
        ast.parse(cell.source)
    text = json.dumps(made)
    assert "Muscle" in text and "<<" not in text and str(ready.root) not in text


def test_the_settings_stand_in_the_setup_as_they_are(ready):
    for cell in notebook("setup", "SETTINGS", ready).cells:
        if cell.source.startswith("settings = "):
            names = {}
            exec(cell.source.partition("\nsave_settings")[0], names)
            assert names["settings"] == ready.config_file.read_text("utf-8")
            return
    pytest.fail("no cell has the settings")


@given(st.text())
@example("")
@example("a: 1")
@example('a: """\n')
@example("a: \\\n")
@example("a: 1\r\n")
@example("a: \u2028\n")
@example('a: "\n')
def test_any_text_is_quoted_exactly(text):
    assert ast.literal_eval(notebooks._quoted(text)) == text


def test_files_are_never_overwritten(project):
    [first] = write_notebooks(project, "A", ["run"])
    assert first.name == "A_2_Run.ipynb"
    first.write_text("my work")
    with pytest.raises(ProjectError, match="A_2_Run") as error:
        write_notebooks(project, "A")
    assert "--kind" in error.value.hint
    assert [file.name for file in first.parent.iterdir()] == [first.name]
    assert first.read_text() == "my work"
    assert len(write_notebooks(project, "B")) == 3


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b", 'a"', "ä"])
def test_names_that_are_none(project, name):
    with pytest.raises(InputError, match="no id"):
        write_notebooks(project, name)


def test_no_such_kind_and_no_project(ready, tmp_path):
    with pytest.raises(InputError, match="reimport"):
        notebook("rerun", "A", ready)
    with pytest.raises(InputError, match="rerun"):
        write_notebooks(ready, "A", ["setup", "rerun"])
    with pytest.raises(ConfigError, match=r"no opsef\.yaml"):
        write_notebooks(Project(tmp_path), "A", ["run"])
    assert not list(tmp_path.iterdir())


def test_the_command(project, monkeypatch, capfd):
    place = ("-p", project.root, "--json", "notebook", "A")
    code, told, _ = run_opsef(monkeypatch, capfd, *place, "--kind", "setup", "--kind", "run")
    files = json.loads(told)
    assert code == 0 and [name.rpartition("_")[2] for name in files] == ["Setup.ipynb", "Run.ipynb"]
    code, told, said = run_opsef(monkeypatch, capfd, *place)
    assert code == 2 and "there already" in said
    assert json.loads(told)["error"]["code"] == "bad-project"


def test_settings_are_checked_before_they_are_written(project, capsys):
    before = project.config_file.read_text("utf-8")
    with pytest.raises(ConfigError, match="line 3"):
        save_settings(project, before.replace("watershed", "watersched"))
    assert project.config_file.read_text("utf-8") == before
    save_settings(project, before)
    assert "already" in capsys.readouterr().out
    after = before.replace("0.8", "0.9")
    save_settings(project, after)
    assert project.config_file.read_text("utf-8") == after
    [kept] = (project.root / "notebooks").glob("opsef-*.yaml")
    assert kept.read_text("utf-8") == before
    said = capsys.readouterr().out.splitlines()
    assert [line[0] for line in said if line[:1] in "+-" and line[:3] not in ("---", "+++")] == [
        "-",
        "+",
    ]


def test_conclusions_follow_each_other_and_are_written_once(project, capsys):
    conclude(project, " \n")
    assert not (project.root / "notebooks").exists()
    conclude(project, "Threshold 0.8.\n\n## by size\n", "run-0001", "A", by="Ada")
    conclude(project, "Threshold 0.8.\n\n## by size", "run-0001", "A", by="Ada")
    first = conclusions(project)
    assert first.count("Threshold") == 1 and ", A, run-0001, by Ada\n\nThreshold 0.8." in first
    conclude(project, "Better: otsu.", "run-0002", by="Ada")
    conclude(project, "Better: otsu.", "run-0002", by="Ben")
    assert conclusions(project).startswith(first)
    assert conclusions(project).count("Better: otsu.") == 2
    assert capsys.readouterr().out.splitlines()[0].startswith("No conclusion yet")


def test_outlines_have_the_colours_of_classes():
    labels = np.zeros((60, 60), int)
    for number, x in enumerate((5, 25, 45), start=7):
        labels[20:30, x : x + 10] = number
    drawn = draw_objects(np.full((60, 60), 50, np.uint8), labels, {7: 1, 9: 12}, side=60)
    colours = [tuple(drawn[20, x + 5].tolist()) for x in (5, 25, 45)]
    assert colours == [colour_of(1), NO_CLASS, colour_of(12)]
    inside = [drawn[25, x + 5].tolist() for x in (5, 25, 45)]
    assert inside == [[50, 50, 50]] * 3
    nothing = draw_objects(np.full((60, 60), 50, np.uint8), np.zeros((60, 60), int), {}, side=30)
    assert nothing.shape == (30, 30, 3) and (nothing == 50).all()


def test_a_sheet_shows_every_picture():
    tiles = [(np.full((40, 80), grey, np.uint8), "a very long text " * 9) for grey in (10, 20, 30)]
    drawn = np.asarray(sheet(tiles, "header", columns=2, side=100))
    for grey in (10, 20, 30):
        where = np.argwhere((drawn == grey).all(axis=-1))  # some pixels of letters are as grey
        assert 5000 <= len(where) < 5100
    assert sheet([]).width > 0


def test_pictures_of_a_project(ready):
    assert np.asarray(show_images(ready)).shape[1] > np.asarray(show_images(ready, most=1)).shape[1]
    assert show_images(ready, ["i00002-b"]).tobytes() != show_images(ready, ["i00001-a"]).tobytes()
    bare = np.asarray(show_objects(ready))
    drawn = np.asarray(show_objects(ready, variant="v0001"))
    assert not (bare == NO_CLASS).all(axis=-1).any() and (drawn == NO_CLASS).all(axis=-1).any()
    with pytest.raises(NotFoundError, match="i00009"):
        show_images(ready, ["i00009"])


def test_an_image_that_is_gone_is_said_and_the_others_are_drawn(project):
    def shown():
        return {
            "images": show_images(project), "objects": show_objects(project, variant="v0001"),
            "sheet": show_contact_sheet(project, top=2),
        }  # fmt: skip

    before = shown()
    (project.root / "data" / "a.tif").unlink()
    after = shown()
    assert all(picture.tobytes() != before[name].tobytes() for name, picture in after.items())
    others = show_contact_sheet(project, top=2, images=["i00002-b", "i00003-c"])
    assert others.height < after["sheet"].height < before["sheet"].height


def test_the_contact_sheet_takes_nothing_of_the_run(ready):
    before = {file: file.stat().st_mtime_ns for file in ready.run().root.rglob("*")}
    one = show_contact_sheet(ready, top=1, images=["i00001-a"])
    two = show_contact_sheet(ready, top=2, images=["i00001-a", "i00003-c"])
    assert two.height > 1.5 * one.height
    assert {file: file.stat().st_mtime_ns for file in ready.run().root.rglob("*")} == before
    with pytest.raises(NotFoundError, match="i00009"):
        show_contact_sheet(ready, images=["i00009"])


def test_the_contact_sheet_shows_every_group():
    from opsef_bridge.analysis import showing

    planned = [{"id": str(k), "group": group} for k, group in enumerate("aaabbc")]
    assert showing._some_of_each_group(planned, 4) == ["0", "1", "3", "5"]
    assert showing._some_of_each_group(planned, 9) == list("012345")


def test_ranking_and_plan_in_words(ready):
    words, table = ranking(ready)
    assert table["rank"].tolist() == [1, 2] and set(table["id"]) == {"v0001", "v0002"}
    assert table["agreement"].between(0, 1).all()
    assert all(line.startswith("default: ") for line in words)
    said = plan_words(ready, plan_sweep(ready))
    assert said[0].startswith("2 variants on 3 images")
    with pytest.raises(NotFoundError, match="run-0007"):
        ranking(ready, "run-0007")
