"""``python -m opsef_bridge.imagej``: fetch the pinned archives into this environment."""

from __future__ import annotations

import sys

from opsef_bridge.errors import NotFoundError
from opsef_bridge.imagej.jars import JARS, fetch_jar


def main() -> int:
    """Fetch every archive that is not there yet; say where each lies."""
    for name in JARS:
        try:
            print(f"{name}: {fetch_jar(name)}")
        except NotFoundError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
