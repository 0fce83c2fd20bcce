"""Compare variants: agreement without truth, and what a person decides from."""

from __future__ import annotations

from opsef_bridge.compare.agreement import agreement, pairwise_f1, ranked, score, support
from opsef_bridge.compare.votes import Compared, ImageSupport, compare_images, image_support

__all__ = [
    "Compared",
    "ImageSupport",
    "agreement",
    "compare_images",
    "image_support",
    "pairwise_f1",
    "ranked",
    "score",
    "support",
]
