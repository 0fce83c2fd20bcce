"""Files that steps name: whole paths while a program works, relative ones in a project's files.

A project that holds what its recipes name can then be moved, and is the same project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opsef_bridge.errors import ConfigError
from opsef_bridge.preprocess.registry import find_step

__all__ = ["map_files", "map_plan_files", "map_variant_files", "relative_to", "whole_in"]

Change = Callable[[str], str]


def whole_in(folder: Path) -> Change:
    """Return what makes the path of a file whole: relative ones are relative to `folder`."""
    return lambda file: str(Path(folder, file).absolute())


def relative_to(folder: Path) -> Change:
    """Return what makes the path of a file relative to `folder`, if it lies in there.

    Examples
    --------
    >>> [relative_to(Path("/data/cells"))(f) for f in ("/data/cells/a/flat.tif", "/other.tif")]
    ['a/flat.tif', '/other.tif']
    """

    def change(file: str) -> str:
        path = Path(file)
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else file

    return change


def map_files(recipe: Sequence[Any], change: Change) -> list[Any]:
    """Return `recipe` with other paths of the files that its steps name.

    Parameters
    ----------
    recipe : sequence
        As `opsef_bridge.preprocess.normalise_recipe` takes or returns it, or as JSON has
        that. Steps without files stay as they are written.
    change : callable
        Takes and returns a path.

    Examples
    --------
    >>> map_files(["invert", {"flat_field": {"reference": "flat.tif"}}], str.upper)
    ['invert', {'flat_field': {'reference': 'FLAT.TIF'}}]
    """
    return [_changed(entry, change) for entry in recipe]


def _changed(entry: Any, change: Change) -> Any:
    if isinstance(entry, Mapping):
        return {name: _with_files(name, given, change) for name, given in entry.items()}
    if isinstance(entry, str):
        return entry
    name, given = entry
    return type(entry)((name, _with_files(name, given, change)))


def _with_files(name: str, given: Any, change: Change) -> Any:
    try:
        files = find_step(name).files
    except ConfigError:  # of a package that is gone; whoever runs the step says so
        return given
    named = {key: change(given[key]) for key in files if isinstance((given or {}).get(key), str)}
    return {**given, **named} if named else given


def map_variant_files(variant: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Return a variant, as JSON has it, with other paths of files: see `map_files`."""
    return {**variant, "steps": map_files(variant.get("steps", ()), change)}


def map_plan_files(plan: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Return a plan, as JSON has it, with other paths of files: see `map_files`."""
    changed = dict(plan)
    if "variants" in plan:
        changed["variants"] = [map_variant_files(one, change) for one in plan["variants"]]
    if "preprocess" in plan.get("config", {}):
        recipes = plan["config"]["preprocess"].items()
        mapped = {name: map_files(recipe, change) for name, recipe in recipes}
        changed["config"] = {**plan["config"], "preprocess": mapped}
    return changed
