"""Units of work and who runs them."""

from opsef_bridge.execute.at_work import cancel_run, who_works, working_on
from opsef_bridge.execute.jobs import ClusterJob, group_units
from opsef_bridge.execute.local import Event, free_cores, run_local, run_named
from opsef_bridge.execute.profiles import find_profile, shipped_profiles
from opsef_bridge.execute.slurm import cancel_jobs
from opsef_bridge.execute.snakefile import snakefile
from opsef_bridge.execute.snakemake import run_snakemake
from opsef_bridge.execute.units import (
    Job,
    Outcome,
    Unit,
    fail_item,
    forget_failures,
    forget_outcomes,
    run_unit,
    unit_kind,
    unit_summary,
)

__all__ = [
    "ClusterJob",
    "Event",
    "Job",
    "Outcome",
    "Unit",
    "cancel_jobs",
    "cancel_run",
    "fail_item",
    "find_profile",
    "forget_failures",
    "forget_outcomes",
    "free_cores",
    "group_units",
    "run_local",
    "run_named",
    "run_snakemake",
    "run_unit",
    "shipped_profiles",
    "snakefile",
    "unit_kind",
    "unit_summary",
    "who_works",
    "working_on",
]
