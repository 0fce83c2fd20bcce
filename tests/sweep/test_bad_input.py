"""What users bring that cannot work: told with the value and the way out, never a traceback."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable

import numpy as np
import pytest
import tifffile

from opsef_bridge import cli
from opsef_bridge.engines.registry import SHIPPED
from opsef_bridge.files import read_json, write_json
from opsef_bridge.project import read_csv

CLASSIC = {"classic": {"engine": "watershed"}}


@pytest.fixture
def opsef(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Return ``opsef(project, *words)``: exit code and stderr of the command, run here."""

    def run(project, *words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["opsef", "-p", str(project.root), *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


def test_no_project(bench, opsef):
    project = bench.project()
    project.config_file.unlink()
    code, err = opsef(project, "sweep", "run")
    assert code == 2
    assert "there is no opsef.yaml" in err and "opsef new" in err


def test_an_empty_folder(bench, opsef):
    project = bench.project({}, images={"source": ["data"]})
    code, err = opsef(project, "sweep", "run")
    assert code == 2
    assert "'data' holds no image" in err and ".tif" in err
    assert project.runs() == []


def test_a_glob_without_a_match(bench, opsef):
    project = bench.project(images={"source": ["data/*.png"]})
    code, err = opsef(project, "sweep", "plan")
    assert code == 2
    assert "no file matches 'data/*.png'" in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sweeep: {images: 3}", ["unknown key 'sweeep'", "sweep"]),
        ("sweep: {imags: 3}", ["unknown key 'imags'", "images, crop, seed, device"]),
        ("sweep: {crop: 8}", ["sweep.crop", "8", "32"]),
        ("preprocess: {a: [{median: {radius: -1}}]}", ["preprocess.a", "radius", "-1"]),
        ("preprocess: {a: [{medan: {}}]}", ["medan", "median"]),
        ("compare: {base: other}", ["other", "raw"]),
    ],
)
def test_a_wrong_configuration(bench, opsef, line, words):
    project = bench.project(models=CLASSIC)
    with project.config_file.open("a") as file:
        file.write(line + "\n")
    number = len(project.config_file.read_text().splitlines())
    code, err = opsef(project, "sweep", "run")
    assert code == 2
    assert f"opsef.yaml: line {number}: " in err
    assert [word for word in words if word not in err] == []
    assert project.runs() == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"engine": "watershed", "treshold": 1}, ["'treshold'", "threshold"]),
        ({"engine": "unet", "threshold": [0.5, 1.5]}, ["models.m.threshold", "1.5"]),
        ({"engine": "unet", "scale": 0}, ["models.m.scale", "0"]),
        ({"engine": "u-net"}, ["'u-net'", "unet"]),
    ],
)
def test_a_wrong_model(bench, opsef, model, words):
    code, err = opsef(bench.project(models={"m": model}), "sweep", "run")
    assert code == 2
    assert [word for word in words if word not in err] == []


def test_missing_weights(bench, opsef):
    project = bench.project(models={"m": {"engine": "unet", "weights": "mine"}})
    code, err = opsef(project, "sweep", "run")
    assert code == 2
    assert "'mine'" in err and "nuclei-unet" in err and "models/NAME" in err


@pytest.fixture
def own_weights(bench):
    """A project with weights of its own, ``mine``, a copy of the shipped ones."""
    project = bench.project(models={"m": {"engine": "unet", "weights": "mine"}})
    folder = project.models_folder / "mine"
    folder.mkdir(parents=True)
    shutil.copy(SHIPPED / "nuclei-unet.onnx", folder / "mine.onnx")
    card = read_json(SHIPPED / "nuclei-unet.json")
    write_json(folder / "mine.json", card | {"name": "mine", "file": "mine.onnx"})
    return project


def test_weights_of_another_hash(bench, opsef, own_weights):
    file = own_weights.models_folder / "mine" / "mine.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0\0")
    code, err = opsef(own_weights, "sweep", "run")
    assert code == 2
    assert str(file) in err and "sha256" in err
    assert own_weights.runs() == []


def test_weights_that_change_after_the_plan(bench, own_weights):
    """The failure is that of the outcomes, with both hashes."""
    from opsef_bridge.sweep import plan_sweep, run_plan

    plan = plan_sweep(own_weights)
    file = own_weights.models_folder / "mine" / "mine.onnx"
    file.write_bytes(b"something else")
    result = run_plan(own_weights, plan, bench.here)
    assert (result.failed, result.exit_code) == (2, 1)
    assert bench.outcomes(own_weights)["i00001", "v0001"]["code"] == "bad-weights"


def test_missing_weights_files(bench, opsef, own_weights):
    (own_weights.models_folder / "mine" / "mine.onnx").unlink()
    code, err = opsef(own_weights, "sweep", "run")
    assert code == 2
    assert "mine.onnx" in err and "missing" in err


@pytest.mark.parametrize(
    "words", [("adopt", "v0001"), ("batch",), ("sweep", "resume"), ("sweep", "status")]
)
def test_commands_before_the_first_run(bench, opsef, words):
    code, err = opsef(bench.project(), *words)
    assert code == 2
    assert "opsef" in err.split("opsef:", 1)[1], "no way out is named"


def test_images_that_cannot_be_worked_on_fail_alone(bench, make_discs):
    """One run over all of them, by the command, in a folder with blanks and umlauts."""
    fine = make_discs(1)
    y = {"metadata": {"axes": "YX"}}
    project = bench.project(
        {"a fine ä.tif": fine}, name="Zählung 3 {ü} 'x'", models=CLASSIC, sweep={"images": "all"}
    )
    data = project.root / "data"

    def write(name: str, array: np.ndarray, **options) -> None:
        tifffile.imwrite(data / name, array, **options)

    write("b truncated.tif", np.tile(fine, (4, 4)))
    content = (data / "b truncated.tif").read_bytes()
    (data / "b truncated.tif").write_bytes(content[: len(content) // 2])
    write("c int64.tif", fine.astype(np.int64), **y)
    write("d complex.tif", fine.astype(np.complex64), **y)
    write("e ambiguous.tif", np.stack([fine] * 7), metadata=None)
    write("f time.tif", np.stack([fine] * 3), imagej=True, metadata={"axes": "TYX"})
    write("g nan.tif", np.where(fine > 100, np.nan, fine).astype(np.float32), **y)
    write("h constant.tif", np.full((64, 64), 7, np.uint8), **y)
    write("i zeros.tif", np.zeros((64, 64), np.uint16), **y)
    (data / "j empty.tif").write_bytes(b"")
    (data / "k text.png").write_text("no picture")
    code, out, err = bench.opsef(project, "sweep", "run", "--workers", "1")
    assert code == 1, err
    assert "Traceback" not in err
    assert "7 failed" in out and "2 empty" in out and "4 ok" in out  # a time series is three
    found = {o["image"].split("-")[1]: o for o in project.run().outcomes()}
    assert {letter: o["status"] for letter, o in found.items()} == {
        "a": "ok", "f": "ok", "h": "empty", "i": "empty", **dict.fromkeys("bcdegjk", "failed"),
    }  # fmt: skip
    words = {
        "b": "truncated.tif", "c": "int64", "d": "complex64", "e": "axes",
        "g": "NaN", "j": "empty", "k": "cannot be read",
    }  # fmt: skip
    for letter, word in words.items():
        assert found[letter]["code"] == "bad-image", letter
        assert word in found[letter]["message"], letter
        assert found[letter]["hint"], letter
    rows = read_csv(project.run().outcomes_file)
    assert sum(row["status"] == "failed" and row["message"] != "" for row in rows) == 7
    assert project.run().report_file.is_file()
    assert bench.partials(project) == []


def test_no_object_is_a_result(bench, make_discs):
    """A blank image and one image of objects: `empty` is no failure."""
    models = {**CLASSIC, "unet": {"engine": "unet"}}
    project = bench.project(
        {"a.tif": np.full((64, 64), 9, np.uint8), "b.tif": make_discs(1)}, models=models
    )
    result = bench.sweep(project)
    assert (result.ok, result.empty, result.failed, result.exit_code) == (2, 2, 0, 0)
    outcome = bench.outcomes(project)["i00001", "v0002"]
    assert (outcome["status"], outcome["objects"]) == ("empty", 0)
    assert not project.labels(None, "v0002", outcome["image"]).any()


def test_only_blank_images(bench):
    project = bench.project({"a.tif": np.full((64, 64), 9, np.uint8)}, models=CLASSIC)
    result = bench.sweep(project)
    assert (result.empty, result.exit_code) == (1, 0)
    assert [row["status"] for row in read_csv(project.run().variants_file)] == ["empty"]


def test_an_image_that_vanishes_after_the_plan(bench, make_discs):
    from opsef_bridge.sweep import plan_sweep, run_plan

    project = bench.project()
    plan = plan_sweep(project)
    (project.root / "data" / "b.tif").unlink()
    result = run_plan(project, plan, bench.here)
    assert (result.ok, result.failed) == (2, 2)
    assert "b.tif" in bench.outcomes(project)["i00002", "v0001"]["message"]
