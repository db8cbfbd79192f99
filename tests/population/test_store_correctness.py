"""What graded trials got right: kept bit for bit, under the trial's key, once."""

import numpy as np
import pytest
from store_examples import a_trial, reopened

from population.errors import StoreConflict
from population.store import Store


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "search.sqlite", {}) as store:
        yield store


@pytest.mark.parametrize("size", [1, 8, 13, 2_000])
def test_what_was_kept_comes_back_after_a_restart(store, size):
    correct = np.random.default_rng(0).random(size) < 0.7
    assert store.correctness.record(a_trial(3), correct)
    found = reopened(store).correctness.of("5eed", "mini", 3)
    assert found.dtype == bool and np.array_equal(found, correct)


def test_nothing_is_known_of_a_trial_that_was_not_graded(store):
    store.correctness.record(a_trial(3), [True])
    assert store.correctness.of("5eed", "mini", 4) is None
    assert store.correctness.of("5eed", "mini", 3, fidelity=0.5) is None


def test_the_same_again_is_no_news_and_anything_else_is_a_conflict(store):
    store.correctness.record(a_trial(3), [True, False])
    assert not store.correctness.record(a_trial(3), [True, False])
    with pytest.raises(StoreConflict):
        store.correctness.record(a_trial(3), [True, True])


def test_it_belongs_to_a_searchs_outcome(store):
    before = store.fingerprint()
    store.correctness.record(a_trial(3), [True, False])
    assert store.fingerprint() != before
