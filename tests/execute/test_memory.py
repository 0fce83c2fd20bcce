"""How much memory a unit's process held."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from opsef_bridge.execute.memory import forget_peak, peak_bytes
from opsef_bridge.files import read_json
from tests.small_projects import discs, swept

LARGE = 200 * 2**20


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not forget a peak"
)
def test_the_peak_is_seen_and_forgotten() -> None:
    forget_peak()
    before = peak_bytes()
    assert before > 2**20
    held = np.ones(LARGE, np.uint8)
    assert peak_bytes() >= before + 0.9 * LARGE
    del held
    with_it = peak_bytes()
    forget_peak()
    assert peak_bytes() <= with_it - 0.5 * LARGE


def test_units_with_network_passes_record_it(tmp_path: Path) -> None:
    run = swept(tmp_path / "p", {"a.tif": discs(1)}).run()
    records = [read_json(file) for file in sorted((run.root / "units").glob("u*.json"))]
    assert any(record["passes"] for record in records)
    for record in records:
        assert (record.get("memory", 0) > 10 * 2**20) == bool(record["passes"])
