"""Write docs/configuration.md, preprocessing.md, models.md and the figures of ranking.md.

Usage: python tools/write_docs.py [--check]

With --check nothing is written; the exit code says whether the files are up to date.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from choosing_tables import consensus_tables, refine_tables
from corrections_tables import corrections_table
from pydantic import BaseModel
from ranking_tables import ranking_tables

import opsef_bridge.compare
from opsef_bridge.config import Analyse, Compare, Config, Images, Sweep, Train
from opsef_bridge.config.images import Measure, Segment, Substacks, Tiles
from opsef_bridge.engines import engine_class, engine_names, list_weights
from opsef_bridge.postprocess import ClassMask, Postprocess
from opsef_bridge.preprocess import DEFAULT_ORDER, STEPS
from opsef_bridge.presets import PRESETS, preset_title

DOCS = Path(__file__).parents[1] / "docs"

CONFIGURATION = """\
# opsef.yaml

*Written by `tools/write_docs.py` from the models that check the file.*

A list where one value stands is an axis of the sweep: every value is tried with every other.
Unknown keys, wrong types and impossible values are errors that name the line.

## The file

{config}

### images

{images}

### images.segment

{segment}

### images.measure

{measure}

### images.substacks

{substacks}

### images.tiles

{tiles}

[images.md](images.md) says what becomes of files, and what can be chosen for one image.

### sweep

{sweep}

### compare

{compare}

### analyse

Tables, statistics, plots: [analysis.md](analysis.md).

{analyse}

### train

What `opsef train grid` trains and compares: [train.md](train.md).

{train}

### postprocess

{postprocess}

### class_mask

{class_mask}

## preprocess: the steps

A recipe is an ordered list of steps: `even: [{{white_tophat: {{radius: 50}}}}, {{clahe: {{}}}}]`.
[preprocessing.md](preprocessing.md) describes each step with its parameters.

{steps}

## models: the engines

An entry of `models` names an `engine`, its `weights` where it takes any, and values of its
parameters. Parameters of the *pass* cost a new network pass for every value; those that only
*decode* do not.

{engines}
"""

MODELS = """\
# The weights that come along

*Written by `tools/write_docs.py` from the model cards and from `docs/other.json`.*

{models}
## Stained tissue and bright field

{others}"""


def main() -> int:
    texts = {
        "configuration.md": configuration(),
        "preprocessing.md": preprocessing(),
        "models.md": models(),
        "ranking.md": ranking(),
        "consensus.md": _filled("consensus.md", consensus_tables(_figures("choosing"))),
        "refine.md": _filled("refine.md", refine_tables(_figures("choosing"))),
        "train.md": _filled("train.md", corrections_table(_figures("corrections"))),
    }
    stale = [n for n, text in texts.items() if not (DOCS / n).is_file() or _read(n) != text]
    if "--check" in sys.argv[1:]:
        print("\n".join(f"docs/{name} is not up to date" for name in stale) or "up to date")
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(texts[name], encoding="utf-8")
        print(f"docs/{name}")
    return 0


def configuration() -> str:
    """Return docs/configuration.md."""
    sections = {
        "config": Config, "images": Images, "segment": Segment, "measure": Measure,
        "substacks": Substacks, "tiles": Tiles, "class_mask": ClassMask, "sweep": Sweep,
    }  # fmt: skip
    sections |= {"compare": Compare, "analyse": Analyse, "train": Train}
    sections |= {"postprocess": Postprocess}
    return CONFIGURATION.format(
        **{name: _table(model) for name, model in sections.items()},
        steps="\n".join(["| step | what it does |", "|---|---|", *map(_step_line, _steps())]),
        engines="\n".join(_engine(name) for name in engine_names()),
    )


def preprocessing() -> str:
    """Return docs/preprocessing.md: its text, with the parts between markers made anew."""
    made = {
        "order": ", ".join(f"`{name}`" for name in DEFAULT_ORDER),
        "presets": "\n".join(f"- `{name}`: {preset_title(name)}" for name in PRESETS),
        "steps": "\n".join(map(_step, _steps())).rstrip(),
    }
    return _filled("preprocessing.md", made)


def ranking() -> str:
    """Return docs/ranking.md, with the figures of docs/ranking.json."""
    constants = Path(opsef_bridge.compare.__file__).with_name("agreement_constants.json")
    figures = json.loads((DOCS / "ranking.json").read_text("utf-8"))
    return _filled("ranking.md", ranking_tables(figures, json.loads(constants.read_text("utf-8"))))


def _figures(name: str) -> dict[str, Any]:
    return json.loads((DOCS / f"{name}.json").read_text("utf-8"))


def _filled(file: str, made: Mapping[str, str]) -> str:
    """Return a text of docs/ with the parts between markers made anew."""
    text = _read(file)
    for name, part in made.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->\n")
        if not end:
            raise SystemExit(f"docs/{file} has no markers for {name}")
        text = f"{before}{start}{part}\n{end}{after}"
    return text


def _steps() -> list[str]:
    """All steps: those of the recommended order, then the others."""
    return [*DEFAULT_ORDER, *sorted(set(STEPS) - set(DEFAULT_ORDER))]


def _step_line(name: str) -> str:
    text = (inspect.getdoc(STEPS[name].function) or "").split("\n\n")[0]
    return f"| [`{name}`](preprocessing.md#{name}) | {' '.join(text.split())} |"


def models() -> str:
    """Return docs/models.md."""
    shipped = "\n".join(_card(weights.card) for weights in list_weights())
    return MODELS.format(models=shipped, others=others())


def _step(name: str) -> str:
    step = STEPS[name]
    text = inspect.getdoc(step.function) or ""
    head = text.split("\n\nParameters\n")[0]
    returns = text.partition("\nReturns\n-------\n")[2].split("\n\n")[0]
    kind, _, result = returns.partition("\n")
    table = _table(step.Parameters, _meanings(text))
    return f"### {name}\n\n{head}\n\n{table}\n\nResult: {kind}. {' '.join(result.split())}\n"


def _meanings(text: str) -> dict[str, str]:
    """What a docstring says of each parameter."""
    section = text.partition("\nParameters\n")[2].partition("\nReturns\n")[0]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines()[1:]:
        if line and not line.startswith(" "):
            names = line.partition(" : ")[0].split(", ")
        for name in names if line.startswith(" ") else ():
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def _engine(name: str) -> str:
    engine = engine_class(name)
    text = (inspect.getdoc(engine) or "").split("\n\nParameters\n")[0]
    axes = ", ".join(sorted(engine.axes))
    ladder = "; ".join(
        f"`{key}` {', '.join(map(str, values))}"
        for key, values in getattr(engine, "ladder", {}).items()
    )
    tried = f"\n\nA sweep tries, unless `opsef.yaml` says otherwise: {ladder}." if ladder else ""
    return (
        f"### {name}\n\n{text}{tried}\n\nImages: {axes}.\n\n"
        f"Pass:\n\n{_table(engine.Predict)}\n\n"
        f"Decode:\n\n{_table(engine.Decode)}\n"
    )


def _table(model: type[BaseModel], meanings: Mapping[str, str] = MappingProxyType({})) -> str:
    """A table of the fields of a model: name, values, default, meaning."""
    if not model.model_fields:
        return "No parameters."
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = field.get("default", "needed" if name in schema.get("required", ()) else "")
        if isinstance(default, list) and len(default) == 1:
            default = default[0]  # an axis of one value
        shown = "" if isinstance(default, (dict, list)) and name != "source" else f"`{default}`"
        meaning = " ".join(field.get("description", meanings.get(name, "")).split())
        rows.append(f"| `{name}` | {_values(field, definitions)} | {shown} | {meaning} |")
    return "\n".join(rows)


def _values(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a field takes, in words."""
    if "anyOf" in field:
        return " or ".join(_values(one, definitions) for one in field["anyOf"])
    if "$ref" in field or "allOf" in field:
        return "see below"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return "list"
    if field.get("type") == "object":
        return "mapping"
    words = {"integer": "whole number", "number": "number", "string": "text"}
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    limits["exclusiveMaximum"] = "below"
    said = [f"{word} {field[key]:g}" for key, word in limits.items() if key in field]
    kind = field.get("type", "")
    if kind == "null":
        return "none"
    return " ".join([words.get(kind, {"boolean": "true, false"}.get(kind, kind)), *said])


def _card(card: dict[str, Any]) -> str:
    """One card as a section: what, from what, how good, how made."""
    data, recipe = card["data"], card["recipe"]
    lines = [
        f"## {card['name']}",
        "",
        f"For the engine `{card['engine']}`; file `{card['file']}`, sha256 `{card['sha256']}`.",
        "",
        f"- data: {data['set']}, {data['images']} images, {data['objects']} objects, "
        f"licence {data['licence']}; {len(data['left_out'])} images left out, which are bundled",
        "- recipe: " + ", ".join(f"{k} {_brief(v)}" for k, v in recipe.items() if v != {}),
        "- versions: " + ", ".join(f"{k} {v}" for k, v in card["versions"].items()),
    ]
    lines += [f"- licence of the weights: {card['licence']}"] if "licence" in card else []
    lines += [f"- {note}" for note in card.get("notes", ())]
    lines += ["", "Made and scored by:", "", "```sh", *card.get("commands", ()), "```"]
    if card.get("val") or "loo" not in card:
        lines += ["", "Scores on val, every one that was ever taken, in order:", "", _scores(card)]
    if "loo" in card:
        lines += ["", f"Scores on what was left out ({card['loo']['rule']}):", "", _left_out(card)]
    if isinstance(card.get("cv"), dict):
        lines += ["", f"Cross-validation ({card['cv']['rule']}):", "", _candidates(card["cv"])]
    return "\n".join(lines) + "\n"


def _brief(value: Any) -> str:
    """A value of a recipe; of stages of training only how many, the card has all."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)}, of {' and '.join(str(stage.get('steps')) for stage in value)} steps"
    return "see the card" if isinstance(value, dict) else str(value)


def _left_out(card: dict[str, Any]) -> str:
    """The scores of a card on groups of images that its networks had not seen."""
    rows = [_head("images")]
    for name, entry in card["loo"].items():
        if isinstance(entry, dict) and "interval" in entry:
            size = f"{entry['mosaics']} mosaics, {entry['objects']} objects"
            rows.append(_row(f"{name.replace('_', ' ')} ({size})", entry))
    return "\n".join(rows)


def others() -> str:
    """What is reached on stained tissue and bright field: a section of docs/models.md."""
    found = json.loads((DOCS / "other.json").read_text(encoding="utf-8"))
    lines = [f"{found['about']}. {found['rule']}. Tried: {found['tried']}.", ""]
    lines += ["```sh", *found["commands"], "```", ""]
    for kind, part in found["kinds"].items():
        size = f"{part['images']} images, {part['mosaics']} mosaics, {part['objects']} objects"
        lines += [f"{kind.replace('_', ' ')} ({size}):", "", _head("chosen among")]
        lines += [_row(who, entry) for who, entry in part["scores"].items()]
        lines.append("")
    return "\n".join(lines)


def _scores(card: dict[str, Any]) -> str:
    """The val scores of a card: F1 at each IoU with its interval, then by group of images."""
    if not card.get("val"):
        return "none"
    rows = [_head("parameters")]
    groups = [_head("parameters | group")]
    for entry in card["val"]:
        named = _named(entry.get("decode", {}) | entry.get("predict", {}) | _tried(entry))
        rows.append(_row(named, entry))
        for group, part in entry.get("strata", {}).items():
            size = f"{group} ({part['images']} images, {part['objects']} objects)"
            groups.append(_row(f"{named} | {size}", part))
    first = card["val"][0]
    lines = [
        *rows,
        "",
        f"{first['images']} images, {first['objects']} objects; {first['interval']}.",
    ]
    if len(groups) > 1:
        lines += ["", f"The same scores by {_grouping(card)}:", "", *groups]
    return "\n".join(lines)


def _tried(entry: dict[str, Any]) -> dict[str, Any]:
    """What else a score was taken with: a diameter of the ladder, or one per group."""
    found = entry.get("diameter")
    if isinstance(found, dict):
        return {"diameter": ", ".join(f"{value:g} ({group})" for group, value in found.items())}
    return {} if found is None else {"diameter": f"{found:g}"}


def _grouping(card: dict[str, Any]) -> str:
    """How the images of a card's strata were told apart."""
    said = {entry["small"] for entry in card["val"] if "small" in entry}
    return f"group of images (small: {', '.join(said)})" if said else "group of images"


def _head(first: str) -> str:
    names = [*first.split(" | "), "F1@0.5", "F1@0.7", "F1@0.9"]
    return "| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|"


def _row(first: str, entry: dict[str, Any]) -> str:
    cells = []
    for f1 in entry["f1"].values():
        low, high = f1["interval"]
        cells.append(f"**{f1['value']:.3f}** ({low:.3f} to {high:.3f})")
    return f"| {first} | " + " | ".join(cells) + " |"


def _candidates(table: dict[str, Any]) -> str:
    """The candidates of a cross-validation, each with its best decode parameters."""
    rows = ["| candidate | best parameters | F1 at IoU 0.5, 0.7, 0.9 |", "|---|---|---|"]
    for name, candidate in table["candidates"].items():
        if "stopped" in candidate:
            rows.append(f"| {name} | stopped {candidate['stopped']} | see the card |")
            continue
        best = dict(candidate["f1"][0])
        figures = ", ".join(f"{f1:.3f}" for f1 in best.pop("f1"))
        rows.append(f"| {name} | {_named(best)} | {figures} |")
    return "\n".join(rows)


def _named(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in parameters.items() if value is not None)


def _read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
