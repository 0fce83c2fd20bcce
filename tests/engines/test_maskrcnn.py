"""The maskrcnn engine: painting, thresholds, tiles, weights, and how good the shipped ones are."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from opsef_bridge.engines.base import Raw, Weights  # noqa: E402
from opsef_bridge.engines.maskrcnn import (  # noqa: E402
    Decode,
    MaskRCNN,
    Predict,
    _tiles,
    paint,
    suppress,
)
from opsef_bridge.engines.maskrcnn_network import build, small_network  # noqa: E402
from opsef_bridge.engines.registry import list_weights, verify  # noqa: E402
from opsef_bridge.errors import OpsefError, WeightsError, WorkerError  # noqa: E402
from opsef_bridge.images import read_image, read_labels  # noqa: E402
from opsef_bridge.measure import match  # noqa: E402
from opsef_bridge.testing.engines import EngineSuite  # noqa: E402
from opsef_bridge.train.maskrcnn import export, targets  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shipped(name: str = "nuclei-maskrcnn") -> Weights:
    return next(weights for weights in list_weights() if weights.name == name)


@cache
def loaded() -> MaskRCNN:
    engine = MaskRCNN()
    engine.load(shipped())
    return engine


def image_of(name: str) -> np.ndarray:
    return read_image(EXAMPLES / "images" / name).data


class TestMaskRCNN(EngineSuite):
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


def many() -> np.ndarray:
    """Discs with radii of 6 to 15 px all over 300 x 400 px, some cut by the edge."""
    spots = [(y, x) for y in range(0, 300, 33) for x in range(0, 400, 33)]
    return discs((300, 400), [(y, x, 6 + n % 10) for n, (y, x) in enumerate(spots)])


def ideal(
    labels: np.ndarray, scale: float = 1, *, margin: float = 0.1, tile: int = 256, overlap: int = 50
) -> Raw:
    """What a perfect network says that saw `labels`, of an image resized by `scale`.

    Masks are sampled as torchvision samples those that a network learns.
    """
    boxes, masks, counts = [], [], []
    for place in _tiles(labels.shape, tile, overlap):
        truth = targets(labels[place], margin)
        boxes.append(truth["boxes"])
        rows = torch.arange(len(boxes[-1]))[:, None]
        masks.append(
            torchvision.ops.roi_align(
                truth["masks"][:, None].float(), torch.cat([rows, boxes[-1]], 1), 28
            )[:, 0]
        )
        counts.append(len(boxes[-1]))
    sides, found = torch.cat(boxes).numpy(), torch.cat(masks).numpy()
    coarse = sides.astype(np.float16)
    maps = {
        "boxes": coarse,
        "boxes_rest": sides - coarse,
        "scores": np.full(len(sides), 0.9),
        "masks": found,
        "counts": np.array(counts),
    }
    height, width = labels.shape
    values = {"height": height, "width": width, "tile": tile, "overlap": overlap}
    return Raw(maps, tuple(round(side / scale) for side in labels.shape), values)


def equal_up_to_numbers(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


# Painting.


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.4])
def test_what_is_sampled_is_painted_back(margin):
    truth = many()
    labels = MaskRCNN().decode(ideal(truth, margin=margin, tile=416), Decode(nms=0.7))
    assert labels.dtype == np.int32
    sizes = np.bincount(truth.ravel())[1:]
    assert labels.max() == len(sizes)
    assert match(truth, labels, 0.9)["tp"].iloc[0] >= 0.98 * len(sizes)
    assert match(truth, labels, 0.7)["fp"].iloc[0] == 0


def test_a_full_box_is_painted_to_its_sides():
    rows, columns = np.arange(8.0), np.arange(10.0)
    full = np.ones((1, 28, 28))
    for box, rectangle in (
        ((1.5, 2.5, 6.5, 5.5), np.s_[3:6, 2:7]),
        ((1.4, 2.6, 6.6, 5.4), np.s_[3:6, 2:7]),
        ((1.9, 3.0, 6.1, 5.0), np.s_[3:6, 2:7]),
        ((0.0, 0.0, 10.0, 8.0), np.s_[:, :]),
        ((0.3, 0.3, 1.2, 1.2), np.s_[:2, :2]),  # a box hardly ever starts at 0.0
        ((20.0, 2.0, 30.0, 5.0), np.s_[:0, :0]),
    ):
        expected = np.zeros((8, 10), np.int32)
        expected[rectangle] = 1
        found = paint(np.array([box]), full, rows, columns, 0.99)
        np.testing.assert_array_equal(found, expected)


def test_between_two_cells_probabilities_are_interpolated():
    # Two cells of 10 px: their middles lie at 5 and 15.
    mask = np.array([[[0.0, 1.0]]])
    row = np.arange(20.0)
    for threshold, first in ((0.25, 8), (0.5, 11), (0.75, 13), (0.99, 15)):
        labels = paint(np.array([[0.0, 0.0, 20.0, 1.0]]), mask, np.zeros(1), row, threshold)
        assert np.flatnonzero(labels).tolist() == list(range(first, 20))


def test_the_better_of_two_lies_on_top():
    boxes = np.array([[-0.5, -0.5, 5.5, 3.5], [3.5, -0.5, 9.5, 3.5]])
    masks = np.ones((2, 28, 28))
    labels = paint(boxes, masks, np.arange(4.0), np.arange(10.0), 0.5)
    assert labels[0].tolist() == [1] * 6 + [2] * 4
    labels = paint(boxes[::-1], masks, np.arange(4.0), np.arange(10.0), 0.5)
    assert labels[0].tolist() == [2] * 4 + [1] * 6


# Thresholds.


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.floats(0.05, 0.7))
def test_suppression_is_that_of_torchvision(seed, count, overlap):
    rng = np.random.default_rng(seed)
    # No whole numbers: with them an overlap may be the threshold itself, up to rounding.
    corners = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (count, 2))], 1).astype("f4")
    scores = torch.arange(count, 0, -1).float()
    expected = torchvision.ops.nms(torch.from_numpy(boxes), scores, overlap)
    assert suppress(boxes, overlap).tolist() == sorted(expected.tolist())


def test_thresholds_decode_from_one_pass(monkeypatch):
    from opsef_bridge.engines import maskrcnn_network

    calls = []
    detect = maskrcnn_network.detect
    monkeypatch.setattr(
        maskrcnn_network, "detect", lambda *given: calls.append(1) or detect(*given)
    )
    raw = loaded().predict(image_of("small_fadeb0ab0928.png"), Predict())
    assert len(calls) == 1
    counts = [MaskRCNN().decode(raw, Decode(score=score)).max() for score in (0.1, 0.5, 0.95)]
    areas = [
        np.count_nonzero(MaskRCNN().decode(raw, Decode(mask=mask))) for mask in (0.2, 0.5, 0.9)
    ]
    overlaps = [MaskRCNN().decode(raw, Decode(score=0.1, nms=nms)).max() for nms in (0.05, 0.7)]
    assert counts[0] > counts[1] > counts[2] > 0
    assert areas[0] > areas[1] > areas[2] > 0
    assert overlaps[0] < overlaps[1]
    assert len(calls) == 1


def test_min_size_counts_pixels_of_the_original():
    truth = discs((40, 40), [(20, 20, 5)])
    raw = ideal(np.kron(truth, np.ones((2, 2), np.int32)), 2)
    area = np.count_nonzero(MaskRCNN().decode(raw, Decode(min_size=0)))
    assert area > 50
    assert MaskRCNN().decode(raw, Decode(min_size=area)).max() == 1
    assert MaskRCNN().decode(raw, Decode(min_size=area + 1)).max() == 0


def test_the_largest_piece_of_an_object_is_kept():
    # The second, painted over by the first, is in two pieces, of 4 and of 2 columns.
    sides = np.array([[3.5, -0.5, 7.5, 9.5], [-0.5, -0.5, 9.5, 9.5]])
    maps = {
        "boxes": sides,
        "boxes_rest": np.zeros((2, 4)),
        "scores": np.array([0.9, 0.8]),
        "masks": np.ones((2, 28, 28)),
        "counts": np.array([2]),
    }
    raw = Raw(maps, (10, 10), {"height": 10, "width": 10, "tile": 256, "overlap": 50})
    labels = MaskRCNN().decode(raw, Decode(min_size=0, nms=0.7))
    assert (
        labels[5].tolist() == [2] * 4 + [1] * 4 + [0] * 2
        or labels[5].tolist() == [1] * 4 + [2] * 4 + [0] * 2
    )


@pytest.mark.parametrize(
    ("kind", "wrong", "why"),
    [
        (Predict, {"overlap": 129}, "overlap"),
        (Predict, {"tile": 64, "overlap": 50}, "half of tile 64"),
        (Predict, {"tile": 100}, "tile"),
        (Decode, {"score": 0.01}, "score"),
        (Decode, {"nms": 0.9}, "nms"),
        (Decode, {"mask": 1}, "mask"),
    ],
)
def test_parameters_that_cannot_be_are_refused(kind, wrong, why):
    with pytest.raises(ValueError, match=why):
        kind(**wrong)


# Tiles and sizes.


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 1500), st.sampled_from([(256, 50), (64, 32), (64, 0), (512, 100)]))
def test_tiles_are_of_one_size_overlap_and_cover_all(length, how):
    side, overlap = how
    cuts = [column for _, column in _tiles((5, length), side, overlap)]
    assert {cut.stop - cut.start for cut in cuts} == {min(side, length)}
    assert (cuts[0].start, cuts[-1].stop) == (0, length)
    for one, after in pairwise(cuts):
        assert overlap <= one.stop - after.start < side
    assert len(cuts) == 1 or (len(cuts) - 1) * (side - overlap) < length - overlap


@pytest.mark.parametrize(("tile", "overlap"), [(128, 50), (96, 40), (256, 50), (320, 160)])
def test_tiles_give_what_the_whole_image_gives(tile, overlap):
    truth = many()
    whole = MaskRCNN().decode(ideal(truth, tile=416), Decode())
    tiled = MaskRCNN().decode(ideal(truth, tile=tile, overlap=overlap), Decode())
    assert tiled.max() == whole.max() == len(np.unique(truth)) - 1
    assert match(whole, tiled, 0.9)["tp"].iloc[0] >= 0.98 * whole.max()
    assert match(whole, tiled, 0.75)["fp"].iloc[0] == 0


def test_as_published_touching_nuclei_may_become_one():
    # Two squares of 20 px touch where two tiles overlap, in columns 78 to 127, and one tile
    # draws the border between them 2 px further to the right: they share 40 px.
    sides = [(83, 102), (103, 122), (5, 26), (27, 44)]
    maps = {
        "boxes": np.array([[left, 20, right, 39] for left, right in sides]),
        "boxes_rest": np.zeros((4, 4)),
        "scores": np.full(4, 0.9),
        "masks": np.ones((4, 28, 28)),
        "counts": np.array([2, 2]),
    }
    values = {"height": 64, "width": 206, "tile": 128, "overlap": 50}
    raw = Raw(maps, (64, 206), values)
    labels = MaskRCNN().decode(raw, Decode())
    assert labels.max() == 2
    assert labels[30, 83:123].tolist() == [1] * 20 + [2] * 20
    assert MaskRCNN().decode(raw, Decode(join=41)).max() == 2
    for join in (10, 40):
        assert MaskRCNN().decode(raw, Decode(join=join)).max() == 1


def test_the_network_finds_the_same_in_tiles():
    image = image_of("large_1b518cd2ea84.png")
    assert max(image.shape) > 256
    whole = loaded().decode(loaded().predict(image, Predict(tile=1024)), Decode())
    raw = loaded().predict(image, Predict())
    assert len(raw.maps["counts"]) > 1
    found = match(whole, loaded().decode(raw, Decode()), 0.7)
    assert found["f1"].iloc[0] >= 0.9


def test_smaller_batches_give_the_same_labels():
    engine = MaskRCNN()
    engine.load(shipped())
    image = image_of("small_fadeb0ab0928.png")
    how = Predict(tile=128, overlap=40)
    expected = engine.decode(engine.predict(image, how), Decode())
    steps = []
    while (step := engine.lighten()) is not None:
        steps.append(step)
        found = engine.decode(engine.predict(image, how), Decode())
        np.testing.assert_array_equal(found, expected)
    assert steps == ["batch 4", "batch 2", "batch 1"]
    assert engine.batch == 1


def test_memory_is_bounded_by_the_best_candidates():
    image = image_of("small_fadeb0ab0928.png")
    every, few = (loaded().predict(image, Predict(candidates=count)) for count in (300, 5))
    assert few.maps["counts"].tolist() == [5]
    assert few.maps["masks"].shape == (5, 28, 28)
    assert every.maps["counts"].max() <= 300
    np.testing.assert_array_equal(few.maps["scores"], every.maps["scores"][:5])


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.5, 2.0])
def test_labels_come_back_at_the_original_size(scale):
    circles = [(150, 110, 80), (40, 40, 26), (250, 180, 20), (5, 200, 14)]
    truth = discs((300, 220), circles)
    seen = discs(
        (round(300 * scale), round(220 * scale)),
        [tuple(round(value * scale) for value in circle) for circle in circles],
    )
    labels = MaskRCNN().decode(ideal(seen, scale, tile=640), Decode())
    assert labels.shape == truth.shape
    assert labels.max() == 4
    assert match(truth, labels, 0.85)["tp"].iloc[0] == 4
    tiled = MaskRCNN().decode(ideal(seen, scale, tile=256, overlap=128), Decode())
    assert match(labels, tiled, 0.85)["tp"].iloc[0] == 4


def test_nothing_found_is_no_object():
    raw = ideal(np.zeros((70, 300), np.int32))
    assert raw.maps["masks"].shape == (0, 28, 28)
    labels = MaskRCNN().decode(raw, Decode())
    assert labels.shape == (70, 300)
    assert not labels.any()


@pytest.mark.parametrize("shape", [(40, 45), (33, 300), (65, 31)])
def test_what_is_added_to_a_small_image_is_no_object(shape):
    truth = discs(shape, [(17, 15, 10)])
    rng = np.random.default_rng(0)
    noisy = (truth > 0) * 100.0 + rng.normal(20, 2, shape)
    labels = loaded().decode(loaded().predict(noisy, Predict()), Decode())
    assert labels.max() == 1
    assert match(truth, labels, 0.8)["tp"].iloc[0] == 1


def test_a_field_of_noise_is_empty():
    noise = np.random.default_rng(0).normal(200, 5, (256, 300))
    assert not loaded().decode(loaded().predict(noise, Predict()), Decode()).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1), st.floats(0.1, 0.9), st.floats(0.05, 0.7))
def test_decode_is_a_function_of_raw_and_thresholds_alone(seed, score, mask, nms):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 12, 4)  # of four tiles
    corners = rng.random((counts.sum(), 2)) * 50
    maps = {
        "boxes": np.concatenate([corners, corners + rng.random((counts.sum(), 2)) * 40], 1),
        "boxes_rest": rng.normal(0, 0.01, (counts.sum(), 4)),
        "scores": rng.random(counts.sum()),
        "masks": rng.random((counts.sum(), 28, 28)),
        "counts": counts,
    }
    values = {"height": 100, "width": 90, "tile": 64, "overlap": 20}
    raw = Raw(maps, (110, 80), values)
    before = {name: data.copy() for name, data in raw.maps.items()}
    how = Decode(score=score, mask=mask, nms=nms, min_size=3)
    labels = MaskRCNN().decode(raw, how)
    np.testing.assert_array_equal(labels, MaskRCNN().decode(raw, how))
    for name, data in raw.maps.items():
        np.testing.assert_array_equal(data, before[name])
    assert labels.shape == (110, 80)
    sizes = np.bincount(labels.ravel())
    assert (sizes[1:] >= 3).all()


# Weights.


@pytest.mark.parametrize("classes", [2, 5])
def test_a_small_network_is_known_by_its_shapes(tmp_path, classes):
    torch.manual_seed(1)
    network = small_network((8, 8, 16, 16), 16, box=32, mask=(16, 8, 24), classes=classes).eval()
    export(network, tmp_path / "net.pt")
    weights = Weights("net", "maskrcnn", tmp_path / "net.pt")
    engine = MaskRCNN()
    engine.load(weights)
    state = torch.load(weights.path, weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    for name, value in engine._network.state_dict().items():
        assert value.dtype != torch.float16
        torch.testing.assert_close(value, network.state_dict()[name], atol=2e-3, rtol=2e-3)
    raw = engine.predict(np.random.default_rng(0).random((70, 90)), Predict())
    assert raw.maps["masks"].shape[1:] == (28, 28)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "classes"),
    [("maskrcnn_resnet50_fpn_v2", 91), ("maskrcnn_resnet50_fpn", 3)],
)
def test_full_networks_of_torchvision_load_and_predict(tmp_path, make, classes, monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("net"))
    torch.manual_seed(0)
    network = getattr(torchvision.models.detection, make)(
        weights=None, weights_backbone=None, num_classes=classes
    )
    torch.save(network.state_dict(), tmp_path / "full.pt")
    engine = MaskRCNN()
    engine.load(Weights("full", "maskrcnn", tmp_path / "full.pt"))
    for name, value in engine._network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    image = image_of("small_fadeb0ab0928.png")
    raw = engine.predict(image, Predict(candidates=20))
    labels = engine.decode(raw, Decode(score=0.05))
    assert labels.shape == image.shape
    # Tiles are seen at their own size, in three channels that torchvision normalises.
    images, _ = engine._network.transform([torch.full((3, 64, 96), 0.5)])
    assert images.tensors.shape == (1, 3, 64, 96)
    assert images.tensors[0, 0, 0, 0].item() == pytest.approx((0.5 - 0.485) / 0.229)


@pytest.mark.slow
def test_files_of_the_first_version_with_its_old_names_load(tmp_path):
    """As torchvision published them: frozen normalisation, and names of before 0.13."""
    torch.manual_seed(0)
    network = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3
    )
    state = network.state_dict()
    old = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        for part in ("inner_blocks", "layer_blocks"):
            for level in range(4):
                name = name.replace(f"{part}.{level}.0.", f"{part}.{level}.")
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for number in range(4):
            name = name.replace(f"mask_head.{number}.0.", f"mask_head.mask_fcn{number + 1}.")
        old[name] = value
    assert len(set(old) - set(state)) == 26
    torch.save(old, tmp_path / "old.pt")
    engine = MaskRCNN()
    engine.load(Weights("old", "maskrcnn", tmp_path / "old.pt"))
    for name, value in engine._network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name])
    torch.save(old | {"more": torch.zeros(3)}, tmp_path / "old.pt")
    with pytest.raises(WeightsError, match="more"):
        engine.load(Weights("old", "maskrcnn", tmp_path / "old.pt"))


def test_all_classes_but_the_background_are_objects():
    torch.manual_seed(0)
    network = small_network((8, 8, 8, 8), 8, box=16, mask=(8, 8), classes=4)
    state = network.state_dict()
    state["roi_heads.box_predictor.cls_score.weight"].zero_()
    engine = MaskRCNN()
    found = []
    for sure in range(4):  # the network is always sure of one class
        bias = state["roi_heads.box_predictor.cls_score.bias"]
        bias.fill_(-9)
        bias[sure] = 9
        engine._network = build(state)
        raw = engine.predict(np.random.default_rng(0).random((64, 64)), Predict())
        found.append(int(raw.maps["counts"].sum()))
    assert found[0] == 0
    assert min(found[1:]) > 0


class Harm:
    """What a pickle would run."""

    def __reduce__(self):
        return print, ("harm",)


def broken(folder: Path) -> dict[str, Path]:
    """Files that are no Mask R-CNN, by why."""
    files = {name: folder / f"{name}.pt" for name in ("missing", "text", "pickle", "code", "list")}
    files["text"].write_text("no weights")
    files["pickle"].write_bytes(pickle.dumps({"a": Harm()}, protocol=2))
    torch.save({"a": Harm()}, files["code"])
    torch.save([torch.zeros(3)], files["list"])
    cut = files["cut"] = folder / "cut.pt"
    state = small_network((8, 8, 8, 8), 8, box=16, mask=(8, 8)).state_dict()
    torch.save({k: v for k, v in state.items() if "rpn" not in k}, cut)
    shape = files["shape"] = folder / "shape.pt"
    torch.save(state | {"backbone.stem.0.weight": torch.zeros(8, 3, 3, 3)}, shape)
    files["cellpose"] = Path(shipped("nuclei-cellpose").path)
    files["onnx"] = Path(shipped("nuclei-unet").path)
    return files


@pytest.mark.parametrize("wrong", [{"percentiles": [99, 1]}, {"percentiles": "x"}, {"clip": [1]}])
def test_a_card_that_cannot_be_right_is_refused(wrong):
    weights = shipped()
    with pytest.raises(WeightsError, match="does not describe an input") as caught:
        MaskRCNN().load(replace(weights, card=weights.card | {"input": wrong}))
    assert caught.value.hint


def test_the_card_says_how_the_input_is_made(monkeypatch):
    from opsef_bridge.engines import maskrcnn_network

    weights, seen = shipped(), []
    engine = MaskRCNN()
    told = {"percentiles": [0, 100], "clip": [0.25, 0.75]}
    engine.load(replace(weights, card=weights.card | {"input": told}))
    detect = maskrcnn_network.detect
    monkeypatch.setattr(
        maskrcnn_network, "detect", lambda net, batch: (seen.append(batch), detect(net, batch))[1]
    )
    engine.predict(image_of("small_fadeb0ab0928.png"), Predict())
    values = np.concatenate([batch.ravel() for batch in seen])
    assert (values.min(), values.max()) == (0.25, 0.75)


def test_files_of_something_else_are_refused(tmp_path, capsys):
    for name, file in broken(tmp_path).items():
        with pytest.raises(WeightsError, match=name) as caught:
            MaskRCNN().load(Weights(name, "maskrcnn", file))
        assert caught.value.hint, name
        assert str(file) in str(caught.value)
    assert "harm" not in capsys.readouterr().out


def test_without_torchvision_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.detection", None)
    monkeypatch.delitem(sys.modules, "opsef_bridge.engines.maskrcnn_network")
    monkeypatch.delattr("opsef_bridge.engines.maskrcnn_network")
    with pytest.raises(OpsefError, match="torchvision") as caught:
        MaskRCNN().load(shipped())
    assert "opsef_bridge[maskrcnn]" in caught.value.hint


def test_a_device_that_is_not_there_is_refused():
    for device in ["tpu"] if torch.cuda.is_available() else ["tpu", "cuda"]:
        with pytest.raises(WorkerError, match=device):
            MaskRCNN().load(shipped(), device=device)
    assert MaskRCNN.devices()[-1] == "cpu"


def test_predict_before_load_is_an_error():
    with pytest.raises(WorkerError, match="loaded"):
        MaskRCNN().predict(np.zeros((8, 8)), Predict())


@pytest.mark.parametrize(
    ("name", "least"),
    [("small_8b77284d6f37.png", 0.9), ("large_1b518cd2ea84.png", 0.85), ("u2os_F12_s9.tif", 0.85)],
)
def test_shipped_weights_find_nuclei_they_never_saw(name, least):
    image = image_of(name)
    truth = read_labels(EXAMPLES / "labels" / f"{Path(name).stem}.tif")
    labels = loaded().decode(loaded().predict(image, Predict()), Decode())
    assert labels.shape == image.shape
    assert match(truth, labels)["f1"].iloc[0] >= least


def test_the_card_tells_what_is_shipped():
    weights = shipped()
    verify(weights)
    card = weights.card
    assert weights.engine == MaskRCNN.name
    assert weights.path.stat().st_size <= 5_000_000
    assert {"data", "recipe", "versions", "licence", "commands", "val", "cv"} <= set(card)
    bundled = {path.stem.rsplit("_", 1)[-1] for path in (EXAMPLES / "images").iterdir()}
    assert len(bundled & set(card["data"]["left_out"])) == 7
    assert Decode(**card["decode"]) == Decode(), "the defaults are those that were scored"
    assert Predict(**card["predict"]) == Predict()
    assert card["val"][-1]["weights"] == weights.sha256
    assert card["val"][-1]["f1"]["0.5"]["value"] >= 0.86
    assert card["val"][-1]["f1"]["0.7"]["value"] >= 0.78
