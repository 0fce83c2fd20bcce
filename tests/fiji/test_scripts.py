"""Every script of the menu: what it may hold so that ImageJ and Fiji both run it."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

from .conftest import LIBRARY, SCRIPTS, jython

COMMANDS = sorted((SCRIPTS / "plugins" / "OpSeF").glob("*.py"))
MODULES = sorted((LIBRARY / "opsef_fiji").glob("*.py"))
FILES = [*COMMANDS, *MODULES]
WANTED = [
    "Connect",
    "Segment_Image",
    "New_Project",
    "Run_Sweep",
    "Open_Comparison",
    "Answer_Questions",
    "Adopt_Variant",
    "Run_Batch",
    "Edit_Objects",
    "Classify_Objects",
    "Correct_Next",
    "Save_Back",
    "Train_From_Corrections",
    "Analyse",
    "Jobs",
    "Help",
]
FIELDS = {"text", "file", "folder", "number", "choice", "tick"}


def test_all_commands_are_there() -> None:
    assert {path.stem for path in COMMANDS} >= set(WANTED)


def test_only_commands_lie_where_the_menu_is_made() -> None:
    """Fiji makes a menu entry of every script below plugins/, helpers too."""
    found = [path for path in (SCRIPTS / "plugins").rglob("*") if path.is_file()]
    assert {p.suffix for p in found if "__pycache__" not in p.parts} == {".py"}
    assert all(path.parent.name == "OpSeF" for path in found if path.suffix == ".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_text(path: Path) -> None:
    data = path.read_bytes()
    assert data.isascii(), "ImageJ reads scripts as ISO-8859-1: write \\u escapes"
    lines = data.decode("ascii").splitlines()
    # Jython in SciJava refuses "encoding declaration in Unicode string".
    assert not any(re.match(r"^[ \t\f]*#.*?coding[:=]", line) for line in lines[:2])
    assert not any(line.lstrip().startswith("#@") for line in lines)
    assert "__file__" not in data.decode()
    assert b"plugins.dir" not in data, "it differs between Fiji and ImageJ; ask IJ.getDirectory"
    assert len(lines) <= (40 if path in COMMANDS else 400)
    assert max(map(len, lines), default=0) <= 100


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_commands_end_in_main_and_name_themselves(path: Path) -> None:
    text = path.read_text()
    assert text.rstrip().endswith("main()")
    assert f'commands.run("{path.stem}")' in text


def forms(path: Path) -> list[tuple[str, list[str]]]:
    """Return (function, labels of fields) for each function of a module."""
    found = []
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            calls = [
                node
                for node in ast.walk(function)
                if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("form", "choose")
                and node.func.attr in FIELDS
            ]
            labels = [call.args[0] for call in calls]
            assert all(isinstance(label, ast.Constant) for label in labels), function.name
            found.append((function.name, [str(label.value) for label in labels]))  # type: ignore
    return found


def test_first_words_of_fields_are_unique() -> None:
    """The first word of a label is its key in recorded macros."""
    seen = 0
    for path in MODULES:
        for name, labels in forms(path):
            words = [label.split()[0].lower() for label in labels]
            assert len(words) == len(set(words)), f"{path.name} {name}: {words}"
            seen += len(words)
    assert seen > 25
    # Edit Objects asks for two of its fields in a function of its own.
    edit = dict(forms(LIBRARY / "opsef_fiji" / "object_commands.py"))
    both = [label.split()[0].lower() for label in edit["edit_objects"] + edit["add_where"]]
    assert len(both) == len(set(both)) == 5


def test_the_token_is_in_no_dialog_and_no_preference() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name)):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                if called in FIELDS | {"remember", "log", "showStatus", "record", "set"}:
                    assert "token" not in ast.dump(node), f"{path.name}:{node.lineno}"


def test_jython_compiles_everything(tmp_path: Path, which_java: str) -> None:
    folder = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("*.class", "__pycache__"))
    (tmp_path / "broken.py").write_text("def f(:\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "bad = 0\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        compile(open(path).read(), path, 'exec')\n"
        "    except SyntaxError as error:\n"
        "        bad += 1\n"
        "        print('BAD %s' % error)\n"
        "print('DONE %d' % bad)\n"
    )
    files = sorted(folder.rglob("*.py"))
    done = jython(program, *files, tmp_path / "broken.py", program=which_java)
    assert "DONE 1" in done.stdout, done.stdout + done.stderr
    assert "broken.py" in done.stdout
