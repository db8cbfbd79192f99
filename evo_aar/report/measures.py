"""The figures of an opening, from the store alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from evo_aar.report.opening import CEILING, WEAK, is_complete
from evo_aar.search.audits import quarantined
from evo_aar.search.seeds import final_seeds
from evo_aar.search.settings import SearchSettings
from population.fitness import Fitness
from population.store import Store
from population.tables.integrity import Audit, Opening, Review

VANILLA = "baseline vanilla"


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error, None for one seed."""

    mean: float
    standard_error: float | None
    seeds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Estimate:
        """Raises `ValueError` for no values: what was never measured has no estimate."""
        values = list(values)
        if not values:
            raise ValueError("an estimate takes one value or more")
        mean = math.fsum(values) / len(values)
        if len(values) == 1:
            return cls(mean, None, 1)
        variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
        return cls(mean, math.sqrt(variance / len(values)), len(values))


@dataclass(frozen=True)
class Line:
    """A recipe of the short list. `pgr` on the sealed split; `fitness`: PGR on the fitness split over the
    final seeds, where it was tried there.

    `over_vanilla`, `over_seed`: differences in PGR to vanilla and to the best seed recipe of the list, paired
    by seed. `against_ensembles`: an ensemble's PGR against ceilings of as many members.
    """

    role: str
    individual: str | None
    idea: str
    source_hash: str
    pgr: Estimate | None
    accuracy: Estimate | None
    failure: str | None
    members: int
    against_ensembles: Estimate | None
    over_vanilla: Estimate | None
    over_seed: Estimate | None
    fitness: Fitness | None
    audits: tuple[Audit, ...]
    reviews: tuple[Review, ...]
    set_apart: str | None


@dataclass(frozen=True)
class Figures:
    """All that a report says."""

    run: str
    testbed: str
    testbed_hash: str
    opening: Opening
    openings: int
    weak: Estimate
    ceiling: Estimate
    lines: tuple[Line, ...]


def figures(store: Store, opening: Opening) -> Figures | None:
    """The figures of an opening; None as long as it lacks a score."""
    if not is_complete(store, opening):
        return None
    settings, testbed = SearchSettings.from_json(store.settings), store.facts["testbed_hash"]
    scores: dict[str, dict[int, float]] = {}
    failures: dict[str, str] = {}
    members: dict[str, int] = {}
    for score in store.openings.scores(opening.number):
        members[score.source_hash] = max(score.members, members.get(score.source_hash, 1))
        if score.accuracy is not None:
            scores.setdefault(score.source_hash, {})[score.seed] = score.accuracy
        else:
            failures.setdefault(score.source_hash, f"seed {score.seed}: {score.message}")
    weak, ceiling = (Estimate.of(scores[name].values()) for name in (WEAK, CEILING))
    gap = ceiling.mean - weak.mean
    # Failure is not a score: who failed on one seed has no PGR.
    pgr = {
        digest: {seed: (accuracy - weak.mean) / gap for seed, accuracy in by_seed.items()}
        for digest, by_seed in scores.items()
        if digest not in failures
    }
    by_role = {row["role"]: row["source_hash"] for row in opening.shortlist}
    vanilla = by_role.get(VANILLA)
    seed_recipes = [
        row["source_hash"]
        for row in opening.shortlist
        if row["role"] == "seed recipe" and row["source_hash"] in pgr
    ]
    best_seed = max(seed_recipes, key=lambda digest: Estimate.of(pgr[digest].values()).mean, default=None)
    barred, final = quarantined(store), final_seeds(settings.seed, settings.final_seeds)
    lines = []
    for row in opening.shortlist:
        digest, identity = row["source_hash"], row["individual"]
        crowd = members.get(digest, 1)
        against = None
        if crowd > 1 and digest in pgr:
            wide = Estimate.of(scores[f"{CEILING} of {crowd}"].values()).mean - weak.mean
            against = Estimate.of(value * gap / wide for value in pgr[digest].values())
        tried = [trial for trial in store.trials.of(digest, testbed, 1.0) if trial.seed in final]
        lines.append(
            Line(
                role=row["role"],
                individual=identity,
                idea=row["idea"],
                source_hash=digest,
                pgr=Estimate.of(pgr[digest].values()) if digest in pgr else None,
                accuracy=Estimate.of(scores[digest].values()) if digest in pgr else None,
                failure=failures.get(digest),
                members=crowd,
                against_ensembles=against,
                over_vanilla=_paired(pgr, digest, vanilla),
                over_seed=_paired(pgr, digest, best_seed),
                fitness=Fitness.of(tried) if len(tried) == len(final) else None,
                audits=tuple(store.audits.of(digest, testbed)),
                reviews=tuple(store.reviews.of(identity)) if identity else (),
                set_apart=barred.get(identity) or barred.get(digest),
            )
        )
    return Figures(
        run=store.path.parent.name,
        testbed=settings.testbed,
        testbed_hash=testbed,
        opening=opening,
        openings=len(store.openings.all()),
        weak=weak,
        ceiling=ceiling,
        lines=tuple(lines),
    )


def _paired(pgr: dict[str, dict[int, float]], digest: str, other: str | None) -> Estimate | None:
    if other is None or digest == other or digest not in pgr or other not in pgr:
        return None
    return Estimate.of(
        [value - pgr[other][seed] for seed, value in pgr[digest].items() if seed in pgr[other]]
    )
