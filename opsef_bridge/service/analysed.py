"""An analysis and classes as JSON: the results of jobs of the kinds ``analyse``, ``classify``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opsef_bridge.exchange.saving import Imported, text_of_base
from opsef_bridge.exchange.sources import variant_of
from opsef_bridge.execute import Event
from opsef_bridge.project import Project, Run
from opsef_bridge.service.parameters import AnalyseParameters, ClassifyParameters

if TYPE_CHECKING:
    import pandas as pd

    from opsef_bridge.analysis.classify import Classified

__all__ = ["UNCERTAIN", "told_of_analysis", "told_of_classes"]

UNCERTAIN = 200
"""Objects to classify next that are told; ``tables/uncertain.csv`` has all."""

Tell = Callable[[Event], None]
Named = AnalyseParameters | ClassifyParameters


def told_of_analysis(project: Project, given: AnalyseParameters, tell: Tell) -> dict[str, Any]:
    """Analyse a project; return how much was measured, what was written, and what it says.

    Returns
    -------
    dict
        ``objects``, ``images``: how many; ``files``, relative to the project; ``said``, the
        first of them how much it is; ``failed``: images that could not be measured.

    Raises
    ------
    OpsefError
        As `opsef_bridge.analysis.analyse.analyse`.
    """
    from opsef_bridge.analysis.analyse import Wish, analyse

    wish = Wish(
        by=given.by, unit=given.unit, reference=given.reference, columns=given.columns,
        embed=given.embed, cluster=given.cluster, count=given.count, of=given.of,
        plots=given.plots, seed=given.seed,
        page=False,  # the service hands out no pages with scripts of a project
    )  # fmt: skip
    done = analyse(
        project, wish, given.images, variant=_variant(project, given), revision=given.revision,
        tell=tell,
    )  # fmt: skip
    objects, images = len(done.objects), len(done.images)
    return {
        "objects": objects,
        "images": images,
        "files": [file.relative_to(project.root).as_posix() for file in done.files],
        "said": [f"{objects} objects of {images} images: tables/objects.csv", *done.said],
        "failed": list(done.failed),
    }


def told_of_classes(
    project: Project, given: ClassifyParameters, author: str, tell: Tell
) -> dict[str, Any]:
    """Give objects classes; return the revisions, and of learned classes what to classify next.

    Returns
    -------
    dict
        ``objects``: how many get a class; ``images``: of each its revision, or why there is
        none; ``uncertain``: the first `UNCERTAIN` objects, None where nothing was learned;
        ``uncertain_count``: how many there are; ``report``: rows by class; ``files``; ``said``.

    Raises
    ------
    OpsefError
        As `opsef_bridge.analysis.classify`; or no image could be saved.
    """
    from opsef_bridge.analysis.classes import save_classes

    found = _classes(project, given, tell)
    done = []
    if not given.dry_run:
        done = list(
            save_classes(project, found.classes, author=author, why=found.why, kind=found.kind)
        )
    failed = [one for one in done if one.error]
    if failed and len(failed) == len(done):
        raise failed[0].error
    said = [*found.said, *(_said(one) for one in done)]
    if given.dry_run:
        said.append(f"{len(found.classes)} objects would get a class; nothing is saved")
    uncertain = found.uncertain
    return {
        "objects": len(found.classes),
        "images": [_image(one) for one in done],
        "uncertain": None if uncertain is None else _rows(uncertain.head(UNCERTAIN)),
        "uncertain_count": 0 if uncertain is None else len(uncertain),
        "report": [] if found.report is None else _rows(found.report),
        "files": [file.relative_to(project.root).as_posix() for file in found.files],
        "dry_run": given.dry_run,
        "said": said,
    }


def _classes(project: Project, given: ClassifyParameters, tell: Tell) -> Classified:
    from opsef_bridge.analysis import classify
    from opsef_bridge.analysis.conditions import add_conditions
    from opsef_bridge.analysis.gather import gather_tables

    if given.rows is not None:
        return _by_rows(given)
    gathered = gather_tables(
        project, given.images, variant=_variant(project, given), revision=given.revision, tell=tell
    )
    found, _, conditions = add_conditions(project, gathered)
    objects = found.objects
    if given.where is not None:
        return classify.by_gate(project, objects, given.where, given.class_ or "")
    if given.cluster is not None:
        return classify.by_clusters(
            objects, given.cluster, given.count, given.features, given.seed, conditions
        )
    return classify.by_learning(
        project, objects, given.features, given.least, given.seed, conditions
    )


def _by_rows(given: ClassifyParameters) -> Classified:
    import pandas as pd

    from opsef_bridge.analysis.classify import Classified

    table = pd.DataFrame([row.model_dump(by_alias=True) for row in given.rows or ()]).fillna("")
    return Classified(table, "hand", (f"{len(table)} objects by hand",))


def _variant(project: Project, given: Named) -> tuple[Run, str] | None:
    return variant_of(project, given.variant, given.run) if given.variant else None


def _image(one: Imported) -> dict[str, Any]:
    told = one.to_json()
    names = ("image", "revision", "new", "objects", "said", "error", "code")
    now = one.saved.now if one.saved else None
    return {name: told[name] for name in names} | {"base": text_of_base(now) if now else None}


def _said(one: Imported) -> str:
    if one.error:
        return f"{one.image}: {one.error}"
    if one.saved:
        return f"{one.image}: {one.saved.revision.id}"
    return f"{one.image}: {'; '.join(one.said)}"


def _rows(table: pd.DataFrame) -> Sequence[dict[str, Any]]:
    """Return rows as plain values; what is no number is None."""
    return json.loads(table.to_json(orient="records", double_precision=6))
