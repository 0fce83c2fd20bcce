"""What a sweep and a batch write, opened by the real ImageJ 1.54p."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tifffile

from opsef_bridge.execute import run_unit
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project, Run, read_csv
from opsef_bridge.sweep import Executor, adopt, plan_batch, plan_sweep, run_plan

CONFIG = """
opsef: 1
images: {source: [data/*]}
preprocess: {raw: [], smooth: [{median: {radius: 1}}]}
models: {classic: {engine: watershed, scale: [0.5, 1.0], threshold: [otsu, 0.8]}}
sweep: {crop: 64}
compare: {rois: 8}
"""
SPACING = {"pixel_width": 0.25, "pixel_height": 0.25, "pixel_depth": 2.0}
UNIT = "\u00b5m"
"""As ImageJ shows ``um``."""


class Here(Executor):
    """All units in this process."""

    def run(self, project: Project, run: Run, plan: Any) -> dict[str, Any]:
        for unit in plan.units:
            run_unit(str(project.root), run.id, unit.id)
        return {}


@dataclass
class Swept:
    project: Project
    sweep: Run
    batch: Run


def beads(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return bright balls (discs) on an even ground, as uint16."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    image = np.full(shape, 300, np.uint16)
    for _ in range(14):
        centre = [rng.uniform(0, side) for side in shape]
        depth = [4.0] * (len(shape) == 3)  # slices are thicker than pixels
        weights = [*depth, 1.0, 1.0]
        far = sum(w * (g - c) ** 2 for w, g, c in zip(weights, grid, centre, strict=True))
        image[far < 60] = rng.integers(2000, 9000)
    return image


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Swept:
    """A calibrated plane and a calibrated volume, swept, adopted and batched."""
    root = tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    (root / "opsef.yaml").write_text(CONFIG)
    for name, shape in {"plane": (90, 130), "volume": (5, 80, 70)}.items():
        tifffile.imwrite(
            root / "data" / f"{name}.tif", beads(shape, len(name)), imagej=True,
            resolution=(4.0, 4.0),
            metadata={"axes": "ZYX"[-len(shape) :], "unit": "um", "spacing": 2.0},
        )  # fmt: skip
    project = Project(root)
    sweep = run_plan(project, plan_sweep(project), Here())
    adopt(project, "v0002")
    batch = run_plan(project, plan_batch(project), Here())
    assert (sweep.ok, batch.ok) == (16, 2)
    return Swept(project, project.run(sweep.run), project.run(batch.run))


DESCRIBE = """
import json
for name in list(inputs):
    path = str(inputs[name])
    outputs[name] = np.array(json.dumps(ij1.describe(path)))
    outputs[name + " pixels"] = ij1.pixels(path)
"""


@pytest.mark.parametrize(("image", "depth"), [(0, 1), (1, 5)])
def test_the_comparison_opens(in_imagej, swept, image, depth):
    entry = swept.project.images()[image]
    file = swept.sweep.compare_file(entry.id)
    found = in_imagej(DESCRIBE, stack=np.array(str(file)))
    told = json.loads(str(found["stack"]))
    rows = read_csv(swept.sweep.variants_file)
    assert (told["frames"], told["slices"], told["channels"]) == (len(rows), depth, 4) == (
        8, depth, 4,
    )  # fmt: skip
    assert told["is_hyperstack"] and told["bit_depth"] == 8
    spacing = {key: told["calibration"][key] for key in SPACING}
    if depth == 1:  # a plane has none
        spacing["pixel_depth"] = SPACING["pixel_depth"]
    assert spacing == pytest.approx(SPACING)
    assert told["calibration"]["unit"] == UNIT
    captions = told["slice_labels"]
    assert len(captions) == 8 * depth * 4
    for frame, row in enumerate(rows):
        for caption in captions[frame * depth * 4 : (frame + 1) * depth * 4]:
            assert caption.startswith(f"#{row['rank']} {row['id']} {row['recipe']} | classic | ")
            assert f"agreement {float(row['agreement']):.3f}" in caption
    assert entry.id in told["info"] and rows[0]["slug"] in told["info"]
    with tifffile.TiffFile(file) as tiff:
        ours = tiff.asarray().reshape(found["stack pixels"].shape)
    np.testing.assert_array_equal(found["stack pixels"], ours)
    for frame, row in enumerate(rows):
        labels = read_labels(swept.sweep.label_file(row["id"], entry.id))
        shown = found["stack pixels"][frame, :, 3]
        np.testing.assert_array_equal(shown > 0, labels.reshape(shown.shape) > 0)


def test_labels_open_with_their_ids(in_imagej, swept):
    files = {}
    for entry in swept.project.images():
        for run, variant in ((swept.sweep, "v0003"), (swept.batch, "v0001")):
            files[f"{run.id} {entry.id}"] = run.label_file(variant, entry.id)
    found = in_imagej(DESCRIBE, **{name: np.array(str(file)) for name, file in files.items()})
    for name, file in files.items():
        labels = read_labels(file)
        assert labels.max() > 1
        np.testing.assert_array_equal(np.squeeze(found[f"{name} pixels"]), labels)
        told = json.loads(str(found[name]))
        assert (told["calibration"]["pixel_width"], told["calibration"]["unit"]) == (0.25, UNIT)
        assert told["luts"] == [True]


def test_rois_fill_to_the_labels(in_imagej, swept):
    """ROIs of a crop lie in the source; ImageJ paints the box of the labels, nothing more."""
    entry = swept.project.images()[0]
    zips = sorted(swept.sweep.root.glob(f"rois/*/{entry.id}_ROIs.zip"))
    assert len(zips) == 8
    script = """
for name in list(inputs):
    outputs[name] = ij1.fill_zip(name, SHAPE)
""".replace("SHAPE", repr(entry.shape))
    found = in_imagej(script, **{str(path): np.array(0) for path in zips})
    box = next(i["box"] for i in swept.sweep.plan()["images"] if i["id"] == entry.id)
    y, x, height, width = box
    for path in zips:
        expected = np.zeros(entry.shape, np.int32)
        labels = read_labels(swept.sweep.label_file(path.parent.name, entry.id))
        expected[y : y + height, x : x + width] = labels
        assert labels.max() > 1
        np.testing.assert_array_equal(found[str(path)], expected)


def test_the_stack_of_the_batch_opens(in_imagej, swept):
    found = in_imagej(DESCRIBE, stack=np.array(str(swept.batch.batch_file)))
    told = json.loads(str(found["stack"]))
    entry = swept.project.images()[0]
    assert (told["frames"], told["channels"], told["slices"]) == (2, 3, 5)
    assert (told["width"], told["height"]) == (entry.shape[1], entry.shape[0])
    assert told["slice_labels"][0].startswith(f"{entry.id} | ")
    assert told["calibration"]["pixel_width"] == 0.25
    labels = read_labels(swept.batch.label_file("v0001", entry.id))
    np.testing.assert_array_equal(found["stack pixels"][0, 0, 2], labels)  # ids up to 255
    assert not found["stack pixels"][0, 1:].any(), "behind a plane there is nothing"
    volume = read_labels(swept.batch.label_file("v0001", swept.project.images()[1].id))
    depth, height, width = volume.shape
    shown = found["stack pixels"][1, :, 2]
    np.testing.assert_array_equal(shown[:depth, :height, :width], volume)
    assert shown.sum() == volume.sum() and "5 planes" in told["slice_labels"][-1]
