"""Between the store and the evaluator: a trial is run once, and what it gave is on record before it is acted upon."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluator.trial import Trial as Request
from population.individual import FAILED, OK, Trial
from population.store import Store

if TYPE_CHECKING:  # a report that only reads a store does without torch
    from evaluator.evaluator import Evaluator, Result

FRESH, FINAL = 1_000, 100_000
SPAN = 1_000_000


def search_seeds(seed: int, count: int) -> list[int]:
    """Seeds that every recipe of a search is tried on, so that trials are paired."""
    return [seed * SPAN + k for k in range(count)]


def fresh_seeds(seed: int, count: int) -> list[int]:
    """Seeds on which an elite is tried again before it migrates or is crowned."""
    return [seed * SPAN + FRESH + k for k in range(count)]


def final_seeds(seed: int, count: int) -> list[int]:
    """Seeds that nothing was selected on."""
    return [seed * SPAN + FINAL + k for k in range(count)]


@dataclass(frozen=True)
class Candidate:
    """A recipe to be tried, and on whose account."""

    source: str
    source_hash: str
    island: int | None = None
    generation: int | None = None
    operator: str | None = None


class Trials:
    """All trials of a search on one testbed."""

    def __init__(self, store: Store, evaluator: Evaluator, on_trial: Callable[[Trial], None] = lambda trial: None) -> None:
        self._store = store
        self._evaluator = evaluator
        self._on_trial = on_trial
        self._known: dict[str, list[Trial]] = {}
        self._asked: set[str] | None = None

    @property
    def testbed(self) -> str:
        return self._evaluator.testbed.content_hash

    def of(self, source_hash: str) -> list[Trial]:
        """A recipe's trials on record, by seed."""
        if source_hash not in self._known:
            self._known[source_hash] = self._store.trials.of(source_hash, self.testbed, 1.0)
        return self._known[source_hash]

    def ensure(self, candidates: Iterable[Candidate], seeds: Sequence[int]) -> None:
        """Run the trials that are not on record yet; each is recorded, with what it cost, as it ends."""
        wanted: dict[tuple[str, int], Candidate] = {}
        for candidate in candidates:
            known = {trial.seed for trial in self.of(candidate.source_hash)}
            for seed in seeds:
                if seed not in known:
                    wanted.setdefault((candidate.source_hash, seed), candidate)
        requests = [Request(candidate.source, seed) for (_, seed), candidate in wanted.items()]
        if not requests:
            return

        def asked(trial: Request) -> None:
            self._enter_question(trial, wanted[trial.source_hash, trial.seed])

        for result in self._evaluator.evaluate(requests, on_question=asked):
            self._record(result, wanted[result.trial.source_hash, result.trial.seed])

    def _enter_question(self, request: Request, candidate: Candidate) -> None:
        """On the ledger before it is asked; one that a crash has kept from being recorded is the same question when it is asked again."""
        key = request.key(self.testbed)
        if self._asked is None:
            self._asked = {entry.detail.get("trial") for entry in self._store.ledger.all() if entry.kind == "grader_questions"}
        if key not in self._asked:
            self._store.ledger.add("grader_questions", 1, **_account(candidate), detail={"trial": key})
            self._asked.add(key)

    def _record(self, result: Result, candidate: Candidate) -> None:
        trial = on_record(result, self.testbed)
        account = _account(candidate)
        with self._store.transaction():
            if trial.ok:
                self._store.correctness.record(trial, result.correct)
            if self._store.trials.record(trial):
                self._store.ledger.add("trainer_tokens", trial.tokens, **account)
                self._store.ledger.add("compute_seconds", trial.seconds, **account)
        self._known.pop(candidate.source_hash, None)
        self._evaluator.forget(result.trial)
        self._on_trial(trial)


def _account(candidate: Candidate) -> dict:
    return {"island": candidate.island, "generation": candidate.generation, "operator": candidate.operator}


def on_record(result: Result, testbed: str) -> Trial:
    """A result as a search would have it on record."""
    outcome = result.outcome
    return Trial(
        source_hash=result.trial.source_hash,
        testbed=testbed,
        seed=result.trial.seed,
        fidelity=result.trial.fidelity,
        status=OK if outcome.ok else FAILED,
        reason=outcome.reason,
        message=outcome.message,
        accuracy=result.accuracy,
        pgr=result.pgr,
        tokens=outcome.tokens,
        seconds=outcome.seconds,
        history=outcome.history,
        pool=outcome.pool,
    )
