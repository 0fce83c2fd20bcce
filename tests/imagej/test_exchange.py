"""Every kind of file that goes out, through the real ImageJ 1.54p and back."""

from __future__ import annotations

import hashlib
import struct
import zipfile

import numpy as np
import pytest
from scipy import ndimage as ndi

from opsef_bridge.errors import RoiError
from opsef_bridge.images import write_hyperstack, write_labels
from opsef_bridge.project import Project
from opsef_bridge.rois import Objects, paint, read_roi_set, read_rois, sidecar_path, write_roi_set
from opsef_bridge.rois.annotatorj import read_annotation, write_annotation
from opsef_bridge.rois.palette import stroke_of
from opsef_bridge.rois.revisions import Base, History, Source
from opsef_bridge.rois.run_folder import Item, write_run_folder

CELL, GRID = 14, 19
NAMES = {1: "nucleus", 2: "debris", 8: "other"}


def draw(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Return one object in a square of `CELL` pixels; most kinds touch its border."""
    noise = rng.random((CELL, CELL))
    smooth = ndi.gaussian_filter(noise, 1.5)
    components = ndi.label(smooth > np.quantile(smooth, 0.5))[0]
    blob = components == np.bincount(components.ravel())[1:].argmax() + 1
    pixel = np.zeros((CELL, CELL), bool)
    pixel[tuple(rng.integers(0, CELL, 2))] = True
    ring = np.ones((CELL, CELL), bool)
    ring[2:-2, 3:-1] = False
    ring[5:8, 6:9] = True  # a part in the hole
    parts = smooth > np.quantile(smooth, 0.7)
    necks = np.kron(np.eye(CELL // 2), np.ones((2, 2))) > 0
    return (blob, blob & (noise > 0.15), parts, pixel, ring, necks, noise > 0.5)[kind % 7]


@pytest.fixture(scope="module")
def objects() -> Objects:
    """More than 300 objects of many kinds, ids with gaps, classes 0 to 8."""
    rng = np.random.default_rng(11)
    labels = np.zeros((GRID * CELL, GRID * CELL), np.int32)
    for cell in range(GRID * GRID):
        y, x = np.array(divmod(cell, GRID)) * CELL
        labels[y : y + CELL, x : x + CELL][draw(cell, rng)] = cell * 4 + 3
    ids = np.unique(labels)[1:].tolist()
    assert len(ids) > 300
    return Objects(labels, {label: label % 9 for label in ids if label % 9})


TELL = """
def tell(rois, key):
    outputs[key + "/names"] = np.array([str(roi.getName()) for roi in rois])
    outputs[key + "/kinds"] = np.array([str(roi.getTypeAsString()) for roi in rois])
    outputs[key + "/labels"] = np.array([str(roi.getProperty("label")) for roi in rois])
    outputs[key + "/groups"] = np.array([int(roi.getGroup()) for roi in rois])
    places = [
        (roi.getPosition(), roi.getCPosition(), roi.getZPosition(), roi.getTPosition())
        for roi in rois
    ]
    outputs[key + "/places"] = np.array(places, int)
    bounds = [roi.getBounds() for roi in rois]
    outputs[key + "/bounds"] = np.array([[b.x, b.y, b.width, b.height] for b in bounds], int)
"""


def test_annotation_zip(in_imagej, objects, tmp_path):
    path = write_annotation(tmp_path, "normal", "cells", objects, class_names=NAMES)
    picture = (objects.labels % 251).astype(np.uint8)
    write_hyperstack(tmp_path / "cells.tif", picture, "YX")
    script = f"""{TELL}
from scyjava import jimport
Roi = jimport("ij.gui.Roi")
outputs["picture"] = ij1.pixels("cells.tif")[0, 0, 0]
rois = ij1.zip_rois("normal/cells_ROIs.zip")
tell(rois, "in")
def rgb(roi):
    colour = roi.getStrokeColor()
    return -1 if colour is None else int(colour.getRGB())
def of_group(group):
    fresh = Roi(0, 0, 1, 1)
    fresh.setGroup(group)
    return rgb(fresh)
outputs["shown"] = np.array([rgb(roi) for roi in rois])
outputs["expected"] = np.array([of_group(roi.getGroup()) for roi in rois])
outputs["filled"] = ij1.fill_zip("normal/cells_ROIs.zip", tuple(inputs["shape"].tolist()))
os.mkdir("back")
ij1.save_zip("back/cells_ROIs.zip", rois)
"""
    found = in_imagej(script, shape=np.array(objects.labels.shape))
    assert found["picture"].dtype == np.uint8
    assert np.array_equal(found["picture"], picture)
    count = len(objects.ids)
    assert found["in/names"].tolist() == [f"{k:04d}" for k in range(1, count + 1)]
    assert found["in/labels"].tolist() == [str(label) for label in objects.ids]
    groups = [objects.classes.get(label, 0) for label in objects.ids]
    assert found["in/groups"].tolist() == groups
    assert not found["in/places"].any()
    assert set(found["in/kinds"].tolist()) == {"Traced", "Composite"}
    # A group brings its own colour in ImageJ; that of the file is for napari and Python.
    assert found["shown"].tolist() == found["expected"].tolist()
    assert (found["shown"] == -1).tolist() == [group == 0 for group in groups]
    assert [roi.stroke_color for roi in read_rois(path)] == [stroke_of(group) for group in groups]
    with zipfile.ZipFile(path) as archive:
        heads = [archive.read(entry)[:6] for entry in archive.namelist()]
    assert {struct.unpack(">4sh", head) for head in heads} == {(b"Iout", 228)}
    numbers = objects.renumbered({label: k for k, label in enumerate(objects.ids, 1)})
    assert np.count_nonzero(found["filled"] != numbers.labels) == 0

    for sidecar in (sidecar_path(path), False):  # by the JSON, and by the properties alone
        back, notes, _ = read_roi_set(
            tmp_path / "back/cells_ROIs.zip", objects.labels.shape, sidecar=sidecar
        )
        assert back.same_as(objects)
        assert notes.lines() == []
    here, notes, record = read_annotation(path, objects.labels.shape)
    assert here.same_as(objects)
    assert record["rois"]["0001"]["label"] == objects.ids[0]


def test_run_folder(in_imagej, objects, tmp_path):
    rng = np.random.default_rng(5)
    shape = objects.labels.shape
    items = [
        Item("i00001-a", rng.integers(0, 256, shape, dtype=np.uint8), objects),
        Item("i00002-b", rng.integers(0, 65536, shape, dtype=np.uint16), objects),
    ]
    written = write_run_folder(tmp_path / "run", items, name="run")
    lines = [line.split(";") for line in written.lists[0].read_text().splitlines()]
    assert len(lines) == 2
    script = f"""{TELL}
from pathlib import Path
shape = tuple(inputs["shape"].tolist())
for k in range(2):
    picture, mask = (Path("run" + str(inputs[f"{{name}}{{k}}"])) for name in ("picture", "mask"))
    zipped = Path("run/12_TmpRoisFromFiji") / (mask.stem + "_ROIs.zip")
    outputs[f"picture{{k}}"] = ij1.pixels(picture)[0, 0, 0]
    outputs[f"mask{{k}}"] = ij1.pixels(mask)[0, 0, 0]
    outputs[f"filled{{k}}"] = ij1.fill_zip(zipped, shape)
    tell(ij1.zip_rois(zipped), f"rois{{k}}")
"""
    names = {f"picture{k}": np.array(line[0]) for k, line in enumerate(lines)}
    names |= {f"mask{k}": np.array(line[1]) for k, line in enumerate(lines)}
    found = in_imagej(script, shape=np.array(shape), **names)
    numbers = objects.renumbered({label: k for k, label in enumerate(objects.ids, 1)})
    for k, item in enumerate(items):
        picture, mask = found[f"picture{k}"], found[f"mask{k}"]
        assert picture.dtype == item.picture.dtype
        assert np.array_equal(picture, item.picture)
        assert mask.dtype == np.uint16
        assert np.array_equal(mask, numbers.labels)
        assert np.array_equal(found[f"filled{k}"], numbers.labels)
        groups = [objects.classes.get(label, 0) for label in objects.ids]
        assert found[f"rois{k}/groups"].tolist() == groups
        assert found[f"rois{k}/labels"].tolist() == [str(label) for label in objects.ids]


def save(history: History, objects: Objects, base: Base):
    told = objects.labels.tobytes() + str(objects.classes).encode()
    source = Source("x_ROIs.zip", hashlib.sha256(told).hexdigest(), "imagej-zip")
    return history.save(objects, base=base, author="Ada", source=source).revision


def test_revisions(in_imagej, tmp_path):
    labels = np.kron(np.arange(1, 256).reshape(15, 17), np.ones((3, 3), int)) * 7
    labels[1::3, 1::3][:5] = 0  # holes
    objects = Objects(labels, {7 * number: number for number in range(1, 256)})
    history = History(Project(tmp_path), "i00001-cells")
    first = save(history, objects, Base())
    again = Objects(labels, {7 * number: 256 - number for number in range(1, 256)})
    second = save(history, again, Base(revision=first.id))
    gone = save(history, Objects(np.zeros_like(labels)), Base(revision=second.id))
    folder = history.folder.relative_to(tmp_path)
    script = f"""{TELL}
for name in ("{first.id}", "{second.id}"):
    path = f"{folder.as_posix()}/{{name}}.zip"
    outputs[name] = ij1.fill_zip(path, tuple(inputs["shape"].tolist()))
    tell(ij1.zip_rois(path), name)
    ij1.save_zip(f"{{name}}_ROIs.zip", ij1.zip_rois(path))
"""
    found = in_imagej(script, shape=np.array(labels.shape))
    for revision, expected in ((first, objects), (second, again)):
        assert np.array_equal(found[revision.id], labels)
        assert found[f"{revision.id}/groups"].tolist() == list(expected.classes.values())
        back, notes, _ = read_roi_set(tmp_path / f"{revision.id}_ROIs.zip", labels.shape)
        assert back.same_as(expected)
        assert notes.lines() == []
    assert gone.sha256 is None
    assert not (history.folder / f"{gone.id}.zip").exists()
    assert history.objects(gone.id).ids == []


def test_volume_is_shown_plane_by_plane(in_imagej, display, tmp_path):
    volume = np.zeros((5, 40, 50), np.int32)
    volume[0:3, 5:20, 5:20] = 4
    volume[1, 8:12, 8:12] = 0  # a hole in one plane
    volume[2:5, 10:30, 30:45] = 70_000
    volume[4, 0, 0] = 9
    objects = Objects(volume, {4: 1, 70_000: 255})
    for name, hyperstack in (("plain", False), ("hyper", True)):
        write_roi_set(tmp_path / f"{name}_ROIs.zip", objects, hyperstack=hyperstack)
    script = f"""{TELL}
from scyjava import jimport
IJ, Manager = jimport("ij.IJ"), jimport("ij.plugin.frame.RoiManager")
plain = IJ.createImage("plain", "8-bit black", 50, 40, 5)
hyper = IJ.createHyperStack("hyper", 50, 40, 2, 5, 3, 8)
manager = Manager(False)
for name, image in (("plain", plain), ("hyper", hyper)):
    image.show()
    manager.reset()
    assert manager.runCommand("Open", os.path.abspath(name + "_ROIs.zip"))
    tell(manager.getRoisAsArray(), name)
    shown = []
    for k in range(manager.getCount()):
        image.setPosition(1, 1, 1)
        manager.select(image, k)
        shown.append(image.getZ())
    outputs[name + "/shown"] = np.array(shown)
    outputs[name + "/filled"] = np.zeros((5, 40, 50), np.int32)
    for roi, z in zip(manager.getRoisAsArray(), shown):
        plane = outputs[name + "/filled"][z - 1]
        plane[ij1.mask(roi, (40, 50))] = int(str(roi.getName()).split("-")[0])
    assert manager.runCommand("Save", os.path.abspath(name + "_back.zip"))
"""
    found = in_imagej(script, headless=False)
    planes = [1, 2, 3, 5, 3, 4, 5]  # of objects 4, 9 and 70,000
    for name in ("plain", "hyper"):
        assert found[f"{name}/shown"].tolist() == planes
        assert np.array_equal(found[f"{name}/filled"], volume)
        position, _, z, _ = found[f"{name}/places"].T
        assert (z if name == "hyper" else position).tolist() == planes
        back, notes, _ = read_roi_set(tmp_path / f"{name}_back.zip", volume.shape)
        assert back.same_as(objects)
        assert notes.lines() == []


def test_label_images(in_imagej, tmp_path):
    many = np.arange(300 * 400).reshape(300, 400)  # 119,999 objects
    images = {
        "small": np.array([[0, 1], [65_535, 3]]),
        "many": many,
        "last": np.array([[0, 2**24 - 1, 2**24]]),
        "volume": np.stack([many[:5], many[-5:]]),
    }
    for name, labels in images.items():
        write_labels(tmp_path / f"{name}.tif", labels, spacing=0.5)
    script = "".join(f'outputs["{name}"] = ij1.pixels("{name}.tif")\n' for name in images)
    found = in_imagej(script)
    for name, labels in images.items():
        assert found[name].dtype == (np.uint16 if name == "small" else np.float32)
        assert np.array_equal(found[name][0, :, 0].reshape(labels.shape), labels)


FAR = 60_535


def test_rois_at_the_end_of_imagejs_coordinates(in_imagej, tmp_path):
    wide = np.zeros((3, FAR), np.int32)
    wide[:, -4:], wide[1, -2] = 5, 0  # a composite, whose coordinates are floats
    wide[2, :7] = 9
    corner = np.ones((10, 10), np.int32)
    corner[3, 3], corner[9, 0:3] = 0, 2
    write_roi_set(tmp_path / "wide.zip", wide)
    write_roi_set(tmp_path / "tall.zip", wide.T)
    write_roi_set(tmp_path / "corner.zip", corner, offset=(FAR - 10, FAR - 10))
    script = f"""{TELL}
outputs["wide"] = ij1.fill_zip("wide.zip", (3, {FAR}))
outputs["tall"] = ij1.fill_zip("tall.zip", ({FAR}, 3))
rois = ij1.zip_rois("corner.zip")
tell(rois, "corner")
outputs["moved"] = np.zeros((10, 10), np.int32)
for value, roi in enumerate(rois, 1):
    roi.translate({10.0 - FAR}, {10.0 - FAR})
    outputs["moved"][ij1.mask(roi, (10, 10))] = value
ij1.save_zip("back.zip", ij1.zip_rois("corner.zip"))
"""
    found = in_imagej(script)
    assert np.array_equal(found["wide"], wide)
    assert np.array_equal(found["tall"], wide.T)
    start = FAR - 10
    assert found["corner/bounds"].tolist() == [[start, start, 10, 10], [start, FAR - 1, 3, 1]]
    assert np.array_equal(found["moved"], corner)
    back, _ = paint(read_rois(tmp_path / "back.zip"), (10, 10), offset=(start, start))
    assert np.array_equal(back.labels, corner)


@pytest.mark.parametrize("offset", [(0, FAR - 9), (FAR - 9, 0), (-5001, 0)])
def test_rois_beyond_imagejs_coordinates_are_refused(offset, tmp_path):
    with pytest.raises(RoiError, match="60535") as caught:
        write_roi_set(tmp_path / "far.zip", np.ones((10, 10), int), offset=offset)
    assert "tiles" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


EDIT = """
from scyjava import jimport
import jpype
Roi, Oval = jimport("ij.gui.Roi"), jimport("ij.gui.OvalRoi")
Shape, Polygon = jimport("ij.gui.ShapeRoi"), jimport("ij.gui.PolygonRoi")

def keep(new, old):
    new.setName(old.getName())
    new.setGroup(old.getGroup())
    return new

def edited(rois):
    rois = list(rois)
    rois[0].translate(3.0, 2.0)
    rois[1].setLocation(-60.0, 40.0)  # out of the image
    rois[7].setLocation(-6.0, 60.0)  # over the border
    rois[2] = keep(Shape(rois[2]).xor(Shape(Oval(60, 10, 9, 9))), rois[2])  # loses `label`
    rois[3] = keep(Shape(rois[3]).or_(Shape(Roi(100, 90, 12, 3))), rois[3])  # two parts
    rois[4] = keep(Shape(rois[4]).not_(Shape(Oval(4, 4, 5, 5))), rois[4])
    rois[5] = keep(Polygon(rois[5].getInterpolatedPolygon(1.0, True), Roi.FREEROI), rois[5])
    rois[6].setGroup(200)
    del rois[8:12]
    return rois

def new_ones():
    xs, ys = ([120.3, 133.8, 128.5], [30.1, 34.6, 49.9])
    floats = [jpype.JArray(jpype.JFloat)(axis) for axis in (xs, ys)]
    yield Polygon(*floats, 3, Roi.FREEROI)
    yield Oval(150, 50, 21, 16)
    yield Roi(90, 120, 7, 30)

def fill(rois, shape):
    painted = np.zeros(shape, np.int32)
    for value, roi in enumerate(rois, 1):
        painted[ij1.mask(roi, shape)] = value
    return painted
"""


def same_parts(filled: np.ndarray, labels: np.ndarray) -> dict[int, int]:
    """Return which label each value has; both images must part the pixels in the same way."""
    pairs = np.unique(np.stack([filled.ravel(), labels.ravel()]), axis=1).T
    both = {int(value): int(label) for value, label in pairs}
    assert len(both) == len(pairs) == len(set(both.values())), "pixels differ"
    assert both.pop(0) == 0
    return both


def test_rois_edited_by_imagej_itself(in_imagej, objects, tmp_path):
    shape = objects.labels.shape
    write_roi_set(tmp_path / "cells_ROIs.zip", objects, consecutive=True)
    script = f"""{EDIT}
rois = edited(ij1.zip_rois("cells_ROIs.zip"))
for k, roi in enumerate(new_ones()):
    roi.setName(["0123-0456", "0124-0456", "new cell"][k])
    rois.append(roi)
outputs["filled"] = fill(rois, tuple(inputs["shape"].tolist()))
ij1.save_zip("edited_ROIs.zip", rois)
"""
    found = in_imagej(script, shape=np.array(shape))
    back, notes, _ = read_roi_set(
        tmp_path / "edited_ROIs.zip", shape, sidecar=tmp_path / "cells_ROIs.json"
    )
    labels = same_parts(found["filled"], back.labels)
    kept = objects.ids[:8] + objects.ids[12:]
    last = objects.ids[-1]
    expected = dict(enumerate([*kept, last + 1, last + 2, last + 3], 1))
    assert labels == {value: expected[value] for value in labels}
    assert set(notes.renumbered) == {"0123-0456", "0124-0456", "new cell"}
    assert notes.outside == ("0002",)
    assert notes.clipped == ("0008",)
    assert notes.overlapped > 100
    assert back.classes[objects.ids[6]] == 200
    unchanged = set(back.ids) - {objects.ids[6]} - set(notes.renumbered)
    classes = {label: c for label, c in objects.classes.items() if label in unchanged}
    assert {label: c for label, c in back.classes.items() if c != 200} == classes


def test_the_roi_manager_opens_and_saves(in_imagej, display, objects, tmp_path):
    shape = objects.labels.shape
    write_roi_set(tmp_path / "cells_ROIs.zip", objects, consecutive=True)
    script = f"""{TELL}{EDIT}
IJ, Manager = jimport("ij.IJ"), jimport("ij.plugin.frame.RoiManager")
shape = tuple(inputs["shape"].tolist())
image = IJ.createImage("cells", "8-bit black", shape[1], shape[0], 1)
image.show()
manager = Manager(False)
assert manager.runCommand("Open", os.path.abspath("cells_ROIs.zip"))
tell([manager.getRoi(k) for k in range(manager.getCount())], "opened")
assert manager.runCommand("Save", os.path.abspath("same.zip"))

rois = edited(manager.getRoisAsArray())
manager.reset()
for roi in rois:
    manager.addRoi(roi)
for roi in new_ones():
    image.setRoi(roi)
    assert manager.runCommand("Add")  # ImageJ gives the name
manager.setSelectedIndexes([20, 21])
assert manager.runCommand("Delete")
rois = manager.getRoisAsArray()
tell(rois, "edited")
outputs["filled"] = fill(rois, shape)
assert manager.runCommand("Save", os.path.abspath("edited.zip"))
"""
    found = in_imagej(script, headless=False, shape=np.array(shape))
    count = len(objects.ids)
    assert found["opened/names"].tolist() == [f"{k:04d}" for k in range(1, count + 1)]
    assert found["opened/groups"].tolist() == [objects.classes.get(k, 0) for k in objects.ids]
    record = tmp_path / "cells_ROIs.json"
    same, notes, _ = read_roi_set(tmp_path / "same.zip", shape, sidecar=record)
    assert same.same_as(objects)
    assert notes.lines() == []

    assert len(found["edited/names"]) == count - 4 + 3 - 2
    back, notes, _ = read_roi_set(tmp_path / "edited.zip", shape, sidecar=record)
    labels = same_parts(found["filled"], back.labels)
    kept = objects.ids[:8] + objects.ids[12:]
    del kept[20:22]
    last = objects.ids[-1]
    expected = dict(enumerate([*kept, last + 1, last + 2, last + 3], 1))
    assert labels == {value: expected[value] for value in labels}
    assert set(notes.renumbered) == set(found["edited/names"].tolist()[-3:])
    assert all("-" in name for name in notes.renumbered)
