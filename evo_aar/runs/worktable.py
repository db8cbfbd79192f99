"""A run's own evaluator for commands that work on a search after it has stopped: reports and audits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluator.evaluator import Evaluator
from evaluator.sandbox.levels import Level
from evaluator.workers import stop_workers
from evo_aar.errors import UsageError
from evo_aar.machine.places import cache_folder
from evo_aar.search.settings import SearchSettings
from evo_aar.machine.testbeds import prepared
from population.store import Store


@contextmanager
def evaluator_of(
    store: Store, settings: SearchSettings, folder: Path, *, workers: int, device: str, level: Level
) -> Iterator[Evaluator]:
    """An evaluator on the run's testbed; its workers end with the block.

    Raises `UsageError` where the testbed is another one by now.
    """
    path = prepared(settings.testbed, strong=settings.strong, weak=settings.weak)
    evaluator = Evaluator(
        path,
        cache=cache_folder(),
        spool=folder / "spool",
        workers=workers,
        kind=settings.student,
        device=device,
        level=level,
    )
    expected = store.facts["testbed_hash"]
    if evaluator.testbed.content_hash != expected:
        raise UsageError(
            f"the testbed {settings.testbed} is now {evaluator.testbed.content_hash}, but run {folder.name}"
            f" was begun on {expected}. Restore the files or the version that it was begun with."
        )
    try:
        yield evaluator
    finally:
        stop_workers()
