"""Classes that a person chose in the page of objects: the kind ``classes``, an image at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from opsef_bridge.errors import StaleError
from opsef_bridge.project import Project
from opsef_bridge.rois.revisions import History
from opsef_bridge.service.analysed import told_of_classes
from opsef_bridge.service.parameters import ClassifyParameters, ClassRow, Name, Words

if TYPE_CHECKING:
    from opsef_bridge.service.kinds import Task

__all__ = ["ChosenParameters", "OfClass", "newest_revisions", "told_of_chosen"]

Label = Annotated[int, Field(ge=1, le=2**31 - 1)]


class OfClass(BaseModel):
    """The objects that get a class; 0 takes theirs away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_: Annotated[int, Field(ge=0, le=255, alias="class")]
    labels: Annotated[list[Label], Field(min_length=1, max_length=100_000)]


class ChosenParameters(BaseModel):
    """Of one image; labels are those of a revision, of a variant, or of the newest objects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Name
    classes: Annotated[list[OfClass], Field(min_length=1, max_length=256)]
    run: Name | None = None
    variant: Words | None = None
    revision: Name | None = None

    @model_validator(mode="after")
    def _an_object_has_one_class(self) -> ChosenParameters:
        labels = [label for one in self.classes for label in one.labels]
        if len(labels) != len(set(labels)):
            raise ValueError("an object gets two classes")
        return self


def told_of_chosen(task: Task, given: ChosenParameters) -> dict[str, Any]:
    """Save the classes as ``opsef classify --from`` does; return the revision and what is said.

    Returns
    -------
    dict
        ``image``; ``revision``, None where no class changes; ``base``, what further classes of
        this page are of, None where they stay those of what was named; ``older``, the newest
        revision before this one where the labels are not of that, else None; ``said``.

    Raises
    ------
    StaleError
        Somebody changed the same objects since.
    OpsefError
        As `opsef_bridge.service.analysed.told_of_classes`.
    """
    project, image = task.project, task.project.image(given.image).id
    head = History(project, image).head()
    older = head.id if head is not None and given.revision != head.id else None
    origin = {"run": given.run, "variant": given.variant, "revision": given.revision}
    if older and not any(origin.values()):  # labels of the newest, whatever that is
        older = None
    rows = [
        ClassRow.model_validate({"image": image, "label": label, "class": one.class_, **origin})
        for one in given.classes
        for label in one.labels
    ]
    try:
        done = told_of_classes(project, ClassifyParameters(rows=rows), task.author, task.tell)
    except StaleError as error:
        raise StaleError(
            error.message,
            hint="Run opsef analyse and open the page anew: it is older than that",
            report=error.report,
        ) from None
    [one] = done["images"]
    return {
        "image": image,
        "revision": one["revision"],
        "base": _base(one["base"]),
        "older": older,
        "said": [f"{image}: {one['revision'] or 'nothing to save'}", *one["said"], *_said(older)],
    }


def newest_revisions(project: Project) -> dict[str, str]:
    """Return the newest revision of each image that has one: ids by ids."""
    heads = {entry.id: History(project, entry.id).head() for entry in project.images()}
    return {image: head.id for image, head in heads.items() if head is not None}


def _base(text: str | None) -> str | None:
    """The revision that further labels are of; none where it was joined with others' edits.

    Objects in it are not all as the page shows them: what it says is still of what it was of.
    """
    return text if text and text != "none" and ":" not in text and "/" not in text else None


def _said(older: str | None) -> list[str]:
    if older is None:
        return []
    return [f"The page is older than {older}: run opsef analyse and open it anew"]
