"""What is not in the core: named with the way to get it, when it is needed."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from opsef_bridge.errors import InputError

__all__ = ["need"]

UNASKED = {"umap": "tensorflow"}
"""Packages that bring another only for a part of theirs that is not used here: umap brings
TensorFlow, which takes seconds and must not meet torch in one process."""


def need(module: str, purpose: str) -> ModuleType:
    """Import a module of the extra ``analysis``.

    Parameters
    ----------
    module : str
        For example ``sklearn.cluster``.
    purpose : str
        What it is needed for, in words.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        with _left_out(UNASKED.get(module.partition(".")[0])):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.partition(".")[0] != error.name.partition(".")[0]:
            raise  # something else is broken
        raise InputError(
            f"{purpose} needs {error.name}, which is not installed",
            hint="Install the extra: pip install 'opsef_bridge[analysis]'",
        ) from None


@contextmanager
def _left_out(name: str | None) -> Iterator[None]:
    """Let imports in here not find a package, unless it is loaded already."""
    if name is None or name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # as Python marks what is not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is not there
            yield
    finally:
        del sys.modules[name]
