"""What a unit has to say of results that are there: it goes from its record to ``run.json``,
the console and the report.

A remark is a sentence that begins with the id of an image and a colon.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opsef_bridge.execute import Job
from opsef_bridge.files import read_json, write_json
from opsef_bridge.project import Run

__all__ = ["MOST_SHOWN", "first_of", "remarking", "remarks_in", "remarks_of", "to_log"]

MOST_SHOWN = 5
"""Remarks that a person is shown at once; ``run.json`` has all."""


def to_log(sentence: str) -> None:
    """Print a remark on stderr: the log of a unit."""
    print(sentence, file=sys.stderr)


@contextmanager
def remarking(job: Job) -> Iterator[Callable[[str], None]]:
    """Yield what takes a remark; at the end they are in the record of the unit.

    They take the place of those of an earlier try. Each is kept once, and printed on stderr,
    the unit's log.
    """
    said: dict[str, None] = {}

    def remark(sentence: str) -> None:
        if sentence not in said:
            to_log(sentence)
        said[sentence] = None

    yield remark
    if list(said) != job.record.get("remarks", []):
        job.record["remarks"] = list(said)
        write_json(job.run.unit_file(job.unit.id), job.record)


def remarks_of(run: Run) -> list[str]:
    """Return the remarks of all units of a run, in their order, each once."""
    return remarks_in(read_json(file) for file in sorted((run.root / "units").glob("u*.json")))


def remarks_in(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the remarks of records of units, each once."""
    return list(dict.fromkeys(one for record in records for one in record.get("remarks", ())))


def first_of(remarks: Sequence[str]) -> list[str]:
    """Return the first remarks, and how many more there are.

    Examples
    --------
    >>> first_of(["a: x"] * 7)[-2:]
    ['a: x', '2 more remarks are in run.json']
    """
    more = len(remarks) - MOST_SHOWN
    end = [f"{more} more {'remark is' if more == 1 else 'remarks are'} in run.json"]
    return [*remarks[:MOST_SHOWN], *(end if more > 0 else [])]
