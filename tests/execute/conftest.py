"""Projects of the sweep's tests, and a SLURM of one node."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsef_bridge.files import patiently
from tests.sweep.conftest import (  # noqa: F401  (fixtures)
    bench,
    bytecode,
    make_discs,
    probe_on_path,
    probe_site,
    until,
)

TOOL = Path(__file__).parents[1] / "tools" / "slurm_loopback"
PATIENCE = 1800.0
"""Seconds to wait for another process with its SLURM."""

ELSEWHERE = 3
"""Exit code of the tool where there is a SLURM that is not ours."""

PROFILE = """\
executor: slurm
jobs: 2
slurm-init-seconds-before-status-checks: 1
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real SLURM on this machine; the folder of a profile that uses it.

    There can be one at a time: other processes of the same tests (xdist) wait for it.
    """
    pytest.importorskip("snakemake_executor_plugin_slurm")
    if os.geteuid() != 0:
        pytest.skip("starting SLURM needs root")
    for name in ("slurmctld", "slurmd", "munged", "runuser"):
        if shutil.which(name) is None:
            pytest.skip(f"there is no {name}: Debian has slurm-wlm and munge")
    state = tmp_path_factory.mktemp("slurm")
    with patiently(tmp_path_factory.getbasetemp().parent / "slurm.lock", PATIENCE):
        yield from _started(state)


def _started(state: Path) -> Iterator[Path]:
    begun = subprocess.run(
        ["bash", TOOL, "start", state], capture_output=True, text=True, timeout=150, check=False
    )
    if begun.returncode == ELSEWHERE:
        pytest.skip(begun.stderr.strip())
    try:
        assert begun.returncode == 0, begun.stderr
        profile = state / "profile"
        profile.mkdir()
        (profile / "config.yaml").write_text(PROFILE)
        yield profile
    finally:
        subprocess.run(["scancel", "--full", "--state=RUNNING"], timeout=30, check=False)
        subprocess.run(["bash", TOOL, "stop", state], timeout=120, check=False)
