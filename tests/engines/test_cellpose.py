"""The cellpose engine: the package's labels, the files it loads and refuses, the network."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("cellpose")

from cellpose.models import CellposeModel  # noqa: E402
from cellpose.resnet_torch import CPnet  # noqa: E402

from opsef_bridge.engines.base import Raw, Weights  # noqa: E402
from opsef_bridge.engines.cellpose import Cellpose, Decode, Predict  # noqa: E402
from opsef_bridge.engines.registry import SHIPPED, verify  # noqa: E402
from opsef_bridge.errors import InputError, OpsefError, WeightsError, WorkerError  # noqa: E402
from opsef_bridge.files import read_json  # noqa: E402
from opsef_bridge.images import read_image, read_labels  # noqa: E402
from opsef_bridge.measure import match  # noqa: E402
from opsef_bridge.testing.engines import EngineSuite, VolumeEngineSuite  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
OFFICIAL = [2, 32, 64, 128, 256]
SMALL = [2, 16, 32, 64, 128]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """The package downloads where it can; no test may get that far."""

    def refuse(*arguments, **more):
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def shipped_weights() -> Weights:
    card = read_json(SHIPPED / "nuclei-cellpose.json")
    return Weights(card["name"], "cellpose", SHIPPED / card["file"], card["sha256"], card)


def fresh() -> Cellpose:
    """An engine that tests may make lighter."""
    engine = Cellpose()
    engine.load(shipped_weights())
    return engine


shipped = cache(fresh)


def example(name: str) -> np.ndarray:
    return read_image(EXAMPLES / "images" / f"{name}.png").data


def f1(truth: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> float:
    return float(match(truth, labels, threshold)["f1"].iloc[0])


def stated(path: Path, **input_: float) -> Weights:
    return Weights("mine", "cellpose", path, card={"input": input_})


@cache
def state(*sizes: int, loud: float = 1.0) -> dict[str, torch.Tensor]:
    """Random values; `loud` flows, so that pixels move."""
    torch.manual_seed(3)
    values = CPnet(list(sizes), 3, sz=3).state_dict()
    values["output.2.weight"] = values["output.2.weight"] * loud
    return values


def saved(folder: Path, content: object, name: str = "file.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


class Padded(CPnet):
    """A small network as the package can run it: with a style vector of 256."""

    def forward(self, data):
        flows, style, down = super().forward(data)
        return flows, torch.nn.functional.pad(style, (0, 256 - style.shape[1])), down


def peer(path: Path, sizes: list[int]) -> CellposeModel:
    """The package's own model with the network of a file."""
    model = CellposeModel(gpu=False, pretrained_model=False)
    network = Padded(list(sizes), 3, sz=3, mkldnn=True)
    network.load_state_dict(torch.load(path, weights_only=True))
    model.net, model.nbase = network.float(), sizes
    model.diam_mean = float(network.diam_mean)
    return model


class TestCellpose(EngineSuite):
    @pytest.fixture
    def engine(self):
        return fresh()

    @pytest.fixture
    def picture(self):
        """Nuclei of about the default diameter."""
        return example("large_6b6d4e6ff52d")[:256, :320]


class TestVolumes(VolumeEngineSuite):
    @pytest.fixture
    def engine(self):
        return fresh()

    @pytest.fixture
    def picture(self):
        return example("large_6b6d4e6ff52d")[:160, :160]


# The package's labels.


@pytest.mark.parametrize("diameter", [12.0, 30.0, 45.0])
def test_labels_are_those_of_the_package(diameter):
    image = example("large_1b518cd2ea84")[:140, :150]
    model = peer(SHIPPED / "nuclei-cellpose.pt", SMALL)
    raw = shipped().predict(image, Predict(diameter=diameter))
    counts = set()
    for flow, cellprob, min_size in ((0.4, 0.0, 15), (0.2, -1.0, 15), (0.0, 0.5, 100)):
        expected, *_ = model.eval(
            image,
            channels=[0, 0],
            diameter=diameter,
            flow_threshold=flow,
            cellprob_threshold=cellprob,
            min_size=min_size,
        )
        labels = shipped().decode(raw, Decode(flow=flow, cellprob=cellprob, min_size=min_size))
        np.testing.assert_array_equal(labels, expected)
        counts.add(int(expected.max()))
    assert max(counts) > 5
    assert len(counts) > 1, "the thresholds are no test of this"


def test_labels_of_tiles_are_those_of_the_package():
    image = np.tile(example("small_fadeb0ab0928"), (1, 2)).astype(np.uint16) * 30 + 200
    model = peer(SHIPPED / "nuclei-cellpose.pt", SMALL)
    expected, *_ = model.eval(image, channels=[0, 0], diameter=20, bsize=160)
    raw = shipped().predict(image, Predict(diameter=20, tile=160))
    np.testing.assert_array_equal(shipped().decode(raw, Decode()), expected)
    assert expected.max() > 20


def of_cellpose_1(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Files of Cellpose 1 do not tell diameters."""
    return {name: value for name, value in values.items() if not name.startswith("diam")}


@pytest.mark.parametrize("layout", [dict, of_cellpose_1], ids=["3", "1"])
def test_a_file_of_the_official_size_gives_the_labels_of_the_package(tmp_path, layout):
    path = saved(tmp_path, layout(state(*OFFICIAL, loud=400.0)))
    assert path.stat().st_size > 26e6
    image = example("small_8b77284d6f37")[:100, :110]
    model = CellposeModel(gpu=False, pretrained_model=str(path))
    how = {"flow_threshold": 0, "cellprob_threshold": -2.0, "min_size": 5}
    expected, *_ = model.eval(image, channels=[0, 0], diameter=40, **how)
    engine = Cellpose()
    engine.load(stated(path))
    raw = engine.predict(image, Predict(diameter=40))
    labels = engine.decode(raw, Decode(flow=0, cellprob=-2, min_size=5))
    np.testing.assert_array_equal(labels, expected)
    assert expected.max() > 0, "the weights are no test of this"


def test_the_official_nuclei_see_nuclei_of_17_px_as_in_the_package(tmp_path):
    """The package knows them by their name, which is no path of ours: the card tells it."""
    path = saved(tmp_path, state(*OFFICIAL, loud=400.0), "nucleitorch_0")
    model = CellposeModel(gpu=False, pretrained_model=str(path))
    assert model.diam_mean == 17
    image = example("small_8b77284d6f37")[:100, :110]
    how = {"flow_threshold": 0, "cellprob_threshold": -2.0, "min_size": 5}
    expected, *_ = model.eval(image, channels=[0, 0], diameter=20, **how)
    engine = Cellpose()
    engine.load(stated(path, diameter=17))
    raw = engine.predict(image, Predict(diameter=20))
    assert raw.values["scale"] == 17 / 20
    labels = engine.decode(raw, Decode(flow=0, cellprob=-2, min_size=5))
    np.testing.assert_array_equal(labels, expected)
    assert expected.max() > 0, "the weights are no test of this"


def test_labels_of_a_volume_are_those_of_the_package():
    """Discs that move from plane to plane, as cells do that grow beside one another."""
    image = example("large_1b518cd2ea84")
    volume = np.stack([image[10 + 3 * z : 130 + 3 * z, 5 * z : 140 + 5 * z] for z in range(4)])
    volume = (volume * np.array([1, 1, 0.8, 0.5])[:, None, None]).astype(np.float32)
    model = peer(SHIPPED / "nuclei-cellpose.pt", SMALL)
    raw = shipped().predict(volume, Predict(diameter=28))
    counts = []
    for stitch in (0.25, 0.6):
        expected, *_ = model.eval(
            volume, channels=[0, 0], z_axis=0, diameter=28, stitch_threshold=stitch
        )
        labels = shipped().decode(raw, Decode(stitch=stitch))
        np.testing.assert_array_equal(labels, np.unique(expected, return_inverse=True)[1])
        counts.append(int(labels.max()))
    assert 5 < counts[0] < counts[1]


def test_one_plane_is_a_plane():
    image = example("large_1b518cd2ea84")[:120, :130]
    flat, deep = (
        shipped().decode(shipped().predict(one, Predict()), Decode())
        for one in (image, image[None])
    )
    assert flat.max() > 2
    np.testing.assert_array_equal(deep, flat[None])


def test_a_crop_is_normalised_by_the_limits_of_the_package():
    image = example("large_6b6d4e6ff52d")
    raw = shipped().predict(image, Predict(diameter=60))
    box = np.s_[:128, :128]
    crop = shipped().predict(image[box], Predict(diameter=60), reference=image)
    # Far from the cut, where the network sees the same pixels; the style is not the same.
    inner = np.s_[..., :64, :64]
    difference = np.abs(crop.maps["cellprob"][inner] - raw.maps["cellprob"][box][inner])
    assert np.median(difference) < 0.5


# Parameters.


def test_thresholds_need_no_network():
    image = example("small_8b77284d6f37")
    raw = shipped().predict(image, Predict(diameter=15))
    fresh = Cellpose()
    sizes = [fresh.decode(raw, Decode(cellprob=c)).astype(bool).sum() for c in (-2, 0, 2)]
    assert sizes[0] > sizes[1] > sizes[2] > 0
    assert fresh.decode(raw, Decode(min_size=10**6)).max() == 0


def test_the_diameter_decides():
    truth = read_labels(EXAMPLES / "labels" / "small_fadeb0ab0928.tif")
    scores = {}
    for diameter in (12.0, 45.0):
        raw = shipped().predict(example("small_fadeb0ab0928"), Predict(diameter=diameter))
        scores[diameter] = f1(truth, shipped().decode(raw, Decode()))
    assert scores[12.0] > scores[45.0] + 0.3


@pytest.mark.parametrize(("card", "file", "seen"), [({}, 24.0, 24.0), ({"diameter": 17}, 24.0, 17)])
def test_the_diameter_of_training_is_the_cards_or_the_files(tmp_path, card, file, seen):
    values = dict(state(2, 4, 4, 8, 8)) | {"diam_mean": torch.tensor([file])}
    engine = Cellpose()
    engine.load(stated(saved(tmp_path, values), **card))
    raw = engine.predict(np.eye(40), Predict(diameter=34))
    assert raw.values["scale"] == pytest.approx(seen / 34)
    assert raw.maps["flow"].shape == (2, 40, 40)


def test_a_plan_knows_how_large_objects_are_seen():
    weights, small = shipped_weights(), Predict(diameter=12)
    raw = shipped().predict(np.eye(20), small)
    assert Cellpose.seen_scale(small, weights) == raw.values["scale"] == 30 / 12


def test_a_file_without_diameters_is_one_of_30_px(tmp_path):
    engine = Cellpose()
    engine.load(stated(saved(tmp_path, of_cellpose_1(state(2, 4, 4, 8, 8)))))
    assert engine.predict(np.eye(40), Predict(diameter=60)).values["scale"] == 0.5


@pytest.mark.parametrize(
    "wrong",
    [None, [1], "x", {"diameter": "big"}, {"diameter": 0}, {"diameter": True}],
    ids=str,
)
def test_a_card_that_cannot_be_right_is_refused(wrong):
    weights = shipped_weights()
    weights = replace(weights, card=weights.card | {"input": wrong})
    for use in (Cellpose().load, lambda one: Cellpose.seen_scale(Predict(), one)):
        with pytest.raises(WeightsError, match="'nuclei-cellpose' does not describe") as caught:
            use(weights)
        assert "`input.diameter`" in caught.value.hint


def test_an_image_that_would_vanish_is_refused():
    with pytest.raises(InputError, match="1 x 40 px is too small for a diameter of 45 px"):
        shipped().predict(np.eye(1, 40), Predict(diameter=45))


@pytest.mark.parametrize(
    "wrong",
    [
        {"diameter": 0},
        {"diameter": 2001},
        {"diameter": "auto "},
        {"diameter": "large"},
        {"tile": 100},
        {"tile": 32},
        {"scale": 2},
        {"channel": -1},
        {"nucleus": 1.5},
        {"do_3D": "perhaps"},
        {"anisotropy": 0},
    ],
)
def test_parameters_of_the_pass_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Predict(**wrong)


def test_nothing_found_is_no_object():
    maps = {"flow": np.zeros((2, 9, 9)), "flow_rest": np.zeros((2, 9, 9))}
    maps |= {"cellprob": np.full((9, 9), -5.0), "cellprob_rest": np.zeros((9, 9))}
    labels = Cellpose().decode(Raw(maps, (9, 9), {"scale": 1.0}), Decode())
    assert labels.dtype == np.int32
    assert not labels.any()


# Memory and devices.


def test_it_gets_lighter_until_one_tile_is_left(monkeypatch):
    engine, seen = fresh(), []
    core = pytest.importorskip("cellpose.core")
    real = core._forward
    monkeypatch.setattr(core, "_forward", lambda net, x: seen.append(len(x)) or real(net, x))
    image = example("large_1b518cd2ea84")[:96, :96]
    told, largest = [], []
    while True:
        seen.clear()
        raw = engine.predict(image, Predict(tile=64))
        largest.append(max(seen))
        told.append(engine.lighten())
        if told[-1] is None:
            break
    assert told == ["batch 4", "batch 2", "batch 1", None]
    assert largest == [8, 4, 2, 1]
    again = fresh().predict(image, Predict(tile=64))
    np.testing.assert_array_equal(engine.decode(raw, Decode()), engine.decode(again, Decode()))
    engine.load(shipped_weights())
    assert engine.lighten() is None, "loading frees memory, and does not undo what was done"


def test_its_devices_are_those_of_torch():
    from opsef_bridge.engines.devices import torch_devices

    assert Cellpose.devices() == torch_devices()


# Files.


def test_it_predicts_only_when_loaded():
    with pytest.raises(WorkerError, match="before its weights were loaded"):
        Cellpose().predict(np.eye(20), Predict())


@pytest.mark.parametrize("name", ["nothing.pt", "cyto3", "nuclei"])
def test_a_missing_file_is_an_error_and_no_download(tmp_path, name):
    with pytest.raises(WeightsError, match=r"missing.*Put it back"):
        Cellpose().load(stated(tmp_path / name))


def test_a_torn_file_is_an_error(tmp_path):
    path = saved(tmp_path, state(2, 4, 4, 8, 8))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WeightsError, match=r"cannot be read from .*file\.pt"):
        Cellpose().load(stated(path))


class Trap:
    def __reduce__(self):
        return (print, ("code of the file ran",))


def test_code_in_a_file_does_not_run(tmp_path, capsys):
    path = tmp_path / "file.pt"
    path.write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(WeightsError, match="cannot be read"):
        Cellpose().load(stated(path))
    with pytest.raises(WeightsError, match="cannot be read"):
        Cellpose().load(stated(saved(tmp_path, {"weight": Trap()})))
    assert "ran" not in capsys.readouterr().out


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state(2, 4, 4, 8, 8).items() if key != name}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(3)], "it holds a list"),
        ({"W2": torch.zeros(1, 3, 8, 8), "out.weight": torch.zeros(3)}, "is not there"),
        (without("upsample.up.res_up_0.proj.1.weight"), "1 tensors are missing"),
        (without("output.2.weight"), "output.2.weight' is not there"),
        (without("") | {"output.2.bias": torch.zeros(7)}, "size mismatch for output.2.bias"),
        (state(3, 4, 4, 8, 8), "it maps 3 channels to 3"),
        (state(2, 4, 4, 8, 300), "style vector of 300"),
    ],
    ids=["a list", "Cellpose 4", "a tensor less", "no output", "misfit", "RGB", "wide"],
)
def test_another_kind_of_network_is_refused(tmp_path, content, message):
    with pytest.raises(WeightsError, match="no network of Cellpose 1 to 3") as caught:
        Cellpose().load(stated(saved(tmp_path, content)))
    assert message in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_a_device_that_is_not_there_is_an_error():
    for device in ("cuda", "tpu"):
        with pytest.raises(WorkerError, match=device):
            Cellpose().load(shipped_weights(), device)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cellpose", None)
    with pytest.raises(OpsefError, match=r"opsef_bridge\[cellpose\].*Python 3\.11 or 3\.12"):
        Cellpose().load(shipped_weights())


def test_neither_torch_nor_the_package_is_imported_early():
    code = (
        "import sys, opsef_bridge.engines.cellpose;"
        "sys.exit(' '.join({'torch', 'cellpose', 'cv2'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The shipped network.


def test_the_shipped_file_is_small_and_the_one_of_its_card():
    weights = shipped_weights()
    verify(weights)
    assert weights.path.stat().st_size <= 5e6
    assert weights.card["cv"] == "not run: settings fixed beforehand"
    assert [entry["diameter"] for entry in weights.card["val"][:3]] == [12, 22, 45]


@pytest.mark.parametrize(
    ("name", "diameter", "least"),
    [("small_fadeb0ab0928", 12, 0.8), ("large_1b518cd2ea84", 30, 0.9)],
)
def test_the_shipped_network_finds_nuclei(name, diameter, least):
    raw = shipped().predict(example(name), Predict(diameter=diameter))
    truth = read_labels(EXAMPLES / "labels" / f"{name}.tif")
    assert f1(truth, shipped().decode(raw, Decode())) >= least
