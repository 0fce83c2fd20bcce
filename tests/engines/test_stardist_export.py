"""Networks that were trained here, written back in StarDist's own format."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import h5py
import pytest

from opsef_bridge.engines import find_weights
from opsef_bridge.engines.stardist_export import export_stardist, keras_twin
from opsef_bridge.engines.stardist_files import convert_stardist
from opsef_bridge.engines.store import convert
from opsef_bridge.errors import NotFoundError, WeightsError
from opsef_bridge.files import read_json

# What the package itself makes of the folder, against our ONNX route; TensorFlow alone.
THEIRS = """
import json, sys
from pathlib import Path
import numpy as np
from stardist.models import StarDist2D
from opsef_bridge.demo import example_data
from opsef_bridge.engines import engine_class, find_weights
from opsef_bridge.images import read_image, segment_plane

folder = Path(sys.argv[1])
model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
engine = engine_class("stardist")()
engine.load(find_weights("stardist", "nuclei-stardist"))
found = []
for file in sorted((example_data() / "images").glob("large_*"))[:3]:
    image = segment_plane(read_image(file))
    low, high = np.percentile(image, (1, 99.8))
    normalised = np.clip((image.astype("f4") - low) / (high - low), -0.2, 4)
    theirs, _ = model.predict_instances(normalised, predict_kwargs={"verbose": 0})
    ours = engine.decode(engine.predict(image, engine.Predict()), engine.Decode())
    found.append([int(theirs.max()), int(ours.max()), float(((theirs > 0) != (ours > 0)).mean())])
print(json.dumps({"thresholds": model.thresholds._asdict(), "found": found}))
"""


@pytest.fixture
def shipped():
    return find_weights("stardist", "nuclei-stardist")


def test_the_package_opens_the_folder_and_finds_the_same_objects(shipped, tmp_path):
    folder = export_stardist(shipped, tmp_path / "mine")
    done = subprocess.run(
        [sys.executable, "-c", THEIRS, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["thresholds"] == {"prob": 0.5, "nms": 0.3}
    for theirs, ours, differ in said["found"]:
        assert theirs == ours > 5
        assert differ < 1e-4


def test_there_and_back_is_the_same_file(shipped, tmp_path):
    folder = export_stardist(shipped, tmp_path / "mine")
    card = read_json(convert_stardist(folder, tmp_path / "again", name="again"))
    with h5py.File(folder / "weights_best.h5") as file:
        assert len(file.attrs["layer_names"]) == 19
    again = export_stardist(
        replace(shipped, path=tmp_path / "again" / card["file"]), tmp_path / "third"
    )
    for name in ("weights_best.h5", "config.json", "thresholds.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_twin_is_the_same_voice_and_says_what_it_was_made_of(shipped, tmp_path):
    scores = {"evaluations": [{"f1": {}}], "loo": {"all": {}}}
    shipped = replace(shipped, card=shipped.card | scores)
    card = read_json(keras_twin(shipped, tmp_path, name="twin"))
    assert (card["family"], card["converted_from"]) == (shipped.family, shipped.sha256)
    assert card["input"] == shipped.card["input"]
    assert card["runtime"] == "tensorflow"
    for part in ("val", "evaluations", "loo"):
        assert part not in card, "scores were taken with the other form"


def test_weights_of_another_kind_are_refused(shipped, tmp_path):
    bare = replace(shipped, card={k: v for k, v in shipped.card.items() if k != "network"})
    with pytest.raises(WeightsError, match="configuration of the network"):
        export_stardist(bare, tmp_path / "no")
    with pytest.raises(WeightsError, match="'nuclei-unet' cannot be written"):
        convert(["nuclei-unet"], tmp_path / "models", runtime="tensorflow")
    with pytest.raises(NotFoundError, match="no weights 'no-such'"):
        convert(["no-such"], tmp_path / "models", runtime="tensorflow")
    assert list((tmp_path / "models").iterdir()) == []
