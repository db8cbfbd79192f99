"""Committed generations, with the fates and migrations that belong to them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from population.database import Database
from population.errors import PopulationError, StoreConflict, StoreError
from population.island import Generation, Island
from population.jsontext import canonical, printable
from population.migration import Migration
from population.tables.individuals import Individuals

FATES = ("survived", "died", "elite", "failed", "duplicate", "quarantined", "flagged", "crowned")


@dataclass(frozen=True)
class Fate:
    """What became of an individual in a generation, on an island (it may survive on one and die on another),
    and why.

    `kind` is one of FATES; "duplicate" and "failed" are the fates of those that never had a fitness.
    """

    individual: str
    generation: int
    island: int
    kind: str
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable(self.reason))
        if self.kind not in FATES:
            raise PopulationError(f"{self.individual}: {self.kind!r} is no fate. Fates: {', '.join(FATES)}.")


class Generations:
    """What each generation left.

    A generation that is not here has not ended: a search resumes after the last one.
    """

    def __init__(self, database: Database, individuals: Individuals) -> None:
        self._database = database
        self._individuals = individuals

    def commit(
        self, generation: Generation, fates: Iterable[Fate] = (), migrations: Iterable[Migration] = ()
    ) -> bool:
        """End a generation: its islands, fates and migrations become durable together. False where all of it
        is on record.

        Raises StoreError where it does not follow the last one or names an unknown individual, StoreConflict
        where the generation ended otherwise before.
        """
        number = generation.number
        with self._database.transaction():
            last = self._last_number()
            if not 0 <= number <= last + 1:
                raise StoreError(
                    f"{self._database.path}: generation {number} cannot follow {last}. Commit generation"
                    f" {last + 1}."
                )
            row = {
                "number": number,
                "islands": canonical([island.number for island in generation.islands]),
                "summary": canonical(generation.summary),
            }
            new = self._database.append_once("generations", row, f"generation {number}")
            parts = [self._add_island(number, island) for island in generation.islands]
            parts += [self.add_fate(fate) for fate in fates]
            parts += [self._add_migration(migration) for migration in migrations]
            if not new and any(parts):
                raise StoreConflict(
                    f"{self._database.path}: generation {number} is on record with other fates or migrations."
                    " Resume with the version, settings and data that wrote the store, or start a new one."
                )
        return new

    def get(self, number: int) -> Generation:
        """Raises StoreError where this generation has not been committed."""
        rows = self._database.select("generations", "number = ?", (number,))
        if not rows:
            raise StoreError(
                f"{self._database.path}: generation {number} has not ended. The last that has is"
                f" {self._last_number()}."
            )
        islands = self._database.select("generation_islands", "generation = ?", (number,), "island")
        return Generation(number, tuple(_island(row) for row in islands), json.loads(rows[0]["summary"]))

    def last(self) -> Generation | None:
        """The last committed generation; None before the first."""
        number = self._last_number()
        return self.get(number) if number >= 0 else None

    def all(self) -> list[Generation]:
        return [self.get(number) for number in range(len(self))]

    def __len__(self) -> int:
        return self._last_number() + 1

    def add_fate(self, fate: Fate) -> bool:
        """Record a fate outside a generation's end (a quarantine, a coronation); False where it
        is on record.
        """
        row = {name: getattr(fate, name) for name in ("individual", "generation", "island", "kind", "reason")}
        with self._database.transaction():
            self._individuals.require((fate.individual,), f"whose fate is {fate.kind!r}")
            return self._database.append_once("fates", row, f"fate {fate.kind!r} of {fate.individual}")

    def fates(
        self, individual: str | None = None, generation: int | None = None, kind: str | None = None
    ) -> list[Fate]:
        """The fates on record, in the order of generation, island and individual."""
        where = (
            "(?1 IS NULL OR individual = ?1) AND (?2 IS NULL OR generation = ?2) AND (?3 IS NULL OR kind"
            " = ?3)"
        )
        rows = self._database.select(
            "fates", where, (individual, generation, kind), "generation, island, individual, kind"
        )
        return [
            Fate(row["individual"], row["generation"], row["island"], row["kind"], row["reason"])
            for row in rows
        ]

    def migrations(self, generation: int | None = None) -> list[Migration]:
        """The migrations on record, in the order of generation, origin and individual."""
        where = "?1 IS NULL OR generation = ?1"
        rows = self._database.select(
            "migrations", where, (generation,), "generation, origin, target, individual"
        )
        return [Migration(row["generation"], row["individual"], row["origin"], row["target"]) for row in rows]

    def _add_island(self, generation: int, island: Island) -> bool:
        self._individuals.require(
            island.population + island.archive, f"on island {island.number} in generation {generation}"
        )
        row = {
            "generation": generation,
            "island": island.number,
            "population": canonical(island.population),
            "archive": canonical(island.archive),
        }
        return self._database.append_once(
            "generation_islands", row, f"island {island.number} in generation {generation}"
        )

    def _add_migration(self, migration: Migration) -> bool:
        row = {name: getattr(migration, name) for name in ("generation", "individual", "origin", "target")}
        self._individuals.require((migration.individual,), "who migrates")
        return self._database.append_once("migrations", row, f"migration of {migration.individual}")

    def _last_number(self) -> int:
        return self._database.query("SELECT COALESCE(MAX(number), -1) FROM generations")[0][0]


def _island(row: sqlite3.Row) -> Island:
    return Island(
        row["island"],
        tuple(json.loads(row["population"])),
        tuple(json.loads(row["archive"])),
    )
