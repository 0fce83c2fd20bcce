"""Units of work and who runs them."""

from opsef_bridge.execute.local import Event, free_cores, run_local
from opsef_bridge.execute.snakemake import run_snakemake, snakefile
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
    "Event",
    "Job",
    "Outcome",
    "Unit",
    "fail_item",
    "forget_failures",
    "forget_outcomes",
    "free_cores",
    "run_local",
    "run_snakemake",
    "run_unit",
    "snakefile",
    "unit_kind",
    "unit_summary",
]
