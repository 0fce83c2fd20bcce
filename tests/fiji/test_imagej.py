"""The whole loop in a real ImageJ 1.54p window, against the real service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from opsef_bridge.demo import example_data
from opsef_bridge.project import Project, read_csv
from opsef_bridge.rois import Objects, write_roi_set
from opsef_bridge.rois.annotatorj import check_objects, find_annotations, read_annotation
from opsef_bridge.rois.records import Revision
from opsef_bridge.rois.revisions import History
from opsef_bridge.rois.zips import read_rois
from opsef_bridge.service.fiji import install
from opsef_bridge.service.inbox import run
from opsef_bridge.service.people import invitation, invite, write_invitation

from .contract_server import Line

HERE = Path(__file__).parent
CONFIG = """\
opsef: 1
images:
  source: [data]
models:
  classic: {engine: watershed, scale: 1.0, threshold: [otsu, 0.8, local]}
sweep: {images: all, crop: none}
"""
LIMIT = 400.0  # seconds; 20 to 60 is usual


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Make a folder of ImageJ with a blank and an umlaut in its path, and our menu in it."""
    folder = tmp_path / "Fiji für alle"
    (folder / "plugins").mkdir(parents=True)
    install(folder)
    (folder / "luts").mkdir()
    # ImageJ brings this one; it looks there for the colours of groups.
    (folder / "luts" / "glasbey.lut").write_bytes(bytes(range(256)) * 3)
    return folder


class Service:
    """`opsef serve` of a folder with one project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        command = [sys.executable, "-m", "opsef_bridge", "serve", str(root), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "http://" in line, line
        self.url = line.split(" at ")[1].strip()
        self.port = int(self.url.rpartition(":")[2])

    def invite(self, name: str, folder: Path) -> tuple[Path, str]:
        _, token = invite(self.root, name)
        value = invitation(name, token, port=self.port)
        return write_invitation(folder, value), token

    def ask(self, token: str, method: str, path: str, body: bytes | None = None, **headers: str):
        request = urllib.request.Request(self.url + path, body, method=method)
        request.add_header("Authorization", f"Bearer {token}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read(), answer.headers

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "Projekte für alle")
    try:
        yield made
    finally:
        made.stop()


def make_project(root: Path) -> Project:
    """Make a project of one small image, with one cheap model."""
    folder = root / "nuclei"
    (folder / "data").mkdir(parents=True)
    source = tifffile.imread(example_data() / "images" / "u2os_F12_s9.tif")
    plane = np.asarray(source)[:220, :240] if np.ndim(source) == 2 else source[0][:220, :240]
    tifffile.imwrite(folder / "data" / "nuclei.tif", plane)
    (folder / "opsef.yaml").write_text(CONFIG)
    return Project(folder)


def talk(command: list[str], answers: dict[str, Any], limit: float) -> tuple[int, dict, str]:
    """Run a process; when it says a word of `answers`, do that and send it a line back."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    import threading

    timer = threading.Timer(limit, process.kill)
    timer.start()
    told, lines = {}, []
    try:
        assert process.stdout is not None and process.stdin is not None
        for line in process.stdout:
            lines.append(line)
            word, _, rest = line.strip().partition(" ")
            if word.isupper() and rest[:1] in ("[", "{", '"'):
                told[word] = json.loads(rest)
            elif word.isupper():
                told[word] = rest
            if word in answers:
                answers[word](told[word])
                process.stdin.write("\n")
                process.stdin.flush()
        return process.wait(), told, "".join(lines)
    finally:
        timer.cancel()
        process.kill()


def test_the_loop_online(
    display: str, app: Path, classes: Path, service: Service, tmp_path: Path
) -> None:
    project = make_project(service.root)
    pictures = Path(os.environ.get("OPSEF_SCREENSHOTS") or tmp_path / "pictures")
    file, token = service.invite("Ada Müller", tmp_path)
    _, other = service.invite("Bob", tmp_path)
    service.ask(token, "GET", "/v1/projects/nuclei/plan")  # imports the image
    [entry] = project.images()
    array = tifffile.imread(project.source_file(entry))
    told = {
        "app": str(app),
        "classes": str(classes),
        "pictures": str(pictures),
        "invitation": str(file),
        "project": "nuclei",
        "image": entry.id,
        "image_file": str(project.source_file(entry)),
        "csv": str(tmp_path / "Größen.csv"),
        "free": [2, 2],
        "annotatorj": str(tmp_path / "für AnnotatorJ"),
    }
    (tmp_path / "für AnnotatorJ").mkdir()

    def meanwhile(place: list[int]) -> None:
        """Another person deletes the object at that place."""
        from opsef_bridge.rois import Objects, read_roi_set, write_roi_set

        path = f"/v1/projects/nuclei/rois/{entry.id}"
        data, headers = service.ask(other, "GET", path)
        zipped = tmp_path / "others.zip"
        zipped.write_bytes(data)
        objects, _, _ = read_roi_set(zipped, array.shape, sidecar=False)
        labels = objects.labels.copy()
        labels[labels == labels[place[1], place[0]]] = 0
        zipped.unlink()
        kept = {k: v for k, v in objects.classes.items() if (labels == k).any()}
        write_roi_set(zipped, Objects(labels, kept))
        service.ask(other, "PUT", path, zipped.read_bytes(), If_Match=headers["ETag"])

    command = [sys.executable, str(HERE / "loop_online.py"), json.dumps(told)]
    code, said, output = talk(command, {"STALE": meanwhile}, LIMIT)
    assert code == 0 and "PASSED" in said, output[-6000:]

    # What the service has now.
    history = History(project, entry.id)
    revisions = history.revisions()
    assert [r.author for r in revisions] == ["Ada Müller", "Bob"] + ["Ada Müller"] * (
        len(revisions) - 2
    )
    assert sum(revisions[0].classes.values()) == 3
    changes = revisions[0].changes
    assert len(changes.deleted) == 2 and len(changes.added) == 2 and len(changes.changed) == 2
    assert project.adopted()
    verdicts = (project.annotations_folder / "verdicts.csv").read_text()
    assert "good" in verdicts and "Ada Müller" in verdicts
    assert "Bob" in said["REFUSED"] or "changed" in said["REFUSED"]
    csv = Path(told["csv"]).read_text(encoding="utf-8").splitlines()
    assert csv[0].startswith("label;area;") and "," in csv[1]
    # What goes to AnnotatorJ: as `opsef_bridge.rois.annotatorj` writes and reads it.
    [(group, stem, zipped)] = find_annotations(told["annotatorj"])
    assert (group, stem) == ("normal", entry.id)
    names = [roi.name for roi in read_rois(zipped)]
    assert names == [f"{k:04d}" for k in range(1, len(names) + 1)]
    objects, notes, _ = read_annotation(zipped, array.shape)
    check_objects(objects)
    saved = history.objects(revisions[-1].id)
    np.testing.assert_array_equal(objects.labels, saved.labels)
    assert objects.classes == saved.classes and not notes.lines()
    picture = tifffile.imread(Path(told["annotatorj"]) / f"{entry.id}.tif")
    np.testing.assert_array_equal(picture, array)
    recorded = said["RECORDED"]
    assert token not in recorded
    for command in ("Connect", "Segment Image", "Run Sweep", "Edit Objects", "Save Back"):
        assert f'run("{command}"' in recorded, recorded
    assert 'run("Edit Objects", "action=delete objects=' in recorded
    assert 'run("Open Comparison", "verdict=good variant=v' in recorded
    recorded_again(told, recorded, project, tmp_path)


def recorded_again(told: dict, recorded: str, project: Project, folder: Path) -> None:
    """Run what was recorded on a fresh service and ImageJ; the objects are the same."""
    fresh = Service(folder / "noch einmal für alle")
    try:
        again = make_project(fresh.root)
        (folder / "dort").mkdir()
        file, token = fresh.invite("Ada Müller", folder / "dort")
        fresh.ask(token, "GET", "/v1/projects/nuclei/plan")
        assert told["invitation"] in recorded
        macro = recorded.replace(told["invitation"], str(file))
        # ImageJ writes a line of warning below paths with an umlaut; people take it out.
        macro = "".join(line for line in macro.splitlines(True) if "<<warning" not in line)
        language = ["-Duser.language=de", "-Duser.country=DE"]
        csv = folder / "noch einmal.csv"
        wanted = {**told, "macro": macro, "options": language, "csv": str(csv)}
        command = [sys.executable, str(HERE / "loop_more.py"), json.dumps(wanted)]
        code, said, output = talk(command, {}, LIMIT)
        assert code == 0 and "PASSED" in said, output[-6000:]
        [entry] = again.images()
        zips = [one.annotations_folder / entry.id / "r0001.zip" for one in (project, again)]
        first, second = (read_rois(path) for path in zips)
        assert [roi.tobytes() for roi in first] == [roi.tobytes() for roi in second]
        text = csv.read_text(encoding="utf-8")
        assert text.startswith("label;area;") and "," in text
        files = [one.annotations_folder / "verdicts.csv" for one in (project, again)]
        judged = [[(row["run"], row["variant"], row["verdict"]) for row in read_csv(file)]
                  for file in files]  # fmt: skip
        assert judged[0] == judged[1] and judged[0][0][2] == "good", judged
    finally:
        fresh.stop()


def test_projects_jobs_and_the_same_offline(
    display: str, app: Path, classes: Path, service: Service, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("OPSEF_SCREENSHOTS") or tmp_path / "pictures")
    file, _ = service.invite("Ada", tmp_path)
    source = make_project(tmp_path / "elsewhere").root / "data" / "nuclei.tif"
    (tmp_path / "hier").mkdir()
    told = {
        "app": str(app),
        "classes": str(classes),
        "pictures": str(pictures),
        "invitation": str(file),
        "root": str(service.root),
        "local": str(tmp_path / "hier"),
        "image_file": str(source),
        "config": CONFIG,
    }
    command = [sys.executable, str(HERE / "loop_more.py"), json.dumps(told)]
    try:
        code, said, output = talk(command, {}, LIMIT)
        assert code == 0 and "PASSED" in said, output[-6000:]
        [folder] = [p for p in service.root.iterdir() if (p / "opsef.yaml").is_file()
                    and not p.name.startswith("_")]  # fmt: skip
        project = Project(folder)
        image, _, count = said["OFFLINE"]
        revision = done_offline(project, image)
        assert revision is not None and len(revision.changes.deleted) == 1
        assert revision.objects == count - 1
        assert "over" in (project.annotations_folder / "verdicts.csv").read_text()
        print("ms with 2,000 objects, least and median of 12:", said["EDITS"])  # shown by -s
        assert set(said["EDITS"]) == {"select", "delete", "merge"}
        assert "LOCAL" in said
    finally:
        started = tmp_path / "hier" / ".opsef" / "service.json"
        if started.is_file():  # by Connect; it outlives ImageJ
            os.kill(json.loads(started.read_text())["pid"], 15)


def done_offline(project: Project, image: str) -> Revision | None:
    """Return the revision of what was saved into the inbox, once it is there.

    The service does what waits in the inbox of its projects, or the person does; here both
    may, at the same time.
    """
    end = time.monotonic() + 60
    while time.monotonic() < end:
        failed = [job.error for job in run(project) if job.error]
        assert not failed, failed
        revision = History(project, image).head()
        if revision is not None:
            return revision
        time.sleep(0.2)
    return None


def volume() -> np.ndarray:
    """Return labels of a volume: 1 in all slices, 2 in two, 3 in one, 4 in three."""
    labels = np.zeros((4, 60, 80), np.int32)
    labels[:, 4:20, 4:20] = 1
    labels[1:3, 4:20, 32:50] = 2
    labels[0, 30:50, 32:50] = 3
    labels[1:, 34:50, 4:20] = 4
    return labels


def make_volume(root: Path) -> None:
    """Make a project of a small volume."""
    folder = root / "stack"
    (folder / "data").mkdir(parents=True)
    pixels = np.where(volume() > 0, 180, 20).astype(np.uint8)
    file = folder / "data" / "stack.tif"
    tifffile.imwrite(file, pixels, imagej=True, metadata={"axes": "ZYX"})
    (folder / "opsef.yaml").write_text(CONFIG)


def test_volumes_and_a_bad_line(
    display: str, app: Path, classes: Path, service: Service, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("OPSEF_SCREENSHOTS") or tmp_path / "pictures")
    make_project(service.root)
    make_volume(service.root)
    _, token = service.invite("Bob", tmp_path)
    for name in ("nuclei", "stack"):
        service.ask(token, "GET", f"/v1/projects/{name}/plan")
    project = Project(service.root / "stack")
    [entry] = project.images()
    [plane] = Project(service.root / "nuclei").images()
    zipped = tmp_path / "volume.zip"
    write_roi_set(zipped, Objects(volume()))
    path = f"/v1/projects/stack/rois/{entry.id}"
    service.ask(token, "PUT", path, zipped.read_bytes(), If_Match='"none"')
    line = Line(service.port)
    other = Service(tmp_path / "anderswo")
    make_volume(other.root)
    (tmp_path / "dort").mkdir()
    (tmp_path / "hier").mkdir()
    _, own = invite(service.root, "Ada")
    told = {
        "app": str(app),
        "classes": str(classes),
        "pictures": str(pictures),
        "line": str(write_invitation(tmp_path / "hier", invitation("Ada", own, port=line.port))),
        "elsewhere": str(other.invite("Ada", tmp_path / "dort")[0]),
        "image": plane.id,
        "volume": entry.id,
        "planes": [1, 1, 2, 2, 2, 3, 3, 3, 4, 4],
    }
    answers = {
        "HOLD": lambda _: setattr(line, "hold", 330_000),
        "GO": lambda _: (setattr(line, "hold", None), line.go_on.set()),
        "CUT": lambda _: setattr(line, "cut", 330_000),
        "LOSE": lambda _: setattr(line, "lose", 3),
        "DEAD": lambda _: setattr(line, "dead", True),
        "ALIVE": lambda _: setattr(line, "dead", False),
    }
    try:
        command = [sys.executable, str(HERE / "loop_more.py"), json.dumps(told)]
        code, said, output = talk(command, answers, LIMIT)
        assert code == 0 and "PASSED" in said, output[-6000:]
    finally:
        line.close()
        other.stop()
    # What came late, and what came in two parts, is what is in the file.
    file = Project(service.root / "nuclei").run("run-0001").compare_file(plane.id)
    pages = tifffile.imread(file).reshape(-1, 220, 240)
    checksums = [zlib.crc32(page.tobytes()) for page in pages]
    assert said["PLANES"] == checksums and said["AGAIN"] == checksums
    opened = [path for method, path, _ in line.seen if "/compare/" in path]
    assert len(opened) >= 3
    # Each edit was sent several times by one id, and was saved once.
    sent = [id for method, _, id in line.seen if method == "PUT"]
    assert all(sent) and len(set(sent[:4])) == 1, sent
    history = History(project, entry.id)
    assert [r.author for r in history.revisions()] == ["Bob", "Ada", "Ada"]
    objects = history.objects("r0002")
    before, after = volume(), objects.labels
    np.testing.assert_array_equal(after == 1, (before == 1) | (before == 2))
    np.testing.assert_array_equal(after == 3, before == 3)
    assert objects.classes == {1: 2}
    assert len(np.unique(after[1][before[1] == 4])) == 2  # split in the second slice only
    assert (after[2:][before[2:] == 4] == 4).all() and ((after > 0) | (before == 0)).all()
    drawn = after[2:][(after[2:] > 0) & (before[2:] == 0)]
    assert len(np.unique(drawn)) == 1 and len(drawn) > 150  # one object of two slices
    assert 1 not in history.objects("r0003").ids
