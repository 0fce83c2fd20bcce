"""The provider imagej2: its contract with a fake pyimagej, its macros in the real ImageJ 1.x.

No Fiji is here. What is a fake is called one: `FAKE_PYIMAGEJ` stands for the package pyimagej,
`fake_fiji` for the folder of a Fiji (its ``ij`` is the real archive, its glue is empty). Where
``OPSEF_FIJI_DIR`` names a real Fiji, `TestRealFiji` asks that.
"""

from __future__ import annotations

import os
import re
import shutil

import numpy as np
import pytest
from skimage.data import coins

from opsef_bridge.errors import InputError, NotFoundError, WorkerError
from opsef_bridge.files import file_sha256
from opsef_bridge.imagej import find_jar, imagej2, run_macro, run_plugin, worker
from opsef_bridge.preprocess.steps import median

from .conftest import missing

BASE = "imagej-2.17.0+imagej-legacy-2.0.3+ij-1.54p"
"""What `fake_fiji` is."""

IMAGE = coins()[100:160, 60:140]
REAL = os.environ.get(imagej2.VARIABLE)

FAKE_PYIMAGEJ = """
# Not pyimagej: a fake that behaves as the real one was seen to.
import os, sys
from scyjava import jvm_started

def init(*given, mode):
    assert jvm_started() and not given and mode == "headless"
    what = os.environ["FAKE_PYIMAGEJ"]
    if what == "no ImageJ2":
        return False
    if what == "unbound":
        raise UnboundLocalError("cannot access local variable 'major_version'")
    return Gateway(what == "legacy")

class Gateway:
    def __init__(self, active):
        self.legacy = self if active else None
    def isActive(self):
        return True
"""


@pytest.fixture
def fake_fiji(tmp_path, monkeypatch):
    """A folder that looks like a Fiji; the real ImageJ 1.x is in it."""
    folder = tmp_path / "Fiji mit Ümlaut"
    (folder / "jars" / "bio-formats").mkdir(parents=True)
    (folder / "plugins").mkdir()
    try:
        shutil.copy(find_jar("ij"), folder / "jars")
    except NotFoundError as error:
        missing(str(error))
    for jar in ("imagej-2.17.0.jar", "imagej-legacy-2.0.3.jar", "imglib2-imglyb-1.1.0.jar"):
        (folder / "jars" / jar).touch()
    monkeypatch.setenv(imagej2.VARIABLE, str(folder))
    return folder


class TestFolder:
    def test_none_is_named(self, monkeypatch):
        monkeypatch.delenv(imagej2.VARIABLE, raising=False)
        for asked in (
            lambda: run_macro(IMAGE, "run('Invert');"),
            lambda: worker.provider("imagej2"),
            lambda: worker.engine_name("imagej2"),
        ):
            with pytest.raises(NotFoundError, match=r"OPSEF_FIJI_DIR names none\. Set OPSEF_FIJI"):
                asked()

    @pytest.mark.parametrize("part", ["jars", "plugins"])
    def test_it_lacks_a_folder(self, fake_fiji, part):
        shutil.rmtree(fake_fiji / part)
        with pytest.raises(NotFoundError, match=f"no folder {part}"):
            imagej2.fiji_folder()

    def test_it_lacks_imagej(self, fake_fiji):
        (fake_fiji / "jars" / "ij-1.54p.jar").unlink()
        with pytest.raises(NotFoundError, match=r"no ij-\*.jar"):
            imagej2.fiji_folder()

    def test_its_engine_is_named_after_its_archives(self, fake_fiji):
        assert imagej2.fiji_folder() == fake_fiji
        assert worker.engine_name("imagej2") == BASE
        assert worker.engine_name("imagej2", "clahe_fiji") == BASE, "it has no such plugin"

    def test_the_archives_of_a_preset_are_told(self, fake_fiji):
        for name in ("plugins/mpicbg_-1.6.0.jar", "jars/mpicbg-1.6.0.jar", "plugins/x-1.jar"):
            (fake_fiji / name).write_bytes(b"1")
        assert worker.engine_name("imagej2", "clahe_fiji") == f"{BASE}+mpicbg-1.6.0+mpicbg_-1.6.0"
        deconvolution = "colour_deconvolution_fiji"
        assert worker.engine_name("imagej2", deconvolution) == BASE
        plugin = fake_fiji / "plugins" / "Colour" / "Colour_Deconvolution.jar"
        plugin.parent.mkdir()
        plugin.write_bytes(b"3.0.3")
        told = worker.engine_name("imagej2", deconvolution)
        assert told == f"{BASE}+Colour_Deconvolution-{file_sha256(plugin)[:8]}"
        (fake_fiji / "plugins" / "mpicbg_-1.6.0.jar").rename(
            fake_fiji / "plugins" / "mpicbg_-1.7.0.jar"
        )
        assert worker.engine_name("imagej2", "clahe_fiji").endswith("+mpicbg_-1.7.0")

    @pytest.mark.parametrize("plugin", ["macro", "command"])
    def test_a_macro_may_use_all_that_there_is(self, fake_fiji, tmp_path, monkeypatch, plugin):
        def told():
            return worker.engine_name("imagej2", plugin)

        seen = [told()]
        assert re.fullmatch(re.escape(BASE) + r"\+files-[0-9a-f]{8}", seen[0])
        for name, size in (("plugins/a.jar", 3), ("macros/a.ijm", 4), ("plugins/b/c.class", 5)):
            file = fake_fiji / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(bytes(size))
            assert told() not in seen
            seen.append(told())
        for name in ("plugins/OpSeF/Jobs.py", "jars/Lib/opsef_fiji/a.py", "plugins/b/x$py.class"):
            (fake_fiji / name).parent.mkdir(exist_ok=True, parents=True)
            (fake_fiji / name).write_bytes(b"ours, or written by Jython")
            assert told() == seen[-1]
        copied = shutil.copytree(fake_fiji, tmp_path / "elsewhere")
        monkeypatch.setenv(imagej2.VARIABLE, str(copied))
        assert told() == seen[-1]

    def test_all_its_archives_are_on_the_class_path(self, fake_fiji):
        more = [fake_fiji / "jars/bio-formats/a.jar", fake_fiji / "plugins/CLAHE_.jar"]
        for jar in more:
            jar.touch()
        (fake_fiji / "jars/notes.txt").touch()
        found = imagej2.class_path(fake_fiji)
        assert {*more, fake_fiji / "jars/ij-1.54p.jar"} <= set(found)
        assert all(path.suffix == ".jar" for path in found)

    def test_the_glue_may_lie_beside_the_pinned_archives(self, fake_fiji, tmp_path, monkeypatch):
        (fake_fiji / "jars" / "imglib2-imglyb-1.1.0.jar").unlink()
        brought = tmp_path / "imglib2-imglyb-1.1.0.jar"
        monkeypatch.setenv("OPSEF_JARS", str(tmp_path))
        with pytest.raises(NotFoundError, match=r"imglib2-imglyb-\*.jar is neither in .*Bring"):
            imagej2.class_path(fake_fiji)
        brought.touch()
        assert imagej2.class_path(fake_fiji)[-1] == brought

    @pytest.mark.parametrize(("version", "will_do"), [("21.0.7", True), ("1.8.0_322", False)])
    def test_its_own_java_is_taken_if_it_is_new_enough(self, fake_fiji, version, will_do):
        assert imagej2.java_home(fake_fiji) is None
        home = fake_fiji / "java/linux64/jdk"
        home.mkdir(parents=True)
        (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
        assert imagej2.java_home(fake_fiji) == (home if will_do else None)


class TestMacros:
    def test_of_a_command(self):
        given = {"command": 'Say "a\\b"...', "options": "x=1"}
        assert imagej2.macro_of("command", given) == 'run("Say \\"a\\\\b\\"...", "x=1");'

    def test_of_the_presets(self):
        clahe = {"block": 63, "bins": 256, "slope": 3.0, "fast": True}
        assert imagej2.macro_of("clahe_fiji", clahe) == (
            'run("Enhance Local Contrast (CLAHE)", '
            '"blocksize=63 histogram=256 maximum=3 mask=*None* fast_(less_accurate)");'
        )
        stain = imagej2.macro_of("colour_deconvolution_fiji", {"vectors": "H DAB", "stain": 2})
        assert '"vectors=[H DAB] hide"' in stain and '"-(Colour_2)"' in stain

    @pytest.mark.parametrize(
        "image", [IMAGE, np.zeros((4, 5, 3), np.uint16), np.zeros((4, 5, 4), np.uint8)]
    )
    def test_colours_are_needed(self, image):
        with pytest.raises(InputError, match="YXS, uint8, three samples"):
            run_plugin(image, "colour_deconvolution_fiji")


@pytest.fixture
def fake_pyimagej(fake_fiji, tmp_path, monkeypatch, imagej_worker):
    """Put the fake before pyimagej; the Java machine and ImageJ 1.x are real."""
    (tmp_path / "imagej.py").write_text(FAKE_PYIMAGEJ)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    yield lambda what: monkeypatch.setenv("FAKE_PYIMAGEJ", what)
    worker.close()


class TestContractWithAFakePyimagej:
    def test_that_finds_no_imagej2(self, fake_pyimagej):
        fake_pyimagej("no ImageJ2")
        with pytest.raises(WorkerError, match=r"pyimagej finds no ImageJ2 in .*Ümlaut"):
            worker.provider("imagej2")

    def test_that_has_a_bug(self, fake_pyimagej):
        fake_pyimagej("unbound")
        with pytest.raises(WorkerError, match=r"\(UnboundLocalError: .*major_version"):
            run_macro(IMAGE, "run('Invert');")

    def test_without_imagej_1(self, fake_pyimagej):
        fake_pyimagej("no legacy")
        with pytest.raises(WorkerError, match=r"cannot run ImageJ 1.x commands"):
            worker.provider("imagej2")

    def test_without_the_glue_nothing_is_fetched(self, fake_pyimagej, fake_fiji):
        fake_pyimagej("legacy")
        (fake_fiji / "jars" / "imglib2-imglyb-1.1.0.jar").unlink()
        with pytest.raises(NotFoundError, match=r"imglib2-imglyb-\*.jar is neither in"):
            worker.provider("imagej2")

    def test_that_works(self, fake_pyimagej, fake_fiji):
        fake_pyimagej("legacy")
        told = worker.provider("imagej2")
        assert (told["engine"], told["path"]) == (BASE, str(fake_fiji))
        # A macro without commands runs in the ImageJ 1.x that is in the folder; one with
        # commands needs ImageJ2's changes, and fails without them. Both say what they did.
        changed = run_macro(IMAGE, "setPixel(3, 2, 77);")
        expected = IMAGE.copy()
        expected[2, 3] = 77
        np.testing.assert_array_equal(changed, expected)
        with pytest.raises(WorkerError, match=r"macro failed: .*HeadlessException"):
            run_macro(IMAGE, 'run("Median...", "radius=2");')
        with pytest.raises(WorkerError, match=r"macro failed: .*[Uu]nrecognized command"):
            run_macro(IMAGE, 'run("Median...", "radius=2");')
        with pytest.raises(InputError, match=r"of \(5, 7\) pixels.*keeps the size"):
            run_macro(IMAGE, 'newImage("a", "8-bit ramp", 7, 5, 1);')
        with pytest.raises(InputError, match="colour image"):
            run_macro(IMAGE, f'newImage("a", "RGB ramp", {IMAGE.shape[1]}, {IMAGE.shape[0]}, 1);')
        with pytest.raises(WorkerError, match="left no image"):
            run_macro(IMAGE, "close();")
        with pytest.raises(WorkerError, match="macro failed"):
            run_macro(IMAGE, "nonsense((;")
        colours = np.stack([IMAGE, IMAGE // 2, IMAGE // 3], axis=-1)
        bright = run_macro(colours, IN_GREY, colour=True)
        np.testing.assert_array_equal(bright, colours[..., 1])
        below = IMAGE.astype(np.int16) - 99
        np.testing.assert_array_equal(run_macro(below, "x = 1;"), below)


IN_GREY = """
w = getWidth(); h = getHeight(); green = newArray(w * h);
for (i = 0; i < w * h; i++) green[i] = (getPixel(i % w, floor(i / w)) >> 8) & 0xff;
newImage("green", "8-bit black", w, h, 1);
for (i = 0; i < w * h; i++) setPixel(i % w, floor(i / w), green[i]);
"""


IN_WINDOW = """
from opsef_bridge.imagej import imagej2
image = inputs["image"]
outputs["median"] = imagej2.run_macro(image, 'run("Median...", "radius=2");')
outputs["wide"] = imagej2.run_macro(image, 'run("32-bit"); run("Add...", "value=0.25");')
outputs["other"] = imagej2.run_macro(image, 'run("Duplicate...", "title=b"); run("Invert");')
said = []
for macro in ('run("No Such Command");', 'exit("stop here");', 'run("Median...", "radius=abc");'):
    try:
        imagej2.run_macro(image, macro)
        said.append("nothing")
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
outputs["said"] = np.array(said)
"""


def test_macros_and_commands_in_the_real_imagej(in_imagej, display):
    """With a display: without one they need ImageJ2, which is not here."""
    found = in_imagej(IN_WINDOW, headless=False, image=IMAGE)
    np.testing.assert_array_equal(found["median"], median(IMAGE, radius=2))
    np.testing.assert_array_equal(found["wide"], IMAGE.astype(np.float32) + np.float32(0.25))
    np.testing.assert_array_equal(found["other"], 255 - IMAGE)
    assert 'Unrecognized command: "No Such Command"' in found["said"][0]
    assert all(one.startswith("WorkerError") for one in found["said"]), found["said"]


@pytest.mark.skipif(not REAL, reason=f"{imagej2.VARIABLE} names no Fiji")
class TestRealFiji:
    @pytest.fixture(autouse=True, scope="class")
    def closed(self):
        yield
        worker.close()

    def test_it_starts(self):
        told = worker.provider("imagej2")
        assert told["engine"] == worker.engine_name("imagej2")

    def test_a_command(self):
        found = run_plugin(IMAGE, "command", command="Median...", options="radius=2")
        np.testing.assert_array_equal(found, median(IMAGE, radius=2))

    def test_an_unknown_command_is_an_error(self):
        with pytest.raises(WorkerError, match="No Such Command"):
            run_macro(IMAGE, 'run("No Such Command");')

    def test_clahe(self):
        found = run_plugin(IMAGE, "clahe_fiji", block=31)
        assert found.dtype == np.uint8 and found.std() > IMAGE.std()

    def test_colour_deconvolution(self):
        colours = np.full((20, 30, 3), 255, np.uint8)
        colours[5:15, 5:15] = (120, 60, 150)
        found = run_plugin(colours, "colour_deconvolution_fiji", vectors="H&E", stain=1)
        assert found[10, 10] < found[1, 1]
