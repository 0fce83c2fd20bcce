"""The ladder of memory, with errors injected and with memory that really runs out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from opsef_bridge.engines import LoadedEngine, Parameters, Raw, Weights
from opsef_bridge.engines.devices import gpu_names
from opsef_bridge.engines.memory import OutOfMemory, is_out_of_memory
from opsef_bridge.errors import WorkerError

IMAGE = np.ones((4, 4))
NOTHING = Weights("", "greedy")


class Greedy:
    """Fits only with batches of 1, and, if it must, only on the CPU."""

    name = "greedy"

    def __init__(self, *, only_cpu: bool = False, hopeless: bool = False) -> None:
        self.batch, self.only_cpu, self.hopeless = 4, only_cpu, hopeless
        self.loads: list[str] = []

    def load(self, weights, device="cpu"):
        self.loads.append(device)

    def lighten(self):
        if self.batch == 1:
            return None
        self.batch //= 2
        return f"batch {self.batch}"

    def predict(self, image, parameters, *, reference=None):
        if self.hopeless or self.batch > 1 or (self.only_cpu and self.loads[-1] != "cpu"):
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return Raw({"image": image}, image.shape)


def test_batches_shrink_before_the_cpu_is_taken():
    loaded = LoadedEngine(Greedy(), NOTHING, "cuda")
    loaded.predict(IMAGE, Parameters())
    assert (loaded.steps, loaded.device) == (["batch 2", "batch 1"], "cuda")
    loaded.predict(IMAGE, Parameters())  # it stays light
    assert loaded.steps == ["batch 2", "batch 1"]


def test_the_cpu_is_the_last_step():
    engine = Greedy(only_cpu=True)
    loaded = LoadedEngine(engine, NOTHING, "cuda")
    loaded.predict(IMAGE, Parameters())
    assert (loaded.steps, loaded.device) == (["batch 2", "batch 1", "cpu"], "cpu")
    assert engine.loads == ["cuda", "cuda", "cuda", "cpu"]  # to free what the runtime keeps


def test_at_the_foot_of_the_ladder_the_error_says_what_was_tried():
    loaded = LoadedEngine(Greedy(hopeless=True), NOTHING, "cuda")
    with pytest.raises(OutOfMemory, match=r"batch 2, batch 1, cpu on the cpu .*20\.00 MiB") as no:
        loaded.predict(IMAGE, Parameters())
    assert "scale" in no.value.hint


def test_other_errors_pass_through_at_once():
    class Broken(Greedy):
        def predict(self, image, parameters, *, reference=None):
            raise RuntimeError("weights do not fit the graph")

    loaded = LoadedEngine(Broken(), NOTHING, "cuda")
    with pytest.raises(RuntimeError, match="do not fit the graph"):
        loaded.predict(IMAGE, Parameters())
    assert loaded.steps == []


class CpuAlone(Greedy):
    """Its runtime can use the GPU; these weights cannot."""

    @classmethod
    def devices(cls, weights=None):
        return ("cuda", "cpu")

    def load(self, weights, device="cpu"):
        if device == "cuda":
            raise WorkerError("a TensorFlow without CUDA")
        super().load(weights, device)


def test_weights_that_cannot_run_on_the_gpu_go_to_the_cpu_unless_it_was_asked_for(capsys):
    assert LoadedEngine.open(CpuAlone, NOTHING, "auto").device == "cpu"
    assert "a TensorFlow without CUDA" in capsys.readouterr().err
    with pytest.raises(WorkerError, match="without CUDA"):
        LoadedEngine.open(CpuAlone, NOTHING, "cuda")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (np._core._exceptions._ArrayMemoryError((10**9,), np.dtype("f4")), True),
        (RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for buffer"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 4 bytes"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUBLAS failure 3: the resource allocation failed ; GPU=0"), True),
        (RuntimeError("the memory of the image is empty"), False),
        (OSError("disk quota: out of memory of the server"), False),
        (ValueError("shape"), False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_counts_as_memory(error, is_one):
    assert is_out_of_memory(error) is is_one


REAL = """
import resource, sys
import numpy as np
from opsef_bridge.engines import LoadedEngine, engine_class, find_weights

name, spare = sys.argv[1], int(sys.argv[2])
y, x = np.mgrid[:1536, :1536]
image = ((x % 64 - 32) ** 2 + (y % 64 - 32) ** 2 < 400).astype(np.float32)
engine = engine_class(name)()
loaded = LoadedEngine(engine, find_weights(name, None), "cpu")
engine.predict(image[:64, :64], engine.Predict())  # imports and first buffers
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + spare * 2**20, -1))
raw = loaded.predict(image, engine.Predict(tile=2048))
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(*loaded.steps, "objects", int(engine.decode(raw, engine.Decode()).max()), sep=",")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory work on Linux alone")
@pytest.mark.slow
def test_memory_that_really_runs_out_costs_tiles_and_not_the_image():
    """One pass over 1536 x 1536 px of the U-Net needs about 1.6 GB; it gets 700 MB."""
    done = subprocess.run(
        [sys.executable, "-c", REAL, "unet", "700"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *steps, _, objects = done.stdout.strip().split(",")
    assert steps[:1] == ["tile 1024"]
    assert int(objects) == 24 * 24


# What fills the GPU is a process of its own: it needs torch, which cannot be in one process
# with TensorFlow.
FULL = """
import subprocess, sys
from pathlib import Path
import numpy as np
from opsef_bridge.engines import LoadedEngine, engine_class, find_weights, resolve_device
from opsef_bridge.engines.store import convert

FILL = '''
import sys, torch
torch.zeros(1, device="cuda")
free, _ = torch.cuda.mem_get_info()
spare = int(sys.argv[1]) << 20
taken = torch.empty(max(free - spare, 0), dtype=torch.uint8, device="cuda")
print("full", flush=True)
sys.stdin.read()
'''
name, runtime, spare, folder, device = sys.argv[1:]
predict = {"cellpose": {"diameter": 40, "tile": 448}, "maskrcnn": {"tile": 512}}
kind, weights = engine_class(name), find_weights(name, None)
if runtime == "tensorflow":
    weights = convert([weights.name], Path(folder), runtime="tensorflow")[0].weights
parameters = kind.Predict(**predict.get(name, {"tile": 8192}))
sides = int(sys.argv[3]) and 2048 or 512
y, x = np.mgrid[:sides, :sides]
image = ((x % 64 - 32) ** 2 + (y % 64 - 32) ** 2 < 400).astype(np.float32)
loaded = LoadedEngine(kind(), weights, resolve_device(device, kind, weights))
loaded.predict(image[:256, :256], parameters)  # libraries and first buffers
filler = None
if device == "cuda":
    command = [sys.executable, "-c", FILL, spare]
    filler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert filler.stdout.readline() == "full\\n", "torch cannot fill the GPU"
try:
    raw = loaded.predict(image, parameters)
finally:
    if filler:
        filler.communicate()
objects = int(loaded.engine.decode(raw, kind.Decode()).max())
assert objects == (sides // 64) ** 2, f"{objects} objects"
print("steps", *loaded.steps, sep=",")
"""
ENGINES = [(name, "") for name in ("unet", "fpn2ws", "stardist", "cellpose", "maskrcnn")]
TENSORFLOW = ("stardist", "tensorflow")
SPARE = (1200, 600, 300, 150, 75)
"""MB that are left to a pass; how much one needs depends on GPU and libraries."""


def steps_with(name, runtime, spare, folder, device):
    done = subprocess.run(
        [sys.executable, "-c", FULL, name, runtime, str(spare), str(folder), device],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1].split(",")[1:]


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_names(), reason="no NVIDIA driver lists a GPU here")
@pytest.mark.parametrize(("name", "runtime"), [*ENGINES, TENSORFLOW])
def test_a_gpu_that_is_full_costs_tiles_and_not_the_image(name, runtime, tmp_path):
    """All but a little of the GPU's memory is taken by somebody else: less and less is left."""
    steps = next(
        (
            steps
            for spare in SPARE
            if (steps := steps_with(name, runtime, spare, tmp_path / str(spare), "cuda"))
        ),
        [],
    )
    assert steps, f"even {SPARE[-1]} MB are enough"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "runtime"), [*ENGINES, TENSORFLOW])
def test_the_check_of_a_full_gpu_itself_runs(name, runtime, tmp_path):
    """On the CPU, smaller and with all memory: every object is found, and nothing was done."""
    assert steps_with(name, runtime, 0, tmp_path, "cpu") == []
