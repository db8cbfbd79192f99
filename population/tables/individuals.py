"""The register of births."""

from __future__ import annotations

import json
import sqlite3

from population.database import Database
from population.errors import StoreError
from population.individual import Individual
from population.jsontext import canonical

_ORDER = "generation, island, child"


class Individuals:
    """Everyone ever born. All lists are in the order of birth: (generation, island, child)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, individual: Individual) -> bool:
        """Register a birth; False where the same individual is registered already.

        Raises StoreConflict where its id is taken by another one, StoreError where a parent is unknown.
        """
        row = {
            "id": individual.id,
            "generation": individual.generation,
            "island": individual.island,
            "child": individual.child,
            "source": individual.source,
            "source_hash": individual.source_hash,
            "operator": individual.operator,
            "parents": canonical(individual.parents),
            "idea": individual.idea,
            "detail": canonical(individual.detail),
        }
        with self._database.transaction():
            self.require(individual.parents, f"a parent of {individual.id}")
            return self._database.append_once("individuals", row, f"individual {individual.id}")

    def get(self, identity: str) -> Individual:
        """The individual with this id. Raises StoreError where there is none."""
        rows = self._database.select("individuals", "id = ?", (identity,))
        if not rows:
            raise StoreError(
                f"{self._database.path} has no individual {identity!r}. Ids look like g002-i3-c01."
            )
        return _individual(rows[0])

    def all(self, generation: int | None = None, island: int | None = None) -> list[Individual]:
        """Those born in `generation` (default: in any) on `island` (default: on any)."""
        where = "(?1 IS NULL OR generation = ?1) AND (?2 IS NULL OR island = ?2)"
        return [
            _individual(row)
            for row in self._database.select("individuals", where, (generation, island), _ORDER)
        ]

    def of_source(self, source_hash: str) -> list[Individual]:
        """Those born with this source: the first is the original, any other a duplicate."""
        return [
            _individual(row)
            for row in self._database.select("individuals", "source_hash = ?", (source_hash,), _ORDER)
        ]

    def source_hashes(self, before: int | None = None) -> dict[str, str]:
        """Every source hash ever born (before generation `before`) with the id of the first individual that
        had it.
        """
        sql = f"SELECT source_hash, id FROM individuals WHERE ?1 IS NULL OR generation < ?1 ORDER BY {_ORDER}"
        first: dict[str, str] = {}
        for row in self._database.query(sql, (before,)):
            first.setdefault(row["source_hash"], row["id"])
        return first

    def __len__(self) -> int:
        return self._database.query("SELECT COUNT(*) FROM individuals")[0][0]

    def __contains__(self, identity: object) -> bool:
        return bool(self._database.query("SELECT 1 FROM individuals WHERE id = ?", (identity,)))

    def require(self, identities: tuple[str, ...], what: str) -> None:
        """Raises StoreError where one of `identities` is not registered."""
        for identity in identities:
            if identity not in self:
                raise StoreError(
                    f"{self._database.path}: {identity!r}, {what}, was never born. Add the individual first."
                )


def _individual(row: sqlite3.Row) -> Individual:
    return Individual(
        id=row["id"],
        island=row["island"],
        generation=row["generation"],
        child=row["child"],
        source=row["source"],
        source_hash=row["source_hash"],
        operator=row["operator"],
        parents=tuple(json.loads(row["parents"])),
        idea=row["idea"],
        detail=json.loads(row["detail"]),
    )
