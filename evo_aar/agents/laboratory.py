"""Where operators try things before a child is born: smoke runs, a few lines of Python, low-fidelity trials.

Safe to use from several threads.
"""

from __future__ import annotations

import textwrap
import threading
from collections import defaultdict

from evaluator.evaluator import Evaluator
from evaluator.trial import EXPLORE, SMOKE, Look, TrialRequest
from evo_aar.search.operator import OperatorContext
from evo_aar.search.seeds import try_seed
from evo_aar.search.trials import TRY_FIDELITY, Candidate, TrialRunner
from population.store import Store
from population.trial import Trial

_WRAPPED = '''"""What an operator looks at."""
import numpy as np
import torch


async def recipe(task):
{body}
'''


class Laboratory:
    """Runs on the search's own evaluator, in the sandbox of recipes. `seed`: the search's."""

    def __init__(self, evaluator: Evaluator, store: Store, trials: TrialRunner, seed: int) -> None:
        self._evaluator = evaluator
        self._store = store
        self._trials = trials
        self._seed = try_seed(seed)
        self._busy: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def smoke(self, source: str, context: OperatorContext) -> Look:
        """A run on 32 rows with random labels: does it hold together? Nothing is graded."""
        return self._look(TrialRequest(source, self._seed, purpose=SMOKE), context)

    def explore(self, code: str, context: OperatorContext) -> Look:
        """A few lines of Python on the whole training pool, as the body of a recipe whose student nobody asks
        for.
        """
        body = textwrap.indent(textwrap.dedent(code).strip("\n"), "    ")
        return self._look(
            TrialRequest(_WRAPPED.format(body=f"{body}\n    return None"), self._seed, purpose=EXPLORE),
            context,
        )

    def _look(self, request: TrialRequest, context: OperatorContext) -> Look:
        outcome = self._evaluator.run_ungraded(request)
        account = {"island": context.island, "generation": context.generation, "operator": request.purpose}
        self._store.ledger.add("compute_seconds", outcome.seconds, **account)
        return outcome

    def try_out(self, source: str, digest: str, context: OperatorContext) -> Trial:
        """A graded trial on a part of the training pool, on record as any other."""
        candidate = Candidate(source, digest, context.island, context.generation, "try")
        with self._busy[digest]:  # two islands may come to one recipe
            return self._trials.one(candidate, self._seed, TRY_FIDELITY)
