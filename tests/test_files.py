"""Files: nothing half-written, locks that end with their process, keys that mean content."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.errors import LockedError
from opsef_bridge.files import (
    atomic_path,
    file_sha256,
    holder_of,
    key_of,
    lock,
    write_json,
    write_text,
)

HOLD = """
import sys, time
from opsef_bridge.files import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as partial:
        partial.write_text("half of the n")
        assert target.read_text() == "old"
        raise error
    assert (names(tmp_path), target.read_text()) == (["a.txt"], "old")


def test_a_new_file_appears_whole_and_keeps_its_suffix(tmp_path):
    target = tmp_path / "Bilder ä" / "a b.ome.tif"
    with atomic_path(target) as partial:
        assert partial.parent == target.parent and partial.suffix == ".tif"
        partial.write_bytes(b"new")
        assert not target.exists()
    assert names(target.parent) == ["a b.ome.tif"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass


def test_readers_see_the_old_text_or_the_new_never_half(tmp_path):
    target, texts = tmp_path / "a.txt", {"a" * 100_000, "b" * 100_000}
    write_text(target, min(texts))
    seen, end = set(), threading.Event()

    def read():
        while not end.is_set():
            seen.add(target.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        for text in texts:
            write_text(target, text)
    end.set()
    reader.join()
    assert seen <= texts


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "a", "µ\n")
    assert (tmp_path / "a").read_bytes() == b"\xc2\xb5\n"


def test_json_knows_numpy_and_paths_but_no_nan(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"n": np.int64(3), "x": np.float32(0.5), "p": Path("a/b"), "ä": [1]})
    assert json.loads(file.read_text("utf-8")) == {"n": 3, "x": 0.5, "p": "a/b", "ä": [1]}
    for wrong in (float("nan"), float("inf"), {1, 2}, np.zeros(2)):
        with pytest.raises((ValueError, TypeError)):
            write_json(file, wrong)
    assert names(tmp_path) == ["a.json"]
    assert json.loads(file.read_text("utf-8"))["n"] == 3


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text()))
def test_the_order_of_a_mapping_is_no_content(mapping):
    if not any(value in (float("inf"), float("-inf")) for value in mapping.values()):
        assert key_of(mapping) == key_of(dict(reversed(mapping.items())))


def test_keys_tell_apart_what_differs():
    parts = [(), ("",), (None,), (1,), ("1",), (1.5,), (True,), ([1, 2],), ([2, 1],), (1, 2), ({},)]
    parts += [({"a": 1},), ({"a": 2},), ({"b": 1},), ("a", "b"), ("ab",), ([[]],)]
    assert len({key_of(*part) for part in parts}) == len(parts)
    assert key_of(np.float64(0.5), np.int32(2)) == key_of(0.5, 2)
    with pytest.raises(ValueError, match="JSON"):
        key_of(float("nan"))


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path):
    path = tmp_path / "runs" / ".lock"
    with lock(path):
        with pytest.raises(LockedError, match=f"process {os.getpid()} on ") as caught, lock(path):
            raise AssertionError("held twice")
        assert caught.value.hint
        assert holder_of(path) == f"process {os.getpid()} on {socket.gethostname()}"
    assert holder_of(path) is None
    with lock(path):
        pass


def test_of_a_lock_that_was_never_held_there_is_no_holder_and_no_file(tmp_path):
    assert holder_of(tmp_path / "lock") is None
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_ends_with_its_process(tmp_path, end):
    path = tmp_path / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {holder.pid} on "), lock(path):
            pass
        holder.send_signal(end)
        holder.wait()
        with lock(path):
            assert f"process {os.getpid()} " in path.read_text()
    finally:
        holder.kill()
        holder.communicate()


def test_an_exception_frees_the_lock(tmp_path):
    with pytest.raises(ValueError, match="no"), lock(tmp_path / "a"):
        raise ValueError("no")
    with lock(tmp_path / "a"):
        pass
