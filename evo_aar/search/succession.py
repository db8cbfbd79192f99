"""Who lives after a generation, and who settles abroad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evo_aar.search.audits import quarantine_fates, static_failures
from evo_aar.search.seeds import fresh_seeds
from evo_aar.search.selection import Contender, Selection, best
from evo_aar.search.settings import SearchSettings
from evo_aar.search.standings import Standings
from evo_aar.search.topologies import Topology
from evo_aar.search.trials import Candidate, TrialRunner
from population.migration import Migration, migrate
from population.store import Store
from population.tables.generations import Fate

ELITES = 2
"""How many of an island's best are tried on fresh seeds before one of them migrates."""


@dataclass(frozen=True)
class Decision:
    """`kept`: by island, who lives there now; `standings`: as they are after the elites' trials."""

    kept: dict[int, list[Contender]]
    fates: list[Fate]
    migrations: list[Migration]
    standings: Standings


class Succession:
    """Decides with a scheme of selection and a topology of migration."""

    def __init__(
        self,
        store: Store,
        settings: SearchSettings,
        trials: TrialRunner,
        *,
        scheme: Selection,
        topology: Topology,
    ) -> None:
        self._store = store
        self._settings = settings
        self._trials = trials
        self._scheme = scheme
        self._topology = topology

    def decide(
        self,
        number: int,
        before: Mapping[int, list[Contender]],
        born: Mapping[int, list[str]],
        standings: Standings,
    ) -> Decision:
        """From who lived and who was born (ids) to who lives after generation `number`."""
        kept = {
            island: self._scheme.survivors(
                [*before[island], *standings.contenders(born[island])], self._settings.population
            )
            for island in sorted(before)
        }
        fates: list[Fate] = []
        migrations: list[Migration] = []
        if self._migrates(number):
            kept, fates = self._set_apart(number, kept)
            elites = {island: best(living, ELITES) for island, living in kept.items()}
            self._trials.ensure(
                [Candidate.of(one.individual, "elite") for ones in elites.values() for one in ones],
                fresh_seeds(self._settings.seed, self._settings.seeds),
            )
            standings = standings.anew()
            kept, migrations, chosen = self._migrate(number, kept, elites, standings)
            fates += [
                Fate(one.id, number, island, "elite", "tried on fresh seeds before it migrates")
                for island, one in chosen.items()
            ]
        for island in sorted(before):
            alive = {one.id for one in kept[island]}
            for identity in [one.id for one in before[island]] + born[island]:
                if identity in alive:
                    fates.append(Fate(identity, number, island, "survived"))
                else:
                    fates.append(Fate(identity, number, island, "died", standings.raced_out(identity)))
        return Decision(kept, fates, migrations, standings)

    def _migrates(self, number: int) -> bool:
        every = self._settings.migrate_every
        return bool(every and number and number % every == 0 and number < self._settings.generations)

    def _set_apart(
        self, number: int, kept: dict[int, list[Contender]]
    ) -> tuple[dict[int, list[Contender]], list[Fate]]:
        """Without those that fail the static read; their fates, and their descendants'."""
        reasons = {one.id: static_failures(one.individual.source) for ones in kept.values() for one in ones}
        fates: dict[tuple[str, str], Fate] = {}
        for one, reason in sorted(reasons.items()):
            for fate in quarantine_fates(self._store, one, number, reason) if reason else ():
                fates.setdefault((fate.individual, fate.kind), fate)
        sound = {island: [one for one in ones if not reasons[one.id]] for island, ones in kept.items()}
        return sound, list(fates.values())

    def _migrate(
        self,
        number: int,
        kept: dict[int, list[Contender]],
        tried: dict[int, list[Contender]],
        standings: Standings,
    ) -> tuple[dict[int, list[Contender]], list[Migration], dict[int, Contender]]:
        """The best of each island's tried elites settles where the topology's routes lead."""
        ranked = {
            island: best(standings.contenders(one.id for one in living)) for island, living in kept.items()
        }
        elites: dict[int, Contender] = {}
        for island, ones in tried.items():
            ids = {one.id for one in ones}
            top = [one for one in ranked[island] if one.id in ids]
            if top:
                elites[island] = top[0]
        stream = np.random.default_rng(np.random.SeedSequence(self._settings.seed, spawn_key=(number,)))
        moves, populations = migrate(
            number,
            {island: [one.id for one in living] for island, living in ranked.items()},
            {island: [one.id] for island, one in elites.items()},
            self._topology.routes(sorted(ranked), stream),
        )
        settled = {
            island: self._scheme.survivors(standings.contenders(ids), self._settings.population)
            for island, ids in populations.items()
        }
        arrived = {island: {one.id for one in living} for island, living in settled.items()}
        return settled, [move for move in moves if move.individual in arrived[move.target]], elites
