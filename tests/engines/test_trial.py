"""Weights are tried in a process of their own: what breaks there breaks nothing here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsef_bridge import doctor
from opsef_bridge.engines import find_weights, trial
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.registry import engine_class
from opsef_bridge.engines.store import add
from opsef_bridge.engines.trial import try_engine, try_out
from opsef_bridge.errors import WeightsError
from opsef_bridge.files import file_sha256, write_json
from opsef_bridge.project import Project

FRAGILE = '''
"""An engine of somebody else that does what its weights say."""
import os, signal, sys, time
from pathlib import Path
import numpy as np
from opsef_bridge.engines import Parameters, Raw
from opsef_bridge.errors import OpsefError, WeightsError


class Predict(Parameters):
    pass


class Decode(Parameters):
    pass


class Fragile:
    name, version, needs_weights = "fragile", "1", True
    axes = frozenset({"YX"})
    Predict, Decode = Predict, Decode

    def load(self, weights, device="cpu"):
        self.word = weights.path.read_text()
        with open(os.environ["FRAGILE_LOG"], "a") as log:
            print(os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], device, file=log)
        if self.word == "no package":
            try:
                import a_package_that_is_not_there
            except ImportError as error:
                raise OpsefError("it needs a package", hint="Install it") from error

    def predict(self, image, parameters, *, reference=None):
        if self.word == "crash":
            signal.raise_signal(signal.SIGSEGV)  # `os.kill` may let this thread go on
        if self.word == "hang":
            time.sleep(60)
        if self.word == "refuse":
            raise WeightsError("it is of another kind", hint="Bring the right kind")
        if self.word == "raise":
            raise KeyError("conv1")
        return Raw({"image": image}, image.shape)

    def decode(self, raw, parameters):
        return (raw.maps["image"] > 0).astype(np.int32)
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Iterator[Path]:
    """Install the engine above, for other processes too; return the log of its loads."""
    site = tmp_path_factory.mktemp("site")
    (site / "fragile_engine.py").write_text(FRAGILE)
    metadata = site / "fragile_engine-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile-engine\nVersion: 1\n")
    point = "[opsef_bridge.engines]\nfragile = fragile_engine:Fragile\n"
    (metadata / "entry_points.txt").write_text(point)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(site)])
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("FRAGILE_LOG", str(site / "log.txt"))
        engine_class.cache_clear()
        yield site / "log.txt"
    engine_class.cache_clear()


def weights(folder: Path, word: str) -> Weights:
    """Weights that say what happens, with a card."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "w.bin"
    file.write_text(word)
    card = {"name": "w", "engine": "fragile", "file": file.name, "sha256": file_sha256(file)}
    write_json(folder / "w.json", card)
    return Weights("w", "fragile", file, card["sha256"], card)


def test_it_runs_in_another_process_on_the_cpu(tmp_path, installed):
    assert try_engine(weights(tmp_path, "ok")) == trial.Trial("ok", objects=1)
    process, visible, device = installed.read_text().splitlines()[-1].split()
    assert int(process) != os.getpid() and (visible, device) == ("-1", "cpu")
    assert not Path(f"/proc/{process}").exists(), "it has ended"
    assert try_out(weights(tmp_path, "ok")) == ""


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("crash", r"its process died: .*signal 11.*broken or made for something else"),
        ("refuse", r"it is of another kind\). Bring the right kind"),
        ("raise", r"KeyError: 'conv1'\). Name another engine"),
    ],
)
def test_what_fails_there_is_an_error_here(tmp_path, installed, word, words):
    with pytest.raises(WeightsError, match=rf"'fragile' cannot run w\.bin.*{words}"):
        try_out(weights(tmp_path, word))


def test_what_does_not_end_is_ended(tmp_path, installed, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 3)
    with pytest.raises(WeightsError, match="it took more than 3 s"):
        try_out(weights(tmp_path, "hang"))
    process = installed.read_text().splitlines()[-1].split()[0]
    assert not Path(f"/proc/{process}").exists()


def test_what_lacks_a_package_is_taken_with_a_word(tmp_path, installed):
    assert try_out(weights(tmp_path, "no package")) == "Not tried: it needs a package. Install it"


def test_a_file_that_is_not_the_one_of_its_card_is_not_loaded(tmp_path, installed):
    given = weights(tmp_path, "ok")
    before = installed.read_text() if installed.exists() else ""
    given.path.write_text("crash")
    with pytest.raises(WeightsError, match="not the file that its card describes"):
        try_out(given)
    assert (installed.read_text() if installed.exists() else "") == before


def test_what_crashes_is_not_added(tmp_path, installed):
    models = tmp_path / "models"
    file = weights(tmp_path / "in", "crash").path.rename(tmp_path / "in" / "w.onnx")
    with pytest.raises(WeightsError, match="its process died"):
        add(file, models, engine="fragile")
    assert not list(models.iterdir())
    file.write_text("ok")
    add(file, models, engine="fragile")
    assert find_weights("fragile", "w", [models]).path.name == "w.onnx"


@pytest.mark.parametrize(
    ("word", "state", "words"),
    [
        ("ok", "ok", "ran with w: 1 object in a test square"),
        ("crash", "broken", "its process died"),
        ("no package", "absent", "it needs a package"),
        (None, "absent", "there are no weights for it"),
    ],
)
def test_doctor_says_what_came_of_it(tmp_path, installed, monkeypatch, word, state, words):
    if word:
        weights(tmp_path / "models" / "w", word)
    monkeypatch.setattr(doctor, "engine_names", lambda: ["fragile"])
    [finding] = doctor._engines(Project(tmp_path))
    assert (finding.what, finding.state) == ("engine fragile", state)
    assert words in finding.detail and (finding.advice or state == "ok")
