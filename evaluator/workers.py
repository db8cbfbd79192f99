"""Worker processes, kept from one call to the next: joblib's loky executor."""

from __future__ import annotations

import warnings

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.reusable_executor import _ReusablePoolExecutor

IDLE_SECONDS = 600

# loky replaces a worker that has grown by some hundred megabytes, as one does that loads a model; its next
# call begins with a load.
warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given", category=UserWarning)

_running: list[_ReusablePoolExecutor] = []


def workers_executor(workers: int) -> _ReusablePoolExecutor:
    """An executor of this many processes; the same one, and the same processes, as long as the
    number stays.
    """
    _running[:] = [get_reusable_executor(max_workers=workers, timeout=IDLE_SECONDS)]
    return _running[0]


def stop_workers() -> None:
    """End the worker processes at once, whatever they are at; what they had spooled is kept."""
    # Not by asking loky for its executor: for another number of workers than it has, it would wait for their
    # work to be done.
    while _running:
        _running.pop().shutdown(wait=True, kill_workers=True)
