"""FPN2-WS: its maps, loss, training, the way to ONNX, and the script, on toy data."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.fpn2ws import FPN2WS  # noqa: E402
from opsef_bridge.engines.registry import list_weights, verify  # noqa: E402
from opsef_bridge.errors import InputError  # noqa: E402
from opsef_bridge.files import read_json  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.train.data import Sample  # noqa: E402
from opsef_bridge.train.export import as_stored, export_onnx  # noqa: E402
from opsef_bridge.train.fpn2ws import (  # noqa: E402
    FPN2Module,
    Settings,
    distance_map,
    fit,
    loss,
    predict,
    targets,
)
from opsef_bridge.train.network import parameter_count  # noqa: E402

TOOLS = Path(__file__).parents[2] / "tools"
TINY = Settings(
    steps=40, batch=2, crop=64, widths=(8, 16, 16), pyramid=8, warm_up=5, rate=1e-2, bfloat16=False
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample(size: int = 80) -> Sample:
    """Bright squares of 16 px on a dark ground."""
    labels = np.zeros((size, size), np.int32)
    corners = [(y, x) for y in range(4, size - 16, 24) for x in range(4, size - 16, 24)]
    for number, (y, x) in enumerate(corners, 1):
        labels[y : y + 16, x : x + 16] = number
    return Sample("a", (labels > 0).astype(np.float32), labels, "g")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_distances_are_those_to_the_nearest_pixel_of_something_else(seed, count):
    labels = np.kron(
        np.random.default_rng(seed).integers(0, count + 1, (4, 5)), np.ones((3, 2), int)
    ) * np.int32(3)
    found = distance_map(labels)
    spots = np.argwhere(np.ones(labels.shape))
    for label in np.unique(labels[labels > 0]):
        inside, outside = np.argwhere(labels == label), spots[labels.ravel() != label]
        if not len(outside):
            assert (found == 1).all()
            continue
        gaps = np.linalg.norm(inside[:, None] - outside[None], axis=2).min(axis=1)
        np.testing.assert_allclose(found[tuple(inside.T)], gaps / gaps.max(), rtol=1e-6)
    assert not found[labels == 0].any()


def test_the_border_is_highest_where_nuclei_touch():
    labels = np.zeros((20, 33), np.int32)
    labels[4:16, 4:16], labels[4:16, 16:28] = 1, 2
    distance, border = targets(labels)
    assert distance.dtype == border.dtype == np.float32
    assert border[10, 15] > 0.6 > 0.45 > border[10, 4] > 0.35 > border[10, 9]
    assert distance[10, 9] == 1
    assert (distance[labels == 0] == 0).all()


def test_loss_is_least_for_the_truth():
    truth = torch.tensor([[[[0.0, 0.2, 1.0]], [[0.0, 0.4, 0.1]]]])
    right = torch.logit(truth, eps=1e-6)
    least = loss(right, truth, 4.0)
    assert loss(right + 1, truth, 4.0) > least < loss(right - 1, truth, 4.0)
    assert loss(right + 1, truth, 4.0) > loss(right + 1, truth, 0.0)


def test_training_learns_and_repeats_exactly():
    losses: list[float] = []
    first = fit([sample()], TINY, lambda step, value: losses.append(value))
    again = fit([sample()], TINY)
    assert len(losses) == TINY.steps
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    for one, two in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    other = fit([sample()], replace(TINY, seed=1, steps=1))
    assert not torch.equal(first.heads[0][-1].weight, other.heads[0][-1].weight)


@pytest.mark.parametrize(("samples", "crop"), [([], 64), ([sample()], 66)])
def test_what_cannot_be_trained_is_refused(samples, crop):
    with pytest.raises(InputError):
        fit(samples, replace(TINY, crop=crop))


def test_the_full_network_has_about_a_million_parameters():
    assert 0.8e6 < parameter_count(FPN2Module()) < 1.0e6


def test_onnx_equals_torch(tmp_path):
    torch.manual_seed(0)
    network = FPN2Module((4, 8, 8, 8, 8), 8).train()
    for _ in range(3):  # gives the normalisation something to fold
        network(torch.randn(2, 1, 64, 64))
    network.eval()
    path = tmp_path / "net.onnx"
    export_onnx(network, path, activation=torch.sigmoid)
    assert path.stat().st_size < 2.5 * parameter_count(network) + 30_000, "weights are halves"
    engine = FPN2WS()
    engine.load(Weights("net", "fpn2ws", path))
    batch = np.random.default_rng(0).normal(size=(3, 1, 48, 80)).astype(np.float32)
    found = engine._run(batch)
    assert found.shape == (3, 2, 48, 80)
    np.testing.assert_allclose(found, predict(as_stored(network), batch), atol=1e-5)
    np.testing.assert_allclose(found, predict(network, batch), atol=2e-3)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("nuclei", TOOLS / "train_nuclei_fpn2ws.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tiny = Settings(steps=2, batch=1, crop=32, widths=(4, 4, 8, 8, 8), pyramid=8)
    monkeypatch.setattr(module, "CHOSEN", tiny)
    monkeypatch.setattr(module, "CANDIDATES", {"tiny": tiny})
    axes = {"scale": (1.0, 1.5), "seed": (0.5, 0.3), "foreground": (0.1,), "min_size": (20,)}
    monkeypatch.setattr(module, "AXES", axes)
    return module


@pytest.fixture
def data(tmp_path):
    """Three fields of train, one of them bundled as an example, and one of val."""
    rows = ["file,mosaic_group"]
    for name, part in [("a", "train"), ("b", "train"), ("c", "train"), ("v", "val")]:
        rows.append(f"{name},{name}")
        write_toy(tmp_path / part, name)
    rows.append("8b77284d6f37,field")
    write_toy(tmp_path / "train", "8b77284d6f37")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def write_toy(folder: Path, name: str) -> None:
    labels = np.zeros((48, 40), np.uint16)
    labels[4:20, 4:20], labels[24:44, 10:30] = 1, 2
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray((labels > 0).astype(np.uint8) * 200).save(folder / "images" / f"{name}.png")
    write_labels(folder / "labels" / f"{name}.tif", labels)


def test_the_script_chooses_trains_and_scores(script, data, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def run(*more: str) -> None:
        monkeypatch.setattr(sys, "argv", ["train", "--data", str(data), "--out", str(out), *more])
        script.main()

    run("--cv")
    table = read_json(out / "cv.json")
    with monkeypatch.context() as patch:  # a second time nothing is trained
        patch.setattr(script, "fit", lambda *args: pytest.fail("trained again"))
        run("--cv")
    assert read_json(out / "cv.json") == table
    for more in ([], ["--val"], ["--steps", "3"], ["--val"]):
        run(*more)
    (weights,) = [w for w in list_weights([out]) if w.path.parent == out]
    verify(weights)
    card = weights.card
    assert card["data"]["left_out"] == ["8b77284d6f37"], "the example"
    assert (card["data"]["images"], card["data"]["objects"]) == (3, 6)
    assert card["recipe"]["steps"] == 3
    assert {row["scale"] for row in card["cv"]["candidates"]["tiny"]["f1"]} == {1.0, 1.5}
    # Scores on val are never dropped, also not when the network is trained again.
    assert len(card["val"]) == 2
    assert card["val"][0]["weights"] != card["val"][1]["weights"] == card["sha256"]
    assert str(tmp_path) not in (out / "nuclei-fpn2ws.json").read_text()
