"""Does the menu work in a folder of Fiji or ImageJ? Looked at, then tried in its own ImageJ.

The trial is a process without windows, on the ImageJ, the Jython and the Java of that folder:
every file of the library is imported, and every script runs until it wants to show a dialog,
or says in plain words why it goes no further. Preferences are not those of the person.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.imagej.jars import find_java
from opsef_bridge.service.fiji import OURS, scripts

__all__ = ["Finding", "ImageJFolder", "check", "look"]

OLDEST_JAVA = 8
TIME_LIMIT = 180.0
"""Seconds for a trial; 10 are usual."""

LAUNCHERS = {
    "linux": ("fiji-linux-*", "ImageJ-linux64", "fiji"),
    "darwin": ("Contents/MacOS/fiji-*", "Contents/MacOS/ImageJ-macosx", "fiji-macos*"),
    "win32": ("fiji-windows-*.exe", "ImageJ-win64.exe", "ImageJ.exe"),
}
"""Programs that start Fiji, old and new, by `sys.platform`."""


class Finding(NamedTuple):
    """One thing that was looked at: `ok`, or broken with the way out as its hint."""

    what: str
    ok: bool
    message: str
    hint: str = ""


@dataclass(frozen=True)
class ImageJFolder:
    """What lies in a folder of Fiji or ImageJ.

    Parameters
    ----------
    root : Path
    ij : Path
        The archive of ImageJ 1.x.
    fiji : bool
        Fiji, where SciJava runs scripts; otherwise plain ImageJ.
    jython : Path or None
        The archive with Jython.
    language : bool
        Whether there is what lets Fiji or ImageJ run .py files in it.
    java : Path or None
        The Java that it brings; None where it runs on the system's.
    launcher : Path or None
        What a person starts on this system.
    """

    root: Path
    ij: Path
    fiji: bool
    jython: Path | None
    language: bool
    java: Path | None
    launcher: Path | None

    @property
    def class_path(self) -> str:
        """All its archives: Fiji's Jython is spread over several."""
        places = ("jars", "plugins") if self.fiji else ("plugins",)
        jars = [p for place in places for p in sorted((self.root / place).rglob("*.jar"))]
        first = [self.ij, *([self.jython] if self.jython else [])]
        return os.pathsep.join(map(str, dict.fromkeys([*first, *jars])))


def look(folder: str | os.PathLike[str]) -> ImageJFolder:
    """Return what lies in a folder of Fiji or ImageJ.

    Raises
    ------
    InputError
        There is no ImageJ in it.
    """
    root = Path(folder).absolute()
    places = ("ij.jar", "jars/ij-1.*.jar", "*.app/Contents/Java/ij.jar", "ij-1.*.jar")
    found = [file for place in places for file in sorted(root.glob(place))]
    if not found:
        raise InputError(
            f"{root} is no folder of Fiji or ImageJ: neither ij.jar nor jars/ij-1.*.jar is there",
            hint="Name the folder that holds plugins/ (in Fiji: Help > About, or where you "
            "unpacked it; on a Mac Fiji.app)",
        )
    fiji = found[0].parent.name == "jars"
    jython, language = _jython(root, fiji)
    runtimes = [
        file
        for place in ("java", "jre", "*.app/Contents/PlugIns")
        for part in sorted(root.glob(place))
        for file in sorted(part.rglob("bin/java*"))
        if file.name in ("java", "java.exe") and os.access(file, os.X_OK)
    ]
    starters = [
        file
        for name in LAUNCHERS.get(sys.platform, ())
        for file in sorted(root.glob(name))
        if file.is_file()
    ]
    return ImageJFolder(
        root, found[0], fiji, jython, language,
        runtimes[0] if runtimes else None, starters[0] if starters else None,
    )  # fmt: skip


def _jython(root: Path, fiji: bool) -> tuple[Path | None, bool]:
    """Return the archive with Jython, and whether .py files are run in it."""
    place = root / ("jars" if fiji else "plugins")
    archive, language = None, (place / "Jython.class").is_file()
    for file in sorted(place.rglob("*.jar")):
        if "jython" in file.name.lower():
            names = _entries(file)
            if "org/python/util/jython.class" in names:
                archive = archive or file
            language |= "Jython.class" in names or (fiji and file.name.startswith("scripting-"))
    return archive, language


def _entries(jar: Path) -> set[str]:
    try:
        with zipfile.ZipFile(jar) as archive:
            return set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return set()


def check(folder: str | os.PathLike[str], *, timeout: float = TIME_LIMIT) -> list[Finding]:
    """Look at the menu in a folder of Fiji or ImageJ, and try it in the ImageJ that is there.

    Parameters
    ----------
    folder : path-like
        It holds ``plugins/``.
    timeout : float
        Seconds for the trial.

    Returns
    -------
    list of Finding
        The menu, ImageJ, Jython, Java, then each script.

    Raises
    ------
    InputError
        There is no ImageJ in the folder.
    """
    there = look(folder)
    findings = [_menu(there.root), _imagej(there), _language(there)]
    try:
        java = there.java or find_java()
    except NotFoundError as error:
        return [*findings, Finding("Java", False, error.message, error.hint)]
    findings.append(_version(java, there.java is not None))
    if there.jython is not None and findings[-1].ok:
        findings += _trial(there, java, timeout)
    return findings


def _menu(root: Path) -> Finding:
    """Compare the scripts in a folder with those of this version."""
    wanted = scripts()
    there = {
        file.relative_to(root).as_posix(): file.read_bytes()
        for part in OURS
        for file in (root / part).rglob("*.py")
    }
    hint = f"Run `opsef fiji install {root}`, or unpack the fiji.zip of your service again"
    if not there:
        return Finding("menu", False, "it is not installed", hint)
    other = sorted(n for n in wanted.keys() | there.keys() if wanted.get(n) != there.get(n))
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        return Finding("menu", False, f"another version: {', '.join(other[:3])}{more}", hint)
    return Finding("menu", True, f"of this version, {len(there)} files")


def _imagej(there: ImageJFolder) -> Finding:
    name = "Fiji" if there.fiji else "ImageJ"
    found = re.search(r"ij-(.+)\.jar", there.ij.name)
    version = found[1] if found else _version_inside(there.ij)
    return Finding("ImageJ", True, f"{version or 'of an unknown version'}, in a folder of {name}")


def _version_inside(jar: Path) -> str:
    """Return the version that ImageJ's own archive names."""
    try:
        with zipfile.ZipFile(jar) as archive:
            texts = [
                archive.read(n).decode("utf-8", "replace")
                for n in archive.namelist()
                if n.endswith("ij/pom.properties") or n == "META-INF/MANIFEST.MF"
            ]
    except (OSError, zipfile.BadZipFile):
        return ""
    found = re.search(r"(?mi)^(?:version=|Implementation-Version: *)(\S+)", "\n".join(texts))
    return found[1] if found else ""


def _language(there: ImageJFolder) -> Finding:
    if there.jython is not None and there.language:
        return Finding("Jython", True, there.jython.name)
    if there.fiji:
        hint = "Help > Update, and install what is missing; or take a new Fiji"
        return Finding("Jython", False, "this Fiji cannot run .py files", hint)
    hint = (
        "Start ImageJ with a network once and choose Plugins > OpSeF > Help: ImageJ offers "
        "to fetch Jython.jar by itself"
    )
    said = "it lacks the part with which ImageJ runs .py files" if there.jython else "missing"
    return Finding("Jython", False, said, hint)


def _version(java: Path, brought: bool) -> Finding:
    """Ask a Java for its version."""
    whose = "brought by it" if brought else "the system's"
    try:
        done = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=60, check=False
        )
        said = done.stderr + done.stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("Java", False, f"{java} does not start: {error}", "Install another Java")
    found = re.search(r'version "(?:1\.)?(\d+)[^"]*"', said)
    if found is None:
        hint = "Install another Java"
        return Finding("Java", False, f"{java} does not tell its version: {said[:200]}", hint)
    version = found[0].partition(" ")[2].strip('"')
    if int(found[1]) < OLDEST_JAVA:
        hint = f"Install Java {OLDEST_JAVA} or later, or take a new Fiji"
        return Finding("Java", False, f"{version} ({whose}) is too old", hint)
    return Finding("Java", True, f"{version} ({whose})")


PROGRAM = """
import json, os, sys, traceback
from java.awt import HeadlessException
from java.lang import System, Throwable
root = json.loads(sys.argv[1])  # ASCII, whatever the path holds
plugins, library = os.path.join(root, "plugins", "OpSeF"), os.path.join(root, "jars", "Lib")
sys.path.insert(0, library)
told = {"library": {}, "scripts": {}}

def tried(action, *arguments):
    try:
        action(*arguments)
    except HeadlessException:
        pass
    except SyntaxError as error:
        return "%s (%s, line %s)" % (
            error.msg, os.path.basename(error.filename or "?"), error.lineno)
    except (Exception, Throwable) as error:
        System.err.println(traceback.format_exc())
        return (u"%s" % (getattr(error, "message", "") or error))[:300]

for name in sorted(os.listdir(os.path.join(library, "opsef_fiji"))):
    if name.endswith(".py"):
        told["library"][name] = tried(__import__, "opsef_fiji." + name[:-3])

def guarded(title, action, *arguments):
    # As in the library, but what goes wrong is told, and a refusal in plain words is right.
    from opsef_fiji.trouble import Cancelled, Trouble
    called.append(title)
    try:
        return action(*arguments)
    except (Cancelled, Trouble):
        pass

def script(path):
    with open(path) as file:
        code = compile(file.read(), path, "exec")
    exec(code, {"__name__": "__main__"})

if not any(told["library"].values()):
    from opsef_fiji import commands
    commands.guarded = guarded
for name in sorted(os.listdir(plugins)):
    if name.endswith(".py"):
        called = []
        wrong = tried(script, os.path.join(plugins, name))
        told["scripts"][name[:-3]] = wrong or (
            None if called else "its library is not found by it")
from ij import IJ
told["ij"] = IJ.getVersion()
print("RESULT " + json.dumps(told))
"""


def _trial(there: ImageJFolder, java: Path, timeout: float) -> list[Finding]:
    """Import the library and run the scripts in the ImageJ of the folder, without windows."""
    if not (there.root / OURS[0]).is_dir() or not (there.root / OURS[1]).is_dir():
        return []
    with tempfile.TemporaryDirectory() as home:
        command = [str(java), "-cp", there.class_path, "-Djava.awt.headless=true",
                   f"-Dplugins.dir={there.root}", f"-Duser.home={home}",
                   "-Dpython.cachedir.skip=true", "-Dfile.encoding=UTF-8",
                   "org.python.util.jython", "-B", "-c", PROGRAM,
                   json.dumps(str(there.root))]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=timeout, check=False, cwd=home
            )
        except subprocess.TimeoutExpired:
            said = f"the scripts did not end within {timeout:.0f} seconds"
            return [Finding("scripts", False, said, "Run it again when the machine is idle")]
    output = done.stdout.decode("utf-8", "replace")
    found = re.search(r"(?m)^RESULT (.*)$", output)
    if found is None:
        last = (done.stderr.decode("utf-8", "replace") or output).strip().splitlines()[-1:]
        said = f"Jython does not run in it: {' '.join(last)[:300]}"
        return [Finding("scripts", False, said, "Take a new Fiji, or tell us what it says")]
    return list(_told(json.loads(found[1])))


def _told(said: dict[str, Any]) -> Iterator[Finding]:
    hint = "If it is of this version, tell us which ImageJ this is, and this message"
    broken = {name: wrong for name, wrong in said["library"].items() if wrong}
    for name, wrong in broken.items():
        yield Finding(f"library {name}", False, str(wrong), hint)
    for name, wrong in sorted(said["scripts"].items()):
        command = name.replace("_", " ")
        if broken:
            wrong = "a file of its library is broken"
        yield Finding(command, not wrong, wrong or "runs", hint if wrong else "")
