"""Training of StarDist's network: targets, loss, the way out to ONNX, and the script."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import asdict, replace
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
from opsef_bridge.files import file_sha256, read_json, write_json  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.train.choice import choose, leave_one_out, pooled_entry  # noqa: E402
from opsef_bridge.train.colour import (  # noqa: E402
    StainAugmentation,
    augment_colour,
    prepare_colour,
    read_colour_samples,
    restain,
    stained,
)
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

TOOLS = Path(__file__).parents[2] / "tools"
TINY = Settings(steps=2, batch=1, crop=32, rays=8, width=4, depth=1, features=8)
COLOUR = replace(TINY, augmentation=StainAugmentation())


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only get into each other's way in networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def test_grey_crops_and_losses_are_those_of_the_shipped_networks():
    # Recorded before colour images could be learned: same seed, same numbers drawn.
    samples = [toy(1), toy(2)]
    batch = batch_of(np.random.default_rng(5), samples, replace(TINY, batch=3))
    means = [float(tensor.double().mean()) for tensor in batch]
    np.testing.assert_allclose(
        means, [0.1929177032009224, 0.0800286748756965, 1.0759172215960764], rtol=1e-6
    )
    losses = []
    fit(samples, replace(TINY, steps=6, batch=2), lambda step, value: losses.append(value))
    recorded = [1.707496, 1.661321, 1.673328, 1.575407, 1.621369, 1.574457]
    np.testing.assert_allclose(losses, recorded, rtol=1e-3)
    assert "channels" not in asdict(TINY), "cards of grey networks stay as they are"


# Colour images.


def tissue(seed: int) -> Sample:
    return stained(toy(seed))


def test_fluorescence_that_is_stained_is_dark_and_blue_on_white():
    grey = toy(1)
    colour = stained(grey)
    inside = colour.image[grey.labels > 0].mean(0)
    outside = colour.image[grey.labels == 0].mean(0)
    assert colour.image.shape == (80, 80, 3) and colour.image.dtype == np.float32
    assert (outside > 0.8).all() and (inside < outside - 0.2).all()
    assert inside[2] > max(inside[:2]) + 0.2
    assert colour.labels is grey.labels and colour.group == grey.group


def test_colour_is_normalised_as_the_engine_does(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 33, 3), np.uint8)
    network = fit([tissue(1)], replace(COLOUR, steps=1))
    engine = loaded(network, tmp_path)
    raw = engine.predict(image, Predict())
    padded = np.pad(np.moveaxis(prepare_colour(image), -1, 0), [(0, 0), (0, 0), (0, 3)], "reflect")
    prob, _ = predict(folded(network), padded[None])
    inside = np.s_[2:-2, 2:-3]
    found = (raw.maps["prob"].astype("f4") + raw.maps["prob_rest"])[inside]
    np.testing.assert_allclose(found, prob[0, 0, :, :17][inside], atol=1e-4)


def test_samples_of_a_pixel_stay_together_in_a_crop():
    y, x = np.indices((90, 70))
    labels = (1 + (y // 10) * 10 + x // 10).astype(np.int32)
    image = np.stack([labels, 2 * labels, 3 * labels], axis=-1).astype(np.float32)
    still = StainAugmentation(
        scale=(1, 1), gamma=(1, 1), gain=(1, 1), blur=0, noise=0, stain=(1, 1), tint=(1, 1)
    )
    rng = np.random.default_rng(3)
    for _ in range(5):
        # 96 px are more than the image has: it is continued by reflection.
        crop, found = augment_colour(rng, Sample("a", image, labels, "a"), 96, still)
        assert crop.shape == (96, 96, 3) and crop.dtype == np.float32
        itself = found <= labels.max()  # mirror images of objects have ids of their own
        assert itself.mean() > 0.5
        for number in (1, 2, 3):
            part = crop[..., number - 1]
            np.testing.assert_allclose(part, number * crop[..., 0], atol=1e-3)
            np.testing.assert_allclose(part[itself], number * found[itself], atol=1e-3)


def test_stain_and_light_change_each_sample_and_blur_does_not_mix_them():
    image = np.full((20, 20, 3), 0.5, np.float32)
    how = StainAugmentation(gamma=(1, 1), gain=(1, 1), blur=0, noise=0)
    found = np.stack([restain(np.random.default_rng(s), image, how)[0, 0] for s in range(200)])
    low, high = 0.85 * 0.5**1.6, 1.15 * 0.5**0.6
    assert found.min() >= low and found.max() <= high and np.ptp(found) > 0.6 * (high - low)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.3, "each sample has its own"
    image[..., 0] = 0
    how = StainAugmentation(blur=5, noise=0)
    assert all(not restain(np.random.default_rng(s), image, how)[..., 0].any() for s in range(20))


def test_colour_is_learned_exported_and_run_by_the_engine(tmp_path):
    losses = []
    samples = [tissue(seed) for seed in range(4)]
    how = replace(COLOUR, steps=40, batch=2)
    network = fit(samples, how, lambda step, value: losses.append(value))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    engine = loaded(network, tmp_path)
    assert engine.axes == {"YXS"}
    card = read_json(tmp_path / "mine.json")
    assert card["input"]["axes"] == "YXS"
    assert card["recipe"]["stages"][0]["augmentation"]["tint"] == [0.85, 1.15]
    raw = engine.predict(np.zeros((50, 33, 3), np.uint8), Predict(scale=2))
    assert raw.maps["dist"].shape == (8, 50, 33)
    with pytest.raises(InputError, match="does not fit"):
        engine.predict(np.zeros((50, 33), np.uint8), Predict())


def loaded(network: StarDistModule, folder: Path) -> StarDist:
    export_onnx(network, COLOUR, folder / "mine.onnx")
    card = stardist_card("mine", [COLOUR], {}, file_sha256(folder / "mine.onnx"))
    write_json(folder / "mine.json", card)
    engine = StarDist()
    engine.load(Weights("mine", "stardist", folder / "mine.onnx", card["sha256"], card))
    return engine


def test_images_and_settings_of_different_channels_are_refused():
    with pytest.raises(InputError, match=r"toy1 is \(80, 80\)"):
        fit([toy(1)], COLOUR)
    with pytest.raises(InputError, match=r"toy1 is \(80, 80, 3\)"):
        fit([tissue(1)], TINY)


def test_only_colour_images_that_are_named_are_read(tmp_path):
    write_tissue(tmp_path, "a", "b")
    write_toy(tmp_path, "grey")
    [only] = read_colour_samples(tmp_path, {"a": "field", "b": "other"}, without=["other"])
    assert (only.name, only.group, only.image.shape) == ("a", "field", (48, 40, 3))
    with pytest.raises(InputError, match=r"grey\.png is \(48, 40\)"):
        read_colour_samples(tmp_path, {"a": "a", "grey": "g"})
    with pytest.raises(InputError, match="no colour images"):
        read_colour_samples(tmp_path, {})


# Leaving one out.


def test_what_is_scored_had_no_say_in_the_choice():
    good, bad = np.array([[9, 1, 1]] * 3), np.array([[1, 9, 9]] * 3)
    tables = {
        "for a": {"a": good, "b": bad, "c": bad},
        "for b and c": {"a": bad, "b": good, "c": good},
    }
    counts, chosen = leave_one_out(tables, ["a", "b", "c"])
    # For b and c the others are split; the first of equals wins.
    assert chosen == {"a": "for b and c", "b": "for a", "c": "for a"}
    np.testing.assert_array_equal(counts, [bad, bad, bad])
    assert choose(tables, ["a", "b", "c"]) == "for b and c"
    entry = pooled_entry(counts)
    assert (entry["mosaics"], entry["objects"]) == (3, 30)
    assert entry["f1"]["0.5"]["value"] == 0.1 == entry["f1"]["0.5"]["interval"][0]
    with pytest.raises(InputError, match="1 groups"):
        leave_one_out(tables, ["a"])


# The scripts.


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch):
    module = load_tool("train_nuclei_stardist")
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


def write_tissue(folder: Path, *names: str) -> None:
    for name in names:
        write_toy(folder, name)
        path = folder / "images" / f"{name}.png"
        light = 255 - np.asarray(Image.open(path))
        Image.fromarray(np.stack([light, light, np.maximum(light, 90)], -1)).save(path)


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


@pytest.fixture
def he(monkeypatch, tmp_path):
    """The script for tissue, tiny, with three mosaics, one of them bundled as an example."""
    module = load_tool("train_he_stardist")
    first, second = replace(COLOUR, steps=1), replace(COLOUR, seed=1)
    monkeypatch.setattr(
        module, "CANDIDATES", {"tissue alone": (second,), "after fluorescence": (first, second)}
    )
    monkeypatch.setattr(module, "AXES", {"prob": (0.98, 0.99), "nms": (0.3,)})
    monkeypatch.setattr(module, "FIXED", {"scale": 1.0, "prob": 0.99, "nms": 0.3})
    monkeypatch.setattr(module, "SCALES", (1.0,))
    rows = ["file,set,kind,mosaic_group,instances", "g,dsb2018/train,fluo,g,2"]
    write_toy(tmp_path / "train", "g")
    tiles = {"5d75a63972ef": 0, "m": 0, "n": 0, "o": 1}
    for name, kind in tiles.items():
        group = "field" if name in ("5d75a63972ef", "m") else name
        rows.append(f"{name},dsb2018/other,{module.KINDS[kind]},{group},2")
    rows.append("bf,dsb2018/other,brightfield,bf,2")
    write_tissue(tmp_path / "other", *tiles)
    write_toy(tmp_path / "other", "bf")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return module


def test_tissue_is_scored_with_its_mosaic_left_out_and_bundled_ones_are_not_learned(
    he, tmp_path, monkeypatch, capsys
):
    seen, real = [], he.fit
    monkeypatch.setattr(
        he, "fit", lambda samples, *a, **k: seen.append(samples) or real(samples, *a, **k)
    )
    out = tmp_path / "out"
    run(he, monkeypatch, tmp_path, out, "--loo")
    names = [[sample.name for sample in samples] for samples in seen]
    tiles = [["n", "o"], ["5d75a63972ef", "m", "o"], ["5d75a63972ef", "m", "n"]]
    assert names == [*tiles, ["g"], *tiles], "fluorescence once, each mosaic left out"
    run(he, monkeypatch, tmp_path, out, "--loo")
    assert len(seen) == 7, "what is trained stays"
    run(he, monkeypatch, tmp_path, out)
    assert len(seen) == 8 and [sample.name for sample in seen[7]] == ["n", "o"]
    card = read_json(out / "he-stardist.json")
    assert card["sha256"] == file_sha256(out / card["file"])
    assert card["data"]["left_out"] == ["5d75a63972ef", "m"]
    assert card["data"]["parts"]["tissue"]["images"] == 2
    assert card["input"]["axes"] == "YXS"
    loo = card["loo"]
    assert set(loo["this file"]) == {"field"}
    assert loo["all"]["mosaics"] == 3 and loo["he_purple_on_white"]["objects"] == 6
    assert set(loo["chosen"]) == set(loo["mosaics"]) == {"field", "n", "o"}
    assert set(loo["candidates"]) == {"after fluorescence", "tissue alone"}
    assert loo["candidates"]["tissue alone"]["at"] == "scale 1, prob 0.99, nms 0.3"
    assert set(card["thresholds"]) == {"prob", "nms"}
    assert str(tmp_path) not in (out / "he-stardist.json").read_text()
    assert "not worth shipping" in capsys.readouterr().out


def test_other_is_scored_by_mosaic(he, tmp_path, monkeypatch):
    module = load_tool("score_other")
    for name in ("p", "q"):  # two mosaics of each kind at least
        write_tissue(tmp_path / "other", name)
        write_toy(tmp_path / "other", f"bf{name}")
    with open(tmp_path / "manifest.csv", "a") as file:
        for name in ("p", "q"):
            file.write(f"{name},dsb2018/other,{he.KINDS[1]},{name},2\n")
            file.write(f"bf{name},dsb2018/other,brightfield,bf{name},2\n")
    monkeypatch.setattr(module, "grey_weights", lambda: [Weights("", "watershed")])
    monkeypatch.setattr(module, "SCALES", {"scale": (1.0,)})
    docs = tmp_path / "docs.json"
    monkeypatch.setattr(
        sys, "argv", f"score --data {tmp_path} --out {tmp_path} --docs {docs}".split()
    )
    module.main()
    found = read_json(docs)["kinds"]
    assert {name: (k["images"], k["mosaics"]) for name, k in found.items()} == {
        "tissue": (6, 5), "he_purple_on_white": (3, 2), "he_purple_on_purple": (3, 3),
        "brightfield": (3, 3),
    }  # fmt: skip
    tissue = found["tissue"]["scores"]["watershed"]
    assert set(tissue["chosen"].values()) == {"watershed, invert, scale 1"}
    assert tissue["f1"]["0.5"]["value"] == 1 and tissue["objects"] == 12
    # The bright-field images of this test are bright on dark.
    assert found["brightfield"]["scores"]["watershed"]["hindsight"]["choice"].startswith(
        "watershed, raw"
    )
    monkeypatch.setattr(module, "_count", None)  # nothing is counted again
    module.main()
    assert read_json(docs)["kinds"] == found
