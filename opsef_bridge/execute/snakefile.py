"""The Snakefile of a run: two rules, for jobs that use a GPU and for those that do not.

A job is ``opsef unit run U1 U2 ...``, the same entry that the local executor uses, so the
labels are the same. Its units leave ``units/<unit>.done``; the job's own mark is
``jobs/<job>.ok``. What Snakemake needs to know of each job stands in the file as a table.
"""

from __future__ import annotations

import math
import pprint
import shlex
import sys
from collections.abc import Iterable

from opsef_bridge.execute.jobs import ClusterJob

__all__ = ["TRIES", "snakefile"]

TRIES = 3
"""How often a job is tried; each time with so many times the memory and the time."""

MINUTES = 10
"""Least time limit of a job: starting takes what it takes."""

SLACK = 3
"""Time limit over estimate."""

RULE = """
rule WHERE_units:
    input: lambda wildcards: needs("WHERE", wildcards)
    output: touch("jobs/WHERE-{number}.ok")
    log: "logs/WHERE-{number}.txt"
    wildcard_constraints: number="[0-9]+"
    threads: lambda wildcards: JOBS["WHERE-" + wildcards.number]["threads"]
    retries: TRIES - 1
    resources:
        mem_mb=lambda wildcards, attempt: asked("WHERE", wildcards, "mem_mb", attempt),
        runtime=lambda wildcards, attempt: asked("WHERE", wildcards, "minutes", attempt),
        attempt=lambda wildcards, attempt: attempt,
    params: command=lambda wildcards, resources: command("WHERE", wildcards, resources.attempt)
    shell: "( {params.command} ) >> {log:q} 2>&1"
"""

TEXT = """\
# Written from plan.json by `opsef ... --engine snakemake`, which also runs it.

OPSEF = %(opsef)r
RUN = %(run)r
TRIES = %(tries)r
JOBS = %(jobs)s


def needs(where, wildcards):
    return ["jobs/" + job + ".ok" for job in JOBS[where + "-" + wildcards.number]["needs"]]


def asked(where, wildcards, name, attempt):
    return JOBS[where + "-" + wildcards.number][name] * attempt


def command(where, wildcards, attempt):
    units = " ".join(JOBS[where + "-" + wildcards.number]["units"])
    # A worker that dies is tried again with more memory; the last time its image has failed.
    again = " --tried-again" if attempt < TRIES else ""
    done = "for unit in " + units + "; do test -f units/$unit.done || exit 1; done"
    # Done is what counts: an exit code of 1 also says that some image failed.
    return OPSEF + " unit run " + units + " --run " + RUN + again + " || { " + done + "; }"


rule all:
    input: ["jobs/" + job + ".ok" for job in JOBS]
"""


def snakefile(project: str, run: str, jobs: Iterable[ClusterJob]) -> str:
    """Return the text of the Snakefile of a run.

    Parameters
    ----------
    project : str
        Folder of the project, as every node sees it.
    run : str
        Id of the run.
    jobs : iterable of ClusterJob
        Of `group_units`.
    """
    table = {
        job.name: {
            "units": list(job.units),
            "needs": list(job.needs),
            "threads": job.threads,
            "mem_mb": job.mem_mb,
            "minutes": max(MINUTES, math.ceil(SLACK * job.seconds / 60)),
        }
        for job in jobs
    }
    opsef = shlex.join((sys.executable, "-m", "opsef_bridge", "-p", project))
    head = TEXT % {
        "opsef": opsef,
        "run": run,
        "tries": TRIES,
        "jobs": pprint.pformat(table, sort_dicts=False, width=96, compact=True),
    }
    return head + "".join(RULE.replace("WHERE", where) for where in ("cpu", "gpu"))
