"""Write docs/configuration.md and docs/models.md from the code and the model cards.

Usage: python tools/write_docs.py [--check]

With --check nothing is written; the exit code says whether the files are up to date.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from opsef_bridge.config import Compare, Config, Images, Segment, Sweep
from opsef_bridge.engines import engine_class, engine_names, list_weights
from opsef_bridge.postprocess import Postprocess
from opsef_bridge.preprocess import DEFAULT_ORDER, STEPS

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

### sweep

{sweep}

### compare

{compare}

### postprocess

{postprocess}

## preprocess: the steps

A recipe is an ordered list of steps: `even: [{{white_tophat: {{radius: 50}}}}, {{clahe: {{}}}}]`.
Any order works; where there is no reason for another, this one is good:
{order}.

{steps}

## models: the engines

An entry of `models` names an `engine`, its `weights` where it takes any, and values of its
parameters. Parameters of the *pass* cost a new network pass for every value; those that only
*decode* do not.

{engines}
"""

MODELS = """\
# The weights that come along

*Written by `tools/write_docs.py` from the model cards.*

{models}
"""


def main() -> int:
    texts = {"configuration.md": configuration(), "models.md": models()}
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
    sections = {"config": Config, "images": Images, "segment": Segment, "sweep": Sweep}
    sections |= {"compare": Compare, "postprocess": Postprocess}
    return CONFIGURATION.format(
        **{name: _table(model) for name, model in sections.items()},
        order=", ".join(f"`{name}`" for name in DEFAULT_ORDER),
        steps="\n".join(_step(name) for name in DEFAULT_ORDER),
        engines="\n".join(_engine(name) for name in engine_names()),
    )


def models() -> str:
    """Return docs/models.md."""
    return MODELS.format(models="\n".join(_card(weights.card) for weights in list_weights()))


def _step(name: str) -> str:
    step = STEPS[name]
    text = inspect.getdoc(step.function) or ""
    head = text.split("\n\nParameters\n")[0]
    return f"### {name}\n\n{head}\n\n{_table(step.Parameters)}\n"


def _engine(name: str) -> str:
    engine = engine_class(name)
    text = (inspect.getdoc(engine) or "").split("\n\nParameters\n")[0]
    axes = ", ".join(sorted(engine.axes))
    return (
        f"### {name}\n\n{text}\n\nImages: {axes}.\n\nPass:\n\n{_table(engine.Predict)}\n\n"
        f"Decode:\n\n{_table(engine.Decode)}\n"
    )


def _table(model: type[BaseModel]) -> str:
    """A table of the fields of a model: name, values, default, meaning."""
    if not model.model_fields:
        return "No parameters."
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        default = field.get("default", "needed" if name in schema.get("required", ()) else "")
        shown = "" if isinstance(default, (dict, list)) and name != "source" else f"`{default}`"
        meaning = " ".join(field.get("description", "").split())
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
        "- recipe: " + ", ".join(f"{k} {v}" for k, v in recipe.items() if not isinstance(v, dict)),
        "- versions: " + ", ".join(f"{k} {v}" for k, v in card["versions"].items()),
    ]
    lines += [f"- licence of the weights: {card['licence']}"] if "licence" in card else []
    lines += [f"- {note}" for note in card.get("notes", ())]
    lines += ["", "Made and scored by:", "", "```sh", *card.get("commands", ()), "```"]
    lines += ["", "Scores on val, every one that was ever taken, in order:", "", _scores(card)]
    if isinstance(card.get("cv"), dict):
        lines += ["", f"Cross-validation ({card['cv']['rule']}):", "", _candidates(card["cv"])]
    return "\n".join(lines) + "\n"


def _scores(card: dict[str, Any]) -> str:
    """The val scores of a card: F1 at each IoU with its interval."""
    if not card.get("val"):
        return "none"
    thresholds = list(card["val"][0]["f1"])
    rows = ["| parameters | " + " | ".join(f"F1@{t}" for t in thresholds) + " |"]
    rows.append("|---" * (len(thresholds) + 1) + "|")
    for entry in card["val"]:
        cells = [_named(entry.get("decode", {}) | entry.get("predict", {}))]
        for threshold in thresholds:
            f1 = entry["f1"][threshold]
            low, high = f1["interval"]
            cells.append(f"**{f1['value']:.3f}** ({low:.3f} to {high:.3f})")
        rows.append("| " + " | ".join(cells) + " |")
    first = card["val"][0]
    return "\n".join(
        [*rows, "", f"{first['images']} images, {first['objects']} objects; {first['interval']}."]
    )


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
