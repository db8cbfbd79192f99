"""The store: one append-only SQLite file that holds all of a search, and its single truth.

There is no checkpoint but this. Every event is on the disk before the call that appends it returns, so a
search killed at any instant resumes from here, and nothing in the file is ever changed. One writer at a time,
any number of readers meanwhile, on a local disk (SQLite's WAL does not work over a network file system).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from population import upgrade as upgrades
from population.database import Database, connect, translated
from population.errors import StoreError
from population.forum import Forum
from population.jsontext import canonical
from population.lock import WriterLock
from population.schema import APPLICATION_ID, FORMAT, statements
from population.tables.asked import Asked
from population.tables.correctness import Correctness
from population.tables.generations import Generations
from population.tables.individuals import Individuals
from population.tables.integrity import Audits, Openings, Reviews
from population.tables.ledger import Ledger
from population.tables.replies import Replies
from population.tables.stints import Stints
from population.tables.trials import Trials

# What a search's outcome is made of: table, columns, an order that no timing changes.
_OUTCOME = (
    ("individuals", "id, source, source_hash, operator, parents, idea, detail", "generation, island, child"),
    (
        "trials",
        (
            "source_hash, testbed, fidelity, seed, status, reason, message, accuracy, pgr, members, tokens,"
            " history, pool"
        ),
        "source_hash, testbed, fidelity, seed",
    ),
    (
        "correctness",
        "source_hash, testbed, fidelity, seed, size, bits",
        "source_hash, testbed, fidelity, seed",
    ),
    (
        "audits",
        "source_hash, testbed, audit, verdict, value, standard_error, p, words",
        "source_hash, testbed, audit",
    ),
    ("generations", "number, islands, summary", "number"),
    # Format 1 had a column that was always '{}': it stays in the hash, so that a search has one in every
    # format.
    ("generation_islands", "generation, island, population, archive, '{}'", "generation, island"),
    ("fates", "individual, generation, island, kind, reason", "generation, island, individual, kind"),
    ("migrations", "generation, individual, origin, target", "generation, origin, target, individual"),
    (
        "findings",
        "author, island, generation, title, text, source_hash",
        "generation, island, author, text_hash",
    ),
)


class Store:
    """An open store. Make one with `create` or `open`; close it, or use it as a context manager.

    individuals, trials, correctness, generations (with fates and migrations), replies, ledger, stints, asked,
    forum, audits, reviews, openings: one attribute a kind of event. Every method of theirs raises StoreError
    where the file cannot be read or appended to; nothing acknowledged is lost by it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.individuals = Individuals(database)
        self.trials = Trials(database)
        self.correctness = Correctness(database)
        self.generations = Generations(database, self.individuals)
        self.replies = Replies(database)
        self.ledger = Ledger(database)
        self.stints = Stints(database)
        self.asked = Asked(database)
        self.forum = Forum(database)
        self.audits = Audits(database)
        self.reviews = Reviews(database)
        self.openings = Openings(database)

    @classmethod
    def create(cls, path: Path | str, settings: dict[str, Any], facts: dict[str, Any] | None = None) -> Store:
        """A new store at `path`, open for writing. It appears there complete or not at all.

        `settings` are what the search depends on, `facts` what is worth knowing about its creation
        (versions); both JSON, both final. Raises StoreError where `path` exists or cannot be written,
        StoreInUse where it is just being created.
        """
        path = _resolved(path)
        with contextlib.suppress(OSError):  # the lock beside the store says what is wrong with the folder
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(path)
        try:
            if path.exists():
                raise StoreError(f"{path} exists already. Resume that search, or choose another path.")
            draft = path.with_name(path.name + ".new")
            meta = {"format": str(FORMAT), "settings": canonical(settings), "facts": canonical(facts or {})}
            with translated(path, "created"):
                _build(draft, meta)
            os.rename(draft, path)
            _sync_folder(path.parent)
            return cls(_opened(path, lock))
        except OSError as error:
            lock.release()
            raise StoreError(
                f"{path} could not be created ({error.strerror}). Choose a folder that can be written to."
            ) from None
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: Path | str, writable: bool = True) -> Store:
        """The store at `path`; with `writable=False` beside a writer, or in a folder that cannot be written
        to.

        Raises StoreError where there is none, or it is damaged or of another version; StoreInUse where
        another writer has it.
        """
        path = _resolved(path)
        if not path.is_file():
            raise StoreError(f"there is no store at {path}. Check the path, or create one.")
        lock = WriterLock(path) if writable else None
        try:
            return cls(_opened(path, lock))
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @property
    def path(self) -> Path:
        return self._database.path

    @property
    def settings(self) -> dict[str, Any]:
        """The settings given to `create`."""
        return json.loads(_meta(self._database, "settings"))

    @property
    def facts(self) -> dict[str, Any]:
        """The facts given to `create`."""
        return json.loads(_meta(self._database, "facts"))

    def fingerprint(self) -> str:
        """A hash of the search's outcome: births, trials (but for their seconds), generations, fates,
        migrations, findings.

        Two runs of one search have one fingerprint, however many workers they had and however often they were
        killed.
        """
        outcome = hashlib.sha256(canonical(self.settings).encode())
        for table, columns, order in _OUTCOME:
            for row in self._database.query(f"SELECT {columns} FROM {table} ORDER BY {order}"):
                outcome.update(repr(tuple(row)).encode())
        return outcome.hexdigest()[:32]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Events appended within the block become durable together, at its end; an exception undoes them all.

        Never await inside.
        """
        with self._database.transaction():
            yield

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _resolved(path: Path | str) -> Path:
    path = Path(path).absolute()
    return path.resolve() if path.exists() else path


def _build(draft: Path, meta: dict[str, str]) -> None:
    """Write an empty store to `draft`, over the remains of an interrupted creation."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    connection = connect(draft, "rwc")
    database = Database(draft, connection, None, writable=True)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        with database.transaction():
            database.define(statements())
            for name, value in meta.items():
                database.append("meta", {"name": name, "value": value})
    finally:
        database.close()


def _opened(path: Path, lock: WriterLock | None) -> Database:
    writable = lock is not None
    with translated(path, "opened"):
        connection = _connection(path, writable)
    try:
        with translated(path, "opened"):
            found = _format_of(path, connection)
            if writable:
                problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                if problem != "ok":
                    raise StoreError(
                        f"{path} is damaged ({problem.splitlines()[0]}). Restore it, with its -wal file, from"
                        " a copy."
                    )
        if found != FORMAT:
            connection = _upgraded(path, connection, found, writable)
    except BaseException:
        connection.close()
        raise
    return Database(path, connection, lock, writable)


def _format_of(path: Path, connection: sqlite3.Connection) -> int:
    """The store's format, one that this version reads.

    Raises StoreError for any other file, or an altered one.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} is an SQLite file, but no search's store. Check the path.")
    meta = dict(map(tuple, connection.execute("SELECT name, value FROM meta")))
    found = meta.get("format", "unknown")
    if not upgrades.known(found):
        raise StoreError(
            f"{path} has store format {found}; this version reads {FORMAT} and earlier ones. Install the"
            f" version that wrote it: {meta.get('facts', 'unknown')}."
        )
    if not upgrades.is_intact(connection, int(found)):
        raise StoreError(
            f"{path} has lost or gained tables or triggers: it is damaged or was altered. Restore it from"
            " a copy."
        )
    return int(found)


def _upgraded(path: Path, connection: sqlite3.Connection, found: int, writable: bool) -> sqlite3.Connection:
    """The connection to the store in this version's format: in place, or in memory where it is read alone."""
    try:
        with translated(path, "upgraded"):
            if writable:
                upgrades.keep_copy(path, connection, found)
            else:
                file, connection = connection, upgrades.in_memory(connection)
                file.close()
            upgrades.upgrade(connection, found, path)
    except OSError as error:
        raise StoreError(
            f"{path} could not be upgraded: no copy of it could be put beside it ({error.strerror}). It is as"
            " it was; make room, or give yourself write permission."
        ) from None
    return connection


def _connection(path: Path, writable: bool) -> sqlite3.Connection:
    if writable:
        return connect(path, "rw")
    try:
        connection = connect(path, "ro")
        connection.execute("SELECT 1 FROM sqlite_master")
        return connection
    except sqlite3.OperationalError:
        # In a folder that cannot be written to, SQLite has no place for the index of a WAL. Without a WAL the
        # file is at rest.
        if path.with_name(path.name + "-wal").exists():
            raise
        return connect(path, "ro&immutable=1")


def _meta(database: Database, name: str) -> str:
    rows = database.select("meta", "name = ?", (name,))
    if not rows:
        raise StoreError(f"{database.path} lacks its {name}: it is damaged. Restore it from a copy.")
    return rows[0]["value"]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
