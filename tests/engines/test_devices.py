"""What the runtimes say about a GPU, and what is made of it where they are wrong.

There is a stand-in of a driver, since no GPU is needed here; ONNX Runtime is the real one, told
to list CUDA as its GPU build does where CUDA's libraries do not load. `pytest -m gpu` has the
rest.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from opsef_bridge import doctor
from opsef_bridge.engines import LoadedEngine, devices, engine_class, find_weights, resolve_device
from opsef_bridge.engines.devices import gpu_names, onnx_devices, tiny_network, why_no_gpu
from opsef_bridge.engines.memory import is_out_of_memory
from opsef_bridge.engines.runtime import ON_CUDA, open_session
from opsef_bridge.errors import ConfigError, WorkerError

BUILD = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this is the GPU build of ONNX Runtime",
)


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver that lists a GPU, for this process and those that it starts."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "GPU 0: NVIDIA Stand-in (UUID: GPU-0)"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_REASONS", {})
    gpu_names.cache_clear()
    why_no_gpu.cache_clear()
    yield
    gpu_names.cache_clear()
    why_no_gpu.cache_clear()


@pytest.fixture
def hollow(driver, monkeypatch) -> list[str]:
    """The GPU build without CUDA's libraries: CUDA is listed; sessions run on the CPU."""
    calls: list[str] = []
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    real = onnxruntime.InferenceSession

    def session(*given, **more):
        calls.append("session")
        return real(*given, **more)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: calls.append("preload"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return calls


def test_the_tiny_network_is_one_that_onnx_runtime_runs():
    session = onnxruntime.InferenceSession(tiny_network(), providers=["CPUExecutionProvider"])
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    (found,) = session.run(None, {"x": x})
    assert found.shape == (1, 1, 1, 1) and found.item() == (x**2).sum()


@BUILD
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_listed_provider_that_does_not_start_is_no_device(hollow):
    assert onnx_devices() == ("cpu",)
    assert "fell back to the CPU" in why_no_gpu("onnxruntime")
    assert hollow == ["preload", "session"], "the libraries come before the session"
    with pytest.raises(ConfigError, match=r"only use cpu here .*fell back to the CPU"):
        resolve_device("cuda", engine_class("unet"), find_weights("unet", None))


@BUILD
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_that_was_asked_for_cuda_is_never_one_of_the_cpu(hollow):
    with pytest.raises(WorkerError, match="could not start on the device 'cuda'"):
        open_session(find_weights("unet", None), "cuda")
    assert hollow == ["preload", "session"]


@BUILD
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_falling_back_is_recorded(hollow, monkeypatch, capsys):
    record: dict = {}
    LoadedEngine.open(engine_class("unet"), find_weights("unet", None), "auto").note(record)
    assert record["devices"] == ["cpu"] and "fell back to the CPU" in record["fell_back"]
    assert "not on the GPU" in capsys.readouterr().err
    # A runtime that can, with a network that cannot.
    monkeypatch.setattr(devices, "_REASONS", {})
    monkeypatch.setattr("opsef_bridge.engines.unet.onnx_devices", lambda: ("cuda", "cpu"))
    loaded = LoadedEngine.open(engine_class("unet"), find_weights("unet", None), "auto")
    assert (loaded.device, loaded.steps) == ("cpu", [])
    assert "not on the cuda: ONNX Runtime could not start" in loaded.fell_back


def test_a_gpu_that_is_full_at_loading_is_no_broken_file(monkeypatch):
    # As an H100 said it whose memory another program had taken.
    said = (
        "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: CUBLAS failure 3: the "
        "resource allocation failed ; GPU=0 ; expr=cublasCreate(&cublas_handle_);"
    )
    asked = []

    def session(path, options, providers):
        asked.append(dict(providers))
        raise RuntimeError(said)

    module = types.SimpleNamespace(
        get_available_providers=lambda: ["CUDAExecutionProvider"],
        SessionOptions=lambda: types.SimpleNamespace(add_session_config_entry=lambda *entry: None),
        InferenceSession=session,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    with pytest.raises(WorkerError, match="out of memory: the weights 'nuclei-unet'") as caught:
        open_session(find_weights("unet", None), "cuda")
    assert is_out_of_memory(caught.value), "so that lighter steps and the CPU are tried"
    assert asked == [{"CUDAExecutionProvider": ON_CUDA}]


def test_a_session_does_not_change_its_device_while_it_runs():
    session = open_session(find_weights("unet", None), "cpu")
    assert session._enable_fallback is False


def test_where_a_session_computes_on_the_gpu_it_is_a_device(driver, monkeypatch):
    class Session:
        def __init__(self, network, options, providers):
            self.providers = providers

        def get_providers(self):
            return [*self.providers, "CPUExecutionProvider"]

        def disable_fallback(self):
            pass

        def run(self, names, given):
            return [(given["x"] ** 2).sum(keepdims=True)]

    module = types.SimpleNamespace(
        get_available_providers=lambda: ["CUDAExecutionProvider"],
        SessionOptions=types.SimpleNamespace,
        InferenceSession=Session,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    assert onnx_devices() == ("cuda", "cpu")


def test_a_library_that_fails_is_a_reason_and_no_error(driver, monkeypatch):
    def broken():
        raise RuntimeError("no kernel image is available\nfor this device")

    monkeypatch.setitem(devices._ASK, "torch", broken)
    assert why_no_gpu("torch") == "RuntimeError: no kernel image is available for this device"
    assert devices.torch_devices() == ("cpu",)


def test_without_a_driver_nothing_is_imported():
    code = (
        "import sys; from opsef_bridge.engines import devices as d\n"
        "print(d.onnx_devices(), d.torch_devices(), d.tensorflow_devices())\n"
        "assert not {'onnxruntime', 'torch', 'tensorflow'} & set(sys.modules)"
    )
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=hidden)


@BUILD
def test_doctor_asks_the_real_runtime(driver, monkeypatch):
    monkeypatch.setattr(doctor, "GPU_ADVICE", {"onnxruntime": "make gpu"})
    first, unused = doctor._gpus()
    assert (first.what, first.state, first.advice) == ("gpu onnxruntime", "absent", "make gpu")
    assert first.detail == "cannot use the GPU: it is the build for the CPU"
    assert (unused.what, unused.detail) == ("gpu", "there is an NVIDIA driver, unused")


def test_doctor_says_unused_only_where_nothing_can_use_it(driver, monkeypatch):
    answers = {"onnxruntime": "the libraries are missing", "torch": "", "tensorflow": "no GPU"}
    monkeypatch.setattr(doctor, "_ask_in_worker", answers.get)
    monkeypatch.setattr(doctor, "_version", {"onnxruntime-gpu": "1"}.get)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: True)
    found = {finding.what: finding.state for finding in doctor._gpus()}
    assert found == {"gpu onnxruntime": "broken", "gpu torch": "ok", "gpu tensorflow": "absent"}


def test_doctor_without_a_gpu(monkeypatch):
    monkeypatch.setattr(doctor, "gpu_names", tuple)
    (finding,) = doctor._gpus()
    assert (finding.what, finding.state) == ("gpu", "absent") and "CPU" in finding.detail


@BUILD
def test_the_tests_on_a_gpu_fail_where_the_runtime_cannot_use_it(driver, tmp_path):
    script = runpy.run_path(str(Path(__file__).with_name("test_gpu.py")))["BOTH"]
    done = subprocess.run(
        [sys.executable, "-c", script, "unet", "", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "onnxruntime: it is the build for the CPU" in done.stderr


def test_make_gpu_installs_the_pinned_version_with_cuda():
    root = Path(__file__).parents[2]
    said = subprocess.run(
        ["make", "-n", "gpu", f"PYTHON={sys.executable}"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    name = f"py{sys.version_info[0]}{sys.version_info[1]}.txt"
    pins = (root / "constraints" / name).read_text("utf-8").split()
    (pin,) = [line for line in pins if line.startswith("onnxruntime==")]
    assert f"'onnxruntime-gpu[cuda,cudnn]{pin.removeprefix('onnxruntime')}'" in said
    assert f"-c constraints/{name}" in said
