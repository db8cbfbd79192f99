"""From a store of an earlier format to this version's: nothing that is on record changes but its form.

For each earlier format there is a step to the next one. A store that is opened for writing is upgraded in
place, in one transaction, after a copy of it was put beside it; one that is opened for reading is left alone,
and upgraded in memory.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from population import schema
from population.database import checksum, connect, rows_of
from population.schema import FORMAT, Table

# What format 1 had otherwise.
_FORMAT_1: dict[str, Table | None] = {
    "generation_islands": Table(
        """generation INTEGER NOT NULL, island INTEGER NOT NULL, population TEXT NOT NULL,
        archive TEXT NOT NULL, stream TEXT NOT NULL""",
        ("generation", "island"),
    ),
    "sessions": Table("sandbox TEXT NOT NULL CHECK (sandbox IN ('A', 'B', 'C', 'D'))"),
    "stints": None,
    "asked": None,
}
TABLES_OF: dict[int, dict[str, Table]] = {
    1: {name: table for name, table in {**schema.TABLES, **_FORMAT_1}.items() if table is not None},
    2: schema.TABLES,
}


def known(found: str) -> bool:
    """Whether a store's format is one that this version reads, as it is or upgraded."""
    return found in map(str, TABLES_OF)


def is_intact(connection: sqlite3.Connection, found: int) -> bool:
    """Whether a store has the tables and triggers of its format, and no others."""
    made = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    expected = {_normal(sql) for sql in schema.statements(TABLES_OF[found]) if sql.startswith("CREATE")}
    return {_normal(row[0]) for row in made} == expected


def keep_copy(path: Path, connection: sqlite3.Connection, found: int) -> None:
    """Put the store as it is beside itself, whole or not at all. Raises `sqlite3.Error` or OSError."""
    copy = path.with_name(f"{path.stem}.format-{found}{path.suffix}")
    draft = copy.with_name(f"{copy.name}.new")
    draft.unlink(missing_ok=True)
    target = connect(draft, "rwc")
    try:
        connection.backup(target)
    finally:
        target.close()
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.rename(copy)


def in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A copy of the store that nobody else sees."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    copy.row_factory = sqlite3.Row
    connection.backup(copy)
    return copy


def upgrade(connection: sqlite3.Connection, found: int, path: Path) -> None:
    """Bring an open store to this version's format, wholly or not at all.

    Raises StoreError for a damaged row.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(found, FORMAT):
            _STEPS[step](connection, path)
        _rewrite(connection, path, "meta", _with_format)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _from_1_to_2(connection: sqlite3.Connection, path: Path) -> None:
    """Islands lose an unused random state, sessions are stints with versions, trials know who
    asked for them.
    """
    _rewrite(connection, path, "generation_islands", lambda row: _without(row, "stream"))
    _rewrite(connection, path, "sessions", lambda row: {**row, "versions": "{}"}, to="stints")
    _create(connection, "asked")
    last = connection.execute("SELECT number, at FROM generations ORDER BY number DESC LIMIT 1").fetchone()
    # A store of format 1 doesn't say who asked: what was there when the last generation ended counts as asked
    # for.
    for trial in rows_of(connection, path, "trials") if last else ():
        if trial["at"] <= last["at"]:
            key = {name: trial[name] for name in ("source_hash", "testbed", "seed", "fidelity")}
            row = {**key, "phase": f"generation {last['number']}", "at": trial["at"]}
            _insert(connection, "asked", row)


_STEPS: dict[int, Callable[[sqlite3.Connection, Path], None]] = {1: _from_1_to_2}


def _with_format(row: dict) -> dict:
    return {**row, "value": str(FORMAT)} if row["name"] == "format" else row


def _without(row: dict, name: str) -> dict:
    return {column: value for column, value in row.items() if column != name}


def _rewrite(
    connection: sqlite3.Connection,
    path: Path,
    table: str,
    change: Callable[[dict], dict],
    to: str | None = None,
) -> None:
    """Make a table anew, with each of its rows changed and its checksum anew."""
    rows = [dict(row) for row in rows_of(connection, path, table)]
    connection.execute(f"DROP TABLE {table}")  # its triggers go with it
    _create(connection, to or table)
    for row in rows:
        _insert(connection, to or table, change(row))


def _create(connection: sqlite3.Connection, table: str) -> None:
    for statement in schema.statements_of(table, schema.TABLES[table]):
        connection.execute(statement)


def _insert(connection: sqlite3.Connection, table: str, row: dict) -> None:
    row = {**row, "checksum": checksum(row)}
    marks = ", ".join("?" for _ in row)
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def _normal(sql: str) -> str:
    return " ".join(sql.split())
