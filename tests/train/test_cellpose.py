"""Training of Cellpose's network: flows, crops, the loop, the file, and the script."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
dynamics = pytest.importorskip("cellpose.dynamics")

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.cellpose import Cellpose, Decode, Predict  # noqa: E402
from opsef_bridge.errors import InputError  # noqa: E402
from opsef_bridge.files import file_sha256, read_json  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.train.augment import Augmentation  # noqa: E402
from opsef_bridge.train.cellpose import (  # noqa: E402
    DIAMETER,
    Settings,
    batch_of,
    cellpose_card,
    examples_of,
    export,
    fit,
    loss,
    mean_diameter,
)
from opsef_bridge.train.data import Sample  # noqa: E402

SCRIPT = Path(__file__).parents[2] / "tools" / "train_nuclei_cellpose.py"
PLAIN = Augmentation(scale=(1, 1), gamma=(1, 1), gain=(1, 1), blur=0, noise=0)
TINY = Settings(
    steps=2, batch=2, crop=64, channels=(4, 4, 8, 8), rate=1e-2, warm_up=0, bfloat16=False
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def discs(seed: int = 0, size: int = 96, radius: float = 10.0) -> Sample:
    """Bright discs in rows and columns on a dark ground."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size))
    labels = np.zeros((size, size), np.int32)
    step = round(2.4 * radius)
    middles = range(step // 2, size - step // 2, step)
    for number, (cy, cx) in enumerate([(a, b) for a in middles for b in middles], 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 3 * number
    image = (labels > 0) + rng.normal(0, 0.05, labels.shape)
    return Sample(f"discs{seed}", image.astype(np.float32), labels, f"g{seed}")


def lopsided() -> Sample:
    """One object without symmetry, 30 px across, that fills a good part of 64 px."""
    labels = np.zeros((64, 64), np.int32)
    labels[10:50, 12:24] = labels[40:50, 12:40] = 1
    return Sample("l", labels.astype(np.float32), labels, "l")


def test_flows_are_unit_vectors_to_the_middle():
    (example,) = examples_of([discs()])
    inside = example.flows[2] > 0
    np.testing.assert_array_equal(inside, discs().labels > 0)
    length = np.hypot(*example.flows[:2])[inside]
    assert (np.abs(length - 1) > 1e-3).sum() == 9, "0 in the nine middles, 1 elsewhere"
    assert not example.flows[:2, ~inside].any()
    middle = 12  # of the first disc
    assert example.flows[0, middle - 8, middle] > 0.9, "above the middle: down"
    assert example.flows[1, middle, middle + 8] < -0.9, "right of it: to the left"
    assert example.diameter == pytest.approx(20, abs=0.5)


def test_diameters_ignore_gaps_in_the_labels():
    assert mean_diameter(np.array([[0, 7, 7, 7, 7, 9]])) == pytest.approx(1.5 * 2 / np.pi**0.5)
    assert mean_diameter(np.zeros((3, 3), int)) == 0


def test_labels_without_background_have_flows():
    full = Sample("full", np.eye(20, dtype=np.float32), np.full((20, 20), 5), "full")
    (example,) = examples_of([full])
    assert (example.flows[2] == 1).all()


def test_crops_turn_flows_with_the_picture():
    """What is drawn is what would be computed from the turned labels."""
    (example,) = examples_of([lopsided()])
    example = replace(example, diameter=DIAMETER)
    how = replace(TINY, batch=40, augmentation=PLAIN, with_objects=1)
    images, flows = (part.numpy() for part in batch_of(np.random.default_rng(0), [example], how))
    assert len({image[0].tobytes() for image in images}) == 8, "four turns, mirrored or not"
    assert not images[:, 1].any()
    for image, (y, x, inside) in zip(images, flows, strict=True):
        np.testing.assert_array_equal(image[0] > 0.5, inside > 0)
        expected = dynamics.masks_to_flows(inside.astype(int))
        agree = (np.stack([y, x]) * expected).sum(0)[inside > 0]
        assert agree.mean() > 0.99


@pytest.mark.parametrize(("radius", "size"), [(6.0, 80), (30.0, 300)])
def test_objects_are_seen_at_one_size(radius, size):
    examples = examples_of([discs(radius=radius, size=size)])
    how = replace(TINY, batch=6, crop=192, augmentation=PLAIN)
    _, flows = batch_of(np.random.default_rng(0), examples, how)
    assert flows.shape == (6, 3, 192, 192)
    from skimage.measure import label, regionprops

    whole = [
        region.equivalent_diameter_area
        for crop in flows[:, 2].numpy()
        for region in regionprops(label(crop > 0))
        if min(region.bbox[:2]) > 0 and max(region.bbox[2:]) < 192
    ]
    assert np.median(whole) == pytest.approx(DIAMETER, rel=0.08)


def test_most_crops_show_an_object():
    sparse = Sample("s", np.zeros((600, 600), np.float32), np.zeros((600, 600), np.int32), "s")
    sparse.labels[5:35, 5:35] = 1
    (example,) = examples_of([replace(sparse, image=sparse.labels.astype(np.float32))])
    how = replace(TINY, batch=30, crop=192, with_objects=1)
    _, flows = batch_of(np.random.default_rng(1), [example], how)
    shown = flows[:, 2].flatten(1).any(1).sum()
    _, flows = batch_of(np.random.default_rng(1), [example], replace(how, with_objects=0))
    assert shown > 2 * flows[:, 2].flatten(1).any(1).sum()


def test_the_loss_is_that_of_the_package():
    from cellpose.train import _loss_fn_seg

    rng = np.random.default_rng(0)
    flows = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    flows[:, 2] = flows[:, 2] > 0
    found = torch.from_numpy(rng.normal(size=(2, 3, 8, 8)).astype(np.float32))
    theirs = _loss_fn_seg(flows[:, [2, 0, 1]], found, torch.device("cpu"))
    assert loss(found, torch.from_numpy(flows)).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_a_seed_gives_the_same_weights():
    one, same, other = (
        torch.cat([p.flatten() for p in fit([discs(1)], replace(TINY, seed=seed)).parameters()])
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_it_learns_and_the_engine_runs_what_it_stores(tmp_path):
    how = replace(TINY, steps=90, channels=(8, 16, 16, 32), augmentation=PLAIN)
    losses = []
    network = fit([discs(1), discs(2)], how, lambda step, value: losses.append(value))
    assert len(losses) == 90
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:5])
    export(network, tmp_path / "n.pt")
    stored = torch.load(tmp_path / "n.pt", weights_only=True)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert float(stored["diam_labels"]) == pytest.approx(20, abs=0.5)
    card = cellpose_card("n", how, {}, file_sha256(tmp_path / "n.pt"))
    engine = Cellpose()
    engine.load(Weights("n", "cellpose", tmp_path / "n.pt", card["sha256"], card))
    unseen = discs(3)
    labels = engine.decode(engine.predict(unseen.image, Predict(diameter=20)), Decode())
    assert labels.max() == len(np.unique(unseen.labels)) - 1


def test_impossible_settings_are_errors():
    empty = Sample("e", np.zeros((9, 9), np.float32), np.zeros((9, 9), np.int32), "e")
    with pytest.raises(InputError, match="nothing to learn from"):
        fit([empty], TINY)
    with pytest.raises(InputError, match="crop 60 is no multiple of 8"):
        fit([discs()], replace(TINY, crop=60))


# The script.


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("train_nuclei_cellpose", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CHOSEN", TINY)
    return module


def write_toy(folder: Path, name: str, radius: float) -> None:
    sample = discs(radius=radius, size=64)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    grey = (sample.labels > 0).astype(np.uint8) * 200
    Image.fromarray(grey).save(folder / "images" / f"{name}.png")
    write_labels(folder / "labels" / f"{name}.tif", sample.labels)


def test_train_and_score(script, tmp_path, monkeypatch):
    write_toy(tmp_path / "train", "a", 10)
    write_toy(tmp_path / "train", "8b77284d6f37", 10)  # bundled as an example
    write_toy(tmp_path / "val", "v", 7)
    write_toy(tmp_path / "val", "w", 20)
    names = ["a", "8b77284d6f37", "v", "w"]
    rows = "\n".join(["file,mosaic_group", *(f"{name},{name}" for name in names)])
    (tmp_path / "manifest.csv").write_text(rows + "\n")
    out = tmp_path / "out"
    for more in ([], ["--val"], ["--steps", "3"], ["--val"]):
        command = ["train", "--data", str(tmp_path), "--out", str(out), *more]
        monkeypatch.setattr(sys, "argv", command)
        script.main()
    card = read_json(out / "nuclei-cellpose.json")
    assert card["data"]["left_out"] == ["8b77284d6f37"]
    assert card["sha256"] == file_sha256(out / "nuclei-cellpose.pt")
    assert card["recipe"]["steps"] == 3
    # Scores on val are never dropped: three diameters and the choice of them, twice.
    assert [entry["diameter"] for entry in card["val"][:3]] == [12, 22, 45]
    assert set(card["val"][3]["diameter"]) == {"small", "large"}
    assert len(card["val"]) == 8
    assert str(tmp_path) not in (out / "nuclei-cellpose.json").read_text()
