"""Score stained tissue and bright field: ``docs/other.json``, leave-one-mosaic-out.

    python tools/score_other.py --data DSB2018 --out OUT [--loo LOO.json]

DSB2018 is a folder with ``manifest.csv`` and ``other`` (BBBC038v1, CC0). Asked is what a user
gets without a network for tissue: every shipped engine for grey images, behind three recipes,
at three scales (Cellpose: diameters), all else at its defaults, holes filled. For each mosaic
the engine, recipe and scale are taken that are best on the other mosaics; scores are pooled.
LOO.json, of ``tools/train_he_stardist.py --loo``, adds the network for tissue by the same rule.

Counts stay in OUT, so that interrupted work goes on and new weights cost only their own
passes. One thread.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from opsef_bridge.engines import Engine, Weights, engine_class, list_weights
from opsef_bridge.engines.registry import SHIPPED
from opsef_bridge.files import read_json, write_json
from opsef_bridge.images import read_image, read_labels, to_grey
from opsef_bridge.postprocess import clean
from opsef_bridge.preprocess import apply_recipe
from opsef_bridge.train.choice import RULE, choose, leave_one_out, pooled_entry
from opsef_bridge.train.score import count_matches

DOCS = Path(__file__).parents[1] / "docs" / "other.json"
TISSUE = ("he_purple_on_white", "he_purple_on_purple")
KINDS = {"tissue": TISSUE, **{kind: (kind,) for kind in (*TISSUE, "brightfield")}}
"""What is pooled, and the kinds in it."""

RECIPES: dict[str, list[Any]] = {
    "raw": [],
    "invert": [{"invert": {}}],
    "bright-field": [{"invert": {}}, {"clahe": {"tiles": 8, "clip": 0.01}}],
}
"""Those of a new project, and the first step of its last."""
SCALES = {"scale": (0.5, 1.0, 2.0), "diameter": (12.0, 22.0, 45.0)}

Table = dict[str, dict[str, np.ndarray]]
"""Choice to mosaic to counts, (thresholds, 3)."""


def main() -> None:
    """Parse the command line, count what is not counted yet, and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of DSB2018")
    parser.add_argument("--out", type=Path, required=True, help="folder for the counts")
    parser.add_argument("--loo", type=Path, help="scores of the network for tissue")
    parser.add_argument("--docs", type=Path, default=DOCS, help="file for the scores")
    options = parser.parse_args()
    rows = [row for row in _rows(options.data / "manifest.csv") if row["set"].endswith("/other")]
    counts, weights = count_all(options.data, rows, options.out / "other-counts.json")
    loo = read_json(options.loo) if options.loo else None
    write_json(options.docs, report(rows, counts, weights, loo))
    print(options.docs)


def grey_weights() -> list[Weights]:
    """Return watershed and the shipped weights for grey planes, by name, the slow ones last."""
    shipped = [weights for weights in list_weights() if weights.path.parent == SHIPPED]
    grey = [w for w in shipped if w.card.get("input", {}).get("axes", "YX") == "YX"]
    return [Weights("", "watershed"), *sorted(grey, key=lambda w: w.engine == "cellpose")]


def count_all(
    data: Path, rows: Sequence[Mapping[str, str]], file: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return counts of matches by choice and image, and the sha256 of each weights.

    Parameters
    ----------
    data : path
    rows : sequence
        Of the manifest.
    file : path
        Where the counts stay. Those of a choice belong to a file of weights and a version of
        the engine.
    """
    known = read_json(file) if file.exists() else {}
    counts, used = {}, {}
    images = {row["file"]: _grey(data, row["file"]) for row in rows}
    truths = {
        name: read_labels(data / "other" / "labels" / f"{name}.tif").astype(np.int32)
        for name in images
    }
    for weights in grey_weights():
        engine = engine_class(weights.engine)()
        who = weights.name or weights.engine
        used[who] = weights.sha256
        loaded = False
        for recipe, how in choices(engine):
            choice = f"{who}, {recipe}, {' '.join(f'{k} {v:g}' for k, v in how.items())}"
            key = f"{choice}; {engine.version} {weights.sha256[:12]}"
            if key not in known:
                if not loaded and engine.needs_weights:
                    engine.load(weights)
                    loaded = True
                known[key] = _count(engine, images, truths, RECIPES[recipe], how)
                write_json(file, known)
                print(choice, flush=True)
            counts[choice] = known[key]
    return counts, used


def choices(engine: Engine) -> Iterator[tuple[str, dict[str, float]]]:
    """Give what is tried with an engine: name of a recipe, parameters of the pass."""
    size = next(name for name in SCALES if name in engine.Predict.model_fields)
    for recipe in RECIPES:
        for value in SCALES[size]:
            yield recipe, {size: value}


def _grey(data: Path, name: str) -> np.ndarray:
    image = read_image(data / "other" / "images" / f"{name}.png")
    return to_grey(image.data) if image.axes == "YXS" else image.data


def _count(
    engine: Engine,
    images: Mapping[str, np.ndarray],
    truths: Mapping[str, np.ndarray],
    recipe: list[Any],
    how: Mapping[str, float],
) -> dict[str, list[list[int]]]:
    """Return counts of one choice, image by image."""
    found = {}
    for name, image in images.items():
        raw = engine.predict(apply_recipe(image, recipe), engine.Predict(**how))
        labels = clean(engine.decode(raw, engine.Decode()), fill_holes=True)
        found[name] = count_matches([(truths[name], labels)])[0].tolist()
    return found


def report(
    rows: Sequence[Mapping[str, str]],
    counts: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, str],
    loo: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what docs/other.json holds."""
    mosaic_of = {row["file"]: row["mosaic_group"] for row in rows}
    tables: Table = {choice: _by_mosaic(found, mosaic_of) for choice, found in counts.items()}
    tissue = tissue_tables(loo["counts"]) if loo else {}
    scores = {}
    for name, kinds in KINDS.items():
        inside = [row for row in rows if row["kind"] in kinds]
        mosaics = sorted({row["mosaic_group"] for row in inside})
        found = {"any of these": scored(tables, mosaics)}
        for who in weights:
            own = {c: table for c, table in tables.items() if c.startswith(f"{who}, ")}
            found[who] = scored(own, mosaics)
        if set(kinds) <= set(TISSUE):
            for who, table in tissue.items():
                found[who] = scored(table, mosaics)
        about = {"images": len(inside), "mosaics": len(mosaics)}
        about["objects"] = sum(int(row["instances"]) for row in inside)
        scores[name] = {**about, "scores": found}
    script = f"python tools/{Path(__file__).name} --data DSB2018 --out OUT"
    first = "python tools/train_he_stardist.py --data DSB2018 --out OUT --loo"
    return {
        "about": "Stained tissue and bright field of dsb2018/other (BBBC038v1, CC0), by mosaic",
        "rule": f"What is chosen for a mosaic has the {RULE}",
        "tried": "recipes "
        + ", ".join(RECIPES)
        + "; "
        + "; ".join(f"{name} {', '.join(f'{v:g}' for v in vs)}" for name, vs in SCALES.items()),
        "commands": [first, f"{script} --loo OUT/loo.json"] if loo else [script],
        "weights": dict(weights),
        "kinds": scores,
    }


def scored(tables: Table, mosaics: Sequence[str]) -> dict[str, Any]:
    """Return scores of a set of choices on some mosaics.

    ``hindsight`` is the choice that is best on the scored mosaics themselves: not to be had
    without their truth.
    """
    counts, chosen = leave_one_out(tables, mosaics)
    best = choose(tables, mosaics)
    behind = pooled_entry(np.stack([tables[best][mosaic] for mosaic in mosaics]))
    return {
        **pooled_entry(counts),
        "chosen": chosen,
        "hindsight": {"choice": best, "f1": {t: f["value"] for t, f in behind["f1"].items()}},
    }


def tissue_tables(counts: Mapping[str, Mapping[str, Any]]) -> dict[str, Table]:
    """Turn the counts of LOO.json (candidate, mosaic, choice) into the tables to choose from."""
    every = {
        f"{name}, {choice}": {mosaic: np.array(found[choice]) for mosaic, found in mosaics.items()}
        for name, mosaics in counts.items()
        for choice in next(iter(mosaics.values()))
    }
    at_one = {choice: table for choice, table in every.items() if ", scale 1," in choice}
    return {"he-stardist, scale 1": at_one, "he-stardist, any scale": every}


def _by_mosaic(found: Mapping[str, Any], mosaic_of: Mapping[str, str]) -> dict[str, np.ndarray]:
    pooled: dict[str, np.ndarray] = {}
    for name, counts in found.items():
        mosaic = mosaic_of[name]
        pooled[mosaic] = pooled.get(mosaic, 0) + np.array(counts)
    return pooled


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


if __name__ == "__main__":
    main()
