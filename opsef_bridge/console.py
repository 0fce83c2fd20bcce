"""What the command line shows: lines, tables, and the progress of long work.

On a terminal progress is one bar with the time that is left; elsewhere (a log, a cluster,
a pipe) it is a plain line now and then. Machine output (``--json``) goes to stdout alone,
progress then to stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from opsef_bridge.execute import Event

__all__ = ["Console", "duration"]

PLAIN_EVERY = 5.0
"""Seconds between two lines of progress where there is no terminal."""


class Console:
    """Where a command writes.

    Parameters
    ----------
    as_json : bool
        Print one JSON value at the end, nothing else, on stdout.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def say(self, *lines: str) -> None:
        """Print lines for a person."""
        if not self.as_json:
            print(*lines, sep="\n", flush=True)

    def warn(self, *lines: str) -> None:
        """Print lines for a person on stderr, also where stdout is for a machine."""
        for line in lines:
            print(f"opsef: {line}", file=sys.stderr, flush=True)

    def answer(self, value: Any) -> None:
        """Print the answer for a machine, if that is asked for."""
        if self.as_json:
            print(json.dumps(value, indent=1, ensure_ascii=False), flush=True)

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
        """Print rows in aligned columns; numbers to the right."""
        columns = list(columns)
        cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        right = [all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
        for row in [columns, *cells]:
            padded = [
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(row, widths, right, strict=True)
            ]
            self.say("  ".join(padded).rstrip())

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[Event], None]]:
        """Yield a function that shows an `Event`."""
        if sys.stderr.isatty():
            yield from self._bar(title)
        else:
            yield self._plain(title)

    def _bar(self, title: str) -> Iterator[Callable[[Event], None]]:
        from rich.console import Console as RichConsole
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[message]}"),
            console=RichConsole(stderr=True),
        ) as bar:
            task = bar.add_task(title, total=None, message="")
            yield lambda event: bar.update(
                task, completed=event.done, total=event.total, message=event.message
            )

    def _plain(self, title: str) -> Callable[[Event], None]:
        start = time.monotonic()
        last = start - PLAIN_EVERY
        first: int | None = None

        def show(event: Event) -> None:
            nonlocal last, first
            now = time.monotonic()
            # What an earlier start of the run did says nothing of the speed of this one.
            first = event.done if first is None else first
            if now - last < PLAIN_EVERY and event.done < event.total:
                return
            last = now
            made = event.done - first
            left = (event.total - event.done) * (now - start) / made if made else 0.0
            remaining = f", {duration(left)} left" if left else ""
            line = f"{title}: {event.done} of {event.total}{remaining} ({event.message})"
            print(line, file=sys.stderr, flush=True)

        return show


def duration(seconds: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> duration(4.2), duration(75), duration(7300)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
