"""How much memory a unit's process held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from opsef_bridge.files import read_json
from tests.small_projects import discs, swept

LARGE = 200 * 2**20
PEAKS = """
import json, sys
from opsef_bridge.execute.memory import forget_peak, peak_bytes
import numpy as np
forget_peak()
peaks = [peak_bytes()]
held = np.ones(int(sys.argv[1]), np.uint8)
peaks.append(peak_bytes())
del held
forget_peak()
peaks.append(peak_bytes())
print(json.dumps(peaks))
"""


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not forget a peak"
)
def test_the_peak_is_seen_and_forgotten() -> None:
    """In a process of its own: what this one gives back meanwhile would be missed in the peak."""
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(LARGE)], stdout=subprocess.PIPE, check=True, timeout=60
    )
    before, with_it, after = json.loads(done.stdout)
    assert before > 2**20
    assert with_it >= before + 0.9 * LARGE
    assert after <= with_it - 0.5 * LARGE


def test_units_with_network_passes_record_it(tmp_path: Path) -> None:
    run = swept(tmp_path / "p", {"a.tif": discs(1)}).run()
    records = [read_json(file) for file in sorted((run.root / "units").glob("u*.json"))]
    assert any(record["passes"] for record in records)
    for record in records:
        assert (record.get("memory", 0) > 10 * 2**20) == bool(record["passes"])
