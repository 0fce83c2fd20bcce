"""Settings of a run of the original OpSeF, said again as an ``opsef.yaml``.

What cannot be said, and what means something else here, is told in sentences. The order of
the steps is that of OpSeF's code (filter, subtract, project, edges, invert, CLAHE), not that
of the figure in its paper.

References
----------
.. [1] T. M. Rasse, R. Hollandi, P. Horvath, "OpSeF: open source Python framework for
   collaborative instance segmentation of bioimages", Front. Bioeng. Biotechnol. 8:558880,
   2020. Code: trasse/OpSeF-IV, modules ``Pre_Post_Process002``, ``Segmentation_Func_06``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from opsef_bridge.config import parse_config
from opsef_bridge.errors import ConfigError, InputError
from opsef_bridge.exchange.legacy_filters import keep_of
from opsef_bridge.exchange.legacy_models import models_of
from opsef_bridge.exchange.legacy_recipes import projection_of, recipe_name, recipes_of
from opsef_bridge.exchange.legacy_values import Said, flag, listed, part, word

__all__ = ["settings_to_yaml"]


def settings_to_yaml(
    settings: Mapping[str, Any],
    *,
    source: list[str],
    shapes: Sequence[tuple[int, ...]] = (),
    projected: bool = False,
    stacks: bool | None = None,
    weights: Collection[str] = (),
    classes: Mapping[int, str] | None = None,
) -> tuple[str, list[str]]:
    """Say the settings of a run as the text of an ``opsef.yaml``.

    Parameters
    ----------
    settings : mapping
        As `opsef_bridge.exchange.pickles.load_settings` returns it; may be empty.
    source : list of str
        ``images.source`` of the file.
    shapes : sequence of (..., Y, X)
        Sizes of the images in px, as far as they are known: OpSeF's U-Net had a fixed size of
        its input, which is a scale here.
    projected : bool
        Whether the images are sums of planes already, as in ``00_InputRaw``.
    stacks : bool or None
        Whether OpSeF began with stacks; None: what the settings say.
    weights : collection of str
        Names of the weights that there are; others are replaced by the shipped ones.
    classes : mapping of int to str
        Names of classes; what the settings say of them is added.

    Returns
    -------
    text : str
        `opsef_bridge.config.parse_config` accepts it.
    said : list of str
        Sentences: what could not be carried over, or changed its meaning.

    Raises
    ------
    InputError
        A setting that is needed is of the wrong kind.

    Examples
    --------
    >>> run = {"pre_list": [["Median", 3, 50, "Max", False, [], "no", True]]}
    >>> run |= {"ModelType": ["SD_2D_dsb2018"], "run_ID": "004"}
    >>> text, said = settings_to_yaml({"run_def": run}, source=["data/*.tif"])
    >>> print(*[line for line in text.splitlines() if line.startswith("  p000")])
      p000: [{median: {radius: 1}}, {subtract: {value: 50}}, {invert: {}}]
    """
    say = Said()
    given = part(settings, "input_def")
    run = part(settings, "run_def")
    pc = part(settings, "pc")
    pipelines = listed(run, "pre_list")
    recipes, same = recipes_of(pipelines, say)
    stacks = flag(given, "is3D") or flag(given, "split_z") if stacks is None else stacks
    images: dict[str, Any] = {"source": list(source)}
    images |= projection_of(pipelines, stacks, projected, say)
    models = models_of(run, part(settings, "initModelSettings"), given, shapes, weights, say)
    sections = {
        "images": images,
        "postprocess": keep_of(part(run, "filter_para"), say),
        "classes": _classes(pc, run, classes or {}, say),
        "compare": _base(run, recipes, same),
        "sweep": {"images": "all", "crop": "none", "seed": 0},
    }
    _leftovers(pc, given, run, say)
    text = _text(_title(given, run), sections, recipes, models, list(say))
    try:
        parse_config(text)
    except ConfigError as error:
        raise InputError(
            f"the settings cannot be said as an opsef.yaml ({error.message})",
            hint="Bring the settings as OpSeF wrote them, or import without them",
        ) from error
    return text, list(say)


def _classes(
    pc: Mapping[str, Any], run: Mapping[str, Any], classes: Mapping[int, str], say: Said
) -> dict[int, str]:
    if not flag(pc, "create_filter_mask_from_channel"):
        return dict(classes)
    say(
        "The mask that parted objects into two classes is not made again; class 1 (MaskClass01) "
        "has its centroid inside the mask, class 2 outside."
    )
    return dict(classes) | {1: "inside the mask", 2: "outside the mask"}


def _base(
    run: Mapping[str, Any], recipes: Mapping[str, Any], same: Mapping[str, str]
) -> dict[str, str]:
    base = word(run.get("display_base", "same"))
    name = same.get(recipe_name(int(base))) if base.isdecimal() else None
    return {"base": name} if name in recipes else {}


def _leftovers(
    pc: Mapping[str, Any], given: Mapping[str, Any], run: Mapping[str, Any], say: Said
) -> None:
    """Say what has no place in the file."""
    if flag(given, "toTiles"):
        say(
            "toTiles: every tile is an image of its own. OpSeF cut the tiles of all files from "
            "the first one (a fault of its code): check that these are not all alike."
        )
    if flag(given, "bin"):
        say("bin: the images are the ones that OpSeF had made smaller; nothing is binned again.")
    subset = [word(one) for one in listed(given, "subset")]
    if subset and subset != ["All"]:
        say(f"The run took only files with {', '.join(subset)} in their name.")
    if any(flag(pc, key) for key in ("export_another_channel", "Quantify_2ndCh")):
        say("The second channel is not carried over.")
    if flag(pc, "Export_to_CSV"):
        say("Tables, plots and clusters are not carried over.")


def _title(given: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    dataset, name = word(given.get("dataset", "")), word(run.get("run_ID", ""))
    which = f"run {name} of" if name else "a run of"
    return f"Settings of {which} the original OpSeF" + (f", data set {dataset}" if dataset else "")


def _text(
    title: str,
    sections: Mapping[str, Any],
    recipes: Mapping[str, Any],
    models: Mapping[str, tuple[dict[str, Any], str]],
    said: list[str],
) -> str:
    lines = [f"# {_printable(title)}", "opsef: 1", "images:"]
    lines += [f"  {key}: {_flow(value)}" for key, value in sections["images"].items()]
    lines += ["preprocess:"]
    lines += [f"  {name}: {_flow(steps)}" for name, steps in recipes.items()]
    lines += ["models:"]
    for name, (entry, comment) in models.items():
        lines += [f"  # {_printable(comment)}"] if comment else []
        lines += [f"  {name}: {_flow(entry)}"]
    lines += [
        f"{name}: {_flow(sections[name])}"
        for name in ("postprocess", "classes", "compare", "sweep")
        if sections[name]
    ]
    lines += ["", "# What changed on the way, or could not be carried over:"] if said else []
    for sentence in said:
        wrapped = textwrap.wrap(_printable(sentence), 96, break_long_words=False)
        lines += [f"# {'-' if not k else ' '} {line}" for k, line in enumerate(wrapped)]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=2**20
    )
    return text.strip()


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
