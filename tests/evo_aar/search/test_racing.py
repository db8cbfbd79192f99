"""Racing spares trials of children that would hardly have lived, and nothing that was raced out lives, is
kept or is crowned.
"""

import math

import numpy as np
import pytest
from command import evo_aar
from hypothesis import given, settings
from hypothesis import strategies as st
from small_testbeds import small_testbed

from evo_aar.search.racing import CRITICAL, Race, paired_deviation, rungs
from evo_aar.search.selection import LowerBound
from evo_aar.search.standings import contender
from evo_aar.search.trials import Candidate
from population.individual import Individual
from population.store import Store
from population.trial import FailedTrial, SuccessfulTrial, Trial

TESTBED = "0" * 32


def trial(recipe: str, seed: int, pgr: float | None) -> Trial:
    if pgr is None:
        return FailedTrial(source_hash=recipe, testbed=TESTBED, seed=seed, reason="crash", message="it broke")
    return SuccessfulTrial(
        source_hash=recipe, testbed=TESTBED, seed=seed, accuracy=0.7, pgr=pgr, pool=np.full(4, 0.5)
    )


def group(recipe: str, scores: list[float]) -> list[Trial]:
    return [trial(recipe, seed, pgr) for seed, pgr in enumerate(scores)]


class Bench:
    """In place of a testbed: scores by recipe and seed, and what was asked for."""

    def __init__(self, scores: dict[str, list[float | None]]) -> None:
        self.scores, self.done = scores, {recipe: set() for recipe in scores}

    def ensure(self, candidates, seeds) -> None:
        for candidate in candidates:
            self.done[candidate.source_hash] |= set(seeds)

    def of(self, recipe: str) -> list[Trial]:
        return [trial(recipe, seed, self.scores[recipe][seed]) for seed in sorted(self.done[recipe])]


def tried(
    scores: dict[str, list[float | None]], incumbents: list[list[float]], seeds: int, places: int = 2
) -> dict[str, int]:
    bench = Bench(scores)
    race = Race({0: [group(f"old{i}", one) for i, one in enumerate(incumbents)]}, range(seeds), places)
    race.run(bench, [[Candidate("", recipe, 0) for recipe in scores]])
    return {recipe: len(done) for recipe, done in bench.done.items()}


def test_rungs_grow_threefold_to_all_seeds():
    assert [rungs(seeds) for seeds in (1, 2, 3, 4, 9, 10)] == [
        [1],
        [1, 2],
        [1, 3],
        [1, 3, 4],
        [1, 3, 9],
        [1, 3, 9, 10],
    ]


INCUMBENTS = [[0.50, 0.52, 0.51], [0.40, 0.43, 0.41]]


def test_who_is_clearly_behind_as_many_as_there_are_places_stops_at_the_first_rung():
    scores = {
        "bad": [0.1, 0.9, 0.9],
        "middling": [0.495, 0.9, 0.9],
        "good": [0.7, 0.7, 0.7],
        "fair": [0.6, 0.6, 0.6],
    }
    assert tried(scores, INCUMBENTS, 3) == {"bad": 1, "middling": 1, "good": 3, "fair": 3}
    assert tried(scores, INCUMBENTS, 3, places=3) == {"bad": 1, "middling": 3, "good": 3, "fair": 3}, (
        "0.495 is not clearly behind 0.5"
    )
    assert tried(scores, INCUMBENTS, 3, places=5) == {"bad": 1, "middling": 3, "good": 3, "fair": 3}
    assert tried(scores, INCUMBENTS, 3, places=6) == dict.fromkeys(scores, 3)


def test_nobody_leaves_an_island_with_places_to_spare():
    assert tried({"alone": [0.0] * 3}, INCUMBENTS, 3, places=3) == {"alone": 3}
    assert tried({"alone": [0.0] * 3}, INCUMBENTS, 3, places=2) == {"alone": 1}
    assert tried({"bad": [0.0] * 3, "good": [0.9] * 3}, INCUMBENTS, 3, places=3) == {"bad": 1, "good": 3}


def test_a_child_that_failed_takes_no_place():
    assert tried({"bad": [0.0] * 3, "broken": [None] * 3}, INCUMBENTS, 3, places=3) == {"bad": 3, "broken": 1}


def test_those_of_another_heat_take_no_place():
    bench = Bench({"bad": [0.0] * 3, "good": [0.9] * 3})
    race = Race({0: [group(f"old{i}", one) for i, one in enumerate(INCUMBENTS)]}, range(3), 3)
    race.run(bench, [[Candidate("", recipe, 0)] for recipe in bench.scores])
    assert {recipe: len(done) for recipe, done in bench.done.items()} == {"bad": 3, "good": 3}


def test_nobody_leaves_where_there_is_no_incumbent_or_no_measure_of_noise():
    pair = {"bad": [-5.0] * 3, "worse": [-6.0] * 3}
    assert tried(pair, INCUMBENTS[:1], 3) == {"bad": 3, "worse": 3}
    assert tried(pair, [], 3) == {"bad": 3, "worse": 3}


def test_a_child_that_failed_is_tried_no_further():
    assert tried({"broken": [None, 0.5, 0.5]}, [], 3) == {"broken": 1}
    assert tried({"later": [0.5, None, 0.5, 0.5]}, [], 4) == {"later": 3}


def test_the_noise_of_a_difference_leaves_out_what_recipes_and_seeds_have_in_common():
    rng = np.random.default_rng(0)
    recipes, seeds = rng.normal(0, 1, (400, 1)), rng.normal(0, 1, (1, 5))
    noise = rng.normal(0, 0.1, (400, 5))
    groups = [group(str(i), list(row)) for i, row in enumerate(recipes + seeds + noise)]
    assert paired_deviation(groups, range(5)) == pytest.approx(0.1 * 2**0.5, rel=0.05)
    assert paired_deviation(groups[:1], range(5)) is None
    assert paired_deviation([*groups, group("short", [9.0])], range(5)) == paired_deviation(groups, range(5))


scores_of = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=3, max_size=3)


@settings(max_examples=200, deadline=None)
@given(
    children=st.lists(scores_of, min_size=1, max_size=5),
    incumbents=st.lists(scores_of, min_size=1, max_size=4),
    places=st.integers(1, 5),
)
def test_who_leaves_is_behind_as_many_as_there_are_places_by_the_stated_margin(children, incumbents, places):
    counts = tried({f"child{i}": one for i, one in enumerate(children)}, incumbents, 3, places)
    deviation = paired_deviation([group(str(i), one) for i, one in enumerate(incumbents)], range(3))
    everyone = [one[0] for one in (*children, *incumbents)]
    for i, one in enumerate(children):
        others = sorted(everyone[:i] + everyone[i + 1 :], reverse=True)
        margin = (
            math.inf
            if deviation is None or len(others) < places
            else one[0] - others[places - 1] + CRITICAL * deviation
        )
        if abs(margin) > 1e-9:
            assert (counts[f"child{i}"] == 1) == (margin < 0)


def test_who_was_raced_out_is_no_contender():
    one = Individual.born(
        generation=1, island=0, child=0, source="x = 1\n", source_hash="a" * 16, operator="offline"
    )
    rule = {"scheme": LowerBound(), "deviation": 0.0, "seeds": 3}
    assert contender(one, group("a" * 16, [0.9]), **rule) is None
    assert contender(one, group("a" * 16, [0.9, 0.9, 0.9]), **rule) is not None


def test_a_search_that_races_keeps_out_whom_it_raced_out(tmp_path, cache):
    """Whether it races anybody out depends on the weights; the tests above don't."""
    sizes = (
        "--islands",
        2,
        "--generations",
        1,
        "--children",
        3,
        "--population",
        1,
        "--seeds",
        2,
        "--final-seeds",
        1,
        "--audit-seeds",
        0,
    )
    testbed = small_testbed(tmp_path / "testbed")
    done = evo_aar(
        "evolve", "--testbed", testbed, *sizes, "--runs", tmp_path, "--run", "raced", "--workers", 1
    )
    assert done.status == 0, done.err
    with Store.open(tmp_path / "raced" / "search.sqlite", writable=False) as store:
        assert store.settings["race"]
        out = {
            fate.individual
            for fate in store.generations.fates()
            if fate.reason.startswith("raced out after 1 of 2 seeds")
        }
        for identity in out:
            assert len(store.trials.of(store.individuals.get(identity).source_hash)) == 1
        for generation in store.generations.all():
            for island in generation.islands:
                assert not out & {*island.population, *island.archive}
        crowned = store.generations.fates(kind="crowned") + store.generations.fates(kind="elite")
        assert not out & {fate.individual for fate in crowned}
