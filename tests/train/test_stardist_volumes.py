"""Training of StarDist's network for volumes: targets, crops, the way to ONNX, and to a project."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from stardist.data import test_image_nuclei_3d as nuclei_3d  # noqa: E402
from stardist.geometry import star_dist3D  # noqa: E402
from stardist.rays3d import Rays_GoldenSpiral  # noqa: E402
from stardist.utils import edt_prob  # noqa: E402

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.scaling import normalise, percentiles  # noqa: E402
from opsef_bridge.engines.stardist import StarDist  # noqa: E402
from opsef_bridge.engines.stardist_files import convert_stardist  # noqa: E402
from opsef_bridge.errors import InputError, WeightsError  # noqa: E402
from opsef_bridge.files import file_sha256, read_json, write_json  # noqa: E402
from opsef_bridge.measure import match  # noqa: E402
from opsef_bridge.testing.learners import balls  # noqa: E402
from opsef_bridge.train import stardist, training  # noqa: E402
from opsef_bridge.train.augment import Augmentation  # noqa: E402
from opsef_bridge.train.data import UNKNOWN, Sample  # noqa: E402
from opsef_bridge.train.stardist_crops import augment_volume, known_objects  # noqa: E402
from opsef_bridge.train.stardist_layers import predict  # noqa: E402
from opsef_bridge.train.stardist_volumes import (  # noqa: E402
    Settings,
    VolumeLearner,
    anisotropy_of,
    configuration,
    targets,
)
from opsef_bridge.train.tuning import Looked, tune  # noqa: E402

VOLUME = Path(__file__).parents[1] / "data" / "volume-stardist"
TINY = Settings(
    steps=4, batch=1, crop=(8, 16, 16), rays=8, width=4, depth=1, features=8, bfloat16=False,
    anisotropy=(2.0, 1.0, 1.0),
)  # fmt: skip
STILL = Augmentation(scale=(1, 1), gamma=(1, 1), gain=(1, 1), blur=0, noise=0)
LEARNER = VolumeLearner()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only get into each other's way in networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stored(network, settings: Settings, folder: Path) -> Weights:
    path = LEARNER.save(network, settings, folder, "mine")
    card = LEARNER.card("mine", settings, {}, file_sha256(path))
    write_json(folder / "mine.json", card)
    return Weights("mine", "stardist", path, card["sha256"], card)


def opened(weights: Weights) -> StarDist:
    engine = StarDist()
    engine.load(weights)
    return engine


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 2, 2), (2, 4, 4)])
def test_targets_are_those_of_the_package(grid):
    labels = balls(1).labels
    rays = Rays_GoldenSpiral(16, anisotropy=(2.0, 1.0, 1.5))
    how = replace(TINY, grid=grid, rays=16, anisotropy=(2.0, 1.0, 1.5))
    prob, dist = targets(labels, how)
    places = tuple(slice(None, None, step) for step in grid)
    np.testing.assert_array_equal(prob[0], edt_prob(labels, anisotropy=(2.0, 1.0, 1.5))[places])
    np.testing.assert_array_equal(dist, star_dist3D(labels, rays, grid=grid))
    assert (prob.dtype, dist.dtype) == (np.float32, np.float32) and prob.max() > 0.5
    labels[..., :20] = UNKNOWN
    hidden = targets(labels, how)[0][0]
    unknown = labels[places] < 0
    assert (hidden[unknown] == -1).all() and (hidden[~unknown] >= 0).all()


def test_labels_beyond_16_bits_are_objects_too():
    labels = balls(1).labels
    far = np.where(labels > 0, labels + 2**16 - 1, 0).astype(np.int32)
    for one, other in zip(targets(labels, TINY), targets(far, TINY), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["overlap", "absolute"])
def test_the_loss_is_least_for_the_truth_and_leaves_out_what_nobody_vouched_for(kind):
    how = replace(TINY, distance_loss=kind, augmentation=STILL)
    _, prob, dist = LEARNER.batch(np.random.default_rng(0), [balls(1)], how)
    assert prob.shape == (1, 1, 8, 8, 8) and dist.shape == (1, 8, 8, 8, 8)
    logits, found = torch.logit(prob.clamp(0.001, 0.999)), dist.movedim(-1, 1)

    def take(logits, found, prob=prob):
        said = (logits.clone().requires_grad_(), found.clone().requires_grad_())
        value = LEARNER.loss(lambda images: said, (torch.zeros(1), prob, dist), how)
        value.backward()
        return value.item(), said

    best, _ = take(logits, found)
    for wrong in (found + 2, found * 0.7, found - 30):
        assert take(logits, wrong)[0] > best + 0.1
    assert take(-logits, found)[0] > best + 0.1
    sparse = prob.clone()
    sparse[..., :4] = -1
    (a, _), (b, said) = take(-logits, found + 2, sparse), take(-logits, found + 2, sparse)
    assert a == b and not any(one.grad[..., :4].any() for one in said)
    assert all(one.grad[..., 4:].any() for one in said)
    other = -logits, found + 2
    for one in other:
        one[..., :4] = 7
    assert take(*other, sparse)[0] == pytest.approx(a)


def test_the_overlap_is_that_of_volumes():
    """Polyhedra of 64 rays, one twice the other: 1/8 of the volume, whatever the voxels' shape."""
    how = replace(TINY, rays=64, distance_loss="overlap", anisotropy=(4.0, 1.0, 1.0))
    prob, dist = torch.ones(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 64), 20.0)
    sure = torch.full_like(prob, 50.0)

    def take(found):
        return LEARNER.loss(lambda images: (sure, found), (torch.zeros(1), prob, dist), how).item()

    assert take(torch.full((1, 64, 1, 1, 1), 10.0)) == pytest.approx(7 / 8 + 0.2, abs=1e-3)
    along_z = np.abs(Rays_GoldenSpiral(64, anisotropy=(4.0, 1.0, 1.0)).vertices[:, 0]) > 0.9
    short = torch.full((1, 64, 1, 1, 1), 20.0)
    short[0, along_z] = 10.0
    # Few of the rays go along Z, but there the voxels are long.
    alike = 1 - (1 - along_z.mean() * 7 / 8)
    assert take(short) - 0.2 * along_z.mean() > 2 * alike


def test_crops_keep_image_and_labels_together():
    labels = np.arange(6 * 20 * 20, dtype=np.int32).reshape(6, 20, 20) + 1
    sample = Sample("a", labels.astype(np.float32), labels, "a")
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        image, found = augment_volume(rng, sample, (4, 8, 8), STILL)
        assert image.shape == found.shape == (4, 8, 8)
        np.testing.assert_array_equal(image, found)
        steps = np.sign([int(found[1, 0, 0]) - found[0, 0, 0], found[0, 1, 0] - found[0, 0, 0]])
        seen.add((*steps.tolist(), abs(int(found[0, 1, 0]) - found[0, 0, 0])))
    assert len(seen) == 8, "each way along Z, along Y, and turned by a quarter or not"
    # Not square: never a quarter, which would not fit.
    for _ in range(20):
        image, found = augment_volume(rng, sample, (4, 8, 12), STILL)
        assert image.shape == (4, 8, 12) and abs(int(found[0, 1, 0]) - found[0, 0, 0]) == 20
    bigger = replace(STILL, scale=(2, 2))
    image, found = augment_volume(rng, sample, (4, 8, 8), bigger)
    assert len(np.unique(found)) == 2 * 4 * 4 and image.shape == (4, 8, 8)


def test_beyond_a_small_volume_nothing_is_learned():
    sample = balls(1, shape=(5, 40, 12))
    rng = np.random.default_rng(0)
    for _ in range(5):
        image, labels = augment_volume(rng, sample, (8, 16, 16), STILL)
        assert image.shape == (8, 16, 16) and np.isfinite(image).all()
        assert (labels == UNKNOWN).sum() == 8 * 16 * 16 - 5 * 16 * 12


def test_crop_and_anisotropy_are_those_of_the_samples():
    how = replace(TINY, crop=(32, 64, 64), anisotropy=())
    found = LEARNER.suited(how, [balls(1, shape=(5, 40, 12)), balls(2, shape=(5, 30, 60))])
    assert found.crop == (6, 40, 60), "multiples of 2, 4 and 4 not below the largest volume"
    assert found.anisotropy[0] > 1.3
    given = LEARNER.suited(replace(how, anisotropy=(3, 1, 1)), [balls(1)])
    assert given.anisotropy == (3.0, 1.0, 1.0)
    with pytest.raises(InputError, match="not known yet"):
        LEARNER.check([balls(1)], how)


def test_objects_that_are_cut_do_not_tell_the_anisotropy():
    labels = np.zeros((20, 70, 70), np.int32)
    for number in range(6):
        labels[4:8, 1 + 11 * number : 9 + 11 * number, 10:18] = number + 1
        labels[:1, 1 + 11 * number : 9 + 11 * number, 30:38] = number + 11
        labels[10, 1 + 11 * number : 9 + 11 * number, 50:58] = number + 21
    labels[11:, :, 50:58] = UNKNOWN
    assert anisotropy_of([labels]) == (2.0, 1.0, 1.0)
    assert sum(box.whole for box in known_objects(labels)) == 6
    assert anisotropy_of([np.zeros((4, 4, 4), np.int32)]) == (1.0, 1.0, 1.0)
    # A list as long as the largest number would be 8 GB.
    far = np.where(labels > 0, labels + 2**30, labels).astype(np.int32)
    tracemalloc.start()
    assert list(known_objects(far)) == list(known_objects(labels))
    assert tracemalloc.get_traced_memory()[1] < 10 * far.nbytes
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("grid", "depth", "sides"),
    [((1, 2, 2), 2, (8, 16, 24)), ((2, 4, 4), 1, (8, 16, 24)), ((1, 1, 1), 1, (4, 6, 8))],
)
def test_onnx_equals_torch_and_comes_back_the_same(grid, depth, sides, tmp_path):
    how = replace(TINY, steps=2, grid=grid, depth=depth, crop=(8, 16, 16))
    network = training.fit(LEARNER, [balls(1), balls(2)], how)
    weights = stored(network, how, tmp_path)
    engine = opened(weights)
    assert engine.axes == {"ZYX"}
    batch = np.random.default_rng(0).random((1, 1, *sides)).astype(np.float32)
    wanted = predict(network, batch)
    for one, other in zip(engine._network(batch), wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))
    loaded, settings = LEARNER.load(weights, Settings(steps=2))
    assert configuration(settings) == configuration(how)
    for one, other in zip(predict(loaded, batch), wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))
    card = read_json(tmp_path / "mine.json")
    assert card["input"]["anisotropy"] == [2.0, 1.0, 1.0] and card["input"]["axes"] == "ZYX"


def test_a_network_of_the_package_can_be_gone_on_from(tmp_path):
    card = read_json(convert_stardist(VOLUME, tmp_path, name="theirs"))
    weights = Weights("theirs", "stardist", tmp_path / "theirs.onnx", card["sha256"], card)
    network, settings = LEARNER.load(weights, replace(Settings(), steps=1, crop=(8, 16, 16)))
    assert (settings.rays, settings.width, settings.depth, settings.features) == (32, 10, 2, 32)
    assert (settings.grid, settings.anisotropy) == ((1, 2, 2), (2.0, 1.0, 1.0))
    image = nuclei_3d()
    engine = opened(weights)
    before = engine.decode(engine.predict(image, engine.Predict()), engine.Decode())
    again = opened(stored(network, settings, tmp_path))
    again._thresholds = engine._thresholds
    np.testing.assert_array_equal(
        again.decode(again.predict(image, again.Predict()), again.Decode()), before
    )
    on = training.fit(LEARNER, [balls(1)], settings, start=network)
    assert not any(part.training for part in on.modules())


def test_weights_of_the_other_kind_are_refused(tmp_path):
    flat = stardist.Settings(steps=1, batch=1, crop=32, rays=8, width=4, depth=1, features=8)
    maker = stardist.StarDistLearner()
    path = maker.save(maker.network(flat, ()), flat, tmp_path, "flat")
    card = maker.card("flat", flat, {}, file_sha256(path))
    with pytest.raises(WeightsError, match="one for planes"):
        LEARNER.load(Weights("flat", "stardist", path, card["sha256"], card), TINY)
    deep = stored(LEARNER.network(TINY, ()), TINY, tmp_path)
    with pytest.raises(WeightsError, match="one for volumes"):
        maker.load(deep, flat)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"crop": (8, 16, 18)}, r"crop \[8, 16, 18\] is not made of multiples of \[2, 4, 4\]"),
        ({"crop": (16, 16)}, r"crop .* is \[16, 16\]"),
        ({"grid": (1, 3, 3)}, "grid"),
        ({"grid": (0, 2, 2)}, "grid"),
        ({"anisotropy": (2.0, 1.0)}, "anisotropy"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, why):
    with pytest.raises(InputError, match=why):
        LEARNER.check([balls(1)], replace(TINY, **wrong))
    with pytest.raises(InputError, match=why):
        LEARNER.suited(replace(TINY, **wrong), [])


def test_planes_and_volumes_are_not_mixed_up():
    volume = balls(1)
    plane = Sample("flat", volume.image[0], volume.labels[0], "flat")
    with pytest.raises(InputError, match="flat is a plane"):
        LEARNER.check([volume, plane], TINY)
    with pytest.raises(InputError, match=r"balls1 is .* learns planes"):
        stardist.StarDistLearner().check([volume], stardist.Settings())


def half(rows: slice) -> tuple[np.ndarray, Sample]:
    """Half of the package's test image, as it is and to learn from."""
    image, labels = nuclei_3d(return_mask=True)
    image, labels = image[:, rows], labels[:, rows].astype(np.int32)
    grey = normalise(image, percentiles(image, 1, 99.8))
    return image, Sample(f"{rows}", grey, labels, f"{rows}")


@pytest.mark.slow
def test_nuclei_are_learned_from_one_half_and_found_in_the_other(tmp_path):
    """120 steps had an F1 of 0.64 at an IoU of 0.5 there, 0.81 on what was learned from."""
    (raw, sample), (image, other) = half(slice(30)), half(slice(30, None))
    small = {"crop": (24, 24, 48), "rays": 32, "width": 8, "features": 32}
    how = LEARNER.suited(Settings(steps=120, **small), [sample])
    assert how.anisotropy[0] == 2
    weights = stored(training.fit(LEARNER, [sample], how), how, tmp_path)
    tuned = tune(weights, [Looked(raw, sample.labels)], device="cpu")
    engine = opened(weights)
    found = engine.decode(engine.predict(image, engine.Predict()), engine.Decode(**tuned.values))
    assert match(other.labels, found)["f1"].iloc[0] > 0.45
