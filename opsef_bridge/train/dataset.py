"""Datasets on disk: images with vouched labels, split, with a card and checksums.

::

    datasets/d0001/dataset.json       the card: where each sample is from, its split, its sha256
    datasets/d0001/images/<name>.tif  pixels as they were: ([Z,] Y, X), or with red, green, blue
    datasets/d0001/labels/<name>.tif  0 background, n object
    datasets/d0001/known/<name>.tif   1 where somebody vouched; only where that is not all

Nothing is read that is not as the card says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import tifffile

from opsef_bridge.engines.scaling import normalise, percentiles
from opsef_bridge.engines.unet import CLIP, PERCENTILES, prepare
from opsef_bridge.errors import InputError, OpsefError, ProjectError
from opsef_bridge.files import atomic_path, file_sha256, key_of, read_json
from opsef_bridge.images import read_labels, to_grey, write_labels
from opsef_bridge.project import Project, safe_name
from opsef_bridge.train.colour import prepare_colour
from opsef_bridge.train.data import UNKNOWN, Sample, object_count
from opsef_bridge.train.dataset_split import SPLITS

__all__ = [
    "CARD",
    "DatasetSamples",
    "content_key",
    "describe",
    "list_datasets",
    "open_dataset",
    "pixels_key",
    "read_card",
    "read_dataset",
    "read_entry",
    "verify_dataset",
    "write_sample",
]

CARD = "dataset.json"

PARTS = ("images", "labels", "known")

VERSION = 1
"""Of the files: part of the key of a dataset."""

FIELDS = ("id", "key", "created", "by", "split", "samples")
"""Of a card; `OF_SAMPLE` are those of each sample."""

OF_SAMPLE = ("name", "image", "kind", "group", "split", "shape", "colour", "objects",
             "known_pixels", "pixels_sha256", "labels_sha256", "files")  # fmt: skip

GUARD = "Make it again (opsef train dataset), or copy it again from where it is whole"


def read_dataset(
    folder: str | Path, split: str, *, colour: bool = False, planes: bool | None = None
) -> list[Sample]:
    """Read the samples of a split, normalised; see `open_dataset`, which reads them one by one."""
    return list(open_dataset(folder, split, colour=colour, planes=planes))


def open_dataset(
    folder: str | Path, split: str, *, colour: bool = False, planes: bool | None = None
) -> DatasetSamples:
    """Return the samples of a split as a sequence that reads each when it is asked for.

    Parameters
    ----------
    folder : path
        Of the dataset.
    split : {"train", "val", "test", "all"}
    colour : bool
        Samples are (Y, X, 3): grey images three times, colour as it is. Else colour images
        go to grey by luminance.
    planes : bool, optional
        Of a volume take each plane as a sample, where something is vouched for in it (True),
        or the volume (Z, Y, X) (False). By default a volume is an error.

    Raises
    ------
    InputError
        The split has another name, or there are volumes and `planes` does not say what to do.
    ProjectError
        There is no such dataset, or its card cannot be understood.
    """
    card = read_card(folder)
    if split not in (*SPLITS, "all"):
        raise InputError(f"{split!r} is no split", hint=f"Choose of {', '.join(SPLITS)}, all")
    entries = [one for one in card["samples"] if split in (one["split"], "all")]
    flat = [(one, None) for one in entries]
    volumes = [one for one in entries if _depth(one)]
    if volumes and planes is None:
        raise InputError(
            f"{volumes[0]['name']} of {card['id']} is a volume of {_depth(volumes[0])} planes",
            hint="A network for planes learns plane by plane (planes=True), one for volumes "
            "takes them as they are (planes=False)",
        )
    if planes:
        flat = [(one, z) for one in entries for z in one.get("planes") or [None]]
    return DatasetSamples(Path(folder), flat, colour)


class DatasetSamples(Sequence[Sample]):
    """Samples that are read, checked and normalised when they are asked for.

    Parameters
    ----------
    folder : Path
    entries : sequence of (mapping, int or None)
        Of the card, and the plane that is taken of a volume.
    colour : bool
    """

    def __init__(
        self, folder: Path, entries: Sequence[tuple[Mapping[str, Any], int | None]], colour: bool
    ) -> None:
        self._folder, self._entries, self._colour = folder, entries, colour

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> DatasetSamples: ...
    def __getitem__(self, index: int | slice) -> Sample | DatasetSamples:
        if isinstance(index, slice):
            return DatasetSamples(self._folder, self._entries[index], self._colour)
        entry, plane = self._entries[index]
        return self._sample(entry, *read_entry(self._folder, entry), plane)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples; the file of a volume is read once for all its planes."""
        held: tuple[str, np.ndarray, np.ndarray] | None = None
        for entry, plane in self._entries:
            if held is None or held[0] != entry["name"]:
                held = (entry["name"], *read_entry(self._folder, entry))
            yield self._sample(entry, held[1], held[2], plane)

    def _sample(
        self, entry: Mapping[str, Any], pixels: np.ndarray, labels: np.ndarray, plane: int | None
    ) -> Sample:
        name = entry["name"]
        if plane is not None:
            name, pixels, labels = f"{name}_z{plane + 1:04d}", pixels[plane], labels[plane]
        image = _prepared(pixels, bool(entry["colour"]), self._colour)
        return Sample(name, image, labels, entry["group"], entry["kind"])


def _prepared(pixels: np.ndarray, is_colour: bool, wants_colour: bool) -> np.ndarray:
    """Normalise as the engines do."""
    if wants_colour:
        return prepare_colour(pixels if is_colour else np.stack([pixels] * 3, axis=-1))
    grey = to_grey(pixels) if is_colour else pixels
    if grey.ndim == 2:
        return prepare(grey)
    return normalise(grey, percentiles(grey, *PERCENTILES), clip=CLIP)


def read_card(folder: str | Path) -> dict[str, Any]:
    """Read the card of a dataset.

    Raises
    ------
    ProjectError
        There is none, or it cannot be understood, lacks a field, or was edited by hand.
    """
    file = Path(folder, CARD)
    if not file.is_file():
        raise ProjectError(f"{folder} is no dataset: it has no {CARD}", hint=GUARD)
    try:
        card = read_json(file)
        if lacking := _lacking(card):
            raise ValueError(f"it has no field {lacking!r}")
        samples = card["samples"]
        if card["key"] != content_key(samples):
            raise ValueError("its key is not that of its samples: somebody edited it")
        for one in samples:
            own = {f"{part}/{safe_name(one['name'])}.tif" for part in PARTS}
            if not set(one["files"]) <= own:
                raise ValueError(f"{one['name']} has files of other names")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProjectError(f"{file} cannot be understood ({error})", hint=GUARD) from None
    return dict(card)


def _lacking(card: Mapping[str, Any]) -> str:
    """Return the first field that a card must have and has not; the empty string for none."""
    names = [name for name in FIELDS if name not in card] or [
        *(f"split.{name}" for name in ("by", "seed") if name not in card["split"]),
        *(f"samples.{name}" for one in card["samples"] for name in OF_SAMPLE if name not in one),
    ]
    return names[0] if names else ""


def verify_dataset(folder: str | Path) -> list[str]:
    """Return a sentence about each file that is not as the card says; none where all are.

    Raises
    ------
    ProjectError
        There is no card, or it cannot be understood.
    """
    folder, found = Path(folder), []
    card = read_card(folder)
    files = {name: sha for one in card["samples"] for name, sha in one["files"].items()}
    for name, sha256 in files.items():
        if not (folder / name).is_file():
            found.append(f"{name} is gone")
        elif file_sha256(folder / name) != sha256:
            found.append(f"{name} was changed")
    there = {
        path.relative_to(folder).as_posix() for part in PARTS for path in (folder / part).glob("*")
    }
    found += [f"{name} is not on the card" for name in sorted(there - set(files))]
    return found


def list_datasets(project: Project, *, verify: bool = False) -> list[dict[str, Any]]:
    """Return a row for each dataset of a project, oldest first.

    Parameters
    ----------
    project : Project
    verify : bool
        Fill ``damage`` with the sentences of `verify_dataset`; it is empty otherwise.

    Returns
    -------
    list of dict
        ``id``, ``created``, ``by``, images in ``train``, ``val`` and ``test``, ``objects``,
        ``kinds``, ``split by`` and ``damage``. A card that cannot be understood is damage.
    """
    rows = []
    for name in project.datasets():
        row: dict[str, Any] = {"id": name, "damage": []}
        rows.append(row)
        try:
            card = read_card(project.dataset_folder(name))
            samples = card["samples"]
            row |= {"created": card["created"], "by": card["by"]}
            row |= {split: sum(one["split"] == split for one in samples) for split in SPLITS}
            row["objects"] = sum(one["objects"] for one in samples)
            row["kinds"] = ", ".join(sorted({one["kind"] for one in samples}))
            row["split by"] = card["split"]["by"]
            row["damage"] = verify_dataset(project.dataset_folder(name)) if verify else []
        except ProjectError as error:
            row["damage"] = [error.message]
    return rows


def read_entry(folder: Path, entry: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read pixels and labels of a sample, each file once checked.

    Parameters
    ----------
    folder : Path
        Of the dataset.
    entry : mapping
        Of the sample, from the card.

    Returns
    -------
    pixels : ndarray, shape ([Z,] Y, X), or ([Z,] Y, X, 3) of colour
    labels : ndarray of int32, shape ([Z,] Y, X)
        `UNKNOWN` where nobody vouched.

    Raises
    ------
    ProjectError
        A file is gone, was changed, or cannot be read.
    """
    for name, sha256 in entry["files"].items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != sha256:
            what = "was changed since the dataset was made" if file.is_file() else "is gone"
            raise ProjectError(f"{file} {what}", hint=GUARD)
    name = f"{entry['name']}.tif"
    try:
        pixels = tifffile.imread(folder / "images" / name)
        labels = read_labels(folder / "labels" / name)
        if f"known/{name}" in entry["files"]:
            known = read_labels(folder / "known" / name) > 0
            labels = np.where(known, labels, UNKNOWN).astype(np.int32)
        shape = tuple(entry["shape"])
        return pixels.reshape((*shape, 3) if entry["colour"] else shape), labels.reshape(shape)
    except (ValueError, OpsefError) as error:
        raise ProjectError(f"{name} of {folder} cannot be read ({error})", hint=GUARD) from None


def write_sample(folder: Path, name: str, pixels: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    """Write the files of a sample and return the sha256 of each.

    Parameters
    ----------
    folder : Path
        Of the dataset.
    name : str
    pixels : ndarray, shape ([Z,] Y, X) or ([Z,] Y, X, 3)
    labels : ndarray of int32, shape ([Z,] Y, X)
        May hold `UNKNOWN`.
    """
    files = {f"images/{name}.tif": None, f"labels/{name}.tif": None}
    colour = pixels.ndim > labels.ndim
    with atomic_path(folder / "images" / f"{name}.tif") as partial:
        tifffile.imwrite(
            partial,
            pixels,
            photometric="rgb" if colour else "minisblack",
            compression="zlib",
            software=False,
            metadata={"axes": "ZYX"[-labels.ndim :] + "S" * colour},
        )
    write_labels(folder / "labels" / f"{name}.tif", labels.clip(0))
    if (labels < 0).any():
        write_labels(folder / "known" / f"{name}.tif", (labels >= 0).astype(np.uint8))
        files[f"known/{name}.tif"] = None
    return {file: file_sha256(folder / file) for file in files}


def describe(pixels: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return what the card says of pixels and labels, and what they are told apart by."""
    colour = pixels.ndim > labels.ndim
    told: dict[str, Any] = {
        "shape": list(labels.shape),
        "colour": colour,
        "objects": object_count(labels),
        "known_pixels": int((labels >= 0).sum()),
        "background_pixels": int((labels == 0).sum()),
        "pixels_sha256": pixels_key(pixels, colour),
        "labels_sha256": _digest(labels.astype("<i4")),
    }
    if labels.ndim == 3:
        told["planes"] = np.flatnonzero((labels >= 0).any(axis=(1, 2))).tolist()
    return told


def pixels_key(pixels: np.ndarray, colour: bool) -> str:
    """Return the sha256 of the pixels: the same for equal values, whatever dtype holds them.

    Examples
    --------
    >>> grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    >>> key = pixels_key(grey, False)
    >>> key == pixels_key(grey.astype(np.int32), False) == pixels_key(grey * 1.0, False)
    True
    >>> key == pixels_key(np.stack([grey] * 3, axis=-1), True), key == pixels_key(grey.T, False)
    (True, False)
    """
    if colour and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    whole = pixels.dtype.kind in "iu" or bool((pixels == np.floor(pixels)).all())
    if whole and pixels.size and pixels.min() >= 0 and pixels.max() < 2**16:
        return _digest(pixels.astype(np.uint16))
    return _digest(pixels.astype(np.float64))


def _digest(array: np.ndarray) -> str:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str} {little.shape}".encode())
    digest.update(memoryview(little).cast("B"))
    return digest.hexdigest()


def content_key(samples: Sequence[Mapping[str, Any]]) -> str:
    """Return the key of a dataset: what its samples hold and where they stand.

    Who made it, when, and by which command are no part of it.
    """
    names = ("name", "kind", "group", "split", "pixels_sha256", "labels_sha256", "files")
    told = [{name: one[name] for name in names} for one in samples]
    return key_of("dataset", VERSION, sorted(told, key=lambda one: str(one["name"])))


def _depth(entry: Mapping[str, Any]) -> int:
    return int(entry["shape"][0]) if len(entry["shape"]) == 3 else 0
