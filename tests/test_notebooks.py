"""Notebooks do what they say: the examples, and the three of a project, in a real kernel."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from opsef_bridge import read_rois, write_rois
from opsef_bridge.analysis.gather import gather_tables
from opsef_bridge.analysis.notebooks import write_notebooks
from opsef_bridge.demo import example_data
from opsef_bridge.exchange.sources import variant_of
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project
from opsef_bridge.rois.revisions import History
from tests.small_projects import discs, swept

EXAMPLES = Path(__file__).parents[1] / "examples" / "notebooks"
FILES = sorted(EXAMPLES.glob("*.ipynb"))

PATIENCE = 600
"""Seconds for a cell: only to end what hangs."""


def execute(notebook: nbformat.NotebookNode, folder: Path, temporary: Path) -> None:
    """Run all cells in a kernel of this interpreter; its outputs stay in the notebook.

    It is talked to over sockets in the file system, and writes its own files to `temporary`.
    """
    for name in ("ipython", "runtime", "tmp"):
        (temporary / name).mkdir(exist_ok=True)
    environment = {
        **os.environ, "IPYTHONDIR": str(temporary / "ipython"), "TMPDIR": str(temporary / "tmp"),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("MPLBACKEND", None)
    client = NotebookClient(
        notebook, timeout=PATIENCE, startup_timeout=PATIENCE, kernel_name="python3",
        kernel_manager_class=AsyncKernelManager, resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    manager = client.create_kernel_manager()
    manager.kernel_spec.argv[0] = sys.executable
    manager.connection_file = str(temporary / "runtime" / "kernel.json")
    with tempfile.TemporaryDirectory() as sockets:  # the path of a socket must be short
        manager.transport, manager.ip = "ipc", str(Path(sockets) / "k")
        client.execute(env=environment)


def edited(notebook: nbformat.NotebookNode, old: str, new: str) -> None:
    """Type into a cell, as a person would."""
    [cell] = [one for one in notebook.cells if old in one.source]
    assert cell.cell_type == "code" and cell.source.count(old) == 1
    cell.source = cell.source.replace(old, new)


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream"
    )


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def example(number: int, temporary: Path) -> tuple[nbformat.NotebookNode, Project]:
    """Execute an example, as it is; return it and the project that it made."""
    [file] = EXAMPLES.glob(f"{number}_*.ipynb")
    notebook = nbformat.read(file, as_version=4)
    execute(notebook, EXAMPLES, temporary)
    [folder] = (temporary / "tmp").glob("opsef-*")
    return notebook, Project(folder)


def objects_of(project: Project) -> pd.DataFrame:
    return pd.read_csv(project.tables_folder / "objects.csv")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_examples_are_kept_without_outputs(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)
    assert notebook.cells[0].cell_type == "markdown"
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert f"({file.name})" in page


def test_the_page_of_the_examples_names_no_other():
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert set(re.findall(r"\(([^)]*\.ipynb)\)", page)) == {file.name for file in FILES}


def test_filter_by_properties(tmp_path):
    notebook, project = example(1, tmp_path)
    kept = objects_of(project)
    assert kept["area"].between(50, 1500).all() and (kept["circularity"] >= 0.8).all()
    all_ = gather_tables(project, variant=variant_of(project, "v0001", "run-0001")).objects
    fits = all_["area"].between(50, 1500) & (all_["circularity"] >= 0.8)
    assert fits.sum() == len(kept) > 50 and len(all_) > len(kept)
    assert sorted(fits[fits].index.map(all_["area"])) == sorted(kept["area"])
    zips = [project.run("run-0002").rois_file("v0001", entry.id) for entry in project.images()]
    assert [len(read_rois(file)) for file in zips] == kept.groupby("image").size().tolist()
    assert pictures(notebook) == 3


def test_auto_and_user_masks(tmp_path):
    notebook, project = example(2, tmp_path)
    last = objects_of(project)
    away = np.hypot(last["centroid_y"] - 250, last["centroid_x"] - 500) - 150
    clear = away.abs() > 2  # the rule takes the pixel of the centre
    assert clear.sum() > 30
    assert (last["class"] == np.where(away < 0, 1, 2))[clear].all()
    assert set(last["class_name"]) == {"marked", "unmarked"}
    [cell] = [one for one in notebook.cells if "\nauto = " in one.source]
    shown = cell.outputs[-1].data["text/plain"]
    row = r"^{}\s+(\d+)\s+[\d.]+\s+\d+\s+([\d.]+)$"
    inside, outside = (
        re.search(row.format(name), shown, re.MULTILINE) for name in ("stained", "unstained")
    )
    assert int(inside[1]) > 5 < int(outside[1]) and float(inside[2]) > 3 * float(outside[2])
    assert int(inside[1]) + int(outside[1]) == len(last)
    assert pictures(notebook) == 3


def test_clusters(tmp_path):
    notebook, project = example(3, tmp_path)
    areas: dict[int, list[float]] = {1: [], 2: []}
    for entry in project.images():
        objects = History(project, entry.id).objects("r0001")
        assert set(objects.classes) == set(objects.ids)
        counts = np.bincount(objects.labels.ravel())
        for label, number in objects.classes.items():
            areas[number].append(float(counts[label]))
    one, two = (np.median(areas[number]) for number in (1, 2))
    assert max(one, two) > 2 * min(one, two)
    table = objects_of(project)
    assert {"pca_1", "pca_2", "cluster"} <= set(table) and set(table["cluster"]) == {1, 2}
    assert len(table) == len(areas[1]) + len(areas[2])
    assert "silhouette" in printed(notebook) and pictures(notebook) == 2


def test_second_channel_ratio(tmp_path):
    notebook, project = example(4, tmp_path)
    table = objects_of(project)
    labels = project.labels(None, "v0001", project.images()[0].id)
    truth = read_labels(example_data() / "labels" / "u2os_I23_s5.tif")
    right = 0
    for label, ratio in zip(table["label"], table["ratio_1_0"], strict=True):
        below = np.bincount(truth[labels == label])
        below[0] = 0
        right += abs(ratio / (2.0 if below.argmax() % 2 == 0 else 0.5) - 1) < 0.1
    assert len(table) > 30 and right >= 0.9 * len(table)
    assert pictures(notebook) == 2


def test_annotatorj_classes(tmp_path):
    notebook, project = example(5, tmp_path)
    [entry] = project.images()
    before = project.labels(None, "v0001", entry.id)
    revision = History(project, entry.id).get("r0001")
    objects = History(project, entry.id).objects("r0001")
    np.testing.assert_array_equal(objects.labels, before)
    assert revision.author == "Ada" and set(objects.classes) == set(np.unique(before)) - {0}
    table = objects_of(project)
    assert dict(zip(table["label"], table["class"], strict=True)) == objects.classes
    longer = table["axis_major_length"] / table["axis_minor_length"]
    assert longer[table["class"] == 2].min() > 1.3
    assert longer[table["class"] == 1].max() < 2
    assert set(table["class_name"]) == {"round", "elongated"} and pictures(notebook) == 2


def test_the_three_notebooks_of_a_project(tmp_path):
    """Setup, Run and Reimport, one after the other, with what a person types into them."""
    images = {f"{name}.tif": discs(seed) for seed, name in enumerate("ab")}
    project = swept(tmp_path / "p", images)
    files = write_notebooks(project, "Discs")
    setup, run, reimport = (nbformat.read(file, as_version=4) for file in files)

    edited(setup, "0.8", "0.9")
    edited(setup, "project = Project", "import sys\n\nprint(sys.executable)\nproject = Project")
    execute(setup, files[0].parent, tmp_path)
    assert printed(setup).startswith(sys.executable) and pictures(setup) == 1
    assert project.config.models["classic"]["threshold"] == ["otsu", 0.9]
    assert "2 variants on 2 images: 2 network passes" in printed(setup)

    edited(run, "chosen = None", 'chosen = "v0002"')
    edited(run, 'conclusion = """\n', 'conclusion = """\nDiscs are round.\n')
    execute(run, files[1].parent, tmp_path)
    assert project.adopted()["default"]["run"] == "run-0002" and pictures(run) == 1
    assert project.run("run-0003").plan()["purpose"] == "batch"
    told = (project.root / "notebooks" / "conclusions.md").read_text("utf-8")
    assert "Discs, run-0002, by " in told and told.endswith("Discs are round.\n")

    execute(reimport, files[2].parent, tmp_path)
    table = objects_of(project)
    assert set(table["run"]) == {"run-0003"} and set(table["class"]) == {0}
    drop_first(project.exchange_folder("Discs") / f"{project.images()[0].id}_ROIs.zip")
    edited(reimport, "gate, number = None", 'gate, number = "area > 0"')
    execute(reimport, files[2].parent, tmp_path)
    first, second = (History(project, entry.id) for entry in project.images())
    assert [one.id for one in first.revisions()] == ["r0001", "r0002"]
    assert len(objects_of(project)) == len(table) - 1
    assert set(first.objects("r0002").classes.values()) == {1}
    assert [one.id for one in second.revisions()] == ["r0001"]
    plots = len(list((project.root / "plots").glob("*.png")))
    assert pictures(reimport) == plots + 1 > 3


def drop_first(file: Path) -> None:
    """Delete the first ROI, as in the ROI Manager."""
    write_rois(file, read_rois(file)[1:])
