"""Machine code that processes keep for each other."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CODE = """
from opsef_bridge.measure.compiled import compiled

@compiled
def total(values):
    found = 0.0
    for value in values:
        found += value
    return found
"""


@pytest.fixture
def process(tmp_path: Path) -> Any:
    """Return ``process()``, the function as another process has it."""
    file = tmp_path / "totals.py"
    file.write_text(CODE)

    def load() -> Any:
        spec = importlib.util.spec_from_file_location("totals", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.total

    return load


def test_code_is_kept(process):
    assert process()(np.arange(3)) == 3
    again = process()
    assert again(np.arange(4)) == 6
    assert sum(again.stats.cache_hits.values()) == 1


def test_two_processes_that_compile_at_once_for_different_types(process, tmp_path):
    """The index is of who wrote it last; each name in it stands for code of its own type."""
    first, second = process(), process()
    second._cache._cache_file._load_index = dict  # it looked before the first wrote
    assert first(np.arange(3)) == 3
    [index] = tmp_path.rglob("*.nbi")
    written = index.read_bytes()
    assert second(np.arange(3.0)) == 3
    index.write_bytes(written)
    third = process()
    assert third(np.arange(4)) == 6
    assert sum(third.stats.cache_hits.values()) == 1
