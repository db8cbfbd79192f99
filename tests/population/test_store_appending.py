"""Appending: transactions, and what nobody can take back."""

import asyncio
import sqlite3
import threading

import pytest
from store_examples import TURN, a_trial, generation_zero, reopened, with_two

from population import schema
from population.errors import StoreError
from population.forum import Finding
from population.migration import Migration
from population.store import Store
from population.tables.asked import TrialKey
from population.tables.generations import Fate
from population.tables.integrity import Audit, Opening, Review, SealedScore


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "search.sqlite", {"seed": 7}) as store:
        yield store


def test_events_of_one_transaction_stand_or_fall_together(store):
    with pytest.raises(KeyboardInterrupt), store.transaction():
        store.replies.record(TURN, "a" * 32, "yes")
        store.ledger.add("usd", 1)
        raise KeyboardInterrupt
    assert (len(store.replies), store.ledger.total("usd")) == (0, 0.0)
    with store.transaction(), store.transaction():
        store.replies.record(TURN, "a" * 32, "yes")
        store.ledger.add("usd", 1)
    assert (len(store.replies), store.ledger.total("usd")) == (1, 1.0)


def test_a_reader_sees_a_transaction_only_when_it_has_ended(store):
    with Store.open(store.path, writable=False) as reader:
        with store.transaction():
            store.ledger.add("usd", 1)
            assert reader.ledger.total("usd") == 0.0
        assert reader.ledger.total("usd") == 1.0


def test_a_reader_that_takes_its_time_does_not_hold_up_the_writer(store):
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT COUNT(*) FROM ledger").fetchone() == (0,)
    store.ledger.add("usd", 1)
    assert reader.execute("SELECT COUNT(*) FROM ledger").fetchone() == (0,)
    reader.close()
    assert store.ledger.total("usd") == 1.0


def test_every_transaction_is_synced_to_the_disk(store):
    # not a behaviour that a test can see without cutting the power: the promise of SQLite's that we rely on
    full = 2
    assert store._database.query("PRAGMA synchronous")[0][0] == full
    with reopened(store) as again:
        assert again._database.query("PRAGMA synchronous")[0][0] == full


def test_another_task_cannot_slip_an_event_into_an_open_transaction(store):
    async def intruder():
        store.ledger.add("usd", 1)

    async def holder():
        with store.transaction():
            await asyncio.create_task(intruder())

    with pytest.raises(StoreError, match="another task was inside a transaction"):
        asyncio.run(holder())
    assert store.ledger.all() == []


def test_threads_take_turns(store):
    def spend():
        for _ in range(5):
            with store.transaction():
                store.ledger.add("usd", 1)
                store.ledger.add("tokens", 1)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.kind for entry in store.ledger.all()] == ["usd", "tokens"] * 20


# append-only


def filled(store):
    with_two(store).generations.commit(
        generation_zero(), [Fate("g000-i0-c00", 0, 0, "elite")], [Migration(0, "g000-i0-c00", 0, 1)]
    )
    store.trials.record(a_trial())
    store.correctness.record(a_trial(), [True, False])
    store.replies.record(TURN, "a" * 32, "yes")
    store.ledger.add("usd", 1)
    store.stints.begin("A", {"torch": "2.13.0"})
    store.asked.commit("generation 0", [TrialKey("5eed", "mini", 0, 1.0)])
    store.audits.record(Audit("5eed", "mini", "static read", "pass", None, None, None, "nothing"))
    store.reviews.add(Review("g000-i0-c00", "Ada", "approve"))
    store.openings.record(Opening(1, ({"source_hash": "5eed"},), {}))
    store.openings.record_score(SealedScore(1, "5eed", 0, "ok", 0.75))
    store.forum.post(Finding("g000-i0-c00", 0, 0, "Title", "Text"))
    return store


@pytest.mark.parametrize("table", schema.TABLES)
def test_no_table_lets_anything_be_changed_or_deleted_by_whomever(store, table):
    filled(store)
    other = sqlite3.connect(store.path)
    try:
        before = other.execute(f"SELECT * FROM {table}").fetchall()
        assert before
        for statement in (
            f"UPDATE {table} SET at = 'never'",
            f"DELETE FROM {table}",
            f"REPLACE INTO {table} SELECT * FROM {table}",
            f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
        ):
            with pytest.raises(sqlite3.IntegrityError, match=f"append-only: {table}"):
                other.execute(statement)
        key = schema.TABLES[table].key
        if key:  # a row of its own number, but of another's key
            columns = [
                row[1] for row in other.execute(f"PRAGMA table_info({table})") if row[1] not in ("seq", "at")
            ]
            names = ", ".join(columns)
            with pytest.raises(sqlite3.IntegrityError, match=f"append-only: {table} has this row"):
                other.execute(
                    f"REPLACE INTO {table} (at, {names}) SELECT 'never', {names} FROM {table} LIMIT 1"
                )
        assert other.execute(f"SELECT * FROM {table}").fetchall() == before
    finally:
        other.close()


def test_a_reader_appends_nothing(store):
    with (
        Store.open(store.path, writable=False) as reader,
        pytest.raises(StoreError, match="open for reading alone"),
    ):
        reader.ledger.add("usd", 1)


def test_every_row_is_guarded_by_a_checksum(store):
    filled(store)
    store.close()
    other = sqlite3.connect(store.path)
    trigger = other.execute("SELECT sql FROM sqlite_master WHERE name = 'trials_no_update'").fetchone()[0]
    other.execute("DROP TRIGGER trials_no_update")
    other.execute("UPDATE trials SET pgr = 0.99")
    other.commit()
    with pytest.raises(StoreError, match="has lost or gained tables or triggers"):
        Store.open(store.path)
    other.execute(trigger)
    other.commit()
    other.close()
    with (
        Store.open(store.path) as opened,
        pytest.raises(StoreError, match=r"table trials, row 1: the file is damaged"),
    ):
        opened.trials.all()
