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
from opsef_bridge.engines.fpn2ws import FPN2WS, Decode, Predict  # noqa: E402
from opsef_bridge.engines.registry import list_weights, verify  # noqa: E402
from opsef_bridge.errors import InputError, WeightsError  # noqa: E402
from opsef_bridge.files import file_sha256, read_json, write_json  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.train.data import Sample  # noqa: E402
from opsef_bridge.train.encoders import load_encoder  # noqa: E402
from opsef_bridge.train.export import as_stored, export_onnx  # noqa: E402
from opsef_bridge.train.fpn2ws import (  # noqa: E402
    FPN2Module,
    Settings,
    distance_map,
    fit,
    fpn2ws_card,
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
    found = engine._network.run(batch)
    assert found.shape == (3, 2, 48, 80)
    np.testing.assert_allclose(found, predict(as_stored(network), batch), atol=1e-5)
    np.testing.assert_allclose(found, predict(network, batch), atol=2e-3)


def test_settings_without_an_encoder_give_the_weights_they_always_gave():
    # Recorded before there were other encoders. Other CPUs may round the last digits otherwise.
    losses: list[float] = []
    fit([sample()], replace(TINY, steps=10), lambda step, value: losses.append(value))
    assert losses[:3] == pytest.approx([0.5905890, 0.6855422, 0.5340147], rel=1e-5)
    assert losses[-1] == pytest.approx(0.4185589, rel=1e-2)


@pytest.mark.parametrize(
    ("levels", "multiple", "margin"), [(3, 16, 128), (5, 16, 128), (6, 32, 224)]
)
def test_the_small_network_sees_no_further_than_the_margin(levels, multiple, margin):
    widths = (1,) * levels
    card = fpn2ws_card("net", replace(TINY, widths=widths), {}, "")
    assert (card["input"]["multiple"], card["input"]["margin"]) == (multiple, margin)
    assert card["seams"] == "exact"
    # All ones: a single bright pixel changes whatever the network lets it reach.
    network = FPN2Module(widths, 2).eval()
    for name, tensor in network.state_dict().items():
        tensor.fill_(0 if name.endswith(("bias", "mean")) else 1)
    reach = 0
    for place in range(256, 256 + multiple, 5):
        image = torch.zeros(1, 1, 512 + multiple, 512 + multiple)
        image[0, 0, place, place] = 1
        with torch.inference_mode():
            rows = torch.nonzero(network(image)[0, 0].amax(dim=1) > 0)
        reach = max(reach, place - int(rows.min()), int(rows.max()) - place)
    assert margin / 2 < reach <= margin or levels == 3


def backbone(encoder: str, **more) -> Settings:
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    return Settings(steps=2, batch=2, crop=64, pyramid=8, encoder=encoder, **more)


@torch.no_grad()
def warm(network: torch.nn.Module) -> None:
    """Two steps teach nothing: settle the normalisations, and let the heads speak up."""
    for head in network.heads:
        head[-1].weight *= 8
        head[-1].bias.zero_()
    network.train()
    for _ in range(20):
        network(torch.rand(2, 1, 64, 64))
    network.eval()


def trained_file(settings: Settings, folder: Path) -> tuple[torch.nn.Module, Weights]:
    """Train, export and describe a network."""
    losses: list[float] = []
    network = fit([sample()], settings, lambda step, value: losses.append(value))
    assert len(losses) == 2 and np.isfinite(losses).all()
    warm(network)
    path = folder / "net.onnx"
    export_onnx(network, path, activation=torch.sigmoid)
    card = fpn2ws_card("net", settings, {}, file_sha256(path))
    write_json(folder / "net.json", card)
    return network, Weights("net", "fpn2ws", path, card["sha256"], read_json(folder / "net.json"))


def check_runs(network: torch.nn.Module, weights: Weights) -> None:
    """The engine says what the network says, of images of any size, alone and in tiles."""
    engine = FPN2WS()
    engine.load(weights)
    batch = np.random.default_rng(0).random((2, 1, 96, 160)).astype(np.float32)
    expected = predict(network, batch)
    found = engine._network.run(batch)
    for number in range(2):
        one, other = found[:, number].ravel(), expected[:, number].ravel()
        assert other.std() > 0.05, "it says something"
        # Weights are halves, rounded twice where the exporter folds a normalisation in.
        assert np.corrcoef(one, other)[0, 1] > 0.999
        np.testing.assert_allclose(one, other, rtol=0, atol=0.01)
    for shape in ((96, 128), (33, 70), (1, 1)):
        raw = engine.predict(batch[0, 0, : shape[0], : shape[1]], Predict())
        assert engine.decode(raw, Decode()).shape == shape
    raw = engine.predict(batch[0, 0], Predict(tile=64, overlap=20))
    assert raw.maps["distance"].shape == (2 * 4, 64, 64)


@pytest.mark.parametrize(
    ("encoder", "levels"),
    [
        ("resnet18", (2, 4, 8, 16, 32)),
        ("timm/mobilenetv3_small_050", (2, 4, 8, 16, 32)),
        ("timm/convnext_atto", (4, 8, 16, 32)),
    ],
)
def test_encoders_of_others_train_and_run(encoder, levels, tmp_path):
    network, weights = trained_file(backbone(encoder), tmp_path)
    assert network.encoder.strides == levels
    assert weights.card["input"]["multiple"] == 32
    assert weights.card["input"]["margin"] == 256
    assert "only come close" in weights.card["seams"]
    assert weights.card["recipe"]["encoder"] == encoder
    assert {"torchvision", "timm"} <= set(weights.card["versions"])
    check_runs(network, weights)


@pytest.mark.slow
def test_the_encoder_of_the_paper_trains_and_runs(tmp_path):
    network, weights = trained_file(backbone("inception_resnet_v2"), tmp_path)
    assert parameter_count(network.encoder) > 50e6
    assert network.encoder.strides == (2, 4, 8, 16, 32)
    check_runs(network, weights)


def test_all_of_an_encoder_learns():
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = FPN2Module(pyramid=8, encoder="resnet18").train()
    loss(network(torch.rand(2, 1, 64, 64)), torch.rand(2, 2, 64, 64), 4.0).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_an_encoder_starts_from_weights_of_its_library(library, tmp_path):
    name = {"torchvision": "shufflenet_v2_x0_5", "timm": "convnext_atto"}[library]
    torch.manual_seed(1)
    if library == "timm":  # its names change when it is opened: stem.0 becomes stem_0
        whole = pytest.importorskip("timm").create_model(name).eval()
        layer, renamed = "stem.0.weight", "stem_0.weight"
    else:
        whole = pytest.importorskip("torchvision").models.get_model(name).eval()
        layer = renamed = "conv1.0.weight"
    file = tmp_path / "whole.pt"
    torch.save(whole.state_dict(), file)
    settings = backbone(f"{library}/{name}", encoder_weights=file)
    encoder = load_encoder(settings.encoder, file)
    assert torch.equal(encoder.state_dict()[f"body.{renamed}"], whole.state_dict()[layer])
    torch.save({"state_dict": encoder.body.state_dict()}, tmp_path / "opened.pt")
    again = load_encoder(settings.encoder, tmp_path / "opened.pt")
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        for one, two in zip(encoder.eval()(image), again.eval()(image), strict=True):
            assert torch.equal(one, two)
    card = fpn2ws_card("net", settings, {}, "")
    assert card["recipe"]["encoder_weights"] == {"file": "whole.pt", "sha256": file_sha256(file)}
    assert str(tmp_path) not in str(card)


def test_weights_of_another_encoder_are_refused(tmp_path):
    models = pytest.importorskip("torchvision").models
    torch.save(models.shufflenet_v2_x0_5().state_dict(), tmp_path / "other.pt")
    state = models.resnet18().state_dict()
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "grey.pt")
    torch.save([state], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("weights")
    for name, says in [
        ("other.pt", "missing"),
        ("grey.pt", r"0 layers are missing, 1 have another shape.*conv1\.weight"),
        ("list.pt", "state dict"),
        ("text.pt", "state dict"),
        ("gone.pt", "state dict"),
    ]:
        with pytest.raises(WeightsError, match=says) as caught:
            load_encoder("resnet18", tmp_path / name)
        assert name in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet1", "resnet18"),
        ("hf-hub:timm/resnet18", "neither"),
        ("vit_b_16", "cannot be an encoder"),
        ("timm/vit_tiny_patch16_224", "cannot be an encoder"),
        ("alexnet", "cannot be an encoder"),
        ("googlenet", "cannot be an encoder"),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization")
def test_networks_that_cannot_be_encoders_are_refused(name, says):
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=says) as caught:
        fit([sample()], backbone(name))
    assert caught.value.hint


class Scaled(torch.nn.Module):
    """Traced, it has the width as a number: it runs at other sizes, but says something else."""

    def forward(self, x):
        return x * (int(x.shape[-1]) / 64)


class Sized(torch.nn.Module):
    """Traced, it has a tensor as wide as the image: it cannot run at other sizes."""

    def forward(self, x):
        return x + torch.from_numpy(np.zeros(int(x.shape[-1]), np.float32))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(("kind", "says"), [(Scaled, "differ by 0"), (Sized, "any size")])
def test_a_file_that_is_bound_to_one_size_is_refused(kind, says, tmp_path):
    with pytest.raises(InputError, match=says) as caught:
        export_onnx(kind(), tmp_path / "net.onnx", activation=torch.sigmoid)
    assert "any size" in str(caught.value) and caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_normalisation_that_holds_its_activation_is_not_folded_in():
    class Act(torch.nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1), Act(2), torch.nn.ReLU(), torch.nn.BatchNorm2d(2)
    )
    network(torch.randn(4, 1, 8, 8))
    x = torch.randn(1, 1, 8, 8)
    stored = as_stored(network.eval())
    assert [type(layer) for layer in stored] == [type(layer) for layer in network]
    torch.testing.assert_close(stored(x), network(x), atol=5e-3, rtol=0)


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
