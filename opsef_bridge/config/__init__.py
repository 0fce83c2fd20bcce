"""``opsef.yaml`` and the models that check it.

A list where one value stands is a sweep axis. Every error names the line, the value and
the choices; unknown keys are errors, because a misspelt key that is ignored is a wrong
result. The keys of a model are those of its engine, so an engine that is installed later
brings its keys along.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from opsef_bridge.config.analyse import Analyse
from opsef_bridge.config.images import Images, Section
from opsef_bridge.config.train import Train
from opsef_bridge.engines import Parameters, engine_class
from opsef_bridge.errors import ConfigError, OpsefError
from opsef_bridge.files import key_of
from opsef_bridge.postprocess import ClassMask, Postprocess
from opsef_bridge.preprocess import normalise_recipe, resolve_files

__all__ = [
    "Analyse",
    "Compare",
    "Config",
    "Images",
    "ModelSettings",
    "Sweep",
    "Train",
    "config_key",
    "line_in",
    "load_config",
    "parse_config",
]


class Sweep(Section):
    """On what the variants are tried."""

    images: Annotated[int, Field(ge=1)] | Literal["all"] = 8
    """How many images, drawn evenly from the groups; or ``all``."""
    crop: Annotated[int, Field(ge=32)] | Literal["none"] = 512
    """Side of the square that is cut from each image; or ``none``."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Compare(Section):
    """What is written for the eye."""

    top: int = Field(16, ge=1, le=999)
    """Frames of a comparison stack: the variants of the highest rank."""
    base: str = "raw"
    """Recipe whose output is the base picture: of ``raw`` it is the channel that is segmented."""
    channels: Literal["segment", "all"] = "segment"
    """``all`` shows every channel of the image as a further channel of the stack."""
    dtype: Literal["8bit", "source"] = "8bit"
    """``source`` keeps the values of the base picture and of further channels."""
    rois: int = Field(3, ge=0)
    """Write ROI zips for so many variants of the highest rank."""


@dataclass(frozen=True)
class ModelSettings:
    """One entry of ``models``: an engine, its weights, and the axes of its parameters.

    Attributes
    ----------
    name : str
        The user's name of the entry.
    engine : str
    weights : str or None
        Name of the weights; None takes those that come with the engine.
    axes : dict of str to list
        Values to try, by parameter, in the order of the file; then the engine's ladder.
    """

    name: str
    engine: str
    weights: str | None
    axes: dict[str, list[Any]]

    def combinations(
        self, tuned: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Parameters, Parameters]]:
        """Yield every (predict, decode) pair of parameters, the passes outermost.

        `tuned` are decode values of the weights, for parameters that have no axis.
        """
        engine = engine_class(self.engine)
        passes = [key for key in self.axes if key in engine.Predict.model_fields]
        rest = [key for key in self.axes if key not in passes]
        for values in itertools.product(*(self.axes[key] for key in passes)):
            predict = engine.Predict(**dict(zip(passes, values, strict=True)))
            for more in itertools.product(*(self.axes[key] for key in rest)):
                named = dict(zip(rest, more, strict=True))
                yield predict, engine.Decode(**{**(tuned or {}), **named})


class Config(Section):
    """The whole of ``opsef.yaml``."""

    opsef: Literal[1]
    """Version of the format."""
    images: Images
    preprocess: dict[str, list[Any]] = Field(default_factory=lambda: {"raw": []})
    """Recipes by name: each an ordered list of steps."""
    models: dict[str, dict[str, Any]] = Field(min_length=1)
    postprocess: Postprocess = Postprocess()
    class_mask: ClassMask | None = None
    """Two classes of objects: 1 inside of a mask, 2 outside; a file, or another channel."""
    groups: dict[str, str] | str | None = None
    """Globs on file names by group; or a column of ``images/index.csv``."""
    classes: dict[Annotated[int, Field(ge=1, le=255)], str] = Field(default_factory=dict)
    """Names of the classes of objects, by number: the group of their ROIs in ImageJ."""
    sweep: Sweep = Sweep()
    compare: Compare = Compare()
    analyse: Analyse = Analyse()
    train: Train | None = None
    """What ``opsef train grid`` does."""

    @field_validator("preprocess")
    @classmethod
    def _recipes(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if not value:
            raise ValueError("at least one recipe is needed, e.g. `raw: []`")
        for name, steps in value.items():
            _slug_word(name)
            try:
                normalise_recipe(steps)
            except OpsefError as error:
                raise _At(error, (name,)) from None
        return value

    @field_validator("models")
    @classmethod
    def _models(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, entry in value.items():
            _slug_word(name)
            _model_settings(name, entry)
        return value

    @field_validator("postprocess")
    @classmethod
    def _kept_properties(cls, value: Postprocess) -> Postprocess:
        if not value.keep:
            return value
        from opsef_bridge.measure.regions import INTENSITY, object_columns  # brings numba

        shapes = [*object_columns("yx"), *object_columns("zyx")]
        choices = list(dict.fromkeys([*shapes, *INTENSITY]))
        for number, bounds in enumerate(value.keep):
            for name in bounds:
                if name not in choices:
                    problem = f"objects have no {name!r}. Choose of {', '.join(choices)}"
                    raise _At(problem, ("keep", number, name))
        return value

    @field_validator("analyse")
    @classmethod
    def _analysed_properties(cls, value: Analyse) -> Analyse:
        if value.properties == "all":
            return value
        from opsef_bridge.measure.regions import object_columns, object_properties  # brings numba

        choices = list(dict.fromkeys([*object_properties("yx"), *object_properties("zyx")]))
        columns = {*choices, *object_columns("yx"), *object_columns("zyx")}
        for number, name in enumerate(value.properties):
            if name not in columns:
                problem = f"objects have no {name!r}. Choose of {', '.join(choices)}"
                raise _At(problem, ("properties", number))
        return value

    @model_validator(mode="after")
    def _base_is_a_recipe(self) -> Config:
        if self.compare.base not in {"raw", *self.preprocess}:
            choices = ", ".join(dict.fromkeys(["raw", *self.preprocess]))
            problem = f"there is no recipe {self.compare.base!r}. Choose of {choices}"
            raise _At(problem, ("compare", "base"))
        return self

    def base_steps(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """Return the recipe of the base picture; ``raw`` needs no entry."""
        return normalise_recipe(self.preprocess.get(self.compare.base, []))

    def recipes(self) -> dict[str, tuple[tuple[str, dict[str, Any]], ...]]:
        """Return every recipe as (step, parameters with defaults) pairs; `scale` comes first."""
        block = self.images.block
        first = [{"bin": {"factor": block}}] if block > 1 else []
        return {name: normalise_recipe([*first, *s]) for name, s in self.preprocess.items()}

    def model_settings(self) -> list[ModelSettings]:
        """Return the entries of ``models``, checked against their engines."""
        return [_model_settings(name, entry) for name, entry in self.models.items()]


class _At(ValueError):
    """A problem found below the field that pydantic knows; `where` leads to it."""

    def __init__(self, problem: object, where: tuple[str | int, ...]) -> None:
        super().__init__(str(problem))
        self.where = where


def _slug_word(name: str) -> None:
    """Names become parts of slugs and file names."""
    if not name or not all(c.isalnum() or c in "-_." for c in name):
        raise _At(f"{name!r} is no name: use letters, digits, '-', '_' and '.'", (name,))


def _model_settings(name: str, entry: dict[str, Any]) -> ModelSettings:
    if "engine" not in entry:
        raise _At("the key 'engine' is missing", (name,))
    for key in ("engine", "weights"):
        if key in entry and not isinstance(entry[key], str):
            raise _At(f"{entry[key]!r} is no name", (name, key))
    rest = dict(entry)
    try:
        engine = engine_class(rest.pop("engine"))
    except OpsefError as error:
        raise _At(error, (name, "engine")) from None
    weights = rest.pop("weights", None)
    ladder = getattr(engine, "ladder", {})
    rest |= {key: list(values) for key, values in ladder.items() if key not in rest}
    fields = {**engine.Predict.model_fields, **engine.Decode.model_fields}
    axes: dict[str, list[Any]] = {}
    for key, value in rest.items():
        if key not in fields:
            choices = ", ".join(["weights", *fields])
            raise _At(
                f"the engine {engine.name!r} has no {key!r}. Choose of {choices}", (name, key)
            )
        axes[key] = value if isinstance(value, list) else [value]
        if not axes[key]:
            raise _At("an empty list has nothing to try", (name, key))
        part = engine.Predict if key in engine.Predict.model_fields else engine.Decode
        for one in axes[key]:
            try:
                part(**{key: one})
            except ValidationError as error:
                said = (p["msg"].removeprefix("Value error, ") for p in error.errors())
                raise _At(f"{one!r}: {'; or: '.join(said)}", (name, key)) from None
    return ModelSettings(name, engine.name, weights, axes)


def parse_config(text: str, source: str = "opsef.yaml") -> Config:
    """Check the text of an ``opsef.yaml``.

    Raises
    ------
    ConfigError
        Not YAML, an unknown key, a wrong type, an impossible value. All problems are
        listed, each with its line.

    Examples
    --------
    >>> config = parse_config(
    ...     "opsef: 1\\n"
    ...     "images: {source: data/*.tif}\\n"
    ...     "models: {classic: {engine: watershed, scale: [0.5, 1.0]}}\\n"
    ... )
    >>> len(list(config.model_settings()[0].combinations()))
    2
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
        double = _first_double_key(tree)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date with a month 13
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{source}:{line} not valid YAML: {problem}") from None
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{source} holds no settings", hint="`opsef new` writes one to start from"
        )
    if double is not None:
        raise ConfigError(f"{source}: line {double[1]}: the key {double[0]!r} stands twice")
    try:
        return Config(**{str(key): value for key, value in raw.items()})
    except ValidationError as error:
        lines = [_explain(problem, tree, raw, source) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def load_config(path: str | Path) -> Config:
    """Read and check the ``opsef.yaml`` at `path`; files that recipes name get whole paths."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {path.name} in {path.parent}",
            hint="Name the project with -p DIR, or make one with `opsef new DIR --images SRC`",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text ({error.reason})") from None
    config = parse_config(text, path.name)
    recipes = {name: resolve_files(steps, path.parent) for name, steps in config.preprocess.items()}
    return config.model_copy(update={"preprocess": recipes})


def line_in(path: str | Path, *where: str | int) -> str:
    """Return ``opsef.yaml: line 7: train.start`` for what is found wrong later than here."""
    tree = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line, depth = _line_of(tree, list(where))
    shown = ".".join(str(part) for part in where[:depth] or where)
    return f"{Path(path).name}: line {line}: {shown}"


def config_key(config: Config) -> str:
    """Return a content key of the resolved configuration."""
    return key_of(config.model_dump(mode="json"))


def _explain(problem: Any, tree: yaml.Node, raw: dict[str, Any], source: str) -> str:
    """One problem of pydantic as `source: line: key: what, which value, choices`."""
    where = [part for part in problem["loc"] if part != "[key]"]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, _At):
        where += cause.where
    line, depth = _line_of(tree, where)
    shown = ".".join(str(part) for part in where[:depth] or where)
    if problem["type"] == "extra_forbidden":
        choices = ", ".join(_siblings(where[:-1]))
        what = f"unknown key {where[-1]!r}. Choose of {choices}"
    elif problem["type"] == "missing":
        what = f"the key {where[-1]!r} is missing"
    elif cause is not None:
        what = str(cause)
    else:
        what = f"{problem['msg']}, got {problem['input']!r}"
    return f"{source}: line {line}: {shown}: {what}"


def _siblings(where: list[str | int]) -> list[str]:
    """The keys that the section at `where` knows."""
    model: Any = Config
    for part in where:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        kinds = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
        models = [one for one in kinds if issubclass(one, BaseModel)]
        if not models:
            break
        model = models[0]
    return list(model.model_fields)


def _line_of(node: yaml.Node, where: list[str | int]) -> tuple[int, int]:
    """Follow `where` into the YAML tree; return the line (from 1) and how deep it went."""
    line = node.start_mark.line + 1
    for depth, part in enumerate(where):
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
            else:
                return line, depth
        elif isinstance(node, yaml.SequenceNode) and part in range(len(node.value)):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line, depth
    return line, len(where)


def _first_double_key(node: yaml.Node | None) -> tuple[str, int] | None:
    """YAML keeps the last of two equal keys without a word; a user would want to know."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                return key.value, key.start_mark.line + 1
            seen.add(key.value)
            below = _first_double_key(value)
            if below is not None:
                return below
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            below = _first_double_key(value)
            if below is not None:
                return below
    return None
