"""What all commands share: the application and its groups, the project, how to print."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opsef_bridge.console import Console

if TYPE_CHECKING:
    from opsef_bridge.project import Project, Run

__all__ = [
    "Context",
    "Device",
    "Devices",
    "EngineName",
    "Executing",
    "Profile",
    "RunId",
    "Workers",
    "annotatorj_app",
    "app",
    "command",
    "engines_app",
    "fiji_app",
    "folder_to_write",
    "images_app",
    "inbox_app",
    "models_app",
    "rois_app",
    "say_who_works",
    "stop_work",
    "sweep_app",
    "train_app",
    "truth_app",
    "unit_app",
]

_OPTIONS: dict[str, Any] = {"add_completion": False, "no_args_is_help": True}
app = typer.Typer(
    help="Sweep segmentation networks, compare the results in ImageJ, adopt the best.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    **_OPTIONS,
)
images_app = typer.Typer(help="The images of a project.", **_OPTIONS)
sweep_app = typer.Typer(help="Try all variants on a sample of the images.", **_OPTIONS)
unit_app = typer.Typer(help="Units of work, for executors.", **_OPTIONS)
rois_app = typer.Typer(help="Objects out to ImageJ and back; their revisions.", **_OPTIONS)
annotatorj_app = typer.Typer(help="Objects to AnnotatorJ and back.", **_OPTIONS)
truth_app = typer.Typer(help="What a person vouches for.", **_OPTIONS)
inbox_app = typer.Typer(help="Requests that lie in the project, from Fiji.", **_OPTIONS)
fiji_app = typer.Typer(help="The menu in Fiji and ImageJ.", **_OPTIONS)
models_app = typer.Typer(help="Weights.", **_OPTIONS)
train_app = typer.Typer(help="Corrections become a better model.", **_OPTIONS)
engines_app = typer.Typer(help="Engines.", **_OPTIONS)
for _name, _group in {
    "images": images_app,
    "sweep": sweep_app,
    "unit": unit_app,
    "rois": rois_app,
    "annotatorj": annotatorj_app,
    "truth": truth_app,
    "inbox": inbox_app,
    "fiji": fiji_app,
    "models": models_app,
    "train": train_app,
    "engines": engines_app,
}.items():
    app.add_typer(_group, name=_name)


class Executing(StrEnum):
    """Who does the units of a run."""

    LOCAL = "local"
    SNAKEMAKE = "snakemake"


class Devices(StrEnum):
    """What networks compute on; ``auto`` is a GPU where there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Device = Annotated[Devices, typer.Option("--device", help="What the networks compute on.")]
EngineName = Annotated[Executing, typer.Option("--engine", help="Who does the units.")]
Profile = Annotated[
    Path | None,
    typer.Option(
        "--profile", help="Of Snakemake: local, slurm-cpu, slurm-gpu, or a folder of your own."
    ),
]
RunId = Annotated[str | None, typer.Option("--run", help="Id of the run (newest).")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes at a time (free cores).")
]


class Context:
    """What every command knows: the project and how to print."""

    folder = Path(".")
    console = Console()

    @classmethod
    def project(cls) -> Project:
        """Return the project of the command line; whether it exists is seen when it is read."""
        from opsef_bridge.project import Project

        return Project(cls.folder)


def folder_to_write(folder: Path) -> Path:
    """Return a folder that files can be written to, or raise InputError before work is done."""
    from opsef_bridge.errors import InputError

    above = next((one for one in (folder, *folder.parents) if one.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"{above} is a file", hint="Name a folder; it is made if need be")
    return folder


def command(words: str) -> str:
    """Return a command as it must be typed here to reach this project."""
    place = "" if Context.folder == Path(".") else f" -p {shlex.quote(str(Context.folder))}"
    return f"opsef{place} {words}"


def say_who_works(process: str | None, again: str) -> None:
    """Say who works on what is not done yet or, where nobody does, the command that goes on."""
    said = f"{process} works on it" if process else f"Nothing works on it: {command(again)}"
    Context.console.say(said)


def stop_work(run: Run, again: str) -> dict[str, Any]:
    """Stop who works on a run or a training, say how to go on, and return what was stopped."""
    from opsef_bridge.execute import cancel_run

    stopped, jobs = cancel_run(run)
    Context.console.say(
        "Its process was stopped" if stopped else f"No process here works on {run.id}",
        *([f"{jobs} jobs of SLURM that it had left were cancelled"] if jobs else []),
        f"Go on: {command(again)}",
    )
    return {"stopped": stopped, "jobs": jobs}
