"""The project folder: the only module that knows what lies where.

::

    opsef.yaml                       what the user wants
    images/index.csv                 one row per image
    runs/<run>/plan.json             variants, units, and the keys they make
    runs/<run>/run.json              the record
    runs/<run>/variants.csv          the ranking
    runs/<run>/ranking.json          what is to be said of it: ties, sizes, how sure it is
    runs/<run>/outcomes.csv          one row per image and variant
    runs/<run>/units/<unit>.json     what a unit has done so far
    runs/<run>/logs/<unit>.txt       what its worker said
    runs/<run>/tiles/<variant>/<image>/<tile>.tif    labels on their way to be merged
    runs/<run>/labels/<variant>/<image>.tif
    runs/<run>/rois/<variant>/<image>_ROIs.zip, .json
    runs/<run>/compare/<image>.tif   comparison hyperstack
    runs/<run>/batch.tif, report.html
    cache/                           steps, maps: may be deleted at any time
    adopted.json                     the variant chosen for each group, and why
    engines.json                     engines in other interpreters
    annotations/<image>/r0001.json, r0001.zip, r0001-received.*    revisions
    annotations/blind.json           which objects hide behind a token
    annotations/verdicts.csv         what persons think of variants: good, over, under, missed
    truth/<image>.json, .tif, .known.tif   what a person vouches for
    truth/<image>.answers.json       what a person answered about single places
    exchange/<name>/                 files on their way to AnnotatorJ and back
    inbox/<id>.json, jobs/<id>.json  requests, and what became of each
    tables/objects.csv, .parquet     measured objects; images, conditions, columns.md beside
    plots/                           figures of them; objects.html to explore
    notebooks/                       notebooks, conclusions.md, older opsef-*.yaml
    models/<name>/                   weights that were added
    datasets/<dataset>/dataset.json, images/, labels/, known/   vouched labels to learn from
    trainings/<training>/            as runs/: networks that were trained and judged
    trainings/<training>/models/     candidates: weights with their cards

Deleting ``runs/`` and ``cache/`` loses no work of a person; ``annotations/``, ``truth/``,
``notebooks/`` and what came back in ``exchange/`` are that work.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.config import Config, load_config
from opsef_bridge.engines import Engine
from opsef_bridge.engines.external import describe, external_class
from opsef_bridge.engines.registry import use_engine
from opsef_bridge.errors import ImageError, InputError, NotFoundError, ProjectError
from opsef_bridge.files import patiently, read_json, write_json, write_text
from opsef_bridge.images import Region, read_labels
from opsef_bridge.images.calibration import MICROMETRES, to_micrometres
from opsef_bridge.images.projection import PROJECTIONS
from opsef_bridge.preprocess.step_files import (
    map_plan_files,
    map_variant_files,
    relative_to,
    whole_in,
)

__all__ = ["ImageEntry", "Project", "Run", "read_csv", "read_csv_lines", "write_csv"]

LENGTHS = ("pixel_size_x", "pixel_size_y", "pixel_size_z", "time_step")
"""Columns of the index that hold what cannot be negative."""

SELDOM = ("part", "crop", "segment_channel", "projection", "channels", "time_step", "gone")
"""Columns of the index that are written where an image has something in them."""

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

PATIENCE = 600.0
"""Seconds to wait for others who change the index: they may be hashing many new images."""

_CHANGING: ContextVar[frozenset[Path]] = ContextVar("changing", default=frozenset())
"""Files of the indexes whose locks are held here."""

_YES = {"yes", "true", "1", "ja", "wahr", "oui", "vrai"}
_NO = {"no", "false", "0", "nein", "falsch", "non", "faux"}
"""Excel writes them in the language of the computer."""


@dataclass(frozen=True)
class ImageEntry:
    """One row of ``images/index.csv``; `more` are the user's own columns.

    Lengths are in `unit`; a pixel size of 0 means that none is known. `axes` and `shape`
    are empty for a file that could not be read when it was imported. A time series, a
    volume in substacks and a tiled image are several rows with one `parent`.

    `part` is the part of the series that the row is, as `Region.from_text` reads it. Three
    columns are for choices of a person, empty ones follow ``opsef.yaml``: `crop` (a part too,
    in indices of the series), `segment_channel` (its number or name) and `projection`.
    `channels` are the names in the file, parted by ``|``; `time_step` is in seconds. `gone` is
    ``yes`` for what is not asked for any more, by ``opsef.yaml`` or because its file is gone.
    """

    id: str
    source: str
    series: int = 0
    sha256: str = ""
    size: int = 0
    mtime: float = 0.0
    axes: str = ""
    shape: tuple[int, ...] = ()
    pixel_size_x: float = 0.0
    pixel_size_y: float = 0.0
    pixel_size_z: float = 0.0
    unit: str = "pixel"
    group: str = "default"
    parent: str = ""
    include: bool = True
    more: dict[str, str] = field(default_factory=dict)
    part: str = ""
    crop: str = ""
    segment_channel: str = ""
    projection: str = ""
    channels: str = ""
    time_step: float = 0.0
    gone: str = ""

    @property
    def region(self) -> Region:
        """What is read of the series: the part, where `crop` does not say otherwise."""
        part, crop = Region.from_text(self.part), Region.from_text(self.crop)
        return Region.from_json(part.to_json() | crop.to_json())

    def origin(self) -> dict[str, str]:
        """Return what the image is of its file, for the texts of what is made from it."""
        told = {
            "series": str(self.series) if self.series else "",
            "part": self.region.text,
            "channels of the file": self.channels.replace("|", ", "),
            "time step": f"{self.time_step:g} s" if self.time_step else "",
        }
        return {name: text for name, text in told.items() if text}

    def info_text(self) -> str:
        """Return lines for the text of a label file: the id, and `origin`."""
        told = {"image": self.id} | self.origin()
        return "\n".join(f"{name}: {text}" for name, text in told.items())

    def calibration(self) -> dict[str, Any]:
        """Return what a pixel measures and what the image is of its file, as JSON values.

        ``pixel_size`` by axis, in ``unit``; and, where there is something, ``series``,
        ``part``, ``channels`` (the names in the file) and ``time_step`` (seconds).

        Examples
        --------
        >>> entry = ImageEntry("i00001-a", "a.tif", pixel_size_x=0.5, unit="um", part="t=3")
        >>> entry.calibration()
        {'pixel_size': {'X': 0.5}, 'unit': 'um', 'part': 't=3'}
        """
        told = {
            "series": self.series,
            "part": self.region.text,
            "channels": self.channels.split("|") if self.channels else [],
            "time_step": self.time_step,
        }
        known = {name: value for name, value in told.items() if value}
        return {"pixel_size": self.spacing, "unit": self.unit, **known}

    def channel_numbers(self) -> list[int]:
        """Return the channels of `segment_channel`, from 0; none where it is empty.

        Raises
        ------
        ImageError
            It is no number, and no name of a channel of the file.
        """
        names = self.channels.split("|") if self.channels else []
        wanted = [part.strip() for part in self.segment_channel.split("|") if part.strip()]
        unknown = [one for one in wanted if not one.isdigit() and one not in names]
        if unknown:
            raise ImageError(
                f"segment_channel of {self.id} is {unknown[0]!r}, the file names {names or 'none'}",
                hint="Correct it in images/index.csv: a number from 0, or one of these names",
            )
        return [int(one) if one.isdigit() else names.index(one) for one in wanted]

    @property
    def spacing(self) -> dict[str, float]:
        """Known pixel sizes by axis."""
        sizes = {"Z": self.pixel_size_z, "Y": self.pixel_size_y, "X": self.pixel_size_x}
        return {axis: size for axis, size in sizes.items() if size}

    def to_row(self) -> dict[str, Any]:
        """Return the row of the index."""
        row = asdict(self)
        row |= row.pop("more")
        row["shape"] = "x".join(map(str, self.shape))
        row["include"] = "yes" if self.include else "no"
        return row

    @classmethod
    def from_row(cls, row: dict[str, str]) -> ImageEntry:
        """Read a row of the index; the inverse of `to_row`."""
        known = {f.name for f in fields(cls)} - {"more"}
        values: dict[str, Any] = {k: v for k, v in row.items() if k in known}
        for key in ("series", "size"):
            values[key] = _integer(row, key)
        values["mtime"] = _number(row, "mtime")
        for key in LENGTHS:
            values[key] = _length(row, key)
        _check_unit(row)
        shape = values.get("shape") or ""
        values["shape"] = tuple(int(side) for side in shape.split("x") if side)
        _check_axes(values.get("axes") or "", values["shape"])
        for key in ("id", "source"):
            if "\n" in (row.get(key) or ""):
                raise ValueError(f"{key} goes over several lines: is there a quotation mark in it?")
        include = (values.get("include") or "yes").strip().lower()
        if include not in _YES | _NO:
            raise ValueError(f"include is {include!r}, neither yes nor no")
        values["include"] = include in _YES
        safe_name(values.get("id") or "")
        entry = cls(**values, more={k: v for k, v in row.items() if k not in known})
        _ = entry.region  # an error now, not when it is read
        crop = Region.from_text(entry.crop)
        if crop.t is not None or crop.c is not None:
            raise ValueError(f"crop is {entry.crop!r}: it has z, y and x, but no t or c")
        if entry.projection not in ("", *PROJECTIONS):
            raise ValueError(f"projection is {entry.projection!r}, none of {PROJECTIONS}")
        return entry


def _entry(row: dict[str, str]) -> ImageEntry:
    try:
        return ImageEntry.from_row(row)
    except (ValueError, InputError) as error:
        raise ValueError(f"row {row.get('id')!r}: {error}") from None


def _check_axes(axes: str, shape: tuple[int, ...]) -> None:
    """Refuse axes and shape that cannot be of one image; both are empty where it is unread."""
    fine = set(axes) <= set("TZCYXS") and len(set(axes)) == len(axes) and {"Y", "X"} <= set(axes)
    if (axes and not fine) or len(axes) != len(shape):
        sides = "x".join(map(str, shape))
        raise ValueError(
            f"axes {axes!r} and shape {sides!r} are not of one image: clear both cells, and the "
            "next import fills them"
        )


def _integer(row: dict[str, str], key: str) -> int:
    try:
        return int(row.get(key) or "0")
    except ValueError:
        raise ValueError(f"{key} is {row[key]!r}, which is no integer") from None


def _number(row: dict[str, str], key: str) -> float:
    text = row.get(key) or "0"
    try:
        # Excel writes a decimal comma where the computer speaks German or French.
        number = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{key} is {text!r}, which is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{key} is {text!r}, which is no finite number")
    return number


def _length(row: dict[str, str], key: str) -> float:
    number = _number(row, key)
    if number < 0:
        raise ValueError(f"{key} is {row[key]!r}: it is above 0, or 0 where it is not known")
    return number


def _check_unit(row: dict[str, str]) -> None:
    unit = row.get("unit") or "pixel"
    if unit not in ("pixel", "pixels") and to_micrometres(1, unit) is None:
        raise ValueError(f"unit is {unit!r}, none of pixel, {', '.join(MICROMETRES)}")


def safe_name(name: str) -> str:
    """Return `name` if it can be a part of a path that stays inside its folder.

    Ids come from files that people edit and, later, from requests: ``../x`` must not lead
    out of the project.

    Raises
    ------
    ValueError
        It holds something else than letters, digits, ``-``, ``_`` and single dots.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name):
        raise ValueError(f"{name!r} is no id: use letters, digits, '-', '_' and '.'")
    return name


class Run:
    """The folder of one run: where its files lie.

    Parameters
    ----------
    root : Path
        ``runs/<run>`` of a project; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.id = root.name
        self.plan_file = root / "plan.json"
        self.record_file = root / "run.json"
        self.variants_file = root / "variants.csv"
        self.outcomes_file = root / "outcomes.csv"
        self.snakefile = root / "Snakefile"
        self.report_file = root / "report.html"
        self.batch_file = root / "batch.tif"

    def unit_file(self, unit: str) -> Path:
        return self.root / "units" / f"{unit}.json"

    def done_file(self, unit: str) -> Path:
        return self.root / "units" / f"{unit}.done"

    def log_file(self, unit: str) -> Path:
        return self.root / "logs" / f"{unit}.txt"

    def label_file(self, variant: str, image: str) -> Path:
        return self.root / "labels" / safe_name(variant) / f"{safe_name(image)}.tif"

    def rois_file(self, variant: str, image: str) -> Path:
        return self.root / "rois" / safe_name(variant) / f"{safe_name(image)}_ROIs.zip"

    def compare_file(self, image: str) -> Path:
        return self.root / "compare" / f"{safe_name(image)}.tif"

    def labels(self, variant: str, image: str) -> np.ndarray:
        """Return labels that it has made: int32, 0 is background.

        Raises
        ------
        ProjectError
            Their file is gone or damaged.
        """
        file = self.label_file(variant, image)
        again = f"`opsef sweep resume --run {self.id}` makes it again"
        if not file.is_file():
            raise ProjectError(f"{file} is gone, which {self.id} has made", hint=again)
        try:
            return read_labels(file)
        except ImageError as error:
            raise ProjectError(
                f"{file} is damaged ({error.message})", hint=f"Delete it; then {again}"
            ) from error

    def plan(self) -> dict[str, Any]:
        """Return the parsed ``plan.json``; files that steps name have whole paths."""
        if not self.plan_file.is_file():
            raise NotFoundError(f"{self.id} has no plan", hint="Start it with `opsef sweep run`")
        return map_plan_files(read_json(self.plan_file), whole_in(self.project_root))

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write ``plan.json``; files in the project are named relative to it."""
        write_json(self.plan_file, map_plan_files(plan, relative_to(self.project_root)))

    @property
    def project_root(self) -> Path:
        """The folder of the project."""
        return self.root.parents[1]

    def tile_file(self, variant: str, image: str, tile: str) -> Path:
        """Labels of one tile of an image, until they are merged."""
        return self.root / "tiles" / safe_name(variant) / safe_name(image) / f"{tile}.tif"

    def outcomes(self, *, tiles: bool = False) -> list[dict[str, Any]]:
        """Return what the units have recorded so far, in the order of the units.

        Those of single tiles only with `tiles`: of the image the merge unit has one.
        """
        found: list[dict[str, Any]] = []
        for file in sorted((self.root / "units").glob("u*.json")):
            record = read_json(file)
            if tiles or record.get("kind") != "tiles":
                found += record["outcomes"]
        return found


class Project:
    """A project on disk.

    Parameters
    ----------
    path : str or Path
        The folder that holds ``opsef.yaml``.
    """

    def __init__(self, path: str | Path = ".") -> None:
        self.root = Path(path).resolve()
        self.config_file = self.root / "opsef.yaml"
        self.index_file = self.root / "images" / "index.csv"
        self.adopted_file = self.root / "adopted.json"
        self.engines_file = self.root / "engines.json"
        self.cache_folder = self.root / "cache"
        self.models_folder = self.root / "models"
        self.datasets_folder = self.root / "datasets"
        self.trainings_folder = self.root / "trainings"
        self.runs_folder = self.root / "runs"
        self.annotations_folder = self.root / "annotations"
        self.blind_file = self.annotations_folder / "blind.json"
        self.truth_folder = self.root / "truth"
        self.exchange_root = self.root / "exchange"
        self.inbox_folder = self.root / "inbox"
        self.tables_folder = self.root / "tables"
        self.lock_file = self.runs_folder / ".lock"
        # `opsef.yaml` is checked against the engines, also where only a plan holds it.
        for name, entry in self.engines().items():
            use_engine(name, external_class(name, entry))

    @property
    def config(self) -> Config:
        """The checked ``opsef.yaml``, read anew each time."""
        return load_config(self.config_file)

    def must_exist(self) -> Project:
        """Return itself; raise ConfigError where the folder holds no ``opsef.yaml``."""
        if not self.config_file.is_file():
            load_config(self.config_file)
        return self

    def images(self) -> list[ImageEntry]:
        """Return the rows of ``images/index.csv``; none before the first import."""
        if not self.index_file.is_file():
            return []
        rows = read_csv(self.index_file)
        if rows and not {"id", "source"} <= set(rows[0]):
            raise ProjectError(
                f"{self.index_file} has no columns 'id' and 'source'",
                hint="Give these columns their names again; or move the file away, and `opsef "
                "images import` writes a new one without your own columns",
            )
        try:
            entries = [_entry(row) for row in rows]
            for name, count in Counter(entry.id for entry in entries).items():
                if count > 1 or not name:
                    raise ValueError(f"{count} rows have the id {name!r}")
        except (ValueError, InputError) as error:
            raise ProjectError(
                f"{self.index_file} cannot be understood ({error})",
                hint="Correct that cell",
            ) from None
        return entries

    def image(self, image: str) -> ImageEntry:
        """Return the image of that id."""
        for entry in self.images():
            if entry.id == image:
                return entry
        raise NotFoundError(f"there is no image {image!r}", hint="`opsef images list` shows them")

    @contextlib.contextmanager
    def changing_images(self, seconds: float = PATIENCE) -> Iterator[None]:
        """Hold the lock of ``images/index.csv``, from reading its rows to writing them anew.

        Who holds it may come here again; others wait so many seconds for it, then LockedError.
        """
        if self.index_file in _CHANGING.get():
            yield
            return
        with patiently(self.index_file.with_name(".index.lock"), seconds):
            mark = _CHANGING.set(_CHANGING.get() | {self.index_file})
            try:
                yield
            finally:
                _CHANGING.reset(mark)

    def write_images(self, entries: Iterable[ImageEntry]) -> None:
        """Write ``images/index.csv``, without those of `SELDOM` that are empty throughout.

        In `changing_images`, as what was read before.
        """
        rows = [entry.to_row() for entry in entries]
        columns = [
            f.name
            for f in fields(ImageEntry)
            if f.name != "more" and (f.name not in SELDOM or any(row[f.name] for row in rows))
        ]
        rows = [{k: v for k, v in row.items() if k in columns or k not in SELDOM} for row in rows]
        extra = dict.fromkeys(key for row in rows for key in row if key not in columns)
        write_csv(self.index_file, rows, [*columns, *extra])

    def source_file(self, entry: ImageEntry) -> Path:
        """Return the file of an image; relative sources are relative to the project."""
        return self.root / entry.source

    def revisions_folder(self, image: str) -> Path:
        """Return the folder of the revisions of an image."""
        return self.annotations_folder / safe_name(image)

    def truth_file(self, image: str) -> Path:
        """Return the record of what is vouched for of an image; the labels lie beside it."""
        return self.truth_folder / f"{safe_name(image)}.json"

    def answers_file(self, image: str) -> Path:
        """Return the answers of persons to questions about single places of an image."""
        return self.truth_folder / f"{safe_name(image)}.answers.json"

    def exchange_folder(self, name: str) -> Path:
        """Return the folder of an export of that name."""
        return self.exchange_root / safe_name(name)

    def request_file(self, request: str) -> Path:
        """Return the file of a request that waits; those that ended lie in ``done/`` beside."""
        return self.inbox_folder / f"{safe_name(request)}.json"

    def job_file(self, request: str) -> Path:
        """Return the file that says what became of a request; its log lies beside."""
        return self.inbox_folder / "jobs" / f"{safe_name(request)}.json"

    def runs(self) -> list[str]:
        """Return the ids of the runs, oldest first; a folder without a plan is no run yet."""
        if not self.runs_folder.is_dir():
            return []
        names = [
            p.parent.name
            for p in self.runs_folder.glob("run-*/plan.json")
            if re.fullmatch(r"run-\d{4,}", p.parent.name)
        ]
        return sorted(names, key=lambda name: int(name[4:]))

    def run(self, run: str | None = None) -> Run:
        """Return the run or training of that id; with None, the newest run."""
        if run is not None and run.startswith("train-"):
            return self.training(run)
        known = self.runs()
        if run is None and known:
            run = known[-1]
        if run not in known:
            raise NotFoundError(
                f"there is no run {run!r}" if run else "there is no run yet",
                hint="Known: " + ", ".join(known) if known else "Start one: `opsef sweep run`",
            )
        return Run(self.runs_folder / run)

    def new_run(self) -> Run:
        """Return the next free run; its folder is made by the first file in it."""
        last = max((int(name[4:]) for name in self.runs()), default=0)
        return Run(self.runs_folder / f"run-{last + 1:04d}")

    def trainings(self) -> list[str]:
        """Return the ids of the trainings, oldest first."""
        if not self.trainings_folder.is_dir():
            return []
        names = [p.parent.name for p in self.trainings_folder.glob("train-*/plan.json")]
        known = filter(re.compile(r"train-\d{4,}").fullmatch, names)
        return sorted(known, key=lambda name: int(name[6:]))

    def training(self, training: str | None = None) -> Run:
        """Return the training of that id; with None, the newest."""
        known = self.trainings()
        if training is None and known:
            training = known[-1]
        if training not in known:
            raise NotFoundError(
                f"there is no training {training!r}" if training else "there is no training yet",
                hint="Known: " + ", ".join(known) if known else "Start one: `opsef train run`",
            )
        return Run(self.trainings_folder / training)

    def new_training(self) -> Run:
        """Return the next free training; its folder is made by the first file in it."""
        last = max((int(name[6:]) for name in self.trainings()), default=0)
        return Run(self.trainings_folder / f"train-{last + 1:04d}")

    def datasets(self) -> list[str]:
        """Return the ids of the datasets, oldest first."""
        if not self.datasets_folder.is_dir():
            return []
        names = [p.parent.name for p in self.datasets_folder.glob("d*/dataset.json")]
        return sorted(filter(re.compile(r"d\d{4,}").fullmatch, names), key=lambda n: int(n[1:]))

    def dataset_folder(self, dataset: str | None = None) -> Path:
        """Return the folder of the dataset of that id; with None, of the newest."""
        known = self.datasets()
        if dataset is None and known:
            dataset = known[-1]
        if dataset not in known:
            raise NotFoundError(
                f"there is no dataset {dataset!r}" if dataset else "there is no dataset yet",
                hint="Known: " + ", ".join(known) if known else "Make one: `opsef train dataset`",
            )
        return self.datasets_folder / dataset

    def new_dataset_folder(self) -> Path:
        """Return the next free folder of a dataset; it is not made."""
        names = [p.name for p in self.datasets_folder.glob("d*")]
        last = max((int(n[1:]) for n in names if re.fullmatch(r"d\d{4,}", n)), default=0)
        return self.datasets_folder / f"d{last + 1:04d}"

    def labels(self, run: str | None, variant: str, image: str) -> np.ndarray:
        """Return the labels of an image in a run: int32, 0 is background.

        Raises
        ------
        NotFoundError
            The run, or labels of that variant and image, do not exist.
        ProjectError
            The file is damaged.
        """
        folder = self.run(run)
        try:
            there = folder.label_file(variant, image).is_file()
        except ValueError as error:
            raise NotFoundError(str(error)) from None
        if not there:
            raise NotFoundError(
                f"{folder.id} has no labels of image {image!r} by variant {variant!r}",
                hint="outcomes.csv of the run says what became of every image and variant; `opsef "
                f"sweep resume --run {folder.id}` makes again what is gone",
            )
        return folder.labels(variant, image)

    def engines(self) -> dict[str, dict[str, Any]]:
        """Return the engines in other interpreters: python, target, parameters, by name."""
        if not self.engines_file.is_file():
            return {}
        try:
            found = read_json(self.engines_file)
            return dict(found.items())
        except (ValueError, AttributeError) as error:
            raise ProjectError(
                f"{self.engines_file} cannot be understood ({error})",
                hint="Correct it, or move it away and add the engines again",
            ) from None

    def add_engine(self, name: str, python: str, target: str) -> type[Engine]:
        """Add ``module:Class`` in the interpreter `python`, or tell what it is now.

        Raises
        ------
        InputError
            The name is that of an engine that is installed here, or it is no engine.
        WorkerError
            The other interpreter fails.
        """
        entry = {"python": python, "target": target, "parameters": describe(python, target)}
        kind = external_class(name, entry)
        use_engine(name, kind)
        write_json(self.engines_file, {**self.engines(), name: entry})
        return kind

    def adopted(self) -> dict[str, dict[str, Any]]:
        """Return the adopted variant of each group, with the reason."""
        known = read_json(self.adopted_file) if self.adopted_file.is_file() else {}
        return _with_variants(known, whole_in(self.root))

    def write_adopted(self, adopted: dict[str, dict[str, Any]]) -> None:
        """Write ``adopted.json``."""
        write_json(self.adopted_file, _with_variants(adopted, relative_to(self.root)))


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file as a list of rows, also as Excel saves it.

    Cells are parted by ``,``, ``;`` or tabs. It is UTF-8, or, with a byte order mark, UTF-16
    (Excel's "Unicode text").

    Cells that a row lacks are empty; cells beyond the last column are dropped, and so are
    rows without any text.

    Raises
    ------
    ProjectError
        It is of another encoding, or damaged.
    """
    return [row for _, row in read_csv_lines(path)[1]]


def read_csv_lines(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the names of the columns of a CSV file, and its rows with the lines they end on.

    All else is as in `read_csv`.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in UTF_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProjectError(
            f"{path} is not UTF-8 text ({error.reason})", hint="In Excel save it as `CSV UTF-8`"
        ) from None
    text = io.StringIO(text, newline=None).read()  # line ends of any system
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, restkey="", restval="")
    try:
        names = [name for name in reader.fieldnames or () if name]
        rows = [(reader.line_num, {name: row[name] for name in names}) for row in reader]
    except csv.Error as error:  # a quotation mark that is never closed
        raise ProjectError(
            f"{path} cannot be read ({error})", hint="Look for a single quotation mark in a cell"
        ) from None
    return names, [(line, row) for line, row in rows if any(row.values())]


def write_csv(path: Path, rows: Iterable[dict[str, Any]], columns: list[str]) -> None:
    """Write rows as CSV, atomically; columns that a row lacks stay empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _with_variants(
    adopted: Mapping[str, Mapping[str, Any]], change: Callable[[str], str]
) -> dict[str, dict[str, Any]]:
    """Change the paths of files that the steps of adopted variants name."""
    return {
        group: {**what, "variant": map_variant_files(what["variant"], change)}
        if "variant" in what
        else dict(what)
        for group, what in adopted.items()
    }
