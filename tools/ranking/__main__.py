"""The experiment behind the ranking: ``docs/ranking.json`` and the tables of ``docs/ranking.md``.

    python tools/ranking --data DATA --out OUT [--workers 2] [--fit]

DATA is a folder with ``dsb2018`` (BBBC038v1) and ``bbbc039`` (both CC0). Asked is what a person
loses who takes the variant that is ranked first: F1 of the truly best variant less that of the
first, objects pooled over the images of a project. The program itself sweeps the images (78
variants of six families, and one deliberately bad one of each), the sweeps and tables stay
in OUT so that interrupted work goes on. Constants are those of the groups of images that a
project is not of (for medium and U2OS, which are alike, of neither). ``--fit`` writes those of
all groups into the program, and how the images look that its networks learned from.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import study
from looks import Looks, cautioned, fit_looks, load_looks, make_looks, unlike_images
from projects import GROUPS, MODES, Draw, draws, groups_of
from sweeps import SETS, TRAINING, UNLIKE, make_projects, sweep
from tables import Table, Variants, load, make_tables
from unlike import warnings_of, warnings_on

from opsef_bridge.compare.appearance import learned
from opsef_bridge.compare.sizes import size_bins
from opsef_bridge.files import write_json

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "ranking.json"
CONSTANTS = ROOT / "opsef_bridge" / "compare" / "agreement_constants.json"
LEARNED = CONSTANTS.with_name("appearance_constants.json")
RANKINGS = ("random", "plain", "family", "equal", "agreement")
ALIKE = {"medium": ("medium", "U2OS"), "U2OS": ("medium", "U2OS")}


def main() -> None:
    """Parse the command line and do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder for sweeps and tables")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--draws", type=int, default=96, help="projects of each mode")
    parser.add_argument("--fit", action="store_true", help="write the constants too")
    given = parser.parse_args()
    _make(given.data, given.out, given.workers)
    tables, variants = load(given.out / "tables" / "fluorescence")
    groups = groups_of(tables)
    fitting = list(draws(groups, variants, 12, seed=1))
    fits = {
        group: study.fit(
            fitting, [g for g in GROUPS if g not in ALIKE.get(group, (group,))], study.shipped()
        )
        for group in GROUPS
    }
    every = study.fit(fitting, GROUPS, study.shipped())
    if given.fit:
        source = f"python tools/ranking --fit: dsb2018 val and bbbc039, {len(tables)} images"
        write_json(CONSTANTS, {**every, "source": source, "data_sha256": checksum(given.data)})
        made = fit_looks(given.out / TRAINING, given.out / "tables" / TRAINING)
        of_data = checksum(given.data, ["dsb2018/train"])
        write_json(LEARNED, {**made, "data_sha256": of_data})
        learned.cache_clear()
    looks = load_looks(given.out / "tables" / "fluorescence")
    before = {table.name: table for table in tables}
    projects = list(draws(groups, variants, given.draws, seed=0))
    result = {
        "images": {name: len(found) for name, found in groups.items()},
        "variants": len(variants.names),
        "families": len(set(variants.families)),
        "constants": {group: fits[group]["expected_f1"] for group in GROUPS},
        **random_projects(projects, fits, looks),
        "named": named(groups, variants, fits, every),
        **asked(
            [p for p in projects if p.mode in ("full", "random", "mostwrong", "onegood")], fits
        ),
        "learned": {key: learned()[key] for key in ("contrast_from", "edge_to")},
        "unlike": [
            *(
                warnings_of(name, images, variants, looks, fits[name], before, given.draws)
                for name, images in groups.items()
            ),
            *(
                warnings_on(given.out / "tables" / name, every, before, given.draws)
                for name in UNLIKE
            ),
        ],
    }
    write_json(DOCS, _rounded(result))
    print(f"wrote {DOCS}")


def _make(data: Path, out: Path, workers: int) -> None:
    """Do the sweeps, tables and looks that are not done yet."""
    last = {name: out / "tables" / name / "looks.json" for name in (*SETS, TRAINING)}
    if all(file.is_file() for file in last.values()):
        return
    make_projects(data, out)
    for name, file in last.items():
        if file.is_file():
            continue
        sweep(out / name, workers)
        file.parent.mkdir(parents=True, exist_ok=True)
        if name != TRAINING:
            make_tables(data, out / name, file.parent)
        make_looks(out / name, file.parent)


def checksum(data: Path, folders: Sequence[str] = ("dsb2018/val", "bbbc039")) -> str:
    """sha256 over names and content of the images and labels of a fit."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted((data / folder).rglob("*.*")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def random_projects(projects: Sequence[Draw], fits: dict[str, Any], looks: Looks) -> dict[str, Any]:
    """Mean regret of each ranking by mode; what more than the plain mean they lose."""
    frame = pd.DataFrame([study.regrets(p, fits[p.group]) for p in projects])
    columns = [name + end for end in ("", "_07") for name in RANKINGS]
    by_mode = frame.groupby("mode")[columns].mean().reindex(list(MODES))
    worst = frame.loc[frame["agreement"].idxmax(), ["mode", "group", "agreement", "ef", "f1"]]
    bad = frame["f1"] < 0.8
    warned = frame["ef"] < 0.9
    seen = [
        ([image.name for image in project.images], first)
        for project, first in zip(projects, frame["first"], strict=True)
    ]
    pictures = np.array([cautioned(looks, names, first) for names, first in seen])
    odd = sum(len(unlike_images(looks, names, first)) for names, first in seen)
    return {
        "projects": len(frame),
        "regret": _rounded(by_mode.T.to_dict()),
        "mean": _rounded(frame[columns].mean().to_dict()),
        "p90": _rounded(frame[columns].quantile(0.9).to_dict()),
        "by_group": _rounded(frame.groupby("group")[columns].mean().T.to_dict()),
        "at_most_.02": _rounded({name: float((frame[name] <= 0.02).mean()) for name in RANKINGS}),
        "agreement_less_others": {
            end or "05": study.intervals(
                frame.rename(columns={f"agreement{end}": "ours"}),
                [name + end for name in RANKINGS[1:-1]],
                "ours",
            )
            for end in ("", "_07")
        },
        "worst": {key: v if isinstance(v, str) else round(v, 3) for key, v in worst.items()},
        "warned": {
            "bad_choices": int(bad.sum()),
            "of_them_warned": int((bad & warned).sum()),
            "good_choices_warned": int((~bad & warned).sum()),
            "of_them_pictures": int((bad & pictures).sum()),
            "of_them_either": int((bad & (warned | pictures)).sum()),
            "good_choices_pictures": int((~bad & pictures).sum()),
            "images_unlike": odd / sum(len(names) for names, _ in seen),
        },
    }


def named(
    groups: dict[str, list[Table]],
    variants: Variants,
    fits: dict[str, Any],
    every: dict[str, Any],
) -> dict[str, Any]:
    """Regrets on whole groups and on all images; there also by size."""
    every_variant, families = np.arange(len(variants.names)), variants.families.tolist()
    found = {
        name: study.regrets(Draw("named", name, images, every_variant, families), fits[name])
        for name, images in groups.items()
    }
    images = [image for many in groups.values() for image in many]
    mixed = [image for name, many in groups.items() if name != "U2OS" for image in many]
    for name, many in (("all", images), ("dsb mixed", mixed)):
        whole = Draw("named", name, many, every_variant, families)
        found[name] = {**study.regrets(whole, every), "by_size": by_size(whole, every)}
    for values in found.values():
        del values["first"]
    return {name: _rounded(values) for name, values in found.items()}


def by_size(draw: Draw, constants: dict[str, Any]) -> float:
    """F1 where each bin of sizes, which are found without truth, has its own first variant."""
    bins = size_bins(study.sizes(draw, constants))
    hits = objects = 0
    for number in sorted(set(bins)):
        images = [i for i, b in zip(draw.images, bins, strict=True) if b == number]
        first, _ = study.first_of(replace(draw, images=images), constants)
        for image in images:
            hits += int(np.count_nonzero(image.found[:, first] >= 0.5))
            objects += len(image.truth_area) + int(np.diff(image.start)[first])
    return 2 * hits / objects


def asked(projects: Sequence[Draw], fits: dict[str, Any]) -> dict[str, Any]:
    """Regret after answers, and what low support finds."""
    some = [p for number, p in enumerate(projects) if number % 4 == number // 96 % 4][:96]
    answers = pd.DataFrame(
        [study.questions(p, fits[p.group], 20, seed) for p in some for seed in range(2)]
    )
    errors = pd.DataFrame([study.errors_found(p, fits[p.group]) for p in some])
    errors["group"] = [p.group for p in some]
    mean = errors.groupby("group")[["auroc", "least", "any"]].mean()
    return {
        "answers": _rounded({str(k): float(answers[k].mean()) for k in (0, 1, 3, 5, 10, 20)}),
        "answers_p90": _rounded({str(k): float(answers[k].quantile(0.9)) for k in (0, 5, 10, 20)}),
        "errors": _rounded(mean.T.to_dict()),
        "errors_mean": _rounded(errors[["auroc", "least", "any"]].mean().to_dict()),
    }


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return round(float(values), 4) if isinstance(values, (float, np.floating)) else values


if __name__ == "__main__":
    main()
