"""What of a project goes into its bundle, and where it lies there.

What lies outside of the project comes to lie in ``bundled/``, and the copies of ``opsef.yaml``,
``adopted.json`` and ``images/index.csv`` in the bundle name it there.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from opsef_bridge.config import Config, parse_config
from opsef_bridge.errors import NotFoundError
from opsef_bridge.postprocess.masks import ClassMask
from opsef_bridge.preprocess.step_files import map_files
from opsef_bridge.project import ImageEntry, Project

__all__ = ["Contents", "contents", "left_out", "with_values"]

PARTS = ("annotations", "truth", "models", "datasets", "tables", "notebooks")
RUNS = ("runs", "trainings")
FILES = ("opsef.yaml", "adopted.json", "engines.json")
INDEX = "images/index.csv"

OUTSIDE = "bundled/*/*"
"""Where images from outside of the project lie in a bundle, as ``images.source`` has it."""


@dataclass
class Contents:
    """The files of a bundle, by their place in it.

    Parameters
    ----------
    files : dict of str to Path
    texts : dict of str to bytes
        Those that are made for the bundle.
    sources : dict of str to str
        For each image of which the source is outside of the project, where it is.
    """

    files: dict[str, Path] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def contents(project: Project, *, images: bool, runs: bool) -> Contents:
    """Return what goes into a bundle of a project.

    Parameters
    ----------
    images : bool
        With the files of the images. Those that are not asked for any more stay out.
    runs : bool
        With runs and trainings.

    Raises
    ------
    ConfigError
        ``opsef.yaml`` cannot be understood.
    NotFoundError
        The file of an image is gone, or no image was imported.
    """
    text, found = project.config_file.read_text("utf-8"), Contents()
    config = parse_config(text, project.config_file.name)
    _add_parts(project, found, [*PARTS, *(RUNS if runs else ())])
    entries = project.images()
    places = _named_files(project, config, entries if images else [], found)
    if images:
        entries = _add_images(project, entries, found)
        for source in config.images.source:
            path = Path(os.path.normpath(project.root / source))
            if not path.is_relative_to(project.root):
                places[source] = OUTSIDE
            elif Path(source).is_absolute():
                places[source] = path.relative_to(project.root).as_posix()
    if entries:
        found.texts[INDEX] = _index(entries)
    if places:
        found.texts["opsef.yaml"] = with_values(text, places).encode()
    if places and "adopted.json" in found.files:
        text = project.adopted_file.read_text("utf-8")
        found.texts["adopted.json"] = with_values(text, places).encode()
    return found


def left_out(project: Project, names: Sequence[str], target: Path) -> list[str]:
    """Return the files and folders of a project of which nothing is among `names`."""
    taken = {name.split("/")[0] for name in names} | {target.name}
    there = [path for path in project.root.iterdir() if path.is_file() or any(_below(path))]
    return sorted({path.name for path in there if not path.name.startswith(".")} - taken)


def with_values(text: str, new: Mapping[str, str]) -> str:
    """Return YAML (or JSON) in which values that are in `new` are replaced; all else stays.

    Examples
    --------
    >>> with_values("a: [/x/*.tif, b]  # mine", {"/x/*.tif": "in/*"})
    'a: ["in/*", b]  # mine'
    """
    places = {
        (node.start_mark.index, node.end_mark.index): new[node.value]
        for node in _values(yaml.compose(text, Loader=yaml.SafeLoader))
        if node.value in new
    }
    for (start, end), value in sorted(places.items(), reverse=True):
        text = text[:start] + json.dumps(value, ensure_ascii=False) + text[end:]
    return text


def _values(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _values(one)
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _values(value)


def _add_parts(project: Project, found: Contents, parts: Sequence[str]) -> None:
    """Add the files of the project without its images; no locks, and nothing half written."""
    for name in FILES:
        if (project.root / name).is_file():
            found.files[name] = project.root / name
    for part in parts:
        for file in _below(project.root / part):
            found.files[file.relative_to(project.root).as_posix()] = file


def _add_images(
    project: Project, entries: Sequence[ImageEntry], found: Contents
) -> list[ImageEntry]:
    """Add the files of the images; return their entries as the bundle has them."""
    if not entries:
        raise NotFoundError(
            "no image of the project is known yet",
            hint="Import them: opsef images import; or bundle without images: --without-images",
        )
    told, places = [], dict[Path, str]()
    for entry in entries:
        source = Path(os.path.normpath(project.source_file(entry)))
        if entry.gone:
            told.append(entry)
            continue
        if not source.exists():
            raise NotFoundError(
                f"the file of image {entry.id} is gone: {source}",
                hint="Bring it back; take it off: opsef images import; or bundle without images: "
                "--without-images",
            )
        if source.is_relative_to(project.root):
            place = source.relative_to(project.root).as_posix()
        else:
            place = places.setdefault(source, f"bundled/{entry.id}/{source.name}")
            found.sources[entry.id] = str(entry.source)
        for file in [source] if source.is_file() else _below(source, hidden=True):
            found.files[(Path(place) / file.relative_to(source)).as_posix()] = file
        told.append(replace(entry, source=place))
    return told


def _named_files(
    project: Project, config: Config, entries: Sequence[ImageEntry], found: Contents
) -> dict[str, str]:
    """Add the files that steps and, of these images, the class mask name.

    Returns by what ``opsef.yaml`` says where those lie that come from outside. Files that are
    not there are passed over: whoever needs one says so.
    """
    places, folders = dict[str, str](), dict[tuple[str, ...], int]()

    def place_of(text: str) -> str:
        places[text] = _place(project, text, folders)
        return places[text]

    def add(text: str, place: str) -> str:
        if (project.root / text).is_file():
            found.files[place] = project.root / text
        return text

    for recipe in config.preprocess.values():
        map_files(recipe, lambda text: add(text, place_of(text)))
    here = config.class_mask
    if entries and here is not None and here.source is not None:
        there = ClassMask(source=place_of(here.source))
        for entry in entries:
            names = Path(entry.source).stem, entry.id
            add(here.source_of(*names), there.source_of(*names))
    return {text: place for text, place in places.items() if text != place}


def _place(project: Project, text: str, folders: dict[tuple[str, ...], int]) -> str:
    """Return where a file, or files by a pattern with ``{stem}``, lie in the bundle."""
    path = Path(os.path.normpath(project.root / text))
    if path.is_relative_to(project.root):
        return path.relative_to(project.root).as_posix()
    last = len(path.parts) - 1
    fixed = next((n for n, part in enumerate(path.parts) if "{" in part), last)
    number = folders.setdefault(path.parts[:fixed], len(folders) + 1)
    return "/".join(("bundled", "files", str(number), *path.parts[fixed:]))


def _below(folder: Path, hidden: bool = False, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, also behind links, in order."""
    real = folder.resolve()
    if not folder.is_dir() or real in above:  # a link to a folder that it lies in
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and not hidden:
            continue
        if path.is_file():
            yield path
        else:
            yield from _below(path, hidden, (*above, real))


def _index(entries: Sequence[ImageEntry]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        project = Project(folder)
        project.write_images(entries)
        return project.index_file.read_bytes()
