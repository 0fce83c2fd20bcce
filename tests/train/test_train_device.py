"""Every network learns on a GPU as on the CPU, and comes back from it; `pytest -m gpu`."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from opsef_bridge.engines.devices import gpu_names  # noqa: E402
from opsef_bridge.errors import WorkerError  # noqa: E402
from opsef_bridge.train import training  # noqa: E402
from opsef_bridge.train.data import Sample  # noqa: E402

KINDS = ("loop", "fpn2ws", "stardist", "cellpose", "maskrcnn")
NEEDS = {"cellpose": "cellpose", "maskrcnn": "torchvision"}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def kind_of(name: str):
    pytest.importorskip(NEEDS.get(name, "torch"))
    return importlib.import_module(f"opsef_bridge.train.{name}")


def sample(size: int = 96) -> Sample:
    """Bright squares of 16 px on a dark ground."""
    labels = np.zeros((size, size), np.int32)
    corners = [(y, x) for y in range(4, size - 16, 24) for x in range(4, size - 16, 24)]
    for number, (y, x) in enumerate(corners, 1):
        labels[y : y + 16, x : x + 16] = number
    return Sample("a", (labels > 0).astype(np.float32), labels, "g")


def train(name: str, steps: int, **more):
    """Return a network and the losses of its steps."""
    kind, losses = kind_of(name), []
    settings = replace(kind.Settings(), steps=steps, batch=2, crop=64, **more)
    network = kind.fit([sample()], settings, lambda step, value: losses.append(value))
    return network, losses


@pytest.mark.parametrize("name", KINDS)
def test_a_device_that_torch_does_not_have_is_refused_before_the_first_step(name):
    with pytest.raises(WorkerError, match="cannot train on the device 'tpu'"):
        train(name, 1, device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused_before_the_first_step():
    with pytest.raises(WorkerError, match="cannot train on the device 'cuda'"):
        train("loop", 1, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_names(), reason="no NVIDIA driver lists a GPU here")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_a_network_learns_on_the_gpu_and_comes_back(name, half):
    network, losses = train(name, 40, device="cuda", bfloat16=half)
    _, expected = train(name, 1, bfloat16=False)
    # The same crops and the same first weights; Mask R-CNN draws its boxes by chance.
    assert losses[0] == pytest.approx(expected[0], rel=0.2 if name == "maskrcnn" else 0.05)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert {str(value.device) for value in network.state_dict().values()} == {"cpu"}
    image = torch.from_numpy(sample().image[None, None])
    image = image.expand(-1, 2, -1, -1) if name == "cellpose" else image
    with torch.inference_mode():
        found = network([image[0]] if name == "maskrcnn" else image)
    if name == "maskrcnn":
        assert found[0]["scores"].max() > 0.1
    else:
        first = found if torch.is_tensor(found) else found[0]
        assert torch.isfinite(first).all() and first.std() > 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_names(), reason="no NVIDIA driver lists a GPU here")
@pytest.mark.parametrize("order", [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_training_goes_on_on_another_device(tmp_path, order):
    kind = kind_of("loop")
    settings = replace(kind.Settings(), steps=20, batch=2, crop=64, bfloat16=False)

    def kill(step, loss):
        if step == 10:
            raise KeyboardInterrupt

    first, then = (replace(settings, device=device) for device in order)
    learner, samples = kind.UNetLearner(), [sample()]
    with pytest.raises(KeyboardInterrupt):
        training.train(learner, samples, first, tmp_path, every=5, report=kill)
    steps = []
    done = training.train(learner, samples, then, tmp_path, every=5,
                          report=lambda step, loss: steps.append(step))  # fmt: skip
    assert steps == list(range(6, 21)) and done.steps == 20
    whole = training.train(learner, samples, settings, tmp_path / "whole", every=5)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(done.network.state_dict()[name], value, rtol=0.1, atol=0.02)
