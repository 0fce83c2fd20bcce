"""A project in one zip: to a machine without a network, and back.

::

    bundle.json          format, environment, and of every file its sha256 and size
    opsef.yaml, ...      the files of the project, where they lie in it
    bundled/<id>/...     files of images that lie outside of the project

What a person did (``annotations``, ``truth``, ``notebooks``), weights, datasets and tables always
go along; images and runs on wish. ``cache`` never does: it can be made again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from opsef_bridge.engines import engine_names
from opsef_bridge.errors import InputError, NotFoundError, OpsefError, ProjectError
from opsef_bridge.files import atomic_folder, atomic_path
from opsef_bridge.project import ImageEntry, Project

__all__ = ["Bundled", "bundle", "differences", "environment", "read_bundle", "unbundle"]

FORMAT = 1
CARD = "bundle.json"
PARTS = ("annotations", "truth", "models", "datasets", "tables", "notebooks")
RUNS = ("runs", "trainings")
FILES = ("opsef.yaml", "adopted.json", "engines.json")
CHUNK = 1 << 20
MOST_CARD = 256 << 20
"""Bytes of ``bundle.json``: more is no bundle but an attempt to fill the memory."""

MATTER = (
    "numpy", "scipy", "scikit-image", "tifffile", "onnxruntime", "onnxruntime-gpu", "torch",
    "tensorflow", "stardist", "cellpose",
)  # fmt: skip
"""Packages of which another version can change labels."""


@dataclass(frozen=True)
class Bundled:
    """What lies in a bundle.

    Parameters
    ----------
    files : dict
        For each file, by its path in the project, ``sha256`` and ``bytes``.
    environment : dict
        See `environment`.
    images, runs : bool
        Whether the files of the images, and the runs, are in it.
    sources : dict of str to str
        For each image of which the source was outside of the project, where it was.
    """

    files: Mapping[str, Mapping[str, Any]]
    environment: Mapping[str, Any]
    images: bool
    runs: bool
    sources: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one["bytes"] for one in self.files.values())


def bundle(project: Project, target: Path, *, images: bool = True, runs: bool = False) -> Bundled:
    """Write a project to a zip.

    Parameters
    ----------
    project : Project
    target : Path
        Its folder is made if need be.
    images : bool
        With the files of the images, also those that lie outside of the project.
    runs : bool
        With runs and trainings.

    Raises
    ------
    ConfigError
        There is no project.
    InputError
        `target` is a folder, or lies in a part of the project that is bundled.
    NotFoundError
        The file of an image is gone.
    ProjectError
        The disk has too little space.
    """
    project.must_exist()
    if target.is_dir():
        raise InputError(f"{target} is a folder", hint=f"Name a file: {target / 'project.zip'}")
    parts = [*PARTS, *(RUNS if runs else ())]
    if any(target.resolve().is_relative_to(project.root / part) for part in parts):
        raise InputError(f"{target} would lie in itself", hint="Name a file outside of the project")
    entries, sources, found = _images(project) if images else (project.images(), {}, {})
    files = dict(_project_files(project, parts)) | found
    needed = sum(file.stat().st_size for file in files.values())
    _check_space(target.absolute().parent, needed)
    known: dict[str, dict[str, Any]] = {}
    with (
        atomic_path(target) as partial,
        # Images, weights and ROI sets hardly shrink; zip64 is for more than 4 GiB.
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, file in sorted(files.items()):
            with open(file, "rb") as source:
                known[name] = _pack(archive, name, source) | {"mtime": file.stat().st_mtime}
        if entries:
            known["images/index.csv"] = _pack(archive, "images/index.csv", _index(entries))
            known["images/index.csv"]["mtime"] = 0.0  # not known: made for the bundle
        done = Bundled(known, environment(), images, runs, sources)
        archive.writestr(CARD, json.dumps(_card(done), indent=1, ensure_ascii=False))
    return done


def read_bundle(file: Path) -> Bundled:
    """Return what a bundle says of itself.

    Raises
    ------
    NotFoundError
        There is no such file.
    InputError
        It is no bundle, is damaged, of a newer format, or has names that lead out of a folder.
    """
    with _opened(file) as archive:
        return _read_card(archive, file)


def unbundle(file: Path, folder: Path) -> Bundled:
    """Unpack a bundle into a new project.

    Parameters
    ----------
    file : Path
        As `bundle` wrote it.
    folder : Path
        Must not exist, or be empty. It appears when every file was unpacked and checked.

    Raises
    ------
    NotFoundError, InputError
        As `read_bundle`; or a file in it is missing, or not what its sha256 says.
    ProjectError
        There is something in `folder` already, or the disk has too little space.
    """
    with _opened(file) as archive:
        told = _read_card(archive, file)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ProjectError(
                f"{folder} is there already, nothing is overwritten",
                hint="Name a new folder; or bring edits back into that project with --merge",
            )
        _check_space(folder.absolute().parent, told.size)
        with atomic_folder(folder) as partial:
            for name, facts in told.files.items():
                _unpack(archive, file, name, facts, partial / name)
    return told


def environment() -> dict[str, Any]:
    """Return what labels can depend on: program, Python, platform, engines, packages.

    No names of machines or persons are in it.
    """
    packages = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return {
        "opsef_bridge": importlib.metadata.version("opsef_bridge"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "engines": sorted(engine_names()),
        "packages": dict(sorted((name, v) for name, v in packages.items() if name)),
    }


def differences(told: Mapping[str, Any], here: Mapping[str, Any] | None = None) -> list[str]:
    """Return a sentence for each difference of two environments that can change labels.

    Examples
    --------
    >>> one = {"python": "3.11.2", "packages": {"numpy": "1.26.4"}}
    >>> differences(one, {"python": "3.11.9", "packages": {"numpy": "2.1.0"}})
    ['numpy is 2.1.0 here, it was 1.26.4']
    """
    here = environment() if here is None else here
    pairs = {
        "opsef_bridge": (told.get("opsef_bridge"), here.get("opsef_bridge")),
        "Python": (_minor(told.get("python")), _minor(here.get("python"))),
        "the platform": (told.get("platform"), here.get("platform")),
    }
    packages = [told.get("packages") or {}, here.get("packages") or {}]
    pairs |= {name: (packages[0].get(name), packages[1].get(name)) for name in MATTER}
    said = [
        f"{name} is {now or 'not installed'} here, it was {then}"
        for name, (then, now) in pairs.items()
        if then and then != now
    ]
    lacks = sorted(set(told.get("engines") or ()) - set(here.get("engines") or ()))
    return [*said, *([f"Engines that are not here: {', '.join(lacks)}"] if lacks else [])]


def _images(project: Project) -> tuple[list[ImageEntry], dict[str, str], dict[str, Path]]:
    """Entries as the bundle has them, sources that were outside, and files by path in the zip."""
    entries, sources, files, places = [], {}, {}, {}
    for entry in project.images():
        source = Path(os.path.normpath(project.source_file(entry)))
        if not source.exists():
            raise NotFoundError(
                f"the file of image {entry.id} is gone: {source}",
                hint="Bring it back, or bundle without images: --without-images",
            )
        if source.is_relative_to(project.root):
            place = source.relative_to(project.root).as_posix()
        else:
            place = places.setdefault(source, f"bundled/{entry.id}/{source.name}")
            sources[entry.id] = str(entry.source)
        files |= {f"{place}{rest}": file for rest, file in _below(source)}
        entries.append(replace(entry, source=place))
    return entries, sources, files


def _below(source: Path) -> Iterator[tuple[str, Path]]:
    """A file, or all files of a folder such as an OME-Zarr, with what is behind its name."""
    if source.is_file():
        yield "", source
        return
    for file in sorted(source.rglob("*")):
        if file.is_file():
            yield f"/{file.relative_to(source).as_posix()}", file


def _project_files(project: Project, parts: list[str]) -> Iterator[tuple[str, Path]]:
    """The files of the project without its images; no locks, and nothing half written."""
    for name in FILES:
        if (project.root / name).is_file():
            yield name, project.root / name
    for part in parts:
        for file in sorted((project.root / part).rglob("*")):
            inside = file.relative_to(project.root)
            if file.is_file() and not any(word.startswith(".") for word in inside.parts):
                yield inside.as_posix(), file


def _index(entries: list[ImageEntry]) -> IO[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        project = Project(folder)
        project.write_images(entries)
        return io.BytesIO(project.index_file.read_bytes())


def _pack(archive: zipfile.ZipFile, name: str, source: IO[bytes]) -> dict[str, Any]:
    """Write one file; return its sha256 and size, of the bytes that were written."""
    digest, size = hashlib.sha256(), 0
    with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


def _unpack(
    archive: zipfile.ZipFile, file: Path, name: str, facts: Mapping[str, Any], target: Path
) -> None:
    """Write one file of a bundle, no more bytes than it says."""
    digest, left = hashlib.sha256(), int(facts["bytes"])
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(name) as source, open(target, "xb") as out:
            while chunk := source.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    break
                digest.update(chunk)
                out.write(chunk)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(file, f"{name}: {error}") from None
    if left or digest.hexdigest() != facts["sha256"]:
        raise _damaged(file, f"{name} is not what its sha256 says")
    if facts.get("mtime"):
        os.utime(target, (facts["mtime"], facts["mtime"]))


def _card(done: Bundled) -> dict[str, Any]:
    return {
        "opsef_bundle": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": done.images,
        "runs": done.runs,
        "sources": dict(done.sources),
        "environment": dict(done.environment),
        "files": dict(done.files),
    }


def _opened(file: Path) -> zipfile.ZipFile:
    if not file.is_file():
        raise NotFoundError(f"there is no file {file}", hint="`opsef project bundle` makes one")
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise _damaged(file, str(error)) from None


def _read_card(archive: zipfile.ZipFile, file: Path) -> Bundled:
    names = archive.namelist()
    if CARD not in names or archive.getinfo(CARD).file_size > MOST_CARD:
        raise InputError(
            f"{file} is no bundle of a project: it has no {CARD}",
            hint="`opsef models add` takes a bundle of weights",
        )
    try:
        card = json.loads(archive.read(CARD))
        version = int(card["opsef_bundle"])
        if version > FORMAT:
            raise InputError(
                f"{file} is of format {version}, this program reads up to {FORMAT}",
                hint="Unpack it with the newer program that wrote it",
            )
        files = {
            str(name): {
                "sha256": str(one["sha256"]),
                "bytes": int(one["bytes"]),
                "mtime": float(one.get("mtime") or 0),
            }
            for name, one in card["files"].items()
        }
        told = Bundled(
            files, dict(card["environment"]), bool(card["images"]), bool(card["runs"]),
            dict(card["sources"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        if isinstance(error, OpsefError):
            raise
        raise _damaged(file, f"{CARD}: {error}") from None
    for name in [*files, *names]:
        _check_name(name, file)
    if len(names) != len(set(names)) or {*files, CARD} != set(names):
        raise _damaged(file, f"it does not hold the files that {CARD} names")
    if any(one["bytes"] < 0 for one in files.values()):
        raise _damaged(file, "a size is below 0")
    return told


def _check_name(name: str, file: Path) -> None:
    """Refuse a name that leads out of the folder, on any system."""
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or {"..", "."} & set(name.split("/"))
        or any(mark in name for mark in ("\\", "\0"))
        or PureWindowsPath(name).drive
        or path.as_posix() != name
        or name == "."
    ):
        raise InputError(
            f"{file} has a file that would lie outside of the project: {name!r}",
            hint="It was not written by `opsef project bundle`: do not trust it",
        )


def _check_space(folder: Path, needed: int) -> None:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise ProjectError(
            f"{needed / 1e6:.0f} MB are needed in {there}, {free / 1e6:.0f} MB are free",
            hint="Make room, or name another place",
        )


def _minor(version: Any) -> str:
    return ".".join(str(version).split(".")[:2]) if version else ""


def _damaged(file: Path, why: str) -> InputError:
    return InputError(f"{file} is damaged ({why})", hint="Copy it again, or bundle again")
