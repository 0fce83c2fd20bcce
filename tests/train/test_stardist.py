"""Training of StarDist's network: targets, loss, the way out to ONNX, and the script."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.runtime import open_session  # noqa: E402
from opsef_bridge.engines.stardist import Predict, StarDist  # noqa: E402
from opsef_bridge.errors import InputError  # noqa: E402
from opsef_bridge.files import file_sha256, read_json  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.train.data import Sample  # noqa: E402
from opsef_bridge.train.stardist import (  # noqa: E402
    Settings,
    StarDistModule,
    batch_of,
    export_onnx,
    fit,
    folded,
    loss,
    predict,
    stardist_card,
    targets,
)

SCRIPT = Path(__file__).parents[2] / "tools" / "train_nuclei_stardist.py"
TINY = Settings(steps=2, batch=1, crop=32, rays=8, width=4, depth=1, features=8)


def toy(seed: int) -> Sample:
    """Bright discs on a dark ground."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((80, 80))
    labels = np.zeros((80, 80), np.int32)
    for number in range(1, 6):
        cy, cx, radius = *rng.integers(8, 72, 2), rng.integers(5, 10)
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    image = (labels > 0) + rng.normal(0, 0.1, labels.shape)
    return Sample(f"toy{seed}", image.astype(np.float32), labels, f"toy{seed}")


def trained(seed: int = 0) -> StarDistModule:
    return fit([toy(1), toy(2)], replace(TINY, steps=3, seed=seed))


def test_targets_are_distances_to_the_edge():
    labels = np.zeros((32, 40), np.int32)
    labels[8:25, 10:31] = 3
    prob, dist = targets(labels, 4)
    assert prob.shape == (1, 16, 20) and dist.shape == (16, 20, 4)
    assert prob[0, 8, 10] > 0.8 and prob.max() <= 1
    assert not prob[0, :4].any() and not dist[:4].any()
    # Rays go right, down, left, up from the pixel (16, 20).
    np.testing.assert_allclose(dist[8, 10], [10.5, 8.5, 10.5, 8.5], atol=1)


@pytest.mark.parametrize("kind", ["overlap", "absolute"])
def test_the_loss_is_least_for_the_truth(kind):
    how = replace(TINY, distance_loss=kind)
    _, prob, dist = batch_of(np.random.default_rng(0), [toy(1)], how)
    logits, found = torch.logit(prob.clamp(0.001, 0.999)), dist.permute(0, 3, 1, 2)
    best = loss(logits, found, prob, dist, how)
    for wrong in (found + 2, found * 0.7, found - 30):
        assert loss(logits, wrong, prob, dist, how) > best + 0.1
    assert loss(-logits, found, prob, dist, how) > best + 0.1
    nothing = torch.zeros_like(prob)
    assert torch.isfinite(loss(logits, found, nothing, torch.zeros_like(dist), how))


def test_rays_that_are_negative_find_back():
    how = replace(TINY, distance_loss="overlap")
    prob, dist = torch.ones(1, 1, 2, 2), torch.full((1, 2, 2, 8), 5.0)
    found = torch.full((1, 8, 2, 2), -3.0, requires_grad=True)
    loss(torch.zeros_like(prob), found, prob, dist, how).backward()
    assert (found.grad < 0).all()


def test_training_learns_and_a_seed_gives_the_same_weights():
    losses = []
    samples = [toy(seed) for seed in range(4)]
    how = replace(TINY, steps=40, batch=2)
    network = fit(samples, how, lambda step, value: losses.append(value))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert not network.training
    one, other = trained().state_dict(), trained().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(trained(1).state_dict()["prob.bias"], one["prob.bias"])


def test_training_goes_on_from_a_network():
    first = trained()
    before = {name: value.clone() for name, value in first.state_dict().items()}
    after = fit([toy(1)], replace(TINY, steps=3, rate=1e-7), start=first).state_dict()
    assert not torch.equal(after["prob.weight"], before["prob.weight"])
    torch.testing.assert_close(after["prob.weight"], before["prob.weight"], rtol=0, atol=1e-5)


def test_nothing_to_learn_from_and_crops_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="no samples"):
        fit([], TINY)
    with pytest.raises(InputError, match="crop 30"):
        fit([toy(1)], replace(TINY, crop=30))


def test_normalisation_is_folded_in_and_the_file_says_the_same(tmp_path):
    network = trained()
    batch = np.random.default_rng(0).random((2, 1, 32, 48), np.float32)
    prob, dist = predict(network, batch)
    for found, expected in zip(predict(folded(network), batch), (prob, dist), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    path = tmp_path / "mine.onnx"
    export_onnx(network, TINY, path)
    card = stardist_card("mine", [TINY], {}, file_sha256(path))
    weights = Weights("mine", "stardist", path, card["sha256"], card)
    found = open_session(weights).run(["prob", "dist"], {"image": batch})
    np.testing.assert_allclose(found[0], prob, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found[1], dist, rtol=0, atol=1e-4)
    engine = StarDist()
    engine.load(weights)
    assert engine.predict(np.zeros((50, 33), np.uint8), Predict()).maps["dist"].shape == (8, 25, 17)


# The script.


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("train_nuclei_stardist", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STAGES", (TINY, replace(TINY, steps=1, seed=1)))
    monkeypatch.setattr(module, "CANDIDATES", {"tiny": TINY})
    # Of a network that has seen two crops, most of the picture is an object.
    monkeypatch.setattr(module, "AXES", {"prob": (0.98, 0.99), "nms": (0.3,)})
    monkeypatch.setattr(module, "DECODE", module.Decode(prob=0.99, nms=0.3))
    return module


@pytest.fixture
def data(tmp_path):
    """Four fields of train, one of them bundled as an example, and one of val."""
    rows = ["file,mosaic_group"]
    for name, part in [("a", "train"), ("b", "train"), ("c", "train"), ("v", "val")]:
        rows.append(f"{name},{name}")
        write_toy(tmp_path / part, name)
    rows += ["8b77284d6f37,field", "d,field"]
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
    monkeypatch.setattr(script, "STAGES", (TINY,))
    run(script, monkeypatch, data, out)
    run(script, monkeypatch, data, out, "--val")
    card = read_json(out / "nuclei-stardist.json")
    assert card["sha256"] == file_sha256(out / card["file"])
    assert card["data"]["left_out"] == ["8b77284d6f37", "d"], "the example and its field"
    assert (card["data"]["images"], card["data"]["objects"]) == (3, 6)
    assert [stage["steps"] for stage in card["recipe"]["stages"]] == [2]
    assert len(card["cv"]["candidates"]["tiny"]["f1"]) == 2
    # Scores on val are never dropped, also not when the network is trained again.
    assert len(card["val"]) == 2
    assert card["val"][0]["weights"] != card["val"][1]["weights"] == card["sha256"]
    assert set(card["val"][0]["strata"]) == {"large, scale 1", "large, scale 2"}
    assert str(tmp_path) not in (out / "nuclei-stardist.json").read_text()
