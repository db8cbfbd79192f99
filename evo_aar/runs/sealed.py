"""From a run to a report that is complete: the short list frozen, the testbed checked, the evaluator made,
the opening carried through.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from evo_aar.report.opening import begin, open_sealed
from evo_aar.runs.evaluators import Workplace, evaluator_of
from evo_aar.runs.versions import decisive, versions
from evo_aar.search.settings import SearchSettings
from evo_aar.views import tables
from population.store import Store
from population.tables.integrity import Opening


def run(
    store: Store,
    settings: SearchSettings,
    place: Workplace,
    current: Opening | None,
    rows: Sequence[dict],
    *,
    seeds: int,
    console: Console,
) -> Opening:
    """Carry an interrupted opening through, or begin one with the short list `rows`.

    Everything that can be refused is, before it is begun.
    """
    with tables.progress(console) as bar:
        task = bar.add_task("sealed split", total=None)
        with evaluator_of(store, settings, place) as evaluator:
            store.stints.begin(place.level, decisive(versions()))
            opening = current or begin(
                store,
                rows,
                search_seed=settings.seed,
                seeds=seeds,
                facts={"student": evaluator.kind, "device": place.device},
            )
            bar.update(task, description="hidden states")
            evaluator.warm_up(lambda done, total: bar.update(task, completed=done, total=total), sealed=True)
            total = len(opening.shortlist) * len(opening.facts["seeds"])
            done = len(
                [
                    score
                    for score in store.openings.scores(opening.number)
                    if score.seed in opening.facts["seeds"]
                ]
            )
            bar.update(task, description="sealed split", completed=done, total=total)
            open_sealed(store, opening, evaluator, lambda score: bar.advance(task))
    return opening
