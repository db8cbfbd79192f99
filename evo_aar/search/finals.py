"""The end of a search: vanilla, the best seed recipe and the best evolved child, side by side on seeds that
nothing was selected on.
"""

from __future__ import annotations

from dataclasses import dataclass

from evo_aar.search.audits import Auditor, failures, quarantine_fates, quarantined
from evo_aar.search.phases import FINALS
from evo_aar.search.seeds import final_seeds, fresh_seeds
from evo_aar.search.selection import Contender, best, scheme_named
from evo_aar.search.settings import SearchSettings
from evo_aar.search.standings import contender, pooled_deviation
from evo_aar.search.trials import Candidate, TrialRunner
from population.fitness import Fitness, paired_difference
from population.individual import Individual
from population.store import Store
from population.tables.generations import Fate
from population.trial import Trial
from recipes.directions import baseline_sources
from recipes.source import idea, source_hash

SHORTLIST = 5


@dataclass(frozen=True)
class Finalist:
    """A row of the final table. `individual` is None for vanilla; `fitness` is over the final seeds alone."""

    role: str
    individual: str | None
    idea: str
    source_hash: str
    fitness: Fitness | None
    trials: tuple[Trial, ...]


def run(store: Store, settings: SearchSettings, trials: TrialRunner, auditor: Auditor | None = None) -> None:
    """Try the shortlist on fresh seeds, choose, then compare the chosen on the final seeds. Crowns the better
    of seed and child.

    Who is to be crowned is audited first; one that fails is quarantined, and the next best of its kind takes
    its place. Where nobody on the shortlist is sound, those after them make another one. All that is decided
    goes on record at once, at the end: finals that are interrupted begin anew, and come to the same.
    """
    fresh, final = (
        fresh_seeds(settings.seed, settings.seeds),
        final_seeds(settings.seed, settings.final_seeds),
    )
    generation = len(store.generations) - 1
    ranked: dict[str, list[Contender]] = {}
    fates: list[Fate] = []
    while not any(ranked.values()):
        ranked = _shortlists(store, settings, trials, fresh, fates)
        if auditor is None or not any(ranked.values()):
            break
        fates += _set_unsound_apart(store, ranked, auditor, generation, fates)
    chosen = {role: ones[:1] for role, ones in ranked.items()}
    vanilla = baseline_sources()["vanilla"]
    entries = [Candidate(vanilla, source_hash(vanilla), operator="finals")]
    entries += [
        Candidate(one.individual.source, one.individual.source_hash, operator="finals")
        for ones in chosen.values()
        for one in ones
    ]
    trials.ensure(entries, final)
    top = best([one for ones in chosen.values() for one in ones], 1)
    if top:
        individual = top[0].individual
        reason = f"best bound of PGR over {top[0].estimate.trials} trials"
        fates.append(Fate(individual.id, generation, individual.island, "crowned", reason))
        fates += [
            Fate(one.id, generation, one.individual.island, "elite", f"best {role} of the search")
            for role, ones in chosen.items()
            for one in ones
            if one.id != individual.id
        ]
    with store.transaction():
        for fate in fates:
            store.generations.add_fate(fate)
        trials.commit(FINALS)


def _shortlists(
    store: Store, settings: SearchSettings, trials: TrialRunner, fresh: list[int], fates: list[Fate]
) -> dict[str, list[Contender]]:
    """The best few seed recipes and children that are not quarantined, on record or by `fates`, best first
    after trials on fresh seeds.
    """
    everyone, barred = store.individuals.all(), quarantined(store, fates)
    ranked = {}
    for role, group in (
        ("seed", [one for one in everyone if not one.parents]),
        ("child", [one for one in everyone if one.parents]),
    ):
        sound = [one for one in group if one.id not in barred and one.source_hash not in barred]
        shortlist = _ranked(sound, trials, settings)[:SHORTLIST]
        trials.ensure(
            [
                Candidate(one.individual.source, one.individual.source_hash, operator="finals")
                for one in shortlist
            ],
            fresh,
        )
        ranked[role] = _ranked([one.individual for one in shortlist], trials, settings)
    return ranked


def _set_unsound_apart(
    store: Store,
    ranked: dict[str, list[Contender]],
    auditor: Auditor,
    generation: int,
    before: list[Fate],
) -> list[Fate]:
    """Audit the best until one is sound; whoever fails before it leaves `ranked`.

    Their fates, and their heirs'.
    """
    fates: list[Fate] = []
    while True:
        top = best([ones[0] for ones in ranked.values() if ones], 1)
        if not top:
            return fates
        one = top[0].individual
        reason = failures(auditor.audit(Candidate(one.source, one.source_hash, one.island, one.generation)))
        if not reason:
            return fates
        fates += quarantine_fates(store, one.id, generation, reason, [*before, *fates])
        for role, ones in ranked.items():
            ranked[role] = [other for other in ones if other.individual.source_hash != one.source_hash]


def crowned(store: Store) -> Individual | None:
    """The search's best individual, or None before its end."""
    fates = store.generations.fates(kind="crowned")
    return store.individuals.get(fates[-1].individual) if fates else None


def finalists(store: Store, testbed: str) -> list[Finalist]:
    """Vanilla, best seed recipe, best evolved child, as far as they have been tried on the final seeds."""
    settings = SearchSettings.from_json(store.settings)
    final = set(final_seeds(settings.seed, settings.final_seeds))
    vanilla = baseline_sources()["vanilla"]
    rows: list[tuple[str, str | None, str, str]] = [("vanilla", None, idea(vanilla), source_hash(vanilla))]
    for one in store.individuals.all():
        rows.append(
            ("best evolved child" if one.parents else "best seed recipe", one.id, one.idea, one.source_hash)
        )
    found, seen = [], set()
    for role, identity, words, digest in rows:
        tried = tuple(trial for trial in store.trials.of(digest, testbed, 1.0) if trial.seed in final)
        if len(tried) == len(final) and digest not in seen:
            seen.add(digest)
            found.append(Finalist(role, identity, words, digest, Fitness.of(tried), tried))
    return found


def lead(ahead: Finalist, behind: Finalist) -> str:
    """How far one finalist is ahead of another, paired by seed, in words."""
    difference = paired_difference(ahead.trials, behind.trials)
    if difference is None or difference.standard_error is None:
        return "not comparable"
    return f"{difference.mean:+.3f} ± {difference.standard_error:.3f} over {difference.pairs} paired seeds"


def _ranked(individuals: list[Individual], trials: TrialRunner, settings: SearchSettings) -> list[Contender]:
    scheme, seeds = scheme_named(settings.selection), settings.seeds
    groups = {one.source_hash: trials.of(one.source_hash) for one in individuals}
    deviation = pooled_deviation([groups[one.source_hash] for one in individuals])
    latest_first = sorted(individuals, key=lambda one: one.rank, reverse=True)
    unique = {one.source_hash: one for one in latest_first}.values()  # the first that was born with it
    made = [
        contender(one, groups[one.source_hash], scheme=scheme, deviation=deviation, seeds=seeds)
        for one in unique
    ]
    return best(one for one in made if one is not None)
