"""The tables of a store, and the triggers that make them append-only.

Every row carries `at` (UTC, for a reader's eyes: nothing depends on it) and `checksum` (of all its other
columns).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FORMAT = 2
APPLICATION_ID = 0x45414152  # "EAAR": tells a store from any other SQLite file


class Table(NamedTuple):
    """A table's own columns, those that identify a row, its constraints, and the columns of its indexes by
    name.
    """

    columns: str
    key: tuple[str, ...] = ()
    checks: str = ""
    indexes: tuple[tuple[str, str], ...] = ()


TABLES: dict[str, Table] = {
    "meta": Table("name TEXT NOT NULL, value TEXT NOT NULL", ("name",)),
    "individuals": Table(
        """id TEXT NOT NULL, generation INTEGER NOT NULL, island INTEGER NOT NULL, child INTEGER NOT NULL,
        source TEXT NOT NULL, source_hash TEXT NOT NULL, operator TEXT NOT NULL, parents TEXT NOT NULL,
        idea TEXT NOT NULL, detail TEXT NOT NULL""",
        ("id",),
        indexes=(
            ("individuals_by_birth", "generation, island, child"),
            ("individuals_by_source", "source_hash"),
        ),
    ),
    "trials": Table(
        """source_hash TEXT NOT NULL, testbed TEXT NOT NULL, seed INTEGER NOT NULL, fidelity REAL NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('ok', 'failed')), reason TEXT, message TEXT,
        accuracy REAL, pgr REAL, members INTEGER NOT NULL, tokens INTEGER NOT NULL, seconds REAL NOT NULL,
        history TEXT NOT NULL, pool BLOB""",
        ("source_hash", "testbed", "seed", "fidelity"),
        "CHECK ((status = 'ok') = (accuracy IS NOT NULL AND pgr IS NOT NULL AND reason IS NULL)), "
        "CHECK (status = 'ok' OR (accuracy IS NULL AND pgr IS NULL AND reason IS NOT NULL))",
    ),
    "correctness": Table(
        """source_hash TEXT NOT NULL, testbed TEXT NOT NULL, seed INTEGER NOT NULL, fidelity REAL NOT NULL,
        size INTEGER NOT NULL, bits BLOB NOT NULL""",
        ("source_hash", "testbed", "seed", "fidelity"),
    ),
    "audits": Table(
        """source_hash TEXT NOT NULL, testbed TEXT NOT NULL, audit TEXT NOT NULL, verdict TEXT NOT NULL,
        value REAL, standard_error REAL, p REAL, words TEXT NOT NULL""",
        ("source_hash", "testbed", "audit"),
    ),
    "reviews": Table(
        "individual TEXT NOT NULL, reviewer TEXT NOT NULL, verdict TEXT NOT NULL, remarks TEXT NOT NULL"
    ),
    "openings": Table(
        "number INTEGER NOT NULL, shortlist TEXT NOT NULL, shortlist_hash TEXT NOT NULL, facts TEXT NOT NULL",
        ("number",),
    ),
    "sealed_scores": Table(
        """opening INTEGER NOT NULL, source_hash TEXT NOT NULL, seed INTEGER NOT NULL, status TEXT NOT NULL,
        accuracy REAL, members INTEGER NOT NULL, message TEXT""",
        ("opening", "source_hash", "seed"),
    ),
    "generations": Table(
        "number INTEGER NOT NULL, islands TEXT NOT NULL, summary TEXT NOT NULL", ("number",)
    ),
    "generation_islands": Table(
        """generation INTEGER NOT NULL, island INTEGER NOT NULL, population TEXT NOT NULL,
        archive TEXT NOT NULL""",
        ("generation", "island"),
    ),
    "fates": Table(
        "individual TEXT NOT NULL, generation INTEGER NOT NULL, island INTEGER NOT NULL, kind TEXT NOT NULL,"
        " reason TEXT NOT NULL",
        ("individual", "generation", "island", "kind"),
    ),
    "migrations": Table(
        "generation INTEGER NOT NULL, individual TEXT NOT NULL, origin INTEGER NOT NULL, target INTEGER NOT"
        " NULL",
        ("generation", "individual", "origin", "target"),
    ),
    "replies": Table(
        """individual TEXT NOT NULL, operator TEXT NOT NULL, attempt INTEGER NOT NULL, turn INTEGER NOT NULL,
        request_hash TEXT NOT NULL, reply TEXT NOT NULL""",
        ("individual", "operator", "attempt", "turn"),
    ),
    "ledger": Table(
        """kind TEXT NOT NULL, amount REAL NOT NULL, individual TEXT, island INTEGER, generation INTEGER,
        operator TEXT, detail TEXT NOT NULL""",
        indexes=(("ledger_by_kind", "kind"),),
    ),
    "asked": Table(
        """phase TEXT NOT NULL, source_hash TEXT NOT NULL, testbed TEXT NOT NULL, seed INTEGER NOT NULL,
        fidelity REAL NOT NULL""",
        ("source_hash", "testbed", "seed", "fidelity"),
    ),
    "stints": Table("sandbox TEXT NOT NULL CHECK (sandbox IN ('A', 'B', 'C', 'D')), versions TEXT NOT NULL"),
    "findings": Table(
        """author TEXT NOT NULL, island INTEGER NOT NULL, generation INTEGER NOT NULL, title TEXT NOT NULL,
        text TEXT NOT NULL, text_hash TEXT NOT NULL, source_hash TEXT""",
        ("author", "text_hash"),
    ),
}


def statements(tables: Mapping[str, Table] = TABLES) -> list[str]:
    """The SQL that makes an empty store."""
    made = [f"PRAGMA application_id = {APPLICATION_ID}"]
    for name, table in tables.items():
        made += statements_of(name, table)
    return made


def statements_of(name: str, table: Table) -> list[str]:
    """The SQL that makes one table, with its triggers and indexes."""
    constraints = [f"UNIQUE ({', '.join(table.key)})"] if table.key else []
    constraints += [table.checks] if table.checks else []
    own = ["seq INTEGER PRIMARY KEY", table.columns, "at TEXT NOT NULL", "checksum TEXT NOT NULL"]
    made = [f"CREATE TABLE {name} ({', '.join([*own, *constraints])})"]
    for event in ("UPDATE", "DELETE"):
        made.append(
            f"CREATE TRIGGER {name}_no_{event.lower()} BEFORE {event} ON {name} "
            f"BEGIN SELECT RAISE(ABORT, 'append-only: {name} refuses {event}'); END"
        )
    # REPLACE deletes without asking the DELETE trigger unless a connection asks for it; this one is asked
    # first, always.
    taken = f" OR ({' AND '.join(f'{column} = NEW.{column}' for column in table.key)})" if table.key else ""
    made.append(
        f"CREATE TRIGGER {name}_no_replace BEFORE INSERT ON {name} "
        f"WHEN EXISTS (SELECT 1 FROM {name} WHERE seq = NEW.seq{taken}) "
        f"BEGIN SELECT RAISE(ABORT, 'append-only: {name} has this row'); END"
    )
    return made + [f"CREATE INDEX {index} ON {name} ({columns})" for index, columns in table.indexes]
