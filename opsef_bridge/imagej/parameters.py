"""What may be asked of ImageJ: the algorithms, their parameters and their limits.

Nothing here needs Java. Lengths are in pixels, grey levels those of the image.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsef_bridge.errors import InputError, NotFoundError

__all__ = ["ALGORITHMS", "METHODS", "PROJECTIONS", "Algorithm", "checked", "find_algorithm"]

Provider = Literal["ij1", "imagej2"]
Gives = Literal["same", "mask", "labels", "plane"]

Radius = Annotated[float, Field(ge=0.5, le=1000)]

METHODS = (
    "Default",
    "Huang",
    "Intermodes",
    "IsoData",
    "IJ_IsoData",
    "Li",
    "MaxEntropy",
    "Mean",
    "MinError",
    "Minimum",
    "Moments",
    "Otsu",
    "Percentile",
    "RenyiEntropy",
    "Shanbhag",
    "Triangle",
    "Yen",
)
"""The methods of ``ij.process.AutoThresholder``, in ImageJ's order."""

PROJECTIONS = ("max", "min", "sum", "sd", "avg", "median")


class Algorithm(BaseModel):
    """Parameters of one algorithm.

    `gives` is what comes back: an image of the ``same`` dtype, a ``mask`` of 0 and 255, an
    image of ``labels``, or the one ``plane`` of a volume.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    gives: ClassVar[Gives] = "same"
    provider: ClassVar[Provider] = "ij1"


class RollingBall(Algorithm):
    """Subtract Background (``ij.plugin.filter.BackgroundSubtracter``)."""

    radius: Radius = 50.0
    light: bool = False
    sliding: bool = False
    smooth: bool = True


class SlidingParaboloid(Algorithm):
    """Subtract Background with Sliding Paraboloid."""

    radius: Radius = 50.0
    light: bool = False
    smooth: bool = True


class Rank(Algorithm):
    """A filter over ImageJ's disk (``ij.plugin.filter.RankFilters``)."""

    radius: Annotated[float, Field(ge=0.5, le=100)] = 2.0


class Gaussian(Algorithm):
    """Gaussian Blur (``ij.plugin.filter.GaussianBlur``)."""

    sigma: Annotated[float, Field(gt=0, le=1000)] = 2.0


class UnsharpMask(Algorithm):
    """Unsharp Mask (``ij.plugin.filter.UnsharpMask``)."""

    sigma: Annotated[float, Field(gt=0, le=1000)] = 1.0
    weight: Annotated[float, Field(ge=0.1, le=0.9)] = 0.6


class FindMaxima(Algorithm):
    """Find Maxima (``ij.plugin.filter.MaximumFinder``)."""

    gives: ClassVar[Gives] = "mask"
    tolerance: Annotated[float, Field(ge=0, le=2**32)] = 10.0
    output: Literal["points", "within_tolerance", "segmented"] = "points"
    light: bool = False
    strict: bool = False
    exclude_edges: bool = False


class AutoThreshold(Algorithm):
    """Auto threshold (``ij.process.AutoThresholder``)."""

    gives: ClassVar[Gives] = "mask"
    method: Literal[METHODS] = "Default"  # type: ignore[valid-type]
    light: bool = False


class Particles(Algorithm):
    """Analyze Particles (``ij.plugin.filter.ParticleAnalyzer``)."""

    gives: ClassVar[Gives] = "labels"
    min_area: Annotated[float, Field(ge=0)] = 0.0
    max_area: Annotated[float, Field(ge=0)] | None = None
    min_circularity: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_circularity: Annotated[float, Field(ge=0, le=1)] = 1.0
    exclude_edges: bool = False
    include_holes: bool = False


class Project(Algorithm):
    """Z Project (``ij.plugin.ZProjector``)."""

    gives: ClassVar[Gives] = "plane"
    method: Literal[PROJECTIONS] = "max"  # type: ignore[valid-type]


class Macro(Algorithm):
    """A macro in ImageJ's macro language, on the current image."""

    provider: ClassVar[Provider] = "imagej2"
    macro: Annotated[str, Field(min_length=1, max_length=100_000)]


class Command(Algorithm):
    """A command of the menu, and its options as the Recorder writes them."""

    provider: ClassVar[Provider] = "imagej2"
    command: Annotated[str, Field(min_length=1, max_length=1000)]
    options: Annotated[str, Field(max_length=10_000)] = ""


class ClaheFiji(Algorithm):
    """Fiji's Enhance Local Contrast (CLAHE)."""

    provider: ClassVar[Provider] = "imagej2"
    block: Annotated[int, Field(ge=3, le=4096)] = 127
    bins: Annotated[int, Field(ge=2, le=65536)] = 256
    slope: Annotated[float, Field(ge=1, le=100)] = 3.0
    fast: bool = False


class ColourDeconvolutionFiji(Algorithm):
    """Fiji's Colour Deconvolution, of an RGB image."""

    provider: ClassVar[Provider] = "imagej2"
    vectors: Annotated[str, Field(min_length=1, max_length=100)] = "H&E"
    stain: Annotated[int, Field(ge=1, le=3)] = 1


ALGORITHMS: dict[str, type[Algorithm]] = {
    "rolling_ball": RollingBall,
    "sliding_paraboloid": SlidingParaboloid,
    "median": Rank,
    "mean": Rank,
    "minimum": Rank,
    "maximum": Rank,
    "variance": Rank,
    "gaussian": Gaussian,
    "unsharp_mask": UnsharpMask,
    "find_maxima": FindMaxima,
    "auto_threshold": AutoThreshold,
    "particles": Particles,
    "project": Project,
    "macro": Macro,
    "command": Command,
    "clahe_fiji": ClaheFiji,
    "colour_deconvolution_fiji": ColourDeconvolutionFiji,
}
"""Everything that may be asked of ImageJ, by name."""


def find_algorithm(name: str) -> type[Algorithm]:
    """Return the parameters of the algorithm `name`.

    Raises
    ------
    NotFoundError
        There is none; the hint lists those that there are.
    """
    if name not in ALGORITHMS:
        raise NotFoundError(
            f"ImageJ is not asked for {name!r} here", hint=f"Choose from {', '.join(ALGORITHMS)}"
        )
    return ALGORITHMS[name]


def checked(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return `parameters` of the algorithm `name`, defaults filled in.

    Raises
    ------
    NotFoundError
        There is no such algorithm.
    InputError
        Names the parameter, its value and its limit.

    Examples
    --------
    >>> checked("gaussian", {})
    {'sigma': 2.0}
    """
    try:
        return find_algorithm(name).model_validate(parameters).model_dump()
    except ValidationError as error:
        said = "; ".join(_said(one) for one in error.errors())
        known = ", ".join(find_algorithm(name).model_fields)
        raise InputError(f"ImageJ's {name}: {said}", hint=f"Its parameters are {known}") from None


def _said(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"there is no parameter {name!r}"
    return f"{name} is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
