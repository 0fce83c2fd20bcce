"""The curves of a training for TensorBoard: one event file, beside ``curves.csv``.

It is written by the package ``tensorboard`` itself: torch's ``SummaryWriter`` would import
TensorFlow where that is installed, and it does not go with torch in one process; and it writes
the name of the machine into that of the file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opsef_bridge.errors import WorkerError
from opsef_bridge.files import atomic_path
from opsef_bridge.train.curves import read_curves

__all__ = ["TAGS", "EventFile", "check_tensorboard", "tell_tensorboard"]

TAGS = ("loss", "val_loss", "rate")
"""Columns of the curves that are told, by these names."""

FILES = "events.out.tfevents.*"


def check_tensorboard() -> None:
    """Refuse where the package ``tensorboard`` is not installed.

    Raises
    ------
    WorkerError
    """
    if find_spec("tensorboard") is None:
        raise WorkerError(
            "to write event files takes the package tensorboard, which is not installed",
            hint="pip install tensorboard; or leave the option --tensorboard out",
        )


class EventFile:
    """The event file of a folder: begun anew, in place of all others that are there.

    So where a training goes on, the steps that were lost and are done again stand there once.
    It is another file every time, and a TensorBoard that looks on goes over to it.

    Parameters
    ----------
    rows : sequence of mapping
        Of the curves so far, by `opsef_bridge.train.curves.COLUMNS`.
    folder : Path

    Attributes
    ----------
    file : Path

    Raises
    ------
    WorkerError
        The package ``tensorboard`` is not installed.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
        check_tensorboard()
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        for old in folder.glob(FILES):
            old.unlink(missing_ok=True)
        now = time.time()
        # TensorBoard reads files in the order of their names.
        self.file = folder / FILES.replace("*", f"{now:.6f}.opsef")
        self._began = now - (rows[-1]["seconds"] if rows else 0)
        start = SessionLog(status=SessionLog.START)
        first = Event(wall_time=self._began, file_version="brain.Event:2")
        # What a TensorBoard has read of another file, it forgets.
        forget = Event(wall_time=self._began, step=0, session_log=start)
        with atomic_path(self.file) as partial:
            _append(partial, [first, forget, *_events(rows, self._began)])

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; if it is killed meanwhile, the next `EventFile` of the folder is whole."""
        _append(self.file, _events(rows, self._began))


def tell_tensorboard(folder: Path) -> None:
    """Write event files beside all ``curves.csv`` of a network that have none yet.

    Raises
    ------
    WorkerError
        The package ``tensorboard`` is not installed.
    """
    for curves in (folder / "curves.csv", *sorted(folder.glob("stage-*/curves.csv"))):
        if curves.is_file() and not list(curves.parent.glob(FILES)):
            EventFile(read_curves(curves), curves.parent)


def _events(rows: Sequence[Mapping[str, Any]], began: float) -> Iterator[Any]:
    """Give one event for each row: its numbers at its step and time."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    for row in rows:
        told = {tag: row[tag] for tag in TAGS if row[tag] is not None}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in told.items()]
        when = began + row["seconds"]
        yield Event(wall_time=when, step=int(row["step"]), summary=Summary(value=values))


def _append(file: Path, events: Iterable[Any]) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    with file.open("ab") as stream:
        writer = RecordWriter(stream)
        for event in events:
            writer.write(event.SerializeToString())
