"""The ledger: what a search has spent, and how often it asked the grader."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from population.database import Database
from population.errors import PopulationError
from population.jsontext import plain

# Tokens of LLM operators; tokens trained and forwarded; money; seconds of compute; scores asked for; openings
# of the sealed split.
LEDGER_KINDS = ("tokens", "trainer_tokens", "usd", "compute_seconds", "grader_questions", "sealed_openings")


@dataclass(frozen=True)
class Entry:
    """`amount` of `kind` spent, and for whom as far as that is known. `detail` is JSON."""

    kind: str
    amount: float
    individual: str | None = None
    island: int | None = None
    generation: int | None = None
    operator: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", float(self.amount))
        object.__setattr__(self, "detail", plain(self.detail))
        if self.kind not in LEDGER_KINDS:
            raise PopulationError(f"{self.kind!r} is no kind of expense. Kinds: {', '.join(LEDGER_KINDS)}.")
        if not 0 <= self.amount < math.inf:
            raise PopulationError(f"{self.amount} {self.kind}: an expense is finite and not negative.")


class Ledger:
    """Entries in the order in which they were made. Two equal entries are two expenses.

    Make an entry in one `Store.transaction` with the event that it pays for, so that a replay does not count
    it twice; enter a question to the grader before it is asked, so that none goes uncounted.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kind: str, amount: float, **fields: Any) -> None:
        """Enter an expense; `fields` are those of `Entry`.

        Raises PopulationError for an unknown kind or a negative amount.
        """
        entry = Entry(kind, amount, **fields)
        row = {
            name: getattr(entry, name)
            for name in ("kind", "amount", "individual", "island", "generation", "operator")
        }
        self._database.append("ledger", {**row, "detail": json.dumps(entry.detail, sort_keys=True)})

    def total(
        self,
        kind: str,
        *,
        individual: str | None = None,
        island: int | None = None,
        generation: int | None = None,
        operator: str | None = None,
    ) -> float:
        """The sum of all entries of `kind` that match."""
        sql = """SELECT COALESCE(SUM(amount), 0.0) FROM ledger WHERE kind = ?1
            AND (?2 IS NULL OR individual = ?2) AND (?3 IS NULL OR island = ?3)
            AND (?4 IS NULL OR generation = ?4) AND (?5 IS NULL OR operator = ?5)"""
        return self._database.query(sql, (kind, individual, island, generation, operator))[0][0]

    def totals(self) -> dict[str, float]:
        """The sum of every kind, 0.0 where nothing was spent."""
        rows = self._database.query("SELECT kind, SUM(amount) FROM ledger GROUP BY kind")
        return dict.fromkeys(LEDGER_KINDS, 0.0) | {kind: total for kind, total in rows}

    def all(self) -> list[Entry]:
        names = ("kind", "amount", "individual", "island", "generation", "operator")
        return [
            Entry(**{name: row[name] for name in names}, detail=json.loads(row["detail"]))
            for row in self._database.select("ledger")
        ]
