"""The region around the best variants of a run, in which `refine` looks for better ones.

It follows from the leaders, the variants of the highest rank:

- their models, and for each the recipes that leaders use with it;
- thresholds, ``scale`` and ``diameter``: from the neighbour below the least of the leaders'
  values on the ladder of the run to the neighbour above the largest; where the ladder ends,
  one rung further; half of a value that was not swept to either side. Never beyond the limits
  of the engine. ``scale`` and ``diameter`` are drawn on a logarithmic scale;
- numbers of recipe steps that ``opsef.yaml`` names: half of them to either side;
- other parameters that need a network pass (tiles, channels) and words (``otsu``): those of
  the leaders, nothing between.

What ``opsef.yaml`` does not name stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opsef_bridge.engines import Weights, engine_class
from opsef_bridge.preprocess.registry import find_step
from opsef_bridge.sweep.planned import Variant, short_value
from opsef_bridge.sweep.ranges import clipped, is_number, limits, neighbours

__all__ = ["Knob", "Space", "Value", "make_space"]

SCALES = ("scale", "diameter")
"""Parameters of a network pass that are turned freely."""

NUMBER = "a number"
"""What a parameter is that is not one of its words."""

Value = str | float | int | bool | None


@dataclass(frozen=True)
class Knob:
    """Something to turn: one of `choices`, or a number from `low` to `high`.

    `name` is unique in the space. One that cannot be turned has one choice, or `low` = `high`.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    integer: bool = False
    log: bool = False

    @property
    def free(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.choices) > 1 or (not self.choices and self.high > self.low)

    @property
    def only(self) -> Value:
        """The value of one that is not free."""
        return self.choices[0] if self.choices else self.low

    def holds(self, value: Value) -> bool:
        """Whether `value` can be chosen."""
        if self.choices:
            return value in self.choices
        return is_number(value) and self.low <= float(value or 0) <= self.high


@dataclass(frozen=True)
class Turned:
    """A parameter of a model: which part it is of, its words, and its range if it has one."""

    part: str
    key: str
    words: Knob
    number: Knob | None


@dataclass(frozen=True)
class Steps:
    """A recipe and what is turned of it: (index of the step, parameter, knob)."""

    steps: tuple[Any, ...]
    turned: tuple[tuple[int, str, Knob], ...]


@dataclass(frozen=True)
class Model:
    """A model: its best variant, which all others start from, its recipes, its parameters."""

    best: Variant
    recipe: Knob
    turned: tuple[Turned, ...]


@dataclass(frozen=True)
class Space:
    """All variants that may be tried.

    A point of it is a mapping from the names of knobs to values; knobs that are not free, and
    those of other models and recipes, are not in it.
    """

    models: dict[str, Model]
    recipes: dict[str, Steps]
    weights: dict[tuple[str, str], Weights]

    @property
    def model(self) -> Knob:
        """Which model."""
        return Knob("model", tuple(self.models))

    def point(self, choose: Callable[[Knob], Value]) -> dict[str, Value]:
        """Return the point that `choose` makes, called for each free knob that applies."""
        found: dict[str, Value] = {}

        def turn(knob: Knob) -> Value:
            if knob.free:
                found[knob.name] = choose(knob)
            return found.get(knob.name, knob.only)

        model = self.models[str(turn(self.model))]
        for _, _, knob in self.recipes[str(turn(model.recipe))].turned:
            turn(knob)
        for one in model.turned:
            if turn(one.words) == NUMBER and one.number:
                turn(one.number)
        return found

    def free(self) -> bool:
        """Whether there is more than one point."""
        knobs = [self.model, *(model.recipe for model in self.models.values())]
        knobs += [knob for recipe in self.recipes.values() for _, _, knob in recipe.turned]
        for model in self.models.values():
            knobs += [k for one in model.turned for k in (one.words, one.number) if k]
        return any(knob.free for knob in knobs)

    def knobs(self, point: Mapping[str, Value]) -> dict[str, Knob]:
        """Return the knobs of a point, by name."""
        used: dict[str, Knob] = {}

        def note(knob: Knob) -> Value:
            used[knob.name] = knob
            return point[knob.name]

        self.point(note)
        return used

    def pass_part(self, point: Mapping[str, Value]) -> dict[str, Value]:
        """Return those values of a point that decide which network pass it needs."""
        model = self._model(point)
        cheap = {
            knob.name
            for one in model.turned
            if one.part == "decode"
            for knob in (one.words, one.number)
            if knob
        }
        return {name: value for name, value in point.items() if name not in cheap}

    def variant(self, point: Mapping[str, Value]) -> Variant:
        """Return the variant of a point; its `id` is empty.

        Raises
        ------
        ValidationError, OpsefError
            Values that are right one by one do not go together.
        """
        model = self._model(point)
        best = model.best
        recipe, steps = self._recipe(str(point.get(model.recipe.name, model.recipe.only)), point)
        values: dict[str, dict[str, Any]] = {"predict": {**best.predict}, "decode": {**best.decode}}
        for one in model.turned:
            value = point.get(one.words.name, one.words.only)
            if value == NUMBER and one.number:
                value = _rounded(point.get(one.number.name, one.number.only))
            values[one.part][one.key] = value
        engine = engine_class(best.engine)
        predict = engine.Predict(**values["predict"])
        ask = getattr(engine, "seen_scale", None)
        scale = (
            ask(predict, self.weights[best.engine, best.weights])
            if ask
            else getattr(predict, "scale", 1.0)
        )
        made = replace(
            best, id="", slug="", recipe=recipe, steps=steps, scale=float(scale),
            predict=predict.model_dump(mode="json"),
            decode=engine.Decode(**values["decode"]).model_dump(mode="json"),
        )  # fmt: skip
        return replace(made, slug=_slug(made), key=made.current_key())

    def of_variant(self, variant: Variant) -> dict[str, Value] | None:
        """Return the point of a variant of the run; None where it lies outside."""
        model = self.models.get(variant.model)
        if model is None or variant.recipe not in model.recipe.choices:
            return None
        known: dict[str, Value] = {"model": variant.model, model.recipe.name: variant.recipe}
        for one in model.turned:
            value = getattr(variant, one.part)[one.key]
            if one.number is not None and is_number(value):
                known |= {one.words.name: NUMBER, one.number.name: value}
                inside = one.number.holds(value)
            else:
                known[one.words.name] = value
                inside = one.words.holds(value)
            if not inside:
                return None
        for index, key, knob in self.recipes[variant.recipe].turned:
            known[knob.name] = variant.steps[index][1][key]
        return self.point(lambda knob: known[knob.name])

    def _model(self, point: Mapping[str, Value]) -> Model:
        return self.models[str(point.get("model", self.model.only))]

    def _recipe(self, name: str, point: Mapping[str, Value]) -> tuple[str, tuple[Any, ...]]:
        """Return name and steps of a recipe; one with other numbers has another name."""
        recipe = self.recipes[name]
        steps = [(step, dict(parameters)) for step, parameters in recipe.steps]
        names = [step for step, _ in steps]
        for index, key, knob in recipe.turned:
            step, parameters = steps[index]
            value = _rounded(point.get(knob.name, knob.only))
            if value != parameters[key]:
                parameters[key] = value
                which = "" if names.count(step) == 1 else str(index + 1)
                name += f"-{step}{which}.{key}-{short_value(value)}"
        return name, tuple((step, find_step(step).validate(given)) for step, given in steps)


def make_space(
    variants: Sequence[Variant],
    leaders: Sequence[Variant],
    recipes: Mapping[str, Sequence[Any]],
    weights: Sequence[Weights],
) -> Space:
    """Return the region around the leaders of a run.

    Parameters
    ----------
    variants : sequence of Variant
        All of the run: its ladders.
    leaders : sequence of Variant
        The best of them, best first.
    recipes : mapping
        ``preprocess`` of the configuration: which numbers of the steps a person named.
    weights : sequence of Weights
        Of the leaders.
    """
    models = {}
    for name in dict.fromkeys(one.model for one in leaders):
        mine = [one for one in leaders if one.model == name]
        ladder = [one for one in variants if one.model == name]
        used = tuple(dict.fromkeys(one.recipe for one in mine))
        turned = [_turned(key, mine, ladder) for key in mine[0].named]
        models[name] = Model(mine[0], Knob(f"{name}: recipe", used), tuple(turned))
    steps = {one.recipe: one.steps for one in leaders}
    return Space(
        models,
        {name: Steps(own, _turned_steps(name, own, recipes)) for name, own in steps.items()},
        {(one.engine, one.name): one for one in weights},
    )


def _turned(key: str, leaders: Sequence[Variant], ladder: Sequence[Variant]) -> Turned:
    """What is turned of one parameter of a model."""
    best = leaders[0]
    part = "predict" if key in best.predict else "decode"
    name = f"{best.model}: {key}"
    values = list(dict.fromkeys(getattr(one, part)[key] for one in leaders))
    if part == "predict" and key not in SCALES:
        return Turned(part, key, Knob(name, tuple(values)), None)
    numbers = [value for value in values if is_number(value)]
    words = [value for value in values if not is_number(value)]
    if not numbers:
        return Turned(part, key, Knob(f"{name} is", tuple(words)), None)
    engine = engine_class(best.engine)
    field = (engine.Predict if part == "predict" else engine.Decode).model_fields[key]
    rungs = sorted({v for one in ladder if is_number(v := getattr(one, part)[key])})
    log = key in SCALES and rungs[0] > 0
    integer = all(isinstance(value, int) for value in rungs)
    low, high = clipped(
        neighbours(rungs, numbers, log=log), limits(field), numbers, integer=integer
    )
    number = Knob(name, (), low, high, integer, log)
    return Turned(part, key, Knob(f"{name} is", (NUMBER, *words)), number)


def _turned_steps(
    recipe: str, steps: Sequence[Any], recipes: Mapping[str, Sequence[Any]]
) -> tuple[tuple[int, str, Knob], ...]:
    """What is turned of a recipe: the numbers that the configuration names."""
    written = recipes.get(recipe, ())
    first = len(steps) - len(written)  # `images.scale` puts a step in front
    found = []
    for index, entry in enumerate(written, start=first):
        name, parameters = steps[index]
        step = find_step(name)
        given = next(iter(entry.values()), None) if isinstance(entry, Mapping) else None
        for key in given or ():
            value = parameters.get(key)
            if not is_number(value) or value == 0 or key == step.shrinks:
                continue
            bounds = limits(step.Parameters.model_fields[key])
            integer = isinstance(value, int)
            low, high = clipped(neighbours([value], [value]), bounds, [value], integer=integer)
            found.append((index, key, Knob(f"{recipe}: {index} {key}", (), low, high, integer)))
    return tuple(found)


def _rounded(value: Any) -> Any:
    """Four digits: what a person would write."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _slug(variant: Variant) -> str:
    """Name it as a plan does: recipe, model, and the parameters that the file names."""
    values = {**variant.predict, **variant.decode}
    parts = [f"{key}-{short_value(values[key])}" for key in variant.named]
    return "_".join([variant.recipe, variant.model, *parts])
