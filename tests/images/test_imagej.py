"""What real ImageJ 1.54p makes of our files. One JVM, in a process of its own."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from opsef_bridge.images import label_lut, write_hyperstack, write_labels

pytest.importorskip("scyjava", reason="scyjava (extra: imagej) is not installed")

SCRIPT = """
import json, sys
import numpy as np
import scyjava
scyjava.config.set_java_constraints(fetch="never")
scyjava.config.endpoints.append("net.imagej:ij:1.54p")
scyjava.config.add_option("-Djava.awt.headless=true")
try:
    scyjava.start_jvm()
except Exception as error:
    print(json.dumps({"skip": repr(error)}))
    sys.exit()
IJ = scyjava.jimport("ij.IJ")
found = {}
for path in sys.argv[1:]:
    image = IJ.openImage(path)
    size, stack = image.getCalibration(), image.getStack()
    planes = [np.asarray(stack.getPixels(i + 1)) for i in range(stack.size())]
    image.setPosition(1, 1, 1)
    found[path] = {
        "dimensions": [int(n) for n in image.getDimensions()],
        "hyperstack": bool(image.isHyperStack()),
        "pixel": [size.pixelWidth, size.pixelHeight, size.pixelDepth],
        "unit": str(size.getUnit()),
        "interval": [float(size.frameInterval), str(size.getTimeUnit()), float(size.fps)],
        "labels": [str(stack.getSliceLabel(i + 1)) for i in range(stack.size())],
        "sums": [float(p.view("u2" if p.dtype.itemsize == 2 else p.dtype).sum()) for p in planes],
        "range": [image.getDisplayRangeMin(), image.getDisplayRangeMax()],
        "lut": np.asarray(image.getProcessor().getLut().getBytes()).view("u1").tolist(),
        "luts": [np.asarray(lut.getBytes()).view("u1").tolist() for lut in image.getLuts()],
        "info": str(image.getInfoProperty()),
    }
print(json.dumps(found))
"""

STACK = np.random.default_rng(0).integers(0, 60000, (2, 3, 2, 20, 30)).astype(np.uint16)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    if shutil.which("java") is None:
        pytest.skip("there is no java")
    folder = tmp_path_factory.mktemp("imagej")
    planes = STACK.reshape(-1, 20, 30)
    write_hyperstack(
        folder / "stack.tif",
        STACK.transpose(2, 0, 1, 3, 4),
        "CTZYX",
        (2, 0.5, 0.25),
        [f"#{i} v{i:04d}" for i in range(len(planes))],
        [(10, 1000), (20, 2000)],
        "id,score\nv0001,0.9",
        luts=[label_lut(), label_lut()[::-1]],
        time_step=2.5,
    )
    labels = np.zeros((3, 20, 30), int)
    labels[:, 2:9, 2:9], labels[1:, 12:19, 12:19] = 1, 60000
    write_labels(folder / "volume.tif", labels, (2, 0.5, 0.25))
    write_labels(folder / "plane.tif", labels[1], 0.5)
    write_labels(folder / "many.tif", labels * 20, 0.5)
    names = ("stack", "volume", "plane", "many")
    paths = [str(folder / f"{name}.tif") for name in names]
    command = [sys.executable, "-c", SCRIPT, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    if "skip" in found:
        pytest.skip(f"ij 1.54p could not be fetched: {found['skip']}")
    return {name: found[path] for name, path in zip(names, paths, strict=True)}, labels


def test_a_hyperstack(opened):
    found = opened[0]["stack"]
    assert found["dimensions"] == [30, 20, 2, 3, 2] and found["hyperstack"]
    assert found["pixel"] == [0.25, 0.5, 2] and found["unit"] == "µm"
    assert found["interval"] == [2.5, "sec", 0.4]
    assert found["labels"] == [f"#{i} v{i:04d}" for i in range(12)]
    assert found["sums"] == STACK.reshape(12, -1).sum(1, dtype=float).tolist()
    assert found["range"] == [10, 1000]
    assert found["luts"] == [label_lut().ravel().tolist(), label_lut()[::-1].ravel().tolist()]
    assert found["info"].strip() == "id,score\nv0001,0.9"


@pytest.mark.parametrize(("name", "depth"), [("volume", 3), ("plane", 1), ("many", 3)])
def test_label_files_have_ids_colours_and_calibration(opened, name, depth):
    found, labels = opened[0][name], opened[1]
    expected = {"volume": labels, "plane": labels[1:2], "many": labels * 20}[name]
    assert found["dimensions"] == [30, 20, 1, depth, 1]
    assert found["sums"] == expected.reshape(depth, -1).sum(1).tolist()
    assert found["lut"] == label_lut().ravel().tolist()
    assert found["range"] == [0, 255] and found["unit"] == "µm"
    if name == "volume":
        assert found["pixel"] == [0.25, 0.5, 2]
