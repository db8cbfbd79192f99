"""Between the store and the evaluator: a trial is run once, and what it gave is on record before it is acted
upon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluator.trial import TrialRequest
from population.individual import Individual
from population.store import Store
from population.tables.asked import TrialKey
from population.trial import FailedTrial, SuccessfulTrial, Trial

if TYPE_CHECKING:  # a report that only reads a store does without torch
    from evaluator.evaluator import Evaluator, Result

TRY_FIDELITY = 0.25
"""The share of the training pool on which operators try what they may submit."""


@dataclass(frozen=True)
class Candidate:
    """A recipe to be tried, and on whose account."""

    source: str
    source_hash: str
    island: int | None = None
    generation: int | None = None
    operator: str | None = None

    @classmethod
    def of(cls, one: Individual, operator: str | None = None) -> Candidate:
        """An individual to be tried on the account of `operator`, by default the one that made it."""
        return cls(one.source, one.source_hash, one.island, one.generation, operator or one.operator)


class TrialRunner:
    """The trials of a search on one testbed, as the phase that is under way may know them.

    What a phase decides depends on trials that committed phases asked for, and on those that it has asked for
    itself, in its own order. Others may be on record: of this phase before it was interrupted, or of an audit
    that a person made. They aren't run again, and count from the moment that they are asked for.
    """

    def __init__(
        self, store: Store, evaluator: Evaluator, on_trial: Callable[[Trial], None] = lambda trial: None
    ) -> None:
        self._store = store
        self._evaluator = evaluator
        self._on_trial = on_trial
        self._known: dict[str, list[Trial]] = {}
        self._questions: set[object] | None = None
        self._asked: set[TrialKey] = set(store.asked.all())
        self._own: list[TrialKey] = []

    @property
    def evaluator(self) -> Evaluator:
        return self._evaluator

    @property
    def testbed(self) -> str:
        return self._evaluator.testbed.content_hash

    def of(self, source_hash: str) -> list[Trial]:
        """A recipe's trials that have been asked for, by seed."""
        return [
            trial
            for trial in self._on_record(source_hash)
            if self._key(source_hash, trial.seed) in self._asked
        ]

    def ensure(self, candidates: Iterable[Candidate], seeds: Sequence[int]) -> None:
        """Ask for trials. Those that are not on record yet are run; each is recorded, with what it cost, as
        it ends.
        """
        wanted: dict[tuple[str, int], Candidate] = {}
        for candidate in candidates:
            known = {trial.seed for trial in self._on_record(candidate.source_hash)}
            for seed in seeds:
                if seed not in known:
                    wanted.setdefault((candidate.source_hash, seed), candidate)
                key = self._key(candidate.source_hash, seed)
                if key not in self._asked:
                    self._asked.add(key)
                    self._own.append(key)
        self._run(
            {TrialRequest(candidate.source, seed): candidate for (_, seed), candidate in wanted.items()}
        )

    def commit(self, phase: str) -> None:
        """The phase ends: put on record what it asked for. To be called in the transaction that ends it."""
        self._store.asked.commit(phase, self._own)
        self._own = []

    def one(self, candidate: Candidate, seed: int, fidelity: float) -> Trial:
        """One trial at any fidelity, run where it isn't on record yet."""
        key = TrialKey(candidate.source_hash, self.testbed, seed, fidelity)
        known = self._store.trials.get(*key)
        if known is None:
            self._run({TrialRequest(candidate.source, seed, fidelity): candidate})
            known = self._store.trials.get(*key)
        if known is None:
            raise RuntimeError(f"{key} was run and is not on record")
        return known

    def _on_record(self, source_hash: str) -> list[Trial]:
        if source_hash not in self._known:
            self._known[source_hash] = self._store.trials.of(source_hash, self.testbed, 1.0)
        return self._known[source_hash]

    def _key(self, source_hash: str, seed: int) -> TrialKey:
        return TrialKey(source_hash, self.testbed, seed, 1.0)

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
        if self._questions is None:
            self._questions = {
                entry.detail.get("trial")
                for entry in self._store.ledger.all()
                if entry.kind == "grader_questions"
            }
        if key not in self._questions:
            self._store.ledger.add("grader_questions", 1, **_account(candidate), detail={"trial": key})
            self._questions.add(key)

    def _record(self, result: Result, candidate: Candidate) -> None:
        trial = on_record(result, self.testbed)
        account = _account(candidate)
        with self._store.transaction():
            if result.ok:
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
    outcome, request = result.outcome, result.request
    common: dict[str, Any] = {
        "source_hash": request.source_hash,
        "testbed": testbed,
        "seed": request.seed,
        "fidelity": request.fidelity,
        "tokens": outcome.tokens,
        "seconds": outcome.seconds,
        "history": outcome.history,
    }
    if not result.ok:
        return FailedTrial(reason=result.outcome.reason, message=result.outcome.message, **common)
    return SuccessfulTrial(
        accuracy=result.accuracy,
        pgr=result.pgr,
        members=result.outcome.members,
        pool=result.outcome.pool,
        **common,
    )
