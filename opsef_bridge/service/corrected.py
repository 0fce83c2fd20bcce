"""What to correct next as JSON: the result of a job of the kind ``next``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from opsef_bridge.compare.words import count_of
from opsef_bridge.service.parameters import Name, Words
from opsef_bridge.sweep.asking import compared_run
from opsef_bridge.sweep.record import now
from opsef_bridge.train.next_parts import TILE
from opsef_bridge.train.next_up import next_up

if TYPE_CHECKING:
    from opsef_bridge.service.kinds import Task

__all__ = ["NextParameters", "told_of_next"]


class NextParameters(BaseModel):
    """Of a sweep (the newest one), of a group or of all; `tile` 0 lists whole images only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Words | None = None
    run: Name | None = None
    group: Words | None = None
    count: Annotated[int, Field(ge=1, le=10_000)] = 100
    tile: Annotated[int, Field(ge=0, le=2**31)] = TILE


def told_of_next(task: Task, given: NextParameters) -> dict[str, Any]:
    """Return ``next``, the entries of `opsef_bridge.train.next_up.next_up`, and ``left``.

    ``made`` is the time of the answer, in UTC: what was corrected since is not in it.

    Raises
    ------
    OpsefError
        As `next_up`.
    """
    run, made = compared_run(task.project, given.run).id, now()
    found = next_up(
        task.project, run=run, variant=given.variant, group=given.group,
        tile=given.tile or None, tell=task.tell,
    )  # fmt: skip
    shown = found[: given.count]
    wrong = round(sum(one.wrong for one in found))
    return {
        "run": run,
        "made": made,
        "next": [one.to_json() for one in shown],
        "left": len(found) - len(shown),
        "said": [
            f"{count_of(wrong, 'object')} expected wrong in {count_of(len(found), 'place')}"
            if found
            else "Nothing is expected wrong in images that nobody has vouched for"
        ],
    }
