"""The unet engine: decoding, tiling, sizes, weights, and how good the shipped network is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import find_boundaries

from opsef_bridge.engines import unet_legacy
from opsef_bridge.engines.base import Raw, Weights
from opsef_bridge.engines.registry import find_weights, verify
from opsef_bridge.engines.unet import Decode, Predict, UNet, prepare, run_tiled
from opsef_bridge.errors import InputError, WeightsError, WorkerError
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.measure import match

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(scope="module")
def engine() -> UNet:
    engine = UNet()
    engine.load(find_weights("unet", "nuclei-unet"))
    return engine


def discs(shape: tuple[int, int], circles: list[tuple[int, int, int]]) -> np.ndarray:
    """Labels of circles (y, x, radius); a later one overwrites an earlier one."""
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (cy, cx, radius) in enumerate(circles, 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return labels


def ideal(labels: np.ndarray, scale: float = 1) -> Raw:
    """What a perfect network says that saw `labels`, of an image resized by `scale`."""
    border = find_boundaries(labels, mode="inner", connectivity=1)
    foreground = labels > 0
    maps = {"interior": 0.98 * (foreground & ~border) + 0.01, "foreground": 0.98 * foreground}
    shape = tuple(round(side / scale) for side in labels.shape)
    return Raw(maps, shape, {"scale": scale})


def one_large_sixty_small() -> np.ndarray:
    radii = np.tile(np.arange(5, 13), 8)[:60]
    spots = [(y, x) for y in range(16, 400, 32) for x in range(112, 272, 32)]
    small = [(y, x, int(r)) for (y, x), r in zip(spots, radii, strict=True)]
    return discs((400, 300), [(50, 50, 30), *small])


def f1(truth: np.ndarray, labels: np.ndarray) -> float:
    return float(match(truth, labels, 0.5)["f1"].iloc[0])


def test_small_nuclei_survive_beside_a_large_one():
    # OpSeF's post-processing found 1 of these 61: its seeds hung on the global maximum.
    truth = one_large_sixty_small()
    labels = UNet().decode(ideal(truth), Decode())
    assert labels.max() == 61
    assert match(truth, labels, 0.95)["tp"].iloc[0] == 61


def test_as_opsef_did_small_nuclei_vanish_beside_a_large_one():
    raw = ideal(one_large_sixty_small())
    labels = UNet().decode(raw, Decode(legacy=True))
    assert (labels.min(), labels.max()) == (0, 1), "the background is 0 nevertheless"
    assert labels[50, 50] == 1
    # What the other parameters say is not asked.
    other = Decode(legacy=True, threshold=0.2, foreground=0.9, prominence=50)
    np.testing.assert_array_equal(UNet().decode(raw, other), labels)
    area = np.count_nonzero(labels)
    assert UNet().decode(raw, Decode(legacy=True, min_size=area + 1)).max() == 0


def test_as_opsef_did_nuclei_of_one_size_are_found():
    truth = discs((120, 160), [(y, x, 14) for y in (30, 80) for x in (30, 80, 130)])
    labels = UNet().decode(ideal(truth), Decode(legacy=True))
    assert match(truth, labels, 0.8)["tp"].iloc[0] == 6


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_as_opsef_did_maps_are_brought_to_the_size_of_the_image(scale):
    truth = discs((120, 160), [(60, 50, 20), (60, 110, 20)])
    side = round(1 / scale) if scale < 1 else 1
    seen = truth[::side, ::side] if scale < 1 else np.kron(truth, np.ones((2, 2), np.int32))
    labels = UNet().decode(ideal(seen, scale), Decode(legacy=True))
    assert labels.shape == truth.shape
    assert match(truth, labels, 0.7)["tp"].iloc[0] == 2


@pytest.mark.parametrize(("interior", "count"), [(0.01, 0), (0.99, 1)])
def test_as_opsef_did_an_image_of_one_kind(interior, count):
    maps = {"interior": np.full((30, 40), interior), "foreground": np.full((30, 40), interior)}
    labels = UNet().decode(Raw(maps, (30, 40), {"scale": 1}), Decode(legacy=True))
    assert labels.dtype == np.int32
    assert labels.max() == count == len(np.unique(labels)) - (count == 0)


def test_opening_and_distances_are_those_of_opencv():
    cv2 = pytest.importorskip("cv2", reason="OpenCV, whose steps are repeated, is not installed")
    rng = np.random.default_rng(0)
    for _ in range(50):
        noise = ndimage.gaussian_filter(rng.random(rng.integers(1, 60, 2)), rng.random() * 5)
        mask = (noise > np.quantile(noise, rng.random())).astype(np.uint8)
        square = np.ones((2, 2), np.uint8)
        opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, square, iterations=2)
        np.testing.assert_array_equal(unet_legacy._opened(mask > 0), opened > 0)
        if not opened.all():
            depth = cv2.distanceTransform(opened, cv2.DIST_L2, 5)
            found = unet_legacy._depth(opened > 0) / 65536
            np.testing.assert_allclose(found, depth, rtol=0, atol=1e-4)


def test_touching_nuclei_are_parted_and_filled():
    truth = discs((60, 90), [(30, 30, 15), (30, 60, 15)])
    assert np.count_nonzero(np.diff(truth[30, 30:61])) == 1, "they do touch"
    np.testing.assert_array_equal(UNet().decode(ideal(truth), Decode()), truth)


def test_the_background_is_no_object():
    labels = UNet().decode(ideal(np.zeros((40, 50), np.int32)), Decode())
    assert labels.dtype == np.int32
    assert not labels.any()


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.5, 2.0])
def test_labels_come_back_at_the_original_size(scale):
    circles = [(150, 110, 80), (40, 40, 25), (250, 180, 20)]
    truth = discs((300, 220), circles)
    seen = discs(
        (round(300 * scale), round(220 * scale)),
        [tuple(round(value * scale) for value in circle) for circle in circles],
    )
    labels = UNet().decode(ideal(seen, scale), Decode())
    assert labels.shape == truth.shape
    assert labels.max() == 3
    assert match(truth, labels, 0.85)["tp"].iloc[0] == 3


def test_min_size_counts_pixels_of_the_original():
    truth = discs((40, 40), [(20, 20, 5)])
    raw = ideal(np.kron(truth, np.ones((2, 2), np.int32)), 2)
    area = np.count_nonzero(truth)
    assert UNet().decode(raw, Decode(min_size=area)).max() == 1
    assert UNet().decode(raw, Decode(min_size=area + 1)).max() == 0


def test_foreground_may_have_its_own_threshold():
    interior = np.full((9, 9), 0.1)
    interior[3:6, 3:6] = 0.9
    raw = Raw({"interior": interior, "foreground": np.full((9, 9), 0.6)}, (9, 9), {"scale": 1})
    sizes = [
        np.count_nonzero(UNet().decode(raw, Decode(threshold=t, foreground=f, min_size=0)))
        for t, f in [(0.5, None), (0.7, None), (0.7, 0.5), (0.95, 0.5)]
    ]
    assert sizes == [81, 9, 81, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_decode_is_a_function_of_maps_and_thresholds_alone(seed, threshold, foreground):
    rng = np.random.default_rng(seed)
    interior = rng.random((24, 31)).astype(np.float16)
    maps = {"interior": interior, "foreground": np.maximum(interior, 0.5)}
    raw = Raw(maps, (24, 31), {"scale": 1})
    before = {name: data.copy() for name, data in raw.maps.items()}
    how = Decode(threshold=threshold, foreground=foreground, min_size=3)
    labels = UNet().decode(raw, how)
    np.testing.assert_array_equal(labels, UNet().decode(raw, how))
    for name, data in raw.maps.items():
        np.testing.assert_array_equal(data, before[name])
    sizes = np.bincount(labels.ravel())
    assert set(np.unique(labels)) | {0} == set(range(labels.max() + 1))
    assert (sizes[1:] >= 3).all()


def test_tiles_give_what_the_whole_image_gives(engine):
    image = np.random.default_rng(0).random((300, 233)).astype(np.float32)
    whole = run_tiled(engine._network.run, image, 1024)
    for tile in (64, 144, 257):
        np.testing.assert_allclose(run_tiled(engine._network.run, image, tile), whole, atol=2e-6)


def test_more_thresholds_need_no_more_network(engine, monkeypatch):
    calls = []
    run = engine._network.run
    monkeypatch.setattr(engine._network, "run", lambda batch: calls.append(1) or run(batch))
    raw = engine.predict(read_image(EXAMPLES / "images" / "small_fadeb0ab0928.png").data, Predict())
    counts = [engine.decode(raw, Decode(threshold=t)).max() for t in (0.3, 0.6, 0.9)]
    assert len(calls) == 1
    assert len(set(counts)) > 1


@pytest.mark.parametrize(
    ("name", "least"),
    [("small_8b77284d6f37.png", 0.9), ("large_1b518cd2ea84.png", 0.85), ("u2os_F12_s9.tif", 0.85)],
)
def test_shipped_weights_find_nuclei_they_never_saw(engine, name, least):
    image = read_image(EXAMPLES / "images" / name).data
    truth = read_labels(EXAMPLES / "labels" / f"{Path(name).stem}.tif")
    labels = engine.decode(engine.predict(image, Predict()), Decode())
    assert labels.shape == image.shape
    assert f1(truth, labels) >= least


def test_a_crop_with_its_image_as_reference_agrees_with_the_image(engine):
    image = read_image(EXAMPLES / "images" / "large_6b6d4e6ff52d.png").data
    crop = image[:400, :400]
    whole = engine.predict(image, Predict())
    part = engine.predict(crop, Predict(), reference=image)
    inside = np.s_[:256, :256]  # further than the network sees from the cut
    np.testing.assert_allclose(
        part.maps["interior"][inside].astype(float),
        whole.maps["interior"][inside].astype(float),
        atol=1e-3,
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (17, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, bool])
def test_constant_and_narrow_images_have_no_objects(engine, shape, dtype):
    image = np.ones(shape, dtype)
    labels = engine.decode(engine.predict(image, Predict(scale=2)), Decode())
    assert labels.shape == shape
    assert not labels.any()


def test_units_of_intensity_do_not_matter(engine):
    image = read_image(EXAMPLES / "images" / "small_8b77284d6f37.png").data
    raw = engine.predict(image, Predict())
    brighter = engine.predict(image.astype(np.uint16) * 200 + 1000, Predict())
    for name in raw.maps:
        np.testing.assert_allclose(
            raw.maps[name].astype(float), brighter.maps[name].astype(float), atol=2e-3
        )


def test_percentiles_that_coincide_give_way_to_the_extremes():
    image = np.zeros((100, 100), np.uint8)
    image[50, 50:55] = 100
    assert prepare(image).max() == 1


@pytest.mark.parametrize(
    "image",
    [np.full((8, 8), np.nan), np.zeros((3, 8, 8)), np.zeros((8, 8), complex)],
    ids=["nan", "volume", "complex"],
)
def test_images_that_cannot_be_segmented_are_refused(engine, image):
    with pytest.raises(InputError):
        engine.predict(image, Predict())


def test_missing_weights_name_the_file(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.onnx"):
        UNet().load(Weights("gone", "unet", tmp_path / "gone.onnx"))


def test_broken_weights_name_the_file(tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(find_weights("unet", "nuclei-unet").path.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"half\.onnx"):
        UNet().load(Weights("half", "unet", path))


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(WorkerError, match="tpu"):
        UNet().load(find_weights("unet", "nuclei-unet"), "tpu")


def test_predict_before_load_is_an_error():
    with pytest.raises(WorkerError, match="loaded"):
        UNet().predict(np.zeros((8, 8)), Predict())


def test_the_card_tells_what_is_shipped():
    weights = find_weights("unet", "nuclei-unet")
    verify(weights)
    card = weights.card
    assert weights.path.stat().st_size <= 5_000_000
    assert {"data", "recipe", "versions", "licence", "commands", "val", "cv"} <= set(card)
    bundled = {path.stem.rsplit("_", 1)[-1] for path in (EXAMPLES / "images").iterdir()}
    assert len(bundled & set(card["data"]["left_out"])) == 7
    assert Decode(**card["decode"]) == Decode(), "the defaults are those that were scored"
