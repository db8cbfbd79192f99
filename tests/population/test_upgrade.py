"""Stores of earlier formats open, upgraded, with nothing lost; whatever interrupts that leaves them as they
were.
"""

import contextlib
import errno
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from old_stores import FINGERPRINTS, old_run
from store_examples import python

from population import upgrade
from population.errors import StoreError
from population.schema import FORMAT
from population.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(params=FINGERPRINTS)
def name(request):
    return request.param


@pytest.fixture
def path(tmp_path, name):
    return old_run(tmp_path, name)


def contents(path):
    """All rows of a store by table, without what formats differ in."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {one: connection.execute(f"SELECT * FROM {one} ORDER BY seq").fetchall() for one in names}


def test_it_is_read_without_being_touched(path, name):
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with Store.open(path, writable=False) as store:
        assert store.fingerprint() == FINGERPRINTS[name]
        assert store.individuals.all() and store.trials.all() and store.generations.last()
        assert [one.sandbox for one in store.stints.all()] == ["A"] and store.stints.all()[0].versions == {}
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_it_is_read_in_a_folder_that_cannot_be_written_to(path, name):
    path.parent.chmod(0o500)
    try:
        with Store.open(path, writable=False) as store:
            assert store.fingerprint() == FINGERPRINTS[name]
    finally:
        path.parent.chmod(0o700)


def test_it_is_upgraded_for_a_writer_and_a_copy_is_kept(path, name):
    old = contents(path)
    with Store.open(path) as store:
        assert store.fingerprint() == FINGERPRINTS[name]
        store.ledger.add("usd", 1.0)
    with Store.open(path, writable=False) as store:
        assert store.fingerprint() == FINGERPRINTS[name] and store.ledger.total("usd") == 1.0
    assert contents(path.with_name("search.format-1.sqlite")) == old
    new = contents(path)
    same = old.keys() - {"meta", "sessions", "generation_islands", "ledger"}
    assert {table: new[table] for table in same} == {table: old[table] for table in same}
    assert new["ledger"][:-1] == old["ledger"]


def test_what_was_there_when_the_last_generation_ended_counts_as_asked_for(tmp_path):
    for name, everything in (("finished", False), ("killed", False)):
        with Store.open(old_run(tmp_path, name), writable=False) as store:
            asked, on_record = store.asked.all(), len(store.trials)
            assert 0 < len(asked) < on_record or everything
            assert set(asked.values()) == {f"generation {store.generations.last().number}"}


def test_a_row_that_is_not_what_its_checksum_says_stops_the_upgrade(path, name):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        trigger = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'generation_islands_no_update'"
        ).fetchone()[0]
        connection.execute("DROP TRIGGER generation_islands_no_update")
        connection.execute("UPDATE generation_islands SET population = '[]' WHERE seq = 1")
        connection.execute(trigger)
    before = contents(path)
    for writable in (True, False):
        with pytest.raises(StoreError, match="table generation_islands, row 1: the file is damaged"):
            Store.open(path, writable)
    assert contents(path) == before


@pytest.mark.parametrize("step", range(1, 24, 3))
def test_killed_at_any_statement_of_the_upgrade_it_opens_again_with_all_that_it_had(tmp_path, step):
    """kill -9 before the `step`-th statement that SQLite is given after the copy was kept."""
    path = old_run(tmp_path, "killed")
    program = f"""
import os, signal, sqlite3
from pathlib import Path
from population import upgrade
from population.store import Store

count = 0

def watch(statement):
    global count
    if not statement.startswith(("SELECT", "INSERT")):
        count += 1
        if count == {step}:
            os.kill(os.getpid(), signal.SIGKILL)

begin = upgrade.upgrade

def watched(connection, found, path):
    connection.set_trace_callback(watch)
    begin(connection, found, path)
    connection.set_trace_callback(None)

upgrade.upgrade = watched
Store.open(Path({str(path)!r})).close()
print("upgraded", count)
"""
    process = python(program)
    out, error = process.communicate()
    assert process.returncode == -signal.SIGKILL or out.startswith("upgraded"), error
    with Store.open(path) as store:
        assert store.fingerprint() == FINGERPRINTS["killed"]


def test_where_no_copy_can_be_kept_nothing_is_upgraded(tmp_path, monkeypatch):
    path = old_run(tmp_path, "killed")
    before = contents(path)

    def full(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(StoreError, match=r"no copy of it could be put beside it .No space left on device"):
        Store.open(path)
    monkeypatch.undo()
    assert contents(path) == before
    with Store.open(path) as store:
        assert store.fingerprint() == FINGERPRINTS["killed"]


def test_there_is_a_step_from_every_earlier_format():
    assert set(upgrade.TABLES_OF) == set(range(1, FORMAT + 1))
    assert set(upgrade._STEPS) == set(range(1, FORMAT))
