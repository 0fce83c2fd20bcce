"""Every engine on a real GPU: `pytest -m gpu`, after `make gpu` on a machine that has one."""

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

# One engine a process: TensorFlow and torch must not share one.
BOTH = """
import json, sys
from opsef_bridge.demo import example_data
from opsef_bridge.engines import LoadedEngine, engine_class, find_weights, resolve_device
from opsef_bridge.images import read_image, segment_plane
from opsef_bridge.measure import match

name = sys.argv[1]
kind = engine_class(name)
if not kind.needs_weights or "cuda" not in getattr(kind, "devices", lambda: ("cpu",))():
    print(json.dumps({"skip": f"the runtime of {name} cannot use the GPU"}))
    raise SystemExit
files = sorted((example_data() / "images").iterdir())
images = [segment_plane(read_image(file)) for file in files]
weights = find_weights(name, None)
labels = {}
for device in ("cpu", "cuda"):
    loaded = LoadedEngine(kind(), weights, resolve_device(device, kind))
    raws = [loaded.predict(image, kind.Predict()) for image in images]
    labels[device] = [kind().decode(raw, kind.Decode()) for raw in raws]
    assert (loaded.device, loaded.steps) == (device, [])
table = [match(a, b, (0.9,)).iloc[0] for a, b in zip(labels["cpu"], labels["cuda"])]
tp, fp, fn = (int(sum(row[key] for row in table)) for key in ("tp", "fp", "fn"))
print(json.dumps({"objects": tp + fn, "f1": 2 * tp / (2 * tp + fp + fn)}))
"""


@pytest.mark.parametrize("name", [n for n in engine_names() if n != "watershed"])
def test_the_gpu_finds_what_the_cpu_finds(name):
    done = subprocess.run(
        [sys.executable, "-c", BOTH, name], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    if "skip" in found:
        pytest.skip(found["skip"])
    assert found["objects"] > 100
    assert found["f1"] >= 0.99
