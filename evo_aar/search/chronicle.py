"""What a generation leaves on record beside its individuals: findings on the forum, tallies of the arms, and
figures for reports and charts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from deap import tools

from evo_aar.search.record import (
    BirthRecord,
    EmptyPlace,
    GenerationFigures,
    GenerationRecord,
    IslandFigures,
    Tally,
)
from evo_aar.search.selection import Contender, best
from evo_aar.search.standings import Standings
from population.behaviour import NEAR_DUPLICATE, distance, diversity
from population.forum import Finding, Forum
from population.individual import Individual
from population.store import Store
from population.tables.generations import Fate


def post_findings(
    forum: Forum, number: int, before: Mapping[int, list[Contender]], kept: Mapping[int, list[Contender]]
) -> None:
    """An island whose best is new and ahead of the old one by more than its standard error says so on
    the forum.
    """
    for island, living in kept.items():
        old, new = best(before[island], 1), best(living, 1)
        if not old or not new or new[0].individual.generation != number or new[0].fitness <= old[0].fitness:
            continue
        one = new[0].individual
        gain, error = new[0].estimate.mean - old[0].estimate.mean, new[0].estimate.standard_error or 0.0
        if gain > error:
            changes = "; ".join(BirthRecord.of(one).story.changes) or "a new recipe"
            # No figures: who reads this is told of scores by evo_aar.search.feedback alone.
            text = (
                f"{changes}: the island's new best, ahead of {old[0].individual.idea!r} by more than its"
                " standard error"
            )
            forum.post(Finding(one.id, island, number, one.idea, text, one.source_hash))


def near_parents(children: Iterable[Contender], standings: Standings) -> dict[str, str]:
    """The children that behave nearly as a parent of theirs does, with that parent."""
    found = {}
    for one in children:
        for parent in standings.contenders(one.individual.parents):
            if distance(one.behaviour, parent.behaviour) < NEAR_DUPLICATE:
                found[one.id] = parent.id
                break
    return found


def tallies_after(
    store: Store, number: int, empty: Iterable[EmptyPlace], standings: Standings
) -> dict[str, Tally]:
    """What every arm has done by the end of generation `number`, which is not on record yet: what it gained
    over the better parent, and what that cost.
    """
    if not number:
        return {}
    tallies = dict(GenerationRecord.of(store.generations.get(number - 1)).state.tallies)
    for one in store.individuals.all(generation=number):
        own = standings.contenders([one.id])
        parents = [parent.estimate.mean for parent in standings.contenders(one.parents)]
        gain = own[0].estimate.mean - max(parents) if own and parents else 0.0
        state = BirthRecord.of(one).state
        tallies[state.arm] = tallies.get(state.arm, Tally()).plus(gain, state.usd)
    for place in empty:
        tallies[place.arm] = tallies.get(place.arm, Tally()).plus(0.0, place.usd)
    return tallies


def figures_of(
    directions: Sequence[str],
    kept: Mapping[int, list[Contender]],
    born: Mapping[int, list[str]],
    fates: Sequence[Fate],
    empty: Sequence[EmptyPlace],
    everyone: Mapping[str, Individual],
    *,
    probabilities: Mapping[str, float],
    baselines: Mapping[str, float],
    also: Mapping[str, Mapping[str, float | None]],
) -> GenerationFigures:
    """What a generation has come to: by island, the best of all, and how varied it is.

    `directions` by island; `kept`, who lives, by island; `born`, ids of those with a fitness; `everyone` by
    id.
    """
    living = {one.id: one for ones in kept.values() for one in ones}
    hall = tools.HallOfFame(1, similar=lambda a, b: a.id == b.id)
    hall.update(best(living.values()))
    top: Contender | None = hall[0] if len(hall) else None
    return GenerationFigures(
        islands={
            island: _island(directions[island], ones, len(born[island]), island, fates, empty)
            for island, ones in kept.items()
        },
        best=top.id if top else None,
        best_pgr=top.estimate.mean if top else None,
        best_se=top.estimate.standard_error if top else None,
        diversity=diversity(
            {island: [one.id for one in ones] for island, ones in kept.items()},
            everyone,
            {one.id: one.behaviour for one in living.values()},
        ),
        probabilities=probabilities,
        baselines=baselines,
        also=also,
    )


def _island(
    direction: str,
    living: Sequence[Contender],
    sound: int,
    island: int,
    fates: Sequence[Fate],
    empty: Sequence[EmptyPlace],
) -> IslandFigures:
    kinds = [fate.kind for fate in fates if fate.island == island]
    failed, duplicates = kinds.count("failed"), kinds.count("duplicate")
    means = [one.estimate.mean for one in living]
    top = best(living, 1)
    return IslandFigures(
        direction=direction,
        best_pgr=top[0].estimate.mean if top else None,
        best_se=top[0].estimate.standard_error if top else None,
        mean_pgr=sum(means) / len(means) if means else None,
        born=sound + failed + duplicates,
        failed=failed,
        duplicates=duplicates,
        unborn=sum(place.island == island for place in empty),
    )
