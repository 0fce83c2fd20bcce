"""Weights come and go whole, checked and with their card; what is not safe stays outside."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import json
import os
import pickle
import shutil
import stat
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsef_bridge.engines import find_weights, list_weights, trial, verify
from opsef_bridge.engines import untrusted as untrusted_module
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.cards import add_evaluation, best_score, card_file, table
from opsef_bridge.engines.official import official_models
from opsef_bridge.engines.registry import SHIPPED
from opsef_bridge.engines.store import (
    add,
    add_from,
    bundle,
    convert,
    fetch,
    own_copy,
    publish,
)
from opsef_bridge.errors import InputError, NotFoundError, OpsefError, WeightsError
from opsef_bridge.files import file_sha256, read_json, write_json

PACKAGED = [weights.name for weights in list_weights()]
UNET = SHIPPED / "nuclei-unet.onnx"
needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The folder ``models`` of a project that has none yet."""
    return tmp_path / "project" / "models"


@pytest.fixture(autouse=True)
def trials_here(monkeypatch):
    """Let engines try weights in this process, which saves a second each time.

    That they are tried in another one is tested in test_trial.py.
    """

    def try_here(weights: Weights) -> trial.Trial:
        return trial.Trial(**trial.segment_square(trial.as_json(weights)))

    monkeypatch.setattr(trial, "try_engine", try_here)


@pytest.fixture
def with_stardist():
    """onnx and h5py, which convert."""
    pytest.importorskip("onnx")
    pytest.importorskip("h5py")


def with_card(folder: Path, name: str = "mine", **more: Any) -> Path:
    """Weights and a card as another project has them; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = Path(shutil.copy(UNET, folder / f"{name}.onnx"))
    card = {"name": name, "engine": "unet", "file": file.name, "sha256": file_sha256(UNET), **more}
    write_json(folder / f"{name}.json", card)
    return file


def names(folder: Path) -> list[str]:
    """What `folder` has, without the shipped weights; nothing half made, ever."""
    assert not list(folder.rglob("*.partial*")) if folder.exists() else True
    return [weights.name for weights in list_weights([folder]) if weights.path.parent != SHIPPED]


# A file.


def test_an_onnx_keeps_the_card_beside_it(tmp_path, models):
    file = with_card(tmp_path / "in", licence="CC0-1.0", val=[{"f1": {"0.5": {"value": 0.5}}}])
    [one] = add(file, models)
    assert one.new and one.weights.path == models / "mine" / "mine.onnx"
    card = read_json(models / "mine" / "mine.json")
    assert card["licence"] == "CC0-1.0" and card["val"] == [{"f1": {"0.5": {"value": 0.5}}}]
    assert (card["source"], card["data"]) == ("unknown", "unknown")
    assert len(card["added"]) == len("2026-01-01")
    verify(find_weights("unet", "mine", [models]))


def test_an_onnx_without_a_card_needs_an_engine_that_runs_it(tmp_path, models):
    file = Path(shutil.copy(UNET, tmp_path / "my best (2).onnx"))
    with pytest.raises(WeightsError, match=r"no card my best \(2\)\.json.*--engine"):
        add(file, models)
    [one] = add(file, models, engine="unet", facts={"licence": "MIT", "data": ""})
    assert one.weights.name == "my-best-2"
    card = read_json(models / "my-best-2" / "my-best-2.json")
    assert card["engine"] == "unet" and card["sha256"] == file_sha256(UNET)
    assert (card["licence"], card["data"]) == ("MIT", "unknown")
    with pytest.raises(InputError, match="for the engine 'unet', not 'watershed'"):
        add(with_card(tmp_path / "in"), models, engine="watershed")
    assert names(models) == ["my-best-2"]


def test_a_network_of_another_kind_is_refused_by_its_engine(tmp_path, models):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    value = functools.partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [value("x", shape=["n", "c", "y"])], [value("y", shape=["n", "c", "y"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "relu.onnx")
    (tmp_path / "broken.onnx").write_bytes(UNET.read_bytes()[:1000])
    for file in ("relu.onnx", "broken.onnx"):
        with pytest.raises(WeightsError, match=file.partition(".")[0]):
            add(tmp_path / file, models, engine="unet")
    with pytest.raises(WeightsError, match="'watershed' takes no weights"):
        add(tmp_path / "relu.onnx", models, engine="watershed")
    with pytest.raises(NotFoundError, match="no engine 'nonesuch'"):
        add(tmp_path / "relu.onnx", models, engine="nonesuch")
    assert names(models) == [] and not list(models.iterdir())


def test_a_file_that_its_card_does_not_describe_is_refused(tmp_path, models):
    file = with_card(tmp_path / "in", sha256="0" * 64)
    with pytest.raises(WeightsError, match="not the file that its card describes"):
        add(file, models)
    assert names(models) == []


def test_a_name_stands_for_one_thing(tmp_path, models):
    file = with_card(tmp_path / "in")
    add(file, models)
    before = (models / "mine" / "mine.json").stat().st_mtime_ns
    [again] = add(file, models)
    assert not again.new and (models / "mine" / "mine.json").stat().st_mtime_ns == before
    [shipped] = add(UNET, models)
    assert not shipped.new and shipped.weights.path == UNET
    other = other_network(tmp_path / "other" / "mine.onnx")
    with pytest.raises(WeightsError, match=r"'mine' is taken.*--name"):
        add(other, models, engine="unet")
    add(other, models, engine="unet", name="other")
    (models / "note").mkdir()
    with pytest.raises(WeightsError, match="a folder without a card"):
        add(other, models, engine="unet", name="note")
    assert names(models) == ["mine", "other"]


def other_network(file: Path) -> Path:
    """The shipped network with a word more in it, so that its sha256 is another."""
    onnx = pytest.importorskip("onnx")
    file.parent.mkdir(parents=True)
    model = onnx.load(UNET)
    model.doc_string = "another"
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "x" * 81, "ä", "a b"])
def test_names_that_are_no_folder_are_refused(tmp_path, models, name):
    with pytest.raises(OpsefError) as caught:
        add(with_card(tmp_path / "in"), models, name=name or " ")
    assert caught.value.hint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "project"]


# What is not taken.


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("a.pkl", pickle.dumps({}, protocol=0), "pickles run code"),
        ("a.pt", pickle.dumps({"a": 1}), "pickles run code"),
        ("a.npy", b"\x93NUMPY", "pickles run code"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"0" * 90, r"config\.json"),
        ("a.txt", b"hello", "is none of them"),
        ("a.zip", b"PK\3\4 cut off", "torn torch or zip file: copy it again"),
        ("a.pt", b"PK\3\4 cut off", "torn torch or zip file: copy it again"),
        ("b.zip", b"hello", "broken zip"),
        ("empty", b"", "is none of them"),
    ],
)
def test_other_files_are_refused_with_what_is_taken(tmp_path, models, file, content, words):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{words}.*Taken are: an \.onnx file"):
        add(tmp_path / file, models)
    assert not list(models.iterdir())


def test_folders_without_a_model_and_missing_files(tmp_path, models):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="neither a card nor"):
        add(tmp_path / "empty", models)
    with pytest.raises(NotFoundError, match="no file or folder"):
        add(tmp_path / "gone", models)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="device"):
        add(tmp_path / "pipe", models)


def zip_with(path: Path, members: dict[str, bytes], **more: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in more.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return path


LINK = {"external_attr": (stat.S_IFLNK | 0o777) << 16, "create_system": 3}


@pytest.mark.parametrize(
    ("members", "more", "words"),
    [
        ({"../evil.json": b"{}"}, {}, "leads out"),
        ({"/evil.json": b"{}"}, {}, "leads out"),
        ({"a/../../evil.json": b"{}"}, {}, "leads out"),
        ({"..\\evil.json": b"{}"}, {}, "leads out"),
        ({"C:evil.json": b"{}"}, {}, "leads out"),
        ({"a.onnx": b"/etc/passwd"}, LINK, "is a link"),
        ({"a.json": bytes(2**23)}, {}, "100 times as many"),
        ({f"{i}.json": b"" for i in range(1001)}, {}, "1001 files"),
        ({"a/data.json": b"{"}, {}, "not valid JSON"),
    ],
)
def test_unsafe_zips_leave_nothing(tmp_path, models, members, more, words):
    file = zip_with(tmp_path / "evil.zip", members, **more)
    with pytest.raises(WeightsError, match=words):
        add(file, models)
    assert {p.name for p in tmp_path.rglob("*")} == {"evil.zip", "project", "models"}


def test_zips_have_a_limit_and_broken_ones_are_said(tmp_path, models, monkeypatch):
    file = zip_with(tmp_path / "a.zip", {"a.json": b"{}" * 50})
    monkeypatch.setattr(untrusted_module, "LARGEST", 99)
    with pytest.raises(WeightsError, match="become 100 bytes, more than 99"):
        add(file, models)
    broken = bytearray(UNET.read_bytes())
    stored = tmp_path / "b.zip"
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("a.json", bytes(broken[:90]))
    stored.write_bytes(stored.read_bytes().replace(bytes(broken[40:50]), b"0123456789"))
    with pytest.raises(WeightsError, match="cannot be unpacked"):
        add(stored, models)
    assert not list(models.iterdir())


@pytest.mark.parametrize("what", ["a later version", "a name that is no UTF-8"])
def test_zips_that_python_cannot_open_are_said(tmp_path, models, what):
    file = zip_with(tmp_path / "a.zip", {"ä.json": b"{}"})
    content = bytearray(file.read_bytes())
    if what == "a later version":
        content[content.index(b"PK\x01\x02") + 6] = 99
    else:
        content = content.replace("ä".encode(), b"\xff\xfe")
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be unpacked"):
        add(file, models)
    assert not list(models.iterdir())


def test_links_in_a_shared_folder_are_not_followed(tmp_path, models):
    file = with_card(tmp_path / "shared" / "mine")
    file.rename(tmp_path / "secret")
    file.symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match="missing or a link"):
        add_from(tmp_path / "shared", models)
    assert names(models) == []


@pytest.mark.parametrize("file", ["../secret.onnx", "sub/secret.onnx"])
def test_a_card_cannot_name_a_file_elsewhere(tmp_path, models, file):
    with_card(tmp_path / "shared" / "mine", file=file)
    for place in (tmp_path / "shared", tmp_path / "shared" / "mine" / "sub"):
        place.mkdir(exist_ok=True)
        shutil.copy(UNET, place / "secret.onnx")
    with pytest.raises(WeightsError, match="not beside it"):
        add_from(tmp_path / "shared", models)


# Torch.


@pytest.fixture(scope="module")
def cellpose_state() -> dict[str, Any]:
    """The tensors of a small network of Cellpose's."""
    torch = pytest.importorskip("torch")
    network = pytest.importorskip("cellpose.resnet_torch").CPnet([2, 4, 4, 4, 4], 3, sz=3)
    torch.manual_seed(0)
    return network.state_dict()


@pytest.fixture
def cellpose(tmp_path, cellpose_state) -> Callable[..., Path]:
    """Write a network as Cellpose does."""
    import torch

    def write(name: str = "cyto3", without: str = "", **how: Any) -> Path:
        state = {key: value for key, value in cellpose_state.items() if key != without}
        torch.save(state, tmp_path / name, **how)
        return tmp_path / name

    return write


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_a_cellpose_file_is_taken_as_it_is(cellpose, models, new):
    file = cellpose("nucleitorch_0", _use_new_zipfile_serialization=new)
    [one] = add(file, models, name="nuclei")
    assert (one.weights.engine, one.weights.name, one.note) == ("cellpose", "nuclei", "")
    assert one.weights.path.name == "nucleitorch_0"
    assert one.weights.path.read_bytes() == file.read_bytes()


def test_a_torch_file_of_something_else_is_refused(cellpose, models, tmp_path):
    import torch

    torch.save({"encoder.weight": torch.zeros(2), "W2": torch.zeros(2)}, tmp_path / "sam")
    with pytest.raises(WeightsError, match=r"no network of Cellpose.*2 entries.*Cellpose 4"):
        add(tmp_path / "sam", models)
    with pytest.raises(WeightsError, match=r"Mask R-CNN \(no layer roi_heads.*--engine cellpose"):
        add(cellpose(), models, engine="maskrcnn")
    cut = cellpose()
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises(WeightsError, match="torn torch or zip file: copy it again"):
        add(cut, models)
    torch.save({"downsample.down.a.weight": torch.zeros(2, 2)}, tmp_path / "half")
    with pytest.raises(WeightsError, match="'cellpose' cannot run half"):
        add(tmp_path / "half", models)
    assert names(models) == []


def test_a_mask_rcnn_is_found_by_its_layers(models, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from opsef_bridge.engines.maskrcnn_network import small_network

    network = small_network((8, 8, 8, 8), 8, box=16, mask=(8, 8))
    torch.save(network.state_dict(), tmp_path / "cells.pt")
    [one] = add(tmp_path / "cells.pt", models)
    assert (one.weights.engine, one.note) == ("maskrcnn", "")
    verify(find_weights("maskrcnn", "cells", [models]))
    torch.save({"roi_heads.a": torch.zeros(1)}, tmp_path / "half.pt")
    with pytest.raises(WeightsError, match="'maskrcnn' cannot run half"):
        add(tmp_path / "half.pt", models)
    assert names(models) == ["cells"]


def unet_state(width: int = 2) -> dict[str, Any]:
    """A state_dict of CellProfiler's U-Net, narrow, with random numbers."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    sizes = [width * 2**level for level in range(4)]
    takes = [(1, *sizes[:3]), [sizes[i] + sizes[i + 1] for i in (2, 1, 0)]]
    blocks = list(zip((*takes[0], *takes[1]), (*sizes, *sizes[2::-1]), strict=True))
    state = {}
    for number, (before, size) in enumerate(blocks):
        for part, channels in enumerate((before, size)):
            place = f"block{number}.{part}"
            state[f"{place}.conv.weight"] = torch.randn(size, channels, 3, 3)
            state[f"{place}.conv.bias"] = torch.zeros(size)
            for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0)):
                state[f"{place}.norm.{name}"] = torch.full((size,), float(value))
            state[f"{place}.norm.running_var"] = torch.ones(size)
    state |= {"head.weight": torch.randn(3, width, 1, 1), "head.bias": torch.zeros(3)}
    return state


def test_a_unet_of_cellprofiler_needs_its_engine_named(models, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    file = tmp_path / "mine.pt"
    torch.save(unet_state(), file)
    with pytest.raises(WeightsError, match="no network of Cellpose"):
        add(file, models)
    [one] = add(file, models, engine="unet", name="cp")
    verify(find_weights("unet", "cp", [models]))
    assert one.weights.path.name == "cp.onnx"
    assert one.weights.card["input"]["percentiles"] == [0, 100]
    [again] = convert([file], models, engine="unet")
    assert again.weights.name == "mine-onnx" and again.weights.sha256 == one.weights.sha256
    told = {"file": "mine.pt", "sha256": file_sha256(file)}
    assert again.weights.card["converted_from"] == told
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 90)
    with pytest.raises(WeightsError, match=r"a\.h5"):
        add(tmp_path / "a.h5", models, engine="unet")


def test_percentiles_go_on_the_card_of_a_bare_network(models, tmp_path, onnx_file):
    [one] = add(onnx_file, models, engine="unet", percentiles=(0, 100))
    assert one.weights.card["input"] == {"percentiles": [0, 100]}
    with pytest.raises(WeightsError, match="the same file with another card"):
        add(onnx_file, models, engine="unet")
    for given in ((50, 50), (-1, 5), (0, 101), (9, 1)):
        with pytest.raises(InputError, match="percentiles from"):
            add(onnx_file, models, engine="unet", percentiles=given)
    with pytest.raises(InputError, match="without a card"):
        add(with_card(tmp_path / "in"), models, percentiles=(0, 100))


def test_official_cellpose_networks_know_their_diameter(cellpose, models):
    """The files of the package do not tell it; the package knows it by the name."""
    cards = {}
    for file, name in (("nucleitorch_0", None), ("cyto3", None), ("a", "nuclei"), ("b", None)):
        [one] = add(cellpose(file, without="diam_mean"), models, name=name)
        told = cards[one.weights.name] = one.weights.card.get("input")
        assert bool(told) == ("by its name it is taken for the official" in one.note)
    assert cards == {
        "nucleitorch_0": {"diameter": 17.0},
        "cyto3": {"diameter": 30.0},
        "nuclei": {"diameter": 17.0},
        "b": None,
    }


def test_what_a_cellpose_file_says_of_its_diameter_counts_and_not_its_name(cellpose, models):
    for file, name in (("mycp.pt", "nuclei"), ("nucleitorch_0", None)):
        [one] = add(cellpose(file), models, name=name)
        assert "input" not in one.weights.card and one.note == ""


def size_model(file: Path) -> Path:
    """Cellpose's size model, as its package writes it."""
    model = {"A": np.zeros(256, "f4"), "smean": np.zeros(256, "f4"), "ymean": 3.0}
    np.save(file, {**model, "diam_mean": 30.0})
    return file


def test_a_size_model_goes_with_its_network(cellpose, models, tmp_path, onnx_file):
    size = size_model(tmp_path / "size_cyto3.npy")
    add(cellpose(), models, size=size)
    told = read_json(models / "cyto3" / "cyto3.json")["input"]
    assert set(told) == {"size_model"} and len(told["size_model"]["A"]) == 256
    with pytest.raises(WeightsError, match="the same file with another card"):
        add(cellpose(), models)
    assert not add(cellpose(), models, size=size)[0].new
    with pytest.raises(InputError, match="--size goes with one network of Cellpose"):
        add(onnx_file, models, engine="unet", size=size)
    for file in (tmp_path / "gone.npy", onnx_file):
        with pytest.raises(WeightsError, match="size model"):
            add(cellpose(), models, size=file, name="other")
    assert names(models) == ["cyto3"]


@pytest.fixture
def onnx_file(tmp_path) -> Path:
    """A network without a card."""
    (tmp_path / "plain").mkdir()
    return Path(shutil.copy(UNET, tmp_path / "plain" / "mine.onnx"))


@needs_torch
@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_a_torch_file_that_would_run_code_does_not(tmp_path, models, new):
    import torch

    file = tmp_path / "cyto3"
    torch.save({"a": Bomb(tmp_path / "ran")}, file, _use_new_zipfile_serialization=new)
    with pytest.raises(WeightsError, match="holds more than weights"):
        add(file, models)
    bundled = {"name": "x", "engine": "cellpose", "file": "cyto3", "sha256": file_sha256(file)}
    evil = zip_with(
        tmp_path / "x.zip", {"x/x.json": json.dumps(bundled).encode(), "x/cyto3": file.read_bytes()}
    )
    with pytest.raises(WeightsError, match="holds more than weights"):
        add(evil, models)
    assert not (tmp_path / "ran").exists() and names(models) == []
    torch.load(file, weights_only=False)
    assert (tmp_path / "ran").exists(), "it is no test of this"


def test_without_torch_a_cellpose_file_is_copied_with_a_note(cellpose, models, monkeypatch):
    file = cellpose()
    monkeypatch.setitem(sys.modules, "torch", None)
    [one] = add(file, models)
    assert one.weights.engine == "cellpose"
    assert "torch, which would check it, is not installed" in one.note
    assert "Not tried: " in one.note and "opsef_bridge[cellpose]" in one.note


def test_a_pickle_in_a_bundle_is_refused(tmp_path, models):
    data = pickle.dumps({"a": 1})
    sha256 = hashlib.sha256(data).hexdigest()
    card = {"name": "x", "engine": "unet", "file": "x.onnx", "sha256": sha256}
    file = zip_with(tmp_path / "x.zip", {"x.json": json.dumps(card).encode(), "x.onnx": data})
    with pytest.raises(WeightsError, match="pickles run code"):
        add(file, models)


# StarDist.


def stardist_folder(folder: Path) -> Path:
    """A model of StarDist's own format, tiny, with random weights."""
    import h5py

    rng = np.random.default_rng(0)
    channels = {"down0": (1, 4), "down1": (4, 4), "mid0": (4, 8), "mid1": (8, 4)}
    channels |= {"up0": (8, 4), "up1": (4, 4), "prob": (4, 1), "dist": (4, 8)}
    folder.mkdir(parents=True)
    with h5py.File(folder / "weights_best.h5", "w") as file:
        file.attrs["layer_names"] = list(channels)
        for name, (taken, made) in channels.items():
            side = 1 if name in ("prob", "dist") else 3
            group = file.create_group(name)
            group["kernel:0"] = rng.normal(0, 0.3, (side, side, taken, made)).astype("f4")
            group["bias:0"] = np.zeros(made, "f4")
            group.attrs["weight_names"] = ["kernel:0", "bias:0"]
    config = {"axes": "YXC", "n_channel_in": 1, "n_rays": 8, "grid": [1, 1], "unet_n_depth": 1}
    write_json(folder / "config.json", config)
    write_json(folder / "thresholds.json", {"prob": 0.6, "nms": 0.3})
    return folder


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))


@pytest.mark.parametrize("pack", [Path, zipped], ids=["folder", "zip"])
def test_a_model_of_stardist_is_converted(tmp_path, models, with_stardist, pack):
    source = pack(stardist_folder(tmp_path / "in" / "my model"))
    [one] = add(source, models, facts={"data": "my nuclei"})
    weights = find_weights("stardist", "my-model", [models])
    verify(weights)
    assert weights.path.name == "my-model.onnx" and one.weights.sha256 == weights.sha256
    card = weights.card
    assert (card["thresholds"], card["data"]) == ({"prob": 0.6, "nms": 0.3}, "my nuclei")
    assert card["source"]["weights"] == "weights_best.h5" and card["licence"] == "unknown"
    assert not add(source, models)[0].new, "the same model converts to the same file"


def test_without_what_converts_the_error_says_what_to_install(
    tmp_path, models, with_stardist, monkeypatch
):
    source = stardist_folder(tmp_path / "m")
    for package in ("onnx", "h5py"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            with pytest.raises(WeightsError, match=rf"{package}.*opsef_bridge\[train\]"):
                add(source, models)
    assert names(models) == []


# Bundles and shared folders.


@pytest.fixture
def two(tmp_path) -> Path:
    """The models of a project with two weights of its own."""
    folder = tmp_path / "first" / "models"
    for name in ("a", "b"):
        add(with_card(tmp_path / "in" / name, name, licence="MIT"), folder)
    return folder


def test_a_bundle_brings_back_what_went_in(tmp_path, two, models):
    file = tmp_path / "all.zip"
    assert [one.name for one in bundle(file, [two])] == ["a", "b", *PACKAGED]
    added = {one.weights.name: one.new for one in add(file, models)}
    assert added == {"a": True, "b": True} | dict.fromkeys(PACKAGED, False), "those are here"
    for name in ("a", "b"):
        card = read_json(models / name / f"{name}.json")
        assert card | {"added": ""} == read_json(two / name / f"{name}.json") | {"added": ""}
        verify(find_weights("unet", name, [models]))


def test_some_of_a_bundle_and_under_other_names(tmp_path, two, models):
    file = tmp_path / "some.zip"
    assert [one.name for one in bundle(file, [two], ["b", "b"])] == ["b"]
    add(file, models, name="c")
    bundle(tmp_path / "all.zip", [two])
    add_from(tmp_path / "all.zip", models, ["a"], name="d", facts={"source": "a friend"})
    assert names(models) == ["c", "d"]
    assert find_weights("unet", "d", [models]).card["source"] == "a friend"
    with pytest.raises(InputError, match=f"{2 + len(PACKAGED)} weights cannot all be named 'e'"):
        add(tmp_path / "all.zip", models, name="e")
    with pytest.raises(NotFoundError, match=r"no weights 'z'.*It has a, b, .*nuclei-"):
        add_from(tmp_path / "all.zip", models, ["z"])
    with pytest.raises(NotFoundError, match="no weights 'z'"):
        bundle(tmp_path / "none.zip", [two], ["z"])
    assert not (tmp_path / "none.zip").exists()


def test_one_that_is_taken_keeps_the_others_out(tmp_path, two, models):
    bundle(tmp_path / "ab.zip", [two], ["a", "b"])
    add(other_network(tmp_path / "o" / "b.onnx"), models, engine="unet")
    with pytest.raises(WeightsError, match=r"'b' is taken.*--from SOURCE NAME --name OTHER"):
        add(tmp_path / "ab.zip", models)
    assert names(models) == ["b"]


def test_an_institute_shares_a_folder(tmp_path, two, models):
    shared = tmp_path / "institute"
    assert [one.new for one in publish(shared, [two], ["a", "b"])] == [True, True]
    assert [one.new for one in publish(shared, [two], ["a"])] == [False]
    assert (shared / "a").stat().st_mode & 0o777 == shared.stat().st_mode & 0o777
    add_from(shared, models, ["b"])
    assert names(models) == ["b"]
    assert [one.new for one in add_from(shared, models)] == [True, False]
    with pytest.raises(NotFoundError, match="no folder or bundle"):
        add_from(tmp_path / "gone", models)
    with pytest.raises(NotFoundError, match=r"has no weights\. It has none"):
        add_from(UNET, models)


def test_sha256_is_checked_both_ways(tmp_path, two, models):
    publish(tmp_path / "shared", [two], ["a"])
    with (tmp_path / "shared" / "a" / "a.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="not the file that its card describes"):
        add_from(tmp_path / "shared", models)
    with (two / "b" / "b.onnx").open("ab") as file:
        file.write(b"x")
    for give in (
        lambda: bundle(tmp_path / "b.zip", [two], ["b"]),
        lambda: publish(tmp_path / "shared", [two], ["b"]),
    ):
        with pytest.raises(WeightsError, match="not the file that its card describes"):
            give()
    assert not (tmp_path / "b.zip").exists() and names(models) == []
    assert names(tmp_path / "shared") == ["a"]


# Official names.


@pytest.fixture
def mirror(tmp_path, monkeypatch):
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


def test_an_official_model_is_fetched_from_a_mirror(mirror, cellpose, models):
    folder, address = mirror
    file = cellpose().rename(folder / "cyto3")
    sha256 = file_sha256(file)
    one = fetch("cyto3", models, mirror=f"{address}/", sha256=sha256.upper())
    assert (one.new, one.weights.sha256) == (True, sha256)
    card = read_json(models / "cyto3" / "cyto3.json")
    assert card["source"] == f"{address.removeprefix('http://')}/cyto3, sha256 {sha256}"
    assert card["licence"] == official_models()["cyto3"]["licence"]
    assert not fetch("cyto3", models, mirror=address, sha256=sha256).new


def test_an_official_model_of_stardist_is_converted(
    mirror, models, tmp_path, with_stardist, monkeypatch
):
    folder, address = mirror
    zipped(stardist_folder(tmp_path / "2D")).rename(folder / "python_2D_versatile_fluo.zip")
    pinned = official_models()["2D_versatile_fluo"]["sha256"]
    sha256 = file_sha256(folder / "python_2D_versatile_fluo.zip")
    # The mirror has another file than the official one, which is not here.
    with pytest.raises(
        WeightsError, match=f"is another file: its sha256 is {sha256}, not {pinned}"
    ):
        fetch("2D_versatile_fluo", models, mirror=address, sha256=None)
    with pytest.raises(InputError, match=f"is {pinned}, not {sha256}"):
        fetch("2D_versatile_fluo", models, mirror=address, sha256=sha256)
    monkeypatch.setitem(official_models()["2D_versatile_fluo"], "sha256", sha256)
    fetch("2D_versatile_fluo", models, mirror=address, sha256=None)
    assert find_weights("stardist", "2D_versatile_fluo", [models]).path.suffix == ".onnx"


def test_another_file_is_refused_and_nothing_stays(mirror, cellpose, models):
    folder, address = mirror
    file = cellpose().rename(folder / "cyto3")
    with pytest.raises(WeightsError, match=file_sha256(file)) as caught:
        fetch("cyto3", models, mirror=address, sha256="ab" * 32)
    assert "ab" * 32 in caught.value.message
    assert not list(models.iterdir())


def test_a_mirror_that_does_not_have_it_or_sends_too_much(mirror, models, monkeypatch):
    folder, address = mirror
    with pytest.raises(WeightsError, match=r"cyto2torch_0 cannot be fetched.*404"):
        fetch("cyto2", models, mirror=address, sha256="ab" * 32)
    (folder / "cyto3").write_bytes(b"0" * 100)
    monkeypatch.setattr(untrusted_module, "LARGEST", 99)
    with pytest.raises(WeightsError, match="more than 99 bytes"):
        fetch("cyto3", models, mirror=address, sha256="ab" * 32)
    assert not list(models.iterdir())


@pytest.mark.parametrize(
    ("name", "mirror", "sha256", "words"),
    [
        ("cyto9", "http://x", "ab" * 32, r"no official model 'cyto9'.*2D_versatile_fluo"),
        ("cyto3", None, None, r"no mirror.*opsef models add cyto3 --name cyto3"),
        ("cyto3", "http://x", None, r"sha256 of cyto3, so it must be given"),
        ("3D_demo", None, None, r"--name 3D_demo`.*`opsef models fetch 3D_demo --mirror URL`"),
        ("cyto3", "http://x", "ab", r"sha256 'ab' is not 64"),
        ("cyto3", "file:///etc", "ab" * 32, "no address of the web"),
        ("cyto3", "/mnt/mirror", "ab" * 32, "no address of the web"),
        ("cyto3", "http://", "ab" * 32, "no address of the web"),
        ("cyto3", "https://anna:secret@x", "ab" * 32, "names no user"),
    ],
)
def test_what_fetch_needs_is_said_before_it_asks_anybody(models, name, mirror, sha256, words):
    with pytest.raises(OpsefError, match=words):
        fetch(name, models, mirror=mirror, sha256=sha256)


def test_official_names_that_are_missing_say_what_to_bring(models, with_stardist):
    with pytest.raises(WeightsError, match=r"he\.zip --name 2D_versatile_he"):
        find_weights("stardist", "2D_versatile_he", [models])
    stardist = {"2D_versatile_fluo", "2D_versatile_he", "2D_paper_dsb2018", "3D_demo"}
    assert set(official_models()) == stardist | {"nuclei", "cyto", "cyto2", "cyto3"}
    for name, entry in official_models().items():
        more = "sha256" if name in stardist else "diameter"
        assert set(entry) == {"engine", "file", "licence", "description", more}
        assert "://" not in json.dumps(entry)


def test_the_pinned_sha256_are_those_of_the_stardist_package():
    """Its own list of models, read as text: importing it would import TensorFlow."""
    found = importlib.util.find_spec("stardist")
    listed = Path(found.submodule_search_locations[0], "models", "__init__.py").read_text("utf-8")
    for entry in official_models().values():
        if entry["engine"] == "stardist":
            line = next(line for line in listed.splitlines() if f"/{entry['file']}'" in line)
            assert f"'{entry['sha256']}'" in line


# The list.


def test_the_list_is_sorted_by_the_best_known_score(tmp_path, models):
    shipped, where = best_score(read_json(SHIPPED / "nuclei-unet.json"))
    assert 0.8 < shipped < 1 and where == "val"
    for name, score in (("best", 0.99), ("worst", 0.1), ("none", None), ("odd", "x")):
        val = [{"f1": {"0.5": {"value": 1}}}, {"f1": {"0.5": {"value": score}}}]
        add(with_card(tmp_path / name, name, val=val, licence="MIT"), models)
    rows = [row for row in table([models]) if row["name"] not in set(PACKAGED) - {"nuclei-unet"}]
    assert [row["name"] for row in rows] == ["best", "nuclei-unet", "worst", "none", "odd"]
    assert [row["f1"] for row in rows] == [0.99, shipped, 0.1, None, None]
    assert rows[0]["licence"] == "MIT"


def scored(value: float, **more: Any) -> dict[str, Any]:
    return {"f1": {"0.5": {"value": value}}, **more}


def test_a_diameter_per_group_is_not_compared_with_one_for_all():
    ladder = [scored(0.7, diameter=12.0), scored(0.8, diameter=22.0), scored(0.6, diameter=45.0)]
    groups = scored(0.9, diameter={"small": 12.0, "large": 45.0})
    assert best_score({"val": [*ladder, groups]}) == (0.8, "val, diameter 22")
    assert best_score({"val": [groups]}) == (0.9, "val, diameter per group")
    older = [{**entry, "weights": "old"} for entry in (scored(0.99, diameter=30.0),)]
    assert best_score({"val": [*older, *ladder, groups]})[0] == 0.8, "of the file before"
    said = {row["name"]: row["scored"] for row in table([])}
    assert said["nuclei-cellpose"].startswith("val, diameter ") and said["nuclei-unet"] == "val"


def test_a_score_on_what_was_left_out_is_named_so():
    card = {"loo": {"rule": "each without itself", "all": scored(0.7)}}
    assert best_score(card) == (0.7, "loo")
    assert best_score(card | {"val": [scored(0.6)]}) == (0.6, "val")
    assert best_score({"loo": "x"}) == best_score({"loo": None}) == (None, "")
    assert next(row for row in table([]) if row["name"] == "he-stardist")["scored"] == "loo"


def test_what_is_being_made_is_not_listed(tmp_path, models):
    with_card(models / ".0123.partial" / "half", "half")
    assert [weights.name for weights in list_weights([models])] == [
        weights.name for weights in list_weights()
    ]


def test_what_was_scored_here_counts_for_more_than_val(tmp_path, models):
    val = [{"f1": {"0.5": {"value": 0.9}}}]
    [one] = add(with_card(tmp_path / "in", val=val), models)
    for day, score in ((1, 0.3), (2, 0.6)):
        f1 = {"0.5": {"value": score}}
        add_evaluation(one.weights, {"date": f"2026-01-0{day}", "images": day, "f1": f1})
    card = read_json(card_file(one.weights))
    assert [entry["f1"]["0.5"]["value"] for entry in card["evaluations"]] == [0.3, 0.6]
    assert best_score(card) == (0.6, "2 images, 2026-01-02") and card["val"] == val
    verify(find_weights("unet", "mine", [models]))
    row = next(row for row in table([models]) if row["name"] == "mine")
    assert (row["f1"], row["scored"]) == (0.6, "2 images, 2026-01-02")


def test_a_project_can_have_its_own_copy_of_what_is_shipped(tmp_path, models):
    add(with_card(tmp_path / "in", "aaa"), models)
    shipped = find_weights("unet", None, [models])
    assert shipped.path == UNET
    mine = own_copy(shipped, models)
    assert mine.path == models / "nuclei-unet" / "nuclei-unet.onnx"
    assert own_copy(mine, models) == mine
    found = find_weights("unet", None, [models])
    assert (found.path, found.key) == (mine.path, shipped.key), "it stays the default"


# Conversion.


def test_two_names_or_none_are_no_conversion(tmp_path, models, with_stardist):
    folder = stardist_folder(tmp_path / "m")
    for sources, engine, words in (
        ([folder, folder], None, "2 weights cannot all be named 'n'"),
        ([folder], "fpn2ws", "two networks, got 1 files.*DISTANCE.onnx BORDER.onnx"),
        (["gone"], None, "no weights and there is no file 'gone'"),
        ([UNET], "unet", "ONNX already"),
        (["nuclei-unet"], None, "ONNX already"),
    ):
        with pytest.raises(OpsefError, match=words):
            convert(sources, models, name="n", engine=engine)
    assert names(models) == []


def test_what_torch_runs_is_not_converted(cellpose, models):
    with pytest.raises(WeightsError, match=r"cyto3 is of a format that is not converted.*torch"):
        convert([cellpose()], models)
    add(cellpose(), models)
    with pytest.raises(WeightsError, match="not converted"):
        convert(["cyto3"], models)
    assert names(models) == ["cyto3"]


def test_a_folder_is_converted_under_a_name_of_its_own(tmp_path, models, with_stardist):
    folder = stardist_folder(tmp_path / "m")
    [one] = convert([folder], models)
    assert one.new and one.weights.name == "m-onnx" and one.weights.path.name == "m-onnx.onnx"
    assert one.weights.card["converted_from"] == {"file": "m"}
    [zip_] = convert([zipped(folder)], models, name="z")
    assert zip_.weights.card["converted_from"]["sha256"] == file_sha256(tmp_path / "m.zip")


def add_scores(folder: Path, name: str, *days: str) -> None:
    """Scores, as `opsef models evaluate` writes them on a card."""
    (mine,) = [one for one in list_weights([folder]) if one.name == name]
    for day in days:
        add_evaluation(mine, {"date": day, "images": 1, "f1": {"0.5": {"value": 0.5}}})


def days_of(folder: Path, name: str) -> list[str]:
    card = read_json(folder / name / f"{name}.json")
    return [entry["date"] for entry in card.get("evaluations", [])]


def test_scores_reach_a_folder_that_was_published_before_and_come_back(tmp_path, two, models):
    shared = tmp_path / "institute"
    publish(shared, [two], ["a"])
    add_from(shared, models)
    add_scores(two, "a", "2026-01-02")
    add_scores(models, "a", "2026-01-01", "2026-01-03", "2026-01-03")  # twice on one day
    [told] = publish(shared, [two], ["a"])
    assert (told.new, told.updated) == (False, True)
    assert days_of(shared, "a") == ["2026-01-02"]
    [told] = publish(shared, [models], ["a"])
    assert told.updated
    assert days_of(shared, "a") == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-03"]
    assert read_json(shared / "a" / "a.json")["licence"] == "MIT"
    for _ in range(2):
        before = days_of(two, "a")
        [told] = add_from(shared, two)
        assert days_of(two, "a") == days_of(shared, "a")
        assert told.updated is (before == ["2026-01-02"])
    assert not publish(shared, [two], ["a"])[0].updated


def test_scores_of_what_is_shipped_come_on_a_copy(tmp_path, two, models):
    shipped = next(one for one in list_weights() if one.name == "nuclei-unet")
    own_copy(shipped, two)
    add_scores(two, "nuclei-unet", "2026-01-02")
    publish(tmp_path / "institute", [two], ["nuclei-unet"])
    before = read_json(SHIPPED / "nuclei-unet.json")
    [told] = add_from(tmp_path / "institute", models)
    assert told.new and "copy" in told.note
    assert days_of(models, "nuclei-unet") == ["2026-01-02"]
    assert read_json(SHIPPED / "nuclei-unet.json") == before
    assert find_weights("unet", None, [models]).path.is_relative_to(models)


def test_a_file_that_is_missing_comes_back(tmp_path, models):
    file = with_card(tmp_path / "in")
    add(file, models)
    for damage in (Path.unlink, lambda path: path.write_bytes(b"x")):
        damage(models / "mine" / "mine.onnx")
        [told] = add(file, models)
        assert told.new
        verify(find_weights("unet", "mine", [models]))
    assert [one.new for one in add(file, models)] == [False]


def test_one_bad_file_does_not_stop_the_others(tmp_path, two, models):
    told: list[OpsefError] = []
    (two / "a" / "a.onnx").unlink()
    (two / "x.json").write_text('{"a":')
    wrote = bundle(tmp_path / "all.zip", [two], warn=told.append)
    assert [one.name for one in wrote] == ["b", *PACKAGED]
    assert ["x.json" in str(told[0]), "a.onnx" in str(told[1])] == [True, True]
    shared = tmp_path / "institute"
    names_there = [one.weights.name for one in publish(shared, [two], warn=told.append)]
    assert names_there == ["b", *PACKAGED] and len(told) == 4
    with pytest.raises(WeightsError, match=r"x\.json"):
        bundle(tmp_path / "x.zip", [two])
    with pytest.raises(WeightsError, match="'a' is missing"):
        publish(shared, [two], ["a"], warn=told.append)
    with pytest.raises(WeightsError, match=r"x\.json is not valid"):
        publish(shared, [two], ["x"], warn=told.append)
    assert [one.name for one in bundle(tmp_path / "b.zip", [two], ["b"])] == ["b"]
    (shared / "y.json").write_text("{")
    assert [one.weights.name for one in add_from(shared, models, ["b"])] == ["b"]
    add_from(shared, models, warn=told.append)
    assert "y.json" in str(told[-1])
    with pytest.raises(WeightsError, match=r"y\.json"):
        add_from(shared, models)


def test_where_all_are_bad_that_is_an_error(tmp_path, two, models):
    publish(tmp_path / "shared", [two], ["a"])
    (tmp_path / "shared" / "a" / "a.onnx").unlink()
    with pytest.raises(WeightsError, match="'a' is missing"):
        add_from(tmp_path / "shared", models, warn=lambda error: None)
