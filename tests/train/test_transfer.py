"""Networks that start from weights that are there."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from opsef_bridge.engines import find_weights  # noqa: E402
from opsef_bridge.engines.base import Weights  # noqa: E402
from opsef_bridge.engines.runtime import open_session  # noqa: E402
from opsef_bridge.errors import WeightsError  # noqa: E402
from opsef_bridge.train import fpn2ws, loop, stardist  # noqa: E402
from opsef_bridge.train.colour import StainAugmentation  # noqa: E402
from opsef_bridge.train.learner import learner  # noqa: E402
from opsef_bridge.train.loop import one_cycle  # noqa: E402
from opsef_bridge.train.network import UNetModule  # noqa: E402
from opsef_bridge.train.transfer import check_same, fine_tuned, revive  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("engine", "name", "module", "channels"),
    [
        ("unet", None, loop, 1),
        ("fpn2ws", None, fpn2ws, 1),
        ("stardist", None, stardist, 1),
        ("stardist", "he-stardist", stardist, 3),
    ],
)
def test_shipped_weights_say_the_same_as_in_their_engine(engine, name, module, channels):
    weights = find_weights(engine, name)
    made = learner(engine)
    network, settings = made.load(weights, made.Settings(steps=5))
    assert settings.steps == 5
    batch = np.random.default_rng(1).random((2, channels, 64, 96), np.float32)
    session = open_session(weights)
    theirs = session.run(None, {session.get_inputs()[0].name: batch})
    found = module.predict(network, batch)
    for mine, other in zip(found if len(theirs) > 1 else [found], theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5, rtol=1e-5)


def test_shipped_cellpose_says_the_same_as_in_its_engine():
    pytest.importorskip("cellpose")
    from opsef_bridge.engines.cellpose import Cellpose

    weights = find_weights("cellpose", None)
    made = learner("cellpose")
    network, settings = made.load(weights, made.Settings(channels=(4, 4, 4, 4)))
    assert settings.channels == (16, 32, 64, 128)
    engine = Cellpose()
    engine.load(weights)
    batch = torch.rand(1, 2, 64, 64)
    with torch.no_grad():
        assert float((network(batch)[0] - engine._network(batch)[0]).abs().max()) < 1e-4


def test_shipped_mask_rcnn_says_the_same_as_in_its_engine():
    pytest.importorskip("torchvision")
    from opsef_bridge.engines.maskrcnn import MaskRCNN

    weights = find_weights("maskrcnn", None)
    made = learner("maskrcnn")
    network, settings = made.load(weights, made.Settings(widths=(4, 4, 4, 4), mask=(8,)))
    assert (settings.widths, settings.mask) == ((16, 32, 64, 96), (64, 64))
    engine = MaskRCNN()
    engine.load(weights)
    one, other = network.state_dict(), engine._network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not network.training


def test_the_augmentation_becomes_one_of_the_colours_of_the_weights():
    made = learner("stardist")
    colour = find_weights("stardist", "he-stardist")
    grey = find_weights("stardist", None)
    _, found = made.load(colour, made.Settings())
    assert isinstance(found.augmentation, StainAugmentation)
    assert found.channels == 3
    _, found = made.load(grey, found)
    assert found.channels == 1


def test_stardist_of_another_grid_is_refused_by_name():
    weights = find_weights("stardist", None)
    card = {**weights.card, "network": {**weights.card["network"], "grid": [4, 4]}}
    with pytest.raises(WeightsError, match=r"grid is \[4, 4\], not \[2, 2\]"):
        stardist.load(replace(weights, card=card), stardist.Settings())


def test_a_network_of_another_engine_is_refused():
    for engine, other in [("unet", "fpn2ws"), ("fpn2ws", "unet"), ("stardist", "unet")]:
        weights = find_weights(other, None)
        with pytest.raises(WeightsError, match="cannot start from"):
            learner(engine).load(weights, learner(engine).Settings())


def test_a_file_that_computes_something_else_is_refused(tmp_path):
    weights = find_weights("unet", None)
    model = onnx.load(str(weights.path))
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Tanh"
    onnx.save(model, tmp_path / "other.onnx")
    other = Weights("other", "unet", tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="something else"):
        loop.load(other, loop.Settings())


def test_stardist_of_official_sizes_can_be_read_back(tmp_path):
    settings = stardist.Settings(rays=32, width=32, depth=3, features=128)
    network = learner("stardist").network(settings, ()).eval()
    stardist.export_onnx(network, settings, tmp_path / "net.onnx")
    found, sized = stardist.load(
        Weights("net", "stardist", tmp_path / "net.onnx"), stardist.Settings()
    )
    assert (sized.rays, sized.width, sized.depth, sized.features) == (32, 32, 3, 128)
    batch = np.random.default_rng(0).random((1, 1, 32, 32), np.float32)
    for one, other in zip(
        stardist.predict(network, batch), stardist.predict(found, batch), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_normalisation_comes_back_without_changing_the_function():
    torch.manual_seed(0)
    network, _ = loop.load(find_weights("unet", None), loop.Settings())
    batch = torch.rand(2, 1, 64, 64) * 3
    with torch.no_grad():
        before = network(batch)
        during = network.train()(batch)
    torch.testing.assert_close(before, during, atol=1e-3, rtol=1e-3)
    norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked == 1 for norm in norms)
    assert float(norms[0].running_var.std()) > 0
    # Statistics are taken once: the next batch is normalised by its own.
    weights = [norm.weight.detach().clone() for norm in norms]
    with torch.no_grad():
        network(batch * 2)
    assert all(torch.equal(w, norm.weight) for w, norm in zip(weights, norms, strict=True))


def test_a_network_that_has_learned_is_left_as_it_is():
    network = UNetModule(4, 1).train()
    network(torch.rand(2, 1, 16, 16))
    other = copy.deepcopy(network)
    revive(other)
    batch = torch.rand(2, 1, 16, 16)
    assert torch.equal(network(batch), other(batch))


def test_fine_tuning_is_slower():
    found = fine_tuned(loop.Settings(warm_up=50))
    assert found.rate < loop.Settings().rate
    assert found.warm_up < 50
    assert fine_tuned(stardist.Settings()).warm_up == stardist.Settings().warm_up


@pytest.mark.parametrize(("steps", "part"), [(2, 0.1), (7, 0.5), (40, 0.1), (600, 50 / 600)])
def test_the_rate_is_that_of_torch(steps, part):
    optimiser = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 8e-3, total_steps=steps, pct_start=part, cycle_momentum=False
    )
    for step in range(steps):
        assert one_cycle(step, steps, 8e-3, part) == rates.get_last_lr()[0]
        optimiser.step()
        rates.step()


def test_a_single_step_has_a_rate():
    assert 0 < one_cycle(0, 1, 1.0, 0.5) <= 1


def test_the_check_of_a_file_measures():
    weights = find_weights("unet", None)
    network, _ = loop.load(weights, loop.Settings())

    def run(batch):
        return [loop.predict(network, batch)]

    assert check_same(weights, run, ("probabilities",)) < 1e-5
    with pytest.raises(WeightsError):
        check_same(weights, lambda batch: [1 - run(batch)[0]], ("probabilities",))
