"""CSV files that people edit: read as they save them, written so that they can."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from opsef_bridge.errors import ProjectError
from opsef_bridge.files import write_text

__all__ = ["read_csv", "read_csv_lines", "write_csv"]

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
