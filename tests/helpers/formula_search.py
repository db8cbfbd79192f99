"""Searches whose trials are scored by a formula: the real search, store, operator and finals without a
trainer, in a second, so that one can be killed at each of its commits.
"""

import hashlib
import os
import signal
from types import SimpleNamespace

import numpy as np

from evaluator.evaluator import Scored, Unscored
from evaluator.trial import Failure, Success
from evo_aar.operators.offline import OfflineOperator
from evo_aar.search import finals
from evo_aar.search.planning import Surroundings
from evo_aar.search.search import Search
from evo_aar.search.seeds import fresh_seeds, search_seeds
from evo_aar.search.settings import SearchSettings
from evo_aar.search.trials import TrialRunner
from population.database import Database
from population.store import Store
from population.tables.integrity import Audit

TESTBED = "f0rmu1a"
ROWS = 16


class FormulaEvaluator:
    """A recipe is worth what its source's hash says, more or less by seed; one in nine fails."""

    testbed = SimpleNamespace(content_hash=TESTBED, name="formula")

    def evaluate(self, requests, on_question=lambda request: None):
        for request in requests:
            on_question(request)
            yield self._result(request)

    def forget(self, request):
        pass

    def _result(self, request):
        own = np.random.default_rng(int(hashlib.sha256(request.source_hash.encode()).hexdigest()[:8], 16))
        worth, fails, rows = own.normal(0.4, 0.1), own.random() < 1 / 9, own.random(ROWS)
        if fails:
            return Unscored(request, Failure(reason="exception", message="it broke", tokens=5, seconds=0.1))
        luck = np.random.default_rng([request.seed, int(worth * 1e9) % 2**32]).normal(0, 0.1)
        pool = np.clip(rows + luck / 20, 0, 1).astype(np.float32)
        outcome = Success(fitness=np.stack([1 - pool, pool], 1), pool=pool, tokens=10, seconds=0.1)
        return Scored(request, outcome, 0.6 + worth / 4, float(worth + luck), pool > 0.5)


class FormulaAuditor:
    """Fails three recipes in five.

    Like the real one it asks for trials first, and puts its verdict on record.
    """

    def __init__(self, store, trials, settings):
        self._store, self._trials, self._settings = store, trials, settings

    def audit(self, candidate):
        seeds = search_seeds(self._settings.seed, self._settings.seeds)
        self._trials.ensure([candidate], [*seeds, *fresh_seeds(self._settings.seed, 3)])
        found = self._store.audits.of(candidate.source_hash, TESTBED)
        if not found:
            verdict = "fail" if int(candidate.source_hash[:6], 16) % 5 > 1 else "pass"
            found = [Audit(candidate.source_hash, TESTBED, "formula", verdict, None, None, None, "so it is")]
            self._store.audits.record(found[0])
        return found


def settings(seed=0):
    return SearchSettings(
        testbed="formula",
        islands=3,
        population=2,
        children=3,
        generations=4,
        seeds=3,
        migrate_every=2,
        final_seeds=2,
        seed=seed,
    )


def run_to_the_end(path, seed=0):
    """Begin or resume the search at `path`, and run it to the end of its finals."""
    own = settings(seed)
    facts = {"testbed_hash": TESTBED}
    store = Store.open(path) if path.exists() else Store.create(path, own.to_json(), facts)
    with store:
        trials = TrialRunner(store, FormulaEvaluator())
        surroundings = Surroundings(layers=(1, 2), has_prior=True)
        search = Search(store, own, OfflineOperator(), trials, surroundings)
        while not search.done:
            search.step()
        if finals.crowned(store) is None:
            finals.run(store, own, trials, FormulaAuditor(store, trials, own))


def outcome(path):
    """The fingerprint, and what the ledger counts."""
    with Store.open(path, writable=False) as store:
        spent = {kind: round(amount, 6) for kind, amount in store.ledger.totals().items()}
        return store.fingerprint(), spent, len(store.trials)


def in_a_process(path, seed=0, kill_at=None):
    """Run it in a fork of this process, killed with -9 right before its `kill_at`-th commit from now.

    Returns the number of commits of a process that came to its end, None for one that was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0
        transaction = Database.transaction

        def counted(self):
            nonlocal count
            if self._owner is None:
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return transaction(self)

        Database.transaction = counted
        try:
            run_to_the_end(path, seed)
            os.write(writing, str(count).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    status = os.waitpid(child, 0)[1]
    assert said or os.WTERMSIG(status) == signal.SIGKILL, "the search failed"
    return int(said) if said else None
