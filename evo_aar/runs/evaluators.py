"""A run's own evaluators: on the testbed that it was begun on, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evaluator.evaluator import Evaluator
from evaluator.sandbox.levels import Level
from evaluator.workers import stop_workers
from evo_aar.errors import UsageError
from evo_aar.machine.places import cache_folder
from evo_aar.machine.testbeds import prepared
from evo_aar.search.settings import SearchSettings
from population.store import Store


@dataclass(frozen=True)
class Workplace:
    """Where and how recipes are run: outcomes travel through `spool`; `level`: of the sandbox."""

    spool: Path
    workers: int
    device: str
    level: Level


def require_same_testbed(store: Store, evaluator: Evaluator) -> None:
    """Raises `UsageError` where the evaluator's testbed is another one than the search was begun on."""
    found, expected = evaluator.testbed.content_hash, store.facts["testbed_hash"]
    if found != expected:
        raise UsageError(
            f"the testbed {store.settings['testbed']} is now {found}, but run {store.path.parent.name} was"
            f" begun on {expected}. Restore the files or the version that it was begun with."
        )


def begin_evaluator(store: Store, settings: SearchSettings, place: Workplace) -> Evaluator:
    """An evaluator on the run's testbed. Raises `UsageError` where that is another one by now."""
    path = prepared(settings.testbed, strong=settings.strong, weak=settings.weak)
    evaluator = evaluator_on(path, settings, place)
    require_same_testbed(store, evaluator)
    return evaluator


def evaluator_on(testbed: Path, settings: SearchSettings, place: Workplace) -> Evaluator:
    """An evaluator on a prepared testbed."""
    return Evaluator(
        testbed,
        cache=cache_folder(),
        spool=place.spool,
        workers=place.workers,
        kind=settings.student,
        device=place.device,
        level=place.level,
    )


@contextmanager
def evaluator_of(store: Store, settings: SearchSettings, place: Workplace) -> Iterator[Evaluator]:
    """As `begin_evaluator`, for a command that works on a search after it has stopped: its workers end with
    the block.
    """
    evaluator = begin_evaluator(store, settings, place)
    try:
        yield evaluator
    finally:
        stop_workers()
