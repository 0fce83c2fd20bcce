"""The montage: one picture with a tile per variant, to print, to mail, or to put on a slide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from opsef_bridge.compare.stack import OUTLINE, with_outlines

__all__ = ["Tile", "montage", "tile_shape"]

TILE = 400
"""Longest side of a tile in pixels: smaller pictures grow by whole factors, larger ones shrink."""

SMALLEST_TILE = 96
MONTAGE_PIXELS = 40_000_000
"""Of a whole montage; the tiles of one with many variants are smaller."""

TEXT, TITLE, GAP, LINES = 14, 18, 10, 2
"""Size of letters of captions and of the title, space around tiles, lines of a caption."""

YELLOW, PAPER, INK = (255, 230, 0), (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True)
class Tile:
    """One variant of the picture.

    Parameters
    ----------
    labels : ndarray of int, axes YX
    title : str
        What it is known by: its first line.
    text : str
        The rest of its caption, broken into lines where it is long.
    """

    labels: np.ndarray
    title: str
    text: str


def tile_shape(shape: tuple[int, int], count: int) -> tuple[int, int]:
    """Return (height, width) of each of `count` tiles for a picture of `shape`.

    Examples
    --------
    >>> tile_shape((100, 130), 9), tile_shape((2048, 1024), 9), tile_shape((2048, 2048), 900)
    ((300, 390), (400, 200), (210, 210))
    """
    side = max(SMALLEST_TILE, min(TILE, math.isqrt(MONTAGE_PIXELS // count)))
    longest = max(shape)
    factor = side // longest if longest <= side else side / longest
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def montage(
    picture: np.ndarray, tiles: Iterable[Tile], count: int, header: Sequence[str] = ()
) -> np.ndarray:
    """Draw a picture with the outlines of each of its variants, in rows, each with a caption.

    Outlines are drawn after resizing, one pixel wide at any size.

    Parameters
    ----------
    picture : ndarray of uint8, axes YX
    tiles : iterable of Tile
        Their labels have the shape of `picture`. One after the other is asked for.
    count : int
        How many there are.
    header : sequence of str
        Lines above the tiles.

    Returns
    -------
    ndarray of uint8, axes YXS
    """
    height, width = tile_shape(picture.shape, count)
    shrinks = height < picture.shape[0]
    resample = PIL.Image.Resampling.BOX if shrinks else PIL.Image.Resampling.NEAREST
    grey = np.asarray(PIL.Image.fromarray(picture).resize((width, height), resample))
    cell = max(width, 200) + GAP, height + (LINES + 1) * (TEXT + 4) + GAP
    columns = min(count, max(1, round(math.sqrt(count * cell[1] / cell[0]))))
    rows = -(-count // columns)
    top = GAP + len(header) * (TITLE + 6) + (GAP if header else 0)
    size = (max(columns * cell[0] + GAP, 480), top + rows * cell[1])
    sheet = PIL.Image.new("RGB", size, PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    title, font = (PIL.ImageFont.load_default(points) for points in (TITLE, TEXT))
    for number, line in enumerate(header):
        words = _lines(line, size[0] - 2 * GAP, 1, title)
        draw.text((GAP, GAP + number * (TITLE + 6)), words[0], INK, title)
    for number, tile in enumerate(tiles):
        x = GAP + number % columns * cell[0]
        y = top + number // columns * cell[1]
        sheet.paste(PIL.Image.fromarray(_outlined(grey, tile.labels)), (x, y))
        lines = [*_lines(tile.title, cell[0] - GAP, 1, font)]
        lines += _lines(tile.text, cell[0] - GAP, LINES, font)
        for place, line in enumerate(lines):
            where = (x, y + height + 4 + place * (TEXT + 4))
            draw.text(where, line, INK, font, stroke_width=0.4 if place == 0 else 0)
    return np.asarray(sheet)


def _outlined(grey: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a tile in colours: the picture, and the outlines of labels of another size."""
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(grey.shape, labels.shape, strict=True)
    )
    drawn = with_outlines(grey, labels[rows[:, np.newaxis], columns])
    colour = np.repeat(drawn[..., np.newaxis], 3, axis=2)
    colour[drawn == OUTLINE] = YELLOW
    return colour


def _lines(
    text: str, width: int, most: int, font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont
) -> list[str]:
    """Break a text into at most so many lines of a width; what is too long ends in dots."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    cut = len(lines) > most
    lines = lines[:most]
    for number, line in enumerate(lines):
        short = f"{line} ..." if cut and number == most - 1 else line
        while font.getlength(short) > width and len(line) > 1:
            line = line[:-1]
            short = f"{line}..."
        lines[number] = short
    return lines
