"""Plan, run, adopt, batch. Importing this package registers the kinds of units."""

from opsef_bridge.execute import run_unit
from opsef_bridge.sweep import (  # noqa: F401  (register kinds)
    batch,
    consensus,
    merge,
    predict,
    rank,
    reporting,
    stacks,
    tiled,
)
from opsef_bridge.sweep.adopt import adopt
from opsef_bridge.sweep.plan import left_out, make_batch_plan, make_plan
from opsef_bridge.sweep.planned import Plan, Variant
from opsef_bridge.sweep.rank import order_note
from opsef_bridge.sweep.run import (
    Executor,
    Result,
    newest_run,
    plan_batch,
    plan_sweep,
    resume_run,
    run_plan,
    status,
)
from opsef_bridge.sweep.segment import segment

__all__ = [
    "Executor",
    "Plan",
    "Result",
    "Variant",
    "adopt",
    "left_out",
    "make_batch_plan",
    "make_plan",
    "newest_run",
    "order_note",
    "plan_batch",
    "plan_sweep",
    "resume_run",
    "run_plan",
    "run_unit",
    "segment",
    "status",
]
