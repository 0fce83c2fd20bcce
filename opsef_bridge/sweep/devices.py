"""On which device each engine of a configuration will run here, asked before a run starts.

The weights decide with the engine: StarDist's own format is run by TensorFlow, a converted
one by ONNX Runtime, and one of them may be able to use the GPU where the other is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from opsef_bridge.compare.votes import SILENT
from opsef_bridge.engines import Weights, engine_class, find_weights, resolve_device
from opsef_bridge.engines.devices import gpu_names
from opsef_bridge.engines.trial import as_json
from opsef_bridge.errors import WeightsError
from opsef_bridge.project import Project
from opsef_bridge.sweep.planned import Plan, Variant
from opsef_bridge.workers import Progress, Worker

__all__ = [
    "devices_of",
    "devices_of_engines",
    "gpus_of_turn",
    "turns_with_networks",
    "weights_of_variants",
]


def devices_of(
    weights: list[dict[str, Any]], wanted: str, progress: Progress | None = None
) -> list[str]:
    """Return the device of each of `weights`, all of one engine; to be called in a worker.

    Asking imports the engine's runtime.

    Parameters
    ----------
    weights : list of dict
        Of `opsef_bridge.engines.trial.as_json`.
    wanted : {"auto", "cpu", "cuda"}
    """
    found = []
    for given in weights:
        path = Path(given["path"]) if given["path"] else None
        one = Weights(**{**given, "path": path})
        found.append(resolve_device(wanted, engine_class(one.engine), one))
    return found


def devices_of_engines(weights: Iterable[Weights], wanted: str) -> dict[str, str]:
    """Return ``"cpu"`` or ``"cuda"`` for each engine, ``"cuda and cpu"`` if its weights differ.

    On a machine with a GPU every engine is asked in a process of its own: TensorFlow and
    torch must not share one, and each would reserve memory of the GPU.

    Parameters
    ----------
    weights : iterable of Weights
        All that is used, with its engine; an engine without weights has one without a file.

    Raises
    ------
    ConfigError
        ``cuda`` is wanted where an engine cannot use it.
    """
    by_engine: dict[str, list[dict[str, Any]]] = {}
    for one in weights:
        by_engine.setdefault(one.engine, []).append(as_json(one))
    found = {}
    for engine, mine in by_engine.items():
        # Those in other interpreters are known to this process only, and import nothing.
        if not gpu_names() or wanted == "cpu" or hasattr(engine_class(engine), "far"):
            devices = devices_of(mine, wanted)
        else:
            with Worker() as worker:
                asked = {"weights": mine, "wanted": wanted}
                devices = worker.call("opsef_bridge.sweep.devices:devices_of", asked)
        found[engine] = " and ".join(sorted(set(devices), reverse=True))
    return found


def gpus_of_turn(turn: str, weights: Iterable[Weights], wanted: str) -> Sequence[str]:
    """Return the GPUs that a turn works on, if any of its weights can; else none.

    Parameters
    ----------
    turn : str
        Name of an engine, or of another kind of work.
    weights : iterable of Weights
        Of the run.
    wanted : {"auto", "cpu", "cuda"}
    """
    mine = [one for one in weights if one.engine == turn]
    if not mine or not gpu_names():
        return ()
    return gpu_names() if "cuda" in devices_of_engines(mine, wanted)[turn] else ()


def turns_with_networks(plan: Plan) -> set[str]:
    """Return the turns that can use a GPU where there is one: on a cluster, elsewhere than here.

    Those are the engines that know of devices, unless the configuration wants the CPU.
    """
    if plan.config["sweep"]["device"] == "cpu":
        return set()
    engines = {variant.engine for variant in plan.variants} - {SILENT}
    return {name for name in engines if hasattr(engine_class(name), "devices")}


def weights_of_variants(project: Project, variants: Iterable[Variant]) -> list[Weights]:
    """Return the weights that variants use, each once; see `devices_of_engines`.

    Weights that are gone, or are others by now, are asked for nothing: the unit says so.
    """
    found = []
    for engine, name in dict.fromkeys((one.engine, one.weights) for one in variants):
        if engine == SILENT:
            continue
        try:
            found.append(find_weights(engine, name or None, [project.models_folder]))
        except WeightsError:
            found.append(Weights(name, engine))
    return found
