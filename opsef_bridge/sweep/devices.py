"""On which device each engine of a configuration will run here, asked before a run starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opsef_bridge.engines import engine_class, resolve_device
from opsef_bridge.engines.devices import gpu_names
from opsef_bridge.workers import Progress, Worker

__all__ = ["device_of", "devices_of_engines", "gpus_of_turn"]


def device_of(engine: str, wanted: str, progress: Progress | None = None) -> str:
    """Return the device that the engine `engine` takes; to be called in a worker.

    Asking imports the engine's runtime.
    """
    return resolve_device(wanted, engine_class(engine))


def devices_of_engines(engines: Iterable[str], wanted: str) -> dict[str, str]:
    """Return ``"cpu"`` or ``"cuda"`` for each engine.

    On a machine with a GPU every runtime is asked in a process of its own: TensorFlow and
    torch must not share one, and each would reserve memory of the GPU.

    Raises
    ------
    ConfigError
        ``cuda`` is wanted where an engine cannot use it.
    """
    found = {}
    for engine in engines:
        # Those in other interpreters are known to this process only, and import nothing.
        if not gpu_names() or wanted == "cpu" or hasattr(engine_class(engine), "far"):
            found[engine] = device_of(engine, wanted)
            continue
        with Worker() as worker:
            asked = {"engine": engine, "wanted": wanted}
            found[engine] = worker.call("opsef_bridge.sweep.devices:device_of", asked)
    return found


def gpus_of_turn(turn: str, engines: Iterable[str], wanted: str) -> Sequence[str]:
    """Return the GPUs that a turn works on; none if it works on the CPU.

    Parameters
    ----------
    turn : str
        Name of an engine, or of another kind of work.
    engines : iterable of str
        Engines of the run.
    wanted : {"auto", "cpu", "cuda"}
    """
    if turn not in engines or not gpu_names():
        return ()
    return gpu_names() if devices_of_engines([turn], wanted)[turn] == "cuda" else ()
