"""Who was born, how it did, and how sure we are: individuals, trials, fitness.

A trial belongs to a recipe (its normalised source's hash), not to an individual: duplicates share trials, and
a source that its author withdrew keeps those it had. Failure is not a score: a failed trial has no accuracy
and no PGR.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from population.errors import PopulationError
from population.jsontext import canonical, plain, printable

OK = "ok"
FAILED = "failed"


def individual_id(generation: int, island: int, child: int) -> str:
    """The id of the `child`-th individual born on `island` in `generation`: "g002-i3-c01"."""
    return f"g{generation:03d}-i{island}-c{child:02d}"


@dataclass(frozen=True)
class Individual:
    """One recipe as it was born: where, when, from whom and by which operator. Add it once its source is
    final.

    `source_hash` identifies the recipe (its normalised source); `parents` are ids, the first the one that was
    edited; `idea` is the recipe's own first line; `detail` is JSON: prompt, model, attempts, whatever the
    operator records but times, for a search that is run again bears the same individuals.
    """

    id: str
    island: int
    generation: int
    child: int
    source: str
    source_hash: str
    operator: str
    parents: tuple[str, ...] = ()
    idea: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("island", "generation", "child"):
            _set(self, name, int(getattr(self, name)))
        expected = individual_id(self.generation, self.island, self.child)
        if self.id != expected:
            raise PopulationError(
                f"individual {self.id!r} must be called {expected!r}. Build it with Individual.born."
            )
        if printable(self.source) != self.source:
            raise PopulationError(
                f"individual {self.id}: its source is not UTF-8 text. Refuse such a source before birth."
            )
        _set(self, "parents", tuple(self.parents))
        _set(self, "idea", printable(self.idea))
        _set(self, "detail", plain(self.detail))

    @classmethod
    def born(cls, *, generation: int, island: int, child: int, **fields: Any) -> Individual:
        """An individual with the id that its generation, island and child index give it."""
        identity = individual_id(generation, island, child)
        return cls(id=identity, generation=generation, island=island, child=child, **fields)

    @property
    def rank(self) -> tuple[int, int, int]:
        """(generation, island, child): the order of birth, which does not depend on who finished first."""
        return self.generation, self.island, self.child


@dataclass(frozen=True, eq=False)
class Trial:
    """One recipe, one seed, one fidelity, on one testbed.

    `testbed` is the testbed's content hash; `fidelity` in (0, 1]; `reason` a failure's short kind
    ("timeout"), `message` what its author is told; `accuracy` and `pgr` on the fitness split; `members` of
    the student, more than 1 for an ensemble; `tokens` trained and forwarded; `seconds` of wall clock, which
    alone may differ when a trial is repeated; `history` the training curves; `pool` [n] float16, the
    student's P(class 1) on the training pool. Raises PopulationError where a failure has a score or a success
    has none.
    """

    source_hash: str
    testbed: str
    seed: int
    fidelity: float
    status: str
    reason: str | None = None
    message: str | None = None
    accuracy: float | None = None
    pgr: float | None = None
    members: int = 1
    tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    pool: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, kind in (
            ("seed", int),
            ("fidelity", float),
            ("tokens", int),
            ("seconds", float),
            ("accuracy", float),
            ("pgr", float),
        ):
            value = getattr(self, name)
            _set(
                self, name, None if value is None else kind(value) + kind(0)
            )  # -0.0 + 0.0 is 0.0, as the store has it
        for name in ("reason", "message"):
            value = getattr(self, name)
            _set(self, name, None if value is None else printable(value))
        _set(self, "history", plain(self.history))
        if not 0 < self.fidelity <= 1:
            raise PopulationError(f"{self.name}: fidelity {self.fidelity} is not in (0, 1].")
        if not 0 <= self.seed < 2**63 or self.tokens < 0 or not (0 <= self.seconds < math.inf):
            raise PopulationError(
                f"{self.name}: a seed is in [0, 2**63), tokens and seconds are finite and not negative."
            )
        if self.status == OK:
            self._check_success()
        elif self.status == FAILED:
            self._check_failure()
        else:
            raise PopulationError(f"{self.name}: status {self.status!r} is neither {OK!r} nor {FAILED!r}.")
        if self.pool is not None:
            _set(self, "pool", _as_pool(self.pool, self.name))

    @property
    def name(self) -> str:
        return (
            f"trial of {self.source_hash[:12]} on {self.testbed[:12]}, seed {self.seed}, fidelity"
            f" {self.fidelity:g}"
        )

    @property
    def ok(self) -> bool:
        return self.status == OK

    def _check_success(self) -> None:
        if (
            self.accuracy is None
            or self.pgr is None
            or not (math.isfinite(self.accuracy) and math.isfinite(self.pgr))
        ):
            raise PopulationError(
                f"{self.name}: a successful trial needs a finite accuracy and PGR. Record it as failed if it"
                " has none."
            )
        if self.reason is not None:
            raise PopulationError(
                f"{self.name}: a successful trial has a reason to have failed ({self.reason!r}). Drop one of"
                " them."
            )

    def _check_failure(self) -> None:
        if self.accuracy is not None or self.pgr is not None:
            raise PopulationError(
                f"{self.name}: a failed trial has no accuracy and no PGR; failure is not a score. Leave both"
                " None."
            )
        if not self.reason:
            raise PopulationError(f"{self.name}: a failed trial needs a reason.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trial):
            return NotImplemented
        return _comparable(self) == _comparable(other)

    __hash__ = None  # type: ignore[assignment]


class Difference(NamedTuple):
    """The mean of paired differences, its standard error (None for fewer than two pairs) and the number of
    pairs.
    """

    mean: float | None
    standard_error: float | None
    pairs: int


@dataclass(frozen=True)
class Fitness:
    """Mean PGR over a recipe's trials, with its standard error: the sample deviation over sqrt(trials), None
    for one trial.
    """

    mean: float
    standard_error: float | None
    trials: int

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Fitness | None:
        """The fitness that these trials of one recipe give; None where there are none or one of them failed.

        Raises PopulationError where they are not of one recipe, testbed and fidelity, or a seed comes twice.
        """
        trials = list(trials)
        if not trials or not all(trial.ok for trial in trials):
            return None
        kinds = {(trial.source_hash, trial.testbed, trial.fidelity) for trial in trials}
        if len(kinds) > 1 or len({trial.seed for trial in trials}) < len(trials):
            raise PopulationError(
                "a fitness is over distinct seeds of one recipe, testbed and fidelity. Choose the trials"
                " accordingly."
            )
        return cls(*_mean_and_error([trial.pgr for trial in trials]), len(trials))


def paired_difference(a: Iterable[Trial], b: Iterable[Trial]) -> Difference:
    """PGR of recipe `a` minus that of `b`, over the seeds in which both succeeded.

    Pairing cancels what the two share in a seed; the standard error is that of the mean of the differences.
    Without a common seed the mean is None. Raises PopulationError where the two were not tried on one testbed
    and at one fidelity.
    """
    a, b = list(a), list(b)
    if len({(trial.testbed, trial.fidelity) for trial in a + b}) > 1:
        raise PopulationError(
            "paired trials are of one testbed and one fidelity. Choose the trials accordingly."
        )
    first, second = ({trial.seed: trial.pgr for trial in side if trial.ok} for side in (a, b))
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return Difference(None, None, 0)
    return Difference(*_mean_and_error([first[seed] - second[seed] for seed in seeds]), len(seeds))


def _mean_and_error(values: list[float]) -> tuple[float, float | None]:
    # fsum is exact whatever the order: the same trials give the same fitness, bit for bit.
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def _as_pool(pool: np.ndarray, name: str) -> np.ndarray:
    pool = np.array(pool, np.float16)
    if pool.ndim != 1 or not np.all((pool >= 0) & (pool <= 1)):
        raise PopulationError(
            f"{name}: pool predictions are [n] probabilities of class 1, not {pool.shape} outside of [0, 1]"
            " or NaN."
        )
    pool.setflags(write=False)
    return pool


def _comparable(trial: Trial) -> list[Any]:
    values = {f.name: getattr(trial, f.name) for f in dataclasses.fields(trial)}
    pool = values.pop("pool")
    return [canonical(values), None if pool is None else pool.tobytes()]


def _set(instance: object, name: str, value: Any) -> None:
    object.__setattr__(instance, name, value)
