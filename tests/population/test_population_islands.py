"""Islands, archives, migration, and how varied a population is."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_examples import a_failure, a_trial, an_individual

from population.archive import Archive
from population.behaviour import behaviour, distance, diversity, founders
from population.errors import PopulationError
from population.fitness import Fitness
from population.individual import Individual
from population.island import Generation, Island, child_stream
from population.migration import Migration, migrate, ring

POPULATIONS = {0: ("a", "b"), 1: ("c",), 2: ("d", "e")}


class Candidate(NamedTuple):
    individual: Individual
    estimate: Fitness
    behaviour: np.ndarray


def ring_migration(generation, populations, elites):
    return migrate(generation, populations, elites, ring(populations))


def candidate(child, pgr, *pool):
    return Candidate(an_individual(child=child), Fitness(pgr, None, 1), np.array(pool, float))


# migration


def test_elites_settle_on_the_next_island_of_the_ring_and_stay_at_home():
    moves, settled = ring_migration(4, POPULATIONS, {0: ["a"], 1: ["c"], 2: ["d"]})
    assert moves == [Migration(4, "a", 0, 1), Migration(4, "c", 1, 2), Migration(4, "d", 2, 0)]
    assert settled == {0: ("a", "b", "d"), 1: ("c", "a"), 2: ("d", "e", "c")}


def test_the_ring_follows_numbers_not_insertion_and_skips_missing_islands():
    moves, settled = ring_migration(1, {7: ["x"], 2: ["y"]}, {7: ["x"], 2: ["y"]})
    assert moves == [Migration(1, "y", 2, 7), Migration(1, "x", 7, 2)]
    assert settled == {2: ("y", "x"), 7: ("x", "y")}


def test_nobody_is_copied_to_where_it_lives():
    moves, settled = ring_migration(1, {0: ["a"], 1: ["a", "b"]}, {0: ["a", "a"], 1: []})
    assert moves == []
    assert settled == {0: ("a",), 1: ("a", "b")}


def test_an_arrival_does_not_travel_on_in_the_same_generation():
    _, settled = ring_migration(1, POPULATIONS, {0: ["a"]})
    assert "a" not in settled[2]


def test_a_single_island_sends_nobody():
    assert ring_migration(1, {0: ["a"]}, {0: ["a"]}) == ([], {0: ("a",)})


@given(st.permutations([0, 1, 2]))
def test_migration_does_not_depend_on_the_order_in_which_islands_are_given(order):
    elites = {0: ["b"], 1: ["c"], 2: ["e", "d"]}
    expected = ring_migration(3, POPULATIONS, elites)
    assert (
        ring_migration(3, {n: POPULATIONS[n] for n in order}, {n: elites[n] for n in reversed(order)})
        == expected
    )


# archive


def test_an_archive_holds_the_best_that_were_ever_born():
    everyone = [
        candidate(0, 0.1, 0, 0),
        candidate(1, 0.9, 1, 1),
        candidate(2, -0.5, 0, 1),
        candidate(3, 0.5, 1, 0),
    ]
    assert Archive(size=2).choose(everyone) == ("g000-i0-c01", "g000-i0-c03")
    assert len(Archive(size=9).choose(everyone)) == 4


def test_of_near_duplicates_the_better_one_stays():
    worse, better, other = (
        candidate(0, 0.5, 0.10, 0.10),
        candidate(1, 0.6, 0.12, 0.10),
        candidate(2, 0.4, 0.9, 0.9),
    )
    assert Archive(size=3, threshold=0.02).choose([worse, better, other]) == ("g000-i0-c01", "g000-i0-c02")
    assert Archive(size=3, threshold=0.005).choose([worse, better, other]) == (
        "g000-i0-c01",
        "g000-i0-c00",
        "g000-i0-c02",
    )


def test_of_equals_the_elder_stays():
    assert Archive(size=1).choose([candidate(4, 0.5, 1, 1), candidate(2, 0.5, 1, 1)]) == ("g000-i0-c02",)


@given(
    st.lists(st.tuples(st.floats(-1, 2), st.lists(st.floats(0, 1), min_size=3, max_size=3)), max_size=12),
    st.integers(1, 5),
    st.floats(0, 0.5),
    st.randoms(),
)
def test_an_archive_is_distinct_and_a_function_of_who_was_born_alone(born, size, threshold, random):
    everyone = [candidate(child, pgr, *pool) for child, (pgr, pool) in enumerate(born)]
    by_id = {each.individual.id: each for each in everyone}
    archive = Archive(size, threshold)
    chosen = archive.choose(everyone)
    assert len(chosen) <= size
    assert all(
        distance(by_id[a].behaviour, by_id[b].behaviour) >= threshold
        for a, b in itertools.combinations(chosen, 2)
    )
    if everyone:
        assert by_id[chosen[0]].estimate.mean == max(each.estimate.mean for each in everyone)
    if len(chosen) < size:  # whoever is left out is the near-duplicate of a better one
        for each in everyone:
            near = [
                by_id[one] for one in chosen if distance(by_id[one].behaviour, each.behaviour) < threshold
            ]
            assert each.individual.id in chosen or any(
                one.estimate.mean >= each.estimate.mean for one in near
            )
    random.shuffle(everyone)
    assert archive.choose(everyone) == chosen


def test_an_archive_without_room_or_with_a_senseless_threshold_is_refused():
    for size, threshold in ((0, 0.1), (3, -0.1), (3, 1.1)):
        with pytest.raises(PopulationError):
            Archive(size, threshold)


# behaviour and diversity


def test_behaviour_is_the_mean_prediction_over_successful_trials():
    trials = [
        a_trial(0, pool=np.array([0.0, 1.0])),
        a_trial(1, pool=np.array([0.5, 1.0])),
        a_trial(2),
        a_failure(3),
    ]
    assert behaviour(trials).tolist() == [0.25, 1.0]
    assert behaviour([a_failure(0), a_trial(1)]) is None


def test_distance_by_hand_and_only_over_one_pool():
    assert distance(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.5])) == 0.5
    with pytest.raises(PopulationError, match="one testbed"):
        distance(np.zeros(2), np.zeros(3))
    with pytest.raises(PopulationError, match="testbed"):
        behaviour([a_trial(0, pool=np.zeros(2)), a_trial(1, pool=np.zeros(2), testbed="film")])


def family():
    """Two founders; 1-0 and 1-1 descend from the first, 2-0 from both."""
    first, second = an_individual(0, 0, 0, source_hash="a"), an_individual(0, 1, 0, source_hash="b")
    elder, younger = (
        an_individual(1, 0, 0, source_hash="c", parents=[first.id]),
        an_individual(1, 0, 1, source_hash="c", parents=[first.id]),
    )
    crossed = an_individual(2, 1, 0, source_hash="d", parents=[second.id, elder.id])
    return {each.id: each for each in (first, second, elder, younger, crossed)}


def test_founders_are_found_through_all_parents():
    found = founders(family())
    assert found["g001-i0-c01"] == {"g000-i0-c00"}
    assert found["g002-i1-c00"] == {"g000-i0-c00", "g000-i1-c00"}
    with pytest.raises(PopulationError, match="no parent"):
        founders({"x": an_individual(1, 0, 0, parents=["g000-i0-c00"])})


def test_diversity_by_hand():
    pools = {
        "g001-i0-c00": np.array([0.0]),
        "g001-i0-c01": np.array([0.2]),
        "g002-i1-c00": np.array([1.0]),
        "g000-i1-c00": None,
    }
    populations = {0: ("g001-i0-c00", "g001-i0-c01"), 1: ("g002-i1-c00", "g000-i1-c00")}
    measured = diversity(populations, family(), pools)
    assert (measured.individuals, measured.sources) == (4, 3)
    assert measured.within == pytest.approx(0.2)
    assert measured.between == pytest.approx((1.0 + 0.8) / 2)
    assert (measured.founder, measured.founder_share) == ("g000-i0-c00", 0.75)


def test_an_individual_on_every_island_leaves_no_distance_between_them():
    pools = {"g000-i0-c00": np.array([0.3])}
    measured = diversity({0: ("g000-i0-c00",), 1: ("g000-i0-c00",)}, family(), pools)
    assert (measured.individuals, measured.within, measured.between, measured.founder_share) == (
        1,
        None,
        0.0,
        1.0,
    )


def test_nobody_alive_is_no_diversity():
    measured = diversity({0: ()}, {}, {})
    assert (measured.individuals, measured.founder, measured.founder_share) == (0, None, None)


# islands and streams


def test_an_individual_lives_once_on_an_island_and_an_island_is_once_in_a_generation():
    with pytest.raises(PopulationError, match="twice in its population"):
        Island(0, ("a", "a"))
    with pytest.raises(PopulationError, match="twice in its archive"):
        Island(0, (), ("a", "a"))
    with pytest.raises(PopulationError, match="an island comes twice"):
        Generation(0, (Island(0), Island(0)))


def test_islands_are_in_the_order_of_their_numbers():
    generation = Generation(0, (Island(2), Island(0)))
    assert [island.number for island in generation.islands] == [0, 2]
    assert generation.island(2) == Island(2)
    with pytest.raises(PopulationError, match="no island 1"):
        generation.island(1)


def test_streams_differ_by_seed_place_and_kind():
    streams = [
        child_stream(1, 0, 0, 0),
        child_stream(1, 1, 0, 0),
    ]
    streams += [child_stream(1, 0, 1, 0), child_stream(1, 0, 0, 1)]
    assert len({stream.random() for stream in streams}) == len(streams)
    assert child_stream(1, 2, 3, 4).random() == child_stream(1, 2, 3, 4).random()
