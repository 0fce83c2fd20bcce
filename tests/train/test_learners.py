"""Every family of networks keeps the contract of learners."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np  # noqa: E402

from opsef_bridge.errors import NotFoundError  # noqa: E402
from opsef_bridge.testing.learners import LearnerSuite  # noqa: E402
from opsef_bridge.train import fpn2ws, loop, stardist  # noqa: E402
from opsef_bridge.train.colour import StainAugmentation  # noqa: E402
from opsef_bridge.train.data import IGNORED  # noqa: E402
from opsef_bridge.train.learner import learner, learner_names  # noqa: E402

FEW = {"steps": 3, "batch": 2, "bfloat16": False}


class TestUNet(LearnerSuite):
    engine = "unet"
    settings = loop.Settings(**FEW, crop=64, width=4, depth=2, warm_up=1)

    def known(self, batch):
        return batch[1] != IGNORED


class TestFPN2(LearnerSuite):
    engine = "fpn2ws"
    settings = fpn2ws.Settings(**FEW, crop=64, widths=(4, 8, 8), pyramid=8, warm_up=1)

    def known(self, batch):
        return batch[1][:, 0] >= 0


class TestStarDist(LearnerSuite):
    engine = "stardist"
    grid = 2
    settings = stardist.Settings(**FEW, crop=32, rays=8, width=4, depth=1, features=8)

    def known(self, batch):
        return batch[1][:, 0] >= 0


class TestStarDistOfColours(TestStarDist):
    colour = True
    settings = stardist.Settings(
        **FEW, crop=32, rays=8, width=4, depth=1, features=8, augmentation=StainAugmentation()
    )


class TestStarDistOfVolumes(TestStarDist):
    volumes = True
    grid = (1, 2, 2)

    @property
    def settings(self):
        from opsef_bridge.train import stardist_volumes

        sizes = {"crop": (8, 16, 16), "rays": 8, "width": 4, "depth": 1, "features": 8}
        return stardist_volumes.Settings(**FEW, **sizes, anisotropy=(2.0, 1.0, 1.0))


class TestCellpose(LearnerSuite):
    engine = "cellpose"

    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("cellpose")

    @property
    def settings(self):
        from opsef_bridge.train import cellpose

        return cellpose.Settings(**FEW, crop=64, channels=(4, 8, 8, 16), warm_up=1)

    @property
    def channels(self):
        return 2

    def output(self, network):
        return super().output(network)[:1]

    def known(self, batch):
        return batch[1][:, 2] >= 0


class TestMaskRCNN(LearnerSuite):
    engine = "maskrcnn"

    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("torchvision")

    @property
    def settings(self):
        from opsef_bridge.train import maskrcnn

        small = {"widths": (4, 8, 8, 8), "pyramid": 8, "box": 16, "mask": (8, 8)}
        return maskrcnn.Settings(**FEW, crop=64, warm_up=1, **small)

    def output(self, network):
        image = np.random.default_rng(0).random((1, 1, 64, 64), np.float32)
        with torch.no_grad():
            return list(network.backbone(torch.from_numpy(image)).values())


def test_all_engines_with_networks_of_planes_have_a_learner():
    assert {learner(name).engine for name in learner_names()} == set(learner_names())
    with pytest.raises(NotFoundError, match="watershed"):
        learner("watershed")


def test_networks_for_volumes_are_asked_for_by_name():
    names = learner_names(volumes=True)
    assert names and set(names) <= set(learner_names())
    made = [learner(name, volumes=True) for name in names]
    assert [(one.engine, one.volumes) for one in made] == [(name, True) for name in names]
    assert not any(learner(name).volumes for name in names)
    with pytest.raises(NotFoundError, match=r"unet.* planes, not from volumes"):
        learner("unet", volumes=True)
