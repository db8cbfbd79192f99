"""What recipes do, as opposed to how they read: their students' predictions on the training pool.

The distance between two recipes is the mean absolute difference between their students' P(class 1) over the
pool: 0 for the same predictions, 1 for confidently opposite ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from population.errors import PopulationError
from population.individual import Individual
from population.trial import Trial, successful

NEAR_DUPLICATE = 0.02
"""The distance below which two recipes count as one behaviour."""


def behaviour(trials: Iterable[Trial]) -> np.ndarray | None:
    """Mean pool predictions over one recipe's successful trials, [n] float64; None where no trial has any.

    Raises PopulationError where the trials are not of one testbed, whose pool they share.
    """
    sound = sorted(successful(trials), key=lambda trial: trial.seed)
    pools = [(trial.testbed, trial.pool) for trial in sound if trial.pool is not None]
    if not pools:
        return None
    if len({(testbed, pool.shape) for testbed, pool in pools}) > 1:
        raise PopulationError(
            "pool predictions of several testbeds have no mean. Choose trials of one testbed."
        )
    return np.asarray(np.mean([pool for _, pool in pools], axis=0, dtype=np.float64))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two [n] pool predictions.

    Raises PopulationError where their pools differ in size.
    """
    if a.shape != b.shape:
        raise PopulationError(
            f"pools of {a.shape} and {b.shape} rows cannot be compared. Compare recipes on one testbed."
        )
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean())


@dataclass(frozen=True)
class Diversity:
    """How varied a generation is.

    `individuals` and `sources`: how many distinct ones live. `within`, `between`: mean behavioural distance
    over all pairs of inhabitants of one island, and of two islands; None without such a pair. `founder`: the
    individual without parents from which the largest share of the living descends; `founder_share`: that
    share, 1.0 when one ancestor has begotten all.
    """

    individuals: int
    sources: int
    within: float | None
    between: float | None
    founder: str | None
    founder_share: float | None


def diversity(
    populations: Mapping[int, Sequence[str]],
    individuals: Mapping[str, Individual],
    behaviours: Mapping[str, np.ndarray],
) -> Diversity:
    """The diversity of `populations` (ids by island).

    `individuals` holds the living and all their ancestors by id; `behaviours` the pool predictions by id,
    where known: an inhabitant without any is in no pair. Who lives on two islands counts once among the
    living and on both in the distances.
    """
    living = sorted({identity for population in populations.values() for identity in population})
    inhabitants = [
        (island, i)
        for island in sorted(populations)
        for i in populations[island]
        if behaviours.get(i) is not None
    ]
    within: list[float] = []
    between: list[float] = []
    for (home, first), (other, second) in combinations(inhabitants, 2):
        (within if home == other else between).append(distance(behaviours[first], behaviours[second]))
    founder, share = _main_founder(living, individuals)
    return Diversity(
        individuals=len(living),
        sources=len({individuals[identity].source_hash for identity in living}),
        within=float(np.mean(within)) if within else None,
        between=float(np.mean(between)) if between else None,
        founder=founder,
        founder_share=share,
    )


def founders(individuals: Mapping[str, Individual]) -> dict[str, frozenset[str]]:
    """By id, those without parents from whom an individual descends; a founder descends from itself.

    Raises PopulationError where a parent is missing from `individuals` or was not born before its child.
    """
    found: dict[str, frozenset[str]] = {}
    for individual in sorted(individuals.values(), key=lambda each: each.rank):
        missing = [parent for parent in individual.parents if parent not in found]
        if missing:
            raise PopulationError(
                f"{individual.id}: no parent {missing[0]!r} was born before it. Pass all ancestors."
            )
        inherited = [found[parent] for parent in individual.parents]
        found[individual.id] = frozenset().union(*inherited) if inherited else frozenset({individual.id})
    return found


def _main_founder(
    living: list[str], individuals: Mapping[str, Individual]
) -> tuple[str | None, float | None]:
    if not living:
        return None, None
    origins = founders(individuals)
    descendants: dict[str, int] = {}
    for identity in living:
        for founder in origins[identity]:
            descendants[founder] = descendants.get(founder, 0) + 1
    founder = min(descendants, key=lambda each: (-descendants[each], individuals[each].rank))
    return founder, descendants[founder] / len(living)
