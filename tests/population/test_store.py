"""What a store keeps, refuses, and gives back."""

import math
import sqlite3

import pytest
from store_examples import (
    TURN,
    a_failure,
    a_pool,
    a_trial,
    an_individual,
    generation_zero,
    reopened,
    with_two,
)

from population.errors import PopulationError, StoreConflict, StoreError
from population.island import Island
from population.jsontext import digest
from population.migration import Migration
from population.store import Store
from population.tables.generations import Fate
from population.tables.ledger import LEDGER_KINDS, Entry


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "search.sqlite", {"seed": 7, "islands": [0, 1]}) as store:
        yield store


# settings


def test_settings_and_facts_are_kept(tmp_path):
    with Store.create(
        tmp_path / "new folder" / "ä #?%.sqlite", {"b": (1, 2), "a": None}, {"version": "0.1"}
    ) as store:
        pass
    with Store.open(store.path, writable=False) as reader:
        assert reader.settings == {"a": None, "b": [1, 2]}
        assert reader.facts == {"version": "0.1"}


def test_a_store_is_not_created_over_another(store):
    store.close()
    with pytest.raises(StoreError, match="exists already"):
        Store.create(store.path, {})
    assert Store.open(store.path).settings["seed"] == 7


def test_the_remains_of_an_interrupted_creation_are_in_nobodys_way(tmp_path):
    (tmp_path / "search.sqlite.new").write_bytes(b"half a store")
    Store.create(tmp_path / "search.sqlite", {}).close()
    assert not (tmp_path / "search.sqlite.new").exists()


def test_a_missing_store_is_named(tmp_path):
    for writable in (True, False):
        with pytest.raises(StoreError, match=r"no store at .*nowhere\.sqlite"):
            Store.open(tmp_path / "nowhere.sqlite", writable)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_store_says_so(store):
    store.close()
    store.close()
    with pytest.raises(StoreError, match="has been closed"):
        len(store.trials)


# individuals


def test_an_individual_comes_back_as_it_was_born(store):
    first = an_individual(detail={"model": "none", "loss": math.pi})
    child = an_individual(
        1,
        1,
        2,
        parents=(first.id,),
        source="ä\x00\n",
        idea="Trust less.",
        operator="mutation",
        source_hash="c",
    )
    assert store.individuals.add(first) and store.individuals.add(child)
    assert not store.individuals.add(child)
    store = reopened(store)
    assert store.individuals.get(child.id) == child
    assert store.individuals.all() == [first, child]
    assert store.individuals.all(generation=1) == store.individuals.all(island=1) == [child]
    assert store.individuals.all(generation=1, island=0) == []
    assert (len(store.individuals), child.id in store.individuals, "g009-i0-c00" in store.individuals) == (
        2,
        True,
        False,
    )


def test_an_id_belongs_to_one_individual(store):
    store.individuals.add(an_individual())
    with pytest.raises(StoreConflict, match="g000-i0-c00 is on record with another operator, idea"):
        store.individuals.add(an_individual(operator="mutation", idea="Other."))
    assert store.individuals.get("g000-i0-c00") == an_individual()


def test_a_parent_is_born_before_its_child(store):
    with pytest.raises(StoreError, match="'g000-i0-c00', a parent of g001-i0-c00, was never born"):
        store.individuals.add(an_individual(1, parents=("g000-i0-c00",)))
    assert len(store.individuals) == 0


def test_an_unknown_individual_is_named(store):
    with pytest.raises(StoreError, match="no individual 'bob'"):
        store.individuals.get("bob")


def test_the_original_of_a_source_is_the_first_in_order_of_birth_whoever_was_stored_first(store):
    for place in ((1, 1, 0), (1, 0, 1), (1, 0, 0), (0, 1, 0)):
        store.individuals.add(an_individual(*place, source_hash="late" if place[0] else "early"))
    assert [each.id for each in store.individuals.of_source("late")] == [
        "g001-i0-c00",
        "g001-i0-c01",
        "g001-i1-c00",
    ]
    assert store.individuals.source_hashes() == {"early": "g000-i1-c00", "late": "g001-i0-c00"}
    assert store.individuals.source_hashes(before=1) == {"early": "g000-i1-c00"}


# trials


def test_a_trial_comes_back_as_it_was_recorded(store):
    good = a_trial(
        3, -0.25, pool=a_pool(), history=[{"step": 1, "loss": math.nan}], tokens=10, seconds=1.5, fidelity=0.1
    )
    bad = a_failure(3, message="line 3\ud800\x00")
    assert store.trials.record(good) and store.trials.record(bad)
    store = reopened(store)
    assert store.trials.get("5eed", "mini", 3, 0.1) == good
    assert store.trials.get("5eed", "mini", 3, 1.0) == bad
    assert store.trials.get("5eed", "mini", 4, 1.0) is None
    assert store.trials.all() == store.trials.of("5eed") == [good, bad]
    assert store.trials.of("5eed", "mini", 1.0) == [bad]
    assert store.trials.of("5eed", "film") == store.trials.of("0ther") == []
    assert len(store.trials) == 2


def test_a_trial_recorded_twice_is_one_trial_and_keeps_its_first_time(store):
    assert store.trials.record(a_trial(seconds=1.0, pool=a_pool()))
    assert not store.trials.record(a_trial(seconds=2.0, pool=a_pool()))
    assert [trial.seconds for trial in store.trials.all()] == [1.0]


@pytest.mark.parametrize(
    "other", [a_trial(pgr=0.6), a_failure(), a_trial(tokens=1), a_trial(pool=a_pool()), a_trial(history=[{}])]
)
def test_a_trial_has_one_outcome(store, other):
    store.trials.record(a_trial())
    with pytest.raises(StoreConflict, match="trial of 5eed on mini, seed 0, fidelity 1 is on record"):
        store.trials.record(other)
    assert store.trials.all() == [a_trial()]


def test_the_file_itself_refuses_a_score_for_a_failure(store):
    store.trials.record(a_trial())
    columns = "source_hash, testbed, fidelity, tokens, seconds, history, members, at, checksum"
    for status, reason, accuracy, pgr in (
        ("failed", "'crash'", 0.0, "NULL"),
        ("failed", "NULL", "NULL", "NULL"),
        ("ok", "NULL", 0.5, "NULL"),
    ):
        with sqlite3.connect(store.path) as other, pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            values = f"9, '{status}', {reason}, {accuracy}, {pgr}"
            other.execute(
                f"INSERT INTO trials (seed, status, reason, accuracy, pgr, {columns}) SELECT {values},"
                f" {columns} FROM trials"
            )


# generations, fates, migrations


def test_a_generation_is_committed_with_its_fates_and_migrations(store):
    with_two(store)
    fates = [Fate("g000-i1-c00", 0, 1, "died", "worst"), Fate("g000-i0-c00", 0, 0, "elite")]
    moves = [Migration(0, "g000-i0-c00", 0, 1)]
    assert store.generations.last() is None
    assert store.generations.commit(generation_zero(), fates, moves)
    assert not store.generations.commit(generation_zero(), fates, moves)
    store = reopened(store)
    assert store.generations.last() == store.generations.get(0) == generation_zero()
    assert store.generations.all() == [generation_zero()] and len(store.generations) == 1
    assert store.generations.fates() == [fates[1], fates[0]]
    assert store.generations.fates(kind="died") == store.generations.fates("g000-i1-c00") == [fates[0]]
    assert store.generations.fates(generation=1) == []
    assert store.generations.migrations() == store.generations.migrations(0) == moves


def test_a_generation_that_names_a_stranger_leaves_nothing(store):
    with_two(store)
    strangers = [
        lambda: store.generations.commit(generation_zero(islands=(Island(0, ("g000-i9-c00",)),))),
        lambda: store.generations.commit(
            generation_zero(), [Fate("g000-i0-c00", 0, 0, "elite"), Fate("g000-i9-c00", 0, 0, "died")]
        ),
        lambda: store.generations.commit(generation_zero(), (), [Migration(0, "g000-i9-c00", 0, 1)]),
    ]
    for commit in strangers:
        with pytest.raises(StoreError, match=r"g000-i9-c00.*was never born"):
            commit()
        assert (store.generations.last(), store.generations.fates(), store.generations.migrations()) == (
            None,
            [],
            [],
        )


def test_generations_follow_one_another(store):
    with_two(store)
    with pytest.raises(StoreError, match=r"generation 1 cannot follow -1\. Commit generation 0"):
        store.generations.commit(generation_zero(number=1))
    with pytest.raises(StoreError, match="generation 0 has not ended"):
        store.generations.get(0)


@pytest.mark.parametrize(
    ("changes", "fates", "moves"),
    [
        ({"summary": {}}, [], []),
        ({"islands": generation_zero().islands[:1]}, [], []),
        ({}, [Fate("g000-i0-c00", 0, 0, "died")], []),
        ({}, [], [Migration(0, "g000-i0-c00", 0, 1)]),
    ],
)
def test_a_generation_ends_in_one_way(store, changes, fates, moves):
    with_two(store).generations.commit(generation_zero())
    with pytest.raises(StoreConflict):
        store.generations.commit(generation_zero(**changes), fates, moves)
    assert (store.generations.fates(), store.generations.migrations()) == ([], [])


def test_an_individual_may_survive_on_one_island_and_die_on_another(store):
    with_two(store)
    for fate in (Fate("g000-i0-c00", 0, 0, "survived"), Fate("g000-i0-c00", 0, 1, "died")):
        assert store.generations.add_fate(fate)
        assert not store.generations.add_fate(fate)
    assert len(store.generations.fates("g000-i0-c00")) == 2
    with pytest.raises(StoreConflict, match="another reason"):
        store.generations.add_fate(Fate("g000-i0-c00", 0, 0, "survived", "luck"))
    with pytest.raises(PopulationError, match=r"is no fate\. Fates: survived"):
        Fate("g000-i0-c00", 0, 0, "lost")


# replies


def test_a_reply_is_paid_for_once(store):
    request = digest({"messages": ["improve this"]})
    assert store.replies.get(TURN, request) is None
    assert store.replies.record(TURN, request, {"text": "ok \ud800", "usage": {"output_tokens": 3}})
    assert not store.replies.record(TURN, request, {"text": "ok \ud800", "usage": {"output_tokens": 3}})
    store = reopened(store)
    assert store.replies.get(TURN, request) == {"text": "ok \ud800", "usage": {"output_tokens": 3}}
    assert store.replies.get(TURN._replace(turn=1), request) is None
    assert len(store.replies) == 1


def test_a_reply_to_another_request_is_not_used(store):
    store.replies.record(TURN, "a" * 32, "yes")
    with pytest.raises(
        StoreConflict, match="reply to mutation for g001-i0-c00, attempt 0, turn 0, answers another request"
    ):
        store.replies.get(TURN, "b" * 32)
    for request, reply in (("b" * 32, "yes"), ("a" * 32, "no")):
        with pytest.raises(StoreConflict):
            store.replies.record(TURN, request, reply)


def test_equal_requests_have_equal_hashes_and_others_do_not():
    assert digest({"a": 1, "b": (2,)}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5}) and digest("1") != digest(1)


# ledger


def test_the_ledger_adds_up(store):
    store.ledger.add(
        "usd",
        0.25,
        individual="g001-i0-c00",
        island=0,
        generation=1,
        operator="mutation",
        detail={"model": "m"},
    )
    store.ledger.add("usd", 0.5, island=1, generation=1, operator="crossover")
    store.ledger.add("usd", 0.5, island=1, generation=1, operator="crossover")
    store.ledger.add("grader_questions", 1)
    store.ledger.add("grader_questions", -0.0)
    store = reopened(store)
    assert store.ledger.total("usd") == 1.25
    assert store.ledger.total("usd", island=1) == store.ledger.total("usd", operator="crossover") == 1.0
    assert store.ledger.total("usd", individual="g001-i0-c00", generation=1) == 0.25
    assert store.ledger.total("tokens") == store.ledger.total("usd", generation=2) == 0.0
    assert store.ledger.totals() == {**dict.fromkeys(LEDGER_KINDS, 0.0), "usd": 1.25, "grader_questions": 1.0}
    assert store.ledger.all()[0] == Entry("usd", 0.25, "g001-i0-c00", 0, 1, "mutation", {"model": "m"})


@pytest.mark.parametrize(
    ("kind", "amount"), [("euros", 1), ("usd", -1), ("usd", math.nan), ("usd", math.inf)]
)
def test_a_senseless_expense_is_refused(store, kind, amount):
    with pytest.raises(PopulationError):
        store.ledger.add(kind, amount)
    assert store.ledger.all() == []


# the outcome of a search


def test_the_fingerprint_of_an_outcome_ignores_times_and_the_order_of_arrival(tmp_path):
    def made(name, trials):
        with Store.create(tmp_path / name, {"seed": 1}) as store:
            for trial in trials:
                store.trials.record(trial)
            store.ledger.add("compute_seconds", len(name))
            return store.fingerprint()

    assert made("a", [a_trial(0), a_trial(1, seconds=1)]) == made("bb", [a_trial(1, seconds=2), a_trial(0)])
    assert made("c", [a_trial(0)]) != made("d", [a_trial(0, pgr=0.6)])
