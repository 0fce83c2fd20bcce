"""The provider ``imagej2``: macros and commands of a local Fiji, through pyimagej.

``OPSEF_FIJI_DIR`` names the folder of Fiji, the one that holds ``jars`` and ``plugins``. Here
are both sides: `fiji_folder` and `fiji_engine` look at the folder and start nothing; `apply`
and `describe` run in the worker process, and only there is pyimagej imported, because its
mere import spoils a Java machine without ImageJ2.

The Java machine is started here, on the archives of the folder, before pyimagej is asked for
anything. Left to itself it would fetch them from the network; and pyimagej 1.8.0 fails
(UnboundLocalError) where fetching is switched off. What is missing is named instead.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import InputError, NotFoundError, WorkerError
from opsef_bridge.files import file_sha256, key_of
from opsef_bridge.imagej import algorithms, ij1
from opsef_bridge.imagej.jars import jar_folder
from opsef_bridge.workers import Progress
from opsef_bridge.workers.shared_arrays import read_place, write_place

__all__ = ["VARIABLE", "apply", "describe", "fiji_engine", "fiji_folder", "macro_of", "run_macro"]

VARIABLE = "OPSEF_FIJI_DIR"

WITH_PROGRAMS = ("jars", "plugins", "macros")
"""Folders of a Fiji whose files decide what it computes."""

OF_PRESET = {
    "clahe_fiji": r"mpicbg_?|CLAHE_?",
    "colour_deconvolution_fiji": r"Colour_Deconvolution\d?_?|colourdeconvolution",
}
"""What the files of the plugin of each preset are called, without version and ending."""

GLUE = "imglib2-imglyb"
"""The archive that pyimagej needs and that not every Fiji has."""


def fiji_folder() -> Path:
    """Return the folder of the local Fiji.

    Raises
    ------
    NotFoundError
        None is named, or the folder lacks ``jars``, ``plugins`` or ImageJ itself.
    """
    named = os.environ.get(VARIABLE)
    hint = f"Set {VARIABLE} to the folder of a Fiji, the one that holds jars and plugins"
    if not named:
        raise NotFoundError(
            f"macros and commands need a local Fiji, and {VARIABLE} names none", hint=hint
        )
    folder = Path(named).absolute()
    for part in ("jars", "plugins"):
        if not (folder / part).is_dir():
            raise NotFoundError(f"{folder} is no Fiji: it has no folder {part}", hint=hint)
    if _version(folder, "ij") is None:
        raise NotFoundError(f"{folder} is no Fiji: there is no ij-*.jar in jars", hint=hint)
    return folder


def fiji_engine(folder: Path, plugin: str | None = None) -> str:
    """Return what a folder of Fiji would compute with, from the files in it; nothing is started.

    Parameters
    ----------
    folder : Path
    plugin : str, optional
        Of `opsef_bridge.imagej.parameters.ALGORITHMS`. Of a preset the archives of its plugin
        are told; those whose names tell no version with the beginning of their sha256. A
        macro or a command may use anything: told is the beginning of a checksum of the names
        and sizes of all archives, plugins and macros.

    Returns
    -------
    str
        Such as ``"imagej-2.17.0+imagej-legacy-2.0.3+ij-1.54p+mpicbg_-1.6.0"``. Two folders
        with equal files have equal texts, wherever they lie.
    """
    return _engine(folder, plugin, _stamp(folder))


@functools.lru_cache(maxsize=64)  # content keys ask for every image, and there are 400 archives
def _engine(folder: Path, plugin: str | None, stamp: tuple[object, ...]) -> str:
    found = {name: _version(folder, name) for name in ("imagej", "imagej-legacy", "ij")}
    parts = [f"{name}-{version}" for name, version in found.items() if version]
    if plugin in OF_PRESET:
        pattern = re.compile(rf"({OF_PRESET[plugin]})(-\d.*)?\.(jar|txt)")
        used = [file for file in _files(folder) if pattern.fullmatch(file.name)]
        parts += dict.fromkeys(_told(file) for file in used)
    elif plugin is not None:
        names = [f"{f.relative_to(folder).as_posix()}\0{f.stat().st_size}" for f in _files(folder)]
        parts.append(f"files-{key_of(names)[:8]}")
    return "+".join(parts)


def _stamp(folder: Path) -> tuple[object, ...]:
    """Return what changes when files come or go: names in their folders, and times of those.

    Both, because two changes may come within one tick of the clock of a disk.
    """
    tops = [folder / part for part in WITH_PROGRAMS if (folder / part).is_dir()]
    below = sorted(Path(one) for top in tops for one in os.scandir(top) if one.is_dir())
    return tuple((one.stat().st_mtime_ns, *sorted(os.listdir(one))) for one in (*tops, *below))


def _files(folder: Path) -> list[Path]:
    """Return the files of programs, sorted; but not the scripts of this package."""
    found = [file for part in WITH_PROGRAMS for file in (folder / part).rglob("*")]
    own = folder / "plugins" / "OpSeF"
    return sorted(
        file
        for file in found
        if (file.suffix == ".jar" or folder / "jars" not in file.parents)
        and own not in file.parents
        and not file.name.endswith("$py.class")  # Jython writes them when it runs
        and file.is_file()
    )


def _told(file: Path) -> str:
    """Return the name of an archive with its version, or with the beginning of its sha256."""
    with_version = re.search(r"-\d", file.stem)
    return file.stem if with_version else f"{file.stem}-{file_sha256(file)[:8]}"


def _version(folder: Path, artifact: str) -> str | None:
    """Return the version of an archive ``jars/<artifact>-<version>.jar``, or None."""
    pattern = re.compile(rf"{re.escape(artifact)}-(\d[^/]*)\.jar")
    found = sorted(
        match[1] for file in (folder / "jars").iterdir() if (match := pattern.fullmatch(file.name))
    )
    return found[-1] if found else None


def class_path(folder: Path) -> list[Path]:
    """Return the archives of a Fiji, and the one that joins it to Python.

    Raises
    ------
    NotFoundError
        That one is neither in the folder nor beside the pinned archives.
    """
    jars = [*sorted((folder / "jars").rglob("*.jar")), *sorted((folder / "plugins").rglob("*.jar"))]
    if not any(jar.name.startswith(f"{GLUE}-") for jar in jars):
        brought = sorted(jar_folder().glob(f"{GLUE}-*.jar"))
        if not brought:
            raise NotFoundError(
                f"{GLUE}-*.jar is neither in {folder / 'jars'} nor in {jar_folder()}",
                hint=f"Bring {GLUE} (from maven.scijava.org) to one of them; nothing is fetched",
            )
        jars.append(brought[-1])
    return jars


def java_home(folder: Path) -> Path | None:
    """Return the Java that a Fiji brings, or None where it has none that will do.

    A Java says its version in a file ``release`` at its top.
    """
    for release in sorted((folder / "java").rglob("release")):
        match = re.search(r'JAVA_VERSION="(\d+)', release.read_text("utf-8", "replace"))
        if match and (int(match[1]),) >= ij1.OLDEST_JAVA:
            return release.parent
    return None


def describe(progress: Progress, folder: str) -> dict[str, Any]:
    """Return what this process runs; see `opsef_bridge.imagej.worker.provider`."""
    from scyjava import jimport

    start(folder)
    try:
        return {
            "provider": "imagej2",
            "engine": fiji_engine(Path(folder)),
            "java": str(jimport("java.lang.System").getProperty("java.version")),
            "path": folder,
        }
    finally:
        algorithms.forget_thread()


def apply(
    progress: Progress,
    name: str,
    parameters: dict[str, Any],
    source: dict[str, Any],
    target: dict[str, Any],
    folder: str,
) -> None:
    """Run a macro, a command or a preset on one image; the entry of the worker.

    Parameters
    ----------
    progress : callable
        Not used.
    name, parameters, source, target
        As `opsef_bridge.imagej.algorithms.apply`; the target is of float32.
    folder : str
        Of Fiji.
    """
    start(folder)
    try:
        result = run_macro(read_place(source), macro_of(name, parameters))
        if list(result.shape) != target["shape"]:
            raise InputError(
                f"{name} made an image of {result.shape} pixels of one of {target['shape']}",
                hint="A step keeps the size of its image",
            )
        write_place(target, np.ascontiguousarray(result, target["dtype"]))
    finally:
        algorithms.forget_thread()


@functools.cache
def start(folder: str) -> None:
    """Start the Java machine of this process on a Fiji, and ImageJ2 in it.

    Raises
    ------
    NotFoundError
        The package pyimagej, an archive or Java is missing.
    WorkerError
        pyimagej fails, or finds no ImageJ2, or one that has no ImageJ 1.x in it.
    """
    place = Path(folder)
    jars = class_path(place)
    own = java_home(place)
    if own is not None:
        os.environ.setdefault("JAVA_HOME", str(own))
    options = [
        *algorithms.jvm_options(),
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        f"-Dplugins.dir={place}",
        f"-Dimagej.dir={place}",
    ]
    ij1.start(*jars, options=options)
    algorithms.end_with_caller()
    _init(folder)


def _init(folder: str) -> None:
    hint = "Start this Fiji by hand to see whether it is whole; `opsef doctor` looks again"
    try:
        import imagej

        gateway = imagej.init(mode="headless")
    except ModuleNotFoundError as error:
        raise NotFoundError(
            f"a Fiji cannot be asked from Python: {error}",
            hint="Install the extra: pip install 'opsef_bridge[imagej]'",
        ) from error
    except Exception as error:  # pyimagej has no family of errors of its own
        raise WorkerError(
            f"pyimagej cannot start the Fiji in {folder} ({type(error).__name__}: {error})",
            hint=hint,
        ) from error
    if not gateway:  # pyimagej logs this, and returns False
        raise WorkerError(f"pyimagej finds no ImageJ2 in {folder}", hint=hint)
    if not (gateway.legacy and gateway.legacy.isActive()):
        raise WorkerError(f"the ImageJ2 in {folder} cannot run ImageJ 1.x commands", hint=hint)


def macro_of(name: str, parameters: dict[str, Any]) -> str:
    """Return the macro that does what a plugin of the provider ``imagej2`` does.

    Examples
    --------
    >>> macro_of("command", {"command": "Median...", "options": "radius=2"})
    'run("Median...", "radius=2");'
    """
    if name == "macro":
        return str(parameters["macro"])
    if name == "command":
        return _run_line(parameters["command"], parameters["options"])
    if name == "clahe_fiji":
        fast = " fast_(less_accurate)" if parameters["fast"] else ""
        options = "blocksize={block} histogram={bins} maximum={slope:g} mask=*None*"
        return _run_line("Enhance Local Contrast (CLAHE)", options.format(**parameters) + fast)
    line = _run_line("Colour Deconvolution", f"vectors=[{parameters['vectors']}] hide")
    # Its three images are named after the one that they come from.
    picked = f'selectImage(opsefTitle + "-(Colour_{parameters["stain"]})");'
    return f"opsefTitle = getTitle();\n{line}\n{picked}"


def _run_line(command: str, options: str) -> str:
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in (command, options)]
    return f'run("{quoted[0]}", "{quoted[1]}");'


def run_macro(image: np.ndarray, macro: str) -> np.ndarray:
    """Run a macro in batch mode with `image` as the current image; inside the worker.

    Without ImageJ2's changes to ImageJ this needs a display; there it fails, and never does
    nothing without a word.

    Parameters
    ----------
    image : ndarray, axes YX (uint8, uint16 or float32) or YXS (uint8, three samples)
    macro : str

    Returns
    -------
    ndarray, axes YX
        The image that is current at the end: uint8, uint16 or float32.

    Raises
    ------
    WorkerError
        The macro, or a command in it, failed; or it left no image.
    InputError
        It left a colour image.
    """
    import jpype
    from scyjava import jimport

    interpreter = jimport("ij.macro.Interpreter")()
    interpreter.setIgnoreErrors(True)  # else they are shown in a dialog
    messages = jimport("ij.IJ")
    messages.redirectErrorMessages(True)
    messages.getErrorMessage()  # forgets what an earlier macro left
    ip = _colour_processor(image) if image.ndim == 3 else algorithms.processor(image)
    try:
        result = interpreter.runBatchMacro(macro, algorithms.image_plus(ip))
        said = interpreter.getErrorMessage() or messages.getErrorMessage()
    except jpype.JException as error:
        result, said = None, error
    if said:
        raise WorkerError(f"ImageJ's macro failed: {said}", hint="Try it in Fiji's own window")
    if result is None:
        raise WorkerError(
            "ImageJ's macro left no image", hint="The image that is current at its end is taken"
        )
    if int(result.getBitDepth()) not in (8, 16, 32):
        raise InputError(
            "ImageJ's macro left a colour image", hint='End it with run("8-bit"); or pick a channel'
        )
    return algorithms.pixels_of(result.getProcessor())


def _colour_processor(image: np.ndarray) -> Any:
    import jpype
    from scyjava import jimport

    red, green, blue = (image[..., k].astype(np.int32) for k in range(3))
    flat = (red << 16 | green << 8 | blue).ravel()
    return jimport("ij.process.ColorProcessor")(
        image.shape[1], image.shape[0], jpype.JArray(jpype.JInt)(flat)
    )
