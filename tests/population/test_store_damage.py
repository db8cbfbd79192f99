"""A store that is damaged, of another version, or not a store at all."""

import contextlib
import sqlite3

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from store_examples import a_pool, a_trial, an_individual

from population import schema
from population.errors import StoreError
from population.store import Store


def test_a_store_of_a_later_version_is_refused_with_both_versions_and_the_remedy(tmp_path):
    path, later = tmp_path / "s", schema.FORMAT + 1
    Store.create(path, {}, {"evo_aar": "9.9"}).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER meta_no_update")
        connection.execute("UPDATE meta SET value = ? WHERE name = 'format'", (later,))
    said = rf"has store format {later}; this version reads {schema.FORMAT} and earlier ones\. Install .*9\.9"
    for writable in (True, False):
        with pytest.raises(StoreError, match=said):
            Store.open(path, writable)


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_file_that_is_no_store_is_refused(tmp_path, content):
    path = tmp_path / "s"
    path.write_bytes(content)
    for writable in (True, False):
        with pytest.raises(StoreError, match="no search's store"):
            Store.open(path, writable)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(tmp_path):
    connection = sqlite3.connect(tmp_path / "s")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = (tmp_path / "s").read_bytes()
    with pytest.raises(StoreError, match="SQLite file, but no search's store"):
        Store.open(tmp_path / "s")
    assert (tmp_path / "s").read_bytes() == before


class Sound:
    """A small store's bytes and fingerprint, and the path for damaged copies of it."""

    def __init__(self, folder):
        with Store.create(folder / "sound", {"seed": 7}) as store:
            for child in range(20):
                store.individuals.add(
                    an_individual(child=child, source=f"# {child}\n" * 40, source_hash=str(child))
                )
                store.trials.record(a_trial(child, pool=a_pool(200, child)))
            self.fingerprint = store.fingerprint()
        self.content = store.path.read_bytes()
        self.path = folder / "damaged"

    def __repr__(self):
        return f"a store of {len(self.content)} bytes"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return Sound(tmp_path_factory.mktemp("sound"))


def read_whole(path):
    for leftover in ("-wal", "-shm"):
        path.with_name(path.name + leftover).unlink(missing_ok=True)
    with Store.open(path) as store:
        store.individuals.all()
        store.trials.all()
        store.generations.all()
        store.forum.as_of()
        store.ledger.all()
        return store.fingerprint()


def test_an_index_that_has_lost_a_trial_is_found_when_a_writer_opens_the_store(sound):
    """Every row is sound, but a look-up would miss one: a resumed search would run that trial again."""
    connection = sqlite3.connect(f"file:{sound.path.with_name('sound')}?mode=ro", uri=True)
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_trials_1'"
    ).fetchone()
    connection.close()
    start = (page - 1) * 4096
    index = sound.content[start : start + 4096]
    assert b"5eed" in index
    sound.path.write_bytes(
        sound.content[:start] + index.replace(b"5eed", b"5eex", 1) + sound.content[start + 4096 :]
    )
    with pytest.raises(StoreError, match=r"is damaged \(.*sqlite_autoindex_trials_1"):
        read_whole(sound.path)


@settings(max_examples=300, deadline=None)
@example(place=0.3125, bit=7)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_reported_or_harmless_never_believed(sound, place, bit):
    damaged = bytearray(sound.content)
    damaged[int(place * len(damaged))] ^= 1 << bit
    sound.path.write_bytes(damaged)
    try:
        assert read_whole(sound.path) == sound.fingerprint
    except StoreError as error:
        assert str(sound.path) in str(error)
        assert "\n" not in str(error)


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_reported(sound, place):
    sound.path.write_bytes(sound.content[: int(place * len(sound.content))])
    with pytest.raises(StoreError, match=r"damaged|no search's store"):
        read_whole(sound.path)
