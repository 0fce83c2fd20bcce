"""Every engine on a real GPU: `pytest -m gpu`, after `make gpu` on a machine that has one.

Where a GPU is listed nothing is skipped: a runtime that cannot use it fails, with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from opsef_bridge.engines import engine_names
from opsef_bridge.engines.devices import gpu_names

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu_names(), reason="no NVIDIA driver lists a GPU here"),
]

# One engine a process: TensorFlow and torch must not share one. The GPU comes first: where
# TensorFlow has begun on the CPU it does not see one any more.
BOTH = """
import json, sys
from pathlib import Path
from opsef_bridge.demo import example_data
from opsef_bridge.engines import LoadedEngine, engine_class, find_weights, resolve_device
from opsef_bridge.engines.store import convert
from opsef_bridge.images import read_image, segment_plane
from opsef_bridge.measure import match

name, runtime, folder = sys.argv[1:]
kind, weights = engine_class(name), find_weights(name, None)
if runtime == "tensorflow":
    weights = convert([weights.name], Path(folder), runtime="tensorflow")[0].weights
files = sorted((example_data() / "images").iterdir())
images = [segment_plane(read_image(file)) for file in files]
labels = {}
for device in ("cuda", "cpu"):
    loaded = LoadedEngine(kind(), weights, resolve_device(device, kind, weights))
    raws = [loaded.predict(image, kind.Predict()) for image in images]
    labels[device] = [kind().decode(raw, kind.Decode()) for raw in raws]
    assert (loaded.device, loaded.steps) == (device, [])
table = [match(a, b, (0.9,)).iloc[0] for a, b in zip(labels["cpu"], labels["cuda"])]
tp, fp, fn = (int(sum(row[key] for row in table)) for key in ("tp", "fp", "fn"))
print(json.dumps({"objects": tp + fn, "f1": 2 * tp / (2 * tp + fp + fn)}))
"""
CASES = [(name, "") for name in engine_names() if name != "watershed"]


@pytest.mark.parametrize(("name", "runtime"), [*CASES, ("stardist", "tensorflow")])
def test_the_gpu_finds_what_the_cpu_finds(name, runtime, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BOTH, name, runtime, str(tmp_path)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["objects"] > 100
    assert found["f1"] >= 0.99
