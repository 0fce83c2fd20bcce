"""One family of errors: each says what is wrong, which value, and the way out.

The command line prints ``str(error)`` and exits with ``error.exit_code``; the
service answers with the same text; a unit that fails records ``error.code`` and
``error.hint`` in its outcome. So a message is written once, here or where it is
raised, and read the same everywhere.

Lookups double as builtins (`NotFoundError` is a `LookupError`, `InputError` is a
`ValueError`), so that code that knows nothing of this package can still catch them.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConfigError",
    "ImageError",
    "InputError",
    "LockedError",
    "NotFoundError",
    "OpsefError",
    "ProjectError",
    "RoiError",
    "StaleError",
    "WeightsError",
    "WorkerError",
]


class OpsefError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong, with the value that is wrong.
    hint : str, optional
        The way out: what to change, run or bring.

    Attributes
    ----------
    code : str
        A short, stable, hyphenated name for records and for the service.
    exit_code : int
        What the command line returns: 2 for bad input, 1 for work that failed.
    """

    code = "error"
    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class InputError(OpsefError, ValueError):
    """An argument is of the wrong kind, shape, dtype or range."""

    code = "bad-input"


class ConfigError(InputError):
    """``opsef.yaml`` has an unknown key, a wrong type or an impossible value."""

    code = "bad-config"


class ImageError(InputError):
    """An image file cannot be read, or is of a kind that cannot be worked on."""

    code = "bad-image"


class RoiError(InputError):
    """A ROI, or a zip of ROIs, is broken or outside what ImageJ can hold."""

    code = "bad-roi"


class StaleError(OpsefError):
    """An edit was made from objects that somebody has changed since, at the same place.

    Parameters
    ----------
    message, hint : str
        As in `OpsefError`.
    report : dict
        The three-way report: what base, theirs and ours say of each object in question;
        JSON values only.
    """

    code = "stale-edit"

    def __init__(
        self, message: str, *, hint: str = "", report: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.report = report or {}


class WeightsError(OpsefError):
    """Weights are missing, or are not those that their sha256 promises."""

    code = "bad-weights"


class ProjectError(OpsefError):
    """The folder is no project, or holds something that cannot be understood."""

    code = "bad-project"


class NotFoundError(OpsefError, LookupError):
    """An id (image, variant, run, unit, model, step) that does not exist."""

    code = "not-found"


class LockedError(OpsefError):
    """Another process works on the same run; the message says which."""

    code = "locked"


class WorkerError(OpsefError):
    """A worker process died, stalled, or reported a failure it could not type."""

    code = "worker-failed"
    exit_code = 1
