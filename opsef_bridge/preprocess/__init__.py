"""Preprocessing: steps (pure functions in a registry) and recipes (lists of steps)."""

from opsef_bridge.preprocess import steps as _steps  # noqa: F401  (registers the steps)
from opsef_bridge.preprocess.recipe import (
    DEFAULT_ORDER,
    apply_recipe,
    default_order,
    normalise_recipe,
    recipe_identity,
    recipe_scale,
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
    "normalise_recipe",
    "recipe_identity",
    "recipe_scale",
    "step",
    "step_schema",
    "to_source_grid",
]
