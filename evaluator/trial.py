"""A trial: one recipe, one seed, one fidelity. What is asked of the evaluator, and what comes back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from recipes.source import source_hash

SCORE, SEALED, SMOKE, EXPLORE = "score", "sealed", "smoke", "explore"
SMOKE_ROWS = 32


@dataclass(frozen=True)
class TrialRequest:
    """`fidelity` is the fraction of the training pool that the recipe is given.

    `purpose`: SCORE, to be graded on the fitness split; SEALED, on the sealed one, for a search's report
    alone; SMOKE, on 32 rows with random labels, to see whether the recipe holds together; EXPLORE, on the
    training pool, for what it prints. SMOKE and EXPLORE have no predictions, and are asked for with
    `Evaluator.run_ungraded`.
    """

    source: str
    seed: int
    fidelity: float = 1.0
    purpose: str = SCORE

    @property
    def source_hash(self) -> str:
        return source_hash(self.source)

    @property
    def split(self) -> str:
        """The split that the trial is graded on."""
        return "sealed" if self.purpose == SEALED else "fitness"

    def key(self, testbed_hash: str) -> str:
        """Names the trial on a testbed by content."""
        facts = [
            self.source_hash,
            self.seed,
            self.fidelity,
            testbed_hash,
            *([SEALED] if self.purpose == SEALED else []),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


@dataclass(frozen=True, kw_only=True)
class _Ended:
    """What is to be told of every trial that has ended.

    `tokens` were trained and forwarded; `seconds` is the trial's share of its worker's wall-clock time;
    `history` lists every training's logged steps; `output` is the beginning of what the recipe printed.
    """

    tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    output: str = ""


@dataclass(frozen=True, kw_only=True)
class Success(_Ended):
    """The recipe returned a student, which answered.

    `fitness` [m, 2], on the split that the trial is graded on, and `pool` [n] (P of class 1), on the training
    pool, are the student's probabilities; `members`: how many students answer as one.
    """

    ok: ClassVar[Literal[True]] = True
    reason: ClassVar[None] = None
    message: ClassVar[None] = None
    fitness: np.ndarray
    pool: np.ndarray
    members: int = 1


@dataclass(frozen=True, kw_only=True)
class Failure(_Ended):
    """It ended without a student, or with one that has no use: a `reason` (one word) and a `message`.

    It has no predictions.
    """

    ok: ClassVar[Literal[False]] = False
    fitness: ClassVar[None] = None
    pool: ClassVar[None] = None
    members: ClassVar[int] = 1
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Ungraded(_Ended):
    """It came to its end, and nobody asked for predictions: a trial to SMOKE or EXPLORE."""

    ok: ClassVar[Literal[True]] = True
    reason: ClassVar[None] = None
    message: ClassVar[None] = None
    fitness: ClassVar[None] = None
    pool: ClassVar[None] = None
    members: ClassVar[int] = 1


Outcome: TypeAlias = Success | Failure
"""How a trial ended in the trainer, before the grader has seen it; `ok` tells which."""
Look: TypeAlias = Ungraded | Failure
"""How a trial ended that nobody grades."""
