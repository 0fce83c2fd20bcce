"""A project on disk: its images, runs, trainings, datasets, and what was adopted."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.config import Config, load_config
from opsef_bridge.engines import Engine
from opsef_bridge.engines.external import describe, external_class
from opsef_bridge.engines.registry import use_engine
from opsef_bridge.errors import InputError, NotFoundError, ProjectError
from opsef_bridge.files import patiently, read_json, write_json
from opsef_bridge.preprocess.step_files import map_variant_files, relative_to, whole_in
from opsef_bridge.project.csv_files import read_csv, write_csv
from opsef_bridge.project.entries import ImageEntry, parse_row, safe_name
from opsef_bridge.project.runs import Run

__all__ = ["Project"]

SELDOM = ("part", "crop", "segment_channel", "projection", "channels", "time_step", "gone")
"""Columns of the index that are written where an image has something in them."""

PATIENCE = 600.0
"""Seconds to wait for others who change the index: they may be hashing many new images."""

_CHANGING: ContextVar[frozenset[Path]] = ContextVar("changing", default=frozenset())
"""Files of the indexes whose locks are held here."""


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
            entries = [parse_row(row) for row in rows]
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
