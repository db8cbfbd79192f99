"""What one trial works with: its share of the pool, its budget, its students, the trainer, and the way back
to its recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from evaluator import kinds, requests
from evaluator.budget import Budget
from evaluator.requests import Refused
from evaluator.shelf import Shelf
from evaluator.trainer.model import StudentModel
from evaluator.trainer.trainer import Trainer
from evaluator.trial import SMOKE, SMOKE_ROWS, TrialRequest
from recipes.wire import Message

SMALLEST_POOL = 8


def request_seed(trial_seed: int, number: int) -> int:
    """The seed of a trial's k-th request, 63 bits."""
    return int(np.random.SeedSequence([trial_seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True, eq=False)
class Bench:
    """`kind`: the default kind of student. `pool` [n] int64: the rows of the testbed's pool that the recipe
    is given, `tokens` [n] float32 of each. `send` takes messages for the recipe.
    """

    request: TrialRequest
    trainer: Trainer
    kind: str
    send: Callable[[Message], None]
    pool: np.ndarray
    tokens: np.ndarray
    budget: Budget
    shelf: Shelf

    @classmethod
    def of(cls, request: TrialRequest, trainer: Trainer, kind: str, send: Callable[[Message], None]) -> Bench:
        """The bench of a trial that begins."""
        size = trainer.testbed.sizes["train"]
        smoke = request.purpose == SMOKE
        kept = min(SMOKE_ROWS, size) if smoke else max(SMALLEST_POOL, round(request.fidelity * size))
        pool = np.arange(size)
        if kept < size:
            pool = np.sort(np.random.default_rng([request.seed, 1]).permutation(size)[:kept])
        tokens = trainer.states.tokens("train")[pool]
        budget = Budget(trainer.testbed.profile, kind, int(tokens.sum()))
        return cls(request, trainer, kind, send, pool, tokens, budget, Shelf())

    def seed(self, number: int) -> int:
        """Of the recipe's `number`-th request."""
        return request_seed(self.request.seed, number)

    def default_model(self, fields: Mapping) -> StudentModel:
        """The testbed's model of the kind of student that a request names. Raises `Refused`."""
        return self.trainer.default(self._kind(fields))

    def _kind(self, fields: Mapping) -> str:
        kind = fields.get("student")
        if not isinstance(kind, str) or kind not in kinds.names():
            known = " or ".join(repr(name) for name in kinds.names())
            raise Refused(f"student must be {known}, got {kind!r}")
        return kind

    def model(self, fields: Mapping) -> StudentModel:
        """The model that a request to train names: a kind's, or a head on layers of its own.

        Raises `Refused`.
        """
        kind = self._kind(fields)
        if fields.get("layers") is None:
            return self.trainer.default(kind)
        layers = requests.layer_numbers(fields["layers"], self.trainer.layers)
        size = requests.whole_number(fields, "hidden_size", 0, requests.MAX_HIDDEN_SIZE)
        return self.trainer.head(layers, size, requests.flag(fields, "standardise"))

    def template(self, fields: Mapping) -> tuple[int, bool]:
        """The template that a request names, and whether swapped. Raises `Refused`."""
        count = len(self.trainer.testbed.templates)
        return requests.whole_number(fields, "template", 0, count - 1), requests.flag(fields, "swap")

    def template_with_prior(self, fields: Mapping) -> tuple[int, bool]:
        """As `template`, of one that the strong model can answer zero-shot. Raises `Refused`."""
        template, swap = self.template(fields)
        if not self.trainer.states.has_prior(template):
            raise Refused(
                "this strong model, or this template, has no zero-shot prior; see task.has_prior",
                "NotAvailable",
            )
        return template, swap
