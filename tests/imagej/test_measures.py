"""The real ImageJ 1.54p and `region_table` measure the same."""

from __future__ import annotations

import numpy as np
from roifile import ImagejRoi
from scipy import ndimage as ndi

from opsef_bridge.measure.regions import region_table
from opsef_bridge.measure.trace import trace_rois
from opsef_bridge.rois import write_rois

COLUMNS = {
    "Area": "area",
    "Perim.": "perimeter_imagej",
    "Circ.": "circularity_imagej",
    "MinFeret": "feret_diameter_min",
}
SIZES = np.array([[1.0, 1.0], [0.65, 0.65], [0.5, 0.8]])
"""Height and width of a pixel."""

MEASURE = """
import jpype
from scyjava import jimport
Analyzer, Table = jimport("ij.plugin.filter.Analyzer"), jimport("ij.measure.ResultsTable")
Measurements = jimport("ij.measure.Measurements")
asked = Measurements.AREA | Measurements.PERIMETER | Measurements.SHAPE_DESCRIPTORS
asked |= Measurements.FERET
image = jimport("ij.IJ").createImage("a", "8-bit black", 300, 300, 1)
rois = ij1.zip_rois("rois.zip")
for k, (height, width) in enumerate(inputs["sizes"].tolist()):
    calibration = image.getCalibration()
    calibration.pixelHeight, calibration.pixelWidth = height, width
    calibration.setUnit("um")
    table = Table()
    for roi in rois:
        image.setRoi(roi)
        Analyzer(image, int(asked), table).measure()
    for name in ("Area", "Perim.", "Circ.", "MinFeret"):
        outputs[f"{k}/{name}"] = np.array(table.getColumn(name))
outputs["kinds"] = np.array([str(roi.getTypeAsString()) for roi in rois])
"""


def objects() -> np.ndarray:
    """Blobs, noise, holes, pieces, lines and pixels that touch each other and the border."""
    rng = np.random.default_rng(5)
    side, cell = 300, 15
    number = np.arange(side) // cell
    cells = 1 + number[:, None] * (side // cell) + number
    noise = rng.random((side, side))
    smooth = ndi.gaussian_filter(noise, 2)
    blobs = smooth > np.median(smooth)
    kinds = np.stack([blobs, noise > 0.5, blobs & (noise > 0.1), noise > 0.95, noise > 0.05])
    return np.where(np.take_along_axis(kinds, cells[None] % len(kinds), 0)[0], cells, 0)


def test_perimeter_circularity_and_smallest_width_are_imagejs(in_imagej, tmp_path):
    labels = objects()
    rois: list[ImagejRoi] = trace_rois(labels)
    write_rois(tmp_path / "rois.zip", rois)
    found = in_imagej(MEASURE, sizes=SIZES)
    assert set(found["kinds"]) == {"Traced", "Composite"} and len(rois) > 300
    for k, size in enumerate(SIZES):
        ours = region_table(labels, spacing=size, properties=list(COLUMNS.values()))
        for theirs, column in COLUMNS.items():
            np.testing.assert_allclose(
                ours[column], found[f"{k}/{theirs}"], rtol=1e-9, err_msg=f"{theirs} {size}"
            )
