"""Between the store and the evaluator: a trial is run once, and what it gave is on record before it is acted
upon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluator.trial import TrialRequest
from population.individual import FAILED, OK, Trial
from population.store import Store

if TYPE_CHECKING:  # a report that only reads a store does without torch
    from evaluator.evaluator import Evaluator, Result

FRESH, FINAL, SEALED, TRY = 1_000, 100_000, 300_000, 999_999
SPAN = 1_000_000
TRY_FIDELITY = 0.25
"""The share of the training pool on which operators try what they may submit."""


def search_seeds(seed: int, count: int) -> list[int]:
    """Seeds that every recipe of a search is tried on, so that trials are paired."""
    return [seed * SPAN + k for k in range(count)]


def fresh_seeds(seed: int, count: int) -> list[int]:
    """Seeds on which an elite is tried again before it migrates or is crowned."""
    return [seed * SPAN + FRESH + k for k in range(count)]


def final_seeds(seed: int, count: int) -> list[int]:
    """Seeds that nothing was selected on."""
    return [seed * SPAN + FINAL + k for k in range(count)]


def sealed_seeds(seed: int, opening: int, count: int) -> list[int]:
    """Seeds for the `opening`-th opening of the sealed split, which nothing was tried on before."""
    return [seed * SPAN + SEALED + opening * FRESH + k for k in range(count)]


def try_seed(seed: int) -> int:
    """The seed of operators' own trials, which decide nothing."""
    return seed * SPAN + TRY


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

    def __init__(
        self, store: Store, evaluator: Evaluator, on_trial: Callable[[Trial], None] = lambda trial: None
    ) -> None:
        self._store = store
        self._evaluator = evaluator
        self._on_trial = on_trial
        self._known: dict[str, list[Trial]] = {}
        self._asked: set[str] | None = None

    @property
    def evaluator(self) -> Evaluator:
        return self._evaluator

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
        self._run(
            {TrialRequest(candidate.source, seed): candidate for (_, seed), candidate in wanted.items()}
        )

    def one(self, candidate: Candidate, seed: int, fidelity: float) -> Trial:
        """One trial at any fidelity, run where it isn't on record yet."""
        known = self._store.trials.get(candidate.source_hash, self.testbed, seed, fidelity)
        if known is None:
            self._run({TrialRequest(candidate.source, seed, fidelity): candidate})
        return self._store.trials.get(candidate.source_hash, self.testbed, seed, fidelity)

    def _run(self, wanted: dict[TrialRequest, Candidate]) -> None:
        if not wanted:
            return
        for result in self._evaluator.evaluate(
            list(wanted), on_question=lambda trial: self._enter_question(trial, wanted[trial])
        ):
            self._record(result, wanted[result.request])

    def _enter_question(self, request: TrialRequest, candidate: Candidate) -> None:
        """On the ledger before it is asked; one that a crash has kept from being recorded is the same
        question when it is asked again.
        """
        key = request.key(self.testbed)
        if self._asked is None:
            self._asked = {
                entry.detail.get("trial")
                for entry in self._store.ledger.all()
                if entry.kind == "grader_questions"
            }
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
        self._evaluator.forget(result.request)
        self._on_trial(trial)


def _account(candidate: Candidate) -> dict:
    return {"island": candidate.island, "generation": candidate.generation, "operator": candidate.operator}


def on_record(result: Result, testbed: str) -> Trial:
    """A result as a search would have it on record."""
    outcome = result.outcome
    return Trial(
        source_hash=result.request.source_hash,
        testbed=testbed,
        seed=result.request.seed,
        fidelity=result.request.fidelity,
        status=OK if outcome.ok else FAILED,
        reason=outcome.reason,
        message=outcome.message,
        accuracy=result.accuracy,
        pgr=result.pgr,
        members=outcome.members,
        tokens=outcome.tokens,
        seconds=outcome.seconds,
        history=outcome.history,
        pool=outcome.pool,
    )
