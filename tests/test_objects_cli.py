"""The commands that take objects out and bring them back, as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.images import write_labels
from opsef_bridge.rois import read_rois, write_rois
from opsef_bridge.rois.truth import read_truth
from opsef_bridge.sweep.ranking import read_ranking
from tests.exchange.conftest import finished, project  # noqa: F401  (fixtures)
from tests.running import run_opsef

A, B = "i00001-a", "i00002-b"
REAL = Path(__file__).parent / "data" / "annotatorj"


@pytest.fixture
def opsef(monkeypatch, capfd, project):  # noqa: F811
    """Run `opsef -p PROJECT` in this process; return exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        where = () if "-p" in words else ("-p", project.root)
        return run_opsef(monkeypatch, capfd, *where, *words)

    return run


def drop(file: Path, *which: int) -> None:
    rois = read_rois(file)
    write_rois(file, [roi for k, roi in enumerate(rois) if k not in which])


def test_the_story_of_an_edit(opsef, project):  # noqa: F811
    code, out, _ = opsef("rois", "export", "v0001", "--image", A)
    assert code == 0
    file = Path(out.strip())
    drop(file, 0)
    code, out, err = opsef("rois", "import", file, "--author", "ada", "--truth", "touched")
    assert (code, err) == (0, "") and f"{A}: r0001" in out and "1 deleted" in out
    code, out, _ = opsef("rois", "import", file, "--author", "ada")
    assert code == 0 and "nothing new" in out
    code, out, _ = opsef("rois", "log")
    assert code == 0 and "v0001 of run-0001" in out and "ada" in out
    code, out, _ = opsef("rois", "show", A)
    assert code == 0 and "deleted: 1" in out and file.name in out
    assert opsef("rois", "import", "--empty", "--image", A, "--author", "bob")[0] == 0
    code, out, _ = opsef("rois", "restore", A, "r0001")
    assert code == 0 and "r0003" in out
    shown = json.loads(opsef("rois", "show", A, "r0003", "--json")[1])
    assert shown["source"]["kind"] == "restore" and shown["objects"] > 0
    code, out, _ = opsef("truth", "add", A, "0,0,20,20", "--author", "ada")
    assert code == 0 and "0,0,20,20 of r0003" in out
    code, out, _ = opsef("truth", "list")
    assert code == 0 and "touched of r0001, box of r0003" in out
    rows = json.loads(opsef("truth", "list", "--json")[1])
    assert [claim["author"] for claim in rows[0]["claims"]] == ["ada", "ada"]


def test_revisions_without_an_image_are_not_forgotten(opsef, project):  # noqa: F811
    _, out, _ = opsef("rois", "export", "v0001", "--image", A)
    assert opsef("rois", "import", out.strip(), "--truth", "whole")[0] == 0
    text = project.index_file.read_text()
    project.index_file.write_text(text.replace(A, "i00001-renamed"))
    code, _, err = opsef("rois", "log")
    assert code == 0 and f"annotations/{A} belongs to no image" in err
    assert f"truth/{A}.json belongs to no image" in err


def test_a_picture_that_was_replaced_is_noticed(opsef, project):  # noqa: F811
    _, out, _ = opsef("rois", "export", "v0001", "--image", A)
    assert opsef("rois", "import", out.strip())[0] == 0
    assert opsef("rois", "log")[2] == ""
    picture = tifffile.imread(project.root / "data" / "a.tif")
    tifffile.imwrite(project.root / "data" / "a.tif", picture[::-1], imagej=True)
    assert opsef("images", "import")[0] == 0
    for words in (("rois", "log"), ("rois", "export"), ("annotatorj", "export", "x")):
        code, _, err = opsef(*words)
        assert code == 0 and f"{A}: data/a.tif is another picture than when r0001" in err


def test_before_there_is_anything_the_next_step_is_said(opsef):
    assert "rois import" in opsef("rois", "log")[1]
    assert "truth add" in opsef("truth", "list")[1]
    for words in (("rois", "show", A), ("truth", "add", A, "whole")):
        code, _, err = opsef(*words)
        assert code == 2 and "no revision yet" in err and "opsef rois import" in err


def test_a_conflict_is_shown_and_not_saved(opsef, tmp_path):
    for name in ("mine", "theirs"):
        assert opsef("rois", "export", "v0001", "--image", A, "--to", tmp_path / name)[0] == 0
    mine, theirs = (tmp_path / name / f"{A}_ROIs.zip" for name in ("mine", "theirs"))
    drop(theirs, 0)
    rois = read_rois(mine)
    rois[0].group = 1
    write_rois(mine, rois)
    assert opsef("rois", "import", theirs, "--author", "bob")[0] == 0
    code, out, err = opsef("rois", "import", mine, "--json")
    assert code == 2 and "r0001 by bob" in err and "--resolve" in err
    error = json.loads(out)["error"]
    assert error["code"] == "stale-edit" and error["report"]["conflicts"][0]["id"] == 1
    code, out, _ = opsef("rois", "import", mine, "--resolve", "ours")
    assert code == 0 and "r0002" in out


def test_a_folder_says_what_became_of_each_file(opsef, tmp_path):
    assert opsef("rois", "export", "v0001", "--to", tmp_path)[0] == 0
    drop(tmp_path / f"{A}_ROIs.zip", 0)
    (tmp_path / "broken_ROIs.zip").write_bytes(b"PK")
    code, out, _ = opsef("rois", "import", tmp_path)
    assert code == 1
    assert f"{A}: r0001" in out and "broken_ROIs.zip: " in out and "not changed" in out


@pytest.mark.parametrize("kind", ["labels", "geojson"])
def test_other_formats(opsef, kind):
    code, out, _ = opsef("rois", "export", "v0001", "--format", kind)
    assert code == 0 and len(out.splitlines()) == 2
    assert all(Path(line).is_file() for line in out.splitlines())


def test_to_annotatorj_and_back(opsef, project):  # noqa: F811
    code, out, _ = opsef("annotatorj", "export", "round1", "v0001")
    assert code == 0 and "Open in AnnotatorJ: " in out and "annotatorj import round1" in out
    code, out, _ = opsef("annotatorj", "import", "round1")
    assert code == 0 and "did not come back" in out
    code, out, _ = opsef("annotatorj", "export", "zips1", "v0001", "--layout", "zips", "--json")
    assert code == 0
    file = Path(json.loads(out)["folder"]) / "normal" / f"{B}_ROIs.zip"
    drop(file, 1)
    code, out, _ = opsef("annotatorj", "import", "zips1", "--truth", "whole", "--author", "ada")
    assert code == 0 and f"{B}: r0001" in out and "1 deleted" in out
    assert opsef("annotatorj", "export", "round1", "v0001")[0] == 2


def test_what_is_vouched_for_in_an_import_ranks_anew_at_once(opsef, project):  # noqa: F811
    def answers() -> int:
        return read_ranking(project.run())["default"]["answers"]

    file = Path(opsef("rois", "export", "v0001", "--image", A)[1].strip())
    assert opsef("rois", "import", file, "--author", "ada")[0] == 0 and answers() == 0
    code, _, err = opsef("rois", "import", file, "--author", "ada", "--truth", "whole")
    objects = len(read_rois(file))
    assert (code, err) == (0, "") and answers() == objects > 1

    out = opsef("annotatorj", "export", "zips1", "v0001", "--layout", "zips", "--json")[1]
    other = Path(json.loads(out)["folder"]) / "normal" / f"{B}_ROIs.zip"
    drop(other, 0)
    assert opsef("annotatorj", "import", "zips1", "--truth", "whole", "--author", "ada")[0] == 0
    assert answers() == objects + len(read_rois(other))


def test_a_ranking_that_cannot_follow_loses_no_import(opsef, project):  # noqa: F811
    file = Path(opsef("rois", "export", "v0001", "--image", A)[1].strip())
    shutil.rmtree(project.cache_folder)
    lost = project.run().label_file("v0002", B)
    lost.unlink()
    code, out, err = opsef("rois", "import", file, "--author", "ada", "--truth", "whole")
    assert code == 0 and f"{A}: r0001" in out
    assert "run-0001 could not be ranked anew" in err and str(lost) in err
    assert "sweep resume --run run-0001" in err and read_truth(project, A).known.all()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("rois", "import"), "give a file"),
        (("rois", "import", "x.zip", "--empty"), "give a file"),
        (("rois", "import", "--empty"), "give a file"),
        (("rois", "import", "none.zip"), "no file"),
        (("rois", "import", "none.zip", "--truth", "all"), "whole"),
        (("rois", "show", "i9"), "i9"),
        (("rois", "restore", A, "r0009"), "r0009"),
        (("truth", "add", A, "everything"), "everything"),
        (("annotatorj", "import", "never"), "no export"),
        (("import-legacy", "nowhere", "-p", "new"), "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_answered(opsef, words, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "truth" in words and "everything" in words:
        write_labels(tmp_path / f"{A}.tif", np.ones((72, 80), np.uint16))
        assert opsef("rois", "import", tmp_path / f"{A}.tif")[0] == 0
    code, _, err = opsef(*words)
    assert code == 2 and why in err
    assert "Traceback" not in err


def test_a_run_folder_of_the_original_becomes_a_project(opsef, tmp_path):
    new = tmp_path / "old project"
    code, out, err = opsef("import-legacy", REAL / "opsef_edit_classmode", "-p", new)
    assert code == 0, err
    assert "2 images, 2 revisions" in out
    code, out, _ = opsef("rois", "log", "-p", new)
    assert code == 0 and "2 changed" in out and "nothing changed" in out
    assert opsef("sweep", "plan", "-p", new)[0] == 0
    code, _, err = opsef("import-legacy", REAL / "opsef_masks", "-p", new)
    assert code == 2 and "a project in" in err
