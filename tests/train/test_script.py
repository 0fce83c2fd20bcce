"""The script that made the bundled network, end to end on a toy data set."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.engines.registry import list_weights, verify  # noqa: E402
from opsef_bridge.files import read_json  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.train.loop import Settings  # noqa: E402

SCRIPT = Path(__file__).parents[2] / "tools" / "train_nuclei_unet.py"
TINY = Settings(steps=2, batch=1, crop=32, width=4)


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("train_nuclei_unet", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CHOSEN", TINY)
    monkeypatch.setattr(module, "CANDIDATES", {"tiny": TINY})
    monkeypatch.setattr(module, "AXES", {"threshold": (0.5, 0.3)})
    return module


@pytest.fixture
def data(tmp_path):
    """Four fields of train, one of them bundled as an example, and one of val."""
    rows = ["file,mosaic_group"]
    for name, part in [("a", "train"), ("b", "train"), ("c", "train"), ("v", "val")]:
        rows.append(f"{name},{name}")
        write_toy(tmp_path / part, name)
    rows.append("8b77284d6f37,field")
    rows.append("d,field")
    write_toy(tmp_path / "train", "8b77284d6f37")
    write_toy(tmp_path / "train", "d")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def write_toy(folder: Path, name: str) -> None:
    labels = np.zeros((48, 40), np.uint16)
    labels[4:20, 4:20], labels[24:44, 10:30] = 1, 2
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray((labels > 0).astype(np.uint8) * 200).save(folder / "images" / f"{name}.png")
    write_labels(folder / "labels" / f"{name}.tif", labels)


def run(script, monkeypatch, data: Path, out: Path, *more: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--data", str(data), "--out", str(out), *more])
    script.main()


def test_cross_validate_train_and_score(script, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(script, monkeypatch, data, out, "--cv")
    run(script, monkeypatch, data, out)
    run(script, monkeypatch, data, out, "--val")
    run(script, monkeypatch, data, out, "--steps", "3")
    run(script, monkeypatch, data, out, "--val")
    (weights,) = [w for w in list_weights([out]) if w.path.parent == out]
    verify(weights)
    card = weights.card
    assert card["data"]["left_out"] == ["8b77284d6f37", "d"], "the example and its field"
    assert (card["data"]["images"], card["data"]["objects"]) == (3, 6)
    assert card["recipe"]["steps"] == 3
    assert len(card["cv"]["candidates"]["tiny"]["f1"]) == 2
    # Scores on val are never dropped, also not when the network is trained again.
    assert len(card["val"]) == 2
    assert card["val"][0]["weights"] != card["val"][1]["weights"] == card["sha256"]
    assert str(tmp_path) not in (out / "nuclei-unet.json").read_text()


def test_cross_validation_resumes(script, data, tmp_path, monkeypatch):
    run(script, monkeypatch, data, tmp_path / "out", "--cv")
    before = read_json(tmp_path / "out" / "cv.json")
    monkeypatch.setattr(script, "fit", lambda *args: pytest.fail("trained again"))
    run(script, monkeypatch, data, tmp_path / "out", "--cv")
    assert read_json(tmp_path / "out" / "cv.json") == before
