"""`opsef models`: from one project to a bundle, a shared folder, and another project."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer

from opsef_bridge import cli
from opsef_bridge.cli.common import Context
from opsef_bridge.demo import example_data
from opsef_bridge.engines import engine_class, find_weights, list_weights, verify
from opsef_bridge.engines.registry import SHIPPED
from opsef_bridge.files import file_sha256, read_json
from opsef_bridge.images import read_image, read_labels, write_labels
from opsef_bridge.measure import match

CONFIG = "opsef: 1\nimages: {source: data}\nmodels: {net: {engine: unet, weights: mine}}\n"


class Answer:
    """What a command returned and printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def opsef(monkeypatch, capfd):
    """Run `opsef models` in this process, as the console script does."""

    def run(project: Path, *arguments: object) -> Answer:
        words = ["opsef", "-p", str(project), "models", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(Context, "folder", Path("."))
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture
def first(tmp_path) -> Path:
    return project(tmp_path / "first")


@pytest.fixture
def second(tmp_path) -> Path:
    return project(tmp_path / "second")


def project(folder: Path) -> Path:
    folder.mkdir()
    (folder / "opsef.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def onnx_file(tmp_path) -> Path:
    """A network without a card."""
    return Path(shutil.copy(SHIPPED / "nuclei-unet.onnx", tmp_path / "mine.onnx"))


def test_add_then_list_then_verify(opsef, first, onnx_file):
    said = opsef(first, "add", onnx_file, "--engine", "unet", "--licence", "CC0", "--json")
    assert said.code == 0, said.err
    [row] = said.json
    assert (row["name"], row["engine"], row["new"]) == ("mine", "unet", True)
    assert row["sha256"] == file_sha256(onnx_file)
    assert Path(row["file"]) == first.resolve() / "models" / "mine" / "mine.onnx"
    rows = opsef(first, "list", "--json").json
    by_name = {row["name"]: row for row in rows}
    assert by_name["nuclei-unet"]["f1"] > 0.8 and by_name["nuclei-unet"]["licence"]
    assert (by_name["mine"]["f1"], by_name["mine"]["licence"]) == (None, "CC0")
    scores = [row["f1"] for row in rows if row["f1"] is not None]
    assert scores == sorted(scores, reverse=True) and rows[0]["f1"] == scores[0]
    lines = opsef(first, "list").out.splitlines()
    columns = ["name", "engine", "licence", "f1", "scored", "sha256", "file"]
    assert lines[0].split() == columns
    assert len(lines) == 1 + len(rows) and not any("None" in line for line in lines)
    assert "mine: sha256 as in its card" in opsef(first, "verify").out
    again = opsef(first, "add", onnx_file, "--engine", "unet")
    assert again.code == 0 and again.out.startswith("Nothing to do, mine for unet is here: ")


def test_added_weights_sweep(opsef, first, onnx_file):
    opsef(first, "add", onnx_file, "--engine", "unet")
    (first / "data").mkdir()
    shutil.copy(example_data() / "images" / "small_fadeb0ab0928.png", first / "data")
    command = [sys.executable, "-m", "opsef_bridge", "-p", first, "--json", "sweep", "run"]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] == 1


def test_a_bundle_goes_to_another_project(opsef, first, second, onnx_file, tmp_path):
    opsef(first, "add", onnx_file, "--engine", "unet", "--data", "mice")
    file = tmp_path / "all ä.zip"
    wrote = opsef(first, "bundle", file, "mine", "--json")
    assert wrote.code == 0, wrote.err
    assert wrote.json == {"file": str(file), "names": ["mine"]}
    assert opsef(second, "add", file).out.startswith("Wrote mine for unet: ")
    assert read_json(second / "models" / "mine" / "mine.json")["data"] == "mice"
    every = opsef(first, "bundle", file)
    shipped = [weights.name for weights in list_weights()]
    assert every.out == f"Wrote {', '.join(sorted(['mine', *shipped]))} to {file}\n"


def test_a_shared_folder_goes_to_another_project(opsef, first, second, onnx_file, tmp_path):
    for name in ("one", "two"):
        opsef(first, "add", onnx_file, "--engine", "unet", "--name", name)
    shared = tmp_path / "institute"
    published = opsef(first, "publish", shared, "one", "two", "--json")
    assert published.code == 0, published.err
    assert [row["new"] for row in published.json] == [True, True]
    took = opsef(second, "add", "--from", shared, "two", "--json")
    assert [row["name"] for row in took.json] == ["two"]
    assert opsef(second, "add", "--from", shared).code == 0
    assert sorted(path.name for path in (second / "models").iterdir()) == ["one", "two"]
    with (shared / "one" / "mine.onnx").open("ab") as file:
        file.write(b"x")
    refused = opsef(second, "add", "--from", shared, "one", "--name", "three")
    assert refused.code == 2 and "not the file that its card describes" in refused.err


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Iterator[tuple[Path, str]]:
    """A server on this machine, and the folder that it serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def list_weights_of(engine: str) -> Path:
    """The file of the shipped weights of an engine."""
    return next(w.path for w in list_weights() if w.engine == engine)


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")
def test_fetch_from_a_mirror(opsef, first, mirror):
    folder, address = mirror
    shutil.copy(list_weights_of("cellpose"), folder / "cyto3")
    good = ("--mirror", address, "--sha256", file_sha256(folder / "cyto3"))
    wrong = opsef(first, "fetch", "cyto3", "--mirror", address, "--sha256", "0" * 64)
    assert wrong.code == 2 and "is another file" in wrong.err
    assert not list((first / "models").iterdir())
    assert opsef(first, "fetch", "cyto3", *good).out.startswith("Wrote cyto3 for cellpose: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "gone.onnx"], "there is no file or folder gone.onnx. Taken are: "),
        (["add", "{onnx}"], "--engine"),
        (["add", "--from", "gone"], "there is no folder or bundle gone"),
        (["bundle", "x.zip", "moon"], "the project has no weights 'moon'. It has he-"),
        (["publish", "x", "moon"], "the project has no weights 'moon'"),
        (["fetch", "moon"], "there is no official model 'moon'"),
        (["fetch", "3D_demo"], "Bring its file python_3D_demo.zip"),
        (
            ["fetch", "3D_demo", "--mirror", "http://x", "--sha256", "0" * 64],
            "sha256 of 3D_demo is ea0",
        ),
        (["convert", "moon"], "no weights and there is no file 'moon'"),
        (["convert", "{onnx}"], "mine.onnx is ONNX already"),
        (["convert", "a", "b", "--name", "c"], "2 weights cannot all be named 'c'"),
        (["convert", "a", "--engine", "fpn2ws"], "two networks, got 1"),
        (["convert", "nuclei-unet", "--percentiles", "0", "100"], "for --engine fpn2ws"),
        (["add", "{onnx}", "--engine", "unet", "--percentiles", "9", "1"], "from 9 to 1"),
        (["add", "{onnx}", "--engine", "unet", "--size", "x"], "--size goes with one network"),
        (["evaluate", "moon", "--images", ".", "--labels", "."], "no weights 'moon'. Choose one"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_exit_code_2(
    opsef, first, onnx_file, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    arguments = [word.format(onnx=onnx_file) for word in arguments]
    answer = opsef(first, *arguments)
    assert answer.code == 2 and words in answer.err, answer.err
    assert answer.err.startswith("opsef: ") and answer.err.count("\n") == 1
    assert set(opsef(first, *arguments, "--json").json["error"]) == {"code", "message", "hint"}
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize(
    "arguments",
    [[], *(["a", "--from", "b", *w] for w in (["--engine", "unet"], ["--runtime", "tensorflow"]))],
    ids=str,
)
def test_add_says_how_it_is_used(opsef, first, arguments):
    answer = opsef(first, "add", *arguments)
    assert answer.code == 2 and "--from FOLDER" in answer.err


def test_a_folder_that_is_no_project_gets_no_models(opsef, tmp_path, onnx_file):
    answer = opsef(tmp_path, "add", onnx_file, "--engine", "unet")
    assert answer.code == 2 and "there is no opsef.yaml in" in answer.err
    assert os.listdir(tmp_path) == ["mine.onnx"]


def test_the_commands_of_models():
    group = typer.main.get_command(cli.app).commands["models"]  # type: ignore[attr-defined]
    commands = {"add", "bundle", "convert", "evaluate", "fetch", "list", "promote", "publish"}
    commands |= {"verify"}
    assert set(group.commands) == commands


# Conversion.


def test_two_networks_become_one(opsef, first, tmp_path):
    """The shipped network of two maps, taken apart and joined again, says the same."""
    onnx = pytest.importorskip("onnx")
    shipped = find_weights("fpn2ws", None)
    files = []
    for number, name in enumerate(("distance", "border")):
        model = onnx.load(shipped.path)
        old = model.graph.output[0].name
        index = onnx.numpy_helper.from_array(np.array([number]), "which")
        model.graph.initializer.append(index)
        model.graph.node.append(onnx.helper.make_node("Gather", [old, "which"], [name], axis=1))
        made = onnx.helper.make_tensor_value_info(name, 1, ["n", 1, "y", "x"])
        del model.graph.output[:]
        model.graph.output.append(made)
        onnx.save(model, tmp_path / f"{name}.onnx")
        files.append(tmp_path / f"{name}.onnx")
    words = ["--engine", "fpn2ws", "--name", "both", "--percentiles", 1, 99.8]
    said = opsef(first, "convert", *files, *words, "--json")
    assert said.code == 0, said.err
    [row] = said.json
    assert (row["name"], row["engine"], row["new"]) == ("both", "fpn2ws", True)
    joined = find_weights("fpn2ws", "both", [first / "models"])
    verify(joined)
    assert joined.card["converted_from"] == [
        {"file": file.name, "sha256": file_sha256(file)} for file in files
    ]
    assert joined.card["input"]["percentiles"] == [1.0, 99.8]
    image = read_image(IMAGES / "small_fadeb0ab0928.png").data
    labels = []
    for weights in (shipped, joined):
        engine = engine_class("fpn2ws")()
        engine.load(weights)
        labels.append(engine.decode(engine.predict(image, engine.Predict()), engine.Decode()))
    assert labels[0].max() > 5
    np.testing.assert_array_equal(*labels)


# Scores.


IMAGES, LABELS = example_data() / "images", example_data() / "labels"


@pytest.fixture
def truth(tmp_path) -> tuple[Path, Path]:
    """Two images with labels, one without, and what is no image."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for name in ("small_fadeb0ab0928", "large_40b00d701695"):
        shutil.copy(IMAGES / f"{name}.png", images)
        shutil.copy(LABELS / f"{name}.tif", labels)
    shutil.copy(IMAGES / "small_8b77284d6f37.png", images)
    (images / "notes.txt").write_text("x")
    (images / ".small_fadeb0ab0928.png").write_bytes(b"of a Mac")
    return images, labels


def test_evaluate_scores_and_writes_on_the_card(opsef, first, truth, onnx_file):
    opsef(first, "add", onnx_file, "--engine", "unet")
    told = ["--images", truth[0], "--labels", truth[1]]
    answer = opsef(first, "evaluate", "mine", "threshold=0.6", *told, "--data", "mice", "--json")
    assert answer.code == 0, answer.err
    entry = answer.json
    engine = engine_class("unet")()
    weights = find_weights("unet", "mine", [first / "models"])
    engine.load(weights)
    counts = []
    for file in sorted(truth[1].iterdir()):
        image = read_image(truth[0] / f"{file.stem}.png").data
        found = engine.decode(engine.predict(image, engine.Predict()), engine.Decode(threshold=0.6))
        counts.append(match(read_labels(file), found, (0.5, 0.7, 0.9))[["tp", "fp", "fn"]])
    tp, fp, fn = sum(np.array(counts)).T
    expected = (2 * tp / (2 * tp + fp + fn)).round(4).tolist()
    assert [f1["value"] for f1 in entry["f1"].values()] == expected and expected[0] > 0.7
    for f1 in entry["f1"].values():
        assert f1["interval"][0] <= f1["value"] <= f1["interval"][1]
    assert (entry["images"], entry["objects"]) == (2, (tp + fn)[0])
    assert entry["decode"]["threshold"] == 0.6 and entry["predict"]["scale"] == 1
    assert entry["weights"] == weights.sha256
    assert (entry["data"]["name"], entry["data"]["without_labels"]) == ("mice", 1)
    card = read_json(entry.pop("card"))
    assert card["evaluations"] == [entry]
    assert opsef(first, "verify").code == 0


def test_the_score_of_a_single_image_has_no_interval(opsef, first, truth, onnx_file):
    opsef(first, "add", onnx_file, "--engine", "unet")
    sorted(truth[1].iterdir())[0].unlink()
    told = ["--images", truth[0], "--labels", truth[1]]
    assert opsef(first, "evaluate", "mine", *told).code == 0
    entry = opsef(first, "evaluate", "mine", *told, "--json").json
    assert entry["images"] == 1
    assert [f1["interval"] for f1 in entry["f1"].values()] == [None] * 3


def test_every_score_stays_and_the_newest_sorts_the_list(opsef, first, truth, onnx_file):
    opsef(first, "add", onnx_file, "--engine", "unet")
    told = ["--images", truth[0], "--labels", truth[1]]
    assert opsef(first, "evaluate", "mine", *told).code == 0
    said = opsef(first, "evaluate", "mine", "--scale", "0.1", *told)
    assert said.code == 0
    assert said.out.splitlines()[0].startswith("mine: ") and "IoU" in said.out
    scores = read_json(first / "models" / "mine" / "mine.json")["evaluations"]
    values = [entry["f1"]["0.5"]["value"] for entry in scores]
    assert values[0] > 0.7 > 0.3 > values[1]
    assert [entry["predict"]["scale"] for entry in scores] == [1.0, 0.1]
    assert scores[0]["data"] == scores[1]["data"]
    rows = opsef(first, "list", "--json").json
    scored = [row for row in rows if row["f1"] is not None]
    assert rows[: len(scored)] == scored, "those without a score come last"
    assert scored[-1]["name"] == "mine" and scored[-1]["f1"] == values[1]
    assert scored[-1]["scored"] == f"2 images, {scores[1]['date']}"
    assert {row["scored"] for row in scored[:-1]} == {"val", "val, diameter 22", "loo"}


def test_shipped_weights_are_scored_on_a_copy(opsef, first, truth):
    shipped = read_json(SHIPPED / "nuclei-unet.json")
    told = ["--images", truth[0], "--labels", truth[1]]
    said = opsef(first, "evaluate", "nuclei-unet", *told)
    assert said.code == 0, said.err
    assert "The project has a copy of nuclei-unet now" in said.out
    assert read_json(SHIPPED / "nuclei-unet.json") == shipped
    copy = find_weights("unet", None, [first / "models"])
    assert copy.path == first.resolve() / "models" / "nuclei-unet" / "nuclei-unet.onnx"
    assert len(copy.card["evaluations"]) == 1 and copy.card["val"] == shipped["val"]
    again = opsef(first, "evaluate", "nuclei-unet", *told)
    assert "copy" not in again.out
    assert len(find_weights("unet", None, [first / "models"]).card["evaluations"]) == 2


def other_shape(images: Path, labels: Path) -> None:
    write_labels(labels / "small_fadeb0ab0928.tif", np.ones((5, 4), np.int32))


def no_pairs(images: Path, labels: Path) -> None:
    for file in labels.iterdir():
        file.rename(file.with_name(f"{file.stem}_truth.tif"))


def empty_truth(images: Path, labels: Path) -> None:
    for file in labels.iterdir():
        write_labels(file, np.zeros_like(read_labels(file)))


def twins(images: Path, labels: Path) -> None:
    tifffile.imwrite(labels / "small_fadeb0ab0928.tiff", np.zeros((4, 4), np.uint8))


def broken(images: Path, labels: Path) -> None:
    (images / "small_fadeb0ab0928.png").write_bytes(b"no png")


def nothing(images: Path, labels: Path) -> None:
    shutil.rmtree(labels)


@pytest.mark.parametrize(
    ("damage", "words", "expected"),
    [
        (other_shape, [], "small_fadeb0ab0928.png is of shape (256, 256), its labels are (5, 4)"),
        (no_pairs, [], "none of the 3 images in"),
        (empty_truth, [], "the labels of all 2 images are empty"),
        (twins, [], "small_fadeb0ab0928.tif and small_fadeb0ab0928.tiff in"),
        (broken, [], "small_fadeb0ab0928.png"),
        (nothing, [], "there is no folder"),
        (None, ["sigma=2"], "unet has no parameter 'sigma'. Choose of scale, tile"),
        (None, ["threshold=2"], "threshold is 2: Input should be less than 1"),
        (None, ["threshold"], "'threshold' is no KEY=VALUE. For example threshold=0.6"),
        (None, ["=2"], "'=2' is no KEY=VALUE"),
    ],
)
def test_what_cannot_be_scored_says_why(opsef, first, truth, damage, words, expected):
    if damage:
        damage(*truth)
    told = ["--images", truth[0], "--labels", truth[1]]
    answer = opsef(first, "evaluate", "nuclei-unet", *words, *told)
    assert answer.code == 2 and expected in answer.err, answer.err
    assert answer.err.startswith("opsef: ") and answer.err.count("\n") == 1
    assert not (first / "models").exists()


def test_evaluating_needs_no_torch():
    """Scores of a network on ONNX Runtime come without torch, TensorFlow and the like."""
    code = (
        "import sys, opsef_bridge.train.evaluate\n"
        "assert not {'torch', 'tensorflow', 'onnxruntime', 'stardist'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_verify_tells_all_that_is_wrong(opsef, first, onnx_file):
    opsef(first, "add", onnx_file, "--engine", "unet")
    opsef(first, "add", onnx_file, "--engine", "unet", "--name", "gone")
    assert opsef(first, "verify", "--json").json["verified"] is True
    with (first / "models" / "mine" / "mine.onnx").open("ab") as file:
        file.write(b"x")
    (first / "models" / "gone" / "mine.onnx").unlink()
    (first / "models" / "x.json").write_text('{"a":')
    said = opsef(first, "verify")
    assert said.code == 2 and "nuclei-unet: sha256 as in its card" in said.out
    assert said.err.count("opsef: ") == said.err.count("\n") == 3
    assert "or remove models/gone" in said.err and "the package again" not in said.err
    told = opsef(first, "verify", "--json")
    assert told.code == 2 and told.json["verified"] is False
    bad = {row["name"]: row["error"]["message"] for row in told.json["weights"] if row["error"]}
    assert sorted(bad) == ["gone", "mine", "x"]
    assert len(told.json["weights"]) == 3 + len(list_weights())


def test_add_goes_on_behind_a_bad_file(opsef, first, onnx_file, tmp_path):
    (tmp_path / "bad.txt").write_text("no network")
    good = shutil.copy(onnx_file, tmp_path / "good.onnx")
    words = ["add", onnx_file, tmp_path / "bad.txt", good, "--engine", "unet"]
    said = opsef(first, *words)
    assert said.code == 2
    assert [line.split()[1] for line in said.out.splitlines()] == ["mine", "good"]
    assert said.err.startswith("opsef: ") and "bad.txt" in said.err and said.err.count("\n") == 1
    told = opsef(first, *words, "--json")
    assert told.code == 2
    assert [row["name"] for row in told.json["added"]] == ["mine", "good"]
    [bad] = told.json["failed"]
    assert bad["source"].endswith("bad.txt") and bad["error"] == told.json["error"]
    assert opsef(first, "add", onnx_file, good, "--engine", "unet").code == 0


def test_publish_says_that_a_card_was_updated(opsef, first, second, truth, onnx_file, tmp_path):
    shared = tmp_path / "institute"
    opsef(first, "add", onnx_file, "--engine", "unet")
    opsef(first, "publish", shared, "mine")
    opsef(second, "add", "--from", shared)
    opsef(first, "evaluate", "mine", "--images", truth[0], "--labels", truth[1])
    assert opsef(first, "publish", shared, "mine").out.startswith("Card updated, mine for unet")
    [row] = opsef(second, "add", "--from", shared, "--json").json
    assert (row["new"], row["updated"]) == (False, True)
    scored = next(r for r in opsef(second, "list", "--json").json if r["name"] == "mine")
    assert scored["f1"] is not None
    assert opsef(first, "publish", shared, "mine").out.startswith("Nothing to do")


def test_a_bad_file_in_models_is_a_warning(opsef, first, onnx_file, tmp_path):
    opsef(first, "add", onnx_file, "--engine", "unet")
    (first / "models" / "x.json").write_text('{"a":')
    (first / "data").mkdir()
    shutil.copy(example_data() / "images" / "small_fadeb0ab0928.png", first / "data")
    said = opsef(first, "list")
    assert said.code == 0 and "\nmine " in said.out
    assert said.err.startswith("opsef: ") and "x.json is not valid JSON" in said.err
    assert opsef(first, "bundle", tmp_path / "all.zip").code == 0
    command = [sys.executable, "-m", "opsef_bridge", "-p", first, "--json", "sweep", "plan"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["variants"] == 1
    assert "x.json is not valid JSON" in done.stderr
    (first / "opsef.yaml").write_text(CONFIG.replace("mine", "x"))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "x.json is not valid JSON" in done.stderr
