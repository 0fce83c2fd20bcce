"""What correcting five images is worth: ``docs/corrections.json``, with its table in docs/train.md.

    python tools/corrections --data DATA --out OUT [--engine unet] [--seeds 0 1 2]

DATA is a folder with ``dsb2018`` (BBBC038v1) and ``bbbc039`` (both CC0). For each kind of images a
network learns from all others (``base``). Five images of the kind stand for what a person
corrected; from these, with the bundled images of other kinds to rehearse (``examples/data``), the
network is fine-tuned. Both are scored on the other images of the kind, no tile of a field that was
corrected among them, and on the ``val`` set without the kind. With ``--scratch`` a fresh network
learns from the same images, and the base in a quarter of the steps. What is done stays in OUT.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from opsef_bridge.compare.evaluate import Case, Evaluation, compare, evaluate
from opsef_bridge.engines import engine_class, find_weights, verify
from opsef_bridge.engines.base import Weights
from opsef_bridge.engines.memory import LoadedEngine
from opsef_bridge.engines.parameters import split_parameters, tuned
from opsef_bridge.engines.unet import prepare
from opsef_bridge.files import file_sha256, read_json, write_json
from opsef_bridge.images import read_image, read_labels, segment_plane
from opsef_bridge.train.card import describe_data
from opsef_bridge.train.data import Sample
from opsef_bridge.train.dataset_bundled import balanced
from opsef_bridge.train.learner import Learner, learner
from opsef_bridge.train.training import train
from opsef_bridge.train.transfer import FINER, fine_tuned
from opsef_bridge.train.tuning import Looked, tune

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "data"
DOCS = ROOT / "docs" / "corrections.json"

CORRECTED = 5
"""Images that a person corrects."""
THRESHOLDS = (0.5, 0.7, 0.9)
KINDS = ("tiny", "large", "U2OS", "tissue")
"""Nuclei of at most 150 px (median of the image) in fields of 256 x 256 px, nuclei of more than
1200 px, fields of 520 x 696 px (the screen of which BBBC039 is), stained tissue."""
BASE = {"unet": {"steps": 1000}, "stardist": {"steps": 1500}, "cellpose": {"steps": 600},
        "fpn2ws": {"steps": 700}, "maskrcnn": {"steps": 700}}  # fmt: skip
SCRATCH = 600
"""Steps of the fresh networks that a fine-tuning is held against; it has a quarter of them."""
HELD = 12
"""Images of other fields on which the thresholds of a base are chosen."""


@dataclass(frozen=True)
class Fine:
    """How a network is fine-tuned; by default as `opsef train run` does it.

    Parameters
    ----------
    steps : int
    rate : float
        Over that of a fresh network.
    """

    steps: int = 900
    rate: float = FINER

    def folder(self, above: Path) -> Path:
        """Return where its networks lie."""
        return above if self == Fine() else above / f"rate-{self.rate:g}-steps-{self.steps}"


@dataclass(frozen=True)
class Draw:
    """Five images of a kind that a person corrects, and what is scored: those of other fields.

    Parameters
    ----------
    engine, kind : str
    seed : int
        Of the choice, and of the training.
    how : Fine
    chosen, rest : list of Picture
    folder : Path
        For the networks of all draws of the kind.
    """

    engine: str
    kind: str
    seed: int
    how: Fine
    chosen: list[Picture]
    rest: list[Picture]
    folder: Path


@dataclass(frozen=True)
class Picture:
    """An image with labels, and of which kinds it is."""

    name: str
    image: np.ndarray
    labels: np.ndarray
    group: str
    kind: str
    part: str

    @property
    def sample(self) -> Sample:
        """As a network learns from it."""
        return Sample(self.name, prepare(self.image), self.labels, self.group, self.kind)

    @property
    def looked(self) -> Looked:
        """As an engine takes it."""
        return Looked(self.image, self.labels)


def main() -> None:
    """Parse the command line and do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and scores")
    parser.add_argument("--engine", default="unet")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=(0, 1, 2), help="each draws other five images"
    )
    parser.add_argument("--kinds", nargs="*", default=KINDS)
    parser.add_argument("--only-base", action="store_true")
    parser.add_argument("--rate", type=float, default=FINER, help="over that of a fresh network")
    parser.add_argument("--steps", type=int, default=Fine.steps, help="of the fine-tuning")
    parser.add_argument("--scratch", action="store_true", help="hold against fresh networks")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pictures = read_pictures(given.data)
    part, work = ("scratch", against_fresh) if given.scratch else ("rows", correct)
    fine = Fine(given.steps, given.rate)
    for kind in given.kinds:
        base = make_base(given.engine, kind, pictures, given.out / given.engine / kind / "base")
        if given.only_base:
            continue
        for seed in given.seeds:
            folder = fine.folder(given.out / given.engine / kind)
            chosen, rest = drawn(kind, seed, pictures)
            draw = Draw(given.engine, kind, seed, fine, chosen, rest, folder)
            row = work(draw, base, pictures)
            print(row, flush=True)
            _keep(part, row)


def _keep(part: str, row: dict[str, Any]) -> None:
    """Write a row into the figures of the documentation, in the place of an older one."""
    known = read_json(DOCS) if DOCS.is_file() else {}

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["engine"], KINDS.index(row["kind"]), row["rate"], row["steps"], row["seed"]

    others = [one for one in known.get(part, []) if place(one) != place(row)]
    told = sorted([*others, row], key=place)
    write_json(DOCS, known | {"corrected": CORRECTED, part: told})


def read_pictures(data: Path) -> list[Picture]:
    """Read all images; those bundled with the program are left out of what is scored."""
    with (EXAMPLES / "origin.csv").open(newline="", encoding="utf-8") as file:
        bundled = {Path(row["image"]).stem.split("_", 1)[1] for row in csv.DictReader(file)}
    pictures = []
    for folder in (data / "dsb2018", data / "bbbc039"):
        with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                name = row["file"]
                kind = _kind(row, folder.name)
                if name in bundled or not kind:
                    continue
                part = row.get("set", "").removeprefix("dsb2018/")
                place = folder / part
                (image,) = (place / "images").glob(f"{name}.*")
                labels = read_labels(place / "labels" / f"{name}.tif")
                plane = segment_plane(read_image(image))
                group = row.get("mosaic_group") or name
                pictures.append(Picture(name, plane, labels, group, kind, part))
    return pictures


def _kind(row: dict[str, str], folder: str) -> str:
    """Return of which kind an image is; of none that is learned from, the empty string."""
    if folder == "bbbc039" or (row["height"], row["width"]) == ("520", "696"):
        return "U2OS"
    if row["kind"].startswith("he_"):
        return "tissue"
    if row["kind"] != "fluo":
        return ""
    area = float(row["median_area"])
    if area <= 150:
        return "tiny" if row["height"] == "256" else "medium"
    return "large" if area > 1200 else "medium"


def make_base(engine: str, kind: str, pictures: Sequence[Picture], folder: Path) -> Weights:
    """Train a network on all that is not of the kind, with thresholds from fields left out."""
    card_file = folder / f"{engine}-base.json"
    if not card_file.is_file():
        learns = learner(engine)
        known = [p for p in pictures if p.part == "train" and p.kind not in (kind, "tissue")]
        fields = sorted({p.group for p in known})
        held = set(np.random.default_rng(0).permutation(fields)[:HELD])
        samples = [p.sample for p in known if p.group not in held]
        settings = replace(learns.Settings(), **BASE[engine])
        started = time.perf_counter()
        trained = train(learns, samples, settings, folder, every=100)
        print(engine, kind, "base", round(time.perf_counter() - started), "s", flush=True)
        rest = [p for p in known if p.group in held]
        _save(learns, trained.network, trained.settings, samples, rest, folder, f"{engine}-base")
    return _weights(card_file)


def correct(draw: Draw, base: Weights, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Fine-tune on five images of the kind and score both networks on the others."""
    old = [p for p in pictures if p.part == "val" and p.kind not in (draw.kind, "tissue")]
    started = time.process_time()
    fine = taught(draw, base, draw.how.steps, "fine")
    row = _begun(draw, draw.how.steps) | {
        "core_seconds": round(time.process_time() - started),
        "images": len(draw.rest),
        "old_images": len(old),
    }
    for where, images in (("kind", draw.rest), ("old", old)):
        scored = [_scored(weights, images) for weights in (base, fine)]
        for number, threshold in enumerate(THRESHOLDS):
            before, after = (float(s.pooled.f1.iloc[number]) for s in scored)
            row[f"{where}_{threshold}"] = [round(before, 4), round(after, 4)]
        gain = compare({"fine": scored[1], "base": scored[0]})
        row[f"{where}_interval"] = _interval(gain)
    return row


def against_fresh(draw: Draw, base: Weights, _: Sequence[Picture]) -> dict[str, Any]:
    """Train a fresh network, and in a quarter of its steps the base and the shipped weights.

    All are scored on the kind; the shipped ones on what they did not learn from.
    """
    steps = [SCRATCH, SCRATCH // 4]
    fresh = taught(draw, None, steps[0], "fresh")
    row = _begun(draw, steps)
    unseen = [p for p in draw.rest if p.part != "train"]
    starts = {"base": (base, draw.rest), "shipped": (find_weights(draw.engine, None, []), unseen)}
    for name, (start, images) in starts.items():
        fine = taught(draw, start, steps[1], name)
        scored = [_scored(weights, images) for weights in (fresh, fine, start)]
        f1 = {t: [round(float(s.pooled.f1.iloc[n]), 4) for s in scored]
              for n, t in enumerate(THRESHOLDS)}  # fmt: skip
        gain = compare({"fine": scored[1], "fresh": scored[0]})
        row[name] = {"images": len(images), "f1": f1, "interval": _interval(gain)}
    return row


def drawn(kind: str, seed: int, pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Return the images of a kind that are corrected, and those of other fields."""
    mine = [p for p in pictures if p.kind == kind]
    order = np.random.default_rng(seed).permutation(sorted({p.group for p in mine})).tolist()
    # Whole fields: what is left of one that was corrected would be too easy.
    chosen = sorted(mine, key=lambda p: (order.index(p.group), p.name))[:CORRECTED]
    fields = {p.group for p in chosen}
    return chosen, [p for p in mine if p.group not in fields]


def _begun(draw: Draw, steps: int | list[int]) -> dict[str, Any]:
    """Return what a row says of how it was measured."""
    return {
        "engine": draw.engine,
        "kind": draw.kind,
        "seed": draw.seed,
        "rate": draw.how.rate,
        "steps": steps,
    }


def taught(draw: Draw, base: Weights | None, steps: int, name: str) -> Weights:
    """Return the network that learned from the corrected images and rehearsed others.

    It goes on from `base`, or is a fresh one; thresholds are tuned on the corrected images.
    """
    folder = draw.folder / f"{name}-{draw.seed}"
    card_file = folder / f"{draw.engine}-{folder.name}.json"
    if card_file.is_file():
        return _weights(card_file)
    learns = learner(draw.engine)
    samples = balanced([p.sample for p in draw.chosen], rehearsal(draw.kind))
    settings, ways = replace(learns.Settings(), steps=steps, seed=draw.seed), {}
    if base is not None:
        settings = replace(fine_tuned(settings), rate=draw.how.rate * settings.rate)
        network, settings = learns.load(base, settings)
        ways = {"start": lambda: network, "origin": base.sha256}
    trained = train(learns, samples, settings, folder, every=50, **ways)
    _save(learns, trained.network, trained.settings, samples, draw.chosen, folder, card_file.stem)
    return _weights(card_file)


def rehearsal(kind: str) -> list[Sample]:
    """Return the bundled images of fluorescence that are not of the kind."""
    samples = []
    with (EXAMPLES / "origin.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            is_of = _kind(row, "bbbc039" if row["group"] == "u2os" else "dsb2018")
            if is_of in (kind, "tissue", ""):
                continue
            image = segment_plane(read_image(EXAMPLES / "images" / row["image"]))
            labels = read_labels(EXAMPLES / "labels" / f"{Path(row['image']).stem}.tif")
            samples.append(Sample(row["image"], prepare(image), labels, row["image"], is_of))
    return samples


def _save(
    learns: Learner,
    network: torch.nn.Module,
    settings: Any,
    samples: Sequence[Sample],
    images: Sequence[Picture],
    folder: Path,
    name: str,
) -> None:
    file = learns.save(network, settings, folder, name)
    card = learns.card(name, settings, describe_data(samples), file_sha256(file))
    write_json(folder / f"{name}.json", card)
    values = tune(_weights(folder / f"{name}.json"), [p.looked for p in images], device="cpu")
    write_json(folder / f"{name}.json", card | {"thresholds": values.values})


def _weights(card_file: Path) -> Weights:
    card = read_json(card_file)
    file = card_file.parent / card["file"]
    return Weights(card["name"], card["engine"], file, card["sha256"], card)


def _scored(weights: Weights, images: Sequence[Picture]) -> Evaluation:
    verify(weights)
    kind = engine_class(weights.engine)
    predict, decode = split_parameters(kind, tuned(kind, weights))
    loaded = LoadedEngine.open(kind, weights, "cpu")
    cases = (
        Case(p.name, p.labels, loaded.engine.decode(loaded.predict(p.image, predict), decode))
        for p in images
    )
    return evaluate(cases, THRESHOLDS)


def _interval(gain: Any) -> list[float] | None:
    """Return the 95 % interval of the gain in F1 at an IoU of 0.7; None of a single image."""
    row = gain[gain.threshold == 0.7].iloc[0]
    if row.images < 2:
        return None
    return [round(float(row[name]), 4) for name in ("low", "high")]


if __name__ == "__main__":
    main()
