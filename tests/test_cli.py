"""The command line: every command that is listed works, and says what it did or why not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image

from opsef_bridge import cli, demo
from opsef_bridge.cli.common import Context
from opsef_bridge.config import load_config
from opsef_bridge.demo import example_data
from opsef_bridge.engines.cellpose import Cellpose
from opsef_bridge.engines.registry import SHIPPED
from opsef_bridge.images import read_image, read_labels, write_hyperstack, write_labels
from opsef_bridge.project import Project

CONFIG = """\
opsef: 1
images: {source: data}
models: {classic: {engine: watershed, threshold: [otsu, 0.8]}}
"""


class Answer:
    """What a command returned and printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def opsef(monkeypatch, capfd):
    """Run `opsef` in this process, as the console script does."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["opsef", *map(str, arguments)])
        monkeypatch.setattr(Context, "folder", Path("."))
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return Answer(code, *capfd.readouterr())

    return run


def picture() -> np.ndarray:
    return read_image(example_data() / "images" / "small_fadeb0ab0928.png").data[:96, :112]


def truth() -> np.ndarray:
    return read_labels(example_data() / "labels" / "small_fadeb0ab0928.tif")[:96, :112]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """A project with two images, a broken one and a finished run, made once."""
    folder = tmp_path_factory.mktemp("swept") / "Projekt ä"
    (folder / "data").mkdir(parents=True)
    for name in ("a 1.png", "b.png"):
        Image.fromarray(picture()).save(folder / "data" / name)
    (folder / "opsef.yaml").write_text(CONFIG)
    (folder / "truth").mkdir()
    write_labels(folder / "truth" / "b.tif", truth())
    command = [sys.executable, "-m", "opsef_bridge", "sweep", "run", "-p", folder, "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(swept, tmp_path) -> Path:
    """A copy of the project for a test to change."""
    return Path(shutil.copytree(swept, tmp_path / "copy ä"))


def listed(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    groups = getattr(command, "commands", None)
    if groups is None:
        return [path]
    return [found for name, sub in groups.items() for found in listed(sub, (*path, name))]


COMMANDS = listed(typer.main.get_command(cli.app))

WORKS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("images", "import"): (),
    ("images", "list"): (),
    ("sweep", "plan"): (),
    ("sweep", "run"): ("--workers", "1"),
    ("sweep", "resume"): ("--workers", "1"),
    ("sweep", "status"): (),
    ("adopt",): ("v0001",),
    ("rois", "export"): ("v0002",),
    ("models", "list"): (),
    ("models", "add"): (str(SHIPPED / "nuclei-unet.onnx"), "--name", "mine"),
    ("models", "verify"): (),
    ("models", "evaluate"): ("nuclei-unet", "--images", "data", "--labels", "truth"),
    ("engines", "list"): (),
    ("doctor",): (),
    ("unit", "run"): ("u0001",),
}
"""Arguments with which each command works in the project above."""

APART = {("demo",), ("new",), ("batch",)} | {
    ("models", "bundle"), ("models", "publish"), ("models", "fetch"), ("models", "convert"),
    ("models", "promote"), ("project", "bundle"), ("project", "unbundle"), ("train", "next"),
    ("sweep", "cancel"),
    ("engines", "add"), ("rois", "import"), ("rois", "log"), ("rois", "show"),
    ("rois", "restore"), ("annotatorj", "export"), ("annotatorj", "import"), ("truth", "add"),
    ("truth", "list"), ("truth", "ask"), ("truth", "answer"), ("import-legacy",), ("serve",),
    ("invite",), ("inbox", "run"),
    ("inbox", "watch"), ("inbox", "perform"), ("fiji", "install"), ("fiji", "bundle"),
    ("fiji", "check"), ("show",), ("images", "stitch"), ("evaluate",), ("sweep", "refine"),
    ("consensus",), ("report",), ("compare",), ("review",), ("analyse",), ("classify",),
    ("notebook",), ("verdicts", "add"), ("verdicts", "list"),
    ("verdicts", "import"), ("train", "dataset"), ("train", "datasets"),
    ("train", "augment"), ("train", "run"), ("train", "grid"), ("train", "status"),
    ("train", "resume"), ("train", "cancel"),
}  # fmt: skip
"""Commands that have a test of their own (tests/test_objects_cli.py, test_evaluate_cli.py,
test_service_cli.py, test_truth_cli.py, test_train_cli.py; tests/service/test_show.py,
test_fiji_check.py; tests/sweep/test_tiled.py, test_refine.py, test_consensus_run.py,
test_comparing.py, test_review.py; tests/analysis/test_analyse.py, test_classify.py;
tests/test_notebooks.py)."""


def test_every_listed_command_is_tried_here():
    assert set(COMMANDS) == set(WORKS) | APART


@pytest.mark.parametrize("command", WORKS, ids=" ".join)
def test_what_is_listed_works_and_answers_in_json(opsef, project, command, monkeypatch):
    monkeypatch.chdir(project)
    answer = opsef("-p", project, *command, *WORKS[command], "--json")
    assert answer.code == 0, answer.err
    assert answer.json


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(opsef, command):
    answer = opsef(*command, "--help")
    assert answer.code == 0
    assert "Usage: " in answer.out and len(answer.out.splitlines()) > 5


@pytest.mark.parametrize("group", [(), ("sweep",), ("images",), ("models",)], ids=str)
def test_without_a_command_the_help_is_shown(opsef, group):
    answer = opsef(*group)
    assert "Commands:" in answer.out + answer.err


def test_new_then_plan(opsef, tmp_path):
    images = tmp_path / 'Bilder ä "x"'
    images.mkdir()
    Image.fromarray(picture()).save(images / "a.png")
    made = opsef("new", tmp_path / "p", "--images", images)
    assert made.code == 0 and "opsef.yaml" in made.out
    plan = opsef("-p", tmp_path / "p", "sweep", "plan", "--json")
    assert plan.code == 0, plan.err
    assert (plan.json["images"], plan.json["measured"]) == (1, False)
    said = opsef("-p", tmp_path / "p", "sweep", "plan").out
    assert all(f"{name} on {kind}" in said for name, kind in plan.json["devices"].items())
    again = opsef("new", tmp_path / "p", "--images", images)
    assert again.code == 2 and "a project in" in again.err


@pytest.mark.parametrize("installed", [True, False])
def test_new_names_cellpose_where_it_is_installed(tmp_path, monkeypatch, installed):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    monkeypatch.setattr(demo, "find_spec", lambda name: object() if installed else None)
    file = demo.make_project(tmp_path / "p", [str(tmp_path / "a.png")])
    models = {model.name: model for model in load_config(file).model_settings()}
    assert ("cellpose" in models) == installed
    if installed:
        assert models["cellpose"].axes["diameter"] == Cellpose.ladder["diameter"]


def test_demo_makes_a_project_and_sweeps_it(opsef, tmp_path, monkeypatch):
    bundled = tmp_path / "bundled"
    (bundled / "images").mkdir(parents=True)
    for group in ("small", "large", "u2os", "tissue"):
        Image.fromarray(picture()).save(bundled / "images" / f"{group}_1.png")
    monkeypatch.setattr(demo, "example_data", lambda: bundled)
    monkeypatch.setattr(demo, "_MODELS", "models: {classic: {engine: watershed}}\n")
    answer = opsef("demo", tmp_path / "d", "--workers", "1", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["ok"], answer.json["passes"]) == (4, 1)  # equal pictures share a pass
    listed = opsef("-p", tmp_path / "d", "images", "list", "--json").json
    assert [image["group"] for image in listed] == ["large", "small", "tissue", "u2os"]


def test_the_demo_tries_what_the_readme_promises(tmp_path):
    project = Project(demo.make_demo(tmp_path / "d"))
    models = project.config.model_settings()
    assert [model.name for model in models] == ["classic", "unet", "stardist", "fpn2ws"]
    assert len(project.config.recipes()) == 3
    for model in models:
        assert [len(values) for values in model.axes.values()] == [3, 3]
    assert len(list((tmp_path / "d" / "data").iterdir())) == 12


def test_adopt_then_batch(opsef, project):
    before = opsef("-p", project, "batch")
    assert before.code == 2 and "no variant is adopted yet" in before.err
    assert opsef("-p", project, "adopt", "v0002").code == 0
    answer = opsef("-p", project, "batch", "--workers", "1", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["ok"] == 2
    assert Project(project).run().batch_file.is_file()


def test_a_second_run_computes_nothing_and_is_the_same_run(opsef, project):
    files = {path: path.stat().st_mtime_ns for path in (project / "runs").rglob("*.tif")}
    answer = opsef("-p", project, "sweep", "run", "--workers", "1", "--json").json
    assert (answer["run"], answer["ok"]) == ("run-0001", 4)
    assert {p: p.stat().st_mtime_ns for p in (project / "runs").rglob("*.tif")} == files


@pytest.mark.parametrize(
    "arguments",
    [
        ("-p", "{}", "images", "list", "--json"),
        ("images", "list", "--json", "-p", "{}"),
        ("images", "-p", "{}", "--json", "list"),
        ("--project={}", "images", "list", "--json"),
        ("images", "list", "--json", "--project", "{}"),
    ],
    ids=" ".join,
)
def test_the_project_is_named_before_or_after_the_command(opsef, swept, arguments):
    answer = opsef(*(word.format(swept) for word in arguments))
    assert answer.code == 0, answer.err
    assert [row["source"] for row in answer.json] == ["data/a 1.png", "data/b.png"]


def test_the_project_is_this_folder_by_default(opsef, swept, monkeypatch):
    monkeypatch.chdir(swept)
    assert len(opsef("images", "list", "--json").json) == 2


def test_tables_for_people(opsef, swept):
    lines = opsef("-p", swept, "images", "list").out.splitlines()
    assert lines[0].split() == ["id", "axes", "shape", "group", "include", "source"]
    assert lines[1].split(maxsplit=5) == [
        "i00001-a-1",
        "YX",
        "96x112",
        "default",
        "yes",
        "data/a 1.png",
    ]
    status = opsef("-p", swept, "sweep", "status").out
    assert "run-0001: 4 ok, 0 empty, 0 failed, 0 open" in status
    assert "report.html" in status


def test_one_image_that_fails_is_exit_code_1_with_the_rest_done(opsef, project):
    (project / "data" / "c.png").write_bytes(b"no png")
    answer = opsef("-p", project, "sweep", "run", "--workers", "1", "--json")
    assert answer.code == 1
    assert (answer.json["ok"], answer.json["failed"], answer.json["run"]) == (4, 2, "run-0002")
    text = opsef("-p", project, "sweep", "status")
    assert text.code == 1 and "outcomes.csv" in text.out
    failed = [o for o in Project(project).run().outcomes() if o["status"] == "failed"]
    assert {outcome["code"] for outcome in failed} == {"bad-image"}
    assert "c.png" in failed[0]["message"] and failed[0]["hint"]


def no_project(folder: Path) -> None:
    (folder / "opsef.yaml").unlink()


def unknown_key(folder: Path) -> None:
    (folder / "opsef.yaml").write_text(CONFIG + "sweeep: {}\n")


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder / "data")
    (folder / "data").mkdir()


def missing_weights(folder: Path) -> None:
    other = CONFIG.replace("watershed, threshold: [otsu, 0.8]", "unet, weights: mine")
    (folder / "opsef.yaml").write_text(other)


def wrong_hash(folder: Path) -> None:
    missing_weights(folder)
    (folder / "models").mkdir()
    (folder / "models" / "m.onnx").write_bytes(b"x")
    card = {"name": "mine", "engine": "unet", "file": "m.onnx", "sha256": "00"}
    (folder / "models" / "m.json").write_text(json.dumps(card))


def latin_1(folder: Path) -> None:
    (folder / "images" / "index.csv").write_bytes("id,source\ni1,größe\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("damage", "command", "words"),
    [
        (no_project, "images list", "there is no opsef.yaml in"),
        (no_project, "sweep run", "-p DIR"),
        (unknown_key, "sweep run", "line 4: sweeep: unknown key 'sweeep'"),
        (empty_folder, "sweep run", "the folder 'data' holds no image"),
        (missing_weights, "sweep run", "no weights 'mine'"),
        (wrong_hash, "sweep run", "its sha256 is"),
        (wrong_hash, "models verify", "its sha256 is"),
        (latin_1, "images list", "not UTF-8"),
        (None, "sweep status --run run-0009", "there is no run 'run-0009'. Known: run-0001"),
        (None, "adopt v9", "v0001 to v0002"),
        (None, "adopt v0001 --group moon", "moon"),
        (None, "rois export nothing", "no variant 'nothing'"),
        (None, "unit run u9999", "no unit 'u9999'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(opsef, project, damage, command, words):
    if damage:
        damage(project)
    answer = opsef("-p", project, *command.split())
    assert answer.code == 2
    assert answer.err.startswith("opsef: ") and answer.err.count("\n") == 1
    assert words in answer.err
    assert "Traceback" not in answer.out + answer.err
    in_json = opsef("-p", project, *command.split(), "--json")
    assert in_json.code == 2
    assert set(in_json.json["error"]) == {"code", "message", "hint"}


@pytest.mark.parametrize(
    "arguments",
    [("sweeep",), ("sweep", "rum"), ("adopt",), ("sweep", "run", "--workers", "0"), ("-p",)],
    ids=" ".join,
)
def test_words_that_are_no_command_are_exit_code_2(opsef, arguments):
    answer = opsef(*arguments)
    assert answer.code == 2
    assert "Error" in answer.err and "Traceback" not in answer.err


def test_a_file_in_the_way_is_said_without_a_traceback(opsef, project):
    shutil.rmtree(project / "images")
    (project / "images").write_text("in the way")
    answer = opsef("-p", project, "images", "import")
    assert answer.code == 2
    assert "images" in answer.err and "Traceback" not in answer.err


def test_the_console_script_is_installed(swept):
    script = Path(sys.executable).with_name("opsef")
    done = subprocess.run([script, "-p", swept, "adopt", "v9"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("opsef: run-0001 has no variant 'v9'")


def test_images_that_cannot_be_read_are_listed_with_the_reason(opsef, tmp_path):
    (tmp_path / "data").mkdir()
    tifffile.imwrite(
        tmp_path / "data" / "seven.tif", np.zeros((7, 40, 50), np.uint8), metadata=None
    )
    (tmp_path / "data" / "torn.tif").write_bytes(b"II*\0")
    assert opsef("new", str(tmp_path / "p"), "--images", str(tmp_path / "data")).code == 0
    answer = opsef("-p", str(tmp_path / "p"), "images", "import")
    assert answer.code == 0
    assert "i00001-seven: " in answer.out and "axes='ZYX' for slices of a volume" in answer.out
    assert "i00002-torn: " in answer.out and "torn.tif" in answer.out


def test_an_import_says_what_is_left_over_and_the_list_what_is_gone(opsef, tmp_path):
    (tmp_path / "data").mkdir()
    write_hyperstack(tmp_path / "data" / "a.tif", np.zeros((17, 40, 50), np.uint8), "ZYX")
    (tmp_path / "data" / "torn.tif").write_bytes(b"II*\0")
    project = tmp_path / "opsef.yaml"
    project.write_text(CONFIG.replace("data}", "data, substacks: {size: 5}}"))
    answer = opsef("-p", tmp_path, "images", "import")
    assert answer.code == 0
    assert "a.tif: 17 planes in substacks of 5: the last has 2" in answer.out.splitlines()
    assert answer.out.count("i00005-torn: ") == 1, "the reason is said once"
    assert "gone" not in answer.out
    project.write_text(CONFIG.replace("data}", "data, planes: [0, 20]}"))
    answer = opsef("-p", tmp_path, "images", "import")
    assert "planes [0, 20] are asked for, it has 17: [0, 17] is taken" in answer.out
    lines = opsef("-p", tmp_path, "images", "list").out.splitlines()
    assert lines[0].split()[-1] == "gone"
    assert [line.split()[0] for line in lines if line.endswith(" yes")] == [
        f"i0000{number}-a-z0{5 * number - 5:02d}" for number in range(1, 5)
    ]
    rows = opsef("-p", tmp_path, "images", "import", "--json").json
    assert [row["gone"] for row in rows] == ["yes"] * 4 + ["", ""]
