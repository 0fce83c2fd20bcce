"""The cellpose engine on volumes as a whole, and on channels: the package's labels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("cellpose")

from cellpose.models import CellposeModel  # noqa: E402
from cellpose.resnet_torch import CPnet  # noqa: E402
from scipy import ndimage  # noqa: E402

from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.cellpose import Cellpose, Decode, Predict  # noqa: E402
from opsef_bridge.engines.registry import SHIPPED  # noqa: E402
from opsef_bridge.errors import InputError  # noqa: E402
from opsef_bridge.files import read_json  # noqa: E402
from opsef_bridge.images import read_image  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"


@cache
def shipped() -> Cellpose:
    card = read_json(SHIPPED / "nuclei-cellpose.json")
    engine = Cellpose()
    engine.load(Weights(card["name"], "cellpose", SHIPPED / card["file"], card["sha256"], card))
    return engine


@cache
def peer() -> CellposeModel:
    """The package's own model with the shipped network."""

    class Padded(CPnet):
        def forward(self, data):
            flows, style, down = super().forward(data)
            return flows, torch.nn.functional.pad(style, (0, 256 - style.shape[1])), down

    torch.set_num_threads(1)
    model = CellposeModel(gpu=False, pretrained_model=False)
    model.net = Padded([2, 16, 32, 64, 128], 3, sz=3, mkldnn=True)
    model.net.load_state_dict(torch.load(SHIPPED / "nuclei-cellpose.pt", weights_only=True))
    model.net.float()
    model.net_ortho = None  # set only where it loads a file by itself
    return model


def balls(depth: int, anisotropy: float = 1) -> np.ndarray:
    """A volume with three balls of 16 px across, of uint8; planes may be further apart."""
    grid = (
        np.mgrid[:depth, :40, :44].astype(float) * np.array([anisotropy, 1, 1])[:, None, None, None]
    )
    volume = np.zeros((depth, 40, 44))
    middle = depth * anisotropy / 2
    for centre in ((middle - 1, 12, 12), (middle + 1, 26, 18), (middle, 14, 32)):
        distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
        volume = np.maximum(volume, 200 / (1 + np.exp(distance - 8)))
    noise = np.random.default_rng(2).normal(20, 3, volume.shape)
    return np.clip(ndimage.gaussian_filter(volume, 0.7) + noise, 0, 255).astype(np.uint8)


def numbered(masks: np.ndarray) -> np.ndarray:
    return np.unique(masks, return_inverse=True)[1].reshape(masks.shape)


# Volumes as a whole.


@pytest.mark.parametrize(
    ("diameter", "depth", "anisotropy"),
    [(30, 18, 1.0), (26, 9, 2.0), (40, 9, 1.5)],
    ids=["as it is", "enlarged", "shrunk"],
)
def test_labels_of_do_3d_are_those_of_the_package(diameter, depth, anisotropy):
    volume = balls(depth, 18 / depth)
    raw = shipped().predict(volume, Predict(diameter=diameter, do_3D=True, anisotropy=anisotropy))
    assert raw.maps["flow"].shape == (3, *volume.shape)
    for cellprob, min_size in ((0.0, 15), (-2.0, 200)):
        expected, *_ = peer().eval(
            volume,
            channels=[0, 0],
            z_axis=0,
            do_3D=True,
            anisotropy=anisotropy,
            diameter=diameter,
            cellprob_threshold=cellprob,
            min_size=min_size,
        )
        labels = shipped().decode(raw, Decode(cellprob=cellprob, min_size=min_size))
        np.testing.assert_array_equal(labels, numbered(expected))
        assert expected.max() >= 2


def test_thresholds_of_a_volume_need_no_network():
    raw = shipped().predict(balls(16), Predict(do_3D=True))
    volume = [Cellpose().decode(raw, Decode(cellprob=c)).astype(bool).sum() for c in (-3, 0, 3)]
    assert volume[0] > volume[1] > volume[2] > 0


@pytest.mark.parametrize("shape", [(40, 40), (1, 40, 40), (20, 1, 40), (20, 40, 1)])
def test_do_3d_needs_a_volume(shape):
    with pytest.raises(InputError, match="needs a volume of at least 2 x 2 x 2") as caught:
        shipped().predict(np.ones(shape), Predict(do_3D=True))
    assert "Leave do_3D out" in caught.value.hint


def test_a_volume_that_would_vanish_is_refused():
    with pytest.raises(InputError, match="3 x 40 x 44 px is too small for a diameter of 40 px"):
        shipped().predict(balls(3), Predict(do_3D=True, anisotropy=0.2, diameter=40))


# Channels.


@cache
def colours() -> np.ndarray:
    """Three pictures of nuclei as red, green and blue, differently bright."""
    names = ("large_1b518cd2ea84", "large_6b6d4e6ff52d", "small_fadeb0ab0928")
    parts = [read_image(EXAMPLES / "images" / f"{name}.png").data for name in names]
    light = np.array([1, 0.5, 0.8])
    return (np.stack([part[:120, :130] for part in parts], axis=-1) * light).astype(np.uint8)


@pytest.mark.parametrize("channels", [(1, 0), (2, 0), (3, 1), (2, 2), (0, 1), (0, 3)])
def test_labels_of_channels_are_those_of_the_package(channels):
    image = colours()
    channel, nucleus = channels
    parameters = Predict(diameter=30, channel=channel, nucleus=nucleus)
    # The network has learned from one channel: with two its flows do not fit its outlines.
    how = {"flow_threshold": 0, "cellprob_threshold": -2}
    expected, *_ = peer().eval(image, channels=list(channels), diameter=30, **how)
    raw = shipped().predict(image, parameters)
    np.testing.assert_array_equal(shipped().decode(raw, Decode(flow=0, cellprob=-2)), expected)
    assert expected.max() > 3
    assert Cellpose.wants_colour(parameters) and shipped().wants_colour(parameters)


def test_channels_matter():
    labels = {}
    for pair in ((1, 0), (2, 0), (1, 2)):
        raw = shipped().predict(colours(), Predict(channel=pair[0], nucleus=pair[1]))
        labels[pair] = shipped().decode(raw, Decode()) > 0
    assert (labels[1, 0] != labels[2, 0]).mean() > 0.05
    assert (labels[1, 0] != labels[1, 2]).any()


def test_a_channel_is_normalised_like_its_plane():
    """Each by itself: of another channel nothing is seen."""
    image = colours()
    plane = shipped().predict(image[..., 1], Predict())
    bright = image.astype(np.float32)
    bright[..., [0, 2]] *= 1000
    sample = shipped().predict(bright, Predict(channel=2))
    for name, data in plane.maps.items():
        np.testing.assert_array_equal(sample.maps[name], data)
    part = np.s_[:64, :64]
    crop = shipped().predict(image[part], Predict(channel=2), reference=image)
    alone = shipped().predict(image[..., 1][part], Predict(), reference=image[..., 1])
    np.testing.assert_array_equal(crop.maps["cellprob"], alone.maps["cellprob"])


def test_a_grey_image_has_one_channel():
    plane = colours()[..., 0]
    expected = shipped().decode(shipped().predict(plane, Predict()), Decode())
    for image in (plane, plane[..., None]):
        raw = shipped().predict(image, Predict(channel=1))
        np.testing.assert_array_equal(shipped().decode(raw, Decode()), expected)


def test_three_axes_are_a_volume_unless_a_channel_is_named():
    image = colours()[:40, :44]
    assert not Cellpose.wants_colour(Predict())
    assert shipped().predict(image, Predict()).shape == (40, 44, 3)
    assert shipped().predict(image, Predict(channel=1)).shape == (40, 44)


def test_volumes_have_channels_too():
    volume = balls(8, 2)
    stack = np.stack([volume, np.zeros_like(volume), volume[:, ::-1]], axis=-1)
    raw = shipped().predict(stack, Predict(diameter=16, channel=3))
    expected = shipped().predict(volume[:, ::-1], Predict(diameter=16))
    np.testing.assert_array_equal(raw.maps["cellprob"], expected.maps["cellprob"])
    how = {"diameter": 16, "stitch_threshold": 0.25, "flow_threshold": 0}
    both, *_ = peer().eval(stack, channels=[1, 3], z_axis=0, channel_axis=3, **how)
    raw = shipped().predict(stack, Predict(diameter=16, channel=1, nucleus=3))
    np.testing.assert_array_equal(shipped().decode(raw, Decode(flow=0)), numbered(both))
    assert both.max() >= 3


@pytest.mark.parametrize(
    ("shape", "wrong", "words"),
    [
        ((40, 40, 3), {"channel": 4}, "there is no channel 4"),
        ((40, 40, 3), {"channel": 1, "nucleus": 5}, "there is no nucleus 5"),
        ((40, 40), {"channel": 2}, "there is no channel 2"),
        ((40, 40, 3), {"channel": 1, "do_3D": True}, "do_3D needs a volume"),
    ],
)
def test_a_channel_that_is_not_there_is_an_error(shape, wrong, words):
    with pytest.raises(InputError, match=words) as caught:
        shipped().predict(np.ones(shape), Predict(**wrong))
    assert caught.value.hint
