"""``python -m opsef_bridge`` is the command ``opsef`` of exactly this interpreter."""

from opsef_bridge.cli import main

if __name__ == "__main__":
    main()
