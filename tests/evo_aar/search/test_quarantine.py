"""Who fails an audit is not crowned and doesn't migrate; the next best takes its place."""

from dataclasses import replace

import pytest
from synthetic_search import TESTBED_HASH, SyntheticSearch

from evo_aar.runs.standing import FINISHED, STOPPED, Standing
from evo_aar.search import finals
from evo_aar.search.audits import Auditor, quarantined, static_failures
from evo_aar.search.selection import LowerBound
from evo_aar.search.standings import Standings
from evo_aar.search.succession import Succession
from evo_aar.search.topologies import Ring
from population.store import Store
from population.tables.integrity import Audit


class OnRecord:
    """In place of a trainer: the trials that a store has already."""

    testbed, evaluator = TESTBED_HASH, None

    def __init__(self, store):
        self._store = store

    def ensure(self, candidates, seeds):
        pass

    def commit(self, phase):
        pass

    def of(self, source_hash):
        return self._store.trials.of(source_hash, TESTBED_HASH, 1.0)


@pytest.fixture
def search(tmp_path):
    search = SyntheticSearch(tmp_path / "small" / "search.sqlite")
    for _ in range(search.settings.generations + 1):
        search.advance()
    yield search
    search.store.close()


def crown(search):
    trials = OnRecord(search.store)
    finals.run(search.store, search.settings, trials, Auditor(search.store, trials, chosen_on=[0], seeds=[1]))
    return finals.crowned(search.store)


def standing(search):
    search.store.close()
    with Store.open(search.store.path, writable=False) as store:
        found = Standing.of(store, search.settings).state
    search.store = Store.open(search.store.path)
    return found


def judge(search, verdicts):
    """Audits on record for every recipe: those in `verdicts` as they say, passed by all others."""
    for digest in search.store.individuals.source_hashes():
        verdict = verdicts.get(digest, "pass")
        search.store.audits.record(
            Audit(digest, TESTBED_HASH, "pool permuted", verdict, 0.5, 0.01, 1e-6, "loses +0.500 PGR")
        )


def best_of(search):
    trials = OnRecord(search.store)
    return finals._ranked(search.store.individuals.all(), trials, search.settings)


def test_the_best_is_crowned_where_it_passes(search):
    top = best_of(search)[0]
    judge(search, {})
    assert crown(search).id == top.id and quarantined(search.store) == {}


def test_one_that_fails_is_set_apart_its_heirs_are_flagged_and_the_next_best_is_crowned(search):
    ranked = best_of(search)
    first, second = ranked[0].individual, ranked[1].individual
    judge(search, {first.source_hash: "fail", second.source_hash: "flag"})
    assert crown(search).id == second.id, "a flag is no failure"
    assert quarantined(search.store)[first.id] == "pool permuted: loses +0.500 PGR"
    heirs = {one.id for one in search.store.individuals.all() if first.id in one.parents}
    assert heirs <= {fate.individual for fate in search.store.generations.fates(kind="flagged")}


def test_where_all_of_the_shortlist_fail_those_after_them_make_another(search):
    ranked = best_of(search)
    last = ranked[-1].individual
    judge(search, {one.individual.source_hash: "fail" for one in ranked[:-1]})
    assert len(ranked) > 2 * finals.SHORTLIST and crown(search).id == last.id


def test_where_all_fail_nobody_is_crowned_and_the_search_is_finished(search):
    assert standing(search) == STOPPED
    raced_out = search._born(
        3, 0, 9, '"""Races."""\n\nasync def recipe(task): ...\n', "offline", (), search.directions[0]
    )
    search.store.individuals.add(raced_out)
    search._try(raced_out, range(1))  # and has no fitness
    judge(search, dict.fromkeys(search.store.individuals.source_hashes(), "fail"))
    assert crown(search) is None
    assert standing(search) == FINISHED


def test_who_fails_the_static_read_leaves_before_a_migration(search):
    sound = search.store.individuals.all(generation=0)[0]
    one = search._born(
        4, 0, 0, sound.source + f"\nTABLE = {list(range(60))}\n", "offline", (sound.id,), search.directions[0]
    )
    search.store.individuals.add(one)
    search._try(one, range(3))
    assert "60 constants" in static_failures(one.source) and static_failures(sound.source) == ""
    trials = OnRecord(search.store)
    succession = Succession(
        search.store, replace(search.settings, generations=9), trials, scheme=LowerBound(), topology=Ring()
    )
    standings = Standings(search.store, trials, LowerBound(), generation=4, seeds=3)
    before = {0: standings.contenders([sound.id]), 1: []}
    decided = succession.decide(4, before, {0: [one.id], 1: []}, standings)
    assert {move.individual for move in decided.migrations} == {sound.id}
    assert [each.id for each in decided.kept[0]] == [sound.id]
    assert (one.id, "quarantined") in [(fate.individual, fate.kind) for fate in decided.fates]
