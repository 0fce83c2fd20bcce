"""Train the StarDist network for purple-stained tissue: ``he-stardist.onnx`` and its card.

    python tools/train_he_stardist.py --data DSB2018 --out OUT --loo   # score, mosaics left out
    python tools/train_he_stardist.py --data DSB2018 --out OUT         # train and export

DSB2018 is a folder with ``manifest.csv``, ``train`` and ``other``, each with ``images`` and
``labels`` (BBBC038v1, CC0). There are 17 tiles of stained tissue of 6 mosaics, too few for a
network, so it learns the shapes of nuclei first: from fluorescence that is made to look
stained. The grey bright-field images are left out: the engine gives a network of three
samples no grey image, and smears of cells are another thing than tissue.

With ``--loo`` each mosaic is scored by networks that have not seen it (``OUT/loo.json``).
What is trained stays in OUT, so that interrupted work goes on. One thread; the same data,
steps and versions give the same weights.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.stardist import Decode, Predict, StarDist
from opsef_bridge.files import atomic_path, file_sha256, key_of, read_json, write_json
from opsef_bridge.images import read_image
from opsef_bridge.train.card import describe_data
from opsef_bridge.train.choice import RULE, choose, leave_one_out, pooled_entry
from opsef_bridge.train.colour import StainAugmentation, read_colour_samples, stained
from opsef_bridge.train.data import Sample, checksum, read_samples
from opsef_bridge.train.score import count_matches
from opsef_bridge.train.stardist import Settings, StarDistModule, export_onnx, fit, stardist_card

NAME = "he-stardist"
EXAMPLES = Path(__file__).parents[1] / "examples" / "data" / "origin.csv"
KINDS = ("he_purple_on_white", "he_purple_on_purple")

LIGHT = StainAugmentation(scale=(0.6, 1.6))
FIRST = Settings(steps=1500, augmentation=LIGHT)
TISSUE = Settings(steps=600, rate=4e-3, seed=1, augmentation=replace(LIGHT, scale=(0.6, 2.0)))
CANDIDATES = {"after fluorescence": (FIRST, TISSUE)}
"""Stages of training, each from where the one before ended: the last on tissue, those before
it on stained fluorescence. Nuclei of one mosaic have ten times the area of those of another,
so the scale varies more than that of the grey network."""
SCALES = (1.0, 0.5, 2.0)
AXES = {"prob": (0.4, 0.5, 0.6), "nms": (0.3, 0.4, 0.5)}
FIXED = {"scale": 1.0, "prob": 0.5, "nms": 0.3}
"""Those of nuclei-stardist, fixed beforehand."""
USEFUL = 0.6
"""Least F1 at IoU 0.5 on purple on white, mosaics left out, of a network worth shipping."""
NOTES = (
    "Its scores are leave-one-mosaic-out on 6 mosaics of one image set, 3 of each kind: a "
    "rough estimate. What other stains, scanners and tissues give is not known.",
    "The networks behind the scores saw 5 mosaics each; the file has seen 4, because the bundled "
    "tissue images and their mosaics were left out. Its own scores on these two stand beside.",
    "Two more candidates, one with a second stage on fluorescence and one on tissue alone, were "
    "begun and stopped after two mosaics and after one: their scores were not looked at.",
    "By the same rule grey engines behind the recipe invert give F1 at IoU 0.5 and 0.7: on "
    "purple on white nuclei-cellpose .74 and .52, watershed .73 and .48 (this network .77 "
    "and .42); on purple on purple nuclei-fpn2ws .74 and .55 (this network .53 and .23). So "
    "it finds nuclei on white about as well and draws them more roughly, and is the worse "
    "choice on purple.",
    "Takes colour images only; grey bright-field images were not learned.",
    "Same data, versions and machine give the same weights; other CPUs round differently.",
)


@dataclass(frozen=True)
class Data:
    """What is learned from and judged on."""

    grey: list[Sample]
    tissue: list[Sample]
    kinds: dict[str, str]
    """Kind of each mosaic of tissue."""
    bundled: frozenset[str]
    """Mosaics of tissue of which an image is bundled."""
    left_out: list[str]
    """Bundled images and others of their fields."""


def main() -> None:
    """Parse the command line and run one of the two parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of DSB2018")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--loo", action="store_true", help="score with each mosaic left out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    (score_loo if options.loo else train)(options.data, options.out)


def read_data(folder: Path) -> Data:
    """Read fluorescence and tissue, and what of both is bundled."""
    rows = list(_rows(folder / "manifest.csv"))
    groups = {row["file"]: row["mosaic_group"] for row in rows}
    tissue_rows = [row for row in rows if row["kind"] in KINDS and row["set"].endswith("other")]
    kinds = {row["mosaic_group"]: row["kind"] for row in tissue_rows}
    bundled = {Path(row["image"]).stem.rsplit("_", 1)[-1] for row in _rows(EXAMPLES)}
    fields = {groups[name] for name in bundled if name in groups}
    grey = read_samples(folder / "train", groups, without=fields)
    tissue = read_colour_samples(
        folder / "other", {row["file"]: row["mosaic_group"] for row in tissue_rows}
    )
    sets = ("train", "other")
    inside = {p.stem for part in sets for p in (folder / part / "images").glob("*.png")}
    left_out = sorted(name for name in inside if groups.get(name, name) in fields)
    return Data(grey, tissue, kinds, frozenset(fields & set(kinds)), left_out)


def trained(
    data: Data, stages: Sequence[Settings], tissue: Sequence[Sample], out: Path, name: str
) -> Path:
    """Return the file of the network trained by `stages`; train it unless it is there."""
    key = key_of([asdict(stage) for stage in stages], checksum([*data.grey, *tissue]))
    path = out / "networks" / f"{name}-{key[:12]}.onnx"
    if path.exists():
        return path
    start = on_fluorescence(data, stages[:-1], out)
    print(path.name, flush=True)
    network = fit(tissue, stages[-1], progress(stages[-1].steps), start=start)
    export_onnx(network, stages[-1], path)
    return path


def on_fluorescence(data: Data, stages: Sequence[Settings], out: Path) -> StarDistModule | None:
    """Return the network that has gone through `stages` on stained fluorescence only."""
    if not stages:
        return None
    key = key_of([asdict(stage) for stage in stages], checksum(data.grey))
    path = out / "networks" / f"fluorescence-{key[:12]}.pt"
    s = stages[-1]
    if not path.exists():
        start = on_fluorescence(data, stages[:-1], out)
        print(path.name, flush=True)
        found = fit([stained(sample) for sample in data.grey], s, progress(s.steps), start=start)
        with atomic_path(path) as partial:
            torch.save(found.state_dict(), partial)
    network = StarDistModule(s.rays, s.width, s.depth, s.features, s.channels)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network


def score_loo(folder: Path, out: Path) -> None:
    """Score every mosaic by networks that have not seen it."""
    data = read_data(folder)
    counts: dict[str, Any] = {}
    for name, stages in CANDIDATES.items():
        counts[name] = {}
        for mosaic in sorted(data.kinds):
            rest = [sample for sample in data.tissue if sample.group != mosaic]
            held = [sample for sample in data.tissue if sample.group == mosaic]
            slug = f"{name.replace(' ', '-')}-without-{mosaic}"
            path = trained(data, stages, rest, out, slug)
            counts[name][mosaic] = count_all(path, stages, held, folder)
        write_json(out / "loo.json", {"kinds": data.kinds, "counts": counts})
        fixed = tables_of(counts)[f"{name}, {named(**FIXED)}"]
        print(name, *by_kind(fixed, data.kinds).items(), sep="\n", flush=True)


def count_all(
    path: Path, stages: Sequence[Settings], samples: Sequence[Sample], folder: Path
) -> dict[str, list[list[int]]]:
    """Return counts of matches, images pooled, of the engine at every scale and threshold."""
    card = stardist_card(NAME, stages, {}, file_sha256(path))
    engine = StarDist()
    engine.load(Weights(NAME, "stardist", path, card["sha256"], card))
    images = [read_image(folder / "other" / "images" / f"{s.name}.png").data for s in samples]
    found = {}
    for scale in SCALES:
        raws = [engine.predict(image, Predict(scale=scale)) for image in images]
        for prob, nms in product(*AXES.values()):
            labels = (engine.decode(raw, Decode(prob=prob, nms=nms)) for raw in raws)
            pairs = zip((s.labels for s in samples), labels, strict=True)
            found[named(scale, prob, nms)] = count_matches(pairs).sum(axis=0).tolist()
    return found


def named(scale: float, prob: float, nms: float) -> str:
    """Return the name of a choice."""
    return f"scale {scale:g}, prob {prob:g}, nms {nms:g}"


def tables_of(counts: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Turn candidate -> mosaic -> choice -> counts into choice -> mosaic -> counts."""
    return {
        f"{name}, {choice}": {mosaic: np.array(found[choice]) for mosaic, found in mosaics.items()}
        for name, mosaics in counts.items()
        for choice in next(iter(mosaics.values()))
    }


def by_kind(table: dict[str, np.ndarray], kinds: dict[str, str]) -> dict[str, Any]:
    """Return pooled scores of mosaic -> counts: of all, of each kind, of each mosaic."""
    groups = {"all": sorted(kinds)}
    groups |= {kind: [m for m in sorted(kinds) if kinds[m] == kind] for kind in KINDS}
    scores = {
        name: pooled_entry(np.stack([table[m] for m in mosaics]))
        for name, mosaics in groups.items()
        if mosaics
    }
    return scores | {"mosaics": {m: f1_of(table[m]) for m in sorted(kinds)}}


def f1_of(counts: np.ndarray) -> dict[str, float]:
    """Return F1 by IoU, without an interval: there is none of one mosaic."""
    return {iou: found["value"] for iou, found in pooled_entry(counts[None])["f1"].items()}


def train(folder: Path, out: Path) -> None:
    """Train without the bundled mosaics, export, score on these, and write the card."""
    started = time.perf_counter()
    data = read_data(folder)
    tables = tables_of(read_json(out / "loo.json")["counts"])
    at_one = {choice: table for choice, table in tables.items() if ", scale 1," in choice}
    best = choose(at_one, sorted(data.kinds))
    name, _, at = best.partition(", ")
    stages = CANDIDATES[name]
    tissue = [sample for sample in data.tissue if sample.group not in data.bundled]
    made = trained(data, stages, tissue, out, NAME)
    path = out / f"{NAME}.onnx"
    with atomic_path(path) as partial:
        partial.write_bytes(made.read_bytes())
    about = {"set": "dsb2018/train (stained) and dsb2018/other (BBBC038v1)"}
    about |= {"licence": "CC0-1.0", "left_out": data.left_out}
    about |= describe_data([*data.grey, *tissue])
    about["parts"] = {"fluorescence": describe_data(data.grey), "tissue": describe_data(tissue)}
    card = stardist_card(NAME, stages, about, file_sha256(path))
    card["licence"] = "BSD-3-Clause"
    card["seconds"] = round(time.perf_counter() - started)
    card["thresholds"] = thresholds_of(at)
    card["loo"] = leave_out(at_one, data)
    card["loo"]["this file"] = {
        mosaic: {"kind": data.kinds[mosaic], "f1": f1_of(np.array(counts[at]))}
        for mosaic in sorted(data.bundled)
        for held in [[sample for sample in data.tissue if sample.group == mosaic]]
        for counts in [count_all(path, stages, held, folder)]
    }
    card["notes"] = list(NOTES)
    card["val"] = []
    script = f"python tools/{Path(__file__).name} --data DSB2018 --out OUT"
    card["commands"] = [f"{script} --loo", script]
    write_json(out / f"{NAME}.json", card)
    white = card["loo"][KINDS[0]]["f1"]["0.5"]["value"]
    verdict = "worth shipping" if white >= USEFUL else "not worth shipping"
    print(f"F1@0.5 on {KINDS[0]}: {white} ({verdict} from {USEFUL})")


def leave_out(tables: dict[str, dict[str, np.ndarray]], data: Data) -> dict[str, Any]:
    """Return what the card says under ``loo``; the rule in words first."""
    order = sorted(data.kinds)
    counts, chosen = leave_one_out(tables, order)
    candidates = {}
    for name in CANDIDATES:
        at = f"{name}, {named(**FIXED)}"
        if at in tables:
            candidates[name] = {"at": named(**FIXED), **by_kind(tables[at], data.kinds)}
    return {
        "rule": "each mosaic by networks that were trained without it; candidate and "
        f"thresholds are those with the {RULE}; scale 1",
        **by_kind(dict(zip(order, counts, strict=True)), data.kinds),
        "chosen": chosen,
        "candidates": candidates,
        "this file": {},
    }


def thresholds_of(choice: str) -> dict[str, float]:
    """Return prob and nms of a choice's name."""
    found = dict(part.split() for part in choice.split(", "))
    return {name: float(found[name]) for name in ("prob", "nms")}


def progress(steps: int) -> Callable[[int, float], None]:
    """Print every 50th step with the mean loss since the last and the time left."""
    started, losses = time.perf_counter(), []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % 50 == 0 or step == steps:
            left = (time.perf_counter() - started) / step * (steps - step)
            print(f"{step:5d}/{steps}  loss {np.mean(losses):.3f}  {left:4.0f} s left", flush=True)
            losses.clear()

    return report


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


if __name__ == "__main__":
    main()
