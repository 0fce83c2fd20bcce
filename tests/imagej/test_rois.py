"""The real ImageJ 1.54p and this package fill the same pixels, in both directions."""

from __future__ import annotations

import numpy as np
import pytest
from roifile import ImagejRoi
from scipy import ndimage as ndi

from opsef_bridge.errors import RoiError
from opsef_bridge.measure.fill import fill_rois
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import write_rois

CELL, GRID = 20, 36
KINDS = ["blob", "holes", "noise", "dense", "parts", "necks", "pixel", "full", "rim"]


def draw(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return one object of a kind in a square of `CELL` pixels."""
    noise = rng.random((CELL, CELL))
    smooth = ndi.gaussian_filter(noise, 2)
    blob = ndi.label(smooth > np.quantile(smooth, 0.5))[0] == 1
    holes = ndi.binary_dilation(blob, iterations=2) & (noise > 0.15)
    necks = np.kron(np.eye(CELL // 2), np.ones((2, 2))) > 0
    pixel = np.zeros((CELL, CELL), bool)
    pixel[tuple(rng.integers(0, CELL, 2))] = True
    full = np.ones((CELL, CELL), bool)
    return {
        "blob": blob,
        "holes": holes,
        "noise": ndi.label(noise > 0.55, np.ones((3, 3)))[0] == 1,
        "dense": noise > 0.5,
        "parts": smooth > np.quantile(smooth, 0.7),
        "necks": necks | (noise > 0.95),
        "pixel": pixel,
        "full": full,
        "rim": full & ~ndi.binary_erosion(full, iterations=int(rng.integers(1, 8))),
    }[kind]


@pytest.fixture(scope="module")
def mosaic() -> np.ndarray:
    """More than 1,000 objects of every kind that touch each other and all borders."""
    rng = np.random.default_rng(3)
    labels = np.zeros((GRID * CELL, GRID * CELL), np.int32)
    for cell in range(GRID * GRID):
        y, x = np.array(divmod(cell, GRID)) * CELL
        value = cell * 3 + 1  # ids with gaps
        window = labels[y : y + CELL, x : x + CELL]
        window[draw(KINDS[cell % len(KINDS)], rng)] = value
    assert len(np.unique(labels)) - 1 > 1000
    return labels


def test_imagej_fills_our_rois_as_the_labels(in_imagej, mosaic, tmp_path):
    rng = np.random.default_rng(4)
    comb = np.zeros((3, 40_001), int)  # more corners than 16 bits count
    comb[0], comb[1, ::2] = 1, 1
    images = [mosaic, rng.integers(0, 4, (90, 70)), np.ones((5, 7), int), comb]
    for k, image in enumerate(images):
        write_rois(tmp_path / f"{k}.zip", trace_rois(image))
    shapes = np.array([image.shape for image in images])
    script = """
for k, shape in enumerate(inputs["shapes"].tolist()):
    outputs[str(k)] = ij1.fill_zip(f"{k}.zip", tuple(shape))
"""
    filled = in_imagej(script, shapes=shapes)
    for k, image in enumerate(images):
        assert np.count_nonzero(filled[str(k)] != image) == 0


def test_imagej_keeps_name_group_and_position(in_imagej):
    rois = trace_rois([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 12345, 0]])
    rois[1].group = 3
    script = """
from scyjava import jimport
for k in ("0", "1"):
    roi = ij1.decode(inputs[k].tobytes(), "0099.roi")
    outputs["name" + k] = np.array(str(roi.getName()))
    outputs["kind" + k] = np.array(str(roi.getTypeAsString()))
    outputs["rest" + k] = np.array([roi.getGroup(), roi.getPosition(), roi.getCPosition()])
"""
    data = {str(k): np.frombuffer(roi.tobytes(), np.uint8) for k, roi in enumerate(rois)}
    found = in_imagej(script, **data)
    assert (found["name0"], found["name1"]) == ("0001", "12345")
    assert (found["kind0"], found["kind1"]) == ("Composite", "Traced")
    assert found["rest0"].tolist() == [0, 0, 0]
    assert found["rest1"].tolist() == [3, 0, 0]


def test_we_fill_create_selection_of_imagej(in_imagej, mosaic):
    # ImageJ searches the whole image for each label: strips take a fraction of the time.
    parts = np.array_split(mosaic, GRID)
    script = """
for k, labels in inputs.items():
    for value, data in ij1.select(labels).items():
        outputs[f"{k}/{value}"] = np.frombuffer(data, np.uint8)
"""
    found = in_imagej(script, **{str(k): part for k, part in enumerate(parts)})
    assert len(found) > 1000
    for k, part in enumerate(parts):
        rois = []
        for key, data in found.items():
            if key.startswith(f"{k}/"):
                rois.append(ImagejRoi.frombytes(data.tobytes()))
                rois[-1].name = key.split("/")[1]
        assert np.count_nonzero(fill_rois(rois, part.shape) != part) == 0


MAKE_ROIS = """
from scyjava import jimport
import jpype
Roi, OvalRoi = jimport("ij.gui.Roi"), jimport("ij.gui.OvalRoi")
PolygonRoi, ShapeRoi = jimport("ij.gui.PolygonRoi"), jimport("ij.gui.ShapeRoi")
rng = np.random.default_rng(8)
SHAPE = tuple(inputs["shape"].tolist())

def floats(points):
    x, y = np.asarray(points, np.float32).T
    return [jpype.JArray(jpype.JFloat)(np.ascontiguousarray(axis)) for axis in (x, y)]

def ints(points):
    x, y = np.asarray(points, np.int32).T
    return [jpype.JArray(jpype.JInt)(np.ascontiguousarray(axis)) for axis in (x, y)]

def star(corners):
    angle = np.sort(rng.random(corners)) * 2 * np.pi
    radius = rng.uniform(2, 30, corners)
    centre = rng.uniform(0, 64, 2)
    return centre + np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)

def scribble(corners):
    return rng.uniform(-8, 72, (corners, 2))

def box(low, high):
    x, y = rng.uniform(-8, 60, 2)
    return x, y, *rng.uniform(low, high, 2)

def polygon(points, kind):
    return PolygonRoi(*points, len(points[0]), kind)

def combine(part):
    roi = ShapeRoi(part())
    for _ in range(rng.integers(1, 6)):
        change = [roi.or_, roi.not_, roi.xor][rng.integers(3)]
        roi = change(ShapeRoi(part()))
    return roi
"""

KIND_SCRIPTS = {
    "freehand_float": "polygon(floats(star(rng.integers(3, 60))), Roi.FREEROI)",
    "freehand_integer": "polygon(ints(star(rng.integers(3, 60))), Roi.FREEROI)",
    "polygon_oblique": "polygon(ints(star(rng.integers(3, 9))), Roi.POLYGON)",
    "polygon_crossing_itself": "polygon(floats(scribble(rng.integers(3, 12))), Roi.POLYGON)",
    "polygon_integer_crossing": "polygon(ints(scribble(rng.integers(3, 12))), Roi.POLYGON)",
    "ties_at_halves": "polygon(floats(np.round(scribble(6) * 2) / 2), Roi.POLYGON)",
    "ties_at_quarters": "polygon(floats(np.round(star(9) * 4) / 4), Roi.FREEROI)",
    "rectangle": "Roi(*map(int, box(1, 40)))",
    "rectangle_flat": "Roi(*map(int, box(0, 2)))",
    "rectangle_float": "Roi(*map(float, box(0.1, 40)))",
    "oval": "OvalRoi(*map(int, box(1, 40)))",
    "oval_flat": "OvalRoi(0, 0, *map(int, rng.permutation([rng.integers(0, 5), 64])))",
    "oval_float": "OvalRoi(*map(float, box(0.1, 40)))",
    "brush": "combine(lambda: OvalRoi(*map(int, box(3, 20))))",
    "brush_float": "combine(lambda: polygon(floats(star(8)), Roi.POLYGON))",
}


def test_we_fill_what_imagej_makes(in_imagej):
    shape, each = (64, 70), 100
    makers = "\n".join(f"makers[{kind!r}] = lambda: {code}" for kind, code in KIND_SCRIPTS.items())
    script = f"""{MAKE_ROIS}
makers = {{}}
{makers}
for kind, make in makers.items():
    for k in range({each}):
        data = ij1.encode(make())
        outputs[f"{{kind}}/{{k}}/roi"] = np.frombuffer(data, np.uint8)
        outputs[f"{{kind}}/{{k}}/mask"] = ij1.mask(ij1.decode(data), SHAPE)
"""
    found = in_imagej(script, shape=np.array(shape))
    wrong, pixels = dict.fromkeys(KIND_SCRIPTS, 0), dict.fromkeys(KIND_SCRIPTS, 0)
    for kind in KIND_SCRIPTS:
        for k in range(each):
            roi = ImagejRoi.frombytes(found[f"{kind}/{k}/roi"].tobytes())
            roi.name = "1"
            mask = found[f"{kind}/{k}/mask"]
            wrong[kind] += np.count_nonzero((fill_rois([roi], shape) > 0) != mask)
            pixels[kind] += np.count_nonzero(mask)
    assert wrong == dict.fromkeys(KIND_SCRIPTS, 0)
    assert min(pixels.values()) > each // 2


def test_what_cannot_be_filled_exactly_is_refused(in_imagej):
    script = """
from scyjava import jimport
import jpype
Roi, Ellipse = jimport("ij.gui.Roi"), jimport("ij.gui.EllipseRoi")
PolygonRoi = jimport("ij.gui.PolygonRoi")
line = jimport("ij.gui.Line")(1.0, 1.0, 9.0, 9.0)
xs, ys = ([1.0, 9.0, 5.0], [1.0, 2.0, 9.0])
floats = [jpype.JArray(jpype.JFloat)(axis) for axis in (xs, ys)]
spline = PolygonRoi(*floats, 3, Roi.POLYGON)
spline.fitSpline()
rois = [Roi(1, 1, 9, 9, 4), Ellipse(1.0, 1.0, 9.0, 9.0, 0.5), line, spline]
for name, roi in zip(("rounded", "ellipse", "line", "spline"), rois):
    outputs[name] = np.frombuffer(ij1.encode(roi), np.uint8)
"""
    for name, data in in_imagej(script).items():
        roi = ImagejRoi.frombytes(data.tobytes())
        roi.name = "1"
        with pytest.raises(RoiError, match=name):
            fill_rois([roi], (9, 9))
