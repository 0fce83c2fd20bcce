"""The cache: what goes in comes out, broken entries are misses, the oldest go first."""

from __future__ import annotations

import multiprocessing
import os
import random
from pathlib import Path

import numpy as np

from opsef_bridge.sweep.cache import ArrayCache

KEYS = [f"{i:02d}abcdef" for i in range(10)]


def entry(value: float) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    return {"map": np.full((20, 30), value, np.float16)}, {"value": value}


def held(cache: ArrayCache, value: int) -> bool:
    """True if the entry of `value` is there (and right); False if it is missed."""
    found = cache.get(KEYS[value])
    if found is not None:
        np.testing.assert_array_equal(found[0]["map"], entry(value)[0]["map"])
        assert found[1] == {"value": value}
    return found is not None


def size_of_one(tmp_path) -> int:
    ArrayCache(tmp_path / "one").put(KEYS[0], *entry(0))
    [file] = (tmp_path / "one").rglob("*.npz")
    return file.stat().st_size


def test_arrays_and_numbers_come_back(tmp_path):
    cache = ArrayCache(tmp_path / "new")
    assert cache.get(KEYS[0]) is None
    arrays = {
        "a": np.random.default_rng(0).random((2, 5, 7)).astype(np.float16),
        "ä": np.arange(6, dtype=np.uint16).reshape(2, 3).T,
        "empty": np.zeros((0, 4), np.int32),
        "number": np.float32(3.5),
    }
    cache.put(KEYS[0], arrays, {"otsu": 0.1 + 0.2, "n": 3})
    found, values = ArrayCache(tmp_path / "new").get(KEYS[0])
    assert values == {"otsu": 0.1 + 0.2, "n": 3}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_the_least_recently_used_go_first(tmp_path):
    one = size_of_one(tmp_path)
    cache = ArrayCache(tmp_path / "cache", limit=int(3.5 * one))
    for value in range(3):
        cache.put(KEYS[value], *entry(value))
        [file] = (tmp_path / "cache").glob(f"*/{KEYS[value]}.npz")
        os.utime(file, (value + 1, value + 1))
    assert held(cache, 0)  # used just now
    cache.put(KEYS[3], *entry(3))
    assert [held(cache, value) for value in range(4)] == [True, False, True, True]
    files = [file.stat().st_size for file in (tmp_path / "cache").rglob("*.npz")]
    assert sum(files) <= 3.5 * one


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path):
    cache = ArrayCache(tmp_path, limit=10)
    cache.put(KEYS[0], *entry(0))
    assert not held(cache, 0)
    assert not list(tmp_path.rglob("*.npz"))


def test_leftovers_of_a_killed_writer_do_not_pile_up(tmp_path):
    one = size_of_one(tmp_path)
    folder = tmp_path / "cache"
    (folder / "00").mkdir(parents=True)
    leftover = folder / "00" / ".12345678.partial.npz"
    leftover.write_bytes(b"x" * 10 * one)
    os.utime(leftover, (1, 1))
    cache = ArrayCache(folder, limit=5 * one)
    cache.put(KEYS[0], *entry(0))
    assert held(cache, 0) and not leftover.exists()


def test_broken_entries_are_misses_and_are_replaced(tmp_path):
    cache = ArrayCache(tmp_path)
    arrays = {"map": np.random.default_rng(1).random((20, 30)).astype(np.float16)}
    cache.put(KEYS[1], arrays, {"value": 1})
    [file] = tmp_path.rglob("*.npz")
    whole, dice = file.read_bytes(), random.Random(0)
    damaged = [b"", b"no zip", whole[:-30], whole[: len(whole) // 2]]
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        damaged.append(bytes(flipped))
    misses = 0
    for content in damaged:
        file.write_bytes(content)
        found = cache.get(KEYS[1])
        misses += found is None
        if found is not None and "map" in found[0]:  # a flip in a time stamp, say
            np.testing.assert_array_equal(found[0]["map"], arrays["map"])
    assert misses > 200
    cache.put(KEYS[1], *entry(1))
    assert held(cache, 1)


def test_a_folder_that_cannot_be_written_loses_the_entry_not_the_run(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = ArrayCache(tmp_path / "file")
    cache.put(KEYS[0], *entry(0))
    assert cache.get(KEYS[0]) is None


def churn(folder: Path, limit: int, seed: int) -> None:
    """Ask for random entries and make those that are missed."""
    cache, dice, hits = ArrayCache(folder, limit), random.Random(seed), 0
    for _ in range(200):
        value = dice.randrange(10)
        if held(cache, value):
            hits += 1
        else:
            cache.put(KEYS[value], *entry(value))
    assert hits > 10


def test_processes_share_a_folder(tmp_path):
    limit, folder = 5 * size_of_one(tmp_path), tmp_path / "cache"
    fork = multiprocessing.get_context("fork")
    team = [fork.Process(target=churn, args=(folder, limit, seed)) for seed in range(3)]
    for process in team:
        process.start()
    for process in team:
        process.join(60)
    assert [process.exitcode for process in team] == [0, 0, 0]
    assert not [file for file in folder.rglob("*") if "partial" in file.name]
