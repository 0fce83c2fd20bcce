"""What agreement costs beside the segmentation that it ranks.

    python benchmarks/bench_agreement.py PROJECT [--run RUN]

PROJECT holds a sweep that was done on a quiet machine: its outcomes say what the segmentation
took. Label images are read first; then all variants are compared and ranked, once, on one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from opsef_bridge.compare import compare_images, ranked
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project
from opsef_bridge.sweep.planned import Plan


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--run")
    given = parser.parse_args()
    run = Project(given.project).run(given.run)
    plan, outcomes = Plan.from_json(run.plan()), run.outcomes()
    families = [variant.family for variant in plan.variants]
    fine = {(o["image"], o["variant"]) for o in outcomes if o["status"] != "failed"}
    compared, spent, objects = [], 0.0, 0
    compare_images([])  # compiled code is not what is measured
    for image in plan.images:
        labels = [
            read_labels(run.label_file(v.id, image.id)) if (image.id, v.id) in fine else None
            for v in plan.variants
        ]
        start = time.perf_counter()
        compared.append(compare_images(labels))
        spent += time.perf_counter() - start
        objects += sum(len(numbers) for numbers in compared[-1].labels)
    start = time.perf_counter()
    ranked(compared, families)
    spent += time.perf_counter() - start
    segmented = sum(float(o["seconds"]) for o in outcomes)
    print(f"{len(families)} variants, {len(plan.images)} images, {objects} objects")
    print(
        f"segmentation {segmented:.1f} s, agreement {spent:.2f} s: {100 * spent / segmented:.1f} %"
    )


if __name__ == "__main__":
    main()
