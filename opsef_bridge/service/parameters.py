"""The parameters of each kind of request: ids and choices, never paths."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = [
    "AdoptParameters",
    "AnalyseParameters",
    "AnswerParameters",
    "AskParameters",
    "ClassRow",
    "ClassifyParameters",
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


class _Objects(_Parameters):
    """Whose objects: of a variant, of a revision, or of each image the newest there are."""

    images: Annotated[list[Name], Field(max_length=10_000)] = []
    run: Name | None = None
    variant: Words | None = None
    revision: Name | None = None

    @model_validator(mode="after")
    def _one_source(self) -> _Objects:
        if self.revision and (self.variant or self.run):
            raise ValueError("name a variant or a revision")
        if self.run and not self.variant:
            raise ValueError("a run needs a variant")
        return self


class AnalyseParameters(_Objects):
    """As `opsef_bridge.analysis.analyse.Wish` has them."""

    by: Words | None = None
    unit: Words = "image"
    reference: Words | None = None
    columns: Annotated[list[Words], Field(max_length=100)] = []
    embed: Annotated[list[Literal["pca", "tsne", "umap"]], Field(max_length=3)] = ["pca"]
    cluster: Literal["kmeans", "ward", "hdbscan"] | None = None
    count: Annotated[int, Field(ge=2, le=255)] | None = None
    of: Annotated[list[Words], Field(min_length=1, max_length=1000)] | None = None
    plots: Literal["png", "svg"] | None = "png"
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0


class ClassRow(_Parameters):
    """The class of one object; 0 takes it away. Labels are those of a variant or revision."""

    image: Name
    label: Annotated[int, Field(ge=1, le=2**31)]
    class_: Annotated[int, Field(ge=0, le=255, alias="class")]
    run: Name | None = None
    variant: Words | None = None
    revision: Name | None = None


class ClassifyParameters(_Objects):
    """What gives the classes is one of `where` (with `class`), `cluster`, `learn`, `rows`."""

    where: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = None
    class_: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, alias="class"
    )
    cluster: Literal["kmeans", "ward", "hdbscan"] | None = None
    count: Annotated[int, Field(ge=2, le=255)] | None = None
    learn: bool = False
    least: Annotated[float, Field(ge=0, le=1)] | None = None
    rows: Annotated[list[ClassRow], Field(min_length=1, max_length=100_000)] | None = None
    features: Annotated[list[Words], Field(min_length=1, max_length=1000)] | None = None
    dry_run: bool = False
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0

    @model_validator(mode="after")
    def _one_way(self) -> ClassifyParameters:
        ways = {"where": self.where, "cluster": self.cluster, "learn": self.learn or None,
                "rows": self.rows}  # fmt: skip
        if sum(value is not None for value in ways.values()) != 1:
            raise ValueError(f"give one of {', '.join(ways)}")
        if (self.where is None) != (self.class_ is None):
            raise ValueError("where and class go together")
        if self.count and not self.cluster:
            raise ValueError("count is of clusters")
        if self.least is not None and not self.learn:
            raise ValueError("least is of learned classes")
        return self
