"""What to correct first: the objects of a variant by their support, and the images by doubt.

The support of an object (``docs/ranking.md``) says how likely it is right. A person who
corrects a variant starts with the objects that hardly anybody else has, goes on with those that
others have and it lacks, and starts with the image in which most objects are expected wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from opsef_bridge.compare.consensus import Work
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.execute import Event
from opsef_bridge.project import Project
from opsef_bridge.rois.archive import Archive
from opsef_bridge.sweep.asking import compared_run
from opsef_bridge.sweep.planned import Plan, PlannedImage
from opsef_bridge.sweep.sample import Box
from opsef_bridge.sweep.sites import Site
from opsef_bridge.sweep.supported import WHATS, Supported, nobody

__all__ = ["Doubt", "Review", "WorkItem", "review", "review_order", "review_words"]

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class WorkItem:
    """A place to look at.

    Parameters
    ----------
    what : {"doubtful", "missing"}
        An object of the variant of which the support is low; or one of another variant that
        is well supported, and that the variant lacks.
    variant : str
        Id of the variant that has the object.
    label : int
        Of the object in the labels of that variant.
    support : float
        In (0, 1).
    box : (y, x, height, width)
        Bounding box in pixels of the whole image, also where the sweep saw a crop of it.
    plane : int or None
        Of a volume the plane in which the object is largest, from 0.
    outline : tuple of tuple of (x, y)
        As `opsef_bridge.sweep.asking.Asked` has it.
    """

    what: Literal["doubtful", "missing"]
    variant: str
    label: int
    support: float
    box: Box
    plane: int | None
    outline: tuple[tuple[tuple[int, int], ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return asdict(self)


@dataclass(frozen=True)
class Review:
    """What to look at in the labels of one image by one variant.

    Parameters
    ----------
    image, run, variant, slug, group : str
    support : mapping of int to float
        Of every object of the variant in the image, by its label.
    work : tuple of WorkItem
        Doubtful objects, least supported first; then what is missing, best supported first.
    left : mapping of str to int
        How many ``doubtful`` and ``missing`` places there are, also where `work` was cut.
    words : tuple of str
        What a person must know of the supports.
    """

    image: str
    run: str
    variant: str
    slug: str
    group: str
    support: Mapping[int, float]
    work: tuple[WorkItem, ...]
    left: Mapping[str, int]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Doubt:
    """How much there is to correct in one image.

    Parameters
    ----------
    image, variant : str
    objects : int
        Of the variant in the image.
    doubtful, missing : int
        Places of which nothing is vouched yet.
    doubt : float
        Expected number of wrong objects: ``1 - support`` added up over the objects of the
        variant of which nothing is vouched, and the support of what is missing.
    edited : str or None
        Newest revision of the image's objects, by whomever.
    """

    image: str
    variant: str
    objects: int
    doubtful: int
    missing: int
    doubt: float
    edited: str | None

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return asdict(self)


def review(
    project: Project,
    image: str,
    *,
    variant: str | None = None,
    run: str | None = None,
    limit: int | None = None,
) -> Review:
    """Return the support of the objects of an image by a variant, and what to look at first.

    Parameters
    ----------
    project : Project
    image : str
        Id; one that the run has seen.
    variant : str, optional
        Id or slug; by default the one that was adopted for the image's group if it is of this
        run, else the first by rank that has labels of the image.
    run : str, optional
        A sweep, a refinement or a consensus; the newest sweep by default.
    limit : int, optional
        So many places at most.

    Returns
    -------
    Review
        Without places of which something is vouched already: a region that is known, an
        object that shares half of the smaller outline, an outline that was answered.

    Raises
    ------
    NotFoundError
        There is no such image, run or variant, or the run is not ranked; or the variant
        failed on the image.
    InputError
        The run is a batch, or nobody else has labels of the image, so nobody could support
        its objects; or `limit` is below 1.
    ProjectError
        Labels of the run are gone, or what is vouched for is of another part of the image.
    """
    if limit is not None and limit < 1:
        raise InputError(f"{limit} places cannot be listed", hint="Ask for at least 1")
    looked = Supported.of_image(project, image, variant, run)
    chosen, planned = looked.chosen, looked.planned(image)
    outcome = looked.outcomes[planned.id, chosen.id]
    if outcome["status"] == "failed":
        raise NotFoundError(
            f"{chosen.id} failed on {planned.id}: {outcome.get('message', '')}",
            hint="Name another variant: --variant",
        )
    support, work = looked.work(planned)
    site = looked.site(planned)
    said = looked.decided(planned, site, work)
    open_ = [one for one, over in zip(work, said, strict=True) if not over]
    return Review(
        image=planned.id,
        run=looked.run.id,
        variant=chosen.id,
        slug=chosen.slug,
        group=planned.group,
        support=support,
        work=_shown(looked, site, open_[:limit]),
        left={what: sum(one.what == what for one in open_) for what in WHATS},
        words=tuple(looked.words()),
    )


def review_order(
    project: Project,
    *,
    run: str | None = None,
    variant: str | None = None,
    group: str | None = None,
    tell: Tell = lambda event: None,
) -> list[Doubt]:
    """Return the images of a sweep, that to correct first before the others.

    Parameters
    ----------
    project : Project
    run, variant : str, optional
        As in `review`.
    group : str, optional
        Of which images; all groups of the run by default, each with its variant.
    tell : callable
        Takes an `Event` for each image. The first call reads the labels of all variants.

    Returns
    -------
    list of Doubt
        Most expected wrong objects first. An image on which nobody has labels, or on which the
        variant that was named failed, is left out.

    Raises
    ------
    NotFoundError, InputError, ProjectError
        As `review`.
    """
    folder = compared_run(project, run)
    plan = Plan.from_json(folder.plan())
    groups = list(dict.fromkeys(image.group for image in plan.images))
    if group is not None and group not in groups:
        known = ", ".join(groups)
        raise NotFoundError(f"{folder.id} has no group {group!r}", hint=f"Choose of {known}")
    found, alone = [], []
    for name in [group] if group else groups:
        of_group = Supported(project, folder, plan, name, variant)
        for image in plan.images:
            if image.group != name:
                continue
            tell(Event(len(found) + len(alone), len(plan.images), image.id))
            looked = of_group.of(image)
            failed = looked.outcomes[image.id, looked.chosen.id]["status"] == "failed"
            if looked.voices(image) and not failed:
                found.append(_doubt(looked, image))
            else:
                alone.append(image.id)
    if not found:
        raise nobody(folder, ", ".join(alone))
    return sorted(found, key=lambda one: (-one.doubt, one.image))


def review_words(project: Project, run: str | None = None, group: str | None = None) -> list[str]:
    """Return what a person must know of the supports in a run, by group where it has several.

    Raises
    ------
    NotFoundError, InputError
        As `review_order`.
    """
    folder = compared_run(project, run)
    plan = Plan.from_json(folder.plan())
    groups = [group] if group else list(dict.fromkeys(image.group for image in plan.images))
    said: dict[str, list[str]] = {}
    for name in groups:
        for words in Supported(project, folder, plan, name, None).words():
            said.setdefault(words, []).append(name)
    return [
        words if len(names) == len(groups) else f"Group {', '.join(names)}: {words}"
        for words, names in said.items()
    ]


def _doubt(looked: Supported, image: PlannedImage) -> Doubt:
    """How much there is to correct in an image."""
    support, work = looked.work(image)
    site = looked.site(image)
    said = looked.decided(image, site, work)
    open_ = [one for one, over in zip(work, said, strict=True) if not over]
    missing = [one.support for one in open_ if one.what == "missing"]
    head = Archive(looked.project, image.id).head()
    return Doubt(
        image=image.id,
        variant=looked.chosen.id,
        objects=len(support),
        doubtful=len(open_) - len(missing),
        missing=len(missing),
        doubt=round(looked.wrong(image, site, support) + sum(missing), 3),
        edited=head.id if head else None,
    )


def _shown(looked: Supported, site: Site, work: Sequence[Work]) -> tuple[WorkItem, ...]:
    """Places as a person is shown them."""
    items: dict[int, WorkItem] = {}
    for at in looked.by_variant(work):
        one = work[at]
        told = site.show(looked.variants[one.variant].id, one.label, one.box)
        items[at] = WorkItem(
            one.what, told["variant"], one.label, one.support, told["box"], told["plane"],
            told["outline"],
        )  # fmt: skip
    return tuple(items[at] for at in range(len(work)))
