"""What `opsef consensus` and `opsef sweep refine` gain: ``docs/choosing.json``.

    python tools/choosing --data DATA --out OUT --sweeps SWEEPS [--part consensus | refine]

DATA is a folder with ``dsb2018`` (BBBC038v1) and ``bbbc039`` (both CC0), SWEEPS what
``python tools/ranking --data DATA --out SWEEPS`` left. The consensus is made of the labels of
those sweeps, on projects drawn as there; nothing is written to SWEEPS. Constants of support are
those of ``docs/ranking.json``, which were fitted without the group of a project. For `refine`
small projects are made in OUT, swept, and searched, by the optimiser and by chance.
`tools/write_docs.py` puts the figures into ``docs/consensus.md`` and ``docs/refine.md``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(1, str(ROOT / "tools" / "ranking"))

from pooling import pooling, truth_of  # noqa: E402
from projects import groups_of  # noqa: E402
from refining import refining  # noqa: E402
from tables import load  # noqa: E402

from opsef_bridge.files import read_json, write_json  # noqa: E402

DOCS = ROOT / "docs" / "choosing.json"


def main() -> None:
    """Parse the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder for small projects")
    parser.add_argument("--sweeps", type=Path, required=True, help="what tools/ranking left")
    parser.add_argument("--part", choices=("consensus", "refine"), help="only this one")
    parser.add_argument("--draws", type=int, default=8, help="projects of each mode")
    given = parser.parse_args()
    if not (given.sweeps / "tables" / "fluorescence" / "variants.json").is_file():
        raise SystemExit(f"first: python tools/ranking --data DATA --out {given.sweeps}")
    made: dict[str, Any] = {}
    if given.part != "refine":
        fits = read_json(ROOT / "docs" / "ranking.json")["constants"]
        made["consensus"] = pooling(given.data, given.sweeps, fits, given.draws)
    if given.part != "consensus":
        made["refine"] = refining(_pictures(given.data, given.sweeps), given.out)
    there = read_json(DOCS) if DOCS.is_file() else {}  # now: the other part may be just made
    write_json(DOCS, {**there, **made})
    print(f"wrote {DOCS}")


def _pictures(data: Path, sweeps: Path) -> dict[str, list[tuple[Path, Path]]]:
    """The files of images and true labels of each group."""
    tables, _ = load(sweeps / "tables" / "fluorescence")
    found = {}
    for group, images in groups_of(tables).items():
        truths = [truth_of(data, image.name) for image in images]
        found[group] = [(next((t.parents[1] / "images").glob(f"{t.stem}.*")), t) for t in truths]
    return found


if __name__ == "__main__":
    main()
