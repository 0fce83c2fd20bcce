"""Draw docs/comparison.png, the picture of the README, from a finished demo.

Usage: python tools/draw_readme.py [DEMO] [PNG]

One row per group; from left to right the picture and the variants of rank 1, of the
middle and of the last rank, as they stand in the comparison stacks.
"""

from __future__ import annotations

import sys

import numpy as np
import tifffile
from PIL import Image, ImageDraw, ImageFont

from opsef_bridge.compare.stack import stack_luts
from opsef_bridge.project import Project, Run

SIDE = 300
IMAGES = ("small-fadeb0ab0928", "large-6b6d4e6ff52d", "u2os-F12-s9")


def main(demo: str = "demo", target: str = "docs/comparison.png") -> None:
    project = Project(demo)
    run = project.run("run-0001")
    chosen = [e.id for e in project.images() if e.id.split("-", 1)[1] in IMAGES]
    rows = [_row(run, image) for image in chosen]
    Image.fromarray(np.vstack(rows)).save(target, optimize=True)
    print(target)


def _row(run: Run, image: str) -> np.ndarray:
    with tifffile.TiffFile(run.compare_file(image)) as file:
        stack = file.asarray()
        captions = file.imagej_metadata["Labels"]
    channels = stack.shape[1]
    luts = stack_luts()
    cells = [_cell(luts[0][:, stack[0, 0]], image)]
    for frame in (0, len(stack) // 2, len(stack) - 1):
        caption = captions[frame * channels].rsplit(" | ", 1)[0]
        cells.append(_cell(luts[2][:, stack[frame, 2]], caption))
    return np.hstack(cells)


def _cell(picture: np.ndarray, caption: str) -> np.ndarray:
    """A square of the picture's middle with its caption below, in two lines."""
    picture = picture.transpose(1, 2, 0)
    side = min(*picture.shape[:2], 256)
    y, x = ((n - side) // 2 for n in picture.shape[:2])
    cell = Image.new("RGB", (SIDE + 4, SIDE + 34), "white")
    cut = Image.fromarray(picture[y : y + side, x : x + side])
    cell.paste(cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (2, 2))
    parts = caption.split(" | ")
    lines = [" | ".join(parts[:2]), " | ".join(parts[2:])]
    font = ImageFont.load_default(11)
    for number, line in enumerate(lines):
        ImageDraw.Draw(cell).text((4, SIDE + 4 + 14 * number), line, fill="black", font=font)
    return np.asarray(cell)


if __name__ == "__main__":
    main(*sys.argv[1:])
