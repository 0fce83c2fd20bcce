"""The Snakemake executor: a Snakefile from the plan, one job per unit.

Every job is ``opsef unit run``, the same entry that the local executor uses, so the labels
are the same. A unit that is done leaves ``units/<unit>.done``, which is the output that
Snakemake looks at; outcomes that failed are recorded and do not fail the job.

A profile (``--profile``) takes the jobs to a cluster; without one they run here.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from opsef_bridge.errors import OpsefError, WorkerError
from opsef_bridge.execute.local import Event, free_cores
from opsef_bridge.execute.units import Unit
from opsef_bridge.files import write_text
from opsef_bridge.project import Run

__all__ = ["run_snakemake", "snakefile"]


def snakefile(project: str, run: str, units: Sequence[Unit]) -> str:
    """Return the text of a Snakefile with one rule per unit.

    Parameters
    ----------
    project : str
        Folder of the project, as every node sees it.
    run : str
        Id of the run.
    units : sequence of Unit
        All units of the plan.
    """
    everything = ", ".join(repr(f"units/{unit.id}.done") for unit in units)
    rules = [f"rule all:\n    input: {everything}\n"]
    for unit in units:
        opsef = (sys.executable, "-m", "opsef_bridge", "-p", project)
        command = shlex.join([*opsef, "unit", "run", unit.id, "--run", run])
        # Done is what counts; an exit code of 1 also says that some image failed. Braces
        # are Snakemake's own language.
        shell = f"{command} || test -f units/{unit.id}.done".replace("{", "{{").replace("}", "}}")
        needs = ", ".join(repr(f"units/{need}.done") for need in unit.needs)
        rules.append(
            f"rule {unit.id}:\n"
            + (f"    input: {needs}\n" if needs else "")
            + f"    output: 'units/{unit.id}.done'\n"
            f"    threads: 1\n"
            f"    shell: {shell!r}\n"
        )
    return "# Written from plan.json; run it with `opsef sweep run --engine snakemake`.\n\n" + (
        "\n".join(rules)
    )


def run_snakemake(
    project: str,
    run: Run,
    units: Sequence[Unit],
    *,
    workers: int | None = None,
    profile: Path | None = None,
    report: Callable[[Event], None] = lambda event: None,
) -> dict[str, OpsefError]:
    """Run the units that are not done, as jobs of Snakemake.

    Parameters
    ----------
    workers : int, optional
        Jobs at a time on this machine; as many as there are free cores by default.
    profile : Path, optional
        Folder of a Snakemake profile, for a cluster.

    Returns
    -------
    dict of str to OpsefError
        Units that are not done when Snakemake has ended.

    Raises
    ------
    WorkerError
        Snakemake is not installed.
    """
    write_text(run.snakefile, snakefile(project, run.id, units))
    log = run.log_file("snakemake")
    log.parent.mkdir(parents=True, exist_ok=True)
    said_before = log.stat().st_size if log.is_file() else 0
    # No lock: the project has one already, and Snakemake's would outlive a killed process.
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(run.snakefile),
        "--directory", str(run.root), "--rerun-incomplete", "--rerun-triggers", "mtime",
        "--nolock", "--keep-going", "--nocolor", "--cores", str(workers or free_cores()),
    ]  # fmt: skip
    command += ["--profile", str(profile)] if profile else []
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            _follow(process, run, units, report)
        except BaseException:
            # Ctrl-C ends or cancels its jobs; the signal to terminate would wait for them.
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise
    open_units = [unit for unit in units if not run.done_file(unit.id).is_file()]
    said = log.read_bytes()[said_before:].decode("utf-8", "replace").strip()
    last = said.splitlines()[-1] if said else "it said nothing"
    if open_units and "No module named snakemake" in said:
        raise WorkerError("Snakemake is not installed", hint="pip install 'opsef_bridge[cluster]'")
    return {
        unit.id: WorkerError(f"{unit.id} is not done; Snakemake: {last}", hint=f"See {log}")
        for unit in open_units
    }


def _follow(
    process: subprocess.Popen[bytes],
    run: Run,
    units: Sequence[Unit],
    report: Callable[[Event], None],
) -> None:
    """Report progress from the files that the units leave, until Snakemake has ended."""
    total = sum(max(len(unit.makes), 1) for unit in units)
    while True:
        ended = process.poll() is not None
        made = len(run.outcomes(tiles=True))
        made += sum(not unit.makes and run.done_file(unit.id).is_file() for unit in units)
        report(Event(min(made, total), total, "snakemake"))
        if ended:
            return
        time.sleep(0.5)
