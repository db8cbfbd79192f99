"""What an operator is told: from the island as the generation found it and its own tries, whatever the
timing, also after a resume.
"""

import numpy as np
import pytest
from store_examples import a_failure, a_trial, an_individual

from evo_aar.search.feedback import Feedback
from evo_aar.search.record import Try
from population.island import Generation, Island
from population.migration import Migration
from population.store import Store
from population.tables.asked import TrialKey

SEEDS, ROWS = (0, 1), 900
WEAK, CEILING = 0.5, 0.9


def grade(store, source_hash, share, seeds=SEEDS, fidelity=1.0):
    """A recipe's trials, right on the first `share` of the rows."""
    for seed in seeds:
        trial = a_trial(seed, source_hash=source_hash, fidelity=fidelity)
        store.trials.record(trial)
        store.correctness.record(trial, np.arange(ROWS) < share * ROWS)


def feedback(store):
    return Feedback(store, "mini", seeds=SEEDS, islands=2, weak=WEAK, ceiling=CEILING)


def commit(store, number, births, moves=()):
    """A generation with `births`: (island, source hash, share of rows, further fields), in the order of
    places.
    """
    children = {0: 0, 1: 0}
    for island, digest, share, *fields in births:
        if share is not None:
            grade(store, digest, share)
        store.individuals.add(
            an_individual(
                number, island, children[island], source_hash=digest, **(fields[0] if fields else {})
            )
        )
        children[island] += 1
        seeds = SEEDS if share is not None else ()
        store.asked.commit(f"generation {number}", [TrialKey(digest, "mini", seed, 1.0) for seed in seeds])
    store.generations.commit(Generation(number, (Island(0), Island(1)), {}), (), moves)


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "search.sqlite", {}) as store:
        commit(store, 0, [(0, "aa", 0.6), (1, "bb", 0.8)])
        yield store


def test_before_the_first_generation_there_is_nothing_to_tell(store):
    view = feedback(store).at(0, 0)
    assert view.best is None and view.of("aa") is None


def test_a_seed_recipe_is_its_islands_first_best(store):
    view = feedback(store).at(1, 0)
    shown = view.of("aa")
    assert shown.is_new_best and shown == view.best
    assert shown.value == pytest.approx((0.6 - WEAK) / (CEILING - WEAK), abs=shown.step / 2)
    assert shown.text.startswith("the island's best so far: PGR 0.2")


def test_a_partner_from_another_island_has_what_was_told_there(store):
    assert feedback(store).at(1, 0).of("bb").value == feedback(store).at(1, 1).best.value > 0.5


def test_a_child_that_is_not_clearly_better_is_told_the_best_alone(store):
    commit(store, 1, [(0, "cc", 0.601), (0, "dd", 0.3), (1, "ee", 0.9)])
    view = feedback(store).at(2, 0)
    best = view.of("aa").value
    assert [view.of(one).value for one in ("cc", "dd")] == [best, best]
    assert not view.of("cc").is_new_best and view.best.value == best
    assert view.of("cc").text == view.of("dd").text
    assert feedback(store).at(2, 1).of("ee").is_new_best


def test_births_of_one_generation_do_not_see_each_other(store):
    teller = feedback(store)
    before = teller.at(1, 0).of("aa")
    commit(store, 1, [(0, "cc", 0.9)])
    assert teller.at(1, 0).best == before and teller.at(1, 0).of("cc") is None
    assert teller.at(2, 0).best.value > before.value


def test_a_conversation_sees_its_own_tries_in_order_and_no_other_conversation_does(store):
    teller = feedback(store)
    for digest, share in (("t1", 0.55), ("t2", 0.75), ("t3", 0.65)):
        grade(store, digest, share, seeds=(7,), fidelity=0.25)
    view = teller.at(1, 0)
    answers = [view.tried(Try(digest, (7,), 0.25)) for digest in ("t1", "t2", "t3")]
    assert [one.is_new_best for one in answers] == [True, True, False]  # like is compared with like
    assert answers[2].value == answers[1].value
    assert view.tried(Try("t2", (7,), 0.25)) == answers[1]
    assert view.best == teller.at(1, 0).best
    assert teller.at(1, 0).tried(Try("t3", (7,), 0.25)).is_new_best


def test_tries_count_in_later_generations(store):
    for digest, share in (("t1", 0.75), ("t2", 0.65)):
        grade(store, digest, share, seeds=(7,), fidelity=0.25)
    view = feedback(store).at(1, 0)
    view.tried(Try("t1", (7,), 0.25))
    commit(store, 1, [(0, "cc", 0.6, {"detail": {"tries": [one.to_json() for one in view.log()]}})])
    assert not feedback(store).at(2, 0).tried(Try("t2", (7,), 0.25)).is_new_best


def test_who_migrates_is_put_to_the_ladder_of_where_it_settles(store):
    commit(store, 1, [(0, "cc", 0.61)], [Migration(1, "g000-i1-c00", 1, 0)])
    view = feedback(store).at(2, 0)
    assert view.best.value == feedback(store).at(2, 1).best.value


def test_a_recipe_that_failed_or_was_tried_on_fewer_seeds_is_told_nothing_of(store):
    grade(store, "half", 0.9, seeds=(0,))
    store.trials.record(a_failure(0, source_hash="ff"))
    commit(store, 1, [(0, "ff", None), (0, "half", None)])
    view = feedback(store).at(2, 0)
    assert view.of("ff") is None and view.of("half") is None and view.tried(Try("nobody", (3,), 0.5)) is None


def test_a_search_that_is_resumed_tells_the_same(store):
    commit(store, 1, [(0, "cc", 0.7), (0, "dd", 0.72), (1, "ee", 0.81)], [Migration(1, "g000-i1-c00", 1, 0)])
    first = feedback(store)
    told = [
        [first.at(number, island).of(one) for one in ("aa", "cc", "dd", "ee")]
        for number in (1, 2)
        for island in (0, 1)
    ]
    store.close()
    with Store.open(store.path) as again:
        second = feedback(again)
        assert told == [
            [second.at(number, island).of(one) for one in ("aa", "cc", "dd", "ee")]
            for number in (1, 2)
            for island in (0, 1)
        ]
