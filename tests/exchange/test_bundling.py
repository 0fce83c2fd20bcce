"""A project in one zip, unpacked elsewhere."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import tifffile

from opsef_bridge.errors import ConfigError, InputError, NotFoundError, ProjectError
from opsef_bridge.exchange import bundling
from opsef_bridge.exchange.bundling import CARD, bundle, differences, read_bundle, unbundle
from opsef_bridge.files import file_sha256
from opsef_bridge.images import read_image
from opsef_bridge.project import Project
from tests.running import run_opsef
from tests.small_projects import discs, swept


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


def test_all_comes_out_as_it_went_in(project, tmp_path):
    (project.root / "notebooks").mkdir()
    (project.root / "notebooks" / "own.md").write_text("seen")
    (project.root / "cache" / "x").mkdir(parents=True, exist_ok=True)
    told = bundle(project, tmp_path / "new" / "p.zip", runs=True)
    there = Project(tmp_path / "there")
    assert unbundle(tmp_path / "new" / "p.zip", there.root) == told
    for name, facts in told.files.items():
        assert file_sha256(there.root / name) == facts["sha256"], name
        if name != "images/index.csv":
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
    project.source_file(project.images()[0]).unlink()
    with pytest.raises(NotFoundError, match="is gone"):
        bundle(project, tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()
    bundle(project, tmp_path / "p.zip", images=False)


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
    code, out, err = run_opsef(monkeypatch, capfd, "project", "unbundle", file, folder)
    assert code == 0 and "as they were bundled" in out, err
    assert len(read_bundle(file).files) == sum(one.is_file() for one in folder.rglob("*"))
    code, out, err = run_opsef(monkeypatch, capfd, "project", "unbundle", file, folder)
    assert code == 2 and "--merge" in err
