"""Adopt a variant for a group of images, and write down why."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from opsef_bridge.compare.votes import SILENT
from opsef_bridge.compare.words import SizeBin, cautions, count_of
from opsef_bridge.errors import ConfigError, InputError, NotFoundError
from opsef_bridge.files import lock
from opsef_bridge.project import Project, Run
from opsef_bridge.sweep.planned import Plan, Variant, find_variant
from opsef_bridge.sweep.rank import rerank
from opsef_bridge.sweep.ranking import read_ranking, words_of_run
from opsef_bridge.sweep.record import now
from opsef_bridge.sweep.run import newest_run, variant_rows
from opsef_bridge.sweep.verdicts import read_verdicts

__all__ = ["adopt", "adopt_by_size"]

FEW_IMAGES = 2
"""Below so many images a bin's first choice says little."""


def adopt(
    project: Project,
    variant: str,
    *,
    group: str | None = None,
    run: str | None = None,
    by: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Adopt `variant` of a run for `group`, or for all groups of the run.

    Parameters
    ----------
    variant : str
        Id (``v0007``) or slug.
    group : str, optional
        All groups of the run by default.
    run : str, optional
        Id of the run; the newest sweep by default.
    by : str, optional
        Who adopts; the user of this process by default.

    Returns
    -------
    dict
        What was written to ``adopted.json`` for each group: the variant, complete, so that
        it can be run without the configuration it came from; its rank, score and agreement;
        the ``words`` of the ranking; the ``verdicts`` on it; the ``sample``, ids of the images
        of the sweep; who, when.

    Raises
    ------
    NotFoundError
        The variant, group or run does not exist; the message lists what does.
    InputError
        The variant is a consensus, or failed on every image of a group.
    """
    folder = _sweep(project, run)
    plan = Plan.from_json(folder.plan())
    chosen = find_variant(plan, variant, folder.id)
    _refuse_consensus(folder, [chosen])
    samples: dict[str, list[str]] = {}
    for image in plan.images:
        samples.setdefault(image.group, []).append(image.id)
    _check_group(folder, group, samples)
    rows = {row["group"]: row for row in variant_rows(folder) if row["id"] == chosen.id}
    said = words_of_run(folder)
    verdicts = _verdicts(project, folder, chosen.id)
    new = {}
    failed = [name for name in ([group] if group else samples) if rows[name]["status"] == "failed"]
    if failed:
        raise InputError(
            f"{chosen.id} failed on every image of group {', '.join(failed)}",
            hint="Choose another variant, or name a group that it worked on: --group",
        )
    for name in [group] if group else samples:
        row = rows[name]
        new[name] = _entry(folder, chosen, by, samples[name], verdicts) | {
            "rank": int(row["rank"]),
            "score": float(row["score"]),
            "agreement": float(row["agreement"]),
            "words": said.get(name, []),
        }
    with lock(project.lock_file):
        project.write_adopted(project.adopted() | new)
    return new


def adopt_by_size(
    project: Project,
    *,
    group: str | None = None,
    run: str | None = None,
    by: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Part the images of a sweep by the size of their objects, and adopt what is first there.

    Each bin of one octave becomes a group, ``<group>-<low>-<high>px`` by the median diameters
    of its images, in the column ``group`` of ``images/index.csv``. Images that were not in the
    sweep, or on which nothing was found, keep their group, and that adopts the first choice
    for all images.

    Parameters
    ----------
    group : str, optional
        Group of the run; by default all whose images differ in size.
    run, by : str, optional
        As in `adopt`.

    Returns
    -------
    dict
        As `adopt`, for each new group, and for each old one that keeps images.

    Raises
    ------
    NotFoundError
        There is no such group or run, or it is not ranked yet.
    InputError
        All images have objects of like size.
    ConfigError
        ``groups`` of ``opsef.yaml`` decides the groups at every import.
    """
    folder = _sweep(project, run)
    plan = Plan.from_json(folder.plan())
    told = read_ranking(folder) or rerank(project, folder)  # older versions saw no sizes
    _check_group(folder, group, told)
    mixed = {name: told[name] for name in ([group] if group else told) if _is_mixed(told[name])}
    if not mixed:
        raise InputError(
            f"the images of {'group ' + group if group else folder.id} have objects of like size",
            hint="Adopt one variant for all: opsef adopt VARIANT",
        )
    _check_groups_are_kept(project)
    parts, where_from = _parts_by_name(mixed)
    ids = {part.first for part in parts.values()} | {one["first"] for one in mixed.values()}
    chosen = {variant.id: variant for variant in plan.variants if variant.id in ids}
    _refuse_consensus(folder, chosen.values())
    where = {image: name for name, part in parts.items() for image in part.images}
    new = {}
    for name, part in parts.items():
        verdicts = _verdicts(project, folder, part.first)
        new[name] = _entry(folder, chosen[part.first], by, part.images, verdicts) | {
            "rank": 1,
            "score": part.score,
            "agreement": part.agreement,
            "words": _words_of_part(part, where_from[name]),
        }
    with lock(project.lock_file):
        # A group that somebody gave since the sweep is a choice that stays.
        was = {image.id: image.group for image in plan.images}
        with project.changing_images():
            entries = [
                replace(e, group=where[e.id]) if e.id in where and e.group == was[e.id] else e
                for e in project.images()
            ]
            project.write_images(entries)
        left = [name for name in mixed if any(e.group == name and not e.gone for e in entries)]
        for name in left:
            one = chosen[mixed[name]["first"]]
            count = sum(e.group == name and not e.gone for e in entries)
            new |= _single_choice(project, folder, one, name, mixed[name], count, by)
        project.write_adopted(project.adopted() | new)
    return new


def _sweep(project: Project, run: str | None) -> Run:
    folder = project.run(run) if run else newest_run(project, "sweep")
    if folder is None:
        raise NotFoundError("there is no sweep yet", hint="Start one: opsef sweep run")
    return folder


def _refuse_consensus(run: Run, variants: Iterable[Variant]) -> None:
    for variant in variants:
        if variant.family == SILENT:
            raise InputError(
                f"{variant.id} is a consensus: `opsef batch` cannot make it, since it is made of "
                "all variants",
                hint="Adopt the best single variant, or edit the objects of the consensus: opsef "
                f"rois export {variant.id} --run {run.id}",
            )


def _check_group(run: Run, group: str | None, groups: Iterable[str]) -> None:
    if group is not None and group not in groups:
        raise NotFoundError(
            f"{run.id} has no group {group!r}", hint=f"Choose of {', '.join(groups)}"
        )


def _entry(
    run: Run,
    variant: Variant,
    by: str | None,
    sample: Sequence[str],
    verdicts: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    return {
        "id": variant.id,
        "slug": variant.slug,
        "run": run.id,
        "variant": variant.to_json(),
        "by": by or getpass.getuser(),
        "at": now(),
        "sample": list(sample),
        "verdicts": [dict(one) for one in verdicts if one["image"] in sample],
    }


def _verdicts(project: Project, run: Run, variant: str) -> list[dict[str, str]]:
    """The last verdict of each person on the variant, by image."""
    told = ("image", "verdict", "author", "at")
    return [
        {name: getattr(one, name) for name in told}
        for one in read_verdicts(project, run.id)
        if one.variant == variant
    ]


def _is_mixed(told: Mapping[str, Any]) -> bool:
    return len(told["bins"]) > 1


def _parts_by_name(
    mixed: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, SizeBin], dict[str, Mapping[str, Any]]]:
    """The bins of all groups by the names of the groups that they become, and what those tell."""
    parts, where_from = {}, {}
    for group, told in mixed.items():
        for one in told["bins"]:
            part = SizeBin(
                tuple(one["images"]), one["low"], one["high"], one["first"], one["agreement"],
                one["score"],
            )  # fmt: skip
            name = f"{group}-{part.low:.0f}-{part.high:.0f}px"
            parts[name], where_from[name] = part, told
    return parts, where_from


def _words_of_part(part: SizeBin, told: Mapping[str, Any]) -> list[str]:
    """What to know of the first choice of a bin; `told` is its group in ``ranking.json``."""
    words = cautions(told["families"], told["variants"], part.agreement)
    looks = (told.get("pictures") or {}).get("images", {})
    unlike = [image for image in part.images if looks.get(image, {}).get("unlike")]
    if (told.get("pictures") or {}).get("judged") and 3 * len(unlike) >= len(part.images):
        words.append(
            f"{len(unlike)} of {count_of(len(part.images), 'image')} look unlike what the models "
            "learned from. Look twice."
        )
    if len(part.images) < FEW_IMAGES:
        count = count_of(len(part.images), "image")
        words.append(f"Only {count} with objects of {part.text} decided this.")
    return words


def _single_choice(
    project: Project,
    run: Run,
    variant: Variant,
    group: str,
    told: Mapping[str, Any],
    left: int,
    by: str | None,
) -> dict[str, dict[str, Any]]:
    """What a group adopts for the images that went into no bin."""
    sample = list(told["sizes"])
    verdicts = _verdicts(project, run, variant.id)
    keep = (
        f"{count_of(left, 'image')} of group {group} {'was' if left == 1 else 'were'} not in the "
        f"sweep, or nothing was found there: the first choice for all sizes, {variant.id}, is "
        "adopted for them. Give them one of the new groups in images/index.csv where it fits."
    )
    return {
        group: _entry(run, variant, by, sample, verdicts)
        | {"rank": 1, "score": told["score"], "agreement": told["agreement"], "words": [keep]}
    }


def _check_groups_are_kept(project: Project) -> None:
    """Refuse where the next import would undo the groups."""
    groups = project.config.groups
    if groups not in (None, "group"):
        decides = f"the column {groups!r}" if isinstance(groups, str) else "file names"
        raise ConfigError(
            f"groups in opsef.yaml takes the groups from {decides} at every import",
            hint="Write `groups: group` there: the column `group` of images/index.csv holds the "
            "groups of today. Then try again",
        )
