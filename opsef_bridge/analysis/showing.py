"""What a notebook shows between two cells: pictures, the ranking, what a plan takes.

Pictures are returned, so that the last line of a cell shows them; Jupyter draws a Pillow image.
"""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from opsef_bridge.compare.stack import display_range, to_8bit, with_outlines
from opsef_bridge.errors import ImageError, NotFoundError, OpsefError
from opsef_bridge.exchange.saving import Imported
from opsef_bridge.exchange.sources import chosen_images, subject_of, variant_of
from opsef_bridge.execute import Event
from opsef_bridge.project import ImageEntry, Project, read_csv
from opsef_bridge.rois.palette import colour_of
from opsef_bridge.sweep.comparing import Wish, compare_again
from opsef_bridge.sweep.estimate import estimate
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.predict import segmented_array
from opsef_bridge.sweep.ranking import words_of_run
from opsef_bridge.sweep.run import newest_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = [
    "draw_objects",
    "imported_words",
    "plan_words",
    "ranking",
    "sheet",
    "show_contact_sheet",
    "show_figure",
    "show_images",
    "show_objects",
    "show_progress",
]

SIDE, COLUMNS, TEXT, GAP = 320, 3, 13, 8
"""Of a sheet: longest side of a picture, pictures in a row, size of letters, space around."""

LARGE_SIDE = 480
"""Longest side of a picture with outlines; two are in a row."""

NO_CLASS = (0, 150, 255)
"""Outline of objects without a class: none of the colours of classes 1 to 8."""

RANKING = ("group", "rank", "id", "slug", "objects", "score", "agreement", "status")
"""Columns of ``variants.csv`` that are shown."""


def show_images(project: Project, images: Sequence[str] = (), *, most: int = 12) -> PIL.Image.Image:
    """Return a sheet of the images of a project, as they are segmented; of volumes a plane.

    Parameters
    ----------
    project : Project
    images : sequence of str
        Ids; all that are included by default.
    most : int
        How many are drawn at most, the first; the sheet says of how many.

    Raises
    ------
    NotFoundError
        There is no image, or none of an id.
    """
    entries = chosen_images(project, images)
    tiles = []
    for entry in entries[:most]:
        try:
            tiles.append((_grey(project, entry), f"{entry.id}, group {entry.group}"))
        except OpsefError as error:
            tiles.append(_failed(entry.id, error))
    return sheet(tiles, _of_how_many(len(tiles), len(entries)))


def show_objects(
    project: Project,
    images: Sequence[str] = (),
    *,
    variant: str | None = None,
    run: str | None = None,
    revision: str | None = None,
    most: int = 6,
) -> PIL.Image.Image:
    """Return a sheet of images with the outlines of their objects, in the colours of classes.

    Parameters
    ----------
    project : Project
    images : sequence of str
        Ids; all that are included by default.
    variant, run : str, optional
        Id or slug of a variant, and the run; by default the newest edits, else the batch.
    revision : str, optional
        Id of a revision, or ``latest``.
    most : int
        How many images are drawn at most.

    Raises
    ------
    NotFoundError
        There is no such image, variant or revision.
    """
    entries = chosen_images(project, images)
    chosen = variant_of(project, variant, run) if variant else None
    tiles = []
    for entry in entries[:most]:
        try:
            grey = _grey(project, entry)
            subject = subject_of(project, entry, variant=chosen, revision=revision)
        except ImageError as error:
            tiles.append(_failed(entry.id, error))
            continue
        if subject is None:
            tiles.append((grey, f"{entry.id}: no objects yet"))
            continue
        drawn = draw_objects(grey, _middle(subject.objects.labels), subject.objects.classes)
        tiles.append((drawn, f"{entry.id}: {len(subject.objects.ids)} objects of {subject.base}"))
    header = _of_how_many(len(tiles), len(entries))
    return sheet(tiles, header, columns=2, side=LARGE_SIDE)


def show_contact_sheet(
    project: Project,
    run: str | None = None,
    *,
    top: int = 6,
    images: Sequence[str] = (),
    most: int = 4,
) -> PIL.Image.Image:
    """Return the variants of the highest rank, one picture per variant, image below image.

    The pictures are those of `opsef_bridge.sweep.comparing.compare_again`; the files of the run
    stay as they are.

    Parameters
    ----------
    project : Project
    run : str, optional
        Id of a sweep; the newest by default.
    top : int
        How many variants of each image.
    images : sequence of str
        Ids; by default the first `most` of the run, one of each group before others.
    most : int

    Raises
    ------
    NotFoundError
        There is no such run or image, or the run is not ranked yet.
    """
    folder = project.run(run) if run else newest_run(project, "sweep") or project.run()
    planned = folder.plan()["images"]
    wanted = list(images) or _some_of_each_group(planned, most)
    with tempfile.TemporaryDirectory() as place:
        pictures = []
        for image in wanted:
            file = Path(place) / f"{image}.png"
            wish = Wish(top=top, montage=True, images=(image,), to=file)
            done = compare_again(project, run, wish)
            if done.failed:
                pictures += [sheet([_failed(*one)], side=LARGE_SIDE) for one in done.failed.items()]
                continue
            with PIL.Image.open(file) as picture:
                pictures.append(picture.convert("RGB"))
    return _below(pictures, "" if images else _of_how_many(len(wanted), len(planned)))


def ranking(project: Project, run: str | None = None) -> tuple[list[str], pd.DataFrame]:
    """Return what is to be said of the ranking of a run, and the ranking.

    Parameters
    ----------
    project : Project
    run : str, optional
        Id; the newest by default.

    Returns
    -------
    list of str
        Sentences of each group, its name first.
    DataFrame
        Rows of ``variants.csv`` with the columns `RANKING`, in the order of the ranks.

    Raises
    ------
    NotFoundError
        There is no such run, or it is not ranked yet.
    """
    import pandas as pd

    folder = project.run(run)
    if not folder.variants_file.is_file():
        raise NotFoundError(f"{folder.id} is not ranked yet", hint="Run the sweep to its end")
    rows = [{name: row[name] for name in RANKING} for row in read_csv(folder.variants_file)]
    table = pd.DataFrame(rows, columns=list(RANKING))
    for name in ("rank", "objects", "score", "agreement"):
        table[name] = pd.to_numeric(table[name])
    words = words_of_run(folder)
    return [f"{group}: {line}" for group, lines in words.items() for line in lines], table


def plan_words(project: Project, plan: Plan) -> list[str]:
    """Return what a plan takes, as sentences: variants, passes, seconds, megabytes of disk."""
    facts = estimate(project, plan)
    seconds = f"{facts['seconds']:.0f} s on {facts['workers']} workers"
    return [
        f"{facts['variants']} variants on {facts['images']} images: {facts['passes']} network "
        f"passes, of which {facts['new_passes']} are new",
        f"{'About' if facts['measured'] else 'Guessed, not measured:'} {seconds}, and "
        f"{facts['disk_bytes'] / 1e6:.0f} MB of disk",
        *facts["will_fail"],
    ]


def show_figure(figure: Figure, *, dpi: int = 100) -> PIL.Image.Image:
    """Return a plot of `opsef_bridge.analysis.plots` as a picture.

    Jupyter draws figures by itself only where pyplot made them.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    dpi : int
        Dots per inch.
    """
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=dpi, bbox_inches="tight")
        with PIL.Image.open(file) as picture:
            return picture.convert("RGB")


def show_progress(event: Event) -> None:
    """Print how far something is; each time in the same line."""
    print(f"\r{event.done} of {event.total} {event.message[:60]:<60}", end="", flush=True)
    if event.done >= event.total:
        print()


def imported_words(one: Imported) -> str:
    """Return what became of a file that came back, as one line."""
    name = one.image or one.file
    if one.error:
        return f"{name}: {one.error}"
    if one.saved is None:
        return f"{name}: {'; '.join(one.said)}"
    revision = one.saved.revision
    return f"{name}: {revision.id}, {revision.objects} objects ({revision.changes.summary()})"


def draw_objects(
    picture: NDArray[np.uint8],
    labels: NDArray[np.integer],
    classes: Mapping[int, int],
    side: int = LARGE_SIDE,
) -> NDArray[np.uint8]:
    """Scale a picture, and draw outlines in the colours of classes (`opsef_bridge.rois.palette`).

    Parameters
    ----------
    picture : (Y, X) ndarray of uint8
    labels : (Y, X) ndarray of int
        0 is background.
    classes : mapping of int to int
        Class by label; an object without one is blue.
    side : int
        Longest side of what is drawn. Outlines are one pixel wide there.

    Returns
    -------
    ndarray of uint8, axes YXS

    Examples
    --------
    >>> labels = np.zeros((40, 80), int)
    >>> labels[10:20, 10:20] = 3
    >>> drawn = draw_objects(np.zeros((40, 80), np.uint8), labels, {3: 2}, side=160)
    >>> drawn.shape, drawn[20, 30].tolist(), drawn[30, 30].tolist()
    ((80, 160, 3), [0, 255, 0], [0, 0, 0])
    """
    colour = np.asarray(_scaled(picture, side)).copy()
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(colour.shape, labels.shape, strict=False)
    )
    small = labels[rows[:, np.newaxis], columns].astype(np.int32)
    border = with_outlines(np.zeros(small.shape, np.uint8), small) > 0
    ids = np.unique(small)
    colours = [
        colour_of(classes[label]) if classes.get(label) else NO_CLASS for label in ids.tolist()
    ]
    colour[border] = np.array(colours, np.uint8)[np.searchsorted(ids, small[border])]
    return colour


def sheet(
    tiles: Sequence[tuple[NDArray[np.uint8], str]],
    header: str = "",
    *,
    columns: int = COLUMNS,
    side: int = SIDE,
) -> PIL.Image.Image:
    """Put pictures in rows, each with a line of text below.

    Parameters
    ----------
    tiles : sequence of (ndarray, str)
        Pictures, (Y, X) or (Y, X, 3) of uint8, with their text.
    header : str
        Above them.
    columns : int
        Pictures in a row.
    side : int
        Longest side of a picture in pixels; they are scaled to it.

    Examples
    --------
    >>> sheet([(np.zeros((80, 160), np.uint8), "a")] * 4).size
    (992, 386)
    """
    pictures = [_scaled(array, side) for array, _ in tiles]
    columns = max(1, min(columns, len(pictures)))
    line = TEXT + GAP
    rows = [range(first, min(first + columns, len(pictures)))
            for first in range(0, len(pictures), columns)]  # fmt: skip
    tall = [max(pictures[number].height for number in row) + line + GAP for row in rows]
    top = GAP + (line if header else 0)
    paper = PIL.Image.new("RGB", (GAP + columns * (side + GAP), top + sum(tall)), "white")
    draw, font = PIL.ImageDraw.Draw(paper), PIL.ImageFont.load_default(TEXT)
    draw.text((GAP, GAP), header, "black", font)
    for y, row in zip(itertools.accumulate([top, *tall]), rows, strict=False):
        for x, number in zip(itertools.count(GAP, side + GAP), row, strict=False):
            paper.paste(pictures[number], (x, y))
            text = tiles[number][1]
            while font.getlength(text) > side:
                text = f"{text.removesuffix('...')[:-1]}..."
            draw.text((x, y + pictures[number].height + 2), text, "black", font)
    return paper


def _scaled(array: NDArray[np.uint8], side: int) -> PIL.Image.Image:
    factor = side / max(array.shape[:2])
    size = tuple(max(1, round(length * factor)) for length in array.shape[1::-1])
    how = PIL.Image.Resampling.BOX if factor < 1 else PIL.Image.Resampling.NEAREST
    return PIL.Image.fromarray(array).convert("RGB").resize(size, how)


def _below(pictures: Sequence[PIL.Image.Image], footer: str) -> PIL.Image.Image:
    line = TEXT + GAP if footer else 0
    width = max(picture.width for picture in pictures)
    paper = PIL.Image.new("RGB", (width, sum(p.height for p in pictures) + line), "white")
    y = 0
    for picture in pictures:
        paper.paste(picture, (0, y))
        y += picture.height
    font = PIL.ImageFont.load_default(TEXT)
    PIL.ImageDraw.Draw(paper).text((GAP, y), footer, "black", font)
    return paper


def _failed(image: str, error: OpsefError) -> tuple[NDArray[np.uint8], str]:
    return np.zeros((8, 80), np.uint8), f"{image}: {error}"


def _of_how_many(shown: int, there: int) -> str:
    return "" if shown == there else f"{shown} of {there} images"


def _some_of_each_group(planned: Sequence[Mapping[str, str]], most: int) -> list[str]:
    """Return ids of images, in their order: the first of each group, then the second, ..."""
    seen: dict[str, int] = {}
    ranked = []
    for place, image in enumerate(planned):
        turn = seen[image["group"]] = seen.get(image["group"], -1) + 1
        ranked.append((turn, place))
    return [planned[place]["id"] for place in sorted(place for _, place in sorted(ranked)[:most])]


def _grey(project: Project, entry: ImageEntry) -> NDArray[np.uint8]:
    plane = _middle(segmented_array(project, project.config, entry))
    return to_8bit(plane, display_range(plane))


def _middle(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 2 else array[len(array) // 2]
