"""What all tests share: an example that hypothesis draws may take its time on a busy machine.

Where ``CI`` is set hypothesis has a profile of its own, which has no deadline either.
"""

from __future__ import annotations

import os

from hypothesis import settings

if not os.environ.get("CI"):
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")
