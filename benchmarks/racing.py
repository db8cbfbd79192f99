"""What racing saves, and what it costs.

    python benchmarks/racing.py replay runs/FULL [runs/OTHER ...]
    python benchmarks/racing.py compare [--testbeds mini/chat,mini/math,mini/code] [--searches 3] \\
        [evolve's own options]

The first races a search that ran with --no-race afterwards, on the trials that it has on record: whom the
race would have stopped is compared with who lived in fact, and with the line of whoever was crowned. A search
that races goes other ways once somebody is stopped who would have lived; so the second runs whole searches
with and without racing and compares whom they crown, on final seeds that both have in common.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from evo_aar.search.finals import crowned, finalists
from evo_aar.search.racing import Race, rungs
from evo_aar.search.seeds import search_seeds
from evo_aar.search.settings import SearchSettings
from population.fitness import paired_difference
from population.store import Store
from population.trial import Trial


def replay(store: Store) -> dict[str, int]:
    """Births that were tried, trials of theirs on the search's seeds, who would have been stopped, what that
    saves, and who of them lived.
    """
    settings, testbed = SearchSettings.from_json(store.settings), store.facts["testbed_hash"]
    seeds = search_seeds(settings.seed, settings.seeds)
    found = dict.fromkeys(("births", "trials", "stopped", "saved", "lived", "ancestors"), 0)
    ancestors = _line(store)

    def trials(identity: str) -> list:
        source = store.individuals.get(identity).source_hash
        return [trial for trial in store.trials.of(source, testbed, 1.0) if trial.seed in seeds]

    generations = store.generations.all()
    for before, after in pairwise(generations):
        race = Race(
            {island.number: [trials(one) for one in island.population] for island in before.islands},
            seeds,
            settings.population,
        )
        lived = {one for island in after.islands for one in island.population}
        born = [
            store.individuals.get(fate.individual)
            for fate in store.generations.fates(generation=after.number)
        ]
        born = {one.id: one for one in born if one.generation == after.number}
        children = sorted(
            (one for one in born.values() if len(trials(one.id)) == len(seeds)), key=lambda one: one.rank
        )
        found["births"] += len(children)
        found["trials"] += len(seeds) * len(children)
        for count in rungs(len(seeds))[:-1]:
            stopped = []
            for island in sorted({one.island for one in children}):
                heat = [one for one in children if one.island == island]
                stays = race.stay(island, [trials(one.id) for one in heat], count)
                stopped += [one for one, stay in zip(heat, stays, strict=True) if not stay]
            children = [one for one in children if one not in stopped]
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


@dataclass(frozen=True)
class Ended:
    """A whole search: trials on its own seeds, and the final trials of whoever it crowned."""

    trials: int
    crowned: str
    final: tuple[Trial, ...]


def search(testbed: str, seed: int, racing: str, runs: Path, arguments: list[str]) -> Ended:
    """Run `evo-aar evolve` in a process of its own."""
    name = f"{testbed.replace('/', '-')}-{seed}{racing}"
    own = [
        "--testbed",
        testbed,
        "--seed",
        str(seed),
        racing,
        "--run",
        name,
        "--runs",
        str(runs),
        "--operator",
        "offline",
    ]
    subprocess.run(
        [sys.executable, "-c", "from evo_aar.cli import main; main()", "evolve", *own, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with Store.open(runs / name / "search.sqlite", writable=False) as store:
        settings, digest = SearchSettings.from_json(store.settings), store.facts["testbed_hash"]
        seeds = set(search_seeds(settings.seed, settings.seeds))
        tried = sum(
            trial.seed in seeds
            for source in {one.source_hash for one in store.individuals.all()}
            for trial in store.trials.of(source, digest, 1.0)
        )
        best = crowned(store)
        final = next(one for one in finalists(store, digest) if one.source_hash == best.source_hash)
        return Ended(tried, best.id, final.trials)


def compare(testbeds: list[str], searches: int, arguments: list[str]) -> list[str]:
    """A Markdown table of whole searches without and with racing, which take turns."""
    lines = [
        "| testbed | search seed | trials without | with | crowned without | with | with less without |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    differences, saved = [], []
    with tempfile.TemporaryDirectory(prefix="evo-aar-benchmark-") as folder:
        for testbed in testbeds:
            for seed in range(searches):
                order = ("--no-race", "--race") if seed % 2 else ("--race", "--no-race")
                ended = {racing: search(testbed, seed, racing, Path(folder), arguments) for racing in order}
                without, raced = ended["--no-race"], ended["--race"]
                difference = paired_difference(raced.final, without.final)
                cells = [
                    f"{one.crowned} {np.mean([trial.pgr for trial in one.final]):.3f}"
                    for one in (without, raced)
                ]
                error = f" ± {difference.standard_error:.3f}" if difference.standard_error else ""
                lines.append(
                    f"| {testbed} | {seed} | {without.trials} | {raced.trials} | {cells[0]} | {cells[1]} |"
                    f" {difference.mean:+.3f}{error} |"
                )
                print(lines[-1], file=sys.stderr, flush=True)
                differences.append(difference.mean)
                saved.append(1 - raced.trials / without.trials)
    error = np.std(differences, ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else float("nan")
    summary = (
        f"Over {len(differences)} pairs of searches: {np.mean(saved):.0%} of the trials saved, "
        f"PGR of the crowned {np.mean(differences):+.3f} ± {error:.3f}."
    )
    return [*lines, "", summary]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("replay").add_argument(
        "runs", type=Path, nargs="+", help="folders of searches that ran with --no-race"
    )
    comparing = commands.add_parser("compare", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    comparing.add_argument("--testbeds", default="mini/chat,mini/math,mini/code")
    comparing.add_argument("--searches", type=int, default=3, help="pairs of searches a testbed")
    options, arguments = parser.parse_known_args()
    if options.command == "compare":
        print("\n".join(compare(options.testbeds.split(","), options.searches, arguments)))
        return
    if arguments:
        parser.error(f"replay has no option {arguments[0]}")
    print(
        "| search | children tried on all seeds | would have been stopped | trials saved | of those stopped,"
        " lived | were the crowned one's ancestors |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for run in options.runs:
        with Store.open(run / "search.sqlite", writable=False) as store:
            found = replay(store)
        share = found["saved"] / max(1, found["trials"])
        print(
            f"| {run.name} | {found['births']} | {found['stopped']} | {found['saved']} of {found['trials']}"
            f" ({share:.0%}) | {found['lived']} | {found['ancestors']} |"
        )


if __name__ == "__main__":
    main()
