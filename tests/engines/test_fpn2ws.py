"""The fpn2ws engine: decoding, tiling, sizes, weights, and how good the shipped network is."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage
from skimage.segmentation import find_boundaries

from opsef_bridge.engines.base import Raw, Weights
from opsef_bridge.engines.fpn2ws import FPN2WS, Decode, Predict, keep_largest, tile_boxes
from opsef_bridge.engines.map_network import run_tiled
from opsef_bridge.engines.registry import list_weights, verify
from opsef_bridge.errors import WeightsError, WorkerError
from opsef_bridge.images import read_image, read_labels
from opsef_bridge.measure import match
from opsef_bridge.testing.engines import EngineSuite

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
PUBLISHED = Decode(published=True, seed=0.6)


def shipped(name: str = "nuclei-fpn2ws") -> Weights:
    return next(weights for weights in list_weights() if weights.name == name)


@cache
def loaded() -> FPN2WS:
    engine = FPN2WS()
    engine.load(shipped())
    return engine


class TestFPN2WS(EngineSuite):
    @pytest.fixture
    def engine(self):
        return loaded()


def discs(shape: tuple[int, int], circles: list[tuple[int, int, int]]) -> np.ndarray:
    """Labels of circles (y, x, radius); a later one overwrites an earlier one."""
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (cy, cx, radius) in enumerate(circles, 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return labels


def ideal(labels: np.ndarray, scale: float = 1) -> Raw:
    """What a perfect network says that saw `labels`, of an image resized by `scale`."""
    distance = np.zeros(labels.shape)
    for label in range(1, labels.max() + 1):
        depth = ndimage.distance_transform_edt(labels == label)
        distance += depth / depth.max()
    border = find_boundaries(labels, mode="inner", connectivity=1).astype(float)
    maps = {"distance": distance, "border": ndimage.gaussian_filter(border, 1)}
    return Raw(maps, tuple(round(side / scale) for side in labels.shape))


def one_large_sixty_small() -> np.ndarray:
    radii = np.tile(np.arange(5, 13), 8)[:60]
    spots = [(y, x) for y in range(16, 400, 32) for x in range(112, 272, 32)]
    small = [(y, x, int(r)) for (y, x), r in zip(spots, radii, strict=True)]
    return discs((400, 300), [(50, 50, 30), *small])


def f1(truth: np.ndarray, labels: np.ndarray, iou: float = 0.5) -> float:
    return float(match(truth, labels, iou)["f1"].iloc[0])


@pytest.mark.parametrize("how", [Decode(), PUBLISHED], ids=["masked", "published"])
def test_small_nuclei_survive_beside_a_large_one(how):
    truth = one_large_sixty_small()
    labels = FPN2WS().decode(ideal(truth), how)
    assert labels.max() == 61
    assert match(truth, labels, 0.7)["tp"].iloc[0] == 61


@pytest.mark.parametrize("how", [Decode(), PUBLISHED], ids=["masked", "published"])
def test_touching_nuclei_are_parted(how):
    truth = discs((60, 90), [(30, 30, 15), (30, 60, 15)])
    assert np.count_nonzero(np.diff(truth[30, 30:61])) == 1, "they do touch"
    labels = FPN2WS().decode(ideal(truth), how)
    assert labels.max() == 2
    assert match(truth, labels, 0.7)["tp"].iloc[0] == 2


@pytest.mark.parametrize("how", [Decode(), PUBLISHED], ids=["masked", "published"])
def test_the_background_is_no_object(how):
    labels = FPN2WS().decode(ideal(np.zeros((40, 50), np.int32)), how)
    assert labels.dtype == np.int32
    assert not labels.any()


def test_as_published_seeds_that_lie_close_are_joined():
    # Two nuclei of 9 px by 30 px, side by side: their seeds are 7 px apart.
    truth = np.zeros((40, 40), np.int32)
    truth[5:35, 10:19], truth[5:35, 20:29] = 1, 2
    assert FPN2WS().decode(ideal(truth), Decode(seed=0.6)).max() == 2
    assert FPN2WS().decode(ideal(truth), PUBLISHED).max() == 1


def test_as_published_there_is_no_foreground_mask():
    raw = ideal(one_large_sixty_small())
    for how in (Decode(), PUBLISHED):
        few, many = (
            np.count_nonzero(FPN2WS().decode(raw, how.model_copy(update={"foreground": f})))
            for f in (0.4, 0.05)
        )
        assert (few == many) is how.published


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.5, 2.0])
def test_labels_come_back_at_the_original_size(scale):
    circles = [(150, 110, 80), (40, 40, 26), (250, 180, 20)]
    truth = discs((300, 220), circles)
    seen = discs(
        (round(300 * scale), round(220 * scale)),
        [tuple(round(value * scale) for value in circle) for circle in circles],
    )
    labels = FPN2WS().decode(ideal(seen, scale), Decode(foreground=0.02))
    assert labels.shape == truth.shape
    assert labels.max() == 3
    assert match(truth, labels, 0.85)["tp"].iloc[0] == 3


def test_min_size_counts_pixels_of_the_original():
    truth = discs((40, 40), [(20, 20, 5)])
    raw = ideal(np.kron(truth, np.ones((2, 2), np.int32)), 2)
    area = np.count_nonzero(FPN2WS().decode(raw, Decode(min_size=0)))
    assert area > 50
    assert FPN2WS().decode(raw, Decode(min_size=area)).max() == 1
    assert FPN2WS().decode(raw, Decode(min_size=area + 1)).max() == 0


def in_tiles(raw: Raw, tile: int, overlap: int) -> Raw:
    """The same maps as tiles that overlap."""
    height, width = raw.maps["distance"].shape
    boxes = tile_boxes((height, width), tile, overlap)
    maps = {name: np.stack([data[box] for box in boxes]) for name, data in raw.maps.items()}
    values = {"tile": tile, "overlap": overlap, "height": height, "width": width}
    return Raw(maps, raw.shape, {name: float(value) for name, value in values.items()})


@given(st.integers(1, 700), st.integers(1, 700), st.integers(32, 256), st.integers(1, 16))
def test_tiles_cover_the_plane_are_alike_and_overlap(height, width, tile, overlap):
    boxes = tile_boxes((height, width), tile, overlap)
    seen = np.zeros((height, width), int)
    for box in boxes:
        seen[box] += 1
        assert seen[box].shape == (min(tile, height), min(tile, width))
    assert seen.min() == 1
    for axis in (0, 1):
        starts = sorted({box[axis].start for box in boxes})
        assert all(b - a <= tile - overlap for a, b in pairwise(starts))


@pytest.mark.parametrize("how", [Decode(), PUBLISHED], ids=["masked", "published"])
def test_tiles_that_overlap_are_segmented_apart_and_joined(how):
    truth = one_large_sixty_small()
    raw = in_tiles(ideal(truth), 128, 50)
    assert len(raw.maps["distance"]) == 5 * 4
    labels = FPN2WS().decode(raw, how)
    assert (labels.dtype, labels.shape) == (np.int32, truth.shape)
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert labels.max() == 61
    assert match(truth, labels, 0.6)["tp"].iloc[0] == 61


def test_without_ten_shared_pixels_there_are_two_objects():
    # A bar of 9 px across the seam; of two tiles that overlap by 1 px both see 9 of its pixels,
    # by 2 px they see 18.
    truth = np.zeros((64, 128), np.int32)
    truth[20:29, 20:100] = 1
    raws = [in_tiles(ideal(truth[:, : 128 - lap]), 64, lap) for lap in (1, 2)]
    assert [int(FPN2WS().decode(raw, Decode()).max()) for raw in raws] == [2, 1]


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.5])
def test_joined_tiles_come_back_at_the_original_size(scale):
    circles = [(150, 110, 60), (40, 40, 26), (250, 180, 20)]
    truth = discs((300, 220), circles)
    seen = discs(
        (round(300 * scale), round(220 * scale)),
        [tuple(round(value * scale) for value in circle) for circle in circles],
    )
    labels = FPN2WS().decode(in_tiles(ideal(seen, scale), 96, 40), Decode(foreground=0.02))
    assert labels.shape == truth.shape
    assert match(truth, labels, 0.75)["tp"].iloc[0] == 3


def test_published_tiles_through_the_network():
    image = read_image(EXAMPLES / "images" / "large_1b518cd2ea84.png").data
    engine = loaded()
    raw = engine.predict(image, Predict(tile=256, overlap=50))
    boxes = tile_boxes(image.shape, 256, 50)
    assert raw.maps["distance"].shape == (len(boxes), 256, 256)
    # Each tile is seen alone: normalised like the image, but nothing around it.
    alone = engine.predict(image[boxes[4]], Predict(), reference=image)
    for name, data in alone.maps.items():
        np.testing.assert_array_equal(raw.maps[name][4], data)
    whole = engine.decode(engine.predict(image, Predict()), Decode())
    joined = engine.decode(raw, Decode())
    assert f1(whole, joined) > 0.95
    again = Raw(dict(raw.maps), raw.shape, dict(raw.values))
    np.testing.assert_array_equal(FPN2WS().decode(again, Decode()), joined)


def test_tiles_that_overlap_keep_their_size_when_memory_is_short():
    engine = FPN2WS()
    engine.load(shipped())
    image = np.random.default_rng(0).random((700, 300)).astype(np.float32)
    before = engine.predict(image, Predict(tile=600, overlap=50))
    assert engine.lighten() is None, "their size decides the labels"
    engine.predict(image[:64, :64], Predict())
    assert engine.lighten() == "tile 512"
    after = engine.predict(image, Predict(tile=600, overlap=50))
    assert after.maps["distance"].shape == before.maps["distance"].shape == (2, 600, 300)


@pytest.mark.parametrize(("tile", "overlap"), [(256, 129), (64, 64), (256, 0), (256, -50)])
def test_overlaps_that_cannot_be_are_refused(tile, overlap):
    with pytest.raises(ValidationError, match="overlap"):
        Predict(tile=tile, overlap=overlap)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.1, 0.9),
    st.floats(0.1, 0.9),
    st.booleans(),
    st.sampled_from([(24, 31), (12, 17), (40, 33)]),
)
def test_decode_is_a_function_of_maps_and_thresholds_alone(
    seed, middle, foreground, published, shape
):
    rng = np.random.default_rng(seed)
    raw = Raw({name: rng.random((24, 31)) for name in ("distance", "border")}, shape)
    before = {name: data.copy() for name, data in raw.maps.items()}
    how = Decode(seed=middle, foreground=foreground, min_size=3, published=published)
    labels = FPN2WS().decode(raw, how)
    np.testing.assert_array_equal(labels, FPN2WS().decode(raw, how))
    for name, data in raw.maps.items():
        np.testing.assert_array_equal(data, before[name])
    sizes = np.bincount(labels.ravel())
    assert (sizes[1:] >= 3).all()
    for label in range(1, len(sizes)):
        assert ndimage.label(labels == label, structure=np.ones((3, 3)))[1] == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_largest_piece_is_kept(seed):
    labels = np.random.default_rng(seed).integers(0, 4, (9, 11))
    kept = keep_largest(labels)
    for label in range(1, 4):
        pieces, count = ndimage.label(labels == label, structure=np.ones((3, 3)))
        largest = max((np.count_nonzero(pieces == n) for n in range(1, count + 1)), default=0)
        assert np.count_nonzero(kept == label) == largest
        assert ((kept != label) | (labels == label)).all()
        assert ndimage.label(kept == label, structure=np.ones((3, 3)))[1] == min(count, 1)


def test_tiles_give_what_the_whole_image_gives():
    image = np.random.default_rng(0).random((500, 433)).astype(np.float32)
    whole = run_tiled(loaded()._network.run, image, 1024)
    for tile in (64, 144, 257):
        np.testing.assert_allclose(run_tiled(loaded()._network.run, image, tile), whole, atol=2e-6)


def test_more_thresholds_need_no_more_network(monkeypatch):
    engine, calls = loaded(), []
    run = engine._network.run
    monkeypatch.setattr(engine._network, "run", lambda batch: calls.append(1) or run(batch))
    raw = engine.predict(read_image(EXAMPLES / "images" / "small_fadeb0ab0928.png").data, Predict())
    counts = [engine.decode(raw, Decode(seed=seed)).max() for seed in (0.3, 0.6, 0.9)]
    assert len(calls) == 1
    assert len(set(counts)) > 1


@pytest.mark.parametrize(
    ("name", "least"),
    [("small_8b77284d6f37.png", 0.9), ("large_1b518cd2ea84.png", 0.85), ("u2os_F12_s9.tif", 0.85)],
)
def test_shipped_weights_find_nuclei_they_never_saw(name, least):
    image = read_image(EXAMPLES / "images" / name).data
    truth = read_labels(EXAMPLES / "labels" / f"{Path(name).stem}.tif")
    raw = loaded().predict(image, Predict())
    labels = loaded().decode(raw, Decode())
    assert labels.shape == image.shape
    assert f1(truth, labels) >= least
    assert f1(truth, loaded().decode(raw, PUBLISHED)) >= least - 0.15


def test_weights_of_another_network_are_refused():
    with pytest.raises(WeightsError, match="nuclei-unet"):
        FPN2WS().load(shipped("nuclei-unet"))


def test_predict_before_load_is_an_error():
    with pytest.raises(WorkerError, match="loaded"):
        FPN2WS().predict(np.zeros((8, 8)), Predict())


def test_the_card_tells_what_is_shipped():
    weights = shipped()
    verify(weights)
    card = weights.card
    assert weights.engine == FPN2WS.name
    assert weights.path.stat().st_size <= 5_000_000
    assert {"data", "recipe", "versions", "licence", "commands", "val", "cv"} <= set(card)
    bundled = {path.stem.rsplit("_", 1)[-1] for path in (EXAMPLES / "images").iterdir()}
    assert len(bundled & set(card["data"]["left_out"])) == 7
    assert Decode(**card["decode"]) == Decode(), "the defaults are those that were scored"
    assert Predict(**card["predict"]) == Predict()
    assert card["val"][-1]["weights"] == weights.sha256
    assert card["val"][-1]["f1"]["0.5"]["value"] >= 0.86
