"""Conditions: what a person knows of each image, from a CSV file, joined to the tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opsef_bridge.analysis.gather import Gathered
from opsef_bridge.errors import InputError, ProjectError
from opsef_bridge.project import Project, read_csv_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Conditions", "add_conditions", "read_cells", "read_conditions", "well_name"]

JOINED_BY = (("image",), ("id",), ("file",), ("plate", "well"), ("well",))
"""Columns that say what a row is about; the first of these that the file has counts."""

NAMES = ("plate", "well")
WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
NUMBER = re.compile(rf"(?:{WHOLE.pattern}(?:\.[0-9]*)?|[+-]?\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
LARGEST = 2.0**53
"""From here on whole numbers that differ may be one float: such ids stay text."""

OURS = re.compile(r"cluster|predicted_class|probability|(pca|tsne|umap)_[12]")
"""Columns that an analysis adds."""


class Conditions:
    """Rows about images.

    Parameters
    ----------
    by : tuple of str
        The columns that say what a row is about.
    rows : mapping
        From their values to the other columns.
    """

    def __init__(self, by: tuple[str, ...], rows: Mapping[tuple[str, ...], dict[str, str]]) -> None:
        self.by = by
        self.rows = dict(rows)
        self.columns = list(dict.fromkeys(name for row in self.rows.values() for name in row))

    def of(self, image: str, source: str, more: Mapping[str, str]) -> dict[str, str] | None:
        """Return what is said of an image; None where there is no row about it.

        Parameters
        ----------
        image : str
            Its id.
        source : str
            Its file; the name is enough, with or without its ending.
        more : mapping
            Its other columns, such as ``plate`` and ``well``.
        """
        if "well" in self.by:
            return self.rows.get(tuple(well_name(str(more.get(name, ""))) for name in self.by))
        path = Path(source)
        names = (image, source, path.name, path.stem)
        return next((self.rows[name,] for name in names if (name,) in self.rows), None)

    def join(self, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        """Add the columns to a table of images.

        Parameters
        ----------
        table : DataFrame
            With the columns ``image`` and ``source``.

        Returns
        -------
        DataFrame
            With the columns of the conditions behind its own; empty where there is no row about
            an image. A column that the table has already gets ``condition_`` before its name.
            Those in which all cells are numbers are numbers (int64, or float64 with NaN for
            empty), others are text: ``007``, and plates and wells.
        list of str
            Sentences: which images have no condition, which rows no image.
        """
        said, used, told = [], set(), []
        lacking = []
        for row in table.to_dict("records"):
            found = self.of(str(row["image"]), str(row["source"]), row)
            if found is None:
                lacking.append(str(row["image"]))
            used |= {key for key, value in self.rows.items() if value is found}
            told.append(found or {})
        table = table.copy()
        for name in self.columns:
            new = f"condition_{name}" if name in table else name
            everywhere = {row.get(name, "") for row in self.rows.values()}
            table[new] = _as_numbers(name, [one.get(name, "") for one in told], everywhere)
        if lacking:
            said.append(
                f"{len(lacking)} of {len(told)} images have no condition and are left out of "
                f"comparisons: {_some(lacking)}."
            )
        left = [" ".join(key) for key in self.rows if key not in used]
        if left:
            said.append(f"Conditions of what is not in the tables: {_some(left)}.")
        return table, said


def read_conditions(file: Path) -> Conditions:
    """Read a CSV file of conditions.

    Parameters
    ----------
    file : Path
        As `opsef_bridge.project.read_csv` reads it. A column ``image``, ``id`` or ``file``
        names the image, by its id or its file; or ``plate`` and ``well``, or ``well``, by the
        columns of that name in ``images/index.csv``.

    Raises
    ------
    InputError
        There is no such file; it lacks these columns; or says two things of one image.
    """
    names, rows = read_cells(
        file, hint="analyse.conditions names a CSV file, seen from the project folder"
    )
    by = next((by for by in JOINED_BY if set(by) <= set(names)), None)
    if by is None:
        raise InputError(
            f"{file.name} does not say which image a row is about: its columns are "
            f"{', '.join(names) or 'none'}",
            hint="Name one of them image, file, or well",
        )
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for number, cells in rows:
        if not all(cells.get(name) for name in by):
            raise InputError(
                f"{file.name} line {number} has no {' and no '.join(by)}",
                hint="Each row says which image it is about",
            )
        key = tuple(well_name(cells[name]) if "well" in by else cells[name] for name in by)
        rest = {name: value for name, value in cells.items() if name not in by}
        if found.setdefault(key, rest) != rest:
            raise InputError(
                f"{file.name} line {number} says something else of {' '.join(key)} than a line "
                "before",
                hint="Keep one of them",
            )
    return Conditions(by, found)


def add_conditions(project: Project, found: Gathered) -> tuple[Gathered, list[str], list[str]]:
    """Join the file of ``analyse.conditions`` to both tables, and the names of the classes.

    Returns
    -------
    Gathered
    list of str
        Sentences.
    list of str
        The columns of the conditions in the table of objects.
    """
    found = _named_classes(found, project.config.classes)
    name = project.config.analyse.conditions
    if name is None:
        return found, [], []
    images, said = read_conditions(project.root / name).join(found.images)
    new = [column for column in images if column not in found.images]
    at = {image: number for number, image in enumerate(images["image"])}
    rows = [at[image] for image in found.objects["image"]]
    objects, columns = found.objects.copy(), []
    for column in new:
        taken = column in objects or OURS.fullmatch(column)
        columns.append(f"condition_{column}" if taken else column)
        objects[columns[-1]] = images[column].to_numpy()[rows]
    return replace(found, objects=objects, images=images), said, columns


def read_cells(file: Path, *, hint: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the columns of a CSV file of a person, and its rows by line, without outer blanks.

    Parameters
    ----------
    file : Path
    hint : str
        What to do where there is no such file.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        names, rows = read_csv_lines(file)
    except OSError as error:
        raise InputError(f"{file.name} cannot be read: {error.strerror}", hint=hint) from None
    except ProjectError as error:
        raise InputError(error.message, hint=error.hint) from None
    cells = [(line, {k.strip(): value.strip() for k, value in row.items()}) for line, row in rows]
    return [name.strip() for name in names], cells


def _named_classes(found: Gathered, names: dict[int, str]) -> Gathered:
    """Add the names of the classes, where opsef.yaml has any."""
    if not names:
        return found
    objects = found.objects.copy()
    named = [names.get(int(number), "") for number in objects["class"]]
    objects.insert(objects.columns.get_loc("class") + 1, "class_name", np.array(named, object))
    return replace(found, objects=objects)


def _as_numbers(name: str, texts: Sequence[str], everywhere: Collection[str]) -> NDArray[Any]:
    """Return a column as numbers, NaN where it is empty, if all its cells are some.

    Parameters
    ----------
    name : str
        Plates and wells have names, also where those are numbers.
    texts : sequence of str
        Of the images that are measured.
    everywhere : collection of str
        All cells of the file, so that the kind of a column is the same for any images.
    """
    known = {text for text in everywhere if text}
    if name in NAMES or not known or not all(map(_is_number, known)):
        return np.array(texts, object)
    if all(map(WHOLE.fullmatch, known)) and all(texts):
        return np.array([int(text) for text in texts], np.int64)
    return np.array([float(text or "nan") for text in texts])


def _is_number(text: str) -> bool:
    """Tell whether a text is a number that says no more than its value.

    Examples
    --------
    >>> [_is_number(text) for text in ("0.5", "-3", "1e-6", "007", "1e999", "nan", "5 nM")]
    [True, True, True, False, False, False, False]
    """
    return bool(NUMBER.fullmatch(text)) and abs(float(text)) < LARGEST


def well_name(text: str) -> str:
    """Return a well as all spellings of it are written: ``a1`` and ``A01`` are one.

    Examples
    --------
    >>> well_name("a1"), well_name("B12"), well_name("left")
    ('A01', 'B12', 'left')
    """
    row, column = text[:1], text[1:]
    if row.isalpha() and column.isdigit():
        return f"{row.upper()}{int(column):02d}"
    return text


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
