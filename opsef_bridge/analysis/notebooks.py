"""Notebooks of a project: Setup, Run and Reimport, the way of working of the original OpSeF.

Setup writes ``opsef.yaml``, Run sweeps and adopts, Reimport takes edits back and measures. They
call the functions that the command line calls, and hold no results: those are in the project.
"""

from __future__ import annotations

import difflib
import getpass
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from opsef_bridge.analysis.extras import need
from opsef_bridge.analysis.notebook_cells import cells_of
from opsef_bridge.config import parse_config
from opsef_bridge.errors import ConfigError, InputError, ProjectError
from opsef_bridge.files import atomic_path, patiently, write_text
from opsef_bridge.project import Project, safe_name

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["KINDS", "Kind", "conclude", "notebook", "save_settings", "write_notebooks"]

Kind = Literal["setup", "run", "reimport"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order of work."""

FOLDER = "notebooks"
PATIENCE = 60.0
"""Seconds to wait for another notebook that writes down a conclusion."""


def notebook(kind: Kind, name: str, project: Project) -> NotebookNode:
    """Return a notebook of a project, without outputs.

    Parameters
    ----------
    kind : {"setup", "run", "reimport"}
    name : str
        Letters, digits, ``-``, ``_`` and ``.``; stands in the title and in conclusions.
    project : Project
        Its ``opsef.yaml`` stands in the Setup notebook as it is.

    Returns
    -------
    NotebookNode
        Valid by nbformat 4.5. The same arguments give the same notebook.

    Raises
    ------
    InputError
        There is no such kind, the name is none, or nbformat is not installed.
    ConfigError
        There is no ``opsef.yaml``, or it is no text.
    """
    if kind not in KINDS:
        raise InputError(f"there is no notebook {kind!r}", hint=f"Choose of {', '.join(KINDS)}")
    name = _checked(name)
    nbformat = need("nbformat", "Writing notebooks")
    settings = _settings(project) if kind == "setup" else ""
    cells = []
    for number, (what, text) in enumerate(cells_of(kind)):
        make = {"text": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}[what]
        text = text.replace("<<NAME>>", name).replace("<<SETTINGS>>", _quoted(settings))
        cells.append(make(text, id=f"{kind}-{number:02d}"))
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    made = nbformat.v4.new_notebook(cells=cells, metadata=about)
    made.nbformat_minor = 5
    nbformat.validate(made)
    return made


def write_notebooks(project: Project, name: str, kinds: Sequence[Kind] = KINDS) -> list[Path]:
    """Write notebooks to the folder ``notebooks`` of a project.

    Parameters
    ----------
    project : Project
    name : str
        They become ``<name>_1_Setup.ipynb``, ``<name>_2_Run.ipynb``, ``<name>_3_Reimport.ipynb``.
    kinds : sequence of {"setup", "run", "reimport"}

    Raises
    ------
    InputError, ConfigError
        As `notebook`.
    ProjectError
        One of the files is there; none is written then.
    """
    project.must_exist()
    folder = project.root / FOLDER
    nodes = {kind: notebook(kind, name, project) for kind in kinds}
    made = {
        folder / f"{name}_{KINDS.index(kind) + 1}_{kind.capitalize()}.ipynb": node
        for kind, node in nodes.items()
    }
    there = [file.name for file in made if file.exists()]
    if there:
        raise ProjectError(
            f"{FOLDER}/{there[0]} is there already",
            hint="It may hold your work: take another NAME, or move it away; --kind writes "
            "single notebooks",
        )
    nbformat = need("nbformat", "Writing notebooks")
    for file, node in made.items():
        with atomic_path(file) as partial:
            partial.write_text(nbformat.writes(node) + "\n", "utf-8")
    return list(made)


def save_settings(project: Project, settings: str) -> None:
    """Check the text of an ``opsef.yaml`` and write it; print what changes.

    The text from before is kept as ``notebooks/opsef-<time>.yaml``.

    Parameters
    ----------
    project : Project
    settings : str

    Raises
    ------
    ConfigError
        It cannot be understood; with the line. The file stays as it is.
    """
    parse_config(settings)
    before = _settings(project)
    if settings == before:
        print("opsef.yaml says this already")
        return
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")
    kept = project.root / FOLDER / f"opsef-{stamp}.yaml"
    write_text(kept, before)
    write_text(project.config_file, settings)
    changes = difflib.unified_diff(
        before.splitlines(), settings.splitlines(), "before", "opsef.yaml", lineterm="", n=1
    )
    print(*changes, f"Written; the text from before is {FOLDER}/{kept.name}", sep="\n")


def conclude(
    project: Project, text: str, run: str | None = None, name: str = "", *, by: str | None = None
) -> None:
    """Write down a conclusion in ``notebooks/conclusions.md``, below those from before.

    Prints what was done; without a text nothing is written.

    Parameters
    ----------
    project : Project
    text : str
        Markdown. The same as in the last entry, by the same author of the same run, is not
        written twice.
    run : str, optional
        What it is about.
    name : str
        Of the notebooks.
    by : str, optional
        Author; the user of this process by default.
    """
    text = text.strip()
    if not text:
        print("No conclusion yet: write it between the quotation marks")
        return
    file = project.root / FOLDER / "conclusions.md"
    about = ", ".join(filter(None, (name, run, f"by {by or getpass.getuser()}")))
    with patiently(file.with_name(".conclusions.lock"), PATIENCE):
        before = file.read_text("utf-8") if file.is_file() else "# Conclusions\n"
        if before.endswith(f", {about}\n\n{text}\n"):
            print(f"{FOLDER}/{file.name} says this already")
            return
        when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
        write_text(file, f"{before}\n## {when}, {about}\n\n{text}\n")
    print(f"Written to {FOLDER}/{file.name}")


def _settings(project: Project) -> str:
    project.must_exist()
    try:
        return project.config_file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"opsef.yaml is not UTF-8 text ({error.reason})") from None


def _quoted(text: str) -> str:
    """Return a Python expression for a text: readable where it can be, exact always."""
    plain = all(sign.isprintable() or sign == "\n" for sign in text)
    if plain and text.endswith("\n") and "\\" not in text and '"""' not in text:
        return f'"""\\\n{text}"""'
    return repr(text)


def _checked(name: str) -> str:
    try:
        return safe_name(name)
    except ValueError as error:
        raise InputError(str(error), hint="For example: opsef notebook Muscle") from None
