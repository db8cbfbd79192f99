"""The store's file: one SQLite connection that appends rows, syncs each transaction, and turns failures into
StoreError.

WAL with synchronous=FULL: when a transaction's block has ended without an error, its rows are on the disk. A
process killed inside one leaves nothing of it. Every row carries a checksum that is verified when it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sqlite3
import struct
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from population.errors import StoreConflict, StoreError
from population.lock import WriterLock
from population.schema import TABLES

BUSY_SECONDS = 30.0
_OWN_COLUMNS = ("seq", "checksum")

_REMEDIES = {
    "SQLITE_FULL": "the disk is full. Free some space and resume: all that was acknowledged is kept",
    "SQLITE_IOERR": "the disk is full or faulty. Make room, or copy the folder to another disk, and resume",
    "SQLITE_READONLY": (
        "the file or its folder cannot be written to. Give yourself write permission, or open it with"
        " writable=False"
    ),
    "SQLITE_CANTOPEN": (
        "the file cannot be opened or created. Check that its folder exists and its permissions"
    ),
    "SQLITE_CORRUPT": (
        "the file is damaged. Restore it, with its -wal file, from a copy; `sqlite3 FILE .recover` saves what"
        " is readable"
    ),
    "SQLITE_NOTADB": (
        "this is no search's store, or it is damaged. Check the path, or restore the file from a copy"
    ),
    "SQLITE_BUSY": "another program keeps it locked. Close it and try again",
    "SQLITE_TOOBIG": "a text or array is too large for one row. Store less of it",
}


class Database:
    """A store's file, open. Safe to use from several threads; not across a fork.

    See `Store` for what it means.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, lock: WriterLock | None, writable: bool
    ) -> None:
        self.path = path
        self.writable = writable
        self._connection = connection
        self._lock = lock
        self._mutex = threading.RLock()
        self._process = os.getpid()
        self._owner: object | None = None  # who is inside a transaction
        self._closed = False

    def select(
        self, table: str, where: str = "1", values: tuple = (), order: str = "seq"
    ) -> list[sqlite3.Row]:
        """Whole rows of `table`, their checksums verified."""
        with self._mutex, self._guarded("read"):
            self._check_usable()
            return rows_of(self._connection, self.path, table, where, values, order)

    def query(self, sql: str, values: tuple = ()) -> list[sqlite3.Row]:
        """The rows that a SELECT gives, unverified: for counts, sums and lists of keys."""
        with self._mutex, self._guarded("read"):
            self._check_usable()
            return self._connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All appends within the block become durable together when it ends, or none does. Blocks nest: the
        outermost counts.

        Never await inside of one: what another coroutine appended meanwhile would share this transaction's
        fate, and is refused.
        """
        with self._mutex:
            self._check_usable()
            if not self.writable:
                raise StoreError(
                    f"{self.path} is open for reading alone. Open it with writable=True to append."
                )
            if self._owner is not None:
                if self._owner is not _current_task():
                    raise StoreError(
                        f"{self.path}: an append came while another task was inside a transaction. Await"
                        " nothing inside of one."
                    )
                if not self._connection.in_transaction:
                    raise StoreError(
                        f"{self.path}: this transaction has failed and left nothing. Let its error end the"
                        " block."
                    )
                yield
                return
            with self._guarded("written to"):
                try:
                    self._owner = _current_task()
                    self._connection.execute("BEGIN IMMEDIATE")
                    yield
                    self._connection.execute("COMMIT")
                finally:
                    self._owner = None
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")

    def define(self, statements: list[str]) -> None:
        """Run the SQL that makes the tables of a new store."""
        with self.transaction():
            for statement in statements:
                self._connection.execute(statement)

    def append(self, table: str, row: Mapping[str, Any]) -> None:
        """Add one row to `table`, durable on return (or when the surrounding transaction ends)."""
        row = {
            column: value + 0.0 if isinstance(value, float) else value for column, value in row.items()
        }  # SQLite keeps no -0.0
        row["at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        row["checksum"] = checksum(row)
        names = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        with self.transaction(), self._guarded("written to"):
            self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))

    def append_once(
        self, table: str, row: Mapping[str, Any], what: str, ignored: tuple[str, ...] = ()
    ) -> bool:
        """Add a row under its table's key; False where the same row is there already.

        Raises StoreConflict where the row there differs in other columns than those `ignored`. `what` names
        the row in the message.
        """
        key = TABLES[table].key
        with self.transaction():
            where = " AND ".join(f"{column} = ?" for column in key)
            found = self.select(table, where, tuple(row[column] for column in key))
            if not found:
                self.append(table, row)
                return True
        differing = [column for column in row if column not in ignored and row[column] != found[0][column]]
        if differing:
            raise StoreConflict(
                f"{self.path}: {what} is on record with another {', '.join(differing)}. Resume with the"
                " version, settings and data that wrote the store, or start a new one."
            )
        return False

    def close(self) -> None:
        """Close the file and let the next writer in. Closing twice is harmless."""
        with self._mutex:
            if self._closed or self._process != os.getpid():
                return
            self._closed = True
            try:
                with self._guarded("closed"):
                    self._connection.close()
            finally:
                if self._lock is not None:
                    self._lock.release()

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreError(f"{self.path} has been closed. Open it again.")
        if self._process != os.getpid():
            raise StoreError(
                f"{self.path} was opened by the process that forked this one. Open it here, with"
                " writable=False."
            )

    @contextlib.contextmanager
    def _guarded(self, action: str) -> Iterator[None]:
        with translated(self.path, action):
            yield


def rows_of(
    connection: sqlite3.Connection,
    path: Path,
    table: str,
    where: str = "1",
    values: tuple = (),
    order: str = "seq",
) -> list[sqlite3.Row]:
    """Whole rows of `table`. Raises StoreError where one is not what its checksum says."""
    sql = f"SELECT * FROM {table} WHERE {where} ORDER BY {order}"
    rows = connection.execute(sql, values).fetchall()
    for row in rows:
        if row["checksum"] != checksum(row):
            raise StoreError(f"{path}, table {table}, row {row['seq']}: {_REMEDIES['SQLITE_CORRUPT']}.")
    return rows


@contextlib.contextmanager
def translated(path: Path, action: str) -> Iterator[None]:
    """SQLite's errors as StoreError with place and remedy."""
    try:
        yield
    except UnicodeDecodeError as error:  # of SQLite's own message about a damaged schema
        raise StoreError(f"{path} could not be {action}: {_REMEDIES['SQLITE_CORRUPT']}.") from error
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", None) or ""
        said = " ".join(str(error).split())[:120]
        if said.startswith("Could not decode to UTF-8"):
            name, said = "SQLITE_CORRUPT", "a text is not UTF-8"
        remedy = next((text for prefix, text in _REMEDIES.items() if name.startswith(prefix)), None)
        if remedy is None:
            raise StoreError(
                f"{path} could not be {action}: {said}. The store is append-only and unchanged."
            ) from error
        raise StoreError(f"{path} could not be {action} ({said}): {remedy}.") from error


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in SQLite's URI `mode`: "rw", "rwc" or "ro"; durable where it may write."""
    uri = f"{path.as_uri()}?mode={mode}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA recursive_triggers = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _current_task() -> object:
    try:
        return asyncio.current_task() or threading.current_thread()
    except RuntimeError:  # no event loop runs in this thread
        return threading.current_thread()


def checksum(row: Mapping[str, Any] | sqlite3.Row) -> str:
    """16 hexadecimal digits over all columns but `seq` and the checksum itself, names and types included."""
    digest = hashlib.blake2b(digest_size=8)
    for column in sorted(set(row.keys()) - set(_OWN_COLUMNS)):
        value = row[column]
        if isinstance(value, float):
            content = struct.pack("<d", value)
        elif isinstance(value, bytes):
            content = value
        else:
            content = str(value).encode()
        digest.update(f"{column}:{type(value).__name__}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()
