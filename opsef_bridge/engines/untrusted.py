"""Files of strangers: what they are, and nothing of them run.

A zip is looked through before it is unpacked, links are not followed, pickles are not read.
torch reads its own files with ``weights_only=True``.
"""

from __future__ import annotations

import http.client
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from opsef_bridge.errors import WeightsError
from opsef_bridge.files import BROKEN_ZIP

__all__ = [
    "download",
    "first_line",
    "is_hdf5",
    "is_pickle",
    "is_torch",
    "look_into_torch",
    "refuse_link",
    "unpack",
    "what_it_is",
]

LARGEST = 4 * 2**30
"""Bytes that a zip may unpack to, and that are downloaded; Cellpose 4 has 1.2 GB."""

MEMBERS = 1000
"""Files that a zip may have; a bundle has two per name."""

RATIO = 100
"""How much larger than itself a zip may become; weights hardly shrink in one."""

SECONDS = 60
"""How long a mirror may say nothing."""

# The first bytes of files that torch wrote before version 1.6: a pickle of its magic number.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_LAYERS = {"cellpose": "downsample.down.", "maskrcnn": "roi_heads."}
_NETWORKS = {"cellpose": "Cellpose 1 to 3", "maskrcnn": "torchvision's Mask R-CNN"}
"""How the layers of a network are called, and whose it is, by its engine."""


def is_torch(file: Path) -> bool:
    """Whether torch has written `file`, by its first bytes or what the zip lists."""
    if _start(file).startswith(_OLD_TORCH):
        return True
    if not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (OSError, *BROKEN_ZIP):
        return False
    return any(PurePosixPath(name).name == "data.pkl" for name in names)


def is_pickle(file: Path) -> bool:
    """Whether `file` is a pickle, or would be read as one."""
    start = _start(file)
    # A pickle of protocol 2 and later starts with its number, and .npy may hold one.
    protocol = len(start) > 1 and start[0] == 0x80 and start[1] <= 5
    return protocol or file.suffix.lower() in (".pkl", ".pickle", ".joblib", ".npy")


def is_hdf5(file: Path) -> bool:
    """Whether `file` is HDF5, as Keras writes."""
    return _start(file).startswith(b"\x89HDF\r\n\x1a\n")


def what_it_is(file: Path) -> str:
    """Say why `file` is no model that is taken."""
    if is_pickle(file):
        return "is a pickle, and pickles run code when they are read"
    if is_hdf5(file):
        return (
            "is HDF5 (.h5), which does not say what network it is for: of StarDist's give the "
            "folder with its config.json, for a U-Net of CellProfiler's layout add --engine unet"
        )
    if _start(file).startswith(b"PK\x03\x04") and not zipfile.is_zipfile(file):
        return "is a torn torch or zip file: copy it again"
    return "is a broken zip" if file.suffix.lower() == ".zip" else "is none of them"


def look_into_torch(file: Path, engine: str | None) -> tuple[str, list[str], str]:
    """Check a file of torch without running any of it.

    Parameters
    ----------
    engine : str or None
        Who is to run it; None: whoever the names of its layers tell.

    Returns
    -------
    engine : str
    names : list of str
        Of its tensors; none without torch.
    note : str
        What was not checked.

    Raises
    ------
    WeightsError
        It holds more than tensors, or those of a network that no engine here is for.
    """
    try:
        import torch
    except ImportError:
        note = "Taken as it is: torch, which would check it, is not installed"
        return engine or "cellpose", [], note
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken zip, a foreign class, a bad opcode: one kind each
        raise WeightsError(
            f"{file} is broken or holds more than weights: torch refuses to read it safely "
            f"({first_line(error)})",
            hint="Save the network's state_dict() by torch.save, or bring a sound copy",
        ) from error
    names = [str(name) for name in state] if isinstance(state, dict) else []
    found = next(
        (known for known, layer in _LAYERS.items() if any(n.startswith(layer) for n in names)), None
    )
    if engine not in (None, *_LAYERS):
        return str(engine), names, ""  # one of a user's own: only that knows its layers
    if found is None or engine not in (None, found):
        what = f"no layer {_LAYERS[engine or 'cellpose']} among its {len(names)} entries"
        raise WeightsError(
            f"{file} holds no network of {_NETWORKS[engine or 'cellpose']} ({what})",
            hint="Cellpose 4 needs an environment of its own: opsef engines add"
            if "W2" in names
            else f"It is for --engine {found}"
            if found
            else "Bring the file that Cellpose has written or the state_dict of torchvision's "
            "Mask R-CNN, or name another --engine",
        )
    return found, names, ""


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a zip into the new folder `target` and return that.

    Raises
    ------
    WeightsError
        It is broken, encrypted, or unsafe: a name that leads out of the folder, a link, too
        many files, too much larger than itself.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [info for info in opened.infolist() if not info.is_dir()]
            _check_members(archive, members)
            for info in members:
                place = target / info.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                # zipfile stops at the size that was announced, and so was checked.
                with opened.open(info) as inside, place.open("xb") as file:
                    shutil.copyfileobj(inside, file, 2**20)
    except (OSError, *BROKEN_ZIP) as error:
        raise WeightsError(
            f"{archive} cannot be unpacked ({first_line(error)})",
            hint="Bring a sound copy of the file",
        ) from error
    return target


def _check_members(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    def refuse(why: str) -> WeightsError:
        return WeightsError(
            f"{archive} is not unpacked: {why}", hint="Unpack it yourself if you trust it"
        )

    if len(members) > MEMBERS:
        raise refuse(f"it has {len(members)} files, more than {MEMBERS}")
    size, packed = sum(info.file_size for info in members), archive.stat().st_size
    if size > LARGEST:
        raise refuse(f"it would become {size} bytes, more than {LARGEST}")
    if size > max(2**20, RATIO * packed):
        raise refuse(f"its {packed} bytes would become {size}, more than {RATIO} times as many")
    for info in members:
        parts = PurePosixPath(info.filename).parts
        if info.filename.startswith("/") or ".." in parts or set("\\:\0") & set(info.filename):
            raise refuse(f"the name {info.filename!r} leads out of its folder")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise refuse(f"{info.filename!r} is a link or no file")
        if info.flag_bits & 1:
            raise refuse(f"{info.filename!r} is encrypted")


def refuse_link(file: Path, name: str) -> Path:
    """Return the file of the weights `name` if it is one, in its own folder, and no link."""
    if file.is_symlink() or not file.is_file():
        raise WeightsError(
            f"the file of the weights {name!r} is missing or a link: {file}",
            hint="Put the file itself there",
        )
    return file


def download(url: str, target: Path) -> None:
    """Write what `url` answers to `target`."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer, target.open("wb") as file:
            size = 0
            while block := answer.read(2**20):
                size += len(block)
                if size > LARGEST:
                    raise OSError(f"it sends more than {LARGEST} bytes")
                file.write(block)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{target.name} cannot be fetched from {urlsplit(url).hostname} ({first_line(error)})",
            hint="Check the address of the mirror, or bring the file: opsef models add FILE",
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _start(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(64)
