"""Fetch the pinned Java archives (ImageJ, Jython) into this environment; tests need them."""

import sys

from opsef_bridge.imagej.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
