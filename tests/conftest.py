"""What all tests share: an example that hypothesis draws may take its time on a busy machine,
and a test may interrupt itself.

Where ``CI`` is set hypothesis has a profile of its own, which has no deadline either.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Who starts the tests in the background of a shell has Ctrl-C ignored, by all processes that the
# tests start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if not os.environ.get("CI"):
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """Have Python answer Ctrl-C: the package ``stardist``, which tests compare with, keeps it for
    itself after its first volume.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
