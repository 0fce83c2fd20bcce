"""A project in one zip: to a machine without a network, and back.

::

    bundle.json                format, environment, and of every file its sha256 and size
    opsef.yaml, ...            the files of the project, where they lie in it
    bundled/<id>/...           files of images that lie outside of the project
    bundled/files/...          files from outside that steps and the class mask name
    bundled/environment.txt    what was installed, as pip reads it

What a person did (``annotations``, ``truth``, ``notebooks``), weights, datasets and tables always
go along; images and runs on wish. ``cache`` never does: it can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from opsef_bridge.errors import InputError, NotFoundError, OpsefError, ProjectError
from opsef_bridge.exchange.bundle_contents import (
    FILES,
    INDEX,
    PARTS,
    RUNS,
    Contents,
    contents,
)
from opsef_bridge.exchange.environments import environment, requirements
from opsef_bridge.files import BROKEN_ZIP, atomic_folder, atomic_path, lock
from opsef_bridge.project import Project

__all__ = ["Bundled", "bundle", "read_bundle", "unbundle"]

FORMAT = 1
CARD = "bundle.json"
ENVIRONMENT = "bundled/environment.txt"
CHUNK = 1 << 20
MOST_CARD = 256 << 20
"""Bytes of ``bundle.json``: more is no bundle but an attempt to fill the memory."""

LATEST = 2.0**40
"""Seconds since 1970 that a file may be of; file systems know no others."""


@dataclass(frozen=True)
class Bundled:
    """What lies in a bundle.

    Parameters
    ----------
    files : dict
        For each file, by its path in the project, ``sha256`` and ``bytes``.
    environment : dict
        See `opsef_bridge.exchange.environments.environment`.
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
        `target` is a folder, lies in a part of the project that is bundled, or is there and is no
        bundle; or a file has a name that not every system takes.
    NotFoundError
        The file of an image is gone, or no image was imported.
    LockedError
        A run or training is going on, and was asked for.
    ProjectError
        The disk has too little space.
    """
    project.must_exist()
    if target.is_dir():
        raise InputError(f"{target} is a folder", hint=f"Name a file: {target / 'project.zip'}")
    if any(target.resolve().is_relative_to(project.root / part) for part in (*PARTS, *RUNS)):
        raise InputError(f"{target} would lie in itself", hint="Name a file outside of the project")
    _refuse_other_file(target)
    with contextlib.ExitStack() as held:
        for part in RUNS if runs else ():
            if (project.root / part).is_dir():  # half a run is none
                held.enter_context(lock(project.root / part / ".lock"))
        found = contents(project, images=images, runs=runs)
        for name in found.files:
            if _leads_out(name):
                raise InputError(
                    f"{name!r} is a name that no other system can be relied on to take",
                    hint="Rename it: no backslash, and no letter with a colon at the beginning",
                )
        return _write(target, found, images, runs)


def _refuse_other_file(target: Path) -> None:
    """Refuse to write over what is no bundle."""
    if target.exists():
        try:
            read_bundle(target)
        except InputError as error:
            raise InputError(
                f"{target} is there already, and is no bundle that could be written anew",
                hint="Name another file, or remove that one",
            ) from error


def _write(target: Path, found: Contents, images: bool, runs: bool) -> Bundled:
    _check_space(target.absolute().parent, sum(f.stat().st_size for f in found.files.values()))
    here, known = environment(), dict[str, dict[str, Any]]()
    texts = {**found.texts, ENVIRONMENT: requirements(here).encode()}
    with (
        atomic_path(target) as partial,
        # Images, weights and ROI sets hardly shrink; zip64 is for more than 4 GiB.
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, file in sorted(found.files.items()):
            if name not in texts:
                with open(file, "rb") as source:
                    known[name] = _pack(archive, name, source) | {"mtime": file.stat().st_mtime}
        for name, text in texts.items():  # made for the bundle: no time of theirs is known
            known[name] = _pack(archive, name, io.BytesIO(text)) | {"mtime": 0.0}
        done = Bundled(known, here, images, runs, found.sources)
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


def unbundle(file: Path, folder: Path, *, pictures: bool = True) -> Bundled:
    """Unpack a bundle into a new project.

    Parameters
    ----------
    file : Path
        As `bundle` wrote it.
    folder : Path
        Must not exist, or be empty. It appears when every file was unpacked and checked.
    pictures : bool
        Whether the files of the images are unpacked, if they are in it.

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
        wanted = {
            name: facts
            for name, facts in told.files.items()
            if pictures or name.split("/")[0] in (*FILES, *PARTS, *RUNS) or name == INDEX
        }
        _check_space(folder.absolute(), sum(facts["bytes"] for facts in wanted.values()))
        with _new_folder(folder) as partial:
            for name, facts in wanted.items():
                _unpack(archive, file, name, facts, partial / name)
    return told


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `folder`; where that is there, its files move into it.

    Somebody may stand in it, or it is a disk of its own: then it cannot be replaced.
    """
    if not folder.is_dir():
        with atomic_folder(folder) as partial:
            yield partial
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=".partial") as place:
        yield Path(place)
        # The file by which it is a project comes last.
        for path in sorted(Path(place).iterdir(), key=lambda path: path.name == "opsef.yaml"):
            path.rename(folder / path.name)


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
    except BROKEN_ZIP as error:
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
    except (ValueError, *BROKEN_ZIP) as error:
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
    except OpsefError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, *BROKEN_ZIP) as error:
        raise _damaged(file, f"{CARD}: {error}") from None
    for name in [*files, *names]:
        _check_name(name, file)
    if len(names) != len(set(names)) or {*files, CARD} != set(names):
        raise _damaged(file, f"it does not hold the files that {CARD} names")
    if any(one["bytes"] < 0 or not abs(one["mtime"]) < LATEST for one in files.values()):
        raise _damaged(file, "a size or a time is none")
    return told


def _check_name(name: str, file: Path) -> None:
    """Refuse a name that leads out of the folder, on any system."""
    if _leads_out(name):
        raise InputError(
            f"{file} has a file that would lie outside of the project: {name!r}",
            hint="It was not written by `opsef project bundle`: do not trust it",
        )


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(
        path.is_absolute()
        or {"..", "."} & set(name.split("/"))
        or any(mark in name for mark in ("\\", "\0"))
        or PureWindowsPath(name).drive
        or path.as_posix() != name
        or name == "."
    )


def _check_space(folder: Path, needed: int) -> None:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise ProjectError(
            f"{needed / 1e6:.0f} MB are needed in {there}, {free / 1e6:.0f} MB are free",
            hint="Make room, or name another place",
        )


def _damaged(file: Path, why: str) -> InputError:
    return InputError(f"{file} is damaged ({why})", hint="Copy it again, or bundle again")
