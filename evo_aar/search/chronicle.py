"""What a generation leaves on record beside its individuals: findings on the forum, and a summary for reports
and charts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from deap import tools

from evo_aar.search.births import Unborn
from evo_aar.search.selection import Contender, best
from population.behaviour import diversity
from population.forum import Finding, Forum
from population.individual import Individual
from population.tables.generations import Fate


def post_findings(
    forum: Forum, number: int, before: Mapping[int, list[Contender]], kept: Mapping[int, list[Contender]]
) -> None:
    """An island whose best is new and ahead of the old one by more than its standard error says so on the
    forum.
    """
    for island, living in kept.items():
        old, new = best(before[island], 1), best(living, 1)
        if not old or not new or new[0].individual.generation != number or new[0].fitness <= old[0].fitness:
            continue
        gain, error = new[0].estimate.mean - old[0].estimate.mean, new[0].estimate.standard_error or 0.0
        if gain > error:
            changes = "; ".join(new[0].individual.detail.get("changes", ())) or "a new recipe"
            # No figures: who reads this is told of scores by evo_aar.search.feedback alone.
            text = (
                f"{changes}: the island's new best, ahead of {old[0].individual.idea!r} by more than its"
                " standard error"
            )
            forum.post(
                Finding(
                    new[0].id, island, number, new[0].individual.idea, text, new[0].individual.source_hash
                )
            )


def summary_of(
    directions: Sequence[str],
    kept: Mapping[int, list[Contender]],
    born: Mapping[int, list[str]],
    fates: list[Fate],
    unborn: Sequence[Unborn],
    everyone: Mapping[str, Individual],
) -> dict:
    """What a generation has come to: by island, the best of all, and how varied it is.

    `directions` by island; `everyone` by id.
    """
    living = {one.id: one for ones in kept.values() for one in ones}
    hall = tools.HallOfFame(1, similar=lambda a, b: a.id == b.id)
    hall.update(best(living.values(), len(living)))
    statistics = tools.Statistics(key=lambda one: one.estimate.mean)
    statistics.register("best", max)
    statistics.register("mean", lambda values: sum(values) / len(values))
    logbook = tools.Logbook()
    for island, ones in kept.items():
        record = statistics.compile(ones) if ones else {"best": None, "mean": None}
        logbook.record(island=island, **record)
    islands = {}
    for entry in logbook:
        island = entry["island"]
        top = best(kept[island], 1)
        own = [fate for fate in fates if fate.island == island]
        islands[str(island)] = {
            "direction": directions[island],
            "best": top[0].id if top else None,
            "best_pgr": top[0].estimate.mean if top else None,
            "best_se": top[0].estimate.standard_error if top else None,
            "mean_pgr": entry["mean"],
            "born": len(born[island]) + sum(fate.kind in ("failed", "duplicate") for fate in own),
            "failed": sum(fate.kind == "failed" for fate in own),
            "duplicates": sum(fate.kind == "duplicate" for fate in own),
            "unborn": sum(one.context.island == island for one in unborn),
        }
    varied = diversity(
        {i: [one.id for one in ones] for i, ones in kept.items()},
        everyone,
        {one.id: one.behaviour for one in living.values()},
    )
    return {
        "islands": islands,
        "best": hall[0].id if len(hall) else None,
        "best_pgr": hall[0].estimate.mean if len(hall) else None,
        "best_se": hall[0].estimate.standard_error if len(hall) else None,
        "diversity": asdict(varied),
        "unborn": [_told(one) for one in unborn],
    }


def _told(one: Unborn) -> dict:
    context = one.context
    told = {
        "island": context.island,
        "child": context.child,
        "arm": one.arm.key,
        "reason": one.reason,
        "usd": one.usd,
    }
    return told | {"tries": list(one.tries)}
