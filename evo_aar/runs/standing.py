"""Runs as they lie in a folder: which there are, and how far each has come.

Opened for reading alone, beside a search that runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evo_aar.errors import UsageError
from evo_aar.machine.places import run_folder, store_path
from evo_aar.search.audits import quarantined
from evo_aar.search.settings import SearchSettings
from population.fitness import Fitness
from population.lock import is_locked
from population.store import Store

RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"


@dataclass(frozen=True)
class Standing:
    """How far a run has come.

    `state`: running (a process has it open for writing), finished, or stopped (it can be resumed).
    """

    state: str
    generations: int
    individuals: int
    trials: int
    spent: dict[str, float]

    @classmethod
    def of(cls, store: Store, settings: SearchSettings) -> Standing:
        """The standing of an open store."""
        last = store.generations.last()
        ended = last is not None and last.number >= settings.generations
        finished = ended and (
            bool(store.generations.fates(kind="crowned")) or _nobody_to_crown(store, settings)
        )
        state = RUNNING if is_locked(store.path) else FINISHED if finished else STOPPED
        return cls(
            state, len(store.generations), len(store.individuals), len(store.trials), store.ledger.totals()
        )


def _nobody_to_crown(store: Store, settings: SearchSettings) -> bool:
    """Whether every recipe is quarantined, has failed, or was raced out."""
    barred, testbed = quarantined(store), store.facts["testbed_hash"]
    for one in store.individuals.all():
        if one.id not in barred and one.source_hash not in barred:
            fitness = Fitness.of(store.trials.of(one.source_hash, testbed, 1.0))
            if fitness is not None and fitness.trials >= settings.seeds:
                return False
    return True


def existing(runs: Path, name: str) -> Path:
    """The path of a run's store. Raises `UsageError` where there is no such run."""
    path = store_path(run_folder(runs, name))
    if not path.exists():
        raise UsageError(
            f"there is no run {name!r} in {runs}. Runs there: {', '.join(names(runs)) or 'none'}."
        )
    return path


@contextmanager
def opened(runs: Path, name: str, *, writable: bool = False) -> Iterator[tuple[Store, SearchSettings]]:
    """A run's store, for reading or to append to, and its settings.

    Raises `UsageError` where there is no such run, `StoreError` where it is damaged, `StoreInUse` where
    another process has it open to append to.
    """
    with Store.open(existing(runs, name), writable=writable) as store:
        yield store, SearchSettings.from_json(store.settings)


def names(runs: Path) -> list[str]:
    """The names of the runs in a folder."""
    return (
        sorted(path.parent.name for path in runs.glob(f"*/{store_path(runs).name}")) if runs.is_dir() else []
    )


def how_to_resume(runs: Path, name: str) -> str:
    """The command that goes on with a run."""
    return f"evo-aar resume {name} --runs {runs}"
