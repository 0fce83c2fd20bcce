"""Mask R-CNN: what it learns from, its training, the file, and the script, on toy data."""

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
pytest.importorskip("torchvision")

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.maskrcnn import Decode, MaskRCNN, Predict  # noqa: E402
from opsef_bridge.engines.maskrcnn_network import small_network  # noqa: E402
from opsef_bridge.engines.registry import list_weights, verify  # noqa: E402
from opsef_bridge.errors import InputError  # noqa: E402
from opsef_bridge.files import read_json  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.measure import match  # noqa: E402
from opsef_bridge.train.data import Sample  # noqa: E402
from opsef_bridge.train.maskrcnn import Settings, batch_of, export, fit, targets  # noqa: E402
from opsef_bridge.train.network import parameter_count  # noqa: E402

TOOLS = Path(__file__).parents[2] / "tools"
TINY = Settings(
    steps=40,
    batch=2,
    crop=64,
    widths=(8, 8, 16, 16),
    pyramid=16,
    box=32,
    mask=(16, 16),
    warm_up=5,
    rate=3e-3,
    bfloat16=False,
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


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.5]))
def test_every_object_has_a_box_around_it_and_a_mask(seed, count, margin):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, count + 1, (4, 6)), np.ones((3, 2), int)) * np.int32(3)
    found = targets(labels, margin)
    numbers = np.unique(labels[labels > 0])
    assert found["labels"].tolist() == [1] * len(numbers)
    assert found["boxes"].dtype == torch.float32
    assert found["masks"].dtype == torch.uint8
    for number, box, mask in zip(numbers, found["boxes"], found["masks"], strict=True):
        np.testing.assert_array_equal(mask.numpy() > 0, labels == number)
        rows, columns = np.nonzero(labels == number)
        high, wide = (margin * (np.ptp(side) + 1) + 0.5 for side in (rows, columns))
        expected = [
            max(columns.min() - wide, 0),
            max(rows.min() - high, 0),
            min(columns.max() + wide, 12),
            min(rows.max() + high, 12),
        ]
        np.testing.assert_allclose(box.numpy(), expected, atol=1e-5)


def test_without_an_object_there_is_no_box():
    found = targets(np.zeros((20, 30), np.int32), 0.1)
    assert found["boxes"].shape == (0, 4)
    assert found["masks"].shape == (0, 20, 30)


def test_a_batch_holds_crops_and_their_targets():
    images, truth = batch_of(np.random.default_rng(0), [sample()], TINY)
    assert [image.shape for image in images] == [(1, 64, 64)] * 2
    for image, target in zip(images, truth, strict=True):
        inside = target["masks"].amax(0) > 0
        assert image[0][inside].mean() > image[0][~inside].mean() + 0.5


def test_training_learns_and_repeats_exactly():
    losses: list[float] = []
    first = fit([sample()], TINY, lambda step, value: losses.append(value))
    again = fit([sample()], TINY)
    assert len(losses) == TINY.steps
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    for one, two in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    other = fit([sample()], replace(TINY, seed=1, steps=1))
    assert not torch.equal(first.backbone.stem[0].weight, other.backbone.stem[0].weight)


def test_the_weight_of_the_masks_counts():
    losses: dict[float, list[float]] = {1.0: [], 2.0: []}
    for weight, found in losses.items():
        fit(
            [sample()],
            replace(TINY, steps=1, mask_weight=weight),
            lambda step, value, found=found: found.append(value),
        )
    assert losses[2.0][0] > losses[1.0][0] + 0.3  # the log of 2 is what a mask of 0.5 costs


def test_crops_without_objects_are_learned_from_too():
    empty = Sample("b", np.zeros((80, 80), np.float32), np.zeros((80, 80), np.int32), "h")
    losses: list[float] = []
    fit(
        [sample(), empty, empty, empty],
        replace(TINY, steps=6, bfloat16=True),
        lambda step, value: losses.append(value),
    )
    assert np.isfinite(losses).all()


def test_what_cannot_be_trained_is_refused():
    empty = Sample("b", np.zeros((80, 80), np.float32), np.zeros((80, 80), np.int32), "h")
    for samples in ([], [empty]):
        with pytest.raises(InputError, match="nothing to learn"):
            fit(samples, TINY)


def test_the_full_network_has_about_a_million_parameters():
    assert 0.9e6 < parameter_count(small_network()) < 1.3e6


def test_the_file_gives_the_engine_what_was_trained(tmp_path):
    network = fit([sample()], replace(TINY, steps=80))
    export(network, tmp_path / "net.pt")
    assert (tmp_path / "net.pt").stat().st_size < 2.5 * parameter_count(network) + 100_000
    engine = MaskRCNN()
    engine.load(Weights("net", "maskrcnn", tmp_path / "net.pt"))
    one = sample(104)
    labels = engine.decode(engine.predict(one.image, Predict()), Decode())
    assert match(one.labels, labels, 0.7)["f1"].iloc[0] > 0.8


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("nuclei", TOOLS / "train_nuclei_maskrcnn.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tiny = replace(TINY, steps=2, batch=1, crop=32)
    monkeypatch.setattr(module, "CHOSEN", tiny)
    monkeypatch.setattr(module, "CANDIDATES", {"tiny": tiny, "tiny 3": replace(tiny, steps=3)})
    monkeypatch.setattr(module, "AXES", {"score": (0.05, 0.5), "mask": (0.5,), "min_size": (20,)})
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
    scales = [{row["scale"] for row in one["f1"]} for one in card["cv"]["candidates"].values()]
    assert sorted(map(len, scales)) == [1, 2], "other scales are for the best candidate"
    # Scores on val are never dropped, also not when the network is trained again.
    assert len(card["val"]) == 2
    assert card["val"][0]["weights"] != card["val"][1]["weights"] == card["sha256"]
    assert str(tmp_path) not in (out / "nuclei-maskrcnn.json").read_text()
