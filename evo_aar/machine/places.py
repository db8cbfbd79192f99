"""What the machine offers: where runs and caches lie, and how many workers it has room for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from evo_aar.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def cache_folder() -> Path:
    """EVO_AAR_CACHE, or the user's cache folder."""
    return Path(os.environ.get("EVO_AAR_CACHE") or platformdirs.user_cache_dir("evo-aar"))


def run_folder(runs: Path, name: str) -> Path:
    """The folder of a run. Raises `UsageError` for a name that is no plain file name."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--run {name!r}: a run's name has letters, digits, '.', '_' and '-' alone, 64 at most, and"
            " begins with a letter or digit."
        )
    return runs / name


def store_path(folder: Path) -> Path:
    """The one file that is the truth of a search."""
    return folder / "search.sqlite"


def tracking_uri(runs: Path) -> str:
    """MLflow's database for all runs of a folder."""
    return f"sqlite:///{(runs / 'mlflow.db').absolute()}"


def default_workers() -> int:
    """As many workers as there are processors to use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
