"""Labels of tiles that are images of their own, put together again.

(Tiles that the program makes itself, of an image that stays one, are merged in
`opsef_bridge.sweep.merge`.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.images import Region
from opsef_bridge.images.labels import read_labels_info
from opsef_bridge.measure.stitch import stitch
from opsef_bridge.project import ImageEntry, Project

__all__ = ["STITCHED", "check_stitched_file", "stitch_parent", "tiles_of_parent", "whole_of"]

STITCHED = "stitched: "
"""How the text of a file begins that ``opsef images stitch`` wrote."""


def tiles_of_parent(project: Project, parent: str, part: str | None = None) -> list[ImageEntry]:
    """Return the separate tiles of an image, or of one time point or substack of it.

    Parameters
    ----------
    project : Project
        With ``images: {tiles: {separate: true}}``.
    parent : str
        As the column ``parent`` of ``images/index.csv`` has it.
    part : str, optional
        As the column ``part``, with or without y and x: ``"t=1"``. May be left out where all
        tiles are of one part.

    Raises
    ------
    NotFoundError
        No tile has that parent or that part; the message names those that there are.
    InputError
        There are several parts and `part` is None, or `part` cannot be understood.
    """
    entries = [entry for entry in project.images() if entry.parent and not entry.gone]
    parts: dict[str, list[ImageEntry]] = {}
    for entry in entries:
        if entry.parent == parent and {"y", "x"} <= Region.from_text(entry.part).to_json().keys():
            parts.setdefault(_without_place(entry.part), []).append(entry)
    if not parts:
        known = ", ".join(dict.fromkeys(entry.parent for entry in entries))
        raise NotFoundError(
            f"no image is a tile of {parent!r}", hint=f"There are tiles of {known or 'none'}"
        )
    names = ", ".join(f'"{name}"' for name in parts)
    if part is None and len(parts) > 1:
        raise InputError(
            f"{parent!r} has {len(parts)} time points or substacks, each in tiles: {names}",
            hint=f'Stitch them one by one: --part "{next(iter(parts))}"',
        )
    wanted = next(iter(parts)) if part is None else _without_place(part)
    if wanted not in parts:
        raise NotFoundError(
            f"no tile of {parent!r} is of the part {part!r}",
            hint=f"It has {names}" if any(parts) else "Leave it out: there is one only",
        )
    return parts[wanted]


def stitch_parent(
    project: Project,
    run: str | None,
    variant: str,
    parent: str,
    part: str | None = None,
    *,
    say: Callable[[str], object] | None = None,
) -> np.ndarray:
    """Put the labels of an image that was cut into separate images together again.

    Parameters
    ----------
    project : Project
        With ``images: {tiles: {separate: true}}``.
    run : str or None
        A run that worked on all tiles, whole; by default the newest.
    variant : str
    parent, part : str
        As those of `tiles_of_parent`.
    say : callable, optional
        Takes sentences for a person: which tiles are left out, or cropped.

    Returns
    -------
    ndarray of int32
        In memory: labels of the parent, joined as `opsef_bridge.measure.stitch.stitch` does
        it, across seams of tiles that only touch, too. A tile with ``include: no`` is
        background, and so is what the ``crop`` of a tile leaves out. Of a volume the planes
        are those that any tile has (`whole_of`).

    Raises
    ------
    NotFoundError
        As `tiles_of_parent`; or a tile that is not left out has no labels.
    InputError
        As `tiles_of_parent`; all tiles are left out; labels are of another part of the image
        than the tile is (by ``sweep.crop``, or made before its crop was changed); some tiles
        have planes and others volumes; or rows of tiles are missing in the index.
    """
    tiles = tiles_of_parent(project, parent, part)
    taken = [tile for tile in tiles if tile.include]
    if not taken:
        raise InputError(
            f"all {len(tiles)} tiles of {parent!r} are left out",
            hint="Write yes into the column include of images/index.csv",
        )
    for sentence in _not_whole(tiles):
        if say is not None:
            say(sentence)
    arrays = [_labels_of(project, run, variant, tile) for tile in taken]
    if len({array.ndim for array in arrays}) > 1:
        arrays = [_as_volume(tile, array) for tile, array in zip(taken, arrays, strict=True)]
    first = (whole_of(tiles).region.z or (0, 0))[0]
    corners = [_corner(t.region, first)[-a.ndim :] for t, a in zip(taken, arrays, strict=True)]
    # Last, because they hide no seam from those that have labels.
    depth = np.max([np.add(c, a.shape)[:-2] for c, a in zip(corners, arrays, strict=True)], axis=0)
    for tile in tiles if any(not tile.include or tile.crop for tile in tiles) else []:
        (top, bottom), (left, right) = _place(tile)
        arrays.append(np.zeros((*depth, bottom - top, right - left), np.int32))
        corners.append((*(0 for _ in depth), top, left))
    ends = [np.add(c, a.shape) for c, a in zip(corners, arrays, strict=True)]
    return stitch(arrays, corners, np.max(ends, axis=0).tolist(), touching=True)


def whole_of(tiles: Sequence[ImageEntry]) -> ImageEntry:
    """Return what the tiles of one parent are together, as an image of that name.

    Its part has no y and x. Its planes reach from the first to the last that any tile has.
    """
    parts = [Region.from_text(tile.part) for tile in tiles]
    planes = [tile.region.z or part.z for tile, part in zip(tiles, parts, strict=True)]
    known = [span for span in planes if span]
    z = (min(a for a, _ in known), max(b for _, b in known)) if len(known) == len(tiles) else None
    whole = replace(parts[0], y=None, x=None, z=z)
    return replace(tiles[0], id=tiles[0].parent, part=whole.text, crop="")


def check_stitched_file(project: Project, file: Path) -> None:
    """Refuse to write stitched labels where they would be lost, or something else would be.

    Raises
    ------
    InputError
        It is no name of a TIFF file, its folder does not exist, it is a source of the project
        or lies in one, or there is something else than labels that were stitched before.
    """
    if file.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(
            f"{file} does not end in .tif or .tiff", hint="Stitched labels are written as TIFF"
        )
    if not file.parent.is_dir():
        raise InputError(f"there is no folder {file.parent}", hint="Make it, or choose another")
    sources = {project.source_file(entry).resolve() for entry in project.images()}
    here = file.resolve()
    if any(here.is_relative_to(source) for source in sources):
        raise InputError(f"{file} is an image of the project", hint="Choose another name")
    if not os.path.lexists(file):
        return
    try:
        known = (read_labels_info(file) or "").startswith(STITCHED)
    except Exception:  # whatever else it is, it stays
        known = False
    if not known:
        raise InputError(
            f"{file} exists and is no file that `opsef images stitch` wrote",
            hint="Choose another name, or delete it",
        )


def _without_place(part: str) -> str:
    return replace(Region.from_text(part), y=None, x=None).text


def _place(tile: ImageEntry) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return rows and columns of a tile in its parent, whatever its crop."""
    place = Region.from_text(tile.part)
    assert place.y and place.x, "a tile has both"
    return place.y, place.x


def _corner(region: Region, first: int) -> tuple[int, ...]:
    """Return where a tile begins, in planes from `first`, rows and columns of its parent."""
    assert region.y and region.x, "a tile has both"
    return ((region.z[0] if region.z else first) - first, region.y[0], region.x[0])


def _not_whole(tiles: Sequence[ImageEntry]) -> Iterator[str]:
    """Say what of the image stays background."""
    out = [tile.id for tile in tiles if not tile.include]
    cropped = [tile.id for tile in tiles if tile.include and tile.crop]
    if out:
        yield f"Left out (include: no), so background: {', '.join(out)}"
    if cropped:
        yield f"Cropped, so background outside of the crop: {', '.join(cropped)}"


def _labels_of(project: Project, run: str | None, variant: str, tile: ImageEntry) -> np.ndarray:
    labels = project.labels(run, variant, tile.id)
    text = read_labels_info(project.run(run).label_file(variant, tile.id)) or ""
    told = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    region = tile.region
    spans = [span for span in (region.z, region.y, region.x) if span][-labels.ndim :]
    sides = tuple(stop - start for start, stop in spans)
    # Runs of before the text said so have no part in it.
    if labels.shape[-len(sides) :] != sides or told.get("part", region.text) != region.text:
        raise InputError(
            f"the labels of {tile.id} are not of all of it: they have "
            f"{' x '.join(map(str, labels.shape))} pixels of {told.get('part', 'the tile')!r}, "
            f"it is {region.text!r}",
            hint="Take a run on whole tiles (`sweep: {crop: none}`, or `opsef batch`) as they "
            "are cropped now",
        )
    return labels


def _as_volume(tile: ImageEntry, labels: np.ndarray) -> np.ndarray:
    """Return labels as a volume; a plane only where it is known which one."""
    if labels.ndim == 3:
        return labels
    z = tile.region.z
    if z is None or z[1] - z[0] > 1:
        raise InputError(
            f"{tile.id} was projected to a plane, other tiles are volumes",
            hint="Give all tiles the same projection",
        )
    return labels[np.newaxis]
