"""Control which GPUs containers of this engine get during a test: simulated ones, or none."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers.required import unavailable
from tests.simgpu import host


@contextmanager
def no_gpus() -> Iterator[None]:
    """Keep other tests from adding simulated GPUs to this engine; skip if it has real ones."""
    if shutil.which("nvidia-container-runtime-hook"):
        unavailable("this engine gives containers real GPUs")
    with host._LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host._remove_leftovers()
        host._refuse_real_ones()
        yield
