"""What racing saves: a search that ran without it, raced afterwards on the trials that it has on record.

    evo-aar evolve --no-race --run full
    python benchmarks/racing.py runs/full [runs/OTHER ...]

Whom the race would have stopped is compared with who lived in fact, and with the line of whoever was crowned. A search that races goes other ways
once somebody is stopped who would have lived: this tells what it saves and whom it loses, not where it ends.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

from evo_aar.racing import Race, rungs
from evo_aar.settings import SearchSettings
from evo_aar.trials import search_seeds
from population.store import Store


def replay(store: Store) -> dict[str, int]:
    """Births that were tried, trials of theirs on the search's seeds, who would have been stopped, what that saves, and who of them lived."""
    settings, testbed = SearchSettings.from_json(store.settings), store.facts["testbed_hash"]
    seeds = search_seeds(settings.seed, settings.seeds)
    found = dict.fromkeys(("births", "trials", "stopped", "saved", "lived", "ancestors"), 0)
    ancestors = _line(store)

    def trials(identity: str) -> list:
        source = store.individuals.get(identity).source_hash
        return [trial for trial in store.trials.of(source, testbed, 1.0) if trial.seed in seeds]

    generations = store.generations.all()
    for before, after in pairwise(generations):
        race = Race({island.number: [trials(one) for one in island.population] for island in before.islands}, seeds)
        lived = {one for island in after.islands for one in island.population}
        born = [store.individuals.get(fate.individual) for fate in store.generations.fates(generation=after.number)]
        born = {one.id: one for one in born if one.generation == after.number}
        children = sorted((one for one in born.values() if len(trials(one.id)) == len(seeds)), key=lambda one: one.rank)
        found["births"] += len(children)
        found["trials"] += len(seeds) * len(children)
        for count in rungs(len(seeds))[:-1]:
            stays = race.stay([(one.island, trials(one.id)) for one in children], count)
            stopped = [one for one, stay in zip(children, stays, strict=True) if not stay]
            children = [one for one, stay in zip(children, stays, strict=True) if stay]
            found["stopped"] += len(stopped)
            found["saved"] += (len(seeds) - count) * len(stopped)
            found["lived"] += sum(one.id in lived for one in stopped)
            found["ancestors"] += sum(one.id in ancestors for one in stopped)
    return found


def _line(store: Store) -> set[str]:
    """The crowned individual and its ancestors."""
    open_, found = [fate.individual for fate in store.generations.fates(kind="crowned")], set()
    while open_:
        one = open_.pop()
        found.add(one)
        open_ += [parent for parent in store.individuals.get(one).parents if parent not in found]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of searches that ran with --no-race")
    print(
        "| search | children tried on all seeds | would have been stopped | trials saved | of those stopped, lived | were the crowned one's ancestors |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for run in parser.parse_args().runs:
        with Store.open(run / "search.sqlite", writable=False) as store:
            found = replay(store)
        share = found["saved"] / max(1, found["trials"])
        print(
            f"| {run.name} | {found['births']} | {found['stopped']} | {found['saved']} of {found['trials']} ({share:.0%}) | {found['lived']} | {found['ancestors']} |"
        )


if __name__ == "__main__":
    main()
