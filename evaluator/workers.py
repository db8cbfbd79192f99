"""Worker processes, kept from one call to the next: joblib's loky executor."""

from __future__ import annotations

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.reusable_executor import _ReusablePoolExecutor

IDLE_SECONDS = 600


def workers_executor(workers: int) -> _ReusablePoolExecutor:
    """An executor of this many processes; the same one, and the same processes, as long as the number stays."""
    return get_reusable_executor(max_workers=workers, timeout=IDLE_SECONDS)


def stop_workers() -> None:
    """End the worker processes at once; what they had spooled is kept."""
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
