"""Profiles of Snakemake that come with the package, and how a name becomes one.

A profile is a folder with ``config.yaml``: the options of Snakemake, one a line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from opsef_bridge.errors import ConfigError, NotFoundError

__all__ = ["find_profile", "read_profile", "shipped_profiles"]

HERE = Path(__file__).parent
NAMES = ("profile.yaml", "config.yaml")


def shipped_profiles() -> list[str]:
    """Return the names of the profiles that come with the package.

    Examples
    --------
    >>> shipped_profiles()
    ['local', 'slurm-cpu', 'slurm-gpu']
    """
    return sorted(file.parent.name for file in HERE.glob("*/config.yaml"))


def find_profile(wanted: str | Path) -> Path:
    """Return the file of a profile.

    Parameters
    ----------
    wanted : str or Path
        A folder, a file, or a name: one in the user's or the machine's folder of Snakemake
        profiles comes before one of the package, so that a copy can be changed.

    Raises
    ------
    NotFoundError
        There is none.
    """
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [Path(wanted).expanduser()]
    if len(Path(wanted).parts) == 1:
        shared = (home / "snakemake", Path("/etc/xdg/snakemake"), HERE)
        places += [place / wanted for place in shared]
    for place in places:
        if place.is_file():
            return place.resolve()
        for name in NAMES:
            if (place / name).is_file():
                return (place / name).resolve()
    raise NotFoundError(
        f"there is no Snakemake profile {str(wanted)!r}",
        hint=f"Name one of {', '.join(shipped_profiles())}, or a folder with config.yaml",
    )


def read_profile(file: Path) -> dict[str, Any]:
    """Return the settings of a profile; names with underscores get hyphens.

    Raises
    ------
    ConfigError
        It is not YAML of names and values.
    """
    try:
        found = yaml.safe_load(file.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file} holds no settings", hint="One a line: `jobs: 50`")
    return {str(name).replace("_", "-"): value for name, value in found.items()}
