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

import pytest
import typer

from opsef_bridge import cli
from opsef_bridge.demo import example_data
from opsef_bridge.engines.registry import SHIPPED
from opsef_bridge.files import file_sha256, read_json

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
        monkeypatch.setattr(cli._Context, "folder", Path("."))
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
    assert lines[0].split() == ["name", "engine", "licence", "f1", "sha256", "file"]
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
    assert every.out.startswith("Wrote mine, nuclei-") and every.out.endswith(f" to {file}\n")


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


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")
def test_fetch_from_a_mirror(opsef, first, mirror):
    import torch

    folder, address = mirror
    torch.save({"downsample.down.a": torch.zeros(2)}, folder / "cyto3")
    good = ("--mirror", address, "--sha256", file_sha256(folder / "cyto3"))
    wrong = opsef(first, "fetch", "cyto3", "--mirror", address, "--sha256", "0" * 64)
    assert wrong.code == 2 and "is another file" in wrong.err
    assert not list((first / "models").iterdir())
    assert opsef(first, "fetch", "cyto3", *good).out.startswith("Wrote cyto3 for cellpose: ")
    assert opsef(first, "fetch", "cyto3", *good, "--json").json[0]["new"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "gone.onnx"], "there is no file or folder gone.onnx. Taken are: "),
        (["add", "{onnx}"], "--engine"),
        (["add", "--from", "gone"], "there is no folder or bundle gone"),
        (["bundle", "x.zip", "moon"], "the project has no weights 'moon'. It has nuclei-"),
        (["publish", "x", "moon"], "the project has no weights 'moon'"),
        (["fetch", "moon"], "there is no official model 'moon'"),
        (["fetch", "3D_demo"], "Bring its file python_3D_demo.zip"),
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


@pytest.mark.parametrize("arguments", [[], ["a.onnx", "--from", "b", "--engine", "unet"]], ids=str)
def test_add_says_how_it_is_used(opsef, first, arguments):
    answer = opsef(first, "add", *arguments)
    assert answer.code == 2 and "--from FOLDER" in answer.err


def test_a_folder_that_is_no_project_gets_no_models(opsef, tmp_path, onnx_file):
    answer = opsef(tmp_path, "add", onnx_file, "--engine", "unet")
    assert answer.code == 2 and "there is no opsef.yaml in" in answer.err
    assert os.listdir(tmp_path) == ["mine.onnx"]


def test_the_commands_of_models():
    group = typer.main.get_command(cli.app).commands["models"]  # type: ignore[attr-defined]
    assert {"add", "bundle", "fetch", "list", "publish", "verify"} <= set(group.commands)
