"""An engine in another interpreter, which knows nothing of this package.

The other environment is a virtual environment made here, without pip, and so without a
network. Its appose, numpy and scipy are links to those of this environment; it has its own
interpreter path and site-packages, and no opsef_bridge.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from opsef_bridge.demo import example_data
from opsef_bridge.engines import Weights, engine_class, engine_names, registry
from opsef_bridge.engines.external import describe, external_class
from opsef_bridge.engines.registry import use_engine
from opsef_bridge.errors import InputError, ProjectError, WorkerError
from opsef_bridge.files import read_json, write_json
from opsef_bridge.images import read_image
from opsef_bridge.project import Project
from opsef_bridge.testing.engines import EngineSuite
from opsef_bridge.workers import shared_arrays
from opsef_bridge.workers.shared_arrays import MEMORY

MODULE = """
import os, sys, time
import numpy as np
from scipy import ndimage

def value(default, **more):
    return {"type": type(default).__name__, "default": default, **more}

class Bright:
    def __init__(self):
        self.weights = None

    def parameters(self):
        return {
            "version": os.environ.get("FAR_VERSION", "1"), "axes": ["YX"], "needs_weights": False,
            "predict": {"blur": value(1.0, ge=0, le=50, description="Sigma in px.")},
            "decode": {"threshold": value(0.5, gt=0, lt=1), "fault": value("none",
                choices=["none", "raises", "dies", "float", "text", "opsef", "sleeps"])},
        }

    def load(self, weights, device):
        print("loading", weights, "on", device)
        self.weights = weights

    def predict(self, image, parameters, reference):
        low, high = np.percentile(reference, (1, 99.8))
        if not high > low:
            low, high = float(reference.min()), float(reference.max())
        span = high - low if high > low else 1.0
        plane = np.clip((image - low) / span, -0.2, 4) if high > low else 0 * image
        return {"plane": ndimage.gaussian_filter(plane, parameters["blur"]), "span": span}

    def decode(self, raw, parameters):
        fault = parameters["fault"]
        if fault == "raises":
            raise RuntimeError("told to fail")
        if fault == "dies":
            print("last words", file=sys.stderr)
            os._exit(3)
        if fault == "opsef":
            import opsef_bridge
        if fault == "sleeps":
            time.sleep(4)
        if fault == "text":
            return np.array(["a", "b"])
        labels = ndimage.label(raw["plane"] > parameters["threshold"])[0]
        return labels + 0.5 if fault == "float" else labels

class Odd:
    def parameters(self):
        return {"version": "1", "axes": ["XY"], "predict": {}, "decode": {}}
"""

TARGET = "far_engine:Bright"


@pytest.fixture(scope="session")
def far_python(tmp_path_factory) -> str:
    """The interpreter of a virtual environment with appose, numpy, scipy and the engine."""
    folder = tmp_path_factory.mktemp("far")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    site = Path(asked.stdout.strip())
    for package in ("appose", "numpy", "scipy"):
        spec = importlib.util.find_spec(package)
        here = Path(spec.origin).parent
        for source in (here, *here.parent.glob(f"{package}[.-]*")):  # its libraries and metadata
            (site / source.name).symlink_to(source)
    (site / "far_engine.py").write_text(MODULE)
    has = "import importlib.util as u; print(bool(u.find_spec('opsef_bridge')))"
    asked = subprocess.run(
        [python, "-c", has], capture_output=True, text=True, check=True, cwd=folder
    )
    assert asked.stdout.strip() == "False"
    return str(python)


@pytest.fixture(scope="session")
def bright(far_python):
    entry = {"python": far_python, "target": TARGET, "parameters": describe(far_python, TARGET)}
    return external_class("bright", entry)


@pytest.fixture
def added() -> Iterator[None]:
    """Engines that a test adds are forgotten after it."""
    before = dict(registry._ADDED)
    yield
    registry._ADDED.clear()
    registry._ADDED.update(before)
    engine_class.cache_clear()


class TestSuite(EngineSuite):
    @pytest.fixture
    def engine(self, bright):
        return bright()


def test_it_is_described_by_the_other_side(bright):
    assert (bright.name, bright.version, bright.axes) == ("bright", "1", frozenset({"YX"}))
    assert list(bright.Predict.model_fields) == ["scale", "blur"]
    assert bright.Predict.model_fields["blur"].description == "Sigma in px."
    assert bright.Decode().model_dump() == {"threshold": 0.5, "fault": "none"}


def picture() -> np.ndarray:
    return read_image(example_data() / "images" / "small_fadeb0ab0928.png").data[:96, :112]


def test_the_log_has_what_it_prints(bright, capfd):
    engine = bright()
    engine.load(Weights("x", "bright", Path("x.pt"), "ab"), "cuda")
    out, err = capfd.readouterr()
    assert out == "" and "on cuda" in err and str(Path("x.pt").resolve()) in err
    bright().predict(picture(), bright.Predict())
    assert "loading None on cpu" in capfd.readouterr().err, "each engine has its own weights"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raises", "failed in decode: RuntimeError: told to fail"),
        ("dies", r"ended in decode \(last words\)"),
        ("float", "returned float64 of shape"),
        ("text", "labels is an array of <U1, not of real numbers"),
        ("opsef", "No module named 'opsef_bridge'"),
    ],
)
def test_what_goes_wrong_there_is_an_error_here_and_the_next_call_works(bright, fault, words):
    engine = bright()
    raw = engine.predict(picture(), engine.Predict())
    with pytest.raises(WorkerError, match=words) as caught:
        engine.decode(raw, engine.Decode(fault=fault))
    assert caught.value.hint
    assert not shared(os.getpid()), "nothing is left of a call that failed"
    assert engine.decode(raw, engine.Decode()).max() > 2


def shared(pid: int) -> list[Path]:
    """The shared memory that a process has made."""
    return list(MEMORY.glob(f"opsef_{pid}_*"))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def waited_for(what, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(what())


NEAR = """
import sys
from opsef_bridge.engines.external import describe, external_class
import numpy as np
python, target = sys.argv[1:]
kind = external_class("far", {
    "python": python, "target": target, "parameters": describe(python, target)})
raw = kind().predict(np.eye(300), kind.Predict())
print(kind.far._service._process.pid, flush=True)
kind().decode(raw, kind.Decode(fault="sleeps"))
"""


@pytest.mark.skipif(not MEMORY.is_dir(), reason=f"{MEMORY} is not there")
def test_nothing_is_left_where_this_side_is_killed(far_python):
    near = subprocess.Popen(
        [sys.executable, "-c", NEAR, far_python, TARGET],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    far = int(near.stdout.readline())
    assert waited_for(lambda: shared(near.pid)), "an array lies there while the call lasts"
    near.kill()
    near.communicate()
    assert waited_for(lambda: not shared(near.pid)), "memory is left"
    assert waited_for(lambda: not alive(far)), "the other process goes on"


def test_without_shared_memory_files_carry_arrays(bright, monkeypatch, tmp_path):
    engine = bright()
    raw = engine.predict(picture(), engine.Predict())
    expected = engine.decode(raw, engine.Decode())

    def none(size: int):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared_arrays, "_segment", none)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    again = engine.predict(picture(), engine.Predict(), reference=picture() * 1)
    np.testing.assert_array_equal(again.maps["plane"], raw.maps["plane"])
    np.testing.assert_array_equal(engine.decode(again, engine.Decode()), expected)
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_normalised_by_the_whole_there(bright):
    engine, whole = bright(), picture()
    part = whole[:40, :50]
    raw = engine.predict(part, engine.Predict(), reference=whole)
    expected = engine.predict(whole, engine.Predict())
    assert raw.values["span"] == expected.values["span"]
    assert raw.values["span"] != engine.predict(part, engine.Predict()).values["span"]


def test_an_engine_that_changed_must_be_added_again(bright, monkeypatch):
    engine = bright()
    with pytest.raises(WorkerError):
        engine.decode(engine.predict(picture(), engine.Predict()), engine.Decode(fault="dies"))
    monkeypatch.setenv("FAR_VERSION", "2")
    with pytest.raises(WorkerError, match=r"has changed.*opsef engines add bright"):
        engine.load(Weights("", "bright"))
    monkeypatch.delenv("FAR_VERSION")
    bright.far._service.kill()


@pytest.mark.parametrize(
    ("python", "target", "error", "words"),
    [
        ("python3", TARGET, InputError, "no absolute path"),
        ("/no/such/python", TARGET, InputError, "no absolute path"),
        ("{}", "far_engine", InputError, "no module:Class"),
        ("{}", "far_engine:Bright; print(1)", InputError, "no module:Class"),
        ("{}", "far_engine:None_such", WorkerError, "AttributeError"),
        ("{}", "no_such_module:X", WorkerError, "No module named 'no_such_module'"),
        ("{}", "far_engine:Odd", InputError, "does not describe an engine.*axes"),
        ("/bin/true", TARGET, WorkerError, "ended in parameters"),
    ],
)
def test_what_cannot_be_added(far_python, python, target, error, words):
    with pytest.raises(error, match=words) as caught:
        describe(python.format(far_python), target)
    assert caught.value.hint


# The example for Cellpose 4, without Cellpose 4.

SAM = "cpsam_engine:CellposeSAM"


@pytest.fixture(scope="session")
def sam(far_python):
    example = Path(__file__).parents[2] / "examples" / "cellpose_sam" / "cpsam_engine.py"
    [site] = Path(far_python).parents[1].glob("lib/python*/site-packages")
    (site / example.name).symlink_to(example)
    told = describe(far_python, SAM)
    return external_class("cpsam", {"python": far_python, "target": SAM, "parameters": told})


def test_cellpose_4_says_what_it_is_without_cellpose(sam):
    assert (sam.needs_weights, sam.axes) == (True, frozenset({"YXS"}))
    assert sam.Predict().model_dump() == {"diameter": 30, "tile_norm": 0}
    assert sam.Decode().model_dump() == {"flow": 0.4, "cellprob": 0, "min_size": 15}
    assert "another environment" in sam.__doc__
    for part, wrong in ((sam.Predict, {"diameter": 0}), (sam.Decode, {"cellprob": 21})):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            part(**wrong)


def test_cellpose_4_needs_its_file_and_its_package(sam, tmp_path):
    engine, image = sam(), np.ones((20, 20, 3))
    with pytest.raises(WorkerError, match=r"weights are missing: .*cpsam_v2.*not downloaded"):
        engine.load(Weights("cpsam", "cpsam", tmp_path / "cpsam_v2"))
    with pytest.raises(WorkerError, match="weights are missing: None"):
        engine.load(Weights("", "cpsam"))
    (tmp_path / "cpsam_v2").write_bytes(b"no weights")
    with pytest.raises(WorkerError, match="No module named 'torch'"):
        engine.load(Weights("cpsam", "cpsam", tmp_path / "cpsam_v2"))
    with pytest.raises(WorkerError, match="No module named 'torch'"):
        engine.predict(image, sam.Predict())


def test_cellpose_4_normalises_each_channel_as_the_package_does():
    """Its own function, here: what it does needs no network."""
    path = Path(__file__).parents[2] / "examples" / "cellpose_sam" / "cpsam_engine.py"
    spec = importlib.util.spec_from_file_location("cpsam_engine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    image = np.stack([picture(), picture() * 0 + 7, np.eye(*picture().shape)], -1)
    image = image.astype(np.float32)
    found = module._normalised(image, image)
    low, high = np.percentile(image[..., 0], 1), np.percentile(image[..., 0], 99)
    np.testing.assert_array_equal(found[..., 0], (image[..., 0] - low) / (high - low))
    assert not found[..., 1].any() and found[..., 2].max() == 1
    part = np.s_[:20, :30]
    np.testing.assert_array_equal(module._normalised(image[part], image), found[part])


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "p"
    (folder / "data").mkdir(parents=True)
    Image.fromarray(picture()).save(folder / "data" / "a.png")
    models = {"far": {"engine": "bright", "blur": [1, 2], "threshold": [0.4, 0.6]}}
    config = {"opsef": 1, "images": {"source": "data"}, "models": models}
    (folder / "opsef.yaml").write_text(yaml.safe_dump(config))
    return folder


def opsef(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "opsef_bridge", "-p", str(project), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_is_added_and_sweeps(project, far_python):
    before = opsef(project, "sweep", "run")
    assert before.returncode == 2 and "no engine 'bright'" in before.stderr
    words = ("engines", "add", "bright", "--python", far_python, "--target", TARGET, "--json")
    done = opsef(project, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predict"] == ["scale", "blur"]
    assert read_json(project / "engines.json")["bright"]["python"] == far_python
    listed = json.loads(opsef(project, "engines", "list", "--json").stdout)
    assert "bright" in [row["name"] for row in listed]
    done = opsef(project, "sweep", "run", "--workers", "1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (json.loads(done.stdout)["ok"], json.loads(done.stdout)["passes"]) == (4, 2)
    logs = "".join(p.read_text() for p in (project / "runs").glob("*/logs/*.txt"))
    assert "loading None on" in logs
    taken = opsef(project, *words[:2], "watershed", *words[3:])
    assert taken.returncode == 2 and "installed here" in taken.stderr


def test_projects_bring_their_engines_and_say_what_is_broken(project, bright, added):
    write_json(
        project / "engines.json",
        {"bright": {"python": bright.far.python, "target": TARGET, "parameters": bright.told}},
    )
    assert "bright" not in engine_names()
    assert Project(project).config.model_settings()[0].engine == "bright"
    assert engine_class("bright").Decode().model_dump() == bright.Decode().model_dump()
    (project / "engines.json").write_text("[")
    with pytest.raises(ProjectError, match="cannot be understood"):
        Project(project)
    write_json(project / "engines.json", {"bright": {"python": "x"}})
    with pytest.raises(InputError, match="lacks python, target or parameters"):
        Project(project)
    with pytest.raises(InputError, match="installed here"):
        use_engine("watershed", bright)


@pytest.mark.parametrize("state", ["gone", "no program"])
def test_an_interpreter_that_vanished_is_told_with_the_way_out(bright, tmp_path, state):
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    if state == "no program":
        python.write_bytes(b"\0\1\2")
        python.chmod(0o755)
    entry = {"python": str(python), "target": TARGET, "parameters": bright.told}
    kind = external_class("away", entry)
    with pytest.raises(WorkerError, match=r"'away' cannot be started") as caught:
        kind().load(Weights("", "away"))
    assert "opsef engines add away again" in caught.value.hint and str(python) in str(caught.value)
    for call in ("parameters", "decode"):  # the next call says the same
        with pytest.raises(WorkerError, match="cannot be started"):
            kind.far.call(call)


def test_doctor_and_sweep_say_that_an_interpreter_vanished(project, bright):
    entry = {"python": str(project / "python"), "target": TARGET, "parameters": bright.told}
    write_json(project / "engines.json", {"bright": entry})
    asked = json.loads(opsef(project, "doctor", "--json").stdout)
    (found,) = [finding for finding in asked if finding["what"] == "engine bright"]
    assert found["state"] == "broken" and "opsef engines add bright again" in found["advice"]
    swept = opsef(project, "sweep", "run", "--workers", "1")
    assert swept.returncode == 1 and "opsef engines add bright again" in swept.stdout
    assert "FileNotFoundError" not in swept.stdout + swept.stderr
