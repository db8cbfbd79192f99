"""Trials: one recipe, one seed, one fidelity, on one testbed, and how it went.

A trial belongs to a recipe (its normalised source's hash), not to an individual: duplicates share trials, and
a source that its author withdrew keeps those it had. Failure is not a score: a failed trial has none to read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from population.errors import PopulationError
from population.jsontext import canonical, plain, printable

OK = "ok"
FAILED = "failed"


@dataclass(frozen=True, eq=False, kw_only=True)
class _Trial:
    """What every trial has.

    `testbed` is the testbed's content hash; `fidelity` in (0, 1]; `tokens` trained and forwarded; `seconds`
    of wall clock, which alone may differ when a trial is repeated; `history` the training curves.
    """

    source_hash: str
    testbed: str
    seed: int
    fidelity: float = 1.0
    tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._convert(seed=int, fidelity=float, tokens=int, seconds=float)
        _set(self, "history", plain(self.history))
        if not 0 < self.fidelity <= 1:
            raise PopulationError(f"{self.name}: fidelity {self.fidelity} is not in (0, 1].")
        if not 0 <= self.seed < 2**63 or self.tokens < 0 or not (0 <= self.seconds < math.inf):
            raise PopulationError(
                f"{self.name}: a seed is in [0, 2**63), tokens and seconds are finite and not negative."
            )

    @property
    def name(self) -> str:
        return (
            f"trial of {self.source_hash[:12]} on {self.testbed[:12]}, seed {self.seed}, fidelity"
            f" {self.fidelity:g}"
        )

    def _convert(self, **kinds: type) -> None:
        for name, kind in kinds.items():
            # -0.0 + 0.0 is 0.0, as the store has it
            _set(self, name, kind(getattr(self, name)) + kind(0))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _comparable(self) == _comparable(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False, kw_only=True)
class SuccessfulTrial(_Trial):
    """A trial whose student was scored: `accuracy` and `pgr` on the fitness split, both finite.

    `members` of the student, more than 1 for an ensemble; `pool` [n] float16, the student's P(class 1) on the
    training pool. Raises PopulationError.
    """

    accuracy: float
    pgr: float
    members: int = 1
    pool: np.ndarray | None = None
    ok: Literal[True] = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._convert(accuracy=float, pgr=float)
        if not (math.isfinite(self.accuracy) and math.isfinite(self.pgr)):
            raise PopulationError(
                f"{self.name}: a successful trial needs a finite accuracy and PGR. Record it as failed if it"
                " has none."
            )
        if self.pool is not None:
            _set(self, "pool", _as_pool(self.pool, self.name))


@dataclass(frozen=True, eq=False, kw_only=True)
class FailedTrial(_Trial):
    """A trial that came to no score: `reason`, a short kind ("timeout"), and `message`, what its author is
    told.

    Raises PopulationError.
    """

    reason: str
    message: str | None = None
    ok: Literal[False] = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reason:
            raise PopulationError(f"{self.name}: a failed trial needs a reason.")
        _set(self, "reason", printable(self.reason))
        if self.message is not None:
            _set(self, "message", printable(self.message))


Trial = SuccessfulTrial | FailedTrial


def successful(trials: Iterable[Trial]) -> list[SuccessfulTrial]:
    """Those of them that have a score, in their order."""
    return [trial for trial in trials if trial.ok]


def first_failure(trials: Iterable[Trial]) -> FailedTrial | None:
    """The first of them that has none."""
    return next((trial for trial in trials if not trial.ok), None)


def _as_pool(pool: np.ndarray, name: str) -> np.ndarray:
    pool = np.array(pool, np.float16)
    if pool.ndim != 1 or not np.all((pool >= 0) & (pool <= 1)):
        raise PopulationError(
            f"{name}: pool predictions are [n] probabilities of class 1, not {pool.shape} outside of [0, 1]"
            " or NaN."
        )
    pool.setflags(write=False)
    return pool


def _comparable(trial: _Trial) -> list[Any]:
    values = {one.name: getattr(trial, one.name) for one in dataclasses.fields(trial)}
    pool = values.pop("pool", None)
    return [canonical(values), None if pool is None else pool.tobytes()]


def _set(instance: object, name: str, value: Any) -> None:
    object.__setattr__(instance, name, value)
