"""Where the images lie that come with the program."""

from __future__ import annotations

from pathlib import Path

from opsef_bridge.errors import NotFoundError

__all__ = ["example_data"]


def example_data() -> Path:
    """Return the folder of the bundled images: in the package, or beside it in a checkout.

    It holds ``images/``, ``labels/`` and ``origin.csv``.

    Raises
    ------
    NotFoundError
        It is missing.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "example_data", package.parent / "examples" / "data"):
        if (folder / "images").is_dir():
            return folder
    raise NotFoundError("the bundled images are missing", hint="Install the package again")
