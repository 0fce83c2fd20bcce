"""The parameters of each kind of request: ids and choices, never paths."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = [
    "AdoptParameters",
    "AnswerParameters",
    "AskParameters",
    "ImportParameters",
    "ReviewParameters",
    "RoisParameters",
    "Running",
    "SegmentParameters",
    "SweepParameters",
    "TableParameters",
    "TruthParameters",
    "VerdictParameters",
]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Parameters(BaseModel):
    """Strict: a misspelt parameter that is ignored is a wrong result."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Running(_Parameters):
    """Who does the units of a run. A profile is the name of one of Snakemake's."""

    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    executor: Literal["local", "snakemake"] = "local"
    profile: Name | None = None

    @model_validator(mode="after")
    def _profile_needs_snakemake(self) -> Running:
        if self.profile and self.executor != "snakemake":
            raise ValueError("a profile needs the executor snakemake")
        return self


class SweepParameters(Running):
    """`resume` goes on with a run (the newest sweep), and tries again what failed."""

    resume: bool = False
    run: Name | None = None


class AdoptParameters(_Parameters):
    variant: Words
    group: Words | None = None
    run: Name | None = None


class RoisParameters(_Parameters):
    """`empty`: all objects were deleted; then nothing is attached."""

    image: Name
    base: Words | None = None
    truth: Words | None = None
    resolve: Literal["ours", "theirs"] | None = None
    empty: bool = False


class VerdictParameters(_Parameters):
    """`verdict`: ``none`` takes the person's verdict back."""

    image: Name
    variant: Words
    run: Name | None = None
    verdict: Literal["good", "over", "under", "missed", "none"]


class TruthParameters(_Parameters):
    image: Name
    scope: Words
    revision: Name = "latest"


class AskParameters(_Parameters):
    """Of a sweep (the newest one); a group where the run has several."""

    run: Name | None = None
    group: Words | None = None
    count: Annotated[int, Field(ge=1, le=100)] = 5


class AnswerParameters(_Parameters):
    """`drawn` comes with a ROI of the right object; `asked`: not a place of one's own choice."""

    image: Name
    variant: Words
    label: Annotated[int, Field(ge=1)]
    answer: Literal["right", "drawn", "nothing"]
    run: Name | None = None
    asked: bool = True


class ReviewParameters(_Parameters):
    """Of an image, or without one only the order of the images: of a group, or of all."""

    image: Name | None = None
    variant: Words | None = None
    run: Name | None = None
    group: Words | None = None
    count: Annotated[int, Field(ge=1, le=10_000)] = 100

    @model_validator(mode="after")
    def _an_image_has_its_group(self) -> ReviewParameters:
        if self.image and self.group:
            raise ValueError("name an image or a group")
        return self


class TableParameters(_Parameters):
    """Of a variant, of a revision, or of the newest objects there are."""

    image: Name
    run: Name | None = None
    variant: Words | None = None
    revision: Name | None = None


class SegmentParameters(_Parameters):
    """Weights by name, or an engine with those that come with it."""

    engine: Words | None = None
    weights: Words | None = None
    parameters: dict[Words, bool | int | float | str] = {}

    @model_validator(mode="after")
    def _one_is_named(self) -> SegmentParameters:
        if not (self.engine or self.weights):
            raise ValueError("name an engine or weights")
        return self


class ImportParameters(_Parameters):
    """None."""
