"""Loops that numpy cannot express, compiled by numba."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on its first call; keep the machine code for later processes.

    numba refuses to keep it where neither the package's folder nor the user's cache
    folder can be written; the function is then compiled once in each process. A
    compiled function may only call others of its own module: numba looks at that one
    file to see whether the kept code is stale.

    Examples
    --------
    >>> compiled(lambda a, b: a + b)(1, 2)
    3
    """
    try:
        made = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)
    with contextlib.suppress(AttributeError):  # another numba: see the test
        kept = made._cache._cache_file
        # numba numbers the files of a function's signatures. Two processes that compile it at
        # once, for different types, would take the same number: the code of the one would then
        # be called with the types of the other.
        kept._data_name_pattern = f"{uuid.uuid4().hex[:16]}.{kept._data_name_pattern}"
    return made
