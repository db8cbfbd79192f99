"""Topologies and selection schemes from outside of the package: one object and one registration each."""

import numpy as np
import pytest
from command import evo_aar

from evo_aar.search import selection, topologies
from evo_aar.search.selection import LowerBound, best
from population.store import Store

pytestmark = pytest.mark.slow

SMALL = {
    "--islands": 3,
    "--generations": 2,
    "--children": 2,
    "--population": 2,
    "--seeds": 1,
    "--migrate-every": 1,
    "--final-seeds": 1,
    "--audit-seeds": 0,
    "--workers": 1,
}


class Star:
    """Everybody sends to island 0, and it to nobody."""

    name = "star"

    def routes(self, islands, stream):
        assert isinstance(stream, np.random.Generator)
        return [(island, 0) for island in islands if island]


class Newest(LowerBound):
    """Whoever was born last lives: a scheme that no search would choose by itself."""

    name = "newest"

    def survivors(self, contenders, size):
        return best(sorted(contenders, key=lambda one: one.individual.rank, reverse=True)[:size])


@pytest.fixture(scope="module")
def store(tmp_path_factory, math_testbed):
    topologies.register(Star())
    selection.register(Newest())
    runs = tmp_path_factory.mktemp("runs")
    options = SMALL | {"--topology": "star", "--selection": "newest", "--runs": runs, "--run": "own"}
    done = evo_aar("evolve", *(word for option in options.items() for word in option))
    assert done.status == 0, done.err
    with Store.open(runs / "own" / "search.sqlite", writable=False) as store:
        yield store


def test_elites_travel_where_the_topology_leads(store):
    moves = store.generations.migrations()
    assert moves and {move.target for move in moves} == {0}
    assert {move.origin for move in moves} <= {1, 2}


def test_the_scheme_says_who_lives(store):
    seen = 0
    for island in store.generations.last().islands[1:]:  # on island 0 others have settled
        born = [one.id for one in store.individuals.all(generation=2, island=island.number)]
        sound = [one for one in born if store.generations.fates(one)[0].kind not in ("failed", "duplicate")]
        assert set(sound) <= set(island.population)
        seen += len(sound)
    assert seen


def test_the_choice_is_on_record(store):
    assert store.settings["topology"] == "star" and store.settings["selection"] == "newest"


@pytest.mark.parametrize(("option", "known"), [("--topology", "ring"), ("--selection", "lower-bound")])
def test_an_unknown_name_is_refused_before_anything_is_made(option, known, tmp_path):
    answer = evo_aar("evolve", option, "nowhere", "--runs", tmp_path / "runs")
    assert answer.error.startswith(f"{option} nowhere: unknown.") and known in answer.error
    assert not (tmp_path / "runs").exists()
