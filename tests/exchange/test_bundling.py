"""A project in one zip, unpacked elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from opsef_bridge.errors import ConfigError, InputError, LockedError, NotFoundError, ProjectError
from opsef_bridge.exchange import bundling
from opsef_bridge.exchange.bundling import CARD, bundle, read_bundle, unbundle
from opsef_bridge.exchange.environments import differences
from opsef_bridge.files import file_sha256, lock
from opsef_bridge.images import read_image
from opsef_bridge.project import Project
from opsef_bridge.sweep import plan_sweep, run_plan
from opsef_bridge.sweep.classes import classes_of
from opsef_bridge.sweep.importing import import_images
from tests.running import run_opsef
from tests.small_projects import Here, discs, swept


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    return swept(tmp_path_factory.mktemp("bundle") / "project", {"ä b.tif": discs(0)}).root


@pytest.fixture
def project(made_once, tmp_path) -> Project:
    return Project(shutil.copytree(made_once, tmp_path / "project"))


def with_outside(project: Project, place: Path) -> Project:
    """An image of the project comes to lie outside of it."""
    place.mkdir()
    (entry,) = project.images()
    file = shutil.move(project.source_file(entry), place / "ä b.tif")
    text = project.index_file.read_text("utf-8").replace(entry.source, str(file))
    project.index_file.write_text(text, "utf-8")
    return project


def repacked(file: Path, change) -> Path:
    """The same bundle with other members: `change` maps {name: bytes}."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    other = file.with_name("other.zip")
    with zipfile.ZipFile(other, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return other


def changed_card(members: dict[str, bytes], **values) -> None:
    members[CARD] = json.dumps(json.loads(members[CARD]) | values).encode()


def changed_file(members: dict[str, bytes], **values) -> None:
    files = json.loads(members[CARD])["files"]
    changed_card(members, files=files | {"opsef.yaml": files["opsef.yaml"] | values})


def test_all_comes_out_as_it_went_in(project, tmp_path):
    (project.root / "notebooks").mkdir()
    (project.root / "notebooks" / "own.md").write_text("seen")
    (project.root / "cache" / "x").mkdir(parents=True, exist_ok=True)
    told = bundle(project, tmp_path / "new" / "p.zip", runs=True)
    there = Project(tmp_path / "there")
    assert unbundle(tmp_path / "new" / "p.zip", there.root) == told
    for name, facts in told.files.items():
        assert file_sha256(there.root / name) == facts["sha256"], name
        if name not in ("images/index.csv", "bundled/environment.txt"):
            assert (there.root / name).read_bytes() == (project.root / name).read_bytes()
    assert [one.id for one in there.images()] == [one.id for one in project.images()]
    assert there.runs() == project.runs() and not there.cache_folder.exists()
    assert (there.root / "notebooks" / "own.md").read_text() == "seen"
    image = project.images()[0].id
    assert (there.labels(None, "v0001", image) == project.labels(None, "v0001", image)).all()


def test_images_from_outside_come_along_and_are_found(project, tmp_path):
    project = with_outside(project, tmp_path / "outside")
    told = bundle(project, tmp_path / "p.zip")
    (entry,) = project.images()
    assert told.sources == {entry.id: entry.source} and not told.runs
    there = Project(tmp_path / "there")
    unbundle(tmp_path / "p.zip", there.root)
    (moved,) = there.images()
    assert not Path(moved.source).is_absolute() and moved.id == entry.id
    assert (tifffile.imread(there.source_file(moved)) == read_image(entry.source).data).all()
    assert not there.runs()


def test_it_can_be_swept_where_nothing_of_what_was_outside_is(project, tmp_path):
    """Sources, files of steps and class masks are named where they lie in the bundle."""
    outside = tmp_path / "out side"
    project = with_outside(project, outside)
    for name in ("masks/ä b.tif", "masks/c.tif", "flat/ä b.tif"):
        (outside / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(outside / name, np.ones((72, 80), np.uint8))
    tifffile.imwrite(project.root / "own.tif", np.ones((72, 80), np.float32))
    settings = f"""\
opsef: 1  # mine
images: {{source: ["{outside}/*.tif", "{project.root}/data*/*.tif"]}}  # two
preprocess:
  own: [{{flat_field: {{reference: own.tif}}}}]
  outside: [{{flat_field: {{reference: '{outside}/flat/ä b.tif'}}}}]
models: {{classic: {{engine: watershed, threshold: otsu}}}}
class_mask: {{source: "{outside}/masks/{{stem}}.tif"}}
sweep: {{crop: none}}
"""
    project.config_file.write_text(settings, "utf-8")
    (project.root / "data2").mkdir()
    tifffile.imwrite(project.root / "data2" / "c.tif", discs(3))
    entries = import_images(project, project.config)
    bundle(project, tmp_path / "p.zip")
    shutil.rmtree(outside)
    shutil.rmtree(project.root)
    there = Project(tmp_path / "there")
    unbundle(tmp_path / "p.zip", there.root)
    text = there.config_file.read_text("utf-8")
    assert str(tmp_path) not in text and "# mine" in text and "# two" in text
    again = import_images(there, there.config)
    assert [(one.id, one.sha256) for one in again] == [(one.id, one.sha256) for one in entries]
    result = run_plan(there, plan_sweep(there), Here())
    assert (result.ok, result.failed) == (4, 0)
    labels = there.labels(None, "v0001", again[0].id)
    assert set(classes_of(there, there.config, again[0], labels).values()) == {1}


def test_images_that_are_not_asked_for_any_more_stay_out(project, tmp_path):
    other = project.root / "data" / "z.tif"
    tifffile.imwrite(other, discs(1))
    import_images(project, project.config)
    other.unlink()
    import_images(project, project.config)
    told = bundle(project, tmp_path / "p.zip")
    unbundle(tmp_path / "p.zip", tmp_path / "there")
    assert Project(tmp_path / "there").images() == project.images()
    assert "data/z.tif" not in told.files


def test_folders_behind_links_come_along_and_circles_end(project, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "w.txt").write_text("weights")
    project.models_folder.mkdir()
    (project.models_folder / "mine").symlink_to(tmp_path / "shared")
    (tmp_path / "shared" / "circle").symlink_to(project.models_folder)
    told = bundle(project, tmp_path / "p.zip")
    assert "models/mine/w.txt" in told.files
    unbundle(tmp_path / "p.zip", tmp_path / "there")
    assert (tmp_path / "there" / "models" / "mine" / "w.txt").read_text() == "weights"


def test_without_images(project, tmp_path):
    project = with_outside(project, tmp_path / "outside")
    told = bundle(project, tmp_path / "p.zip", images=False)
    assert not any(name.endswith(".tif") for name in told.files)
    unbundle(tmp_path / "p.zip", tmp_path / "there")
    assert Project(tmp_path / "there").images() == project.images()


def test_what_cannot_be_bundled(project, tmp_path, monkeypatch):
    with pytest.raises(ConfigError):
        bundle(Project(tmp_path / "none"), tmp_path / "p.zip")
    with pytest.raises(InputError, match="is a folder"):
        bundle(project, tmp_path)
    with pytest.raises(InputError, match="in itself"):
        bundle(project, project.root / "tables" / "p.zip")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(ProjectError, match="are free"):
        bundle(project, tmp_path / "p.zip")
    monkeypatch.undo()
    with pytest.raises(InputError, match="is no bundle"):
        bundle(project, project.config_file)
    (project.root / "notebooks").mkdir()
    (project.root / "notebooks" / "c\\d.md").write_text("")
    with pytest.raises(InputError, match="Rename it"):
        bundle(project, tmp_path / "p.zip")
    shutil.rmtree(project.root / "notebooks")
    with lock(project.lock_file), pytest.raises(LockedError):
        bundle(project, tmp_path / "p.zip", runs=True)
    index = project.index_file.rename(tmp_path / "index.csv")
    with pytest.raises(NotFoundError, match="opsef images import"):
        bundle(project, tmp_path / "p.zip")
    index.rename(project.index_file)
    project.source_file(project.images()[0]).unlink()
    with pytest.raises(NotFoundError, match="is gone"):
        bundle(project, tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()
    bundle(project, tmp_path / "p.zip", images=False)


def test_what_was_installed_is_told_as_pip_reads_it(project, tmp_path):
    told = bundle(project, tmp_path / "p.zip")
    unbundle(tmp_path / "p.zip", tmp_path / "there")
    text = (tmp_path / "there" / "bundled" / "environment.txt").read_text()
    first, *lines = text.splitlines()
    assert first.startswith("# Python 3.") and all(re.fullmatch(r"[\w.-]+==\S+", s) for s in lines)
    assert {line.partition("==")[0] for line in lines} == set(told.environment["packages"])


def test_a_bundle_is_written_anew_and_unpacked_where_one_stands(project, tmp_path, monkeypatch):
    bundle(project, tmp_path / "p.zip", images=False)
    told = bundle(project, tmp_path / "p.zip")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert unbundle(tmp_path / "p.zip", Path(".")) == told
    assert sorted(path.name for path in Path(".").iterdir()) == [
        "bundled", "data", "images", "opsef.yaml",
    ]  # fmt: skip
    assert Project(".").images() == Project(project.root).images()


def test_nothing_is_overwritten(project, tmp_path):
    bundle(project, tmp_path / "p.zip")
    before = project.config_file.read_bytes()
    with pytest.raises(ProjectError, match="nothing is overwritten"):
        unbundle(tmp_path / "p.zip", project.root)
    assert project.config_file.read_bytes() == before


BAD_NAMES = ["../evil", "/evil", "a/../../evil", "a\\..\\evil", "C:evil", "a//b", "./a"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_out_are_refused(project, tmp_path, name):
    bundle(project, tmp_path / "p.zip")

    def change(members):
        card = json.loads(members[CARD])
        card["files"][name] = {"sha256": "0" * 64, "bytes": 0}
        members[CARD] = json.dumps(card).encode()
        members[name] = b""

    with pytest.raises(InputError, match="outside of the project"):
        unbundle(repacked(tmp_path / "p.zip", change), tmp_path / "there")
    assert not (tmp_path / "there").exists() and not (tmp_path / "evil").exists()


CHANGES = {
    "newer": (lambda m: changed_card(m, opsef_bundle=2), "format 2"),
    "no card": (lambda m: m.pop(CARD), "no bundle"),
    "card no JSON": (lambda m: m.update({CARD: b"{"}), "damaged"),
    "card a list": (lambda m: m.update({CARD: b"[]"}), "damaged"),
    "card too deep": (lambda m: m.update({CARD: b"[" * 99999}), "damaged"),
    "size no number": (lambda m: changed_file(m, bytes=float("inf")), "damaged"),
    "size below 0": (lambda m: changed_file(m, bytes=-1), "damaged"),
    "time no number": (lambda m: changed_file(m, mtime=float("nan")), "damaged"),
    "time not of this world": (lambda m: changed_file(m, mtime=1e300), "damaged"),
    "file gone": (lambda m: m.pop("opsef.yaml"), "does not hold"),
    "file more": (lambda m: m.update({"more": b""}), "does not hold"),
    "file changed": (lambda m: m.update({"opsef.yaml": m["opsef.yaml"][::-1]}), "sha256"),
    "file longer": (lambda m: m.update({"opsef.yaml": m["opsef.yaml"] + b"x"}), "sha256"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_damaged_bundles_leave_nothing(project, tmp_path, what):
    bundle(project, tmp_path / "p.zip")
    change, words = CHANGES[what]
    with pytest.raises(InputError, match=words):
        unbundle(repacked(tmp_path / "p.zip", change), tmp_path / "there")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other.zip", "p.zip", "project"]


def test_a_zip_that_is_cut_or_has_a_wrong_byte(project, tmp_path):
    bundle(project, tmp_path / "p.zip")
    data = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged"):
        unbundle(tmp_path / "cut.zip", tmp_path / "there")
    at = data.index(b"opsef: 1")
    (tmp_path / "bit.zip").write_bytes(data[:at] + b"O" + data[at + 1 :])
    with pytest.raises(InputError, match="damaged"):
        unbundle(tmp_path / "bit.zip", tmp_path / "there")
    with pytest.raises(NotFoundError):
        unbundle(tmp_path / "none.zip", tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_packed_zip_with_any_wrong_byte_is_refused_or_the_same(project, tmp_path, how):
    """Somebody packed it again, and it was damaged on the way: wherever that is, no traceback."""
    bundle(project, tmp_path / "p.zip")
    with (
        zipfile.ZipFile(tmp_path / "p.zip") as archive,
        zipfile.ZipFile(tmp_path / "q.zip", "w", how) as other,
    ):
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    data = (tmp_path / "q.zip").read_bytes()
    refused = 0
    for at in np.linspace(0, len(data) - 1, 120).astype(int):
        changed = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        (tmp_path / "bit.zip").write_bytes(changed)
        try:
            unbundle(tmp_path / "bit.zip", tmp_path / "there")
        except InputError:
            refused += 1
            assert not (tmp_path / "there").exists()
        else:
            shutil.rmtree(tmp_path / "there")
    assert refused > 60


def test_a_full_disk_is_said_before_anything_is_written(project, tmp_path, monkeypatch):
    bundle(project, tmp_path / "p.zip")
    monkeypatch.setattr(
        bundling.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0)
    )
    with pytest.raises(ProjectError, match="0 MB are free"):
        unbundle(tmp_path / "p.zip", tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_differences_of_environments():
    one = {
        "opsef_bridge": "1", "python": "3.11.2", "engines": ["unet", "own"],
        "packages": {"torch": "2.1", "pip": "1"},
    }  # fmt: skip
    other = {"opsef_bridge": "1", "python": "3.12.1", "engines": ["unet"], "packages": {"pip": "2"}}
    assert differences(one, one) == []
    assert differences(one, other) == [
        "Python is 3.12 here, it was 3.11",
        "torch is not installed here, it was 2.1",
        "Engines that are not here: own",
    ]


def test_the_commands(project, tmp_path, monkeypatch, capfd):
    file, folder = tmp_path / "p.zip", tmp_path / "there"
    code, out, err = run_opsef(monkeypatch, capfd, "-p", project.root, "project", "bundle", file)
    assert code == 0 and f"Wrote {file}" in out, err
    assert "Not in it: cache, runs" in out
    code, out, err = run_opsef(monkeypatch, capfd, "project", "unbundle", file, folder)
    assert code == 0 and "as they were bundled" in out, err
    assert len(read_bundle(file).files) == sum(one.is_file() for one in folder.rglob("*"))
    code, out, err = run_opsef(monkeypatch, capfd, "project", "unbundle", file, folder)
    assert code == 2 and "--merge" in err
    words = ("project", "unbundle", file, tmp_path / "new", "--resolve", "ours")
    code, out, err = run_opsef(monkeypatch, capfd, *words)
    assert code == 2 and "--merge only" in err and not (tmp_path / "new").exists()
    words = ("-p", project.root, "project", "bundle", project.config_file)
    before = project.config_file.read_bytes()
    code, out, err = run_opsef(monkeypatch, capfd, *words)
    assert code == 2 and project.config_file.read_bytes() == before
