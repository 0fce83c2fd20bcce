"""Compare variants: agreement without truth, and what a person decides from."""

from __future__ import annotations

from opsef_bridge.compare.agreement import (
    ImageSupport,
    agreement,
    image_support,
    pairwise_f1,
    score,
    support,
)

__all__ = ["ImageSupport", "agreement", "image_support", "pairwise_f1", "score", "support"]
