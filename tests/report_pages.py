"""Report pages that are made up: more variants and images than the contact sheet shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opsef_bridge.compare.report import FIRST_ROWS, Drawing, Entry, Group, Page, Picture

__all__ = ["page_with"]

DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def page_with(
    shown: Sequence[str],
    unseen: Sequence[str] = (),
    verdicts: Sequence[Mapping[str, str]] = (),
    *,
    last: str = "v2000",
) -> Page:
    """Return a page of one group.

    Parameters
    ----------
    shown, unseen : sequence of str
        Ids of images with and without a column in the contact sheet.
    verdicts : sequence of mapping
        As those of `Group`.
    last : str
        Id of the variant that is ranked last and has no row in the sheet; the first is v1001.
    """
    ids = [f"v{1000 + number}" for number in range(1, FIRST_ROWS + 3)] + [last]
    entries = [
        Entry(
            rank=rank, id=id, slug=f"raw_{id}", caption=f"raw | {id}", family="f", recipe="raw",
            scale=1.0, parameters={}, knobs={}, object_px=12.0, objects=7, seconds=0.1,
            agreement=0.9, agreement_07=0.9, plain_mean=0.8, score=0.9, status="ok",
            snippet="models: {}\n",
        )
        for rank, id in enumerate(ids, start=1)
    ]  # fmt: skip
    outcomes = [
        {"image": image, "variant": id, "status": "ok", "objects": 7, "seconds": 0.1,
         "unit": "u0001", "code": "", "message": "", "hint": ""}
        for image in [*shown, *unseen]
        for id in ids
    ]  # fmt: skip
    pictures = [Picture(id, id, "64 x 64", (64, 64), DOT) for id in shown]
    drawings = {(image, id): Drawing(DOT, DOT) for image in shown for id in ids[:3]}
    group = Group("default", entries, pictures, outcomes, drawings, verdicts=verdicts)
    return Page("demo", "run-0001", "today", {}, [group], key="made-up")
