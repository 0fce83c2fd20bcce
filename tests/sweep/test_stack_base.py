"""Comparison stacks of images to which a recipe cannot be applied."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from opsef_bridge.files import read_json
from opsef_bridge.project import Project
from opsef_bridge.sweep import plan_sweep, run_plan
from tests.small_projects import Here, discs

CONFIG = """\
opsef: 1
images: {source: [data/*]}
preprocess: {raw: [], stain: [{colour_deconvolution: {stain: dab}}]}
models: {classic: {engine: watershed}}
compare: {base: BASE}
sweep: {crop: none}
"""


@pytest.fixture
def swept(tmp_path):
    """Return how to sweep a colour image and a grey one, by the recipe of the base picture."""

    def sweep(base: str):
        (tmp_path / "data").mkdir()
        grey = (discs(1) // 8).astype(np.uint8)
        colour = np.stack([grey, grey // 2, grey // 3], axis=-1)
        tifffile.imwrite(tmp_path / "data" / "a.tif", colour, photometric="rgb")
        tifffile.imwrite(tmp_path / "data" / "b.tif", grey)
        (tmp_path / "opsef.yaml").write_text(CONFIG.replace("BASE", base), "utf-8")
        project = Project(tmp_path)
        return project, run_plan(project, plan_sweep(project), Here()), grey

    return sweep


def info_and_planes(project: Project, image: str) -> tuple[str, np.ndarray]:
    with tifffile.TiffFile(project.run().compare_file(image)) as tiff:
        return tiff.imagej_metadata["Info"], tiff.asarray()


def test_the_plain_image_stands_in_for_a_base_that_cannot_be_made(swept):
    project, result, grey = swept("stain")
    assert (result.ok + result.empty, result.failed) == (3, 1)
    colour_id, grey_id = (entry.id for entry in project.images())
    info, planes = info_and_planes(project, grey_id)
    assert "base: the plain image, since stain cannot be applied to it, shown from" in info
    top = grey > np.percentile(grey, 99)
    assert planes[0, 0][top].min() > 200, "the picture is the image"
    info, _ = info_and_planes(project, colour_id)
    assert "base: stain, shown from" in info
    [remark] = result.remarks
    assert remark.startswith(f"{grey_id}: compare.base 'stain' cannot be applied to it")
    assert read_json(project.run().record_file)["remarks"] == [remark]
    page = project.run().report_file.read_text("utf-8")
    assert page.count("--base:url(") == 2
    assert "the plain image, since compare.base &#x27;stain&#x27; cannot be applied to it" in page


def test_a_variant_that_failed_does_not_cost_the_stack_of_the_others(swept):
    project, result, _ = swept("raw")
    assert result.failed == 1
    info, planes = info_and_planes(project, project.images()[1].id)
    assert len(planes) == 2 and "base: raw, shown from" in info
    assert result.remarks == ()
