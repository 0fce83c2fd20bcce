"""The round trip through a real AnnotatorJ, if you have one: ``OPSEF_ANNOTATORJ_JAR``.

Set it to AnnotatorJ's jar, to a folder of jars, or to several of both joined as in a PATH, with
the jars that it depends on. AnnotatorJ is GPL-3 and no part of this project, so it is never
downloaded. A display is needed; Xvfb will do and is started where it is installed.

**These round trips were never run against the real program by this repository's CI**, and the
driver (``annotatorj_driver.py``) was not tried on it: it is written from the names in
AnnotatorJ's source, and was tried on 2026-11-22 on a stand-in of our own with the same windows,
buttons and methods. The facts behind it, and the files in ``tests/data/annotatorj``, come from
the real program by another driver: the snapshot of 2020-12-04 on ImageJ 1.54p and Java 17, on
2026-11-21 and 22. Other versions may have other names; then the driver says which one it
misses. What does not need AnnotatorJ is tested below.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.imagej.jars import find_jar
from opsef_bridge.images import write_hyperstack
from opsef_bridge.rois import Objects
from opsef_bridge.rois.annotatorj import find_annotations, read_annotation, write_annotation
from opsef_bridge.rois.run_folder import Item, read_run_folder, write_run_folder

JAR = os.environ.get("OPSEF_ANNOTATORJ_JAR", "")
DRIVER = Path(__file__).with_name("annotatorj_driver.py")
needs_jar = pytest.mark.skipif(not JAR, reason="OPSEF_ANNOTATORJ_JAR is not set")


def load_driver():
    """Return the driver as a module."""
    spec = importlib.util.spec_from_file_location("annotatorj_driver", DRIVER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drive(jars: str, work: Path, *job: object, timeout: float = 400) -> str:
    """Run the driver in a process of its own; return what it says if it fails."""
    command = [sys.executable, str(DRIVER), jars, str(work), *map(str, job)]
    done = subprocess.run(command, timeout=timeout, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr[-4000:]
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture
def objects() -> Objects:
    """Objects with a gap in their ids, a hole, two parts, a diagonal neck; at the border."""
    labels = np.zeros((64, 80), np.int32)
    labels[0:9, 0:9] = 2
    labels[20:34, 5:20] = 3
    labels[24:28, 9:14] = 0
    labels[40:45, 40:45] = labels[45:50, 45:50] = 7
    labels[10:14, 60:64] = labels[30:33, 70:80] = 8
    labels[63, 79] = 12
    return Objects(labels, {2: 1, 7: 2, 8: 5})


def picture(objects: Objects) -> np.ndarray:
    return (objects.labels % 2 * 100 + 50).astype(np.uint8)


@needs_jar
@pytest.mark.parametrize("classes", [True, False])
def test_load_and_save(classes, objects, display, tmp_path):
    if not classes:
        objects = Objects(objects.labels)
    write_hyperstack(tmp_path / "cells.tif", picture(objects), "YX")
    path = write_annotation(tmp_path, "normal", "cells", objects)
    before = path.read_bytes()
    said = drive(JAR, tmp_path / "work", "zips", tmp_path / "cells.tif", path)
    assert said == ""
    ((folder, stem, saved),) = find_annotations(tmp_path)
    assert (folder, stem) == ("masks" if classes else "normal", "cells")
    assert saved.read_bytes() != before, "AnnotatorJ saved nothing"
    back, notes, _ = read_annotation(saved, objects.labels.shape)
    assert notes.lines() == []
    assert back.same_as(objects)


@needs_jar
def test_import_and_export(objects, display, tmp_path):
    flipped = Objects(objects.labels[:, ::-1].copy(), {2: 1, 3: 2, 12: 3})
    items = [Item("i00001-a", picture(objects), objects, {"image": "i00001-a"})]
    items += [Item("i00002-b", picture(flipped), flipped, {"image": "i00002-b"})]
    written = write_run_folder(tmp_path / "run", items, name="run")
    said = drive(JAR, tmp_path / "work", "opsef", written.lists[0])
    assert said == ""
    returned, said = read_run_folder(tmp_path / "run")
    assert said == []
    assert [one.how for one in returned] == ["mask", "mask"]
    for one, item in zip(returned, items, strict=True):
        assert one.key == item.key
        assert one.differences == []
        assert one.objects.same_as(item.objects)


# --- the driver, without AnnotatorJ


def fake_jar(path: Path, *entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for entry in entries:
            archive.writestr(entry, b"")
    return path


def test_jars_are_found_in_files_folders_and_lists(tmp_path):
    driver = load_driver()
    (tmp_path / "lib" / "deep").mkdir(parents=True)
    main = "org/biomag/annotatorProject/Annotator_MainFrameNew.class"
    jar = fake_jar(tmp_path / "AnnotatorJ.jar", main)
    one = fake_jar(tmp_path / "lib" / "a.jar", "a.class")
    two = fake_jar(tmp_path / "lib" / "deep" / "b.jar", "b.class")
    assert driver.jars_of(str(jar)) == [jar]
    assert driver.jars_of(os.pathsep.join([str(jar), "", str(tmp_path / "lib")])) == [jar, one, two]
    assert driver.jars_of(str(tmp_path)) == [jar, one, two]
    for wrong in ("", str(tmp_path / "lib"), str(one)):
        with pytest.raises(driver.Failed, match="no AnnotatorJ that is known"):
            driver.jars_of(wrong)
    for missing in (tmp_path / "none.jar", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(driver.Failed, match="no jar at"):
            driver.jars_of(os.pathsep.join([str(jar), str(missing)]))
    (tmp_path / "torn.jar").write_bytes(jar.read_bytes()[:20])
    with pytest.raises(driver.Failed, match="is no jar"):
        driver.jars_of(str(tmp_path / "torn.jar"))


def test_another_jar_is_refused(tmp_path):
    said = drive(str(find_jar("ij")), tmp_path, "opsef", tmp_path / "list.txt", timeout=60)
    assert "no AnnotatorJ that is known" in said


def test_a_jar_that_only_looks_like_annotatorj_is_refused(in_imagej, display, tmp_path):
    in_imagej("")  # skips where there is no ImageJ
    names = ("Annotator_MainFrameNew", "ImportOpSef")
    jar = fake_jar(
        tmp_path / "x.jar", *(f"org/biomag/annotatorProject/{name}.class" for name in names)
    )
    said = drive(str(jar), tmp_path / "work", "opsef", tmp_path / "list.txt", timeout=100)
    assert "class ImportOpSef cannot be loaded" in said


DIALOGS = """
sys.path.insert(0, str(inputs["tests"]))
import annotatorj_driver as driver
from pathlib import Path
from scyjava import jimport
import jpype
driver.settings(Path("work"))
jimport("java.lang.System").setProperty("plugins.dir", os.path.abspath("work"))
ImageJ, IJ = jimport("ij.ImageJ"), jimport("ij.IJ")
ImageJ(ImageJ.EMBEDDED)
outputs["plugins"] = np.array(str(IJ.getDirectory("plugins")))
OpenDialog, Pane = jimport("ij.io.OpenDialog"), jimport("javax.swing.JOptionPane")
Text = jpype.JArray(jpype.JObject)

def opened():
    return str(OpenDialog("Select the FilePairList text file", "here", "list.txt").getPath())

def opened_plainly():
    return str(OpenDialog("Select an annotation (ROI) .zip file", None).getPath())

def asked(title):
    buttons = Text(["Yes", "Rename new", "Cancel"])
    return int(Pane.showOptionDialog(None, "Overwrite?", title, 1, 3, None, buttons, buttons[1]))

def waits():
    lock = jimport("java.lang.Object")()
    with jpype.synchronized(lock):
        lock.wait()

def failure(call, **more):
    try:
        driver.watched("a step", call, **more)
    except driver.Failed as error:
        return np.array(str(error))

chosen = Path("a folder") / "list.txt"
outputs["chosen"] = np.array([driver.watched("o", call, choose=chosen)
                              for call in (opened, opened_plainly)])
outputs["pressed"] = np.array(driver.watched("s", lambda: asked("Confirm overwrite")))
outputs["raised"] = failure(lambda: jimport("java.lang.Integer").parseInt("0007-0003"))
outputs["late"] = failure(waits, timeout=0.5)
outputs["strange"] = failure(lambda: asked("Multiple instances found"))
"""


def test_dialogs_are_answered_and_nothing_hangs(in_imagej, display, tmp_path):
    """With ImageJ's and Swing's own dialogs."""
    found = in_imagej(DIALOGS, headless=False, tests=np.array(str(DRIVER.parent)))
    assert found["plugins"].item().startswith(str(tmp_path / "work" / "plugins"))
    assert found["chosen"].tolist() == [str(Path("a folder") / "list.txt")] * 2
    assert found["pressed"] == 0
    assert "0007-0003" in found["raised"].item()
    assert "a step: not done after 0.5 s" in found["late"].item()
    assert "'Multiple instances found' opened" in found["strange"].item()
    assert "Rename new" in found["strange"].item()
