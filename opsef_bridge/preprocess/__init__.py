"""Preprocessing: steps (pure functions in a registry) and recipes (lists of steps)."""

# Each of these registers its steps.
from opsef_bridge.preprocess import background as _background  # noqa: F401
from opsef_bridge.preprocess import colour as _colour  # noqa: F401
from opsef_bridge.preprocess import contrast as _contrast  # noqa: F401
from opsef_bridge.preprocess import steps as _steps  # noqa: F401
from opsef_bridge.preprocess.imagej_steps import step_engine
from opsef_bridge.preprocess.legacy import legacy_recipe
from opsef_bridge.preprocess.recipe import (
    DEFAULT_ORDER,
    apply_recipe,
    default_order,
    normalise_recipe,
    recipe_identity,
    recipe_scale,
    resolve_files,
    takes_colour,
    to_source_grid,
)
from opsef_bridge.preprocess.registry import STEPS, Step, find_step, step, step_schema

__all__ = [
    "DEFAULT_ORDER",
    "STEPS",
    "Step",
    "apply_recipe",
    "default_order",
    "find_step",
    "legacy_recipe",
    "normalise_recipe",
    "recipe_identity",
    "recipe_scale",
    "resolve_files",
    "step",
    "step_engine",
    "step_schema",
    "takes_colour",
    "to_source_grid",
]
