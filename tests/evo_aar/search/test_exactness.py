"""A search that is killed at any of its commits, and resumed, ends as one that was not: the same population,
fates and reasons, trials and ledger.
"""

import os

import pytest
from formula_search import FormulaEvaluator, in_a_process, outcome, run_to_the_end

from evo_aar.search.seeds import fresh_seeds
from evo_aar.search.trials import Candidate, TrialRunner
from population.store import Store

pytestmark = pytest.mark.slow

STRIDE = int(os.environ.get("KILL_STRIDE", "41"))
"""Of all commits, which are tried: KILL_STRIDE=1 tries each (some 330 of them, a quarter of an hour)."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that nothing interrupted, and how many commits it made."""
    path = tmp_path_factory.mktemp("whole") / "search.sqlite"
    commits = in_a_process(path)
    return outcome(path), commits


def test_the_search_has_what_can_go_wrong(whole, tmp_path):
    path = tmp_path / "search.sqlite"
    run_to_the_end(path)
    assert outcome(path) == whole[0]
    with Store.open(path, writable=False) as store:
        assert store.generations.migrations() and store.generations.fates(kind="failed")
        reasons = {fate.reason for fate in store.generations.fates()}
        assert any(reason.startswith("raced out") for reason in reasons)
        assert store.generations.fates(kind="quarantined") and store.generations.fates(kind="crowned")
        assert set(store.asked.all().values()) == {*(f"generation {n}" for n in range(5)), "finals"}


def test_killed_before_any_commit_it_ends_the_same(whole, tmp_path):
    expected, commits = whole
    for number in range(1 + STRIDE // 2, commits + 1, STRIDE):
        path = tmp_path / f"{number}.sqlite"
        assert in_a_process(path, kill_at=number) is None
        assert in_a_process(path) is not None
        assert outcome(path) == expected, f"killed before commit {number} of {commits}"
        path.unlink()


def test_killed_again_and_again_it_ends_the_same(whole, tmp_path):
    path = tmp_path / "search.sqlite"
    kills = 0
    while in_a_process(path, kill_at=19) is None:
        kills += 1
    assert kills > 10
    assert outcome(path) == whole[0]


def test_what_a_person_had_tried_meanwhile_changes_nothing(whole, tmp_path):
    """An audit by hand asks for trials on fresh seeds of whoever it is about."""
    path = tmp_path / "search.sqlite"
    assert in_a_process(path, kill_at=120) is None
    with Store.open(path) as store:
        trials = TrialRunner(store, FormulaEvaluator())
        everyone = [Candidate.of(one) for one in store.individuals.all()]
        trials.ensure(everyone, fresh_seeds(0, 3))
        assert trials.of(everyone[0].source_hash)
    run_to_the_end(path)
    assert outcome(path)[0] != whole[0][0]  # the trials are on record,
    with Store.open(path, writable=False) as store:
        fates = {(one.individual, one.generation, one.kind, one.reason) for one in store.generations.fates()}
    straight = tmp_path / "straight.sqlite"
    run_to_the_end(straight)
    with Store.open(straight, writable=False) as store:  # and decide nothing
        assert fates == {
            (one.individual, one.generation, one.kind, one.reason) for one in store.generations.fates()
        }
