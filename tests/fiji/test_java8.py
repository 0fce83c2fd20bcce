"""What the library asks of Java is in Java 8, which an old Fiji runs on.

The compiler knows what was in Java 8. Jython looks names up only when it comes to them, so
names are compared: every class that is imported must be there, and no attribute or call in
the library may be one that these classes, and those that they speak of, have got since.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator

import pytest

from .conftest import class_path, missing
from .test_scripts import FILES

PYTHON = {name for kind in (str, bytes, list, dict, set, int, float) for name in dir(kind)}
"""Names that Python's own types have: Jython makes its own of Java's strings and numbers."""

Members = dict[str, set[int | None]]
"""Names of methods with the numbers of arguments they take (None: any; -1: a field)."""


JAVA, IMAGEJ = ("java", "javax"), ("ij",)


def imported(texts: Iterable[str], roots: tuple[str, ...] = JAVA) -> set[str]:
    """Return the full names of the classes that Python code imports from Java or ImageJ."""
    found = set()
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in roots:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
                assert not any(n.startswith(("java.", "javax.")) for n in names), names
    return found


def uses(texts: Iterable[str]) -> tuple[Members, set[str]]:
    """Return the attributes that Python code uses, and the names that it defines itself."""
    used: Members = {}
    own = set()
    for text in texts:
        tree = ast.parse(text)
        called = {
            id(node.func): None
            if node.keywords or any(isinstance(a, ast.Starred) for a in node.args)
            else len(node.args)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                used.setdefault(node.attr, set()).add(called.get(id(node), -1))
                if isinstance(node.ctx, ast.Store):
                    own.add(node.attr)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own.add(node.name)
    return used, own


def printed(classes: Iterable[str], *options: str) -> str:
    """Return the declarations of classes as the compiler prints them."""
    if shutil.which("javac") is None:
        missing("javac is not installed: what was in Java 8 cannot be told")
    done = subprocess.run(
        ["javac", *options, "-Xprint", *sorted(classes)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def members(text: str) -> Members:
    """Return what printed declarations offer: methods, constructors aside, and fields."""
    found: Members = {}
    for part in re.split(r"[;{}]", text):
        head = re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>", "", " ".join(part.split())))
        if not re.match(r"(@\S+ )*(public|protected) ", head) or re.search(
            r"\b(class|interface|enum) ", head
        ):
            continue
        method = re.search(r"(\w+)\((.*)\)", head)
        if method is None:
            found.setdefault(head.split("=")[0].split()[-1], set()).add(-1)
            continue
        name, arguments = method.groups()
        count = None if "..." in arguments else len(re.findall(r"[^,]+", arguments))
        names = {name}
        if count == 0 and (bean := re.match(r"(?:get|is)([A-Z]\w*)", name)):
            names.add(bean[1][0].lower() + bean[1][1:])  # how Jython offers a getter
        for each in names:
            found.setdefault(each, set()).add(count if each == name else -1)
    return found


def spoken_of(text: str, roots: tuple[str, ...] = JAVA) -> set[str]:
    """Return the public classes that printed declarations name."""
    names = re.findall(rf"\b(?:{'|'.join(roots)})(?:\.[a-z]\w*)*\.[A-Z]\w*", text)
    return {name for name in names if ".peer." not in name}  # gone since


def of_imagej(texts: list[str]) -> set[str]:
    """Return the names that ImageJ's classes offer: they are there whatever the Java."""
    classes = imported(texts, IMAGEJ)
    if not classes:
        return set()
    given = "-cp", class_path("ij")
    return set(members(printed(classes | spoken_of(printed(classes, *given), IMAGEJ), *given)))


def newer(used: Members, own: set[str], old: Members, new: Members) -> Iterator[str]:
    """Yield what is used that the new Java has and the old has not."""
    for name in sorted(set(used) & set(new) - own - PYTHON):
        if name not in old:
            yield name
        elif None not in old[name]:
            for count in used[name]:
                if count is not None and count not in old[name] and count in new[name]:
                    yield f"{name} with {count} arguments"


def added_since_8(texts: list[str]) -> list[str]:
    """Return what Python code uses of Java that Java 8 has not; fail at a class it has not."""
    far = imported(texts)
    for _ in range(2):
        far = far | spoken_of(printed(far, "--release", "8"))
    old, new = printed(far, "--release", "8"), printed(far)
    used, own = uses(texts)
    return list(newer(used, own | of_imagej(texts), members(old), members(new)))


def test_the_library_asks_nothing_that_java_8_lacks() -> None:
    texts = [path.read_text() for path in FILES]
    assert len(imported(texts)) > 40
    assert added_since_8(texts) == []


def test_what_is_newer_is_seen() -> None:
    code = """
from java.io import FileInputStream
from java.lang import Process, ProcessBuilder
from java.nio.file import Files
from java.util import Arrays, Optional
stream.readAllBytes()
process.toHandle()
builder.start().pid()
Files.readString(path)
Arrays.mismatch(a, b)
optional.orElseThrow()
"""
    found = ["mismatch", "orElseThrow with 0 arguments", "pid", "readAllBytes with 0 arguments"]
    assert added_since_8([code]) == [*found, "readString", "toHandle"]


def test_what_is_old_or_not_of_java_is_let_pass() -> None:
    code = """
from java.io import File, FileInputStream
from java.lang import String
from java.util import Arrays, Optional

def readAllBytes(stream):
    return optional.orElseThrow(f)

String.strip(x)
String(x).getBytes("UTF-8")
module.readAllBytes(stream)
Arrays.fill(a, 1, 2, 3)
"""
    assert added_since_8([code]) == []


def test_a_class_that_java_8_lacks_is_seen() -> None:
    with pytest.raises(AssertionError, match=r"java\.net\.http\.HttpClient"):
        added_since_8(["from java.net.http import HttpClient\nHttpClient.newHttpClient()"])
