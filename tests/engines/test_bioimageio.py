"""Packages of bioimage.io: those of ours come in with what they say; others say why not."""

from __future__ import annotations

import functools
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opsef_bridge.engines import find_weights, trial, verify
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import SHIPPED, engine_class
from opsef_bridge.engines.store import add, convert
from opsef_bridge.errors import InputError, OpsefError, WeightsError
from opsef_bridge.files import file_sha256, read_json, write_json

UNET, FPN = SHIPPED / "nuclei-unet.onnx", SHIPPED / "nuclei-fpn2ws.onnx"


@pytest.fixture(autouse=True)
def trials_here(monkeypatch):
    """Let engines try weights in this process: test_trial.py is about the other one."""

    def try_here(weights: Weights) -> trial.Trial:
        return trial.Trial(**trial.segment_square(trial.as_json(weights)))

    monkeypatch.setattr(trial, "try_engine", try_here)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "project" / "models"


def scale_range(version: str, low: float = 2.0, high: float = 99.0, **more: Any) -> dict[str, Any]:
    """The step that maps two percentiles to 0 and 1, in the words of a format."""
    kwargs: dict[str, Any] = {"min_percentile": low, "max_percentile": high, **more}
    if version == "0.4":
        return {"name": "scale_range", "kwargs": {"mode": "per_sample", "axes": "yx", **kwargs}}
    return {"id": "scale_range", "kwargs": {"axes": ["y", "x"], **kwargs}}


def tensors(version: str, maps: int, steps: list[Any], step: int = 16) -> dict[str, Any]:
    """Input and output of a network of one grey image and `maps` maps."""
    if version == "0.4":
        taken = {
            "name": "raw",
            "axes": "bcyx",
            "data_type": "float32",
            "shape": {"min": [1, 1, 64, 64], "step": [0, 0, step, step]},
            "preprocessing": steps,
        }
        relative = {"reference_tensor": "raw", "scale": [1.0, 0.0, 1.0, 1.0]}
        offset = [0.0, maps / 2, 0.0, 0.0]
        given = {"name": "maps", "axes": "bcyx", "shape": {**relative, "offset": offset}}
        return {"inputs": [taken], "outputs": [given]}
    size = {"min": 64, "step": step}
    space = [{"type": "space", "id": "y", "size": size}, {"type": "space", "size": size}]
    taken = {
        "id": "raw",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["raw"]}, *space],
        "preprocessing": [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, *steps],
    }
    names = ["bg", "fg", "edge"][:maps]
    given = {
        "id": "maps",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": names}, *space],
        "postprocessing": [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}],
    }
    return {"inputs": [taken], "outputs": [given]}


def description(version: str, maps: int = 3, **more: Any) -> dict[str, Any]:
    """A description as packages have it."""
    return {
        "type": "model",
        "format_version": {"0.4": "0.4.10", "0.5": "0.5.3"}[version],
        "name": "Nuclei of Mice (2D)",
        "id": "affable-mouse",
        "description": "Three classes of nuclei.",
        "license": "CC-BY-4.0",
        "authors": [{"name": "Anna Smith", "affiliation": "An Institute"}],
        "cite": [{"text": "A paper", "doi": "10.1000/1"}],
        "training_data": {"id": "mice/1"},
        "timestamp": "2024-01-01T00:00:00",
        **tensors(version, maps, [scale_range(version)]),
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": 17}},
        **more,
    }


@pytest.fixture
def package(tmp_path) -> Callable[..., Path]:
    """Write a package and return its folder."""

    def write(
        told: dict[str, Any], network: Path | None = UNET, rdf: str = "rdf.yaml", **files: bytes
    ) -> Path:
        folder = tmp_path / "package"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if network is not None:
            shutil.copy(network, folder / "weights.onnx")
        for name, content in files.items():
            (folder / name.replace("_h5", ".h5")).write_bytes(content)
        (folder / rdf).write_text(
            "%YAML 1.2\n---\n" + yaml.safe_dump(told, sort_keys=False), "utf-8"
        )
        return folder

    return write


def zipped(folder: Path, *, inside: bool = False) -> Path:
    """A zip of the files in `folder`, or of the folder itself."""
    base = folder.name if inside else None
    return Path(shutil.make_archive(str(folder), "zip", folder.parent if base else folder, base))


# ONNX.


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("network", "engine", "maps"), [(UNET, "unet", 3), (FPN, "fpn2ws", 2)])
def test_onnx_weights_come_in_with_what_the_package_says(
    package, models, version, network, engine, maps
):
    told = description(version, maps)
    told["weights"]["onnx"]["sha256"] = file_sha256(network)
    [one] = add(zipped(package(told, network)), models)
    weights = find_weights(engine, "Nuclei-of-Mice-2D", [models])
    verify(weights)
    assert one.new and weights.sha256 == file_sha256(network)
    card = weights.card
    assert card["input"] == {
        "axes": "YX",
        "channels": 1,
        "percentiles": [2.0, 99.0],
        "clip": [-1e6, 1e6],
        "multiple": 16,
    }
    assert (card["licence"], card["data"]) == ("CC-BY-4.0", "mice/1")
    assert card["source"].startswith("bioimage.io: affable-mouse, format 0.")
    assert card["description"] == "Three classes of nuclei."
    assert (card["authors"], card["cite"]) == (
        ["Anna Smith"],
        [{"text": "A paper", "doi": "10.1000/1"}],
    )
    assert ("the package calls them bg, fg" in one.note) == (version == "0.5")
    assert one.note.startswith("Its maps are read as background") == (engine == "unet")


def test_the_engine_sees_the_image_as_the_package_says(package, models):
    """Labels are those of the engine with these percentiles, not of its defaults."""
    rng = np.random.default_rng(0)
    image = rng.gamma(1, 20, (96, 96)).astype(np.float32)
    steps = [scale_range("0.5", 30, 60), {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}]
    told = description("0.5", **tensors("0.5", 3, steps))
    [one] = add(package(told), models)
    assert one.weights.card["input"]["clip"] == [0.0, 1.0]
    maps = {}
    for name, given in (("package", one.weights), ("shipped", find_weights("unet", None))):
        engine = engine_class("unet")()
        engine.load(given)
        maps[name] = engine.predict(image, engine.Predict()).maps["interior"]
    low, high = np.percentile(image, (30, 60))
    clipped = np.clip((image - low) / (high - low), 0, 1)
    plain = add(package(description("0.5", **tensors("0.5", 3, [scale_range("0.5", 0, 100)]))),
                models, name="plain")[0].weights  # fmt: skip
    engine = engine_class("unet")()
    engine.load(plain)
    expected = engine.predict(clipped, engine.Predict()).maps["interior"]
    np.testing.assert_array_equal(maps["package"], expected)
    assert np.abs(maps["package"] - maps["shipped"]).max() > 0.1


@pytest.mark.parametrize("inside", [True, False])
def test_a_zip_may_hold_the_folder_or_its_files(package, models, inside):
    folder = package(description("0.5"), rdf="bioimageio.yaml")
    add(zipped(folder, inside=inside), models, name="n")
    assert find_weights("unet", "n", [models]).path.name == "n.onnx"
    assert not add(folder, models, name="n")[0].new


def test_steps_of_the_sides_go_to_the_card(package, models):
    for version, step, expected in (("0.4", 32, 32), ("0.5", 8, 16), ("0.4", 24, 48)):
        told = description(version, **tensors(version, 3, [scale_range(version)], step))
        [one] = add(package(told), models, name=f"n{version}-{step}")
        assert one.weights.card["input"]["multiple"] == expected
    with pytest.raises(WeightsError, match="steps of 1024 px"):
        add(package(description("0.4", **tensors("0.4", 3, [scale_range("0.4")], 1024))), models)


def test_other_statistics_are_said(package, models):
    step = scale_range("0.4", mode="per_dataset")
    [one] = add(package(description("0.4", **tensors("0.4", 3, [step]))), models)
    assert "there of all images at once" in one.note


ZERO_MEAN = {"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_sample", "axes": "yx"}}
SIGMOID = [{"name": "sigmoid"}]


def changed(**more: Any) -> dict[str, Any]:
    """A description of format 0.4 with other parts."""
    return {**description("0.4"), **more}


def with_step(*steps: Any) -> dict[str, Any]:
    return description("0.4", **tensors("0.4", 3, list(steps)))


def with_output(**more: Any) -> dict[str, Any]:
    told = description("0.4")
    told["outputs"][0].update(more)
    return told


def with_input(**more: Any) -> dict[str, Any]:
    told = description("0.4")
    told["inputs"][0].update(more)
    return told


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (with_step(ZERO_MEAN), r"needs zero_mean_unit_variance before.*Taken is scale_range"),
        (with_step(scale_range("0.4"), ZERO_MEAN), "needs zero_mean_unit_variance before"),
        (with_step({"name": "clip", "kwargs": {"min": 0, "max": 1}}), "needs clip before"),
        (with_step(scale_range("0.4", reference_tensor="other")), "needs scale_range before"),
        (with_step(), "takes images as they are"),
        (with_step(scale_range("0.4", "high")), "'high' where a number is due"),
        (with_step(scale_range("0.4", float("nan"))), "'nan' where a number is due"),
        (with_output(postprocessing=SIGMOID), r"needs sigmoid after.*as a layer"),
        (with_output(axes="bczyx"), "maps axes bcyx to bczyx"),
        (with_input(axes="byxc"), "maps axes byxc to bcyx"),
        (with_input(shape=[1, 2, 64, 64]), "takes 2 channels"),
        (with_output(shape=[1, 33, 64, 64]), "network of 33 maps.*Taken are 3"),
        (with_output(shape={}), "an unknown number of maps"),
        (changed(inputs=[]), "has 0 inputs and 1 outputs"),
        (changed(weights={"onnx": {"source": "weights.onnx", "external_data": {"source": "x"}}}),
         "in several files"),
        (changed(weights={"onnx": {"source": "gone.onnx"}}), "missing or a link"),
        (changed(weights={"onnx": {"source": "https://x/w.onnx"}}), "no file for ONNX weights"),
        (changed(weights={"onnx": {"source": "../secret"}}), "outside of itself"),
        (changed(weights={"onnx": {"source": "/etc/passwd"}}), "outside of itself"),
        (changed(weights={"onnx": {"source": "C:\\w"}}), "outside of itself"),
        (changed(weights={"onnx": {"source": "weights.onnx", "sha256": "0" * 64}}),
         r"is damaged: weights.onnx has sha256 [0-9a-f]{64}, the description says 0000"),
        (changed(weights={"torchscript": {"source": "w.pt"}, "keras_hdf5": {"source": "w.h5"}}),
         r"holds torchscript, keras_hdf5\. Taken are StarDist's export"),
        (changed(weights="many"), "holds no weights"),
        (changed(format_version="0.3.6"), "model of format 0.3.6"),
        (changed(format_version="0.6.0"), "Models of the formats 0.4 and 0.5 are taken"),
        (changed(type="dataset"), "describes a dataset"),
        (changed(config={"stardist": {"thresholds": {"nms": 0.3}}}), "Export it again"),
    ],
)  # fmt: skip
def test_what_is_not_ours_says_why(package, models, told, words):
    with pytest.raises(WeightsError, match=words):
        add(package(told), models)
    assert not list(models.iterdir())


def test_the_engine_has_the_last_word(package, models):
    """The description may lie: what counts is what the engine can run."""
    with pytest.raises(WeightsError, match=r"'unet' cannot run .*map .* to \['n', 2"):
        add(package(description("0.4", 3), FPN), models)
    with pytest.raises(WeightsError, match="network of 3 maps, fpn2ws reads 2"):
        add(package(description("0.4", 3)), models, engine="fpn2ws")
    told = with_output(shape={})
    assert add(package(told), models, engine="unet", name="n")[0].weights.engine == "unet"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "cannot be read"),
        ("- a list", "it is no mapping"),
        ("!!python/object/apply:os.system ['touch ran']", "could not determine a constructor"),
        ("a: " + "x" * 2**20, "more than 1048576 bytes"),
        ("a: \x00", "cannot be read"),
    ],
)
def test_broken_descriptions_run_nothing(package, models, tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    folder = package(description("0.5"))
    (folder / "rdf.yaml").write_text(text)
    with pytest.raises(WeightsError, match=words):
        add(folder, models)
    assert not (tmp_path / "ran").exists()


def test_a_link_in_a_package_is_not_followed(package, models, tmp_path):
    folder = package(description("0.5"), None)
    (tmp_path / "secret").mkdir()
    shutil.copy(UNET, tmp_path / "secret" / "weights.onnx")
    (folder / "weights.onnx").symlink_to(tmp_path / "secret" / "weights.onnx")
    with pytest.raises(WeightsError, match="outside of itself"):
        add(folder, models)
    (folder / "sub").symlink_to(tmp_path / "secret")
    told = description("0.5", weights={"onnx": {"source": "sub/weights.onnx"}})
    (folder / "rdf.yaml").write_text(yaml.safe_dump(told))
    with pytest.raises(WeightsError, match="outside of itself"):
        add(folder, models)


# StarDist.


@functools.cache
def h5_bytes() -> bytes:
    """Random weights of a tiny network of StarDist."""
    import io

    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    channels = {"down0": (1, 4), "down1": (4, 4), "mid0": (4, 8), "mid1": (8, 4)}
    channels |= {"up0": (8, 4), "up1": (4, 4), "prob": (4, 1), "dist": (4, 8)}
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file.attrs["layer_names"] = list(channels)
        for name, (taken, made) in channels.items():
            side = 1 if name in ("prob", "dist") else 3
            group = file.create_group(name)
            group["kernel:0"] = rng.normal(0, 0.3, (side, side, taken, made)).astype("f4")
            group["bias:0"] = np.zeros(made, "f4")
            group.attrs["weight_names"] = ["kernel:0", "bias:0"]
    return held.getvalue()


def stardist(version: str, **more: Any) -> dict[str, Any]:
    """What ``stardist.bioimageio_utils`` exports: a SavedModel, and the weights attached."""
    pytest.importorskip("onnx")
    config = {"axes": "YXC", "n_dim": 2, "n_channel_in": 1, "n_rays": 8, "grid": [1, 1],
              "unet_n_depth": 1, "unet_n_filter_base": 4, "net_conv_after_unet": 0,
              "train_shape_completion": False}  # fmt: skip
    mine = {
        "python_version": "0.9.1",
        "thresholds": {"prob": 0.6, "nms": 0.3},
        "weights": "stardist_weights.h5",
        "config": config,
        "postprocessing_macro": "stardist_postprocessing.ijm",
        **more,
    }
    attached = (
        {"files": ["./stardist_weights.h5", "stardist_postprocessing.ijm"]}
        if version == "0.4"
        else [{"source": "stardist_weights.h5"}]
    )
    told = description(
        version,
        33,
        config={"stardist": mine, "deepimagej": {"prediction": {}}},
        attachments=attached,
        weights={"tensorflow_saved_model_bundle": {"source": "TF_SavedModel.zip"}},
    )
    if version == "0.4":
        told["inputs"][0] |= {"axes": "byxc", "shape": {"min": [1, 80, 80, 1], "step": [0] * 4}}
    return told


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_export_of_stardist_is_converted(package, models, version):
    folder = package(stardist(version), None, stardist_weights_h5=h5_bytes())
    [one] = add(zipped(folder), models)
    weights = find_weights("stardist", "Nuclei-of-Mice-2D", [models])
    verify(weights)
    card = weights.card
    assert (card["thresholds"], card["licence"]) == ({"prob": 0.6, "nms": 0.3}, "CC-BY-4.0")
    assert card["input"]["percentiles"] == [2.0, 99.0] and card["input"]["rays"] == 8
    assert weights.path.suffix == ".onnx" and one.weights.sha256 == weights.sha256


def test_it_stays_with_tensorflow_if_that_is_wanted_and_is_converted_later(
    package, models, monkeypatch
):
    # Whether TensorFlow runs it is not tried here: it does not share a process with torch.
    monkeypatch.setattr(trial, "try_engine", lambda weights: trial.Trial("ok"))
    folder = package(stardist("0.4"), None, stardist_weights_h5=h5_bytes())
    [kept] = add(folder, models, runtime="tensorflow", name="mice")
    assert kept.weights.path.name == "mice.zip"
    with zipfile.ZipFile(kept.weights.path) as archive:
        assert {name.rsplit("/", 1)[-1] for name in archive.namelist()} >= {"config.json"}
    [made] = convert(["mice"], models)
    card = read_json(models / "mice-onnx" / "mice-onnx.json")
    assert card["converted_from"] == {"name": "mice", "sha256": kept.weights.sha256}
    assert card["family"] == kept.weights.family == made.weights.family
    for key in ("thresholds", "licence", "data", "source"):
        assert card[key] == kept.weights.card[key]
    assert card["input"]["percentiles"] == [2.0, 99.0]
    direct = add(folder, models, name="mice-direct")[0].weights
    assert file_sha256(made.weights.path) == file_sha256(direct.path)


def test_other_colours_and_other_engines_are_said(package, models):
    told = stardist("0.4")
    told["inputs"][0]["shape"]["min"] = [1, 80, 80, 3]
    [one] = add(package(told, None, stardist_weights_h5=h5_bytes()), models)
    assert one.note == "Percentiles are taken of all colours at once, there of each."
    with pytest.raises(InputError, match="the package is StarDist's, not for 'unet'"):
        add(package(told, None, stardist_weights_h5=h5_bytes()), models, engine="unet")


def test_weights_that_are_not_attached_or_damaged(package, models):
    with pytest.raises(WeightsError, match="missing or a link"):
        add(package(stardist("0.5"), None), models)
    told = stardist("0.5")
    told["attachments"][0]["sha256"] = "1" * 64
    with pytest.raises(WeightsError, match="is damaged"):
        add(package(told, None, stardist_weights_h5=h5_bytes()), models)
    with pytest.raises(WeightsError, match="outside of itself"):
        told = stardist("0.5", weights="../stardist_weights.h5")
        add(package(told, None, stardist_weights_h5=h5_bytes()), models)


def test_aliases_that_grow_without_end_are_refused(package, models):
    folder = package(stardist("0.4"), None, stardist_weights_h5=h5_bytes())
    bomb = "&a [x, x]"
    for name in "bcdefghijklmnopqrstuvwxyz":
        bomb = f"&{name} [{bomb}, *{chr(ord(name) - 1)}]"
    text = (folder / "rdf.yaml").read_text()
    text = text.replace("train_shape_completion: false", f"lol: {bomb}")
    assert "lol" in text
    (folder / "rdf.yaml").write_text(text)
    with pytest.raises(WeightsError, match="more than 10000 entries"):
        add(folder, models)


# Torch.


def test_a_state_dict_of_cellpose_is_found_by_its_layers(package, models, tmp_path, monkeypatch):
    # That such a file is tried is tested in test_store.py, and takes seconds.
    monkeypatch.setattr(trial, "try_engine", lambda weights: trial.Trial("ok"))
    torch = pytest.importorskip("torch")
    torch.save({"downsample.down.res_down_0.weight": torch.zeros(1)}, tmp_path / "w.pt")
    entry = {"source": "w.pt", "sha256": file_sha256(tmp_path / "w.pt")}
    told = description("0.5", weights={"pytorch_state_dict": entry})
    folder = package(told, None)
    shutil.copy(tmp_path / "w.pt", folder / "w.pt")
    [one] = add(folder, models, name="cp")
    assert one.weights.engine == "cellpose"
    verify(find_weights("cellpose", "cp", [models]))
    torch.save({"encoder.weight": torch.zeros(1)}, folder / "w.pt")
    entry["sha256"] = file_sha256(folder / "w.pt")
    (folder / "rdf.yaml").write_text(yaml.safe_dump({**told, "name": "other"}))
    with pytest.raises(WeightsError, match="no network of Cellpose"):
        add(folder, models)


def test_a_folder_of_ours_that_holds_a_package_too_is_still_ours(tmp_path, models):
    """A shared folder has many folders; only one that is alone is looked into."""
    shared = tmp_path / "shared"
    (shared / "mine").mkdir(parents=True)
    shutil.copy(UNET, shared / "mine" / "mine.onnx")
    card = {"name": "mine", "engine": "unet", "file": "mine.onnx", "sha256": file_sha256(UNET)}
    write_json(shared / "mine" / "mine.json", card)
    (shared / "other").mkdir()
    (shared / "other" / "rdf.yaml").write_text(json.dumps(description("0.5")))
    assert [one.weights.name for one in add(shared, models)] == ["mine"]
    with pytest.raises(OpsefError, match="missing or a link"):
        add(shared / "other", models)
