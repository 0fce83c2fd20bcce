"""Training: targets, crops, loss, the loop, and the way to ONNX."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.unet import UNet  # noqa: E402
from opsef_bridge.errors import InputError  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.train.augment import Augmentation, augment  # noqa: E402
from opsef_bridge.train.data import (  # noqa: E402
    BACKGROUND,
    BORDER,
    INTERIOR,
    Sample,
    checksum,
    class_map,
    folds,
    read_samples,
)
from opsef_bridge.train.export import as_stored, export_onnx  # noqa: E402
from opsef_bridge.train.loop import Settings, fit, learning_rate, loss, predict  # noqa: E402
from opsef_bridge.train.network import UNetModule, parameter_count  # noqa: E402
from opsef_bridge.train.score import bootstrap, count_matches, pooled_f1  # noqa: E402

TINY = Settings(steps=40, batch=2, crop=64, width=8, depth=2, warm_up=5, rate=1e-2, bfloat16=False)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sample(name: str = "a", *, size: int = 80, group: str = "g") -> Sample:
    """Bright squares of 16 px on a dark ground."""
    labels = np.zeros((size, size), np.int32)
    corners = [(y, x) for y in range(4, size - 16, 24) for x in range(4, size - 16, 24)]
    for number, (y, x) in enumerate(corners, 1):
        labels[y : y + 16, x : x + 16] = number
    return Sample(name, (labels > 0).astype(np.float32), labels, group)


def test_the_border_is_inside_and_parts_touching_objects():
    labels = np.zeros((7, 12), int)
    labels[1:6, 1:6] = 3
    labels[1:6, 6:11] = 9
    classes = class_map(labels)
    assert set(np.unique(classes[labels == 0])) == {BACKGROUND}
    assert (classes[2:5, 2:5] == INTERIOR).all()
    assert (classes[3, [1, 5, 6, 10]] == BORDER).all()
    assert np.count_nonzero(classes == BORDER) == 2 * (25 - 9)


def test_the_edge_of_the_image_is_no_border():
    assert (class_map(np.ones((5, 5), int)) == INTERIOR).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([32, 64, 96]), st.integers(20, 130))
def test_crops_keep_image_and_labels_together(seed, size, extent):
    plain = Augmentation(gamma=(1, 1), gain=(1, 1), blur=0, noise=0)
    image, labels = augment(np.random.default_rng(seed), sample(size=extent), size, plain)
    assert image.shape == labels.shape == (size, size)
    assert image.dtype == np.float32
    # Linear and nearest sampling may differ on outlines only.
    wrong = (image > 0.5) != (labels > 0)
    assert not wrong[class_map(labels) == INTERIOR].any()


def test_the_same_generator_gives_the_same_crop():
    one, two = (augment(np.random.default_rng(5), sample(), 32, Augmentation()) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_loss_is_small_for_the_truth_and_weighs_the_border():
    classes = torch.tensor([[[0, 1, 2, 1]]])
    right = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2) * 20.0
    assert loss(right, classes, 1.5) < 1e-3
    wrong_border = right.clone()
    wrong_border[..., 2] = torch.tensor([20.0, 0.0, 0.0])[None, :, None]
    assert loss(wrong_border, classes, 3.0) > loss(wrong_border, classes, 1.0) > 1


def test_the_rate_rises_and_falls_to_nothing():
    rates = [learning_rate(step, TINY) for step in range(TINY.steps + 1)]
    assert np.argmax(rates) in (TINY.warm_up - 1, TINY.warm_up)
    assert max(rates) == pytest.approx(TINY.rate)
    assert rates[-1] == pytest.approx(0)


def test_training_learns_and_repeats_exactly():
    losses: list[float] = []
    first = fit([sample()], TINY, lambda step, value: losses.append(value))
    again = fit([sample()], TINY)
    assert len(losses) == TINY.steps
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    for one, two in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    other = fit([sample()], replace(TINY, seed=1, steps=1))
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize(("samples", "crop"), [([], 64), ([sample()], 66)])
def test_what_cannot_be_trained_is_refused(samples, crop):
    with pytest.raises(InputError):
        fit(samples, replace(TINY, crop=crop))


def test_the_full_network_fits_the_file_limit():
    assert parameter_count(UNetModule()) * 2 < 4_500_000


def test_onnx_equals_torch(tmp_path):
    torch.manual_seed(0)
    network = UNetModule(width=4).train()
    for _ in range(3):  # gives the normalisation something to fold
        network(torch.randn(2, 1, 64, 64))
    network.eval()
    path = tmp_path / "net.onnx"
    export_onnx(network, path)
    assert path.stat().st_size < 2.5 * parameter_count(network) + 20_000, "weights are halves"
    engine = UNet()
    engine.load(Weights("net", "unet", path))
    batch = np.random.default_rng(0).normal(size=(3, 1, 48, 80)).astype(np.float32)
    found = engine._network.run(batch)
    np.testing.assert_allclose(found, predict(as_stored(network), batch), atol=1e-5)
    np.testing.assert_allclose(found, predict(network, batch), atol=2e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_groups_stay_together_and_folds_are_even():
    samples = [sample(str(i), group=f"g{i // 2}") for i in range(12)]
    parts = folds(samples, 3, seed=0)
    assert sorted(i for part in parts for i in part) == list(range(12))
    assert [len(part) for part in parts] == [4, 4, 4]
    groups = [{samples[i].group for i in part} for part in parts]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert folds(samples, 3, seed=0) == parts


def test_reading_leaves_groups_out_and_notices_missing_labels(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "images" / f"{name}.png")
        write_labels(tmp_path / "labels" / f"{name}.tif", np.eye(8, dtype=np.uint16))
    groups = {"a": "x", "b": "x"}
    assert [s.name for s in read_samples(tmp_path, groups, without={"x"})] == ["c"]
    everything = read_samples(tmp_path, groups)
    assert [s.group for s in everything] == ["x", "x", "c"]
    assert checksum(everything) != checksum(everything[:2])
    (tmp_path / "labels" / "b.tif").unlink()
    with pytest.raises(InputError, match=r"b\.png"):
        read_samples(tmp_path, groups)
    with pytest.raises(InputError, match="no PNG"):
        read_samples(tmp_path / "elsewhere", groups)


def test_scores_are_pooled_over_images():
    truth, empty = sample().labels, np.zeros((80, 80), np.int32)
    counts = count_matches([(truth, truth), (truth, empty)])
    objects = truth.max()
    assert counts[:, 0].tolist() == [[objects, 0, 0], [0, 0, objects]]
    np.testing.assert_allclose(pooled_f1(counts), 2 / 3)
    low, high = bootstrap(counts)
    assert (low == 0).all()
    assert (high == 1).all()
