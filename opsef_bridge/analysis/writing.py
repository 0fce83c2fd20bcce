"""Tables on disk: CSV for people, Parquet for programs, and what the columns mean."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

from opsef_bridge.analysis.dictionary import Column, as_markdown, describe
from opsef_bridge.files import atomic_path, write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_columns", "write_table"]


def write_table(
    folder: Path, name: str, table: pd.DataFrame, *, decimal: str = ".", ndim: int = 2
) -> list[Path]:
    """Write a table as CSV and, where pyarrow is installed, as Parquet.

    Parameters
    ----------
    folder : Path
    name : str
        Of the files, without their ending.
    table : DataFrame
    decimal : {".", ","}
        Decimal sign of the CSV; with a comma columns are parted by semicolons.
    ndim : {2, 3, 0}
        Of the images: the unit of areas; 0 where there are planes and volumes.

    Returns
    -------
    list of Path
        Parquet has of each column ``unit`` and ``meaning`` in the metadata of its field.
    """
    written = [folder / f"{name}.csv"]
    with atomic_path(written[0]) as temporary:
        table.to_csv(
            temporary, index=False, sep=";" if decimal == "," else ",", decimal=decimal,
            encoding="utf-8",
        )  # fmt: skip
    if importlib.util.find_spec("pyarrow"):
        columns = describe(table.dtypes.to_dict(), _units(table), ndim)
        written.append(folder / f"{name}.parquet")
        _write_parquet(written[-1], table, columns)
    return written


def write_columns(folder: Path, tables: dict[str, pd.DataFrame], ndim: int = 2) -> Path:
    """Write ``columns.md``, what the columns of some tables mean.

    Parameters
    ----------
    folder : Path
    tables : dict
        By the name of their file.
    ndim : {2, 3, 0}
    """
    parts = [
        as_markdown(f"{name}.csv", describe(table.dtypes.to_dict(), _units(table), ndim))
        for name, table in tables.items()
    ]
    file = folder / "columns.md"
    write_text(file, "# What the columns mean\n\n" + "\n".join(parts))
    return file


def _units(table: pd.DataFrame) -> set[str]:
    return set(table["unit"]) if "unit" in table else set()


def _write_parquet(file: Path, table: pd.DataFrame, columns: list[Column]) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    fields = [
        field.with_metadata({"unit": column.unit, "meaning": column.meaning})
        for field, column in zip(arrow.schema, columns, strict=True)
    ]
    units = {column.name: column.unit for column in columns}
    about = {b"opsef_units": json.dumps(units).encode(), **(arrow.schema.metadata or {})}
    with atomic_path(file) as temporary:
        pa.parquet.write_table(arrow.cast(pa.schema(fields, metadata=about)), temporary)
