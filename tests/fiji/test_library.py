"""The library of the menu in Jython 2.7.4, as ImageJ runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.draw import disk

from opsef_bridge.measure.trace import trace_loops
from opsef_bridge.project import Project
from opsef_bridge.rois import Objects, read_roi_set, write_roi_set
from opsef_bridge.service.forms import read_request
from opsef_bridge.service.tls import certificate, pin_of
from opsef_bridge.sweep.comparing import Wish, compare_again
from tests.small_projects import discs, swept

from .contract_server import serving

HERE = Path(__file__).parent
Checks = Callable[..., dict[str, str | None]]


def names_of(file: str) -> list[str]:
    """Return the names of the checks in a file."""
    lines = (HERE / file).read_text().splitlines()
    return [line[4 : line.index("(")] for line in lines if line.startswith("def test_")]


def passed(done: dict[str, str | None], name: str) -> None:
    assert name in done, f"{name} was not run"
    assert done[name] is None, done[name]


@pytest.fixture(scope="module")
def model_checks(checks: Checks) -> dict[str, str | None]:
    return checks("model_checks.jy")


@pytest.mark.parametrize("name", names_of("model_checks.jy"))
def test_model(model_checks: dict[str, str | None], name: str) -> None:
    passed(model_checks, name)


@pytest.fixture(scope="module")
def client_checks(checks: Checks, tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("client")
    file = certificate(folder, ["localhost"])
    with serving() as port, serving(api=99) as old, serving(file) as secure:
        told = {"opsef": 1, "address": "127.0.0.1", "port": port, "tls": False, "pin": None}
        text = json.dumps(told | {"name": "Jürgen", "token": "right"}, ensure_ascii=False)
        (folder / "Jürgen müller.opsef").write_text(text, encoding="utf-8")
        (folder / "broken.opsef").write_text("{")
        (folder / "other.opsef").write_text('{"opsef": 2}')
        return checks(
            "client_checks.jy",
            OPSEF_PORT=str(port),
            OPSEF_OLD_PORT=str(old),
            OPSEF_TLS_PORT=str(secure),
            OPSEF_PIN=pin_of(file),
            OPSEF_CHECKS=str(folder),
        )


@pytest.mark.parametrize("name", names_of("client_checks.jy"))
def test_client(client_checks: dict[str, str | None], name: str) -> None:
    passed(client_checks, name)


def scattered(shape: tuple[int, int], number: int, seed: int) -> np.ndarray:
    """Return discs of different ids with gaps, some with holes, some touching."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for k in range(number):
        centre = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        radius = rng.integers(3, 9)
        labels[disk(centre, radius, shape=shape)] = 3 * k + 2
        if k % 7 == 0:
            labels[disk(centre, radius // 2, shape=shape)] = 0
    return labels


@pytest.fixture(scope="module")
def rois_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rois")
    labels = scattered((150, 200), 80, 1)
    classes = {int(v): 1 + int(v) % 3 for v in np.unique(labels)[1::4]}
    write_roi_set(folder / "plane.zip", Objects(labels, classes))
    volume = np.stack([scattered((50, 60), 9, 2)] * 2 + [np.zeros((50, 60), np.int32)])
    write_roi_set(folder / "volume.zip", Objects(volume))
    return folder


@pytest.fixture(scope="module")
def rois_checks(checks: Checks, rois_folder: Path) -> dict[str, str | None]:
    return checks("rois_checks.jy", OPSEF_CHECKS=str(rois_folder))


@pytest.mark.parametrize("name", names_of("rois_checks.jy"))
def test_rois(rois_checks: dict[str, str | None], name: str) -> None:
    passed(rois_checks, name)


@pytest.mark.parametrize("name", ["unchanged", "undone"])
def test_what_was_not_edited_comes_back_as_it_was(
    rois_checks: dict[str, str | None], rois_folder: Path, name: str
) -> None:
    passed(rois_checks, f"test_{name}")
    before, _, _ = read_roi_set(rois_folder / "plane.zip")
    after, notes, _ = read_roi_set(rois_folder / f"{name}.zip", before.labels.shape, sidecar=False)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.classes == before.classes
    assert not notes.lines()


def test_edits_come_back_to_the_pixel(
    rois_checks: dict[str, str | None], rois_folder: Path
) -> None:
    passed(rois_checks, "test_edited")
    told = json.loads((rois_folder / "edited.zip.json").read_text())
    raster = np.array(told["raster"][0]).reshape(150, 200)
    after, _, _ = read_roi_set(rois_folder / "edited.zip", (150, 200), sidecar=False)
    np.testing.assert_array_equal(after.labels > 0, raster > 0)
    assert len(after.ids) == told["count"]
    before, _, _ = read_roi_set(rois_folder / "plane.zip")
    kept = np.intersect1d(after.ids, before.ids)
    assert len(kept) == told["count"] - 2  # all but the second part and the added one
    for label in kept:
        np.testing.assert_array_equal(after.labels == label, raster == label)
        assert after.classes.get(label, 0) == told["groups"][str(label)]
    # The two new objects, each under its own new id.
    new = np.setdiff1d(np.unique(raster), [0, *before.ids])
    assert len(new) == 2
    for label in new:
        values = np.unique(after.labels[raster == label])
        assert len(values) == 1 and values[0] not in before.ids


def test_volumes_come_back(rois_checks: dict[str, str | None], rois_folder: Path) -> None:
    passed(rois_checks, "test_volume")
    told = json.loads((rois_folder / "volume-edited.zip.json").read_text())
    raster = np.array(told["raster"]).reshape(3, 50, 60)
    after, notes, _ = read_roi_set(rois_folder / "volume-edited.zip", (3, 50, 60), sidecar=False)
    np.testing.assert_array_equal(after.labels, raster)
    assert len(np.unique(raster[1:, :2, 50:])) == 1 and raster[1, 0, 59] > 0
    assert list(after.classes.values()) == [2]
    assert not notes.lines()


@pytest.fixture(scope="module")
def offline_folder(tmp_path_factory: pytest.TempPathFactory, which_java: str) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    project = folder / "Pröjekt 1"
    project.mkdir()
    (project / "opsef.yaml").write_text("opsef: 1\n")
    return folder


@pytest.fixture(scope="module")
def offline_checks(checks: Checks, offline_folder: Path) -> dict[str, str | None]:
    return checks("offline_checks.jy", OPSEF_CHECKS=str(offline_folder))


@pytest.mark.parametrize("name", names_of("offline_checks.jy"))
def test_offline(offline_checks: dict[str, str | None], name: str) -> None:
    passed(offline_checks, name)


def test_the_service_reads_what_was_asked_offline(
    offline_checks: dict[str, str | None], offline_folder: Path
) -> None:
    passed(offline_checks, "test_requests_are_whole")
    project = Project(offline_folder / "Pröjekt 1")
    found = [
        read_request(project, i) for i in json.loads((offline_folder / "asked.json").read_text())
    ]
    kinds = [request.kind for request, _ in found]
    assert kinds == ["sweep", "batch", "adopt", "verdict", "rois", "rois"]
    request, attached = found[4]
    assert request.parameters["base"] == "r0002" and request.parameters["truth"] == "touched"
    assert attached is not None and attached.read_bytes() == b"zip"
    assert found[5][0].parameters["empty"] is True and found[5][1] is None


def traced() -> list[dict]:
    """Return outlines as the service tells them, and the runs of their pixels."""
    labels = scattered((90, 110), 40, 3)
    labels[60:64, 60:64] = np.eye(4) * 500  # touches itself at corners only
    loops = trace_loops(labels)
    found = []
    for label in np.unique(labels)[1:]:
        corners = [
            loops.vertices[a:b].tolist()
            for a, b, value in zip(loops.starts, loops.starts[1:], loops.labels, strict=False)
            if value == label
        ]
        runs = []
        for y in np.flatnonzero((labels == label).any(1)):
            edges = np.diff((labels[y] == label).astype(int), prepend=0, append=0)
            starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
            runs += [[int(y), int(a), int(b)] for a, b in zip(starts, ends, strict=True)]
        found.append({"label": int(label), "loops": corners, "runs": runs})
    return found


@pytest.fixture(scope="module")
def choosing_folder(tmp_path_factory: pytest.TempPathFactory, which_java: str) -> Path:
    folder = tmp_path_factory.mktemp("choosing")
    (folder / "outlines.json").write_text(json.dumps(traced()))
    project = folder / "project"
    (project / "runs" / "run-0001").mkdir(parents=True)
    (project / "inbox" / "jobs").mkdir(parents=True)
    (project / "opsef.yaml").write_text("opsef: 1\n")
    images = [{"id": "i00001-a", "group": "near"}, {"id": "i00002-b", "group": "far"}]
    plan = {"purpose": "sweep", "images": images}
    (project / "runs" / "run-0001" / "plan.json").write_text(json.dumps(plan))
    square = [[[2, 2], [6, 2], [6, 6], [2, 6]]]
    asked = [
        {"image": image, "run": "run-0001", "variant": "v0002", "label": label,
         "plane": None, "box": [2, 2, 4, 4], "share": 0.5, "outline": square}
        for image, label in (("i00001-a", 1), ("i00001-a", 2), ("i00002-b", 3))
    ]  # fmt: skip
    job = {"id": "q1", "kind": "ask", "state": "done", "at": "1", "result": {"questions": asked}}
    (project / "inbox" / "jobs" / "q1.json").write_text(json.dumps(job))
    (folder / "info.json").write_text(json.dumps(compared(folder / "compared")))
    return folder


def compared(folder: Path) -> dict:
    """Return the Info of a whole comparison, and of the same when a crop took its place."""
    project = swept(folder, {"a.tif": discs(0, (96, 100))})
    [entry] = project.images()
    box = (20, 8, 48, 64)
    told = {"image": entry.id, "axes": entry.axes, "shape": list(entry.shape), "box": box}
    told["whole"] = info_of(project, entry.id)
    compare_again(project, None, Wish(crop=box))
    return told | {"crop": info_of(project, entry.id)}


def info_of(project: Project, image: str) -> str:
    with tifffile.TiffFile(project.run().compare_file(image)) as tiff:
        return tiff.imagej_metadata["Info"]


@pytest.fixture(scope="module")
def choosing_checks(checks: Checks, choosing_folder: Path) -> dict[str, str | None]:
    return checks("choosing_checks.jy", OPSEF_CHECKS=str(choosing_folder))


@pytest.mark.parametrize("name", names_of("choosing_checks.jy"))
def test_choosing(choosing_checks: dict[str, str | None], name: str) -> None:
    passed(choosing_checks, name)


def test_an_answer_in_the_inbox_is_what_was_drawn(
    choosing_checks: dict[str, str | None], choosing_folder: Path
) -> None:
    passed(choosing_checks, "test_the_inbox_has_questions_and_answers")
    project = Project(choosing_folder / "project")
    request, attached = read_request(
        project, json.loads((choosing_folder / "answer.json").read_text())
    )
    assert request.kind == "answer" and request.parameters["answer"] == "drawn"
    assert request.parameters["label"] == 1 and attached is not None
    objects, _, _ = read_roi_set(attached, (20, 20), sidecar=False)
    assert np.argwhere(objects.labels).tolist() == [[2, 3], [2, 4]]
